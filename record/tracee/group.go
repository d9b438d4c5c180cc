//go:build linux

// This file has the Group: the tracees of one OS thread.

package tracee

import (
	"errors"
	"iter"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// ErrPerm is the error of a process that the kernel does not let us trace; its
// text says what to do.
var ErrPerm = ptrace.ErrPerm

// Options are what a Group does beyond telling what happens.
type Options struct {
	// Calls are those whose memory is read at their entry and exit.
	Calls arch.Set
	// DataLimit is how many bytes are kept of what each of Calls writes into the
	// program's memory, StringLimit of what it reads there; 0 keeps none.
	DataLimit, StringLimit int
	// Keep says when the registers at a call's entry are kept.
	Keep KeepRegisters
	// Follow traces child processes too; threads are always traced.
	Follow bool
	// NoPin leaves threads on all their CPUs. NoGuard does so as well, unless the
	// program is filtered: nobody would free them if this process were killed.
	NoPin, NoGuard bool
	// Warden, if not nil, has protections of its own set in the program's memory. Then
	// no program outlives this process: it would die of its next page fault.
	Warden Warden
	// Poked, if not nil, is told of memory that one tracee has written in another by
	// ptrace(2), as it was and is.
	Poked func(t *Thread, at addr.Addr, old, now []byte)
	// Inside, if not nil, has threads record their calls themselves. Then no program
	// outlives this process, unless the tracing thread Suits.
	Inside Inside
	// Suits, if not nil, says whether a thread with this id is wanted as the tracing
	// thread. It may be another if there is none after many tries.
	Suits func(tid int) bool
}

// KeepRegisters says for which calls the registers at the entry are kept: others
// may read the memory while the thread is in the call.
type KeepRegisters uint8

// The choices.
const (
	KeepNever  KeepRegisters = iota
	KeepShared               // where the thread shares its memory: others read it at their calls
	KeepAlways               // the memory is read by the clock
)

// Group is the tracees of one OS thread.
type Group struct {
	opts  Options
	k     Kernel
	h     Handler
	start time.Time // time 0, with its monotonic reading
	bell  bell
	facts facts

	threads map[int]*Thread // by tid
	orphans map[int]Fact    // last stops of new tracees whose parent has not told of them
	lastNo  uint32
	over    bool // Finish was called
	suited  bool // the tracing thread Suits
	pausing bool // a thread has been asked to stop by Interrupt
	soon    bool // the next fact is likely to come soon, from a thread on this CPU
	inRow   int  // facts since all threads were asked for

	filter *arch.Set // see Launch
	main   int       // pid of the program that was launched
	status unix.WaitStatus
	ended  bool

	nest   nest
	pins   pinner
	fdName [4096]byte
	xstate []byte // scratch
}

// nest is what a Group knows of tracers among its tracees.
type nest struct {
	k      emulator
	dead   []death
	ended  map[int]*Thread // by pid: tracees that have ended, children of their tracers
	serial uint64          // of reports and deaths

	zombies zombies
}

// death is the end of a tracee of which the kernel does not tell its emulated tracer.
type death struct {
	by     *Thread
	tid    int
	status uint32 // of wait(2)
	uid    uint32
	serial uint64
}

// pinner is the CPU that threads are kept on.
type pinner struct {
	cpu    int         // where all pinned threads are
	chosen bool        // cpu holds one
	off    bool        // never again
	count  int         // pinned threads
	own    unix.CPUSet // of the recorder's thread, which is pinned while count > 0
	timed  bool        // a timer looks after them
	guard  guard
	asked  int // how often threads were not pinned for want of a guard
}

// New makes a Group that tells h what happens. k is nil for the kernel that this
// process runs on. start is time 0.
func New(k Kernel, h Handler, start time.Time, o Options) *Group {
	if k == nil {
		k = newLinux()
	}
	go startHandlers() // reading them takes a moment
	tracers, _ := k.(emulator)
	return &Group{
		nest: nest{k: tracers}, opts: o, k: k, h: h, start: start, facts: facts{source: k},
		threads: map[int]*Thread{}, orphans: map[int]Fact{},
	}
}

// Now is the time in ns since the start.
func (g *Group) Now() uint64 { return uint64(time.Since(g.start)) }

// Threads are all threads that have not been reaped.
func (g *Group) Threads() iter.Seq[*Thread] { return maps.Values(g.threads) }

// Thread is a thread by its tid, nil if there is none.
func (g *Group) Thread(tid int) *Thread { return g.threads[tid] }

// Processes are all processes that have not been reaped, by pid.
func (g *Group) Processes() map[int]*Process {
	ps := map[int]*Process{}
	for _, t := range g.threads {
		ps[t.Proc.PID] = t.Proc
	}
	return ps
}

// Main is the pid of the program that was launched, 0 for none.
func (g *Group) Main() int { return g.main }

// Status is the wait status of the program that was launched, once it has ended.
func (g *Group) Status() (status unix.WaitStatus, ended bool) { return g.status, g.ended }

// Filtered reports whether the program has a filter: then it dies with its tracer.
func (g *Group) Filtered() bool { return g.filter != nil }

// nested reports whether tracees can trace each other here.
func (g *Group) nested() bool { return g.nest.k != nil }

// traceOptions are those of every tracee (ptrace(2)).
func (g *Group) traceOptions() int {
	o := ptrace.OptSysGood | ptrace.OptClone | ptrace.OptExec | ptrace.OptExit
	if g.opts.Follow {
		o |= ptrace.OptFork | ptrace.OptVfork | ptrace.OptVforkDone
	}
	if g.filter != nil {
		o |= ptrace.OptSeccomp | ptrace.OptExitKill
	}
	if g.opts.Warden != nil || g.opts.Inside != nil && !g.suited {
		o |= ptrace.OptExitKill
	}
	return o
}

// Finish ends Serve before the last tracee has ended. They go on if they can.
func (g *Group) Finish() { g.over = true }

// Over reports whether Finish was called.
func (g *Group) Over() bool { return g.over }

// Interrupt brings a running thread to a stop, of which Handler.Paused is told. It
// may be called from any goroutine. Its error is ErrNotServing.
func (g *Group) Interrupt() error {
	return g.Ask(g.interruptOne)
}

// interruptOne asks some running thread to stop.
func (g *Group) interruptOne() {
	for _, t := range g.threads {
		if t.on() && !t.asked && g.k.Interrupt(t.TID) == nil {
			t.asked, g.pausing = true, true
			return
		}
	}
}

// Kill ends all traced processes.
func (g *Group) Kill() {
	for pid := range g.Processes() {
		_ = g.k.Kill(pid, unix.SIGKILL)
	}
}

// Ask has f called on the tracing thread, between two facts. It may be called from
// any goroutine. Its error is ErrNotServing.
func (g *Group) Ask(f func()) error { return g.bell.ask(f) }

// AskNow is Ask where each 100 us count.
func (g *Group) AskNow(f func()) error { return g.bell.askNow(f) }

// After has f called on the tracing thread when some time has passed, if threads
// are still served then.
func (g *Group) After(d time.Duration, f func()) {
	time.AfterFunc(d, func() { _ = g.Ask(f) })
}

// Wanted reports whether somebody has asked for something: what takes long is to
// be put off.
func (g *Group) Wanted() bool { return g.bell.pending.Load() }

// Answer calls what has been asked for, in the middle of something that takes
// long.
func (g *Group) Answer() {
	if g.bell.pending.Load() {
		g.bell.answer()
	}
}

// become moves a thread to another state.
func (g *Group) become(t *Thread, s State) {
	if from := t.state; !t.become(s) {
		g.h.Lost(t, "a thread that was "+from.String()+" is "+s.String())
	}
}

// failed looks at the error of a request. A thread may be killed at any moment: it
// has gone on then, and its end is reported in its own time.
func (g *Group) failed(t *Thread, err error) bool {
	if err == nil {
		return false
	}
	if !errors.Is(err, ptrace.ErrGone) {
		g.h.Lost(t, err.Error())
	}
	if t.state == Stopped {
		g.become(t, t.free())
	}
	return true
}
