//go:build linux

// This file has the threads, processes and address spaces of a Group.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
)

// Thread is a traced thread.
type Thread struct {
	TID   int
	No    uint32 // counts the threads of the Group from 1; numbers of the kernel are reused
	Proc  *Process
	Space *Space
	// Local is the Handler's own.
	Local any
	// Faults counts the page faults of the process at the thread's last stop.
	Faults int64

	state State
	at    ptrace.StopKind // the stop that is being served
	call  *Call           // in progress, nil for none: &calls
	calls Call
	// collector reads the memory around calls.
	collector call.Collector

	info      [128]byte // of the signal at hand
	inside    insideState
	step      Stepper
	fault     Fault
	rseq      addr.Addr // area for restartable sequences, if rseqKnown
	rseqKnown bool

	rest  *remainder // of a call that was cut short, nil for none
	stray *stray     // a call made in its name that has not ended, nil for none
	patch *patch     // of the call in progress, or in a child of the call that made it
	entry entryRegs
	quick [32]quick // by the number of a call
	pace  pace
	pin   pin

	traced   *traced     // what it is to another tracee that traces it, nil for nothing
	tracees  int         // of its own
	wait     wait        // the call in progress, if it is one
	skipped  skipped     // the call in progress, if it is
	emulated emulated    // the request of ptrace(2) in progress
	other    *otherWrite // of the call in progress
	// suspended says that its seccomp filters do nothing, because its tracer has said so.
	suspended bool
	strays    int // SIGSTOPs on their way to it from a tracer that is gone

	// Facts about it, each true in several states.
	asked       bool // an interrupt of ours is on its way
	interrupted bool // one met the entry or exit of the call in progress
	unseen      bool // it was attached to, and has not been seen to stand since
	newborn     bool // its program has not made a call yet
	launcher    bool // the call in progress is the launcher's, not the program's
}

// State is where the thread is.
func (t *Thread) State() State { return t.state }

// Call is the call that the thread is in, nil for none. It is in progress until
// its exit has been served.
func (t *Thread) Call() *Call { return t.call }

// Unseen reports whether the thread was attached to and has not been seen to
// stand since: what it is doing is not known.
func (t *Thread) Unseen() bool { return t.unseen }

// become moves the thread to another state. It reports whether that is legal.
func (t *Thread) become(s State) bool {
	ok := t.state.may(s)
	t.state = s
	return ok
}

// free is the state of the thread once it goes on.
func (t *Thread) free() State {
	if t.call != nil {
		return InCall
	}
	return Running
}

// Resumed is when the thread was last let go, in ns since the start of the Group.
func (t *Thread) Resumed() uint64 { return t.pace.resumed }

// on reports whether the thread has been let go and has not been heard of since.
func (t *Thread) on() bool { return t.state == Running || t.state == InCall }

// over reports whether the thread runs no more code of the program.
func (t *Thread) over() bool { return t.state == Ending || t.state == Ended }

// Over reports whether the thread runs no more code of the program.
func (t *Thread) Over() bool { return t.over() }

// Stands reports whether a thread can be asked for its registers.
func (t *Thread) Stands() bool { return !t.on() && t.state != Listening }

// Recording reports whether a thread records its calls itself.
func (t *Thread) Recording() bool { return t.inside.on }

// Traced reports whether the thread has a tracer among our tracees.
func (t *Thread) Traced() bool { return t.traced != nil }

// wants reports whether a thread has a tracer that asked for an event.
func (t *Thread) wants(opt uint32) bool { return t.traced != nil && t.traced.opts&opt != 0 }

// SetRSeq tells where the thread has its area for restartable sequences.
func (t *Thread) SetRSeq(at addr.Addr) { t.rseq, t.rseqKnown = at, true }

// entryRegs are the registers of a thread at the entry of the call in progress.
type entryRegs struct {
	regs *ptrace.Regs
	read bool // they are of this call
	told bool // nobody needs them any more: TakeRegisters has returned them
}

// quick is how many calls of a kind in a row have come back at once, and how
// many it takes to believe that the next will.
type quick struct{ n, enough uint16 }

// pin is what a thread was before it was pinned.
type pin struct {
	on       bool
	row      int // in the guard's table
	affinity unix.CPUSet
}

// pace is how a thread takes turns with the recorder.
type pace struct {
	resumed uint64 // when it was last let go
	gap     uint64 // how long it runs between calls: a moving average, ns
}

