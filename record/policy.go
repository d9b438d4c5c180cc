//go:build linux

// This file says when memory is read, and how long that may take.

package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/tracee"
)

// Policy says when the contents of memory are saved.
type Policy struct {
	Exec, Exit, Signal bool   // at an exec, at a process's end, at a signal that ends it
	Step               bool   // at every event
	Every              uint64 // events; 0 is never
	Interval           time.Duration
	Syscalls           arch.Set // at the end of these calls
	// Spare keeps what is saved at the ends of processes to a small share of the
	// time: short programs with much memory are saved in part.
	Spare bool
	// Keep saves memory when a ring is going to be kept.
	Keep bool
}

// DefaultPolicy is exec,exit,signal,interval=1s, and Spare.
func DefaultPolicy() Policy {
	return Policy{Exec: true, Exit: true, Signal: true, Interval: time.Second, Spare: true}
}

// any reports whether memory is saved at all.
func (p *Policy) any() bool { return p.Keep || p.often() }

// often reports whether memory is saved as a matter of course, not only when something happens
// that most programs never see.
func (p *Policy) often() bool {
	return p.Exec || p.Exit || p.Signal || p.atEvents() || p.Interval > 0
}

// atEvents reports whether memory is saved at events that come often.
func (p *Policy) atEvents() bool { return p.Step || p.Every > 0 || !p.Syscalls.Empty() }

// keep says for which calls the registers at the entry are needed.
func (p *Policy) keep() tracee.KeepRegisters {
	switch {
	case p.Interval > 0, p.Keep:
		return tracee.KeepAlways
	case p.atEvents():
		return tracee.KeepShared
	}
	return tracee.KeepNever
}

// ErrPolicy says that a policy could not be understood.
var ErrPolicy = errors.New("bad snapshot policy")

// ParsePolicy reads a list such as "exec,exit,every=1000,interval=100ms".
func ParsePolicy(s string) (Policy, error) {
	var p Policy
	for _, word := range strings.Split(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(word), "=")
		if err := p.set(name, value); err != nil {
			return p, fmt.Errorf("%w %q: %v", ErrPolicy, word, err)
		}
	}
	return p, nil
}

// set adds one word of a list.
func (p *Policy) set(name, value string) (err error) {
	switch name {
	case "exec":
		p.Exec = true
	case "exit":
		p.Exit, p.Spare = true, false
	case "signal":
		p.Signal = true
	case "step":
		p.Step = true
	case "none":
		*p = Policy{}
	case "default":
		all := p.Exit && !p.Spare
		*p = DefaultPolicy()
		p.Spare = !all
	case "every":
		p.Every, err = strconv.ParseUint(value, 10, 64)
		if err == nil && p.Every == 0 {
			err = errors.New("must be at least 1")
		}
	case "interval":
		p.Interval, err = time.ParseDuration(value)
		if err == nil && p.Interval < time.Millisecond {
			err = errors.New("must be at least 1ms")
		}
	case "syscall":
		var set arch.Set
		set, err = arch.ParseSet(value)
		p.Syscalls = p.Syscalls.Union(set)
	default:
		err = errors.New("want exec, exit, signal, every=N, interval=DURATION, syscall=NAME, step, default or none")
	}
	return err
}

// Reason is why memory is saved.
type Reason uint8

// The reasons.
const (
	ReasonNone Reason = iota // it is not
	ReasonExec
	ReasonExit
	ReasonSignal
	ReasonInterval
	ReasonEvery
	ReasonSyscall
	ReasonStep
	ReasonAttach
	ReasonSweep
	ReasonKeep
)

var reasonNames = [...]string{"", "exec", "exit", "signal", "interval", "every", "syscall", "step", "attach", format.ReasonSweep, format.ReasonKeep}

// String is the reason as the log has it.
func (r Reason) String() string { return reasonNames[r] }

// triggers says of each event whether memory is to be saved at it.
type triggers struct {
	policy    *Policy
	keep      keeper // nil without a ring
	lastEvery format.Step
	exitSpent time.Duration // saving memory at ends of processes, see Policy.Spare
}

// call says why memory is to be saved with a call, which is event number next.
func (w *triggers) call(id arch.ID, nr uint32, next format.Step) Reason {
	switch p := w.policy; {
	case p.Step:
		return ReasonStep
	case p.Syscalls.Has(id, nr):
		return ReasonSyscall
	case p.Every > 0 && uint64(next-w.lastEvery) >= p.Every:
		w.lastEvery = next
		return ReasonEvery
	}
	return ReasonNone
}

// keeper is a ring: it is asked at moments at which memory can be saved whether it is
// going to be kept. *ring.Ring is one.
type keeper interface {
	Call(s *format.Syscall, now uint64) bool
	Signal(t *format.Thread, no int, fatal bool, now uint64) bool
	Exit(t *format.Thread, status uint32) bool
}

