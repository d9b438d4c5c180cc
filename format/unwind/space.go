package unwind

import (
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Space is what is known of the code of one address space. It is dropped piece by piece as
// mappings change.
type Space struct {
	// MM is a number for the address space, which anonymous modules of it get.
	MM     uint32
	ranges []*codeRange // in ascending order
	last   *codeRange
	anon   []*Module
	reach  int // bytes of stack that the last stacks took, about
}

// codeRange is an executable mapping.
type codeRange struct {
	start, end uint64
	off        uint64 // in the file, of start; of anonymous memory its address
	bias       uint64 // what is added to addresses of the image
	mod        *Module
	img        *image // nil: no tables
}

// NewSpace is for an address space of which nothing is known yet.
func NewSpace(mm uint32) *Space { return &Space{MM: mm} }

// Anonymous reports whether a stack had code without a file.
func (s *Space) Anonymous() bool { return len(s.anon) > 0 }

// search is where in ranges the first is that ends above a.
func (s *Space) search(a uint64) int {
	lo, hi := 0, len(s.ranges)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if s.ranges[m].end > a {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// Changed drops what is known of a range whose mappings have changed.
func (s *Space) Changed(r addr.Range) {
	i := s.search(uint64(r.Start))
	j := i
	for j < len(s.ranges) && s.ranges[j].start < uint64(r.End) {
		j++
	}
	if j > i {
		s.ranges = slices.Delete(s.ranges, i, j)
		s.last = nil
	}
}

// code is the executable mapping that an address is in, nil if it is in none.
func (u *Unwinder) code(pc uint64) *codeRange {
	s := u.space
	if c := s.last; c != nil && pc >= c.start && pc < c.end {
		return c
	}
	i := s.search(pc)
	if i < len(s.ranges) && s.ranges[i].start <= pc {
		s.last = s.ranges[i]
		return s.last
	}
	v, ok := u.maps.Find(addr.Addr(pc))
	if !ok || v.Prot&addr.Exec == 0 {
		return nil
	}
	c := u.load(v)
	s.ranges = slices.Insert(s.ranges, i, c)
	s.last = c
	return c
}

// maxAnon bounds the anonymous modules of an address space: programs that make code at
// run time may map it in many pieces. What is beyond has the module of the last.
const maxAnon = 256

// load finds out what an executable mapping is.
func (u *Unwinder) load(v vma.VMA) *codeRange {
	c := &codeRange{start: uint64(v.Start), end: uint64(v.End), off: v.Offset}
	if !v.File() && v.Kind != vma.VDSO {
		c.mod, c.off = u.space.anonymous(v), uint64(v.Start)
		return c
	}
	base := v
	if v.Kind != vma.VDSO {
		base = u.base(v)
	}
	img := u.cache.find(u, v, base)
	c.img, c.mod = img, img.mod
	c.bias = uint64(base.Start) - img.base
	if v.Kind == vma.VDSO {
		c.off = 0
	}
	if !img.elf {
		c.img = nil
	}
	return c
}

// anonymous is the module for memory without a file. Neighbours of one name share it.
func (s *Space) anonymous(v vma.VMA) *Module {
	for _, m := range s.anon {
		if m.Path == v.Name {
			return m
		}
	}
	if len(s.anon) >= maxAnon {
		return s.anon[len(s.anon)-1]
	}
	m := &Module{Class: ClassAnon, Path: v.Name, MM: s.MM}
	s.anon = append(s.anon, m)
	return m
}

// maxGap is how far the code of a file may be from its beginning in memory.
const maxGap = 1 << 30

// base is the mapping of the beginning of the file that v is a mapping of: the nearest one
// before it. It is v itself where there is none.
func (u *Unwinder) base(v vma.VMA) vma.VMA {
	same := func(o vma.VMA) bool { return o.Inode == v.Inode && o.Dev == v.Dev }
	b := v
	for range 64 {
		if b.Offset == 0 {
			return b
		}
		o, ok := u.maps.Find(b.Start - 1)
		if !ok || !same(o) || o.Offset > b.Offset {
			break
		}
		b = o
	}
	b = v
	lo := addr.Addr(0)
	if v.Start > maxGap {
		lo = v.Start - maxGap
	}
	for o := range u.maps.Overlapping(addr.Range{Start: lo, End: v.Start}) {
		u.work += workFrame / 4
		if same(o) && o.Offset == 0 {
			b = o
		}
	}
	return b
}
