package refs

import (
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

const (
	page  = addr.PageSize
	pages = 48 // of the model
)

// model is an address space, a page at a time.
type model struct {
	s       *Space
	granule int // pages of a block
	traced  [pages]bool
	pinned  [pages]bool
	open    map[int]bool // blocks
	held    map[int][][2]int
	lifted  map[int]bool
}

func newModel(granule int) *model {
	return &model{
		s: New(uint64(granule*page), 8), granule: granule, open: map[int]bool{}, held: map[int][][2]int{}, lifted: map[int]bool{},
	}
}

func at(lo, hi int) addr.Range {
	return addr.Range{Start: addr.Addr(lo * page), End: addr.Addr(hi * page)}
}

func (m *model) align(lo, hi int) (int, int) {
	return lo / m.granule * m.granule, (hi + m.granule - 1) / m.granule * m.granule
}

// closed says whether the program may not use a page.
func (m *model) closed(i int) bool {
	if len(m.lifted) > 0 || !m.traced[i] || m.pinned[i] || m.open[i/m.granule] {
		return false
	}
	return !m.holds(i)
}

// holds says whether a call holds a page.
func (m *model) holds(i int) bool {
	for _, hs := range m.held {
		for _, h := range hs {
			if h[0] <= i && i < h[1] {
				return true
			}
		}
	}
	return false
}

func (m *model) set(which func(int) bool) (s addr.Set) {
	for i := range pages {
		if which(i) {
			s.Add(at(i, i+1))
		}
	}
	return s
}

func equal(a, b addr.Set) bool { return slices.Equal(slices.Collect(a.All()), slices.Collect(b.All())) }

func (m *model) check(t *testing.T, what string) {
	t.Helper()
	for i := range pages {
		if got, want := m.s.Opened(addr.Addr(i*page)), !m.closed(i); got != want {
			t.Fatalf("%s: page %d: opened %v, want %v", what, i, got, want)
		}
	}
	for _, r := range []addr.Range{at(0, pages), at(3, 17), at(8, 9)} {
		want := m.set(func(i int) bool { return r.Contains(addr.Addr(i*page)) && m.closed(i) })
		if got := m.s.Closed(r); !equal(got, want) {
			t.Fatalf("%s: closed of %v: %v, want %v", what, r, got, want)
		}
	}
	pinned := 0
	for b := 0; b < pages; b += m.granule {
		for i := b; i < b+m.granule; i++ {
			if m.traced[i] && m.pinned[i] {
				pinned++
				break
			}
		}
	}
	if got := m.s.Pinned(); got != uint64(pinned) {
		t.Fatalf("%s: %d blocks pinned, want %d", what, got, pinned)
	}
	if m.s.Count() != len(m.open) {
		t.Fatalf("%s: %d blocks open, want %d", what, m.s.Count(), len(m.open))
	}
}

// coarsen makes blocks larger, as a phase begins.
func (m *model) coarsen(t *testing.T, granule int) {
	t.Helper()
	was := m.set(m.closed)
	m.granule = granule
	for _, hs := range m.held {
		for i := range hs {
			hs[i][0], hs[i][1] = m.align(hs[i][0], hs[i][1])
		}
	}
	want := m.set(func(i int) bool { return was.Overlaps(at(i, i+1)) && m.holds(i) })
	if got := m.s.SetGranule(uint64(granule * page)); !equal(got, want) {
		t.Fatalf("larger blocks: %v to open, want %v", got, want)
	}
}

// TestSpaceModel compares a Space with the model, through random operations. Blocks of one
// page become larger on the way.
func TestSpaceModel(t *testing.T) {
	for _, granule := range []int{1, 4} {
		m := newModel(granule)
		rnd := rand.New(rand.NewPCG(7, uint64(granule)))
		span := func() (int, int) {
			lo := rnd.IntN(pages)
			return lo, lo + 1 + rnd.IntN(pages-lo)
		}
		for n := range 30000 {
			if n == 10000 || n == 20000 {
				granule = max(granule, n/5000)
				m.coarsen(t, granule)
				m.flush(t)
				m.check(t, "larger blocks")
			}
			lo, hi := span()
			key := rnd.IntN(3)
			what := ""
			switch rnd.IntN(10) {
			case 0:
				what = "trace"
				m.s.Trace(at(lo, hi))
				for i := lo; i < min(hi, pages); i++ {
					m.traced[i] = true
				}
			case 1:
				what = "forget"
				want := m.set(func(i int) bool { return lo <= i && i < hi && m.traced[i] })
				if got := m.s.Forget(at(lo, hi)); !equal(got, want) {
					t.Fatalf("forget %v: %v, want %v", at(lo, hi), got, want)
				}
				for i := range want.All() {
					for n := int(i.Start / page); n < int(i.End/page); n++ {
						m.traced[n] = false
					}
				}
				for b := range m.open {
					if blo, bhi := b*granule, (b+1)*granule; !slices.Contains(m.traced[blo:bhi], true) {
						delete(m.open, b)
					}
				}
			case 2:
				what = "pin"
				m.s.Pin(addr.Addr(lo*page+8), 32)
				plo, phi := m.align(lo, lo+1)
				for i := plo; i < min(phi, pages); i++ {
					m.pinned[i] = true
				}
			case 3:
				what = "unpin"
				lo, hi = m.align(lo, hi)
				m.s.Unpin(at(lo, hi))
				for i := lo; i < min(hi, pages); i++ {
					m.pinned[i] = false
				}
			case 4:
				what = "hold"
				alo, ahi := m.align(lo, hi)
				want := m.set(func(i int) bool { return alo <= i && i < ahi && m.closed(i) })
				if got := m.s.Hold(key, at(lo, hi)); !equal(got, want) {
					t.Fatalf("hold %v: %v to open, want %v", at(lo, hi), got, want)
				}
				m.held[key] = append(m.held[key], [2]int{alo, ahi})
			case 5:
				what = "release"
				m.release(t, key, lo, hi)
			case 6:
				what = "flush"
				m.flush(t)
			case 7, 8:
				what = "open"
				if m.closed(lo) {
					m.s.Open(addr.Addr(lo * page))
					m.open[lo/granule] = true
				}
			case 9:
				what = "lift"
				if m.lifted[key] {
					delete(m.lifted, key)
					if got, want := m.s.Unlift(key), m.set(m.closed); !equal(got, want) {
						t.Fatalf("unlift: %v, want %v", got, want)
					}
				} else {
					if got, want := m.s.Lift(key), m.set(m.closed); !equal(got, want) {
						t.Fatalf("lift: %v, want %v", got, want)
					}
					m.lifted[key] = true
				}
			}
			m.check(t, what)
		}
	}
}

func (m *model) release(t *testing.T, key, lo, hi int) {
	t.Helper()
	held, ok := m.held[key]
	first, closed := m.s.Release(key, []addr.Range{at(lo, hi)})
	if !ok {
		if len(first) > 0 || closed.Count() > 0 {
			t.Fatalf("release without a hold: %v %v", first, closed)
		}
		return
	}
	delete(m.held, key)
	lo, hi = m.align(lo, hi)
	var want []addr.Addr
	for i := lo; i < min(hi, pages); i++ {
		if b := i / m.granule; m.traced[i] && !m.pinned[i] && !m.open[b] {
			m.open[b] = true
			want = append(want, addr.Addr(b*m.granule*page))
		}
	}
	if !slices.Equal(first, want) {
		t.Fatalf("release: first used %v, want %v", first, want)
	}
	toClose := m.set(func(i int) bool {
		return m.closed(i) && slices.ContainsFunc(held, func(h [2]int) bool { return h[0] <= i && i < h[1] })
	})
	if !equal(closed, toClose) {
		t.Fatalf("release: to close %v, want %v", closed, toClose)
	}
}

func (m *model) flush(t *testing.T) {
	t.Helper()
	held := m.s.Flush()
	clear(m.open)
	for _, hs := range m.held {
		for _, h := range hs {
			for i := h[0]; i < min(h[1], pages); i++ {
				if m.traced[i] && !m.pinned[i] {
					m.open[i/m.granule] = true
				}
			}
		}
	}
	var want []addr.Addr
	for b := range m.open {
		want = append(want, addr.Addr(b*m.granule*page))
	}
	slices.Sort(want)
	if !slices.Equal(held, want) {
		t.Fatalf("flush: held %v, want %v", held, want)
	}
	none, _ := vma.NewSet(nil)
	var closes addr.Set
	for _, r := range m.s.ToClose(none) {
		closes.Add(r)
	}
	if want := m.set(func(i int) bool {
		return m.traced[i] && !m.pinned[i] && !m.holds(i)
	}); !equal(closes, want) {
		t.Fatalf("to close: %v, want %v", closes, want)
	}
}

// kernel cuts and joins mappings as the kernel does.
type kernel struct {
	prot [pages]addr.Prot
	id   [pages]int // mappings that can be joined have the same
}

func (k *kernel) raw(closed func(int) bool) (vs []vma.VMA) {
	for i := range pages {
		if k.id[i] == 0 {
			continue
		}
		prot := k.prot[i]
		if closed(i) {
			prot = 0
		}
		if n := len(vs); n > 0 && vs[n-1].End == addr.Addr(i*page) && vs[n-1].Prot == prot && k.id[i] == k.id[i-1] {
			vs[n-1].End += page
			continue
		}
		vs = append(vs, vma.VMA{Range: at(i, i+1), Prot: prot, Kind: vma.AnonPrivate})
	}
	return vs
}

type asked []vma.VMA

func (k asked) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	for _, v := range k {
		if v.End > a {
			return v, true, nil
		}
	}
	return vma.VMA{}, false, nil
}

