//go:build linux

// This file lists what of an address space a reading goes through, in the order of its plan.

package snapshot

import (
	"cmp"
	"iter"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
)

// Narrowed yields the mappings that a reading ByFault reads only where there were
// faults.
func (r *Reader) Narrowed(m Memory, f dirty.Finder, p Plan) iter.Seq[vma.VMA] {
	return func(yield func(vma.VMA) bool) {
		for v := range m.Mappings().All() {
			if r.narrows(f, v, p) && !yield(v) {
				return
			}
		}
	}
}

func (r *Reader) narrows(f dirty.Finder, v vma.VMA, p Plan) bool {
	return sweepable(f, v) && !r.files.Foreign(v) && !r.files.Changing(v, p.FilesSince)
}

// parts lists what to read, in order, and whether it is narrowed to what had faults:
// only where all was protected when faults began to be watched.
func (r *reading) parts() (parts []vma.VMA, narrowed bool) {
	from := r.state.cursor
	parts = round(r.mem.Mappings(), from, r.plan.Order)
	switch {
	case r.plan.Order == ByFault && from == 0 && r.state.full && !r.state.left:
		if faults, ok := r.plan.Faults(); ok {
			return r.narrow(parts, faults), true
		}
	case r.plan.Order == BySize:
		slices.SortStableFunc(parts, func(a, b vma.VMA) int { return cmp.Compare(a.Len(), b.Len()) })
	case r.plan.Order == Live:
		parts = slices.DeleteFunc(parts, func(v vma.VMA) bool { return !sweepable(r.find, v) })
	}
	return parts, false
}

// round lists the mappings from an address to the end, then those before it.
func round(mappings *vma.Set, from addr.Addr, by Order) []vma.VMA {
	var parts, before []vma.VMA
	for v := range mappings.All() {
		if v.End > from {
			parts = append(parts, v.Slice(addr.Range{Start: max(from, v.Start), End: v.End}))
		}
		if v.Start < from && by != Live {
			before = append(before, v.Slice(addr.Range{Start: v.Start, End: min(from, v.End)}))
		}
	}
	return append(parts, before...)
}

// narrow leaves of the mappings whose writes are found the parts that had a fault or of
// which something is noted.
func (r *reading) narrow(mappings []vma.VMA, faults addr.Set) (parts []vma.VMA) {
	places := faults.Clone()
	for _, noted := range []addr.Set{r.state.fresh, r.state.freed, r.state.lazy} {
		places.AddSet(noted)
	}
	for _, v := range mappings {
		if !r.narrows(r.find, v, r.plan) {
			parts = append(parts, v)
			continue
		}
		for at := range places.Within(v.Range) {
			parts = append(parts, v.Slice(at))
		}
	}
	return parts
}
