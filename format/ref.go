package format

import "memtrace/format/addr"

// RefKind is how a page was referenced.
type RefKind uint8

// The kinds of reference; the numbers are in the log.
const (
	RefUnknown RefKind = iota
	RefRead
	RefWrite
	RefFetch // of an instruction
	RefCall  // by a system call
	NumRefKinds
)

// String is the letter of a kind in listings and exports.
func (k RefKind) String() string {
	if k < NumRefKinds {
		return "?rwxc"[k : k+1]
	}
	return "?"
}

// RefEngine is how references were found.
type RefEngine uint8

// The engines; the numbers are in the log.
const (
	EngineUnknown RefEngine = iota
	EngineProt              // protected pages: reads and writes
	EngineWP                // write-protected pages: writes only
	EngineRWP               // userfaultfd's read-write protection: reads and writes
	numEngines
)

var engineNames = [numEngines]string{"?", "prot", "wp", "rwp"}

func (e RefEngine) String() string {
	if e < numEngines {
		return engineNames[e]
	}
	return engineNames[EngineUnknown]
}

// Ref is a recorded reference to a page: the first one of its phase. References
// are not steps: they lie between steps.
type Ref struct {
	After  Step      // how many steps had happened; Writer.Ref fills it in
	Thread uint32    // number of the thread
	MM     uint32    // number of the address space
	Page   addr.Addr // first byte of the block (Phase.Granule bytes)
	IP     addr.Addr // of the instruction, of a call for RefCall; 0: not known
	// Time is ns of the program's own time: that of tracing is taken out. It never
	// decreases within an address space. The log keeps units of 1<<Header.TimeShift.
	Time uint64
	Kind RefKind
}

// Phase is the end of one phase of an address space and the begin of the next:
// from here on everything that can be traced is protected, and the first reference
// to each block is recorded.
type Phase struct {
	After   Step // how many steps had happened; Writer.Phase fills it in
	MM      uint32
	Engine  RefEngine
	Granule uint64 // bytes of a block: 4096, 65536 ...
	// Pool is the blocks that may be referenced in the phase that begins before it
	// ends; 0: the address space is not traced from here on.
	Pool uint64
	Time uint64 // as that of a Ref
	// Pinned is how many blocks were never protected in the phase that ended: they
	// may have been referenced at any time.
	Pinned uint64
	// Held is how many blocks are open in both phases, for calls in progress.
	Held uint64
	// HeldPages are those: they count as referenced in the phase that begins, too,
	// at times that are not known.
	HeldPages  []addr.Addr
	Incomplete bool // references of the phase that ended may be missing
	Exact      bool // Written is known
	// Written is what was written in the phase that ended, whole pages in ascending
	// order.
	Written []addr.Range
}

// RefItem is a reference or the mark of a phase, as a reader hands them out.
type RefItem struct {
	Ref          // of a reference
	Phase *Phase // nil for a reference
	// No is the number of the reference in the log, from 0; for a phase, of the
	// first reference after it.
	No uint64
	// PhaseNo is the number of the phase within its address space, from 1; 0: none
	// has begun. For a phase it is of the one that begins.
	PhaseNo uint64
}

// PhaseState is the phase that an address space is in.
type PhaseState struct {
	MM      uint32
	No      uint64 // from 1; 0: none has begun
	Engine  RefEngine
	Granule uint64 // bytes of a block
	Pool    uint64 // blocks
	Open    uint64 // references recorded in it so far
	Time    uint64 // of the last reference or phase, ns of the program's own time
}
