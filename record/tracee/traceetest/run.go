//go:build linux

// This file lets time pass: who makes a step, and what is reported when.

package traceetest

import (
	"fmt"
	"time"

	"memtrace/record/ptrace"
	"memtrace/record/tracee"
)

// Alive are the tids of all threads that have not ended.
func (k *Kernel) Alive() (tids []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.sorted() {
		if !t.dead {
			tids = append(tids, t.tid)
		}
	}
	return tids
}

// Running reports whether a thread is neither stopped nor dead.
func (k *Kernel) Running(tid int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	return t != nil && !t.dead && !t.stopped
}

// Step lets some thread make a step, as Next does. Tests call it to have a program
// run that is not traced any more. It reports whether there was one.
func (k *Kernel) Step() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.step()
}

// Disown has a thread that is traced be traced by somebody else.
func (k *Kernel) Disown(tid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.threads[tid].foreign = true
}

// Employ has a thread run in the kernel for ever, as a worker of io_uring does.
func (k *Kernel) Employ(tid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.threads[tid].worker = true
}

// TracerEnds lets go of all that is still traced, as the end of the tracing thread
// does. A signal whose stop has been reported is lost then.
func (k *Kernel) TracerEnds() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.sorted() {
		if !t.traced {
			continue
		}
		if t.given = 0; t.report != nil && t.at == ptrace.Signal {
			t.given = t.report.Sig
		}
		t.traced, t.stopped, t.listening, t.trap, t.sysTrace, t.report = false, false, false, false, false, nil
	}
}

// step has one thread that can make progress make it.
func (k *Kernel) step() bool {
	var can []*thread
	for _, t := range k.sorted() {
		if !t.stopped && !t.dead && (t.traced || t.proc.stopSig == 0) && (t.wait == nil || k.could(t)) {
			can = append(can, t)
		}
	}
	if len(can) == 0 {
		return false
	}
	t := can[k.rng.IntN(len(can))]
	if t.wait == nil || t.wait(t) {
		t.run(t)
	}
	return true
}

// could reports whether a thread that waits can make progress.
func (k *Kernel) could(t *thread) bool {
	left, wait := t.left, t.wait
	ok := t.wait(t)
	t.left, t.wait = left, wait
	return ok
}

// ripe are the threads that have something to report. The first thread of a process
// is not reported dead before the others are gone.
func (k *Kernel) ripe() (ts []*thread) {
	for _, t := range k.sorted() {
		switch {
		case t.dead && k.last(t), t.report != nil:
			ts = append(ts, t)
		}
	}
	return ts
}

// last reports whether the end of a dead thread can be seen.
func (k *Kernel) last(t *thread) bool {
	if t.tid != t.proc.pid {
		return true
	}
	for _, o := range k.threads {
		if o != t && o.proc == t.proc {
			return false
		}
	}
	return true
}

// take reports for a thread.
func (k *Kernel) take(t *thread) tracee.Fact {
	if !t.dead {
		s := *t.report
		t.report, t.fresh = nil, false
		return tracee.Fact{TID: t.tid, Stop: s}
	}
	delete(k.threads, t.tid)
	s := ptrace.Stop{TID: t.tid, Kind: ptrace.Exited, Status: t.status, Faults: t.proc.faults}
	if sig := int(t.status & 0x7f); sig != 0 {
		s.Kind, s.Sig = ptrace.Killed, sig
	}
	return tracee.Fact{TID: t.tid, Stop: s}
}

// Next is tracee.Source's. Without poll it lets time pass until there is something to
// report; with poll a few steps at most.
func (k *Kernel) Next(poll bool) (tracee.Fact, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inNext, k.woken, k.stuck = true, false, false
	defer func() { k.inNext = false }()
	idle := 0
	for steps := k.rng.IntN(4); ; steps-- {
		if k.woken {
			return tracee.Fact{}, ptrace.ErrInterrupted
		}
		if !k.anyTraced() {
			return tracee.Fact{}, ptrace.ErrNone
		}
		k.disturb()
		if len(k.facts) > 0 {
			f := k.facts[0]
			k.facts = k.facts[1:]
			return f, nil
		}
		k.reap()
		ripe := k.ripe()
		if n := len(ripe); n > 0 && (steps <= 0 || k.rng.IntN(3) == 0) {
			if t := ripe[k.rng.IntN(n)]; t.traced {
				return k.take(t), nil
			}
		}
		if poll && steps <= 0 {
			return tracee.Fact{}, nil
		}
		if k.step() || len(ripe) > 0 {
			continue
		}
		if poll {
			return tracee.Fact{}, nil
		}
		if idle++; k.Disturb != nil && idle < 500 {
			continue // it may do something
		}
		if err := k.idle(); err != nil {
			return tracee.Fact{}, err
		}
	}
}

// reap takes away dead threads that nobody traces.
func (k *Kernel) reap() {
	for tid, t := range k.threads {
		if t.dead && !t.traced && k.last(t) {
			delete(k.threads, tid)
		}
	}
}

func (k *Kernel) disturb() {
	if k.Disturb != nil {
		k.mu.Unlock()
		k.Disturb(k, k.rng)
		k.mu.Lock()
	}
}

func (k *Kernel) anyTraced() bool {
	for _, t := range k.threads {
		if t.traced {
			return true
		}
	}
	return false
}

// patience is how long Next waits where nothing can happen any more unless somebody
// does something.
const patience = 20 * time.Second

// idle waits until somebody does something.
func (k *Kernel) idle() error {
	timer := time.AfterFunc(patience, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.stuck = true
		k.cond.Broadcast()
	})
	defer timer.Stop()
	k.cond.Wait()
	if !k.stuck {
		return nil
	}
	what := "traceetest: nothing can happen any more"
	for _, t := range k.sorted() {
		what += fmt.Sprintf("; %d of %d is %s", t.tid, t.proc.pid, t.state())
	}
	return fmt.Errorf("%s", what)
}

// Run starts a process that nobody traces yet and returns its pid.
func (k *Kernel) Run(p Program) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.start(p).tid
}

// Launch says what the program is that the next execve of a seed executes.
func (k *Kernel) Launch(p Program) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.launched = p
}

// Seed is what has been done to the process that becomes a program.
func (k *Kernel) Seed() *Seed { return &k.seed }
