//go:build linux

// This file waits for what threads report, and keeps it until it is served.

package tracee

import (
	"errors"
	"time"

	"memtrace/record/ptrace"
)

// later keeps a fact for when it can be served. A thread that has stopped stands
// still until then.
func (g *Group) later(f Fact) {
	g.arrived(&f)
	g.facts.keep(f)
}

// arrived notes that a fact has come from its source.
func (g *Group) arrived(f *Fact) {
	t := g.threads[f.TID]
	if t == nil || f.Call != nil {
		return
	}
	f.listened = t.state == Listening
	if t.state != Ending {
		g.become(t, Stopped)
	}
}

// Poll reports whether a thread has come to a stop and waits to be served.
func (g *Group) Poll() bool {
	if len(g.facts.waiting) > 0 {
		return true
	}
	f, err := g.facts.source.Next(true)
	if err != nil || f.TID == 0 {
		return false
	}
	g.later(f)
	return true
}

// Reap keeps what has come to be served.
func (g *Group) Reap() {
	for {
		f, err := g.facts.source.Next(true)
		if err != nil || f.TID == 0 {
			return
		}
		g.later(f)
	}
}

// othersToo takes the stops of other threads, which are served next.
func (g *Group) othersToo() {
	for range len(g.threads) - 1 {
		f, err := g.facts.source.Next(true)
		if err != nil || f.TID == 0 {
			return
		}
		g.later(f)
	}
}

// await waits for as long as some thread is so, and for no longer than patience. What
// threads report meanwhile is kept.
func (g *Group) await(patience time.Duration, so func(*Thread) bool) {
	for begin := time.Now(); time.Since(begin) < patience; {
		waiting := false
		for _, t := range g.threads {
			waiting = waiting || so(t)
		}
		if !waiting {
			return
		}
		switch f, err := g.facts.source.Next(true); {
		case err != nil && !errors.Is(err, ptrace.ErrInterrupted):
			return
		case err == nil && f.TID != 0:
			g.later(f)
		default:
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// holdPatience is how long to wait for a thread that does not stop: one that
// sleeps uninterruptibly in the kernel, which runs no code of the program
// either.
const holdPatience = 50 * time.Millisecond

// awaitHeld waits until so many threads of an address space that have been asked
// have stopped.
func (g *Group) awaitHeld(s *Space, waiting int) {
	wake := time.AfterFunc(holdPatience, func() { _ = g.Ask(func() {}) })
	defer wake.Stop()
	for begin, late := time.Now(), false; waiting > 0 && !late; {
		f, err := g.facts.source.Next(false)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
			late = time.Since(begin) >= holdPatience
			continue
		case err != nil:
			return
		}
		if t := g.threads[f.TID]; t != nil && f.Call == nil && t.Space == s && t.state == Running && t.asked {
			waiting--
		}
		g.later(f)
	}
}

// awaitAsked waits for the threads that have been asked to stop.
func (g *Group) awaitAsked() {
	g.await(holdPatience, func(t *Thread) bool { return t.asked && (t.on() || t.state == Listening) })
}

// stopAllPatience is how long it waits for threads that want a CPU.
const stopAllPatience = 2 * time.Second

// stopAll has all threads stop, also those in calls.
func (g *Group) stopAll() {
	for _, t := range g.threads {
		if t.on() && !t.asked && g.k.Interrupt(t.TID) == nil {
			t.asked = true
		}
	}
	g.await(stopAllPatience, (*Thread).on)
}

// stopSoon waits for a thread that has been let go to stop soon. A thread that was killed
// before may have been let go from the stop at its end instead, and comes to none.
func (g *Group) stopSoon(k steppingKernel, tid int) (ptrace.Stop, error) {
	for {
		stop, err := k.WaitSoon(tid)
		if err != nil || stop.TID != 0 {
			return stop, err
		}
		if task, err := g.k.Task(tid); err != nil || task.State == 'Z' || task.State == 'X' {
			return ptrace.Stop{}, ptrace.ErrGone
		}
		time.Sleep(50 * time.Microsecond)
	}
}
