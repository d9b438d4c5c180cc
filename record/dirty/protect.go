//go:build linux

// This file protects the pages whose writes are traced, and asks which are open.

package dirty

import (
	"maps"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// near is around the pages that are open: those have faults. What others write has none.
func (w *Writes) near() (places addr.Set) {
	for _, a := range slices.Sorted(maps.Keys(w.open)) {
		places.Add(addr.Reach(a-a%block, block))
	}
	return places
}

// protect protects what was written, and adds what has contents of its own to written.
func (w *Writes) protect(places addr.Set, written *addr.Set) error {
	var shared addr.Set
	for at := range places.All() {
		for v := range w.space.Mappings().Overlapping(at) {
			if !w.watches(v) {
				continue
			}
			err := w.finder.Protect(v.Intersect(at), report(v), w.Keep && w.finder.Covers(v), func(g procfs.Region) {
				if wrote(v, g.Categories) {
					written.Add(g.Range)
				}
				if v.Prot&addr.Shared != 0 {
					shared.Add(g.Range)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	w.shared.AddSet(shared)
	return nil
}

// watches says whether the writes to a mapping are traced. Parts of pages of hugetlbfs
// cannot be protected.
func (w *Writes) watches(v vma.VMA) bool { return w.finder.Watches(v) && !Huge(v) }

// unprotected are those of some pages that have contents of their own and are not
// protected. It sorts them.
func (w *Writes) unprotected(pages []addr.Addr) (found addr.Set, err error) {
	slices.Sort(pages)
	grown := false
	for i := 0; i < len(pages); {
		v, ok := w.space.Mappings().Find(pages[i])
		if !ok && !grown {
			grown = true
			w.space.Grow()
			continue
		}
		if !ok || !w.watches(v) {
			i++
			continue
		}
		at := addr.Reach(pages[i], addr.PageSize)
		for i++; i < len(pages) && pages[i] < v.End && pages[i] <= at.End+queryGap; i++ {
			at.End = pages[i] + addr.PageSize
		}
		err = w.finder.Unprotected(at, report(v), func(g procfs.Region) {
			if wrote(v, g.Categories) {
				found.Add(g.Range)
			}
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}
