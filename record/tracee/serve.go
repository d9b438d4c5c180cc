//go:build linux

// This file serves the tracees one fact after the other, until the last has ended or
// the recording is over, and lets go of them then.

package tracee

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

// Serve calls begin, which launches or attaches, then serves the tracees until the
// last has ended or Finish was called, and calls end. All of it happens on one OS
// thread. Its end has the kernel let go of whatever is still traced, running
// threads without so much as a stop (kernel/exit.c, exit_notify).
func (g *Group) Serve(begin func() error, end func()) (err error) {
	tid := onThread(g.opts.Suits, func() {
		g.suited = g.opts.Suits != nil && g.opts.Suits(unix.Gettid())
		err = g.serveAll(begin)
		g.letAllGo()
		end()
	})
	for path := fmt.Sprintf("/proc/self/task/%d", tid); len(g.threads) > 0 && unix.Access(path, unix.F_OK) == nil; {
		time.Sleep(100 * time.Microsecond) // until it is gone nobody has been let go
	}
	return err
}

func (g *Group) serveAll(begin func() error) error {
	wake, err := g.k.Begin()
	if err != nil {
		return err
	}
	if k, ok := g.k.(dispatchingKernel); ok && g.opts.Inside != nil {
		k.Peek(g.peeked)
	}
	g.keepZombies()
	g.bell.open(wake)
	defer g.bell.close()
	if err := begin(); err != nil {
		return err
	}
	for g.left() && !g.over {
		if g.bell.pending.Load() {
			g.drainInside()
			g.bell.answer()
			continue
		}
		if g.behind() {
			continue
		}
		f, err := g.next()
		switch {
		case err == nil:
			g.serve(f)
		case errors.Is(err, ptrace.ErrInterrupted):
		case errors.Is(err, ptrace.ErrNone):
			return nil
		default:
			return err
		}
	}
	return nil
}

// turnEvery is after how many facts all threads are asked for. wait(2) prefers the youngest
// thread, and that may always be back before any other is found.
const turnEvery = 4

// next is the next fact to be served.
func (g *Group) next() (f Fact, err error) {
	if len(g.facts.waiting) > 0 {
		return g.facts.next()
	}
	found := false
	if g.soon {
		g.soon = false
		if k, ok := g.facts.source.(steppingKernel); ok {
			f, found = k.NextSoon()
		}
	}
	if !found {
		if len(g.nest.zombies.kept) > 0 {
			g.After(endsEvery, func() {})
		}
		f, err = g.facts.next()
	}
	if g.inRow++; err == nil && g.inRow >= turnEvery {
		g.inRow = 0
		g.othersToo()
	}
	return f, err
}

// left reports whether there are tracees to be served: threads, or new ones whose
// parent was killed before it could tell of them. The latter may not have stopped
// yet. Then they are waited for, unless it is the guard that is left, which is a
// child of this thread too.
func (g *Group) left() bool {
	if len(g.threads)+len(g.orphans)+len(g.facts.waiting) > 0 {
		return true
	}
	for begin := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		f, err := g.facts.source.Next(true)
		switch {
		case err == nil && f.TID != 0:
			g.facts.keep(f)
			return true
		case err != nil && !errors.Is(err, ptrace.ErrInterrupted):
			return false
		case g.pins.guard.started || time.Since(begin) > orphanPatience:
			return false
		}
	}
}

