//go:build linux

// This file knows the places in an address space at which calls are made, and which of them are
// patched.

package inside

import (
	"maps"

	"memtrace/format/addr"
	"memtrace/record/inproc"
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
