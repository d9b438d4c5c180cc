//go:build linux

// This file has the Recorder, what it is asked for, and what comes of it.

package record

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// Options say what is recorded. The zero value follows nothing, records no call
// but those that are always recorded, and reads no memory: see DefaultOptions.
type Options struct {
	// Trace is the set of calls to record. Those that change an address space,
	// name a descriptor, make a process or rename a file are recorded always.
	Trace arch.Set
	// Follow traces child processes too; threads are always traced.
	Follow bool
	// Snapshot says when memory is read.
	Snapshot Policy
	// MaxBytes, MaxTime and MaxEvents end the recording; the program runs on.
	// 0 is no limit.
	MaxBytes  int64
	MaxTime   time.Duration
	MaxEvents uint64
	// Check compares the log's table with the kernel's after every event that
	// changed a mapping.
	Check bool
	// NoPin leaves a program with one thread on all its CPUs. Without it the
	// program is kept beside the recorder, which it cannot see.
	NoPin bool
	// MemInfo samples what the system and the kernel say about memory, every
	// MemInfoInterval; 0 leaves the pace to the recorder.
	MemInfo         bool
	MemInfoInterval time.Duration
	// Referenced samples which memory was used in a while, every ReferencedInterval of a
	// process's life; 0 leaves the times to the recorder.
	Referenced         bool
	ReferencedInterval time.Duration
	// DataLimit is how many bytes are kept of what each call writes into the
	// program's memory, StringLimit of what it reads there; 0 keeps none.
	DataLimit, StringLimit int
	// Stacks are the calls whose call stack is taken at their beginning, of at most StackDepth
	// frames. Signals that end a process have one with any set. A depth of 0 takes none.
	Stacks     arch.Set
	StackDepth int
	// NoPerfMaps leaves out of the log what programs say of the code that they make at run time.
	NoPerfMaps bool
	// NoTrack reads and compares memory at each snapshot instead of finding what
	// was written.
	NoTrack bool
	// PageTrace says which page references are recorded.
	PageTrace pagetrace.Ask
	// InProcess says which programs record their calls themselves. Running says that they run
	// before they are recorded: then none does.
	InProcess inside.Mode
	Running   bool
	// Started, if not nil, is told the program's pid; Stopped, that job control
	// has stopped it and by which signal, or with 0 that it goes on.
	Started func(pid int)
	Stopped func(sig int)
	// Delivered, if not nil, is told of each signal that the program is about to get,
	// with its siginfo, valid during the call.
	Delivered func(sig int, info []byte)
	// Observe, if not nil, is called with each event as it is written. It must
	// not keep it.
	Observe func(*format.Event)
	// Pause, if not nil, is called on the tracing thread whenever a thread is at
	// a stop: before and after each call, and after every other event.
	Pause func(*Pause)
	// Warn, if not nil, is told once of what a person should know.
	Warn func(string)
}

// When says at what kind of stop a thread is paused.
type When uint8

// The kinds of stop.
const (
	Before When = iota // a system call's entry: Call is about to be made
	After              // Event has happened
	Asked              // Recorder.Interrupt was called
)

// Pause is a thread at a stop while Options.Pause looks at it: it does not go on
// before that returns. Other threads run, until they come to a stop of their own.
// A Pause may be used by that call only, on its goroutine.
type Pause struct {
	When  When
	TID   int
	Call  *format.Syscall // Before: with the memory read at its entry
	Event *format.Event   // After
	// Keep, set by the callee, keeps a signal from being delivered.
	Keep bool

	r *Recorder
}

// DefaultOptions record every call of the program and its children.
func DefaultOptions() Options {
	return Options{Trace: arch.AllCalls(), Follow: true, Snapshot: DefaultPolicy(), MemInfo: true, DataLimit: 4096, StringLimit: 32, StackDepth: DefaultStackDepth}
}

// filtered reports whether calls outside the set are to run untouched, by a seccomp
// filter. A program with such a filter cannot go on without its tracer: it is not
// used where the program may outlive the recording, nor where it makes those calls itself.
func (o *Options) filtered() bool {
	return !o.Trace.All() && !o.inside() && o.PageTrace.Engine != pagetrace.Prot && o.Follow && o.Pause == nil && o.MaxBytes == 0 && o.MaxTime == 0 && o.MaxEvents == 0
}

