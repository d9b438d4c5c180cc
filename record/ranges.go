//go:build linux

package record

import (
	"slices"
	"sort"

	"memtrace/format/addr"
)

// rangeSet is a set of addresses: disjoint ranges in ascending order, no two of
// which touch.
type rangeSet []addr.Range

// merge adds what other holds.
func (s rangeSet) merge(other rangeSet) rangeSet {
	if len(other) == 0 {
		return s
	}
	sum := make(rangeSet, 0, len(s)+len(other))
	for len(s) > 0 || len(other) > 0 {
		if len(s) == 0 || len(other) > 0 && other[0].Start < s[0].Start {
			s, other = other, s
		}
		sum, s = sum.extend(s[0]), s[1:]
	}
	return sum
}

// extend adds a range that begins at or above the start of the last.
func (s rangeSet) extend(r addr.Range) rangeSet {
	if n := len(s); n > 0 && r.Start <= s[n-1].End {
		s[n-1].End = max(s[n-1].End, r.End)
		return s
	}
	return append(s, r)
}

// len is how many addresses there are.
func (s rangeSet) len() (n uint64) {
	for _, r := range s {
		n += r.Len()
	}
	return n
}

// within returns the part of the set that overlaps r; its ends may reach beyond.
func (s rangeSet) within(r addr.Range) rangeSet {
	i := sort.Search(len(s), func(i int) bool { return s[i].End > r.Start })
	j := i + sort.Search(len(s)-i, func(j int) bool { return s[i+j].Start >= r.End })
	return s[i:j]
}

// remove takes r out.
func (s rangeSet) remove(r addr.Range) rangeSet {
	in := s.within(r)
	if len(in) == 0 || r.Empty() {
		return s
	}
	var ends [2]addr.Range
	rest := ends[:0]
	if first := in[0]; first.Start < r.Start {
		rest = append(rest, addr.Range{Start: first.Start, End: r.Start})
	}
	if last := in[len(in)-1]; last.End > r.End {
		rest = append(rest, addr.Range{Start: r.End, End: last.End})
	}
	i := sort.Search(len(s), func(i int) bool { return s[i].End > r.Start })
	return slices.Replace(s, i, i+len(in), rest...)
}
