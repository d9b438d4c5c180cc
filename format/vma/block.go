package vma

import (
	"slices"
	"sort"
	"sync/atomic"

	"memtrace/format/addr"
)

// The mappings of a Set lie in blocks, so that a change costs by the size of a
// block and not by that of the set, and a clone shares all blocks that neither
// side has changed since.

// maxBlock is how many mappings a block may have.
const maxBlock = 128

// block is a part of a Set. It may be changed in place by the Set whose owner it
// has: no other Set sees it then.
type block struct {
	own *owner
	v   []VMA // never empty, but while it is changed
	// sum is what Set.Sum has found of it, 0 for nothing: the checksum of its text,
	// and what that of a text before it is multiplied with.
	sum atomic.Uint64
}

// owner is an identity: it must not be of size 0, or all would be one.
type owner struct{ _ byte }

// What a Set takes, in bytes.
const (
	Bytes      = 64 // a mapping
	blockBytes = 56 // with its place in the directory
)

// place is where a mapping is, or where one would be put.
type place struct{ b, i int }

// search is the place of the first mapping that ends above a.
func (s *Set) search(a addr.Addr) place {
	b := sort.Search(len(s.dir), func(i int) bool { v := s.dir[i].v; return v[len(v)-1].End > a })
	if b == len(s.dir) {
		return place{b, 0}
	}
	v := s.dir[b].v
	return place{b, sort.Search(len(v), func(i int) bool { return v[i].End > a })}
}

// at is the mapping at p; ok is false at the end.
func (s *Set) at(p place) (v *VMA, ok bool) {
	if p.b >= len(s.dir) {
		return nil, false
	}
	return &s.dir[p.b].v[p.i], true
}

// next is the place after p.
func (s *Set) next(p place) place {
	if p.i++; p.i == len(s.dir[p.b].v) {
		return place{p.b + 1, 0}
	}
	return p
}

// before is the mapping before p; ok is false at the beginning.
func (s *Set) before(p place) (v *VMA, ok bool) {
	if p.i > 0 {
		return &s.dir[p.b].v[p.i-1], true
	}
	if p.b == 0 {
		return nil, false
	}
	w := s.dir[p.b-1].v
	return &w[len(w)-1], true
}

// splice puts vs in place of the mappings from lo to hi (exclusive).
func (s *Set) splice(lo, hi place, vs []VMA) {
	if lo == hi && len(vs) == 0 {
		return
	}
	if s.cow {
		s.dir, s.cow = slices.Clone(s.dir), false
		s.took += int64(cap(s.dir)) * 8
	}
	if lo.i == 0 && lo.b > 0 && (lo.b == len(s.dir) || lo == hi && len(s.dir[lo.b].v) >= maxBlock) {
		// Better at the end of the block before.
		end := place{lo.b - 1, len(s.dir[lo.b-1].v)}
		if lo == hi {
			hi = end
		}
		lo = end
	}
	if len(s.dir) == 0 {
		s.dir = append(s.dir, &block{own: s.own})
		s.took += blockBytes
	}
	b := s.mine(lo.b)
	old := cap(b.v)
	s.n += len(vs)
	if hi.b == lo.b {
		s.n -= hi.i - lo.i
		b.v = slices.Replace(b.v, lo.i, hi.i, vs...)
	} else {
		s.n -= len(b.v) - lo.i
		for k := lo.b + 1; k < hi.b; k++ {
			s.n -= len(s.dir[k].v)
		}
		b.v = append(b.v[:lo.i], vs...)
		last := lo.b + 1
		if hi.b < len(s.dir) {
			s.n -= hi.i
			b.v = append(b.v, s.dir[hi.b].v[hi.i:]...)
		}
		s.dir = slices.Delete(s.dir, last, min(hi.b+1, len(s.dir)))
	}
	if cap(b.v) != old {
		s.took += int64(cap(b.v)) * Bytes
	}
	s.fit(lo.b, lo.i, lo.i+len(vs))
}

// mine is block i, which may be changed in place.
func (s *Set) mine(i int) *block {
	b := s.dir[i]
	if b.own != s.own {
		b = &block{own: s.own, v: append(make([]VMA, 0, min(len(b.v)+8, maxBlock)), b.v...)}
		s.took += blockBytes + int64(cap(b.v))*Bytes
		s.dir[i] = b
	}
	b.sum.Store(0)
	return b
}

// fit brings block i, whose mappings from lo to hi (exclusive) are new, to a
// good size.
func (s *Set) fit(i, lo, hi int) {
	b := s.dir[i]
	n := len(b.v)
	switch {
	case n == 0:
		s.dir = slices.Delete(s.dir, i, i+1)
	case n > maxBlock:
		// Where mappings come in ascending or descending order, full blocks
		// stay behind.
		first := n / 2
		if hi == n || n > 2*maxBlock {
			first = maxBlock
		} else if lo == 0 {
			first = n - maxBlock
		}
		var parts []*block
		for v := b.v; len(v) > 0; first = maxBlock {
			k := min(first, len(v))
			part := &block{own: s.own, v: slices.Clone(v[:k])}
			s.took += blockBytes + int64(cap(part.v))*Bytes
			parts = append(parts, part)
			v = v[k:]
		}
		s.dir = slices.Replace(s.dir, i, i+1, parts...)
	case n < maxBlock/4:
		for _, j := range [...]int{i, i - 1} { // the first of the two that become one
			if j < 0 || j+1 >= len(s.dir) || len(s.dir[j].v)+len(s.dir[j+1].v) > maxBlock/2 {
				continue
			}
			b := s.mine(j)
			old := cap(b.v)
			if b.v = append(b.v, s.dir[j+1].v...); cap(b.v) != old {
				s.took += int64(cap(b.v)) * Bytes
			}
			s.dir = slices.Delete(s.dir, j+1, j+2)
			return
		}
	}
}

// Took is how many bytes the set has allocated so far, names included that were
// put in: an upper bound of what it takes.
func (s *Set) Took() int64 { return s.took }

// Counted is what Memory has counted already.
type Counted struct {
	dirs   map[**block]bool
	blocks map[*block]bool
}

// Memory is how many bytes the set takes that are not in c yet: what clones share
// counts once.
func (s *Set) Memory(c *Counted) (n int64) {
	if c.blocks == nil {
		c.dirs, c.blocks = map[**block]bool{}, map[*block]bool{}
	}
	if len(s.dir) == 0 || c.dirs[&s.dir[0]] {
		return 0
	}
	c.dirs[&s.dir[0]] = true
	n = int64(cap(s.dir)) * 8
	for _, b := range s.dir {
		if c.blocks[b] {
			continue
		}
		c.blocks[b] = true
		n += blockBytes + int64(cap(b.v))*Bytes
		name := ""
		for i := range b.v {
			if b.v[i].Name != name { // neighbours share theirs
				name = b.v[i].Name
				n += int64(len(name))
			}
		}
	}
	return n
}
