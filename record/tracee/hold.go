//go:build linux

// This file stops the threads of an address space together, so that its memory can
// be looked at, and lets them go again.

package tracee

import (
	"time"

	"memtrace/record/ptrace"
)

// Hold stops all threads of an address space that run code of the program. What
// they stopped with is served afterwards, and so they go on. A thread inside a
// system call is left there: if it comes back meanwhile it waits at its exit.
func (g *Group) Hold(s *Space) {
	g.Outside(s)
	if waiting := g.interruptAll(s); waiting > 0 {
		g.awaitHeld(s, waiting)
		g.leaveStopped(s)
	}
	g.awaitQuick(s)
}

// interruptAll asks the threads that run code of the program to stop, and returns
// how many will.
func (g *Group) interruptAll(s *Space) (waiting int) {
	for t := range s.Threads {
		if t.state == Running && (t.asked || g.k.Interrupt(t.TID) == nil) {
			t.asked = true // a stop that was asked for before has not been seen yet
			waiting++
		}
	}
	return waiting
}

// awaitQuick waits for the threads of an address space that are in calls which
// should be over at once: their registers were not read at the beginning.
func (g *Group) awaitQuick(s *Space) {
	begin := time.Now()
	for last := begin; ; {
		var late *Thread
		for t := range s.Threads {
			if t.state == InCall && !t.entry.read && !t.entry.told {
				late = t
			}
		}
		if late == nil {
			return
		}
		f, err := g.facts.source.Next(true)
		switch {
		case err != nil:
			return
		case f.TID != 0:
			g.later(f)
			last = time.Now()
		case time.Since(last) > quickCall, time.Since(begin) > quickAll:
			late.entry.told = true // there is nothing to tell before its next call
		default:
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// LetGo lets the threads of an address space go on that only Hold has stopped. What
// they come to next waits to be served. The stop of one that has a tracer may be that one's, too.
func (g *Group) LetGo(s *Space) {
	if g.pausing {
		return
	}
	var free []*Thread
	g.facts.drop(func(f Fact) bool {
		t := g.threads[f.TID]
		if f.Call != nil || f.Stop.Kind != ptrace.Trap || t == nil || t.Space != s || !t.asked || t.unseen || f.listened || t.traced != nil {
			return false
		}
		t.asked, t.Faults = false, f.Stop.Faults
		free = append(free, t)
		return true
	})
	for _, t := range free {
		g.undo(t)
		g.resume(t, 0)
	}
}

// Standing is a thread that speaks for an address space that is held: one that a
// call can be made in the name of, if there is one; nil if all have ended.
func (g *Group) Standing(s *Space) (at *Thread) {
	for t := range s.Threads {
		if t.over() {
			continue
		}
		if at = t; g.Injectable(t) {
			break
		}
	}
	return at
}
