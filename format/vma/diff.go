package vma

import "memtrace/format/addr"

// Op is what happened to a stretch of addresses between two states.
type Op uint8

// The operations. A stretch whose file or offset became another is an Unmap and
// a Map: nothing of the old mapping is left.
const (
	Map     Op = iota + 1 // there was nothing
	Unmap                 // there is nothing now
	Protect               // other permissions
	Remap                 // moved by mremap: Old is where it was
	Rename                // another name: file renamed or deleted, prctl
	Retype                // another kind: the stretch became a thread's stack
)

var opNames = [...]string{"", "map", "unmap", "protect", "remap", "name", "kind"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Delta is one difference. VMA is the stretch as it is now (for Unmap: as it
// was), cut to what changed; Old is what Protect, Rename, Retype and Remap
// found.
type Delta struct {
	Op       Op
	VMA, Old VMA
}

// Diff compares two ascending lists of disjoint mappings by what their
// addresses mean: a boundary that moved between two look-alikes is no
// difference.
func Diff(old, now []VMA) []Delta { return view(old).Diff(view(now)) }

// view is a set to be looked at, which has vs itself.
func view(vs []VMA) *Set {
	if len(vs) == 0 {
		return new(Set)
	}
	return &Set{dir: []*block{{v: vs}}, n: len(vs)}
}

// Diff lists what changed from s to t.
func (s *Set) Diff(t *Set) []Delta {
	var ds []Delta
	var p, q place
	var at addr.Addr
	for p.b < len(s.dir) || q.b < len(t.dir) {
		if p.b < len(s.dir) && q.b < len(t.dir) && p.i == 0 && q.i == 0 && s.dir[p.b] == t.dir[q.b] {
			// Shared: nothing of it has changed.
			at = s.dir[p.b].v[len(s.dir[p.b].v)-1].End
			p, q = place{p.b + 1, 0}, place{q.b + 1, 0}
			continue
		}
		// The next elementary stretch: from at to the nearest boundary.
		end := addr.Addr(0)
		bound := func(a addr.Addr) {
			if a > at && (end == 0 || a < end) {
				end = a
			}
		}
		var o, n VMA
		if v, ok := s.at(p); ok {
			bound(v.Start)
			bound(v.End)
			o = *v
		}
		if v, ok := t.at(q); ok {
			bound(v.Start)
			bound(v.End)
			n = *v
		}
		if end == 0 { // both lists lie below at: malformed input
			return ds
		}
		r := addr.Range{Start: at, End: end}
		ds = appendDelta(ds, o.Slice(o.Intersect(r)), n.Slice(n.Intersect(r)))
		at = end
		if v, ok := s.at(p); ok && v.End <= at {
			p = s.next(p)
		}
		if v, ok := t.at(q); ok && v.End <= at {
			q = t.next(q)
		}
	}
	return ds
}

// appendDelta compares one elementary stretch of both sides, either of which
// may be empty.
func appendDelta(ds []Delta, o, n VMA) []Delta {
	switch {
	case o.Empty() && n.Empty(), o == n:
		return ds
	case o.Empty():
		return join(ds, Delta{Op: Map, VMA: n})
	case n.Empty():
		return join(ds, Delta{Op: Unmap, VMA: o})
	case o.Dev != n.Dev || o.Inode != n.Inode || o.File() && o.Offset != n.Offset,
		(o.Prot^n.Prot)&addr.Shared != 0:
		// Replaced: widen the last such pair if both halves go on.
		u, m := Delta{Op: Unmap, VMA: o}, Delta{Op: Map, VMA: n}
		if k := len(ds) - 2; k >= 0 && ds[k].goesOn(u) && ds[k+1].goesOn(m) {
			ds[k].widen(u)
			ds[k+1].widen(m)
			return ds
		}
		return append(ds, u, m)
	}
	d := Delta{Op: Retype, VMA: n, Old: o}
	switch {
	case o.Prot != n.Prot:
		d.Op = Protect
	case o.Name != n.Name:
		d.Op = Rename
	}
	return join(ds, d)
}

// join appends d, or widens the last delta when d goes on where it ended.
func join(ds []Delta, d Delta) []Delta {
	if k := len(ds) - 1; k >= 0 && ds[k].goesOn(d) {
		ds[k].widen(d)
		return ds
	}
	return append(ds, d)
}

// goesOn says whether e is the same operation on the stretch right after d's.
func (d Delta) goesOn(e Delta) bool {
	return d.Op == e.Op && continues(d.VMA, e.VMA) && (d.Old.Empty() || continues(d.Old, e.Old))
}

func (d *Delta) widen(e Delta) {
	d.VMA.End = e.VMA.End
	if !d.Old.Empty() {
		d.Old.End = e.Old.End
	}
}

// continues says whether b is what a would be if it went on to b's end.
func continues(a, b VMA) bool {
	if a.End != b.Start {
		return false
	}
	a.End = b.End
	return a.Slice(b.Range) == b
}

// Cut returns the parts of the mappings that lie in r, in ascending order.
func (s *Set) Cut(r addr.Range) []VMA {
	var vs []VMA
	for v := range s.Overlapping(r) {
		vs = append(vs, v.Slice(r))
	}
	return vs
}

// Growth is by how many bytes the delta makes the address space larger.
func (d Delta) Growth() int64 {
	switch d.Op {
	case Map:
		return int64(d.VMA.Len())
	case Unmap:
		return -int64(d.VMA.Len())
	case Remap:
		return int64(d.VMA.Len()) - int64(d.Old.Len())
	}
	return 0
}