// serve serves one fact, and lets its thread go on.
func (g *Group) serve(f Fact) {
	t := g.threads[f.TID]
	switch {
	case t == nil && f.Call == nil:
		g.orphan(f)
		return
	case f.Call != nil:
		if t != nil {
			g.h.Returned(t, f.Call)
		}
		return
	}
	listened := f.listened || t.state == Listening
	g.arrived(&f)
	t.Faults, t.at = f.Stop.Faults, f.Stop.Kind
	if t.stray != nil && g.straggler(t, f) {
		return
	}
	if g.opts.Inside != nil && g.serveStopInside(t, &f) {
		return
	}
	if t.unseen { // it may have been in the middle of changing the mappings
		t.unseen = false
		g.h.Seen(t)
	}
	if t.traced != nil || t.suspended {
		_ = g.matchOptions(t)
	}
	if t.traced != nil {
		t.traced.report = nil // it was killed where it stood, if it did
	}
	ours := t.asked
	if ours {
		// Whatever stop came first has used up our interrupt. If it was the entry
		// of a call, the call finds itself interrupted all the same.
		t.asked = false
		t.interrupted = f.Stop.Kind == ptrace.Syscall || f.Stop.Kind == ptrace.Seccomp
	}
	if t.traced != nil && g.opts.Warden != nil && !g.yields(t, &f) {
		return
	}
	switch f.Stop.Kind {
	case ptrace.Syscall, ptrace.Seccomp:
		g.syscallStop(t)
		g.soon = t.pin.on
	case ptrace.Signal:
		g.signal(t, f.Stop.Sig, ours)
	case ptrace.Group:
		if tr := t.traced; tr != nil && tr.onward && !tr.asked && t.Proc.stopped {
			g.trap(t, false, true) // of an interrupt of ours (kernel/signal.c, do_jobctl_trap)
			break
		}
		g.groupStop(t, f.Stop.Sig, f.past)
	case ptrace.Trap:
		g.trap(t, listened, ours)
	case ptrace.EventFork, ptrace.EventVfork, ptrace.EventClone:
		g.cloned(t, f.Stop.Kind)
	case ptrace.EventExec:
		g.execed(t)
	case ptrace.EventExit:
		g.exiting(g.successor(t, f.Stop.Kind))
	case ptrace.Exited, ptrace.Killed:
		g.exited(g.successor(t, f.Stop.Kind), f.Stop.Status)
	default:
		child, _ := g.k.EventMsg(t.TID)
		g.goOn(t, unix.PTRACE_EVENT_VFORK_DONE, child)
	}
	if ours && g.pausing { // another stop came first
		g.interruptOne()
	}
}

// ServeWaiting serves what has come and waits, and lets those threads go on.
func (g *Group) ServeWaiting() {
	for len(g.facts.waiting) > 0 && !g.over {
		if f, err := g.facts.next(); err == nil {
			g.serve(f)
		}
	}
}

// letAllGo puts back what belongs to the program as it was. The kernel lets the
// tracees go when this thread ends.
func (g *Group) letAllGo() {
	g.leaveAllInside()
	g.freeWarded()
	g.endPauses()
	g.awaitAsked()
	g.awaitRemainders()
	g.letWaitingGo()
	g.letHeldGo()
	g.unpinAll()
	g.pins.guard.stop()
}

// letWaitingGo does for the threads whose stops will not be served any more what
// they would have had: a signal is passed on, a call that we have interrupted is
// made again.
func (g *Group) letWaitingGo() {
	for _, f := range g.facts.waiting {
		t, s := g.threads[f.TID], f.Stop
		switch {
		case t == nil || f.Call != nil:
		case s.Kind == ptrace.Exited, s.Kind == ptrace.Killed:
			g.noteEnd(f.TID, s.Status)
		case g.filter != nil: // it dies with its tracer
		case t.wait.on && t.wait.pauses && s.Kind == ptrace.Syscall:
			g.unpause(t)
		case s.Kind == ptrace.Signal:
			if t.rest != nil {
				g.endRemainder(t)
			}
			_ = g.k.Detach(f.TID, s.Sig)
		case t.rest != nil:
			g.leaveRemainder(t)
		case t.asked && s.Kind == ptrace.Syscall && undoEntry(g.k, f.TID):
		case t.asked && s.Kind == ptrace.Trap, (t.asked || t.interrupted) && s.Kind == ptrace.Syscall:
			undoInterrupt(g.k, f.TID)
		}
		if g.opts.Warden != nil && t != nil && f.Call == nil && s.Kind < ptrace.EventFork && s.Kind != ptrace.Signal {
			_ = g.k.Detach(f.TID, 0) // it may stand at a trap of ours, which the kernel would deliver
		}
	}
	g.facts.waiting = nil
}

// straggler serves the first stop of a thread in which a call was made that did not end
// in time, and reports whether there is nothing else to serve.
func (g *Group) straggler(t *Thread, f Fact) bool {
	s := t.stray
	t.stray = nil
	switch f.Stop.Kind {
	case ptrace.Exited, ptrace.Killed:
		return false
	case ptrace.EventExec: // another thread made it, which has the tid now
		return false
	}
	g.setBack(t, &s.regs, s.mask)
	if f.Stop.Kind != ptrace.Syscall {
		return false
	}
	for _, o := range s.waits {
		g.facts.keep(o) // it stands where it stood then
	}
	if s.waits == nil {
		t.asked = false // the stop has used up our interrupt
		g.resume(t, 0)
	}
	if g.pausing {
		g.interruptOne()
	}
	return true
}
