package vma

import (
	"fmt"
	"iter"
	"slices"
	"sort"

	"memtrace/format/addr"
)

// Set is an ordered map of disjoint, non-empty mappings. The zero value is an
// empty set.
type Set struct {
	v []VMA // sorted by Start, disjoint; shared with clones while cow is set
	// cow says that v's array may be seen by another Set and must be copied
	// before it is changed.
	cow bool
}

// NewSet makes a set of mappings in any order. It fails if two overlap or one
// is empty.
func NewSet(vs []VMA) (*Set, error) {
	s := &Set{v: slices.Clone(vs)}
	slices.SortFunc(s.v, func(a, b VMA) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	for i, v := range s.v {
		if v.Empty() {
			return nil, fmt.Errorf("vma: empty mapping at %v", v.Start)
		}
		if i > 0 && s.v[i-1].End > v.Start {
			return nil, fmt.Errorf("vma: mappings %v and %v overlap", s.v[i-1].Range, v.Range)
		}
	}
	return s, nil
}

// Ascending makes a set of mappings that ascend, are disjoint and not empty; it
// keeps vs.
func Ascending(vs []VMA) *Set { return &Set{v: vs} }

// Len is the number of mappings.
func (s *Set) Len() int { return len(s.v) }

// All yields the mappings in ascending order. The set must not be changed
// meanwhile.
func (s *Set) All() iter.Seq[VMA] {
	return func(yield func(VMA) bool) {
		for _, v := range s.v {
			if !yield(v) {
				return
			}
		}
	}
}

// search is the index of the first mapping that ends above a.
func (s *Set) search(a addr.Addr) int {
	return sort.Search(len(s.v), func(i int) bool { return s.v[i].End > a })
}

// Find returns the mapping that holds a.
func (s *Set) Find(a addr.Addr) (VMA, bool) {
	if i := s.search(a); i < len(s.v) && s.v[i].Start <= a {
		return s.v[i], true
	}
	return VMA{}, false
}

// Next returns the first mapping that ends above a: the one that holds a, or
// the next one up.
func (s *Set) Next(a addr.Addr) (VMA, bool) {
	if i := s.search(a); i < len(s.v) {
		return s.v[i], true
	}
	return VMA{}, false
}

// Overlapping yields the mappings that share an address with r, whole (not cut
// to r), in ascending order.
func (s *Set) Overlapping(r addr.Range) iter.Seq[VMA] {
	return func(yield func(VMA) bool) {
		for i := s.search(r.Start); i < len(s.v) && s.v[i].Start < r.End; i++ {
			if !yield(s.v[i]) {
				return
			}
		}
	}
}

// Clone returns an independent copy; the mappings are copied only when either
// side changes.
func (s *Set) Clone() *Set {
	s.cow = true
	return &Set{v: s.v, cow: true}
}

// Insert puts v into the set exactly as it is: what it overlaps is cut away,
// and nothing is merged.
func (s *Set) Insert(v VMA) {
	if v.Empty() {
		return
	}
	s.replace(v.Range, []VMA{v})
}

// Remove takes the addresses of r out of the set; mappings that straddle its
// ends are cut.
func (s *Set) Remove(r addr.Range) {
	if !r.Empty() {
		s.replace(r, nil)
	}
}

// Clear takes everything out.
func (s *Set) Clear() { s.v, s.cow = nil, false }

// replace puts vs, which lie in r, in place of what the set has in r.
func (s *Set) replace(r addr.Range, vs []VMA) {
	lo := s.search(r.Start)
	hi := lo
	for hi < len(s.v) && s.v[hi].Start < r.End {
		hi++
	}
	var buf [3]VMA
	mid := buf[:0]
	if hi > lo && s.v[lo].Start < r.Start {
		mid = append(mid, s.v[lo].Slice(addr.Range{Start: s.v[lo].Start, End: r.Start}))
	}
	mid = append(mid, vs...)
	if hi > lo && s.v[hi-1].End > r.End {
		mid = append(mid, s.v[hi-1].Slice(addr.Range{Start: r.End, End: s.v[hi-1].End}))
	}
	if s.cow {
		s.v, s.cow = slices.Clone(s.v), false
	}
	s.v = slices.Replace(s.v, lo, hi, mid...)
}

// Equal says whether both sets hold the same mappings, boundaries and all.
func (s *Set) Equal(t *Set) bool { return slices.Equal(s.v, t.v) }

// AppendMaps appends the whole set in the format of /proc/PID/maps.
func (s *Set) AppendMaps(b []byte) []byte {
	for _, v := range s.v {
		b = v.AppendMaps(b)
	}
	return b
}

// Edit is a step that turns one set into another: Del is set for a Remove of
// the VMA's range, else it is an Insert of the VMA.
type Edit struct {
	Del bool
	VMA VMA
}

// Apply carries out edits in order.
func (s *Set) Apply(edits []Edit) {
	for _, e := range edits {
		if e.Del {
			s.Remove(e.VMA.Range)
		} else {
			s.Insert(e.VMA)
		}
	}
}

// Update makes the set hold now, in ascending order, in window and nothing else
// there, and returns the edits that do so: few, and none where nothing changed.
// Every mapping of now must lie in window, and the window must not cut one of
// the set's mappings (see Widen).
func (s *Set) Update(window addr.Range, now []VMA) []Edit {
	lo := s.search(window.Start)
	hi := lo
	for hi < len(s.v) && s.v[hi].Start < window.End {
		hi++
	}
	old := s.v[lo:hi]
	if slices.Equal(old, now) {
		return nil
	}
	var edits []Edit
	// Removals first: what is in old and in no new mapping.
	i := 0
	for _, o := range old {
		at := o.Start
		for i < len(now) && now[i].End <= at {
			i++
		}
		for j := i; at < o.End; j++ {
			end := o.End
			if j < len(now) {
				end = min(end, now[j].Start)
			}
			if at < end {
				edits = appendDel(edits, addr.Range{Start: at, End: end})
			}
			if j >= len(now) {
				break
			}
			at = max(at, now[j].End)
		}
	}
	w := &Set{v: slices.Clone(old)}
	w.Apply(edits)
	// Then the new mappings that cutting did not produce by itself; those that
	// differ from the old ones in more than their bounds go first, because
	// cutting them out may shape their neighbours.
	for pass := 0; pass < 2; pass++ {
		for _, n := range now {
			have, ok := w.Find(n.Start)
			if ok && have == n {
				continue
			}
			if pass == 0 && ok && have.Slice(n.Range) == n {
				continue
			}
			w.Insert(n)
			edits = append(edits, Edit{VMA: n})
		}
	}
	s.replace(window, now)
	return edits
}

func appendDel(edits []Edit, r addr.Range) []Edit {
	if n := len(edits); n > 0 && edits[n-1].VMA.End == r.Start {
		edits[n-1].VMA.End = r.End
		return edits
	}
	return append(edits, Edit{Del: true, VMA: VMA{Range: r}})
}

// Widen grows r until it cuts no mapping and takes in the neighbours that touch
// it: those are what the kernel may have merged with.
func (s *Set) Widen(r addr.Range) addr.Range {
	lo := s.search(r.Start)
	if lo > 0 && s.v[lo-1].End == r.Start {
		lo--
	}
	hi := sort.Search(len(s.v), func(i int) bool { return s.v[i].Start > r.End })
	if lo < hi {
		r = r.Union(addr.Range{Start: s.v[lo].Start, End: s.v[hi-1].End})
	}
	return r
}
