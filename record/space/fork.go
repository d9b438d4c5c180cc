// This file makes the table of a forked child.

package space

import (
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Fork makes the table of address space mm, a copy of this one in which the
// kernel has found the mappings vs: not everything is inherited (MADV_DONTFORK,
// MADV_WIPEONFORK). The caller has written the MMNew, with this table's mappings
// in it; w hears what differs. If Fork fails, as New does, w has heard nothing.
func (t *Table) Fork(mm uint32, k Kernel, vs []vma.VMA, w Watcher) (*Table, error) {
	now, err := vma.NewSet(vs)
	if err != nil {
		return nil, err
	}
	var wipe addr.Set
	for at := range t.wipe.All() {
		wipe.AddSet(t.mapped(at)) // the rest has been unmapped
	}
	t.wipe = wipe
	child := &Table{
		mm: mm, kernel: k, noQuery: t.noQuery, mappings: t.mappings.Clone(),
		brk: t.brk, grow: slices.Clone(t.grow), wipe: wipe.Clone(),
	}
	inherited := make([]vma.VMA, 0, now.Len())
	for v := range now.All() {
		// Stacks of threads are known by their kind, which /proc does not tell.
		if o, ok := t.mappings.Find(v.Start); ok && o.Kind == vma.ThreadStack && v.Kind == vma.AnonPrivate && o.Range == v.Range {
			v.Kind = o.Kind
		}
		inherited = append(inherited, v)
	}
	tell(mm, child.mappings.Update(everywhere, inherited), w)
	for at := range wipe.All() {
		w.Change(&format.Pages{MM: mm, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent})
	}
	return child, nil
}
