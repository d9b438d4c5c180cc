//go:build linux

// This file patches the places at which programs make calls, so that they come to our code
// without a stop, and takes the patches away again.

package record

import (
	"maps"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// sites are the places in an address space at which calls are made.
type sites struct {
	windows []*inproc.Window
	patched map[addr.Addr]*inproc.Patch // by site
	stubs   map[addr.Addr]*inproc.Patch // by where a thread in the stub is behind the call; never forgotten
	pads    map[addr.Addr]addr.Addr     // sites, by the padding that is used for them
	stops   map[addr.Addr]int           // how often a thread has stopped there
	never   map[addr.Addr]bool
	wanted  []addr.Addr
}

func newSites() *sites {
	return &sites{patched: map[addr.Addr]*inproc.Patch{}, stubs: map[addr.Addr]*inproc.Patch{}, pads: map[addr.Addr]addr.Addr{}, stops: map[addr.Addr]int{}, never: map[addr.Addr]bool{}}
}

// fork is the sites of a copy of the address space.
func (s *sites) fork() *sites {
	c := newSites()
	for _, w := range s.windows {
		copied := *w
		c.windows = append(c.windows, &copied)
	}
	maps.Copy(c.patched, s.patched)
	maps.Copy(c.stubs, s.stubs)
	maps.Copy(c.pads, s.pads)
	maps.Copy(c.never, s.never)
	return c
}

// hot is how often a thread has to stop at a site before that is patched.
const hot = 3

// stopped notes that a thread has stopped behind a site. It reports whether the site is to
// be patched.
func (s *sites) stopped(behind addr.Addr) bool {
	site := behind - 2
	if s.never[site] || s.patched[site] != nil || s.stubs[behind] != nil {
		return false
	}
	if s.stops[site]++; s.stops[site] != hot {
		return false
	}
	s.wanted = append(s.wanted, site)
	return true
}

// stubAt is the patch whose stub an address is in, nil if it is in none.
func (s *sites) stubAt(a addr.Addr) *inproc.Patch {
	for _, w := range s.windows {
		if addr.Reach(w.Base, inproc.WindowLen).Contains(a) {
			return s.stubs[inproc.StubReturn(w.Base, a)]
		}
	}
	return nil
}

// program is where in the program a thread is that is at an address.
func (s *sites) program(a addr.Addr) addr.Addr {
	if p := s.stubAt(a); p != nil {
		return p.Program(a)
	}
	return a
}

// patchWanted patches the sites that have been found to be worth it. The thread stands
// behind a call; its registers are changed if it stands where it could not go on.
func (m *memory) patchWanted(calls *tracee.Injector, regs *[tracee.MaxRegisters]uint64) {
	s := m.inside.sites
	wanted := s.wanted
	s.wanted = nil
	if len(wanted) > 0 && len(m.Threads) > 1 {
		m.group.Hold(m.Space)
		defer m.group.LetGo(m.Space)
	}
	for _, site := range wanted {
		p := m.patch(calls, site)
		if p == nil {
			continue
		}
		if p.Inside(addr.Addr(regs[arch.RIP])) {
			regs[arch.RIP] = uint64(p.Return())
		}
		if p.Inside(site + 2) {
			for _, o := range m.inside.slots {
				if o != nil && o.thread != nil {
					o.Redirect(site+2, p.Return())
				}
			}
			m.group.PassMiddle(m.Space, site+2)
		}
	}
}

// patch patches one site. It returns nil if that cannot be done, at all or now.
func (m *memory) patch(calls *tracee.Injector, site addr.Addr) *inproc.Patch {
	s := m.inside.sites
	s.never[site] = true
	v, ok := m.Mappings().Find(site)
	if !ok || v.Prot&addr.Write != 0 || v.Prot&addr.Exec == 0 || v.Prot&addr.Shared != 0 || v.Kind == vma.VDSO {
		return nil
	}
	code := make([]byte, min(inproc.SiteLen, v.End-site))
	if n, _ := m.fs.ReadMem(code, site); n != len(code) {
		return nil
	}
	p, ok := inproc.Find(site, code)
	if !ok {
		return nil
	}
	if p.Pad == 0 && len(m.Threads) > 1 && m.group.Returns(m.Space, site+2) {
		delete(s.never, site)
		delete(s.stops, site)
		return nil
	}
	w := m.windowFor(calls, p)
	if w == nil {
		return nil
	}
	writes, ok := p.Apply(w, func(b []byte, a addr.Addr) bool { n, _ := m.fs.ReadMem(b, a); return n == len(b) })
	if !ok || !m.writeAll(writes) {
		return nil
	}
	delete(s.never, site)
	s.patched[site], s.stubs[p.Return()] = p, p
	if p.Pad != 0 {
		s.pads[p.Pad] = site
	}
	return p
}

// windowFor gives a patch a stub, in a new window if need be; nil if there is no room.
func (m *memory) windowFor(calls *tracee.Injector, p *inproc.Patch) *inproc.Window {
	s := m.inside.sites
	for _, w := range s.windows {
		if w.Place(p) {
			return w
		}
	}
	base := m.roomNear(p.Site)
	if base == 0 {
		return nil
	}
	i := installer{in: calls, tid: m.via, m: m}
	if !i.file(base, inproc.WindowLen) {
		return nil
	}
	w := inproc.NewWindow(base)
	if !m.writeAll([]inproc.Write{{At: base, Bytes: m.inside.code.Head()}}) {
		return nil
	}
	s.windows = append(s.windows, w)
	if !w.Place(p) {
		return nil
	}
	return w
}

// writeAll writes to memory that the program may not write to itself.
func (m *memory) writeAll(writes []inproc.Write) bool {
	for _, w := range writes {
		if n, err := m.fs.WriteMem(w.Bytes, w.At); err != nil || n != len(w.Bytes) {
			return false
		}
	}
	return true
}

// roomNear is a place for a window that a site can jump to: a gigabyte away if that is
// free, so that it is in nobody's way. 0 is nowhere.
func (m *memory) roomNear(site addr.Addr) (at addr.Addr) {
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

// ours reports whether something of ours is mapped in a range.
func (m *memory) ours(r addr.Range) bool {
	if m.inside == nil {
		return false
	}
	if r.Overlaps(m.inside.code.Range()) {
		return true
	}
	for _, w := range m.inside.sites.windows {
		if r.Overlaps(addr.Reach(w.Base, inproc.WindowLen)) {
			return true
		}
	}
	return false
}

// unpatchHeld takes the patches of a range away while nobody executes them.
func (m *memory) unpatchHeld(r addr.Range) {
	for _, p := range m.inside.sites.patched {
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
func (m *memory) unpatch(r addr.Range) {
	s := m.inside.sites
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
func (m *memory) settle(regs *[tracee.MaxRegisters]uint64) bool {
	s := m.inside.sites
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
func (m *memory) leaveSite(a addr.Addr) {
	s := m.inside.sites
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

// original puts what the program has into bytes that were read at an address.
func (m *memory) original(b []byte, a addr.Addr) {
	if m.inside == nil {
		return
	}
	r := addr.Reach(a, uint64(len(b)))
	for _, p := range m.inside.sites.patched {
		if p.Overlaps(r) {
			p.Original(b, a)
		}
	}
}
