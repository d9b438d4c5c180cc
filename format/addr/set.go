package addr

import (
	"iter"
	"slices"
	"sort"
)

// Set is a set of addresses: disjoint ranges in ascending order, no two of which
// touch. The zero value is empty. The last address of the 64-bit space is in no
// range, and so in no set. A Set that was assigned to another variable shares its
// memory: Clone makes a copy.
type Set struct{ list []Range }

// SetOf is the set of all addresses of some ranges.
func SetOf(rs ...Range) (s Set) {
	for _, r := range rs {
		s.Add(r)
	}
	return s
}

// Count is the number of ranges.
func (s *Set) Count() int { return len(s.list) }

// Len is the number of addresses.
func (s *Set) Len() (n uint64) {
	for _, r := range s.list {
		n += r.Len()
	}
	return n
}

// search is the index of the first range that ends above a.
func (s *Set) search(a Addr) int {
	return sort.Search(len(s.list), func(i int) bool { return s.list[i].End > a })
}

// overlap is where in the list the ranges are that share an address with r.
func (s *Set) overlap(r Range) (lo, hi int) {
	lo = s.search(r.Start)
	if r.Empty() {
		return lo, lo
	}
	hi = lo + sort.Search(len(s.list)-lo, func(i int) bool { return s.list[lo+i].Start >= r.End })
	return lo, hi
}

// All yields the ranges in ascending order. The set must not be changed meanwhile.
func (s *Set) All() iter.Seq[Range] { return slices.Values(s.list) }

// Within yields the parts of the set that lie in r, in ascending order. The set
// must not be changed meanwhile.
func (s *Set) Within(r Range) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		lo, hi := s.overlap(r)
		for _, in := range s.list[lo:hi] {
			if !yield(in.Intersect(r)) {
				return
			}
		}
	}
}

// Gaps yields the parts of r that are not in the set, in ascending order. The set
// must not be changed meanwhile.
func (s *Set) Gaps(r Range) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for in := range s.Within(r) {
			if r.Start < in.Start && !yield(Range{r.Start, in.Start}) {
				return
			}
			r.Start = in.End
		}
		if !r.Empty() {
			yield(r)
		}
	}
}

// Overlaps says whether an address of r is in the set.
func (s *Set) Overlaps(r Range) bool {
	lo, hi := s.overlap(r)
	return lo < hi
}

// Add puts the addresses of r into the set. It is fast for a range at the end.
func (s *Set) Add(r Range) {
	if r.Empty() {
		return
	}
	n := len(s.list)
	if n == 0 || s.list[n-1].End < r.Start {
		s.list = append(s.list, r)
		return
	}
	lo := sort.Search(n, func(i int) bool { return s.list[i].End >= r.Start })
	hi := lo + sort.Search(n-lo, func(i int) bool { return s.list[lo+i].Start > r.End })
	if lo < hi {
		r = Range{min(r.Start, s.list[lo].Start), max(r.End, s.list[hi-1].End)}
	}
	s.list = slices.Replace(s.list, lo, hi, r)
}

// AddSet puts the addresses of another set into this one.
func (s *Set) AddSet(other Set) {
	a, b := s.list, other.list
	if len(b) == 0 {
		return
	}
	sum := Set{make([]Range, 0, len(a)+len(b))}
	for len(a) > 0 || len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].Start < a[0].Start {
			a, b = b, a
		}
		sum.Add(a[0]) // it begins at or above the start of the last
		a = a[1:]
	}
	*s = sum
}

// Remove takes the addresses of r out of the set.
func (s *Set) Remove(r Range) {
	lo, hi := s.overlap(r)
	if lo == hi {
		return
	}
	var ends [2]Range
	rest := ends[:0]
	if first := s.list[lo]; first.Start < r.Start {
		rest = append(rest, Range{first.Start, r.Start})
	}
	if last := s.list[hi-1]; last.End > r.End {
		rest = append(rest, Range{r.End, last.End})
	}
	s.list = slices.Replace(s.list, lo, hi, rest...)
}

// Take takes the addresses of r out of the set and returns those that were there.
func (s *Set) Take(r Range) (taken Set) {
	for in := range s.Within(r) {
		taken.list = append(taken.list, in)
	}
	s.Remove(r)
	return taken
}

// Move takes the addresses of r out of the set, and puts those that were there to
// the same places from to on. What would lie above the 64-bit space is lost.
func (s *Set) Move(r Range, to Addr) {
	for _, in := range s.Take(r).list {
		if start, ok := to.Add(uint64(in.Start - r.Start)); ok {
			s.Add(Reach(start, in.Len()))
		}
	}
}

// Clone returns an independent copy.
func (s *Set) Clone() Set { return Set{slices.Clone(s.list)} }

// Clear takes everything out and keeps the memory for what is added next.
func (s *Set) Clear() { s.list = s.list[:0] }