// returned is call, for a call that the ring may be kept for.
func (w *triggers) returned(t *tracee.Thread, c *tracee.Call, next format.Step) Reason {
	if w.keep != nil && w.keep.Call(syscallOf(t, c), c.Leave) {
		return ReasonKeep
	}
	return w.call(c.Arch, c.Nr, next)
}

// signal says why memory is to be saved at a signal.
func (w *triggers) signal(t *format.Thread, s *tracee.Signal, now uint64) Reason {
	if w.keep == nil {
		return w.own(s.Fatal && w.policy.Signal, ReasonSignal)
	}
	switch kept := w.keep.Signal(t, s.No, s.Fatal, now); {
	case kept && s.Fatal:
		return ReasonSignal
	case kept:
		return ReasonKeep
	}
	return w.event()
}

// exit says why memory is to be saved at the end of the last thread of a process.
func (w *triggers) exit(t *format.Thread, status uint32) Reason {
	if w.keep != nil && w.keep.Exit(t, status) {
		return ReasonExit
	}
	return w.own(w.policy.Exit, ReasonExit)
}

// attach says why memory is to be saved of a process that is attached to: as what
// later readings are compared with.
func (w *triggers) attach() Reason {
	if p := w.policy; p.Keep && p.Interval == 0 && !p.atEvents() {
		return ReasonNone
	}
	return ReasonAttach
}

// event says why memory is to be saved at an event that is no call.
func (w *triggers) event() Reason {
	if w.policy.Step {
		return ReasonStep
	}
	return ReasonNone
}

// own is event, for an event at which a policy of its own may have memory saved.
func (w *triggers) own(due bool, why Reason) Reason {
	if due {
		return why
	}
	return w.event()
}

// captureMost is how long any snapshot may take: as long as it does, the program stands
// still.
const captureMost = 30 * time.Second

// What the policy Spare allows ends of processes: one part in exitShare of the time,
// exitGrace for all of them and exitLeast for each.
const (
	exitShare = 64
	exitGrace = 12 * time.Millisecond
	exitLeast = time.Millisecond
)

// exitLimit is how long what is saved at the end of a process may take, at a time
// since the recording began.
func (w *triggers) exitLimit(now time.Duration) time.Duration {
	return max(exitLeast, exitGrace+now/exitShare-w.exitSpent)
}

// Interval snapshots are taken in two parts. While the program runs, a sweep
// reads what was written since the last one. Then all threads of the address
// space are held, for as long as it takes to read what they wrote during the
// sweep.
const (
	// intervalShare keeps the stops for interval snapshots to one part in so many
	// of the time, sweepShare what is read beside the running program.
	intervalShare = 20
	sweepShare    = 2
	// calm is how few pages a sweep has to find for the hold to follow at once;
	// after more, another one finds fewer.
	calm = 64
	// copyCost is what one page costs the program: to be copied while it is held.
	copyCost = 1500 * time.Nanosecond
	// holdMost is how long a program is held for an interval snapshot. What is
	// rewritten faster than that is read by sweeps alone.
	holdMost = 50 * time.Millisecond
	// attachMost is how long a large program is held to read its memory when it is attached to.
	attachMost = 10 * time.Millisecond
	// behindFactor is how much longer threads may wait for the sweeps that then read the rest.
	behindFactor = 4
	// holdShare keeps a hold to one part in so many of the time so far.
	holdShare = 8
	// idleMost is how long the memory of a sleeping program is read at a time: the
	// recorder has other things to do.
	idleMost = 100 * time.Millisecond
	// fileTrust is how old a look at a mapped file may be for an interval snapshot.
	fileTrust = 100 * time.Millisecond
	// lazyMost is how many bytes that were given back with MADV_FREE are read of a
	// mapping for an interval snapshot of a program that waits.
	lazyMost = 8 << 20
)

// firstInterval is when the first interval snapshot is taken, so that there is something
// to compare with in the log of a program that ends soon.
const firstInterval = 50 * time.Millisecond

// interval is of which time an interval snapshot now, in ns since the start, may take its
// share: the first comes before an interval has passed.
func (p *Policy) interval(now uint64) time.Duration {
	return min(p.Interval, max(time.Duration(now), firstInterval))
}

// holdLimit is how long an address space may be held now for an interval snapshot in
// which so many pages are expected.
func (p *Policy) holdLimit(now, expected uint64) time.Duration {
	return min(p.interval(now)/intervalShare+2*copyCost*time.Duration(expected), holdMost, max(time.Duration(now), firstInterval)/holdShare)
}

// ago is a time some while before now, 0 where there was none.
func ago(now uint64, d time.Duration) uint64 { return now - min(now, uint64(d)) }
