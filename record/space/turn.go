// This file lets calls that change one address space go on one at a time, so that
// the log's order is the kernel's.

package space

import (
	"slices"
	"time"
)

// Patience is how long a call may keep the others of its address space waiting.
// Some calls block for ever: on a page of a FUSE file, or of a userfaultfd.
const Patience = 50 * time.Millisecond

// Turn says whose call may change an address space now. T names a thread. The
// zero value is ready: nobody has the turn.
//
// A thread that keeps its turn for longer than Patience, while others wait, loses
// it. Its call is overdue from then on: what it does to the mappings may show at
// any moment.
type Turn[T comparable] struct {
	holder  T
	held    bool
	queue   []T
	overdue []T
	serial  uint64 // of the turn under way
	timed   bool   // a timer runs
}

// Take asks for the turn for t, which is about to make a call. It reports whether t
// has it; if not, t waits in the queue until Done or Expire names it.
func (u *Turn[T]) Take(t T) bool {
	if u.held {
		u.queue = append(u.queue, t)
		return false
	}
	u.give(t)
	return true
}

func (u *Turn[T]) give(t T) {
	u.holder, u.held = t, true
	u.serial++
}

// Done says that t's call is over, or that t is. If the turn was t's, it returns
// who has it now and may go on; ok is false if there is nobody. It is no mistake
// to say it of a thread that has not had the turn.
func (u *Turn[T]) Done(t T) (next T, ok bool) {
	if i := slices.Index(u.overdue, t); i >= 0 {
		u.overdue = slices.Delete(u.overdue, i, i+1)
	}
	if !u.held || u.holder != t {
		return next, false
	}
	return u.pass()
}

// pass gives the turn to the thread that has waited for it longest.
func (u *Turn[T]) pass() (next T, ok bool) {
	u.holder, u.held = next, false
	if len(u.queue) == 0 {
		return next, false
	}
	next = u.queue[0]
	u.queue = slices.Delete(u.queue, 0, 1)
	u.give(next)
	return next, true
}

// Leave says that t does not wait for the turn any more.
func (u *Turn[T]) Leave(t T) {
	if i := slices.Index(u.queue, t); i >= 0 {
		u.queue = slices.Delete(u.queue, i, i+1)
	}
}

// Busy returns who has the turn.
func (u *Turn[T]) Busy() (t T, ok bool) { return u.holder, u.held }

// Overdue is how many calls are under way that have lost their turn.
func (u *Turn[T]) Overdue() int { return len(u.overdue) }

// Timer is to be called when a thread has been given the turn. start says that the
// caller has to call Expire with serial when Patience is over: no other timer runs.
func (u *Turn[T]) Timer() (serial uint64, start bool) {
	start = u.held && !u.timed
	u.timed = u.timed || start
	return u.serial, start
}

// Expire says that the timer which Timer asked for is over. If the same turn still
// is under way and others wait, its thread loses it: then Expire returns who has it
// now and may go on. Timer is to be called again after it.
func (u *Turn[T]) Expire(serial uint64) (next T, ok bool) {
	u.timed = false
	if !u.held || u.serial != serial || len(u.queue) == 0 {
		return next, false
	}
	u.overdue = append(u.overdue, u.holder)
	return u.pass()
}
