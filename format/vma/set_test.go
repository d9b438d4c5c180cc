package vma

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format/addr"
)

// model is a set as a page table: what each page is mapped as, and which mapping
// it belongs to.
type model [512]struct {
	id  int // 0: nothing
	vma VMA // as it was put in
}

func (m *model) insert(v VMA, id int) {
	m.remove(v.Range)
	for a := v.Start; a < v.End; a += addr.PageSize {
		m[a.Page()].id, m[a.Page()].vma = id, v
	}
}

// remove also makes what is left of a mapping above r one of its own.
func (m *model) remove(r addr.Range) {
	last := m[(r.End - 1).Page()].id
	for a := r.Start; a < r.End; a += addr.PageSize {
		m[a.Page()].id = 0
	}
	if last == 0 {
		return
	}
	for p := r.End.Page(); p < uint64(len(m)) && m[p].id == last; p++ {
		m[p].id = -last - 1<<20*int(r.End.Page())
	}
}

func (m *model) list() (vs []VMA) {
	for p := 0; p < len(m); {
		q := p + 1
		for q < len(m) && m[q].id == m[p].id {
			q++
		}
		if m[p].id != 0 {
			vs = append(vs, m[p].vma.Slice(addr.Range{Start: addr.Addr(p << addr.PageShift), End: addr.Addr(q << addr.PageShift)}))
		}
		p = q
	}
	return vs
}

// check compares everything that a set can be asked with the model.
func (m *model) check(t *testing.T, s *Set, rng *rand.Rand) {
	t.Helper()
	want := m.list()
	if got := slices.Collect(s.All()); !slices.Equal(got, want) || s.Len() != len(want) {
		t.Fatalf("%d mappings %v\nwant %d %v", s.Len(), got, len(want), want)
	}
	if !s.Equal(Ascending(want)) {
		t.Fatal("not equal to itself")
	}
	var text bytes.Buffer
	if err := s.WriteMaps(&text); err != nil || !bytes.Equal(text.Bytes(), s.AppendMaps(nil)) {
		t.Fatal("WriteMaps and AppendMaps differ")
	}
	if sum, _ := s.Sum(); sum != crc32.Checksum(text.Bytes(), castagnoli) {
		t.Fatal("a wrong checksum")
	}
	for i, b := range s.dir {
		if len(b.v) == 0 || len(b.v) > maxBlock {
			t.Fatalf("block %d of %d has %d mappings", i, len(s.dir), len(b.v))
		}
	}
	lo := addr.Addr(rng.IntN(len(m))) << addr.PageShift
	r := addr.Range{Start: lo, End: min(lo+addr.Addr(1+rng.IntN(64))<<addr.PageShift, addr.Addr(len(m)<<addr.PageShift))}
	var over []VMA
	wide := r
	for _, v := range want {
		if v.Overlaps(r) {
			over = append(over, v)
		}
		if v.Overlaps(r) || v.End == r.Start || v.Start == r.End {
			wide = wide.Union(v.Range)
		}
	}
	if got := slices.Collect(s.Overlapping(r)); !slices.Equal(got, over) {
		t.Fatalf("overlapping %v: %v, want %v", r, got, over)
	}
	if got := s.Widen(r); got != wide {
		t.Fatalf("%v widens to %v, want %v", r, got, wide)
	}
	v, ok := s.Find(lo)
	if at := m[lo.Page()]; ok != (at.id != 0) || ok && !v.Contains(lo) {
		t.Fatalf("at %v: %v %v", lo, v, ok)
	}
}

// TestSetModel plays changes on sets and their clones, and compares each with its
// model after every one.
func TestSetModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	type pair struct {
		s *Set
		m *model
	}
	pairs := []pair{{new(Set), new(model)}}
	for step := range 4000 {
		k := rng.IntN(len(pairs))
		p := pairs[k]
		lo := rng.IntN(len(p.m))
		n := 1 + rng.IntN(2)
		if rng.IntN(50) == 0 {
			n = 1 + rng.IntN(len(p.m)/2)
		}
		n = min(n, len(p.m)-lo)
		v := m(addr.Addr(lo), addr.Addr(lo+n), addr.Prot(rng.IntN(4)), [...]string{"", "/a", "[heap]"}[rng.IntN(3)])
		switch op := rng.IntN(40); {
		case op == 0 && len(pairs) < 8:
			c := *p.m
			pairs = append(pairs, pair{p.s.Clone(), &c})
		case op == 1 && len(pairs) > 1:
			pairs = slices.Delete(pairs, k, k+1)
			continue
		case op < 6:
			p.s.Remove(v.Range)
			p.m.remove(v.Range)
		case op < 10: // as a table that learns from the kernel
			now := new(Set)
			*now = *p.s.Clone()
			now.Insert(v)
			all := addr.Range{End: ^addr.Addr(0)}
			old := p.s.Clone()
			old.apply(p.s.Update(all, slices.Collect(now.All())))
			p.m.insert(v, step+1)
			if !old.Equal(p.s) {
				t.Fatalf("step %d: edits give %v, not %v", step, slices.Collect(old.All()), slices.Collect(p.s.All()))
			}
		default:
			p.s.Insert(v)
			p.m.insert(v, step+1)
		}
		p.m.check(t, p.s, rng)
		if step%32 != 0 {
			continue
		}
		for _, p := range pairs {
			p.m.check(t, p.s, rng)
		}
		if o := pairs[rng.IntN(len(pairs))]; len(say(p.s.Diff(o.s))) > 0 {
			back := slices.Collect(o.s.All())
			if got, want := say(p.s.Diff(o.s)), say(Diff(slices.Collect(p.s.All()), back)); got != want {
				t.Fatalf("step %d: difference of sets that share blocks: %s\nof lists: %s", step, got, want)
			}
		}
	}
}

