package format

// The tables of the format: one row for each kind of record, type of change and
// type of chunk. Writer, reader, copies, names and the test of docs/format.md
// read them. A new kind of record is a constant and a row here, a Go type with
// its fields, and its rendering in replay.

// Kind names a kind of record.
type Kind uint8

// The kinds of record. The numbers are the classes of docs/format.md.
const (
	KindUnknown Kind = iota
	KindSyscall
	KindSignal
	KindExec
	KindClone
	KindExit
	KindStop
	KindSnapshot
	KindMemInfo
	KindAttach
	KindDetach
	KindLost
	KindCheck
	KindPoke
	KindRedacted
	KindOutside
	NumKinds
)

var recordSpecs = [NumKinds]spec[Record]{
	KindUnknown:  row[Record, Unknown]("unknown"),
	KindSyscall:  row[Record, Syscall]("syscall"),
	KindSignal:   row[Record, Signal]("signal"),
	KindExec:     row[Record, Exec]("exec"),
	KindClone:    row[Record, Clone]("clone"),
	KindExit:     row[Record, Exit]("exit"),
	KindStop:     row[Record, Stop]("stop"),
	KindSnapshot: row[Record, Snapshot]("snapshot"),
	KindMemInfo:  row[Record, MemInfo]("meminfo"),
	KindAttach:   row[Record, Attach]("attach"),
	KindDetach:   row[Record, Detach]("detach"),
	KindLost:     row[Record, Lost]("lost"),
	KindCheck:    row[Record, Check]("check"),
	KindPoke:     row[Record, Poke]("write"),
	KindRedacted: row[Record, Redacted]("redacted"),
	KindOutside:  row[Record, Outside]("outside"),
}

// String is the name of records of this kind in JSON, in filters and in tables.
func (k Kind) String() string {
	if k < NumKinds {
		return recordSpecs[k].name
	}
	return recordSpecs[KindUnknown].name
}

// Types of the records of a STATE chunk; bit 7 marks those that a reader may
// skip when it does not know them.
const (
	recPages     = 1
	recVMASet    = 2
	recVMADel    = 3
	recMMNew     = 4
	recMMDrop    = 5
	recThread    = 6
	recThreadEnd = 7
	recXState    = recAncillary | 11
	recVMAMove   = 12
	recRegs      = recAncillary | 13
	recConfirm   = recAncillary | 14
	recWritten   = recAncillary | 15
	recAged      = 16
	recBefore    = 17
	recAncillary = 0x80
)

var changeSpecs = [256]spec[Change]{
	recPages:     row[Change, Pages]("pages"),
	recVMASet:    row[Change, VMASet]("set a mapping"),
	recVMADel:    row[Change, VMADel]("delete a range"),
	recMMNew:     row[Change, MMNew]("new address space"),
	recMMDrop:    row[Change, MMDrop]("drop an address space"),
	recThread:    row[Change, ThreadSet]("set a thread"),
	recThreadEnd: row[Change, ThreadEnd]("end a thread"),
	recXState:    row[Change, XStateSet]("extended state of a thread"),
	recVMAMove:   row[Change, VMAMove]("move pages"),
	recRegs:      row[Change, RegsSet]("registers of a thread"),
	recConfirm:   row[Change, Confirm]("confirm"),
	recWritten:   row[Change, wroteSet]("written"),
	recAged:      row[Change, Aged]("age of pages"),
	recBefore:    row[Change, WrittenBefore]("written before"),
}

// Type is the type of a chunk.
type Type uint8

// The types of chunk; the numbers are in the log.
const (
	TypeRaw     Type = iota + 1 // pages
	TypePatch                   // pages as differences
	TypeState                   // changes of the state
	TypeEvent                   // events
	TypeLeaf                    // keyframe: page maps, 512 pages each
	TypeKey                     // keyframe: threads and address spaces
	TypeIndex                   // where chunks are
	TypeRoot                    // where INDEX chunks are, and totals
	TypeBlob                    // bytes of events
	TypeMeta                    // reserved
	TypeGap                     // reserved
	TypeKeyMM                   // keyframe: mappings and leaf directory of an address space
	TypeWritten                 // keyframe: what system calls wrote into an address space
	TypeModule                  // what code of stacks belongs to
	TypeStack                   // nodes of the tree of call stacks
	TypeTexts                   // texts kept word for word
	TypeRefs                    // references to pages
	TypeFile                    // packed files: what they are, and where their bytes are
	TypeFData                   // bytes of packed files
	numTypes
)

var chunkNames = [numTypes]string{
	TypeRaw: "RAW", TypePatch: "PATCH", TypeState: "STATE", TypeEvent: "EVENT",
	TypeLeaf: "LEAF", TypeKey: "KEY", TypeIndex: "INDEX", TypeRoot: "ROOT",
	TypeBlob: "BLOB", TypeMeta: "META", TypeGap: "GAP", TypeKeyMM: "KEYMM", TypeWritten: "WRITTEN",
	TypeModule: "MODULE", TypeStack: "STACK", TypeTexts: "TEXTS", TypeRefs: "REFS",
	TypeFile: "FILE", TypeFData: "FDATA",
}

func (t Type) String() string {
	if t < numTypes && chunkNames[t] != "" {
		return chunkNames[t]
	}
	return "unknown"
}

// spec is what the format knows of a kind of record (T is Record) or of a type
// of change (T is Change). What a body holds is known to its fields method.
type spec[T any] struct {
	name string
	make func() T  // a new one, to be read
	copy func(T) T // what it points to is shared
}

func row[T interface{ fields(*fields) }, V any, P interface {
	*V
	fields(*fields)
}](name string) spec[T] {
	return spec[T]{
		name: name,
		make: func() T { return any(P(new(V))).(T) },
		copy: func(t T) T { v := *any(t).(P); return any(P(&v)).(T) },
	}
}
