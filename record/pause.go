//go:build linux

// This file has a thread wait at a stop while somebody looks at it. What that one can do
// meanwhile is in look.go.

package record

import (
	"memtrace/format"
	"memtrace/record/tracee"
)

// pauseBefore stops before a call that is to be recorded.
func (r *Recorder) pauseBefore(t *tracee.Thread, c *tracee.Call) {
	if r.opts.Pause == nil || r.group.Over() || !r.set.Has(c.Arch, c.Nr) {
		return
	}
	r.opts.Pause(&Pause{When: Before, TID: t.TID, Call: syscallOf(t, c), r: r})
}

// pauseAfter stops when an event has been written. A Poke is written at a stop. keep
// says that a signal is not to be delivered.
func (r *Recorder) pauseAfter(e *format.Event) (keep bool) {
	if _, poke := e.Record.(*format.Poke); poke || r.opts.Pause == nil || r.group.Over() {
		return false
	}
	p := &Pause{When: After, Event: e, r: r}
	for t := range r.group.Threads() {
		if t.No == e.Thread {
			p.TID = t.TID
		}
	}
	r.opts.Pause(p)
	return p.Keep
}

// Paused stops where Interrupt has asked for it.
func (r *Recorder) Paused(t *tracee.Thread) {
	if r.opts.Pause != nil {
		r.opts.Pause(&Pause{When: Asked, TID: t.TID, r: r})
	}
}
