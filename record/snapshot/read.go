//go:build linux

// This file reads an address space from one end to the other, and the mappings of held threads.

package snapshot

import (
	"errors"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
)

// Report is what came of a reading.
type Report struct {
	Pages    uint64 // that were read
	Found    uint64 // pages with contents of their own that a live reading came to
	Whole    bool   // it got to its end, and all could be read
	Full     bool   // all that is there was looked at, not only what was written
	Narrowed bool   // only what had faults, where writes are found
	Blind    bool   // the kernel did not tell which pages are there
	Err      error  // what kept memory from being read
}

// Read reads an address space, from where the last reading was cut short on, until stop
// says so, which is asked after each chunk. Its threads are held, or p.Order is Live
// and f.Live(): then it reads only what it can tell their writes to.
func (r *Reader) Read(m Memory, f dirty.Finder, s *State, p Plan, stop func() bool, out Sink) Report {
	in := &reading{r, m, f, s, p, stop, out}
	parts, narrowed := in.parts()
	sum, rest, err := in.all(parts)
	rep := Report{Pages: sum.pages, Found: sum.found, Blind: sum.blind, Full: !s.full, Narrowed: narrowed, Err: err}
	// A mapping that was not watched has to be read from end to end.
	left := sum.unwatched && (narrowed || p.Order == Live)
	rep.Whole = len(rest) == 0 && err == nil && !(narrowed && left)

	s.cursor = 0
	if len(rest) > 0 && p.Order != BySize { // by size, the next one begins anew
		s.cursor = rest[0].Start
	}
	switch {
	case left:
		s.left = true
	case rep.Whole && !narrowed && p.Order != Live:
		s.left = false
	}
	switch {
	case err != nil:
		s.full = false // what is armed has not all been read
	case rep.Whole && dirty.Finds(f):
		s.full = true
	}
	return rep
}

// all reads parts of mappings in order, and returns what was not read when stop said
// so. It always reads something.
func (r *reading) all(parts []vma.VMA) (sum tally, rest []vma.VMA, err error) {
	for i, v := range parts {
		if i > 0 && r.stop() {
			return sum, parts[i:], err
		}
		t, next, failed := r.mapping(v)
		sum.add(t)
		if failed != nil {
			err = failed
		}
		if next < v.End {
			parts[i] = v.Slice(addr.Range{Start: next, End: v.End})
			return sum, parts[i:], err
		}
	}
	return sum, nil, err
}

// mapping reads a mapping, and returns where it stopped: at its end, if stop did not
// say so before. What cannot be read is not tried again.
func (r *reading) mapping(v vma.VMA) (t tally, next addr.Addr, err error) {
	switch {
	case Unread(v):
		return t, v.End, nil
	case Always(v):
		t.pages, err = r.read(v.Range)
		return t, v.End, err
	case r.plan.Order == Live:
		return r.live(v)
	}
	return r.held(v)
}

// held reads a mapping that nobody writes to, but for others that share it.
func (r *reading) held(v vma.VMA) (t tally, next addr.Addr, err error) {
	w, rewatched := r.wayOf(v), false
	for next = v.Start; next < v.End; {
		if next > v.Start && r.stop() {
			return t, next, nil
		}
		chunk := addr.Range{Start: next, End: v.End}
		chunk.End, err = r.scan(chunk, w)
		switch {
		case errors.Is(err, procfs.ErrUnwatched): // all of it has to be read this time
			w.written, w.arm = false, !rewatched && r.mem.Rewatch(v)
			t.unwatched = true
			r.state.Unproved()
			rewatched = true
			next = v.Start
			continue
		case errors.Is(err, errors.ErrUnsupported):
			pages, err := r.read(addr.Range{Start: next, End: v.End})
			t.pages += pages
			t.blind = true
			return t, v.End, err
		case err != nil:
			return t, v.End, err
		}
		pages, err := r.chunk(v, w, chunk)
		t.pages += pages
		if err != nil {
			r.out.Pages(pagesOf(chunk, format.PageAbsent))
			return t, v.End, err
		}
		next = chunk.End
	}
	if w.arm && w.missing == format.PageZero {
		pages, err := r.lazy(v.Range)
		t.pages += pages
		return t, v.End, err
	}
	return t, v.End, nil
}

// chunk reads the pages that were found in a part of a mapping.
func (r *reading) chunk(v vma.VMA, w way, at addr.Range) (pages uint64, err error) {
	r.untouched(at, w, addr.Set{})
	from := at.Start
	for _, g := range r.regions {
		if w.others {
			r.out.Forget(addr.Range{Start: from, End: g.Start})
			from = g.End
		}
		class := r.met(v, w, g)
		if class == Own && v.Kind == vma.FileShared && r.files.Foreign(v) {
			class = File // to read it may fault: the kernel may have given the page up
			r.out.Forget(g.Range)
		}
		if class == Own || class == File && w.content {
			n, err := r.read(g.Range)
			pages += n
			if err != nil {
				return pages, err
			}
		}
	}
	if w.others {
		r.out.Forget(addr.Range{Start: from, End: at.End})
	}
	return pages, nil
}

// lazy reads what the program has given back with MADV_FREE: the kernel does not tell
// which of these pages it has taken since. Plan.Lazy may leave no time for much of it.
func (r *reading) lazy(within addr.Range) (pages uint64, err error) {
	all := r.state.lazy.Take(within)
	all.AddSet(r.state.freed.Take(within))
	r.state.lazy.AddSet(all)
	for at := range all.All() {
		if r.plan.Lazy != nil {
			most := r.plan.Lazy()
			if at.Len() > most-min(most, pages*addr.PageSize) {
				r.out.Pages(pagesOf(at, format.PageAbsent))
				continue
			}
		}
		r.out.Pages(pagesOf(at, format.PageZero))
		for next := at.Start; next < at.End; {
			next, err = r.scan(addr.Range{Start: next, End: at.End}, way{})
			if err != nil {
				r.out.Pages(pagesOf(at, format.PageAbsent))
				break
			}
			for _, g := range r.regions {
				if g.Categories&procfs.PageIsZero == 0 {
					n, err := r.read(g.Range)
					pages += n
					if err != nil {
						return pages, err
					}
				}
			}
		}
	}
	return pages, nil
}

// read reads pages.
func (r *reading) read(at addr.Range) (pages uint64, err error) {
	for a := at.Start; a < at.End; {
		b := r.out.Room(min(uint64(at.End-a), Chunk))
		got, err := r.mem.ReadMem(b, a)
		if errors.Is(err, procfs.ErrGone) {
			return pages, err
		}
		got -= got % addr.PageSize
		n := addr.Range{Start: a, End: a + addr.Addr(got)}
		if got == 0 {
			n.End += addr.PageSize
			r.out.Pages(pagesOf(n, format.PageUnreadable))
		} else {
			p := pagesOf(n, format.PageData)
			p.Data = b[:got]
			r.out.Pages(p)
			pages += p.N
		}
		a = n.End
	}
	return pages, nil
}
