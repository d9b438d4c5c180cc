//go:build linux

// This file answers the questions that finders ask the kernel.

package dirtytest

import (
	"errors"
	"fmt"
	"maps"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// categories are those of procfs.
func (p page) categories(v vma.VMA) (c uint64) {
	switch {
	case p.swapped, !p.there && p.protected: // the kernel marks the place
		c |= procfs.PageSwapped
	case p.there:
		c |= procfs.PagePresent
	}
	if p.there && !p.own && !anonymous(v) {
		c |= procfs.PageIsFile
	}
	if p.zero {
		c |= procfs.PageIsZero
	}
	if !p.protected {
		c |= procfs.PageWritten
	}
	if p.soft {
		c |= procfs.PageSoftDirty
	}
	return c
}

// Scan is that of procfs.Process.
func (m *Memory) Scan(r addr.Range, anyOf, report uint64, protect bool, maxPages uint64, yield func(procfs.Region)) (next addr.Addr, err error) {
	if m.Old {
		return r.End, fmt.Errorf("PAGEMAP_SCAN: %w", errors.ErrUnsupported)
	}
	next = r.End
	var run procfs.Region
	found := uint64(0)
	m.each(r, func(v vma.VMA, a addr.Addr) {
		if err != nil || next < r.End {
			return
		}
		m.step()
		p := m.pages[a]
		c := p.categories(v)
		switch {
		case m.Ended:
			next, err = r.End, procfs.ErrGone
			return
		case protect && !m.watched.Overlaps(addr.Reach(a, 1)):
			next, err = r.Start, procfs.ErrUnwatched
			return
		case c&anyOf == 0:
			return
		}
		if protect {
			p.protected = true
			m.pages[a] = p
		}
		if run.End != a || run.Categories != c&report || run.Empty() {
			if !run.Empty() {
				yield(run)
			}
			run = procfs.Region{Range: addr.Range{Start: a, End: a}, Categories: c & report}
		}
		run.End += addr.PageSize
		if found++; found == maxPages {
			next = a + addr.PageSize
		}
	})
	if !run.Empty() {
		yield(run)
	}
	return next, err
}

// ScanWritten is that of procfs.Process.
func (m *Memory) ScanWritten(r addr.Range, report uint64, protect bool, yield func(procfs.Region)) (err error) {
	m.each(r, func(v vma.VMA, a addr.Addr) {
		m.step()
		p := m.pages[a]
		c := p.categories(v)
		switch watched := m.watched.Overlaps(addr.Reach(a, 1)); {
		case m.Ended:
			err = procfs.ErrGone
		case c&procfs.PageWritten == 0, c&(procfs.PagePresent|procfs.PageSwapped) == 0, protect && !watched:
		default:
			p.protected = p.protected || protect
			m.pages[a] = p
			yield(procfs.Region{Range: addr.Reach(a, addr.PageSize), Categories: c & report})
		}
	})
	return err
}

// Uffd is a userfaultfd of the program's.
type Uffd struct {
	*Memory
	Closed bool
}

// Register has the mappings of a range watched. Their ends may lie in it.
func (u *Uffd) Register(r addr.Range) error {
	mapped := u.mappings.Cut(r)
	for _, v := range mapped {
		if v.Kind == vma.VDSO || v.Kind == vma.VVAR || u.Foreign.Overlaps(v.Range) {
			return fmt.Errorf("UFFDIO_REGISTER %v: invalid argument", v.Range)
		}
	}
	if len(mapped) == 0 {
		return fmt.Errorf("UFFDIO_REGISTER %v: nothing there", r)
	}
	for _, v := range mapped {
		u.watched.Add(v.Range)
	}
	return nil
}

// Unregister ends the watch of a range; its pages count as written.
func (u *Uffd) Unregister(r addr.Range) {
	u.watched.Remove(r)
	u.each(r, func(_ vma.VMA, a addr.Addr) {
		if p, ok := u.pages[a]; ok {
			p.protected = false
			u.pages[a] = p
		}
	})
}

// Close ends the watch of all.
func (u *Uffd) Close() {
	u.Unregister(addr.Range{End: 1 << 63})
	u.Closed = true
}

// Threads are those of the address space, for soft-dirty bits.
type Threads struct {
	*Memory
	Unsettled bool           // a call may be changing mappings
	Slept     map[int]string // by thread in the kernel; nil: one of them runs
	Refused   error          // to clear the bits
	Cleared   int            // times
}

// Settled is that of dirty.Threads.
func (t *Threads) Settled() bool { return !t.Unsettled }

// Asleep is that of dirty.Threads.
func (t *Threads) Asleep() (map[int]string, bool) {
	t.step()
	return maps.Clone(t.Slept), t.Slept != nil
}

// ClearSoftDirty clears the bits of all pages.
func (t *Threads) ClearSoftDirty() error {
	t.step()
	if t.Refused != nil {
		return t.Refused
	}
	t.Cleared++
	for a, p := range t.pages {
		p.soft = false
		t.pages[a] = p
	}
	t.step()
	return nil
}

// Faults are the page faults of the program since it was made.
type Faults struct {
	*Memory
	Lost   bool // some are missing
	Closed bool
}

// Take is that of procfs.Faults.
func (f *Faults) Take(pages []addr.Addr) ([]addr.Addr, bool) {
	pages = append(pages, f.faults...)
	f.faults = nil
	return pages, !f.Lost
}

// Close ends the watch.
func (f *Faults) Close() { f.Closed = true }
