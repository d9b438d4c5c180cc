//go:build linux

// This file keeps what is noted of an address space between two readings.

package snapshot

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/dirty"
)

// State is what is remembered of an address space between readings. Its zero value is
// that of one which is never read.
type State struct {
	noting bool
	full   bool      // everything has been read since the finder began
	cursor addr.Addr // where a reading that was cut short stopped
	left   bool      // a live reading left something that it should have read
	fresh  addr.Set  // mapped since the last reading, see Fresh
	// What was given back with MADV_FREE holds what it held, or zeros, until it is
	// written to: freed since the last reading, lazy before. A page of lazy that is found
	// written stays; one of freed may have been written before it was freed. The kernel
	// does not tell when it takes such a page: see reading.lazy.
	freed, lazy addr.Set
}

// mostNotes bounds the ranges that are noted between two readings; the rest stays
// unknown.
const mostNotes = 4096

// NewState is for an address space that is going to be read.
func NewState() *State { return &State{noting: true} }

// Fork is the state of a copy of the address space, which has not been read yet.
func (s *State) Fork() *State {
	child := &State{noting: s.noting, lazy: s.lazy.Clone()}
	child.lazy.AddSet(s.freed)
	return child
}

// Begin notes that f finds the writes from now on. Where it counts everything as
// written that is there, the rest is fresh.
func (s *State) Begin(f dirty.Finder, mappings *vma.Set) {
	s.full, s.cursor = false, 0
	if f.Exact() {
		return
	}
	s.fresh.Clear()
	for v := range mappings.All() {
		if f.Covers(v) {
			s.note(&s.fresh, v.Range)
		}
	}
}

// Full says whether everything has been read since the finder began.
func (s *State) Full() bool { return s.full }

// Doubt notes that it is not known what was written: the next reading is of everything.
func (s *State) Doubt() { s.full = false }

// Rewind has the next reading begin at the lowest address; Rewound says whether it
// does.
func (s *State) Rewind()       { s.cursor = 0 }
func (s *State) Rewound() bool { return s.cursor == 0 }

// note adds a range to one of the sets, if there is room.
func (s *State) note(set *addr.Set, at addr.Range) {
	if s.noting && set.Count() < mostNotes {
		set.Add(at)
	}
}

// Fresh notes that a range holds, until it is written to, zeros or its file. What may
// be written at any moment is said only by the next reading, which finds what was; a
// mapping that cannot be written is known at once, and told to out.
func (s *State) Fresh(at addr.Range, f dirty.Finder, mappings *vma.Set, out func(format.Pages)) {
	if !s.noting {
		return
	}
	for v := range mappings.Overlapping(at) {
		part := v.Intersect(at)
		switch what := Untouched(v); {
		case what == format.PageFile && v.Prot&addr.Write == 0:
			out(pagesOf(part, what))
		case what != 0 && dirty.Finds(f):
			s.note(&s.fresh, part)
		}
	}
}

// Gone drops all that is noted of a range: something else is there now.
func (s *State) Gone(at addr.Range) {
	s.fresh.Remove(at)
	s.freed.Remove(at)
	s.lazy.Remove(at)
}

// Unproved notes that pages may count as written that were not, because their mapping
// left the watch in between, as it does for mremap: what was given back may still go.
func (s *State) Unproved() {
	s.freed.AddSet(s.lazy)
	s.lazy.Clear()
}

// Moved follows pages that were moved to a place of which nothing is noted.
func (s *State) Moved(from addr.Range, to addr.Addr) {
	s.Unproved()
	s.fresh.Move(from, to)
	s.freed.Move(from, to)
}

// Dropped notes that the contents of a range were given back, and tells out what is
// known of it now: the kernel does not tell of a page that is only read after that. done
// says that all of it was given back, alone that no other thread can have written to it
// since.
func (s *State) Dropped(at addr.Range, advice arch.Advice, done, alone bool, f dirty.Finder, mappings *vma.Set, out func(format.Pages)) {
	if at.Empty() {
		return
	}
	out(pagesOf(at, format.PageAbsent))
	switch {
	case advice.Is(arch.DropsLater):
		s.note(&s.freed, at)
	case !done || !advice.Is(arch.LeavesZeros):
	case !alone:
		s.Gone(at)
		s.Fresh(at, f, mappings, out)
	default:
		s.Gone(at)
		for v := range mappings.Overlapping(at) {
			if !v.File() && !dirty.Shared(v) && dirty.Trackable(v) {
				out(pagesOf(v.Intersect(at), format.PageZero))
			}
		}
	}
}

// pagesOf are pages of which nothing but their kind is to be told.
func pagesOf(at addr.Range, what format.PageKind) format.Pages {
	return format.Pages{Addr: at.Start, N: at.Len() / addr.PageSize, What: what}
}
