//go:build linux

// This file has what every reading of an address space does: it finds the pages of a part of a
// mapping, and tells what those are that need no reading.

package snapshot

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
)

// Memory is an address space that is read.
type Memory interface {
	Mappings() *vma.Set
	// ReadMem reads up to the first byte that cannot be read. procfs.ErrGone: there is
	// nothing to read any more.
	ReadMem(b []byte, a addr.Addr) (int, error)
	// Rewatch has the writes found again to a mapping, or a part of it, that has left
	// the watch, and reports whether they are.
	Rewatch(v vma.VMA) bool
}

// Reader reads address spaces, one at a time.
type Reader struct {
	files   *Files
	regions []procfs.Region // scratch
	buf     []byte          // scratch of live readings
}

// NewReader makes a reader that asks files about mapped files.
func NewReader(files *Files) *Reader { return &Reader{files: files} }

// reading is one reading of an address space.
type reading struct {
	*Reader
	mem   Memory
	find  dirty.Finder
	state *State
	plan  Plan
	stop  func() bool
	out   Sink
}

// tally counts pages as Report does.
type tally struct {
	pages, found uint64
	blind        bool
	unwatched    bool // writes to a mapping were not found any more
}

func (t *tally) add(more tally) {
	t.pages += more.pages
	t.found += more.found
	t.blind = t.blind || more.blind
	t.unwatched = t.unwatched || more.unwatched
}

// way is how the pages of a mapping are found, and what they are.
type way struct {
	written bool            // only those that were written
	arm     bool            // their next writes are found
	missing format.PageKind // what those hold that are not there; 0 is not known
	others  bool            // those that are not there may have been written by others
	content bool            // those that are the file's are read, too
}

func (r *reading) wayOf(v vma.VMA) way {
	if r.files.Foreign(v) {
		return way{others: true}
	}
	if r.files.Changing(v, r.plan.FilesSince) {
		return way{others: true, content: true}
	}
	arm := r.find.Covers(v)
	w := way{arm: arm, written: arm && (r.state.full || !r.find.Exact()), missing: Missing(v)}
	w.others = dirty.Shared(v) && w.missing == 0
	return w
}

// scan finds the pages of a chunk.
func (r *reading) scan(at addr.Range, w way) (next addr.Addr, err error) {
	r.regions = r.regions[:0]
	return r.find.Scan(at, w.written, w.arm, func(g procfs.Region) { r.regions = append(r.regions, g) })
}

// met notes that pages were found, and tells of those that are zero. It returns what
// they are.
func (r *reading) met(v vma.VMA, w way, g procfs.Region) Class {
	class := Classify(v, g.Categories)
	if class != Gone && w.written && r.find.Exact() {
		r.state.lazy.Remove(g.Range) // it was written to, and stays
	}
	if class == Zero {
		r.out.Pages(pagesOf(g.Range, format.PageZero))
	}
	return class
}

// untouched tells what those pages of a range hold that are not there: all of them, if
// all that are there were found, else those that were mapped since the last reading.
// It says nothing of the pages in except.
func (r *reading) untouched(at addr.Range, w way, except addr.Set) {
	fresh := r.state.fresh.Take(at)
	if !w.written {
		fresh = addr.SetOf(at)
	}
	if w.missing == 0 {
		return
	}
	for part := range fresh.All() {
		for gap := range except.Gaps(part) {
			r.out.Pages(pagesOf(gap, w.missing))
		}
	}
}