// inside reports whether calls are recorded inside the programs.
func (o *Options) inside() bool { return o.InProcess != inside.Off && o.byStops() == "" }

// byStops says why calls are recorded by stops alone although they are to be recorded inside
// the programs, "" if they need not be.
func (o *Options) byStops() string {
	switch {
	case o.Running:
		return "the programs run already (-p)"
	case !o.Trace.All() && o.InProcess != inside.Always:
		return "some calls only are recorded (-e), and it is not known whether it pays"
	case o.PageTrace.Engine != pagetrace.None:
		return "page references are recorded (--page-trace)"
	case o.Pause != nil:
		return "the program is stopped at its calls (--step)"
	case o.Snapshot.atEvents():
		return "memory is saved at calls (--snapshot)"
	}
	return inproc.Missing()
}

// traces reports whether the child of a clone is traced.
func (o *Options) traces(c tracee.CloneArgs) bool {
	return c.Flags&unix.CLONE_UNTRACED == 0 && (o.Follow || c.Thread())
}

// recorded is the set of calls to record: what was asked for, and what tells what
// becomes of address spaces, descriptors and threads.
func (o *Options) recorded() arch.Set {
	set := o.Trace
	set.Add(arch.ChangesMM | arch.NamesFD | arch.Renames | arch.NoReturn)
	for _, name := range []string{"fork", "vfork", "clone", "clone3", "unshare", "setns", "userfaultfd", "io_uring_enter"} {
		if s, err := arch.ParseSet("?" + name); err == nil {
			set = set.Union(s)
		}
	}
	return set
}

// Result is how a recording ended.
type Result struct {
	// Status is the wait status of the program (of Run), if it ended.
	Status unix.WaitStatus
	Ended  bool
	// Reason is "exit" or what ended the recording before the program did.
	Reason           string
	Events           uint64
	Checks, Differed uint64
	// InPart is how many processes had more memory at their end than was saved,
	// see Policy.Spare.
	InPart int
	// Err is what kept the log from being written to the end; the program was
	// left alone from then on.
	Err error
}

// Interrupted is the Reason of a recording that its context ended, Detached of
// one that Pause.Detach did.
const (
	Interrupted = "interrupted"
	Detached    = "detached"
)

// Errors of this package.
var (
	// ErrNotFound and ErrNotExecutable: the program could not be started.
	ErrNotFound      = tracee.ErrNotFound
	ErrNotExecutable = tracee.ErrNotExecutable
	// ErrPerm: the kernel does not let us trace; the text says what to do.
	ErrPerm = tracee.ErrPerm
	// ErrNotRecording: the recording has not begun, or has ended.
	ErrNotRecording = tracee.ErrNotServing
)

// Program is what to run, and how. User is as whom.
type (
	Program = tracee.Program
	User    = tracee.User
)

// Recorder records into one log.
type Recorder struct {
	opts  Options
	set   arch.Set // what is recorded
	start time.Time
	group *tracee.Group
	// kernel is what is asked beside the group.
	kernel kernel
	log    journal
	// memories are the address spaces that are in use.
	memories map[*memory]struct{}
	lastMM   uint32

	reader  *snapshot.Reader
	files   *snapshot.Files
	when    triggers
	sampler sampler
	stacks  *stacks
	warden  *pagetrace.Warden // nil without a page trace of engine prot
	writes  *pagetrace.Writes // nil without one of engine wp
	inside  *inside.Programs  // nil where no program records its calls
	warned  map[string]bool
	uffds   bool // some program has made a userfaultfd
	pidns   bool // a traced process may be in a PID namespace of its own
	result  Result
}

// Ask has f called on the tracing thread, between two events. Its error is
// ErrNotRecording.
func (r *Recorder) Ask(f func()) error { return r.group.Ask(f) }

// finish ends the recording; the program goes on if it can.
func (r *Recorder) finish(reason string) {
	if !r.group.Over() {
		r.result.Reason = reason
		r.group.Finish()
	}
}

func (r *Recorder) warn(text string, args ...any) {
	s := fmt.Sprintf(text, args...)
	if r.opts.Warn != nil && !r.warned[s] {
		r.warned[s] = true
		r.opts.Warn(s)
	}
}
