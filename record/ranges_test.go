//go:build linux

package record

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"memtrace/format/addr"
)

// TestRanges compares the set with one kept as a map.
func TestRanges(t *testing.T) {
	const top = 64
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() addr.Range {
		a := rnd.Uint64N(top)
		return addr.Range{Start: addr.Addr(a), End: addr.Addr(a + rnd.Uint64N(top-a+1))}
	}
	var s rangeSet
	var want [top]bool
	for step := range 20000 {
		r := random()
		set := func(in bool) {
			for a := r.Start; a < r.End; a++ {
				want[a] = in
			}
		}
		if step%2 == 0 {
			var other rangeSet
			for from := addr.Addr(0); from < r.End; from += 9 { // some of it, in pieces
				if p := r.Intersect(addr.Range{Start: from, End: from + 4}); !p.Empty() {
					other = other.extend(p)
					for a := p.Start; a < p.End; a++ {
						want[a] = true
					}
				}
			}
			s = s.merge(other)
		} else {
			s = s.remove(r)
			set(false)
		}
		var got [top]bool
		for i, p := range s {
			if p.Empty() || i > 0 && p.Start <= s[i-1].End {
				t.Fatalf("step %d: %v", step, s)
			}
			for a := p.Start; a < p.End; a++ {
				got[a] = true
			}
		}
		if n := uint64(strings.Count(fmt.Sprint(want), "true")); got != want || s.len() != n {
			t.Fatalf("step %d, %v: %v (%d) is not %v", step, r, s, s.len(), want)
		}
		at := random()
		if at.Empty() {
			continue
		}
		for i, p := range s {
			in := s.within(at)
			if p.Overlaps(at) != (len(in) > 0 && p.Start >= in[0].Start && p.End <= in[len(in)-1].End) {
				t.Fatalf("step %d: %v within %v: %v (range %d)", step, s, at, in, i)
			}
		}
	}
}
