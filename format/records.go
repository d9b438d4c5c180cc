package format

import (
	"hash/crc32"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Step is a position in the log's one total order of events; 0 is the first
// exec or the attach. "At step N" means: when event N has happened.
type Step uint64

// Record is what happened in one event.
type Record interface {
	Kind() Kind
	// fields goes over the fields of its body. New ones go to the end: readers
	// take those that an older log does not have for zero.
	fields(x *fields)
}

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
	// Stack is the call stack of the thread at the beginning of a call, and at a signal
	// where it was interrupted; 0 where it was not taken. Reader.Stack has its frames.
	Stack StackNode
}

// Clone returns a copy that the reader of e does not take back.
func (e *Event) Clone() *Event {
	c := *e
	c.Regs = slices.Clone(e.Regs)
	c.Changes = slices.Clone(e.Changes)
	for i, ch := range c.Changes {
		c.Changes[i] = changeSpecs[ch.code()].copy(ch)
		c.Changes[i].fields(owned)
	}
	if e.Record != nil {
		c.Record = recordSpecs[e.Record.Kind()].copy(e.Record)
		c.Record.fields(owned)
	}
	return &c
}

// Syscall is a system call, placed where it returned.
type Syscall struct {
	Arch     arch.ID // the ABI of the call, not of the program: int 0x80 from 64-bit code is I386
	Nr       uint32
	Args     [6]uint64 // as many as the call takes; the rest is 0
	Ret      int64     // as in the register, sign-extended: -4095..-1 is -errno
	Enter    uint64    // ns since the start, when it began
	Returned bool      // false: it never came back (exit, exec in another thread, killed)
	Inside   bool      // it was recorded inside the program, without a stop
	IP, SP   uint64    // at the call's end; 0 where they were not read
	Bufs     []Buf
	// Blobs, of a call that was read from a log, is where the log has the Data of
	// each of Bufs (Reader.Blob); nil in logs of version 1.0.
	Blobs []uint64
}

func (*Syscall) Kind() Kind { return KindSyscall }

