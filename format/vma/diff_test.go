package vma

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"memtrace/format/addr"
)

func m(start, end addr.Addr, p addr.Prot, name string) VMA {
	v := VMA{Range: addr.Range{Start: start << addr.PageShift, End: end << addr.PageShift}, Prot: p, Name: name}
	if strings.HasPrefix(name, "/") {
		v.Dev, v.Inode, v.Offset = Dev{8, 1}, 7, uint64(v.Start)
	}
	v.Kind = Classify(v)
	return v
}

func say(ds []Delta) string {
	var b strings.Builder
	for _, d := range ds {
		fmt.Fprintf(&b, "%s %x-%x %s %s;", d.Op, uint64(d.VMA.Start>>addr.PageShift), uint64(d.VMA.End>>addr.PageShift), d.VMA.Prot, d.VMA.Name)
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	rw, ro := addr.Read|addr.Write, addr.Read
	for _, c := range []struct {
		name     string
		old, now []VMA
		want     string
	}{
		{"nothing", nil, nil, ""},
		{"grow", []VMA{m(1, 2, rw, "[heap]")}, []VMA{m(1, 4, rw, "[heap]")}, "map 2-4 rw-p [heap];"},
		{"shrink", []VMA{m(1, 4, rw, "")}, []VMA{m(1, 2, rw, "")}, "unmap 2-4 rw-p ;"},
		{"hole", []VMA{m(1, 9, rw, "")}, []VMA{m(1, 3, rw, ""), m(5, 9, rw, "")}, "unmap 3-5 rw-p ;"},
		{"protect in the middle", []VMA{m(1, 9, rw, "/a")}, []VMA{m(1, 3, rw, "/a"), m(3, 5, ro, "/a"), m(5, 9, rw, "/a")}, "protect 3-5 r--p /a;"},
		{"protect joins", []VMA{m(1, 3, rw, ""), m(3, 5, ro, ""), m(5, 9, rw, "")}, []VMA{m(1, 9, rw, "")}, "protect 3-5 rw-p ;"},
		{"deleted file", []VMA{m(1, 3, ro, "/a"), m(3, 4, ro, "/a")}, []VMA{m(1, 4, ro, "/a (deleted)")}, "name 1-4 r--p /a (deleted);"},
		{"replaced", []VMA{m(1, 4, ro, "/a")}, []VMA{m(1, 4, ro, "")}, "unmap 1-4 r--p /a;map 1-4 r--p ;"},
		{"split of look-alikes", []VMA{m(1, 4, rw, "")}, []VMA{m(1, 2, rw, ""), m(2, 4, rw, "")}, ""},
		{"apart", []VMA{m(1, 2, rw, "")}, []VMA{m(5, 6, rw, "")}, "unmap 1-2 rw-p ;map 5-6 rw-p ;"},
	} {
		if got := say(Diff(c.old, c.now)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// A page-by-page model: what Diff says must be what each page says.
func TestDiffModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const pages = 24
	gen := func() *Set {
		s := &Set{}
		for range rng.IntN(8) {
			a := addr.Addr(rng.IntN(pages))
			s.Insert(m(a, a+1+addr.Addr(rng.IntN(6)), addr.Prot(rng.IntN(4)), []string{"", "/a", "[heap]"}[rng.IntN(3)]))
		}
		return s
	}
	at := func(s *Set, p addr.Addr) (VMA, bool) {
		v, ok := s.Find(p << addr.PageShift)
		return v.Slice(addr.Range{Start: p << addr.PageShift, End: (p + 1) << addr.PageShift}), ok
	}
	for range 3000 {
		s, u := gen(), gen()
		ops := map[addr.Addr][]Op{}
		for _, d := range s.Diff(u) {
			for p := d.VMA.Start >> addr.PageShift; p < d.VMA.End>>addr.PageShift; p++ {
				ops[p] = append(ops[p], d.Op)
			}
		}
		for p := addr.Addr(0); p < pages+8; p++ {
			o, oko := at(s, p)
			n, okn := at(u, p)
			var want []Op
			switch {
			case !oko && okn:
				want = []Op{Map}
			case oko && !okn:
				want = []Op{Unmap}
			case !oko || o == n:
			case o.File() != n.File():
				want = []Op{Unmap, Map}
			case o.Prot != n.Prot:
				want = []Op{Protect}
			default:
				want = []Op{Rename}
			}
			if fmt.Sprint(ops[p]) != fmt.Sprint(want) {
				t.Fatalf("page %d: got %v, want %v\nold:\n%s\nnow:\n%s", p, ops[p], want, s.AppendMaps(nil), u.AppendMaps(nil))
			}
		}
	}
}

func TestCut(t *testing.T) {
	s := &Set{}
	s.Insert(m(1, 9, addr.Read, "/a"))
	got := s.Cut(addr.Range{Start: 3 << addr.PageShift, End: 5 << addr.PageShift})
	if len(got) != 1 || got[0] != m(3, 5, addr.Read, "/a") {
		t.Errorf("got %v", got)
	}
}
