// Package refs keeps which blocks of an address space a program may use without being
// seen, and which protections the kernel has because of it. A block is a page, or some
// adjacent ones.
//
// A phase begins with all traced memory closed: its protection in the kernel lets nobody
// in. The first access to a block is seen, and opens it. When as many blocks are open as
// the pool allows all are closed again: the next phase. What the program believes to be
// the protection of its memory is in the table of record/space, and nowhere here.
//
// The package asks no kernel. A Space may be used by one goroutine at a time.
package refs

// This file has a Space: what is traced, open, pinned and held.

import (
	"iter"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Space is an address space whose page references are traced.
type Space struct {
	blocks
	pool   int
	traced addr.Set             // whose protection in the kernel is ours to set
	pins   addr.Set             // never closed: the kernel writes there when it likes
	open   map[addr.Addr]uint64 // blocks of this phase, by their start: when they were opened
	holds  map[any][]held       // of calls in progress, by thread: open until the call is over
	lifts  map[any]uint64       // who has everything open: since when
	clock  uint64               // counts what was opened
	loosed uint64               // when something was pinned or forgotten last, by the clock
	sticks sticking
}

// held is a range that a call holds.
type held struct {
	addr.Range
	since uint64
}

// New makes a Space with blocks of granule bytes, a power of 2 of at least a page, and a
// pool of that many blocks.
func New(granule uint64, pool int) *Space {
	return &Space{blocks: blocks{granule}, pool: pool, open: map[addr.Addr]uint64{}, holds: map[any][]held{}, lifts: map[any]uint64{}}
}

// Fork returns the same for a child, whose memory is a copy. What calls hold is open
// there, too, in its phase.
func (s *Space) Fork() *Space {
	c := New(s.granule, s.pool)
	c.traced, c.pins = s.traced.Clone(), s.pins.Clone()
	for b := range s.open {
		c.Open(b)
	}
	for _, rs := range s.holds { // open in the child, too
		for _, r := range rs {
			for part := range c.traced.Within(r.Range) {
				for b := range c.Blocks(part) {
					c.Open(b.Start)
				}
			}
		}
	}
	return c
}

// Pool is how many blocks may be open, and SetPool changes it.
func (s *Space) Pool() int     { return s.pool }
func (s *Space) SetPool(n int) { s.pool = n }

// Granule is the size of a block.
func (s *Space) Granule() uint64 { return s.granule }

// SetGranule changes the size of a block, to a multiple of what it was, for the phase that
// Flush begins, which has to follow. It returns what has to be opened before: what calls
// hold is of whole blocks.
func (s *Space) SetGranule(granule uint64) (closed addr.Set) {
	old := s.granule
	for _, rs := range s.holds {
		for i := range rs {
			s.granule = granule
			wide := s.Align(rs[i].Range)
			s.granule = old
			closed.AddSet(s.Closed(wide))
			rs[i].Range = wide
		}
	}
	s.granule, s.sticks = granule, sticking{}
	return closed
}

// Traces reports whether the protection at a is ours to set.
func (s *Space) Traces(a addr.Addr) bool { return s.traced.Overlaps(addr.Range{Start: a, End: a + 1}) }

// TracesAll reports whether the protection of all of r is ours to set.
func (s *Space) TracesAll(r addr.Range) bool {
	for part := range s.traced.Within(r) {
		return part == r
	}
	return false
}

// TracedIn yields the parts of r whose protection is ours to set.
func (s *Space) TracedIn(r addr.Range) iter.Seq[addr.Range] { return s.traced.Within(r) }

// Traced are the parts of r whose protection is ours to set.
func (s *Space) Traced(r addr.Range) (parts []addr.Range) {
	return slices.Collect(s.traced.Within(r))
}

// Opened reports whether the program may use what is at a: it is not traced, open, pinned
// or held.
func (s *Space) Opened(a addr.Addr) bool {
	if len(s.lifts) > 0 {
		return true
	}
	at := addr.Range{Start: a, End: a + 1}
	if _, ok := s.open[s.Block(a).Start]; ok || !s.traced.Overlaps(at) || s.pins.Overlaps(at) {
		return true
	}
	return s.Held(a)
}

// Held reports whether a call in progress holds what is at a.
func (s *Space) Held(a addr.Addr) bool {
	if len(s.holds) == 0 {
		return false
	}
	for _, rs := range s.holds {
		for _, r := range rs {
			if r.Contains(a) {
				return true
			}
		}
	}
	return false
}

// Clock counts what has been opened until now.
func (s *Space) Clock() uint64 { return s.clock }

// Since is when what is at a was opened, by the clock. For what is pinned or not traced it is
// when that was last said of anything, 0 for never.
func (s *Space) Since(a addr.Addr) uint64 {
	at := addr.Range{Start: a, End: a + 1}
	if !s.traced.Overlaps(at) || s.pins.Overlaps(at) {
		return s.loosed
	}
	since := s.clock
	if t, ok := s.open[s.Block(a).Start]; ok {
		since = min(since, t)
	}
	for _, t := range s.lifts {
		since = min(since, t)
	}
	for _, rs := range s.holds {
		for _, r := range rs {
			if r.Contains(a) {
				since = min(since, r.since)
			}
		}
	}
	return since
}

// Open opens the block at a.
func (s *Space) Open(a addr.Addr) {
	s.clock++
	s.open[s.Block(a).Start] = s.clock
}

// InPhase reports whether the block at a has been referenced in this phase.
func (s *Space) InPhase(a addr.Addr) bool {
	_, ok := s.open[s.Block(a).Start]
	return ok
}

// Count is how many blocks are open, and Full whether the pool allows no more.
func (s *Space) Count() int { return len(s.open) }
func (s *Space) Full() bool { return len(s.open) >= s.pool && len(s.lifts) == 0 }

// Trace makes the protection of r ours to set. Nothing is closed yet.
func (s *Space) Trace(r addr.Range) { s.traced.Add(r) }

// Forget gives up what is known of the pages of r: it returns those that were traced, which
// are so no more. A block that is traced in part still stays open, if it was.
func (s *Space) Forget(r addr.Range) (was addr.Set) {
	if r = r.PageAlign(); r.Empty() {
		return was
	}
	if was = s.traced.Take(r); was.Count() > 0 {
		s.loose()
	}
	forget := func(b addr.Addr) {
		if !s.traced.Overlaps(s.Block(b)) {
			delete(s.open, b)
			delete(s.sticks.stuck, b)
		}
	}
	for part := range was.All() {
		if part.Len()/s.granule > uint64(len(s.open)) {
			around := s.Align(r)
			for b := range s.open {
				if around.Contains(b) {
					forget(b)
				}
			}
			break
		}
		for b := range s.Blocks(part) {
			forget(b.Start)
		}
	}
	return was
}

// Pin keeps the n bytes at a from being closed.
func (s *Space) Pin(a addr.Addr, n uint64) {
	s.pins.Add(s.Align(addr.Reach(a, n)))
	s.loose()
}

// loose notes that a thread may have met something closed which is not any more.
func (s *Space) loose() {
	s.clock++
	s.loosed = s.clock
}

// Unpin is for memory that is gone.
func (s *Space) Unpin(r addr.Range) { s.pins.Remove(r) }

// Pinned is how many traced blocks have pinned parts.
func (s *Space) Pinned() (n uint64) {
	next := addr.Addr(0) // behind the last block that was counted
	for r := range s.pins.All() {
		for part := range s.traced.Within(r) {
			part = s.Align(part)
			part.Start = max(part.Start, next)
			if !part.Empty() {
				n, next = n+part.Len()/s.granule, part.End
			}
		}
	}
	return n
}

// Hold has the call of a thread hold ranges, in addition to what it holds. It returns the
// parts of them that are closed.
func (s *Space) Hold(key any, rs ...addr.Range) (closed addr.Set) {
	for _, r := range rs {
		if r = s.Align(r); r.Empty() {
			continue
		}
		closed.AddSet(s.Closed(r))
		if len(s.sticks.stuck) > 0 {
			s.sticks.given(s.blocks, r)
		}
		s.clock++
		s.holds[key] = append(s.holds[key], held{r, s.clock})
	}
	return closed
}

// Closed are the parts of r that the program may not use.
func (s *Space) Closed(r addr.Range) (closed addr.Set) {
	if len(s.lifts) > 0 {
		return closed
	}
	for part := range s.traced.Within(r) {
		if part.Len()/s.granule > 4*uint64(len(s.open))+16 {
			closed.AddSet(s.closedIn(part))
			continue
		}
		for b := range s.Blocks(part) {
			if s.InPhase(b.Start) {
				continue
			}
			b = b.Intersect(part)
			closed.Add(b)
			for p := range s.pins.Within(b) {
				closed.Remove(p)
			}
			s.removeHeld(&closed, b)
		}
	}
	return closed
}

// removeHeld takes what calls hold of r out of a set.
func (s *Space) removeHeld(set *addr.Set, r addr.Range) {
	if len(s.holds) == 0 { // it takes time to find that out by an iterator
		return
	}
	for _, rs := range s.holds {
		for _, h := range rs {
			if in := h.Intersect(r); !in.Empty() {
				set.Remove(in)
			}
		}
	}
}

// closedIn is Closed for a range with many more blocks than are open.
func (s *Space) closedIn(r addr.Range) addr.Set {
	closed := addr.SetOf(r)
	var inside []addr.Addr
	for b := range s.open {
		if r.Contains(b) || r.Contains(b+addr.Addr(s.granule)-1) {
			inside = append(inside, b)
		}
	}
	slices.Sort(inside)
	for _, b := range inside {
		closed.Remove(s.Block(b))
	}
	for p := range s.pins.Within(r) {
		closed.Remove(p)
	}
	s.removeHeld(&closed, r)
	return closed
}

// Release ends the hold of a thread's call. touched are the parts that it has used: it
// returns the blocks of them that had not been referenced in this phase, and are open
// from now on, and the parts that have to be closed.
func (s *Space) Release(key any, touched []addr.Range) (first []addr.Addr, closed addr.Set) {
	rs, ok := s.holds[key]
	if !ok {
		return nil, closed
	}
	delete(s.holds, key)
	for _, r := range touched {
		for part := range s.traced.Within(s.Align(r)) {
			for b := range s.Blocks(part) {
				if !s.InPhase(b.Start) && !s.pinned(b.Intersect(part)) {
					s.Open(b.Start)
					first = append(first, b.Start)
				}
			}
		}
	}
	for _, r := range rs {
		closed.AddSet(s.Closed(r.Range))
	}
	s.sticks.opened(s.blocks, s.pool, &closed)
	return first, closed
}

// pinned reports whether all of r is pinned.
func (s *Space) pinned(r addr.Range) bool {
	for range s.pins.Gaps(r) {
		return false
	}
	return true
}

// Drop forgets the hold of a thread that is gone, or has nothing closed.
func (s *Space) Drop(key any) { delete(s.holds, key) }

// Everything is a range that has all that may be traced.
var Everything = addr.Range{End: 1 << 63}

// Lift has everything open for a while. It returns what is closed.
func (s *Space) Lift(key any) (closed addr.Set) {
	closed = s.Closed(Everything)
	s.clock++
	s.lifts[key] = s.clock
	return closed
}

// Lifted reports whether everything is open for key, or with nil for anybody.
func (s *Space) Lifted(key any) bool {
	_, ok := s.lifts[key]
	return ok || key == nil && len(s.lifts) > 0
}

// Unlift ends a Lift. It returns what has to be closed.
func (s *Space) Unlift(key any) (closed addr.Set) {
	if _, ok := s.lifts[key]; !ok {
		return closed
	}
	delete(s.lifts, key)
	return s.Closed(Everything)
}

// Holds reports whether a thread's call holds anything.
func (s *Space) Holds(key any) bool { return len(s.holds[key]) > 0 }

// Churns reports whether it costs more to go on in this phase than to begin another, in
// which blocks stay open that are opened for nothing all the time.
func (s *Space) Churns() bool { return len(s.lifts) == 0 && s.sticks.churn(s.pool, len(s.open)) }

// Stick chooses the blocks that stay open in the phase that Flush begins, which has to
// follow. It returns what has to be opened before.
func (s *Space) Stick() (closed addr.Set) {
	for _, b := range s.sticks.choose(s.pool, func(b addr.Addr) bool { return s.traced.Overlaps(s.Block(b)) }) {
		closed.AddSet(s.Closed(s.Block(b)))
	}
	return closed
}

// Flush begins a new phase. It returns the blocks that stay open in it, for calls that
// hold them or because of Stick.
func (s *Space) Flush() (held []addr.Addr) {
	clear(s.open)
	for b := range s.sticks.stuck {
		s.Open(b)
		held = append(held, b)
	}
	for _, rs := range s.holds {
		for _, r := range rs {
			for part := range s.traced.Within(r.Range) {
				for b := range s.Blocks(part) {
					if !s.InPhase(b.Start) && !s.pinned(b.Intersect(part)) {
						s.Open(b.Start)
						held = append(held, b.Start)
					}
				}
			}
		}
	}
	slices.Sort(held)
	return held
}

// ToClose are the ranges to be closed when a phase begins. Mappings that nobody may use,
// and that are not traced because of that, join those beside them: few calls do.
func (s *Space) ToClose(mappings *vma.Set) (runs []addr.Range) {
	all := s.traced.Clone()
	for v := range mappings.All() {
		if v.Prot&7 == 0 && Traceable(v) {
			all.Add(v.Range)
		}
	}
	for r := range s.pins.All() {
		all.Remove(r)
	}
	for _, rs := range s.holds {
		for _, r := range rs {
			all.Remove(r.Range)
		}
	}
	for b := range s.sticks.stuck {
		all.Remove(s.Block(b))
	}
	for r := range all.All() {
		if s.traced.Overlaps(r) {
			runs = append(runs, r)
		}
	}
	return runs
}

// Traceable says whether the references to a mapping can be seen at all: not to what the
// kernel has mapped for itself or for a device.
func Traceable(v vma.VMA) bool {
	switch v.Kind {
	case vma.VDSO, vma.VVAR, vma.Special:
		return false
	}
	return v.Start < 1<<63
}
