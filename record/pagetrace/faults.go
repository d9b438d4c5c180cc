//go:build linux

// This file serves the page faults of threads that meet closed memory.

package pagetrace

import (
	"errors"

	"memtrace/format/addr"
	"memtrace/record/tracee"
)

// Faulted opens the block that a thread has met closed, and records the reference.
func (w *Warden) Faulted(t *tracee.Thread, f *tracee.Fault) (ours bool) {
	m, on := w.met(t)
	p, th := &m.trace, w.host.Thread(t)
	if !on {
		late := p.openedLate(th, f)
		if late && w.stripped(t) {
			if s, err := w.step(m, t, f); err == nil {
				w.repair(m, t, s)
				w.done(m, t, s)
			}
		}
		return late
	}
	p.accountFault(t, w.group.Now())
	v, ok := m.Mappings().Find(f.Addr)
	if !ok && f.Addr < p.stack {
		w.grown(m, t)
		v, ok = m.Mappings().Find(f.Addr)
	}
	if !ok || v.Prot&7 == 0 {
		return false
	}
	if p.Opened(f.Addr) {
		// If it was opened since the thread was let go the access is made once more.
		// Else the fault is the program's own.
		stale := p.Since(f.Addr) > th.seen
		th.seen = p.Clock()
		return stale
	}
	if m.changing(t, p.Block(f.Addr)) {
		return true // it comes back until that is over
	}
	x := w.instructionOf(m, t, f)
	f.Plain = x.plain
	s, err := w.step(m, t, f)
	if err != nil { // it has been killed
		return true
	}
	if !x.plain && s.Plain() {
		x.plain = true
		p.code[f.IP()] = x
	}
	if w.ends(p, th, f) && !m.Moving() {
		w.flush(m, t, s)
	}
	th.fault = *f.Regs
	block := p.Block(f.Addr) // of this phase
	handles := w.handles(t)
	opened := false
	if handles && v.Contains(block.Start) && v.Contains(block.End-1) && p.TracesAll(block) {
		ret, err := s.ProtectOnce(block, v.Prot)
		if err != nil { // a signal has come first, or its end
			return true
		}
		opened = ret == 0
	}
	w.ref(m, t, block.Start, f.IP(), kindOf(x, f, v.Prot))
	p.Open(f.Addr)
	if !opened {
		w.openBlock(m, t, s, block)
	}
	if p.late.Count() > 0 && !m.Moving() {
		w.settle(m, t, s)
	}
	if w.stripped(t) {
		w.repair(m, t, s)
	}
	w.done(m, t, s)
	th.met, th.seen = f.IP(), p.Clock()
	return true
}

// ends reports whether the phase ends with a fault. It does not in the middle of an
// instruction that has met one of its pages closed before: that one would be referenced in both phases.
func (w *Warden) ends(p *trace, th *Thread, f *tracee.Fault) bool {
	if !p.Full() && !(w.free() && p.pace.behind(p.Granule(), p.program) && !p.Lifted(nil)) {
		return false
	}
	return th.fault != *f.Regs || p.Count() >= p.Pool()+instructionPages
}

// instructionPages is more than any instruction refers to.
const instructionPages = 16

// openBlock opens what is traced of a block, which may be of more than one mapping.
func (w *Warden) openBlock(m *Space, t *tracee.Thread, s *tracee.Stepper, block addr.Range) {
	for _, part := range m.trace.Traced(block) {
		for v := range m.Mappings().Overlapping(part) {
			if err := w.openPart(s, v.Intersect(part), v.Prot); err != nil {
				w.notOpened(m, t, s, part.Intersect(v.Range), err)
			}
		}
	}
}

// notOpened serves a part of a block that could not be opened: there are too many mappings, or it
// has been unmapped meanwhile.
func (w *Warden) notOpened(m *Space, t *tracee.Thread, s *tracee.Stepper, part addr.Range, err error) {
	if errors.Is(err, tracee.ErrPreempted) {
		return
	}
	p := &m.trace
	if p.Count() > leastPool {
		p.SetPool(max(leastPool, p.Pool()/2))
		w.flush(m, t, s)
		p.Open(part.Start)
		if whole := addr.SetOf(p.Traced(p.Block(part.Start))...); w.open(m, s, whole) == nil {
			return
		}
	}
	if w.open(m, s, addr.SetOf(part)) != nil {
		p.Forget(part) // who meets it once more gets the kernel's answer
	}
}
