package format

import (
	"hash/crc32"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// Step is a position in the log's one total order of events; 0 is the first
// exec or the attach. "At step N" means: when event N has happened.
type Step uint64

// Kind names a record type.
type Kind uint8

// The kinds of record. The numbers are the event codes of docs/format.md.
const (
	KindUnknown  Kind = iota
	KindSyscall       // *Syscall
	KindSignal        // *Signal
	KindExec          // *Exec
	KindClone         // *Clone
	KindExit          // *Exit
	KindStop          // *Stop
	KindSnapshot      // *Snapshot
	KindMemInfo       // *MemInfo
	KindAttach        // *Attach
	KindDetach        // *Detach
	KindLost          // *Lost
	KindCheck         // *Check
	KindPoke          // *Poke
	NumKinds
)

// Record is what happened in one event.
type Record interface{ Kind() Kind }

// Event is one step of the log: what happened, to which thread, and what the
// kernel says changed by it. A reader owns the Event it is handed only until it
// asks for the next one.
type Event struct {
	Step   Step
	Time   uint64 // ns since the start of the recording (Header.Start), rounded down to 1<<Header.TimeShift
	Thread uint32 // log-unique thread number (see Thread); 0 for events of the recorder itself
	Record Record
	// Changes lead from the state at Step-1 to the state at Step, in order.
	Changes []Change
	// Regs are the thread's registers at this step in the order of
	// arch.Registers, nil where they were not read.
	Regs []uint64
}

// Syscall is a system call, placed where it returned.
type Syscall struct {
	Arch     arch.ID // the ABI of the call, not of the program: int 0x80 from 64-bit code is I386
	Nr       uint32
	Args     [6]uint64 // as many as the call takes; the rest is 0
	Ret      int64     // as in the register, sign-extended: -4095..-1 is -errno
	Enter    uint64    // ns since the start, when it began
	Returned bool      // false: it never came back (exit, exec in another thread, killed)
	// Injected calls were made by the recorder in the thread's name.
	Injected bool
	IP, SP   uint64 // at the call's end; 0 where they were not read
	Bufs     []Buf
	// Blobs, of a call that was read from a log, is where the log has the Data of
	// each of Bufs (Reader.Blob); nil in logs of version 1.0.
	Blobs []uint64
}

// Buf is a piece of the program's memory, or of what /proc says, that a call
// read or wrote.
type Buf = call.Buf

// Signal is a signal at its delivery to a thread.
type Signal struct {
	Signo int32
	Fatal bool   // it will end the process
	Info  []byte // struct siginfo as PTRACE_GETSIGINFO gives it, trailing zeros cut
}

// Exec is a completed execve: the thread runs a new image in a fresh address
// space, as leader of its process.
type Exec struct {
	Path   string   // /proc/PID/exe after it
	Argv   []string // as far as it could be read
	OldTID uint32   // the kernel's tid of the calling thread before it
	Auxv   []byte   // /proc/PID/auxv
	FDs    []FD     // what it was started with; only of the program itself
}

// FD is an open descriptor. Number AtFDCWD stands for the working directory.
type FD struct {
	Num     int32
	CloExec bool
	Name    string // as /proc/PID/fd has it
}

// Clone is the birth of a thread or process, seen from its parent. The child's
// own Thread change is part of the same event.
type Clone struct {
	Child uint32 // log-unique thread number
	Flags uint64 // clone flags as far as known (CLONE_VM, CLONE_THREAD, ...), exit signal in the low byte
	Stack uint64 // the stack pointer the child starts with; 0 as the parent's
}

// Exit is the end of a thread.
type Exit struct {
	Status  uint32 // wait status (wait(2)); meaningful for Process, else the thread's own
	Process bool   // the last thread: the process has ended
}

// Stop is a change between running and stopped that a parent or shell could
// see.
type Stop struct {
	What  StopKind
	Signo int32 // the stopping signal of a GroupStop
}

// StopKind tells stops apart.
type StopKind uint8

// The kinds of Stop.
const (
	GroupStop StopKind = iota + 1 // job control stopped the process
	Continued                     // SIGCONT ended a group-stop
)

// Snapshot says that the address space MM was read with all its threads held;
// the pages are the Pages changes of the same event, or of the call, signal, exec
// or end at which it was due, which comes before it, and of the sweeps before.
type Snapshot struct {
	MM        uint32
	Reason    string // "exec", "exit", "signal", "interval", "every", "syscall", "step", "attach"; ReasonSweep
	Mechanism Dirty  // how the pages to read were found
	Full      bool   // everything resident was looked at, not only what was dirty
	Pages     uint64 // pages looked at, those of the sweeps before it too
	PauseNS   uint64 // how long the threads were held
}

// ReasonSweep is the Reason of what was read beside the running program, before
// an interval snapshot: each page as it was at one moment since the event before,
// but not all at the same.
const ReasonSweep = "sweep"

// Dirty is a way to find the pages that changed since the last snapshot.
type Dirty uint8

// The mechanisms, best first.
const (
	DirtyUnknown Dirty = iota
	DirtyWPAsync       // userfaultfd WP_ASYNC and PAGEMAP_SCAN
	DirtySoft          // soft-dirty bits of /proc/PID/pagemap
	DirtyCompare       // everything was read and compared
)

// MemInfo is a sample of what the system says about memory: texts of /proc and
// /sys as they were read.
type MemInfo struct {
	Samples []Sample
}

// Sample is one file's text.
type Sample struct {
	Source string // "meminfo", "vmstat", "pressure", "cgroup.current", "cgroup.events", "smaps_rollup", "status", "statm"
	PID    uint32 // the process it speaks of, 0 for the system
	Data   []byte
}

// Attach is the beginning of the recording of a running process; the full state
// is in its Changes.
type Attach struct {
	PID  uint32
	Auxv []byte // /proc/PID/auxv
	Path string // /proc/PID/exe
	Argv []string
	FDs  []FD
}

// Detach is the end of the recording of a thread that lives on.
type Detach struct{ Reason string }

// Lost says that something could not be recorded; what follows is right again
// as far as Changes say so.
type Lost struct{ What string }

// Check compares the log's table with the kernel's at this step.
type Check struct {
	MM   uint32
	OK   bool
	Diff string // what differed, "-" lines from the log, "+" lines from the kernel
	Maps []byte // /proc/PID/maps as read, only when not OK
	Sum  uint32 // CRC-32C of /proc/PID/maps as read: Verify compares it; 0 is none
}

// MapsSum is the Sum of a Check.
func MapsSum(text []byte) uint32 { return max(1, crc32.Checksum(text, castagnoli)) }

// Poke is a write into the program's memory by the recorder's user.
type Poke struct {
	MM       uint32
	Addr     addr.Addr
	Old, New []byte
}

// Unknown is an event of a kind that this version does not know.
type Unknown struct {
	Code uint32
	Data []byte
}

func (*Syscall) Kind() Kind  { return KindSyscall }
func (*Signal) Kind() Kind   { return KindSignal }
func (*Exec) Kind() Kind     { return KindExec }
func (*Clone) Kind() Kind    { return KindClone }
func (*Exit) Kind() Kind     { return KindExit }
func (*Stop) Kind() Kind     { return KindStop }
func (*Snapshot) Kind() Kind { return KindSnapshot }
func (*MemInfo) Kind() Kind  { return KindMemInfo }
func (*Attach) Kind() Kind   { return KindAttach }
func (*Detach) Kind() Kind   { return KindDetach }
func (*Lost) Kind() Kind     { return KindLost }
func (*Check) Kind() Kind    { return KindCheck }
func (*Poke) Kind() Kind     { return KindPoke }
func (*Unknown) Kind() Kind  { return KindUnknown }

// Change is a step of the state: the writer puts it before the event that it
// belongs to, the reader hands it out with that event.
type Change interface{ change() }

// ThreadSet makes a thread known or changes what is known of it (an exec by
// another thread than the leader changes its tid).
type ThreadSet struct{ Thread Thread }

// Thread identifies a thread for the whole log: numbers of the kernel are
// reused, No is not.
type Thread struct {
	No     uint32 // from 1
	TID    uint32 // the kernel's, in the recorder's PID namespace
	TGID   uint32
	NSTID  uint32 // in the thread's own PID namespace; equal to TID where that is the recorder's
	Proc   uint32 // No of the first thread of its process: the log's process number
	MM     uint32 // its address space
	Parent uint32 // Proc of the parent process, 0 if it is not traced
	Arch   arch.ID
}

// ThreadEnd takes a thread out of the state.
type ThreadEnd struct{ No uint32 }

// MMNew makes an address space known.
type MMNew struct {
	MM   uint32 // from 1, never reused
	From uint32 // the address space it is a copy of, mappings and pages (fork); 0: empty
}

// MMDrop takes an address space out of the state.
type MMDrop struct{ MM uint32 }

// VMASet puts a mapping into an address space as vma.Set.Insert does.
type VMASet struct {
	MM  uint32
	VMA vma.VMA
}

// VMADel takes a range out of an address space as vma.Set.Remove does: the
// pages in it are gone too.
type VMADel struct {
	MM    uint32
	Range addr.Range
}

// VMAMove moves the pages of [From, From+Len) to To, as mremap does. It does
// not move mappings: VMADel and VMASet beside it do.
type VMAMove struct {
	MM       uint32
	From, To addr.Addr
	Len      uint64
}

// Pages says what N pages from Addr on hold. For PageData the writer is given
// Data (N pages of bytes, which it does not keep) and chooses how to store it;
// the reader hands out References for Trace.Page instead.
type Pages struct {
	MM   uint32
	Addr addr.Addr
	N    uint64
	What PageKind
	Data []byte    // PageData on the way in
	Refs []PageRef // PageData on the way out, one a page
}

// Confirm says that what is known of an address space's pages is true of this
// step: what was written since the last snapshot has been found and is in the
// changes before it.
type Confirm struct{ MM uint32 }

// RegsSet is the registers of a thread at the event, in the order of
// arch.Registers: of threads that are not the event's own (Event.Regs), as when
// the memory that they share is read. It is no part of the State: Reader.Regs
// finds it.
type RegsSet struct {
	Thread uint32
	Regs   []uint64
}

// XStateSet is a thread's floating-point and vector registers at the event: the
// area that XSAVE writes, as PTRACE_GETREGSET gives it (NT_X86_XSTATE). Like a
// RegsSet it is no part of the State: Reader.Registers finds it. No bytes at all
// say that it is what it was before.
type XStateSet struct {
	Thread uint32
	Data   []byte
}

// PageKind is what is known of a page.
type PageKind uint8

// The kinds of page. A page that was never mentioned is unknown: not zero.
const (
	PageData       PageKind = iota + 1
	PageZero                // reads as zero: never touched anonymous memory, or zero when read
	PageFile                // equal to the mapped file
	PageAbsent              // forgotten: what was known of it is no longer true (MADV_DONTNEED, munmap)
	PageUnreadable          // mapped, but could not be read
)

// PageRef is where the bytes of a page are in the log: id<<1 | 1 for a patch,
// id<<1 for a raw page (docs/format.md).
type PageRef uint64

func (*ThreadSet) change() {}
func (*ThreadEnd) change() {}
func (*MMNew) change()     {}
func (*MMDrop) change()    {}
func (*VMASet) change()    {}
func (*VMADel) change()    {}
func (*VMAMove) change()   {}
func (*Pages) change()     {}
func (*RegsSet) change()   {}
func (*Confirm) change()   {}
func (*XStateSet) change() {}
