package addr

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const modelTop = 64

// model is a set of the addresses below modelTop, one bit each.
type model uint64

func bits(r Range) (m model) {
	for a := r.Start; a < r.End && a < modelTop; a++ {
		m |= 1 << a
	}
	return m
}

// runs are the ranges of consecutive bits.
func (m model) runs() (rs []Range) {
	for a := Addr(0); a < modelTop; a++ {
		switch n := len(rs); {
		case m>>a&1 == 0:
		case n > 0 && rs[n-1].End == a:
			rs[n-1].End++
		default:
			rs = append(rs, Range{a, a + 1})
		}
	}
	return rs
}

// pair is a set and its model.
type pair struct {
	set  Set
	want model
}

func (p *pair) check(t *testing.T, what string, args ...any) {
	t.Helper()
	if got, want := slices.Collect(p.set.All()), p.want.runs(); !slices.Equal(got, want) {
		t.Fatalf(what+": %v, want %v", append(args, got, want)...)
	}
}

// step does operation op with r, and with to or the other pair, to both sides.
func (p *pair) step(t *testing.T, other *pair, op byte, r Range, to Addr) {
	t.Helper()
	in := bits(r)
	switch op % 7 {
	case 0:
		p.set.Add(r)
		p.want |= in
	case 1:
		p.set.Remove(r)
		p.want &^= in
	case 2:
		taken := pair{p.set.Take(r), p.want & in}
		p.want &^= in
		taken.check(t, "take %v", r)
	case 3:
		was := p.want & in
		p.set.Move(r, to)
		p.want &^= in
		if r.Start < r.End {
			p.want |= was >> r.Start << to
		}
		over := Range{modelTop, ^Addr(0)} // the model goes no further
		p.set.Remove(over)
	case 4:
		p.set.AddSet(other.set)
		p.want |= other.want
		other.check(t, "added to another")
	case 5:
		c := pair{p.set.Clone(), p.want}
		p.set.Clear()
		p.set.Add(r)
		p.want = in
		c.check(t, "clone of what was cleared")
		*other = c
	case 6:
		*p, *other = *other, *p
	}
	p.check(t, "operation %d %v %v", op%7, r, to)
	p.look(t, r)
}

// look asks what does not change anything.
func (p *pair) look(t *testing.T, r Range) {
	t.Helper()
	in := bits(r)
	if got, want := slices.Collect(p.set.Within(r)), (p.want & in).runs(); !slices.Equal(got, want) {
		t.Fatalf("%v within %v: %v, want %v", p.set, r, got, want)
	}
	if got, want := slices.Collect(p.set.Gaps(r)), (in &^ p.want).runs(); !slices.Equal(got, want) {
		t.Fatalf("gaps of %v in %v: %v, want %v", p.set, r, got, want)
	}
	if got, want := p.set.Overlaps(r), p.want&in != 0; got != want {
		t.Fatalf("%v overlaps %v: %v", p.set, r, got)
	}
	var n uint64
	for _, r := range p.want.runs() {
		n += r.Len()
	}
	if p.set.Len() != n || p.set.Count() != len(p.want.runs()) {
		t.Fatalf("%v: %d addresses in %d ranges, want %d in %v", p.set, p.set.Len(), p.set.Count(), n, p.want.runs())
	}
}

func TestSetModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var p, other pair
	for range 30000 {
		a, n := rnd.Uint64N(modelTop), rnd.Uint64N(modelTop/4)
		r := Range{Addr(a), min(Addr(a+n), modelTop)}
		if rnd.IntN(50) == 0 {
			r.Start, r.End = r.End, r.Start // empty
		}
		p.step(t, &other, byte(rnd.IntN(256)), r, Addr(rnd.Uint64N(modelTop)))
	}
}

// FuzzSet reads operations of four bytes.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 3, 9, 0, 1, 5, 6, 0, 3, 0, 9, 20, 5, 1, 2, 0, 4, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var p, other pair
		for ; len(ops) >= 4; ops = ops[4:] {
			r := Range{Addr(ops[1] % modelTop), Addr(ops[2] % (modelTop + 1))}
			p.step(t, &other, ops[0], r, Addr(ops[3]%modelTop))
		}
	})
}

// The ends of the 64-bit space: nothing wraps.
func TestSetEnds(t *testing.T) {
	const end = ^Addr(0)
	all := Range{0, end}
	s := SetOf(Range{end - 10, end}, Range{0, 10}, Range{5, 5}, Range{9, 3})
	is := func(s Set, want ...Range) {
		t.Helper()
		if got := slices.Collect(s.All()); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	is(s, Range{0, 10}, Range{end - 10, end})
	if got := slices.Collect(s.Gaps(all)); !slices.Equal(got, []Range{{10, end - 10}}) {
		t.Errorf("gaps: %v", got)
	}
	c := s.Clone()
	c.Add(Range{10, end - 10})
	is(c, all)
	if c.Len() != uint64(end) {
		t.Errorf("%#x addresses", c.Len())
	}
	c.Move(Range{0, 100}, end-50) // half of it is above
	is(c, Range{100, end})
	c.Move(Range{200, end}, 0)
	is(c, Range{0, end - 200})
	is(c.Take(all), Range{0, end - 200})
	is(c)
	s.Remove(Range{end - 5, end})
	is(s, Range{0, 10}, Range{end - 10, end - 5})
	s.Remove(all)
	is(s)
}

func TestReach(t *testing.T) {
	const end = ^Addr(0)
	for _, c := range []struct {
		got, want Range
	}{
		{Reach(5, 3), Range{5, 8}},
		{Reach(end-5, 100), Range{end - 5, end}},
		{Range{10, 20}.Widen(5), Range{5, 25}},
		{Range{3, end - 3}.Widen(5), Range{0, end}},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}
