// This file turns what the kernel says of mappings into what the program believes.

package refs

import (
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// segment is a part of a mapping as the program believes it to be.
type segment struct {
	vma.VMA
	raw   int       // index of the kernel's mapping that it lies in
	whole addr.Addr // start of the table's mapping that it is of, if traced
	ours  bool      // it is traced
}

// Believe appends to out the mappings that the program would have without us. raw are
// those of the kernel, ascending; table has those of before, which are still true of all
// that is traced: who changes a mapping has it forgotten first.
//
// The kernel cuts mappings where protections differ, and joins them where they are equal
// again. Where both sides are of one mapping of the table such a cut is ours, and nobody
// else's.
func (s *Space) Believe(out, raw []vma.VMA, table *vma.Set) []vma.VMA {
	var last segment
	have := false
	emit := func(g segment) {
		if have && joins(&last, &g) {
			if last.End, last.raw, last.ours, last.whole = g.End, g.raw, g.ours, g.whole; g.Kind == vma.MainStack {
				last.Name, last.Kind = g.Name, g.Kind
			}
			return
		}
		if have {
			out = append(out, last.VMA)
		}
		last, have = g, true
	}
	for i, p := range raw {
		at := p.Start
		for part := range s.traced.Within(p.Range) {
			if at < part.Start {
				emit(s.untraced(p, addr.Range{Start: at, End: part.Start}, i, table))
			}
			for t := range table.Overlapping(part) {
				in := t.Intersect(part)
				g := segment{VMA: t.Slice(in), raw: i, whole: t.Start, ours: true}
				if p.Prot&7 != 0 && p.Prot != t.Prot { // somebody has changed it
					g.VMA = p.Slice(in)
				}
				if p.Inode != 0 { // files are renamed and deleted
					g.Name, g.Dev, g.Inode = p.Name, p.Dev, p.Inode
				}
				if p.Kind == vma.MainStack { // it has become one with the piece that has the name
					g.Name, g.Kind = p.Name, p.Kind
				}
				emit(g)
			}
			at = part.End
		}
		if at < p.End {
			emit(s.untraced(p, addr.Range{Start: at, End: p.End}, i, table))
		}
	}
	if have {
		out = append(out, last.VMA)
	}
	return out
}

// untraced is a part of the kernel's mapping p that is not traced: as the kernel says. A
// stack grows below what is closed, and has its protection there.
func (s *Space) untraced(p vma.VMA, in addr.Range, raw int, table *vma.Set) segment {
	g := segment{VMA: p.Slice(in), raw: raw}
	if in.End < p.End {
		if t, ok := table.Find(in.End); ok && t.Kind == vma.MainStack && t.Start == in.End && (p.Prot&7 == 0 || p.Prot == t.Prot) {
			g.VMA = t
			g.Range = in
		}
	}
	return g
}

// joins reports whether two adjacent segments are one mapping.
func joins(a, b *segment) bool {
	if a.End != b.Start || a.Prot != b.Prot || a.Dev != b.Dev || a.Inode != b.Inode {
		return false
	}
	// Only the piece of the main stack that has the program's arguments is named.
	stack := (a.Kind == vma.MainStack) != (b.Kind == vma.MainStack) && (a.Kind == vma.AnonPrivate || b.Kind == vma.AnonPrivate)
	if !stack && (a.Name != b.Name || a.Kind != b.Kind) {
		return false
	}
	if a.Inode != 0 && a.Offset+uint64(a.End-a.Start) != b.Offset {
		return false
	}
	return a.raw == b.raw || a.ours && b.ours && a.whole == b.whole
}

// Kernel answers which mappings an address space has; see record/space.
type Kernel interface {
	Mapping(a addr.Addr) (v vma.VMA, ok bool, err error)
}

// Mapping is what k.Mapping would answer without us: the mapping that holds a, or the next
// one above it.
func (s *Space) Mapping(k Kernel, table *vma.Set, a addr.Addr) (vma.VMA, bool, error) {
	p, ok, err := k.Mapping(a)
	if err != nil || !ok || !s.traced.Overlaps(p.Range) {
		return p, ok, err
	}
	a = max(a, p.Start)
	if t, ok := table.Find(a); ok {
		if v, ok, err := s.whole(k, t); ok || err != nil {
			return v, ok, err
		}
	}
	window := table.Widen(p.Range)
	for {
		var raw []vma.VMA
		grown := window
		for at := window.Start; at < window.End; {
			v, ok, err := k.Mapping(at)
			if err != nil {
				return v, false, err
			}
			if !ok || v.Start >= window.End {
				break
			}
			raw, grown, at = append(raw, v), grown.Union(v.Range), v.End
		}
		if grown == window {
			for _, v := range s.Believe(nil, raw, table) {
				if v.End > a {
					return v, true, nil
				}
			}
			return vma.VMA{}, false, nil
		}
		window = table.Widen(grown)
	}
}

// whole answers for a mapping of the table that is traced as a whole: the kernel is asked
// about its ends alone, where it may have been joined with another.
func (s *Space) whole(k Kernel, t vma.VMA) (v vma.VMA, ok bool, err error) {
	n := 0
	for part := range s.traced.Within(t.Range) {
		if n++; n > 1 || part != t.Range {
			return v, false, nil
		}
	}
	if n == 0 {
		return v, false, nil
	}
	first, ok, err := k.Mapping(t.Start)
	if err != nil || !ok || first.Start < t.Start && first.Prot == t.Prot || first.Start > t.Start || first.Start < t.Start && t.Kind == vma.MainStack {
		return v, false, err
	}
	last, ok, err := k.Mapping(t.End - 1)
	if err != nil || !ok || last.End > t.End && last.Prot == t.Prot || last.End < t.End {
		return v, false, err
	}
	if first.Inode != 0 {
		t.Name, t.Dev, t.Inode = first.Name, first.Dev, first.Inode
	}
	return t, true, nil
}
