package vma

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"

	"memtrace/format/addr"
)

// Set is an ordered map of disjoint, non-empty mappings. The zero value is an
// empty set.
type Set struct {
	dir []*block // in ascending order
	n   int      // mappings
	own *owner
	// cow says that dir may be seen by another Set and must be copied before it
	// is changed.
	cow  bool
	took int64
}

// NewSet makes a set of mappings in any order. It fails if two overlap or one
// is empty.
func NewSet(vs []VMA) (*Set, error) {
	vs = slices.Clone(vs)
	slices.SortFunc(vs, func(a, b VMA) int { return cmp.Compare(a.Start, b.Start) })
	for i, v := range vs {
		if v.Empty() {
			return nil, fmt.Errorf("vma: empty mapping at %v", v.Start)
		}
		if i > 0 && vs[i-1].End > v.Start {
			return nil, fmt.Errorf("vma: mappings %v and %v overlap", vs[i-1].Range, v.Range)
		}
	}
	return Ascending(vs), nil
}

// Ascending makes a set of mappings that ascend, are disjoint and not empty.
func Ascending(vs []VMA) *Set {
	s := new(Set)
	s.splice(place{}, place{}, vs)
	return s
}

// Len is the number of mappings.
func (s *Set) Len() int { return s.n }

// All yields the mappings in ascending order. The set must not be changed
// meanwhile.
func (s *Set) All() iter.Seq[VMA] {
	return func(yield func(VMA) bool) {
		for _, b := range s.dir {
			for _, v := range b.v {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// Find returns the mapping that holds a.
func (s *Set) Find(a addr.Addr) (VMA, bool) {
	if v, ok := s.at(s.search(a)); ok && v.Start <= a {
		return *v, true
	}
	return VMA{}, false
}

// Overlapping yields the mappings that share an address with r, whole (not cut
// to r), in ascending order.
func (s *Set) Overlapping(r addr.Range) iter.Seq[VMA] {
	return func(yield func(VMA) bool) {
		for p := s.search(r.Start); ; p = s.next(p) {
			if v, ok := s.at(p); !ok || v.Start >= r.End || !yield(*v) {
				return
			}
		}
	}
}

// Clone returns an independent copy; what the two share is copied block by block
// as either side changes.
func (s *Set) Clone() *Set {
	s.cow, s.own = true, new(owner)
	return &Set{dir: s.dir, n: s.n, own: new(owner), cow: true}
}

// Insert puts v into the set exactly as it is: what it overlaps is cut away,
// and nothing is merged.
func (s *Set) Insert(v VMA) {
	if v.Empty() {
		return
	}
	s.took += int64(len(v.Name))
	s.replace(v.Range, []VMA{v})
}

// Remove takes the addresses of r out of the set; mappings that straddle its
// ends are cut.
func (s *Set) Remove(r addr.Range) {
	if !r.Empty() {
		s.replace(r, nil)
	}
}

// replace puts vs, which lie in r, in place of what the set has in r.
func (s *Set) replace(r addr.Range, vs []VMA) {
	lo := s.search(r.Start)
	hi := lo
	var left, right VMA // of those that straddle the ends
	for {
		v, ok := s.at(hi)
		if !ok || v.Start >= r.End {
			break
		}
		if v.Start < r.Start {
			left = v.Slice(addr.Range{Start: v.Start, End: r.Start})
		}
		if v.End > r.End {
			right = v.Slice(addr.Range{Start: r.End, End: v.End})
		}
		hi = s.next(hi)
	}
	if !left.Empty() || !right.Empty() {
		all := make([]VMA, 0, len(vs)+2)
		if !left.Empty() {
			all = append(all, left)
		}
		if all = append(all, vs...); !right.Empty() {
			all = append(all, right)
		}
		vs = all
	}
	s.splice(lo, hi, vs)
}

// Equal says whether both sets hold the same mappings, boundaries and all.
func (s *Set) Equal(t *Set) bool {
	if s.n != t.n {
		return false
	}
	for p, q := (place{}), (place{}); p.b < len(s.dir); {
		a, b := s.dir[p.b], t.dir[q.b]
		if a == b && p.i == q.i { // shared
			p, q = place{p.b + 1, 0}, place{q.b + 1, 0}
			continue
		}
		if a.v[p.i] != b.v[q.i] {
			return false
		}
		p, q = s.next(p), t.next(q)
	}
	return true
}

// AppendMaps appends the whole set in the format of /proc/PID/maps.
func (s *Set) AppendMaps(b []byte) []byte {
	for v := range s.All() {
		b = v.AppendMaps(b)
	}
	return b
}

// WriteMaps writes what AppendMaps appends, in pieces.
func (s *Set) WriteMaps(w io.Writer) error {
	var b []byte
	for v := range s.All() {
		if b = v.AppendMaps(b); len(b) >= 64<<10 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	_, err := w.Write(b)
	return err
}

// Edit is a step that turns one set into another: Del is set for a Remove of
// the VMA's range, else it is an Insert of the VMA.
type Edit struct {
	Del bool
	VMA VMA
}

// apply carries out edits in order.
func (s *Set) apply(edits []Edit) {
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
	old := slices.Collect(s.Overlapping(window))
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
	w := Ascending(old)
	w.apply(edits)
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
	out := r
	if v, ok := s.before(lo); ok && v.End == r.Start {
		out.Start = v.Start
	}
	for ; ; lo = s.next(lo) {
		v, ok := s.at(lo)
		if !ok || v.Start > r.End {
			return out
		}
		out = out.Union(v.Range)
	}
}
