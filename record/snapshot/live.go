//go:build linux

// This file reads memory while its threads run: a page that was written while it was
// read is left for later.

package snapshot

import (
	"errors"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// live reads a mapping whose writes are found. What needs the threads to stand still is
// left for a reading of held threads.
func (r *reading) live(v vma.VMA) (t tally, next addr.Addr, err error) {
	w := r.wayOf(v)
	for next = v.Start; next < v.End && w.arm; {
		if next > v.Start && r.stop() {
			return t, next, nil
		}
		chunk := addr.Range{Start: next, End: v.End}
		chunk.End, err = r.scan(chunk, w)
		switch {
		case errors.Is(err, procfs.ErrUnwatched), errors.Is(err, errors.ErrUnsupported):
			t.unwatched = true
			return t, v.End, nil
		case err != nil:
			return t, v.End, err
		}
		pages, found, err := r.liveChunk(v, w, chunk)
		t.pages += pages
		t.found += found
		if err != nil {
			r.out.Pages(pagesOf(chunk, format.PageAbsent))
			return t, v.End, err
		}
		next = chunk.End
	}
	return t, v.End, nil
}

// liveChunk reads the pages that were found in a part of a mapping, and armed.
func (r *reading) liveChunk(v vma.VMA, w way, at addr.Range) (pages, found uint64, err error) {
	s := still{reading: r, buf: r.buf}
	for _, g := range r.regions {
		if Classify(v, g.Categories) == Own {
			found += g.Len() / addr.PageSize
			if err = s.read(g.Range); err != nil {
				break
			}
		}
	}
	r.buf = s.buf
	r.untouched(at, w, s.restless)
	for _, g := range r.regions {
		r.met(v, w, g)
	}
	for _, p := range s.pages {
		r.out.Pages(p)
		if p.What == format.PageData {
			pages += p.N
		}
	}
	return pages, found, err
}

// still collects pages that were read while the program ran.
type still struct {
	*reading
	buf      []byte
	used     int            // bytes of buf
	pages    []format.Pages // not written since they were armed
	restless addr.Set       // written since: they will be found again
}

// room is where n bytes can be read to, behind what was read before.
func (s *still) room(n uint64) []byte {
	if uint64(len(s.buf)-s.used) < n {
		s.buf, s.used = make([]byte, max(n, Chunk)), 0
	}
	return s.buf[s.used:][:n]
}

// read reads pages that have just been armed.
func (s *still) read(at addr.Range) error {
	for a := at.Start; a < at.End; {
		b := s.room(uint64(at.End - a))
		got, err := s.mem.ReadMem(b, a)
		if errors.Is(err, procfs.ErrGone) {
			return err
		}
		got -= got % addr.PageSize
		if got == 0 {
			p := addr.Range{Start: a, End: a + addr.PageSize}
			s.pages = append(s.pages, pagesOf(p, format.PageUnreadable))
			a = p.End
			continue
		}
		part := addr.Range{Start: a, End: a + addr.Addr(got)}
		var written addr.Set
		if err := s.find.Rewritten(part, written.Add); err != nil {
			return err
		}
		for g := range written.Gaps(part) {
			p := pagesOf(g, format.PageData)
			p.Data = b[g.Start-a:][:g.Len()]
			s.pages = append(s.pages, p)
		}
		s.restless.AddSet(written)
		s.used += got
		a = part.End
	}
	return nil
}