// TestBelieve closes random parts of random mappings: what the program believes must be
// what there was without that.
func TestBelieve(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var k kernel
		id := 0
		for i := 0; i < pages; {
			n := 1 + rnd.IntN(7)
			prot := []addr.Prot{0, addr.Read, addr.Read | addr.Write, addr.Read | addr.Exec}[rnd.IntN(4)]
			if rnd.IntN(5) > 0 {
				if rnd.IntN(3) > 0 {
					id++
				}
				for j := i; j < min(i+n, pages); j++ {
					k.prot[j], k.id[j] = prot, max(id, 1)
				}
			}
			i += n
		}
		alone := k.raw(func(int) bool { return false })
		table, err := vma.NewSet(alone)
		if err != nil {
			t.Fatal(err)
		}
		s := New(page, 64)
		for v := range table.All() {
			if v.Prot != 0 {
				s.Trace(v.Range)
			}
		}
		for range rnd.IntN(20) {
			if i := rnd.IntN(pages); k.id[i] != 0 {
				s.Open(addr.Addr(i * page))
			}
		}
		raw := k.raw(func(i int) bool { return k.prot[i] != 0 && !s.Opened(addr.Addr(i*page)) })
		if got := s.Believe(nil, raw, table); !slices.Equal(got, alone) {
			t.Fatalf("believed\n%v\nwant\n%v\nraw\n%v", got, alone, raw)
		}
		for i := range pages {
			got, ok, err := s.Mapping(asked(raw), table, addr.Addr(i*page))
			want, wantOK, _ := asked(alone).Mapping(addr.Addr(i * page))
			if err != nil || ok != wantOK || got != want {
				t.Fatalf("mapping at page %d: %v %v, want %v %v", i, got, ok, want, wantOK)
			}
		}
	}
}

