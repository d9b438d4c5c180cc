//go:build linux

// This file patches the places at which programs make calls, so that they come to our code
// without a stop, and takes the patches away again.

package inside

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// patchWanted patches the sites that have been found to be worth it. The thread stands
// behind a call; its registers are changed if it stands where it could not go on.
func (m *Space) patchWanted(calls *tracee.Injector, regs *[tracee.MaxRegisters]uint64) {
	s := m.placed.sites
	wanted := s.wanted
	s.wanted = nil
	if len(wanted) > 0 && len(m.Threads) > 1 {
		m.group.Hold(m.Space)
		defer m.group.LetGo(m.Space)
	}
	for _, site := range wanted {
		if p, w := m.prepare(calls, site); w != nil {
			m.patch(p, w, regs)
		}
	}
}

// patch patches one site, which has its stub in a window. A thread that stands behind the call
// goes on in the stub before that place becomes the middle of a jump: whenever this process
// dies, no thread is there.
func (m *Space) patch(p *inproc.Patch, w *inproc.Window, regs *[tracee.MaxRegisters]uint64) {
	s, site := m.placed.sites, p.Site
	writes, ok := p.Apply(w, func(b []byte, a addr.Addr) bool { n, _ := m.Raw().ReadMem(b, a); return n == len(b) })
	last := len(writes) - 1
	if !ok || !m.writeAll(writes[:last]) {
		return
	}
	s.patched[site], s.stubs[p.Return()] = p, p
	if p.Inside(addr.Addr(regs[arch.RIP])) {
		regs[arch.RIP] = uint64(p.Return())
	}
	if behind := site + 2; p.Inside(behind) {
		for _, o := range m.placed.slots {
			if o != nil && o.thread != nil {
				o.Redirect(behind, p.Return())
			}
		}
		m.group.PassMiddle(m.Space, behind)
	}
	if !m.writeAll(writes[last:]) {
		delete(s.patched, site)
		return
	}
	delete(s.never, site)
	if p.Pad != 0 {
		s.pads[p.Pad] = site
	}
}

// prepare finds a way to patch a site, and gives it a stub in a window, which is nil if that
// cannot be done, at all or now.
func (m *Space) prepare(calls *tracee.Injector, site addr.Addr) (*inproc.Patch, *inproc.Window) {
	s := m.placed.sites
	s.never[site] = true
	v, ok := m.Mappings().Find(site)
	if !ok || v.Prot&addr.Write != 0 || v.Prot&addr.Exec == 0 || v.Prot&addr.Shared != 0 || v.Kind == vma.VDSO {
		return nil, nil
	}
	code := make([]byte, min(inproc.SiteLen, v.End-site))
	if n, _ := m.Raw().ReadMem(code, site); n != len(code) {
		return nil, nil
	}
	p, ok := inproc.Find(site, code)
	if !ok {
		return nil, nil
	}
	if p.Pad == 0 && len(m.Threads) > 1 && m.group.Returns(m.Space, site+2) {
		delete(s.never, site)
		delete(s.stops, site)
		return nil, nil
	}
	return p, m.windowFor(calls, p)
}

// windowFor gives a patch a stub, in a new window if need be; nil if there is no room.
func (m *Space) windowFor(calls *tracee.Injector, p *inproc.Patch) *inproc.Window {
	s := m.placed.sites
	for _, w := range s.windows {
		if w.Place(p) {
			return w
		}
	}
	base := m.roomNear(p.Site)
	if base == 0 {
		return nil
	}
	i := installer{in: calls, tid: m.Via(), raw: m.Raw()}
	if !i.file(base, inproc.WindowLen) {
		return nil
	}
	w := inproc.NewWindow(base)
	if !m.writeAll([]inproc.Write{{At: base, Bytes: m.placed.code.Head()}}) {
		return nil
	}
	s.windows = append(s.windows, w)
	if !w.Place(p) {
		return nil
	}
	return w
}

// writeAll writes to memory that the program may not write to itself.
func (m *Space) writeAll(writes []inproc.Write) bool {
	for _, w := range writes {
		if n, err := m.Raw().WriteMem(w.Bytes, w.At); err != nil || n != len(w.Bytes) {
			return false
		}
	}
	return true
}

// roomNear is a place for a window that a site can jump to: a gigabyte away if that is
// free, so that it is in nobody's way. 0 is nowhere.
func (m *Space) roomNear(site addr.Addr) (at addr.Addr) {
	const far = 1 << 30
	const guard = 1 << 20
	free := func(a addr.Addr) bool {
		r := addr.Range{Start: a - guard, End: a + inproc.WindowLen + guard}
		for range m.Mappings().Overlapping(r) {
			return false
		}
		return !m.ours(r)
	}
	least := addr.Addr(64 << 10)
	if site >= lowest {
		least = lowest
	}
	for d := addr.Addr(far); d >= 4<<20; d /= 2 {
		if a := (site - d).PageDown(); site > d+least+guard && free(a) {
			return a
		}
		if a := (site + d).PageDown(); free(a) {
			return a
		}
	}
	return 0
}

// unpatchHeld takes the patches of a range away while nobody executes them.
func (m *Space) unpatchHeld(r addr.Range) {
	for _, p := range m.placed.sites.patched {
		if !p.Overlaps(r) {
			continue
		}
		if len(m.Threads) > 1 {
			m.group.Hold(m.Space)
			defer m.group.LetGo(m.Space)
		}
		m.unpatch(r)
		return
	}
}

// unpatch takes the patches of a range away.
func (m *Space) unpatch(r addr.Range) {
	s := m.placed.sites
	for site, p := range s.patched {
		if p.Overlaps(r) {
			_ = m.writeAll(p.Undo())
			delete(s.patched, site)
			delete(s.pads, p.Pad)
			delete(s.stops, site)
		}
	}
}

// settle changes the registers of a thread that stands in a stub to what they are for the
// program: it stands where the call is made, or behind that. It reports whether it has.
func (m *Space) settle(regs *[tracee.MaxRegisters]uint64) bool {
	s := m.placed.sites
	ip := addr.Addr(regs[arch.RIP])
	if site, ok := s.pads[ip]; ok { // the jump there may be taken away while it stands
		regs[arch.RIP] = uint64(site)
		return true
	}
	p := s.stubAt(ip)
	if p == nil {
		return false
	}
	to := p.Program(ip)
	if ip == p.Return() {
		regs[arch.RCX] = uint64(to)
	}
	regs[arch.RIP] = uint64(to)
	m.leaveSite(to)
	return true
}

// leaveSite takes away a patch in the middle of which somebody goes on, for good. Where
// others may be about to execute it, it stays: there is a breakpoint.
func (m *Space) leaveSite(a addr.Addr) {
	s := m.placed.sites
	if len(m.Threads) > 1 {
		return
	}
	for site := a - 4; site < a; site++ {
		if p := s.patched[site]; p != nil && p.Inside(a) {
			m.unpatch(addr.Reach(site, 1))
			s.never[site] = true
		}
	}
}
