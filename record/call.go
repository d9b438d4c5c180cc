//go:build linux

// This file records calls: each waits for its turn if it may change mappings, and is
// written with what it changed.

package record

import (
	"memtrace/format"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Entered looks at a call that is about to be made, and has it wait if it may change
// mappings while another one does.
func (r *Recorder) Entered(t *tracee.Thread, c *tracee.Call) (wait bool) {
	r.stacks.entered(t, c)
	r.pauseBefore(t, c)
	r.writes.Entered(t, c)
	r.inside.Entered(t, c)
	effect := space.EffectOf(c.Arch, c.Nr)
	if effect == space.EffNone {
		return false
	}
	m := memoryOf(t)
	threadOf(t).pending = m.table.Before(&c.Call, m.reads(t), m)
	if effect == space.EffUffd || space.MakesUffd(&c.Call) {
		m.yieldUffd()
		r.uffds = true
	}
	return effect.Exclusive() && !m.takeTurn(t)
}

// Returned writes a call at its end, with what the kernel says it changed.
func (r *Recorder) Returned(t *tracee.Thread, c *tracee.Call) {
	r.writes.Returned(t, c)
	r.inside.Returned(t, c)
	m := memoryOf(t)
	effect := space.EffectOf(c.Arch, c.Nr)
	if effect != space.EffNone {
		if effect.Exclusive() {
			r.inside.Settle(&m.inside)
		}
		m.gaveBack = 0
		r.apply(t, m, c, effect)
	}
	if m.Rings {
		ringPaths(r, t, m, c)
	}
	if grown := m.Shared || m.faults != t.Faults; grown && !t.Recording() { // else no mapping has grown by itself
		m.table.Grow(m)
		m.faults = t.Faults
	}
	s := r.capture(m, t, r.when.returned(t, c, r.log.next))
	r.trackLate(m, t)
	if r.set.Has(c.Arch, c.Nr) {
		r.stacks.returned(t, c)
		r.emit(&format.Event{Time: c.Leave, Thread: t.No, Record: syscallOf(t, c), Stack: r.stacks.of(t)})
		if r.opts.Check && effect.Maps() {
			if c := r.check(m, t.No); c != nil {
				r.emit(c)
			}
		}
	}
	r.endCapture(t, s)
	if r.warden == nil {
		m.turnDone(t)
	}
	if effect != space.EffNone && !c.Inside && r.sampler.gaveBackMuch(t.Proc, m.gaveBack) {
		sampleOutOfTurn(r)
	}
}

// Restarted gives the turn away that the call had: it will be made once more.
func (r *Recorder) Restarted(t *tracee.Thread, _ *tracee.Call) { memoryOf(t).turnDone(t) }

// Abandoned writes a call whose thread was killed.
func (r *Recorder) Abandoned(t *tracee.Thread, c *tracee.Call) { r.abandon(t, c) }

// abandon writes a call that the thread will never return from.
func (r *Recorder) abandon(t *tracee.Thread, c *tracee.Call) {
	m := memoryOf(t)
	m.table.Grow(m)
	if space.EffectOf(c.Arch, c.Nr).Maps() && len(m.Threads) > 1 {
		m.table.Refresh(m) // it may have done its work before it was killed
	}
	if r.set.Has(c.Arch, c.Nr) {
		c.Returned = false
		r.emit(&format.Event{Thread: t.No, Record: syscallOf(t, c), Stack: r.stacks.of(t)})
	}
}

// apply has the kernel asked what became of the mappings that a call may have
// changed. It asks also after a failed call: some fail half way.
func (r *Recorder) apply(t *tracee.Thread, m *memory, c *tracee.Call, effect space.Effect) {
	m.table.Apply(&c.Call, threadOf(t).pending, m.reads(t), m)
	ok := c.Failed() == 0
	switch effect {
	case space.EffClone:
		if ok && !r.opts.traces(c.Clone) && c.Clone.SharesMemory() {
			m.sharedUntraced(c.Clone)
		}
	case space.EffPaths:
		if ok {
			r.refreshPaths(c)
		}
	case space.EffClose:
		r.uffdClosed()
	case space.EffRing:
		if ok {
			m.Rings = true
			m.writtenUnseen()
		}
	case space.EffEverybody:
		for o := range r.memories {
			o.table.Refresh(o)
		}
	}
	if m.turn.Overdue() > 0 || m.untracedUsers {
		m.table.Refresh(m) // others may have done something since
	}
}

// refreshPaths serves a call that may have changed the names of files: those of
// every address space that has such a file mapped are read again. A name can only
// change in the component that the call named.
func (r *Recorder) refreshPaths(c *tracee.Call) {
	names := space.LastComponents(&c.Call)
	for m := range r.memories {
		if m.table.Mentions(names) {
			m.table.Refresh(m)
		}
	}
}

// uffdClosed looks at the address spaces that may have been watched by a
// userfaultfd of the program: it ends with its last descriptor.
func (r *Recorder) uffdClosed() {
	if !r.uffds {
		return
	}
	for m := range r.memories {
		if m.ownUffd {
			m.table.Refresh(m)
		}
	}
}