// TestBelieveRenamed has a file deleted while it is mapped.
func TestBelieveRenamed(t *testing.T) {
	v := vma.VMA{Range: at(1, 5), Prot: addr.Read, Inode: 7, Name: "/f", Kind: vma.FilePrivate, Offset: page}
	table, _ := vma.NewSet([]vma.VMA{v})
	s := New(page, 64)
	s.Trace(v.Range)
	s.Open(2 * page)
	var raw []vma.VMA
	for i := 1; i < 5; i++ {
		p := v.Slice(at(i, i+1))
		p.Name = "/f (deleted)"
		if i != 2 {
			p.Prot = 0
		}
		raw = append(raw, p)
	}
	want := v
	want.Name = "/f (deleted)"
	if got := s.Believe(nil, raw, table); len(got) != 1 || got[0] != want {
		t.Errorf("believed %v, want %v", got, want)
	}
}

// TestBelieveGrown has the stack grow below what is closed.
func TestBelieveGrown(t *testing.T) {
	v := vma.VMA{Range: at(10, 14), Prot: addr.Read | addr.Write, Name: "[stack]", Kind: vma.MainStack}
	table, _ := vma.NewSet([]vma.VMA{v})
	s := New(page, 64)
	s.Trace(v.Range)
	raw := []vma.VMA{{Range: at(6, 13), Kind: vma.AnonPrivate}, {Range: at(13, 14), Kind: vma.MainStack, Name: "[stack]"}}
	want := v
	want.Start = 6 * page
	if got := s.Believe(nil, raw, table); len(got) != 1 || got[0] != want {
		t.Errorf("believed %v, want %v", got, want)
	}
}

func TestFork(t *testing.T) {
	s := New(page, 64)
	s.Trace(at(0, 8))
	s.Open(0)
	s.Hold("a thread", at(4, 5))
	c := s.Fork()
	for i, want := range []bool{true, false, false, false, true, false, false, false} {
		if got := c.Opened(addr.Addr(i * page)); got != want {
			t.Errorf("page %d of the child: opened %v, want %v", i, got, want)
		}
	}
	c.Open(page)
	if s.InPhase(page) || !c.InPhase(4*page) {
		t.Error("the child shares its parent's phase")
	}
}

// TestLoosed: a thread may have met something closed before it was pinned or forgotten. It
// makes the access once more, and once only.
func TestLoosed(t *testing.T) {
	s := New(4*page, 64)
	s.Trace(at(0, 48))
	seen := s.Clock()
	if a := addr.Addr(2 * page); s.Opened(a) {
		t.Fatal("it is open")
	}
	s.Pin(0, 4) // the block
	if a := addr.Addr(2 * page); !s.Opened(a) || s.Since(a) <= seen || s.Since(a) > s.Clock() {
		t.Errorf("pinned since %d, seen %d", s.Since(a), seen)
	}
	seen = s.Clock()
	s.Forget(at(8, 16))
	if a := addr.Addr(9 * page); !s.Opened(a) || s.Since(a) <= seen || s.Since(a) > s.Clock() {
		t.Errorf("forgotten since %d, seen %d", s.Since(a), seen)
	}
	seen = s.Clock()
	s.Forget(at(8, 16)) // nothing is
	if a := addr.Addr(9 * page); s.Since(a) > seen {
		t.Errorf("forgotten since %d, seen %d", s.Since(a), seen)
	}
}