// fields has what a copy needs: calls are not in bodies but in columns.
func (r *Syscall) fields(x *fields) {
	switch x.mode {
	case owning:
		r.Bufs, r.Blobs = slices.Clone(r.Bufs), slices.Clone(r.Blobs)
		for i := range r.Bufs {
			r.Bufs[i].Data = slices.Clone(r.Bufs[i].Data)
		}
	case describing:
		x.describe("columns")
		x.seen("numbers", nil)
		x.seen("buffer", nil)
	}
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

func (*Signal) Kind() Kind { return KindSignal }

func (r *Signal) fields(x *fields) {
	x.zz32("number", &r.Signo)
	x.flag("fatal", &r.Fatal)
	x.bytes("siginfo", &r.Info)
}

// Exec is a completed execve: the thread runs a new image in a fresh address
// space, as leader of its process.
type Exec struct {
	Path   string   // /proc/PID/exe after it
	Argv   []string // as far as it could be read
	OldTID uint32   // the kernel's tid of the calling thread before it
	Auxv   []byte   // /proc/PID/auxv
	FDs    []FD     // what it was started with; only of the program itself
	Called string   // the path that execve was called with, "" if it could not be read
}

func (*Exec) Kind() Kind { return KindExec }

func (r *Exec) fields(x *fields) {
	x.str("path", &r.Path)
	x.u32("former thread id", &r.OldTID)
	x.args(&r.Argv)
	if x.more() {
		x.bytes("auxiliary vector", &r.Auxv)
	}
	x.fds(&r.FDs)
	if x.more() && (x.mode != writing || r.Called != "") { // older logs do not have it
		x.str("path that execve was called with", &r.Called)
	}
}

// FD is an open descriptor. Number AtFDCWD stands for the working directory.
type FD struct {
	Num     int32
	CloExec bool
	Name    string // as /proc/PID/fd has it
}

func (f *FD) fields(x *fields) {
	x.zz32("number", &f.Num)
	x.flag("closed by exec", &f.CloExec)
	x.str("name", &f.Name)
}

// Clone is the birth of a thread or process, seen from its parent. The child's
// own Thread change is part of the same event.
type Clone struct {
	Child uint32 // log-unique thread number
	Flags uint64 // clone flags as far as known (CLONE_VM, CLONE_THREAD, ...), exit signal in the low byte
	Stack uint64 // the stack pointer the child starts with; 0 as the parent's
}

func (*Clone) Kind() Kind { return KindClone }

func (r *Clone) fields(x *fields) {
	x.u32("thread number of the child", &r.Child)
	x.u("flags", &r.Flags)
	x.u("stack", &r.Stack)
}

// Exit is the end of a thread.
type Exit struct {
	Status  uint32 // wait status (wait(2)); meaningful for Process, else the thread's own
	Process bool   // the last thread: the process has ended
}

func (*Exit) Kind() Kind { return KindExit }

func (r *Exit) fields(x *fields) {
	x.u32("wait status", &r.Status)
	x.flag("process", &r.Process)
}

// Stop is a change between running and stopped that a parent or shell could
// see.
type Stop struct {
	What  StopKind
	Signo int32 // the stopping signal of a GroupStop
}

func (*Stop) Kind() Kind { return KindStop }

func (r *Stop) fields(x *fields) {
	x.u8("what", (*uint8)(&r.What))
	x.zz32("signal", &r.Signo)
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
	Reason    string // "exec", "exit", "signal", "interval", "every", "syscall", "step", "attach"; ReasonSweep, ReasonKeep
	Mechanism Dirty  // how the pages to read were found
	Full      bool   // everything resident was looked at, not only what was dirty
	Pages     uint64 // pages looked at, those of the sweeps before it too
	PauseNS   uint64 // how long the threads were held
}

func (*Snapshot) Kind() Kind { return KindSnapshot }

func (r *Snapshot) fields(x *fields) {
	x.u32("address space", &r.MM)
	x.str("reason", &r.Reason)
	x.u8("mechanism", (*uint8)(&r.Mechanism))
	x.flag("full", &r.Full)
	x.u("pages looked at", &r.Pages)
	x.u("ns of pause", &r.PauseNS)
}

// ReasonKeep is the Reason of what was read because a ring is going to be kept.
const ReasonKeep = "keep"

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

func (*MemInfo) Kind() Kind { return KindMemInfo }

func (r *MemInfo) fields(x *fields) { listOf(x, &r.Samples, 3, (*Sample).fields) }

// Sample is one file's text.
type Sample struct {
	Source string // "meminfo", "vmstat", "pressure", "cgroup.current", "cgroup.events", "smaps_rollup", "status", "statm"
	PID    uint32 // the process it speaks of, 0 for the system
	Data   []byte
}

func (s *Sample) fields(x *fields) {
	x.str("source", &s.Source)
	x.u32("process id", &s.PID)
	x.bytes("text", &s.Data)
}

// Attach is the beginning of the recording of a running process; the full state
// is in its Changes.
type Attach struct {
	PID  uint32
	Auxv []byte // /proc/PID/auxv
	Path string // /proc/PID/exe
	Argv []string
	FDs  []FD
	Goes bool // the recording goes on: it began before, the log begins here
}

func (*Attach) Kind() Kind { return KindAttach }

func (r *Attach) fields(x *fields) {
	x.u32("process id", &r.PID)
	if x.more() {
		x.bytes("auxiliary vector", &r.Auxv)
		x.str("path", &r.Path)
		x.args(&r.Argv)
	}
	x.fds(&r.FDs)
	if x.more() && (x.mode != writing || r.Goes) {
		x.flag("the recording goes on", &r.Goes)
	}
}

// Detach is the end of the recording of a thread that lives on.
type Detach struct{ Reason string }

func (*Detach) Kind() Kind { return KindDetach }

func (r *Detach) fields(x *fields) { x.str("reason", &r.Reason) }

// Lost says that something could not be recorded; what follows is right again
// as far as Changes say so.
type Lost struct{ What string }

func (*Lost) Kind() Kind { return KindLost }

func (r *Lost) fields(x *fields) { x.str("what", &r.What) }

// Check compares the log's table with the kernel's at this step.
type Check struct {
	MM   uint32
	OK   bool
	Diff string // what differed, "-" lines from the log, "+" lines from the kernel
	Maps []byte // /proc/PID/maps as read, only when not OK
	Sum  uint32 // CRC-32C of /proc/PID/maps as read: Verify compares it; 0 is none
}

func (*Check) Kind() Kind { return KindCheck }

func (r *Check) fields(x *fields) {
	x.u32("address space", &r.MM)
	x.flag("ok", &r.OK)
	x.str("difference", &r.Diff)
	x.bytes("maps", &r.Maps)
	if x.more() {
		x.u32("CRC-32C of /proc/PID/maps as it was", &r.Sum)
	}
}

// MapsSum is the Sum of a Check.
func MapsSum(text []byte) uint32 { return max(1, crc32.Checksum(text, castagnoli)) }

// Poke is a write into the program's memory by the recorder's user.
type Poke struct {
	MM       uint32
	Addr     addr.Addr
	Old, New []byte
}

func (*Poke) Kind() Kind { return KindPoke }

func (r *Poke) fields(x *fields) {
	x.u32("address space", &r.MM)
	x.u("address", (*uint64)(&r.Addr))
	x.bytes("old", &r.Old)
	x.bytes("new", &r.New)
}

// Redacted is what was taken out of the log where an event was: that one happened, of
// this kind, to this thread, is all that is left.
type Redacted struct{ Was uint32 }

func (*Redacted) Kind() Kind { return KindRedacted }

func (r *Redacted) fields(x *fields) { x.u32("class of the event", &r.Was) }

// Unknown is an event of a kind that this version does not know.
type Unknown struct {
	Code uint32
	Data []byte
}

func (*Unknown) Kind() Kind { return KindUnknown }

func (r *Unknown) fields(x *fields) {
	switch x.mode {
	case writing:
		x.b = append(x.b, r.Data...)
	case reading:
		r.Data = x.c.b
	case owning:
		r.Data = slices.Clone(r.Data)
	case visiting, describing:
		x.seen("body", r.Data)
	}
}

// Until says for how long calls are recorded by stops that were to be recorded inside the
// program.
type Until uint8

// The ends.
const (
	UntilEnd  Until = iota // for the rest of the process's life
	UntilExec              // until the process executes another program
	UntilOver              // as long as the reason holds
)

// Outside says that calls of the thread's process are recorded by stops, although they were
// to be recorded inside the program; of thread 0, those of all processes.
type Outside struct {
	Until Until
	Why   string
}

func (*Outside) Kind() Kind { return KindOutside }

func (r *Outside) fields(x *fields) {
	x.u8("for how long", (*uint8)(&r.Until))
	x.str("reason", &r.Why)
}
