//go:build linux

// This file opens what the kernel accesses for calls and signals, and closes it behind them.

package pagetrace

import (
	"errors"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Enters opens what the kernel accesses for a call, and holds it until the call is over.
func (w *Warden) Enters(t *tracee.Thread, c *tracee.Call) {
	m, on := w.on(t)
	if !on {
		return
	}
	p := &m.trace
	if why := w.endsWith(m, t, c); why != "" {
		w.end(m, t, why)
		return
	}
	w.host.Thread(t).dead = m.dead(c)
	w.touch.Read = reads(w.group, t)
	rs, all := w.rangesOf(m, t, c)
	var closed addr.Set
	copies := w.copies(t, c)
	if all || copies {
		p.missed = p.missed || all || len(m.Threads) > 1
		closed = p.Lift(t)
	} else {
		closed = p.Hold(t, rs...)
	}
	pins := w.pinsOf(t, c)
	for _, pin := range pins {
		closed.AddSet(p.Closed(p.Align(pin)))
		p.Pin(pin.Start, pin.Len())
	}
	if closed.Count() > 0 {
		w.admit(m, t, closed)
	} else if len(m.Threads) == 1 {
		p.Drop(t) // nothing is closed while it is in the call
	}
}

// admit opens what is closed before a call.
func (w *Warden) admit(m *Space, t *tracee.Thread, closed addr.Set) {
	p := &m.trace
	s, err := w.step(m, t, nil)
	if err != nil {
		w.host.Lost(t.No, "page references: "+err.Error())
		return
	}
	if code := s.Instruction(); !code.Empty() { // the call is made once more
		closed.AddSet(p.Hold(t, code))
	}
	if p.Churns() && !m.Moving() {
		w.flush(m, t, s)
	}
	if err := w.open(m, s, closed); err != nil && !errors.Is(err, tracee.ErrPreempted) {
		w.host.Lost(t.No, "page references: "+err.Error())
	}
	w.done(m, t, s)
}

// Returns records what a call has accessed, and lets the kernel join what it has mapped
// with what lies beside it.
func (w *Warden) Returns(t *tracee.Thread, c *tracee.Call) {
	m := w.host.Space(t)
	if m.trace.state != traceOn {
		return
	}
	p, th := &m.trace, w.host.Thread(t)
	p.account(t, w.group.Now())
	m.moveGate(c)
	w.learn(t, c)
	if special(c) {
		th.linger = p.Holds(t) || p.Lifted(t) // its signal mask is not the thread's
		return
	}
	w.touch.Read = reads(w.group, t)
	w.release(m, t, c)
	effect := space.EffectOf(c.Arch, c.Nr)
	if !effect.Maps() {
		return
	}
	beside, gone := m.changed(c, effect)
	for _, r := range gone {
		for v := range m.Mappings().Overlapping(r) {
			if v.Prot&addr.Exec != 0 {
				clear(p.code)
			}
		}
	}
	for _, r := range gone { // first: blocks beside may reach into it, and its protection is another by now
		p.Forget(r)
		p.refused.Remove(r)
	}
	if closed := p.Hold(t, beside...); closed.Count() > 0 {
		if s, err := w.step(m, t, nil); err == nil {
			_ = w.open(m, s, closed)
			w.done(m, t, s)
		}
	}
}

// Returned closes what the call held and has not accessed, and what is new.
func (w *Warden) Returned(t *tracee.Thread, c *tracee.Call) {
	defer w.host.TurnDone(t) // nobody maps anything while memory is closed
	m, on := w.on(t)
	if !on {
		return
	}
	p, th := &m.trace, w.host.Thread(t)
	closing := th.closing
	th.closing = addr.Set{}
	effect := space.EffectOf(c.Arch, c.Nr)
	if effect.Maps() {
		_, closed := p.Release(t, nil)
		closing.AddSet(closed)
		fresh := w.adopt(m, m.unused(c, w.host.Thread(t).dead))
		for r := range fresh.All() {
			closing.AddSet(p.Closed(r))
		}
	}
	if (effect == space.EffRing || callName(c) == "io_setup") && c.Failed() == 0 {
		w.end(m, t, "the kernel accesses it for a ring of the program")
		return
	}
	closing.AddSet(p.late)
	p.late = addr.Set{}
	if closing.Count() == 0 && len(p.rooted) == 0 {
		return
	}
	if special(c) || m.Moving() {
		p.late, p.rooted = closing, p.rooted[:0]
		return
	}
	s, err := w.step(m, t, nil)
	if err != nil {
		p.late, p.rooted = closing, p.rooted[:0]
		return
	}
	w.giveBack(m, s)
	w.closeClosed(m, t, s, closing)
	w.done(m, t, s)
}

// Delivers opens the stack that the kernel writes a signal's frame to, and all memory
// before a core is written.
func (w *Warden) Delivers(t *tracee.Thread, sig *tracee.Signal) {
	m, on := w.on(t)
	if !on {
		return
	}
	p := &m.trace
	if sig.Fatal {
		w.end(m, t, "")
		return
	}
	if sig.Regs == nil {
		return
	}
	frame := w.frame(t, spOf(t, sig.Regs), w.actionsOf(t).flags(sig.No)&saOnStack != 0)
	closed := p.Closed(p.Align(frame))
	if closed.Count() == 0 {
		return
	}
	s, err := w.step(m, t, nil)
	if err != nil {
		w.host.Lost(t.No, "page references: "+err.Error())
		return
	}
	_ = w.open(m, s, closed)
	for r := range closed.All() {
		for b := range p.Blocks(r) {
			p.Open(b.Start)
			w.ref(m, t, b.Start, 0, format.RefCall)
		}
	}
	w.done(m, t, s)
}