// TestSetMemory holds Took and Memory against each other: what is counted is never
// more than was taken, clones cost what they changed, and blocks are filled.
func TestSetMemory(t *testing.T) {
	const n = 20_000
	for _, order := range []string{"up", "down", "random"} {
		s := filled(n, order)
		if got := s.Memory(new(Counted)); got > s.Took() || got > 3*n*Bytes || got < n*Bytes {
			t.Errorf("%s: %d bytes for %d mappings, %d taken", order, got, n, s.Took())
		}
		if got := s.Memory(new(Counted)); order != "random" && got > n*Bytes*5/4 {
			t.Errorf("%s: blocks are not filled: %d bytes for %d mappings", order, got, n)
		}
		var c Counted
		s.Memory(&c)
		clone := s.Clone()
		if got := clone.Memory(&c); got != 0 || clone.Took() != 0 {
			t.Errorf("%s: a clone takes %d bytes, %d taken", order, got, clone.Took())
		}
		clone.Remove(addr.Range{Start: 0x5000, End: 0x6000})
		if got := clone.Memory(&c); got > n*Bytes/32 || clone.Took() < got {
			t.Errorf("%s: a change takes %d bytes, %d taken", order, got, clone.Took())
		}
	}
}

// nth is mapping i of a set of many: neighbours differ.
func nth(i int) VMA {
	return m(addr.Addr(i), addr.Addr(i+1), addr.Read|addr.Prot(i&1)<<1, "")
}

func filled(n int, order string) *Set {
	s := new(Set)
	for _, i := range inOrder(n, order) {
		s.Insert(nth(i))
	}
	return s
}

func inOrder(n int, order string) []int {
	is := make([]int, n)
	for i := range is {
		is[i] = i
	}
	switch order {
	case "down":
		slices.Reverse(is)
	case "random":
		rng := rand.New(rand.NewPCG(1, 2))
		keys := rng.Perm(n)
		slices.SortFunc(is, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	}
	return is
}

// BenchmarkInsert puts as many mappings into a set as a process may have.
func BenchmarkInsert(b *testing.B) {
	for _, order := range []string{"up", "down", "random"} {
		b.Run(order, func(b *testing.B) {
			const n = 65530
			is := inOrder(n, order)
			b.ReportAllocs()
			for b.Loop() {
				s := new(Set)
				for _, i := range is {
					s.Insert(nth(i))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/mapping")
		})
	}
}

// BenchmarkCall is what a recorder does at a call that maps one page, with as many
// mappings as a process may have.
func BenchmarkCall(b *testing.B) {
	for _, order := range []string{"up", "down"} {
		b.Run(order, func(b *testing.B) {
			s := filled(65530, order)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v := nth(i * 7919 % 65530)
				w := s.Widen(v.Range)
				now := slices.Collect(s.Overlapping(w))
				s.Remove(v.Range)
				s.Update(w, now)
			}
		})
	}
}

// BenchmarkSum is what comparing a large set with the kernel's table costs after a
// change.
func BenchmarkSum(b *testing.B) {
	s := filled(65530, "up")
	for i := 0; b.Loop(); i++ {
		s.Insert(nth(i * 7919 % 65530))
		s.Sum()
	}
}

// BenchmarkClone changes a clone of a large set in one place.
func BenchmarkClone(b *testing.B) {
	for _, n := range []int{100, 65530} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := filled(n, "up")
			b.ReportAllocs()
			for b.Loop() {
				s.Clone().Remove(nth(n / 2).Range)
			}
		})
	}
}