// stray is a call made in the name of a thread that has not ended, with what is to be put
// back when it does.
type stray struct {
	regs  ptrace.Regs
	mask  uint64 // of blocked signals
	waits []Fact // stops of the thread that were not served before
}

// patch is what is to be put back in a thread when it is out of a call that we have
// changed.
type patch struct {
	regs  ptrace.Regs // as the program made the call
	at    addr.Addr   // of memory that was changed; 0 for none
	bytes []byte      // that were there
}

// insideState is what a Group keeps of a thread that may record its calls.
type insideState struct {
	on   bool
	late bool   // it is in a call, and stops when that returns
	back bool   // it stands before the call because of which it has stopped
	mask uint64 // of blocked signals, all the while
}

// otherWrite is memory of another tracee that the call in progress is to write.
type otherWrite struct {
	target *Thread
	parts  []otherPart
}

type otherPart struct {
	at  addr.Addr
	old []byte
}

// traced is what a thread is to the tracer that it has among our tracees.
type traced struct {
	by      *Thread
	seized  bool
	foreign bool // its tracer is not its parent, and hears of its end first
	opts    uint32
	mode    request.Mode
	report  *report // what it stands in, and its tracer is or was told; nil while it runs
	asked   bool    // its tracer has asked it to stop, and no stop has answered yet
	joins   bool    // it was stopped by job control when its tracer came, which is to be reported
	born    bool    // it is new, and its first stop is to be reported
	stops   int     // SIGSTOPs on their way that an attach has caused
	filters bool    // the kernel tells us of its seccomp stops
	inCall  bool    // its tracer was told of the entry of the call in progress
	onward  bool    // its tracer had it go on from the stop by job control that its process is in
	steps   bool    // it makes a step, or the call that it came to with one
	told    bool    // its tracer was told that a SIGCONT comes, which has not come yet
}

// Process is a traced thread group.
type Process struct {
	PID     int
	No      uint32 // of its first thread
	Parent  uint32 // No of the parent process, 0 if it is not traced
	Arch    arch.ID
	Threads map[int]*Thread // by tid, all that have not been reaped

	maker *Thread // that made it, nil if that is not known

	stopped   bool   // by job control
	noCldStop bool   // wants no SIGCHLD when a child stops
	signalFD  bool   // has had a descriptor that signals are read from
	readsProc bool   // has had a descriptor of a file of /proc that tells of us
	idleAt    uint64 // when a thread last took a signal that does nothing, by the Group's clock
	// listened says that a seccomp listener may answer calls before our filter sees
	// them: each call is stopped at its entry, as without a filter.
	listened bool
}

// Live is how many threads may still run code of the program.
func (p *Process) Live() (n int) {
	for _, t := range p.Threads {
		if !t.over() {
			n++
		}
	}
	return n
}

// tracing reports whether a thread of a process has tracees.
func (p *Process) tracing() bool {
	for _, t := range p.Threads {
		if t.tracees > 0 {
			return true
		}
	}
	return false
}

// Space is the threads that share one address space.
type Space struct {
	Threads map[*Thread]struct{}
	// Shared says that several processes have used it.
	Shared bool
	// Ran is set whenever one of the threads goes on. The Handler clears it.
	Ran bool
	// Read, if not nil, is how its memory is read: parts of it must not be read as
	// ReadMem does, because somebody who is traced would have to fill them first.
	Read func(b []byte, a addr.Addr) int
	// Rings says that an io_uring may open, close and rename files in its name, without
	// a call.
	Rings bool
	// Local is the Handler's own.
	Local any
}

func newSpace() *Space { return &Space{Threads: map[*Thread]struct{}{}} }

func (s *Space) join(t *Thread) {
	t.Space = s
	for u := range s.Threads {
		s.Shared = s.Shared || u.Proc != t.Proc
		break
	}
	s.Threads[t] = struct{}{}
}

// Any is one of its threads that may still run, else one that is ending, else nil.
func (s *Space) Any() (t *Thread) {
	for u := range s.Threads {
		if t = u; !u.over() {
			break
		}
	}
	return t
}

// Asleep reports whether all threads sleep in calls or stand in a stop of long duration: until one
// comes back, it costs nobody anything to look at their memory.
func (s *Space) Asleep() bool {
	for t := range s.Threads {
		if !t.over() && t.state != InCall && t.state != Listening && t.state != Held {
			return false
		}
	}
	return true
}
