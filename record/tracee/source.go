//go:build linux

// This file says where facts about threads come from: the kernel, or another Source.
// It keeps those that have come and have not been served.

package tracee

import (
	"slices"

	"memtrace/record/ptrace"
)

// Fact is one thing that a Source tells of a thread: a stop, in which the thread
// stands until it has been served, or a call that it has completed without one.
type Fact struct {
	TID  int // 0: nothing has happened
	Stop ptrace.Stop
	Call *Call // not nil: the call that was completed; there is no Stop

	listened bool // the thread was Listening before
	past     bool // a stop of job control that has ended for the process meanwhile
}

// Source tells what happens to the threads of a Group, in order.
type Source interface {
	// Next waits for the next fact. With poll it returns at once. Its errors are
	// those of ptrace.Wait.
	Next(poll bool) (Fact, error)
}

// facts are a Source and what has come from it before its time: a thread whose
// stop waits here stands still.
type facts struct {
	source  Source
	waiting []Fact
}

// next is the next fact to be served.
func (q *facts) next() (Fact, error) {
	if len(q.waiting) > 0 {
		f := q.waiting[0]
		q.waiting = q.waiting[1:]
		return f, nil
	}
	return q.source.Next(false)
}

// keep has a fact wait to be served.
func (q *facts) keep(f Fact) { q.waiting = append(q.waiting, f) }

// of is the stop of a thread that waits to be served.
func (q *facts) of(tid int) (ptrace.Stop, bool) {
	if f := q.waitingOf(tid); f != nil {
		return f.Stop, true
	}
	return ptrace.Stop{}, false
}

// waitingOf is the first fact of a thread's own that waits, nil for none. It is valid
// until another comes or goes.
func (q *facts) waitingOf(tid int) *Fact {
	for i := range q.waiting {
		if f := &q.waiting[i]; f.TID == tid && f.Call == nil {
			return f
		}
	}
	return nil
}

// drop takes the facts out for which which says so.
func (q *facts) drop(which func(Fact) bool) { q.waiting = slices.DeleteFunc(q.waiting, which) }
