//go:build linux

// This file begins a phase after another, with what threads are in the middle of.

package pagetrace

import (
	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// flush begins a new phase: all that is not pinned or held is closed. The other threads
// are held meanwhile, so that none of them uses what is not closed yet.
func (w *Warden) flush(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	p := &m.trace
	if len(m.Threads) > 1 {
		if !w.hold(m) {
			p.missed = true
		}
		defer w.group.LetGo(m.Space)
		for u := range m.Threads {
			if ip := w.host.Thread(u).met; u != t && ip != 0 {
				w.group.Complete(u, ip, func(f *tracee.Fault) bool { return w.completes(m, s, u, f) })
			}
		}
	}
	w.grown(m, t)
	if w.ask.Pool == 0 {
		if g := p.pace.next(p.Space, p.program, w.free()); g != p.Granule() {
			_ = w.open(m, s, p.SetGranule(g))
		}
	}
	if least := 16 * len(m.Threads); p.Pool() < least {
		p.SetPool(least)
	}
	_ = w.open(m, s, p.Stick())
	held := p.Flush()
	w.phase(m, t, held)
	w.closeAll(m, t, s)
}

// completes opens what a held thread needs to execute the instruction that it was let go
// for, in the phase that ends: what has been recorded of it is true then, and each thread
// comes on in each phase. s makes calls for another thread.
func (w *Warden) completes(m *Space, s *tracee.Stepper, t *tracee.Thread, f *tracee.Fault) bool {
	p, th := &m.trace, w.host.Thread(t)
	block := p.Block(f.Addr)
	if !p.Traces(f.Addr) || th.blocked&segvBit != 0 || w.actionsOf(t).handler(int(unix.SIGSEGV)) == sigIgn || m.changing(t, block) {
		return false
	}
	v, ok := m.Mappings().Find(f.Addr)
	if !ok || v.Prot&7 == 0 {
		return false
	}
	if !p.Opened(f.Addr) {
		if w.open(m, s, addr.SetOf(p.Traced(block)...)) != nil {
			return false
		}
		w.ref(m, t, block.Start, f.IP(), kindOf(w.instructionOf(m, t, f), f, v.Prot))
		p.Open(f.Addr)
	}
	th.seen = p.Clock()
	return true
}

// grown has the part of the main stack traced that has come below, without a fault that
// was seen: the pages there have been used in this phase, nobody knows in which order.
func (w *Warden) grown(m *Space, t *tracee.Thread) {
	p := &m.trace
	if p.stack == 0 {
		return
	}
	old := p.stack
	m.Grow()
	v, ok := m.Mappings().Find(old)
	if !ok || v.Start >= old {
		return
	}
	part := addr.Range{Start: v.Start, End: old}
	p.Trace(part)
	p.stack = v.Start
	_, _ = m.Kernel().Scan(part, procfs.PagePresent, procfs.PagePresent, false, 0, func(g procfs.Region) {
		for b := range p.Blocks(g.Range) {
			if !p.InPhase(b.Start) {
				p.Open(b.Start)
				w.ref(m, t, b.Start, 0, format.RefUnknown)
			}
		}
	})
	p.late.AddSet(p.Closed(part))
}

// instructionOf is what is known of the instruction of a fault.
func (w *Warden) instructionOf(m *Space, t *tracee.Thread, f *tracee.Fault) instruction {
	p, ip := &m.trace, f.IP()
	x, known := p.code[ip]
	if !known {
		var code [refs.MaxInstruction]byte
		n := w.group.ReadMem(t, code[:], ip)
		x.access = refs.AccessOf(code[:max(0, n)], !f.I386())
		if len(p.code) > 1<<16 {
			clear(p.code)
		}
		p.code[ip] = x
	}
	return x
}

// kindOf says how an instruction refers to an address of a mapping.
func kindOf(x instruction, f *tracee.Fault, prot addr.Prot) format.RefKind {
	if f.Addr-f.IP() < refs.MaxInstruction && prot&addr.Exec != 0 {
		return format.RefFetch
	}
	return x.access.Kind(f.Addr, f.SP(), f.DI())
}
