package format

import (
	"errors"
	"fmt"
	"io"

	"memtrace/format/addr"
)

// PageStore is where Before keeps pages.
type PageStore interface {
	io.ReaderAt
	io.WriterAt
}

// Before is what is known of memory before the first of several logs of one run: of the logs
// before it, which need not be there any more. Of each page it has the newest contents. It is for
// one goroutine at a time.
type Before struct {
	s     *State // nil: nothing is known
	file  PageStore
	slots []bool // of file: which are used
	free  []uint32
	limit int
	bytes []byte // what calls wrote
	lost  uint64
	page  [addr.PageSize]byte
}

// NewBefore keeps at most limit bytes of pages in file.
func NewBefore(file PageStore, limit int64) *Before {
	return &Before{file: file, limit: int(min(limit>>addr.PageShift, 1<<28))}
}

// Pages is how many pages it has, and how many it had no room for so far.
func (b *Before) Pages() (n int, lost uint64) { return len(b.slots) - len(b.free), b.lost }

// Next is the first step of the log that it is about.
func (b *Before) Next() Step {
	if b.s == nil {
		return 0
	}
	return b.s.Step + 1
}

// blobShift tells places of what calls wrote in the log that is being taken in from those in bytes.
const blobShift = 1 << 40

// Advance takes in a log: the next of the run, or a later one if nothing is to be known of those
// before.
func (b *Before) Advance(r *Reader) error {
	begin := r.Header().Begin
	skip := begin.First()
	if b.s == nil || b.Next() != skip {
		*b = Before{file: b.file, limit: b.limit, lost: b.lost, s: NewState()}
		b.s.Step = begin.Step - 1
		skip = begin.Step
	}
	had := map[PageRef]PageRef{}
	for e, err := range r.Events(skip) {
		if err == nil {
			err = b.event(r, e, had)
		}
		if err != nil {
			b.s = nil
			return err
		}
	}
	err := b.collect()
	if err == nil {
		err = b.written(r)
	}
	if err != nil {
		b.s = nil
	}
	return err
}

// event takes in an event.
func (b *Before) event(r *Reader, e *Event, had map[PageRef]PageRef) error {
	for _, c := range e.Changes {
		var err error
		switch c := c.(type) {
		case *wroteSet: // it repeats what the calls did
		case *Pages:
			if c.What == PageData {
				err = b.data(r, c, had)
			} else {
				err = b.s.Apply(c)
			}
		default:
			err = b.s.Apply(c)
		}
		if err != nil {
			return err
		}
	}
	if b.s.Step++; b.s.Step != e.Step {
		return fmt.Errorf("format: step %d is where %d should be", e.Step, b.s.Step)
	}
	if c, ok := e.Record.(*Syscall); ok && c.Blobs != nil {
		blobs := make([]uint64, len(c.Blobs))
		for i, at := range c.Blobs {
			blobs[i] = at + blobShift
		}
		return b.s.wrote(e.Thread, e.Step, c.Bufs, blobs, 0)
	}
	return nil
}

// data takes in pages with their contents.
func (b *Before) data(r *Reader, c *Pages, had map[PageRef]PageRef) error {
	m, err := b.s.mm(c.MM)
	if err != nil {
		return err
	}
	one := Pages{MM: c.MM, N: 1, What: PageData, Refs: []PageRef{0}}
	for i, ref := range c.Refs {
		one.Addr = c.Addr + addr.Addr(i<<addr.PageShift)
		now, ok := had[ref]
		if !ok {
			if err := r.Page(ref, &b.page); err != nil {
				return err
			}
			if now, ok, err = b.keep(m, one.Addr); err != nil {
				return err
			}
		}
		if !ok { // no room: nothing is known of it, nor what calls wrote before
			b.lost++
			if err := b.s.Apply(&Pages{MM: c.MM, Addr: one.Addr, N: 1, What: PageZero}); err != nil {
				return err
			}
			m.pages.set(one.Addr.Page(), one.Addr.Page()+1, fill{})
			continue
		}
		had[ref], one.Refs[0] = now, now
		if err := b.s.Apply(&one); err != nil {
			return err
		}
	}
	return nil
}

// keep finds room for b.page, which is at a now. A page that has not changed stays where it is.
func (b *Before) keep(m *MM, a addr.Addr) (ref PageRef, ok bool, err error) {
	if old, known := m.Page(a); known && old.What == PageData {
		var was [addr.PageSize]byte
		if err := b.Page(old.Ref, &was); err != nil {
			return 0, false, err
		}
		if was == b.page {
			return old.Ref, true, nil
		}
	}
	slot, ok := b.slot()
	if !ok {
		return 0, false, nil
	}
	_, err = b.file.WriteAt(b.page[:], int64(slot)<<addr.PageShift)
	return PageRef(slot) << 1, true, err
}

// slot is room for a page.
func (b *Before) slot() (slot uint32, ok bool) {
	if n := len(b.free); n > 0 {
		slot, b.free = b.free[n-1], b.free[:n-1]
		b.slots[slot] = true
		return slot, true
	}
	if len(b.slots) >= b.limit {
		if b.collect() != nil || len(b.free) == 0 {
			return 0, false
		}
		return b.slot()
	}
	b.slots = append(b.slots, true)
	return uint32(len(b.slots) - 1), true
}

// collect finds the room of pages that have changed since.
func (b *Before) collect() error {
	clear(b.slots)
	for _, m := range b.s.MMs {
		for p, err := range m.Pages(addr.Range{End: MaxPageNo << addr.PageShift}) {
			if err != nil {
				return err
			}
			if p.What == PageData {
				for ref := range p.each() {
					b.slots[ref>>1] = true
				}
			}
		}
	}
	b.free = b.free[:0]
	for i, used := range b.slots {
		if !used {
			b.free = append(b.free, uint32(i))
		}
	}
	return nil
}

// written keeps the bytes that calls wrote and that no page has.
func (b *Before) written(r *Reader) error {
	var bytes []byte
	at := map[[2]uint64]uint64{} // of bytes that several address spaces have
	for _, m := range b.s.MMs {
		w := &m.written
		w.own(func(int64) {})
		for i := range w.list {
			x := &w.list[i]
			key := [2]uint64{x.Blob, x.Len}
			place, ok := at[key]
			if !ok {
				place = uint64(len(bytes))
				bytes = append(bytes, make([]byte, x.Len)...)
				if err := b.blob(r, bytes[place:], x.Blob); err != nil {
					return err
				}
				at[key] = place
			}
			x.Blob = place
		}
	}
	b.bytes = bytes
	return nil
}

// blob reads what a call wrote, of the log that was taken in last or of those before.
func (b *Before) blob(r *Reader, p []byte, at uint64) error {
	if at >= blobShift {
		return r.Blob(p, at-blobShift)
	}
	if at+uint64(len(p)) > uint64(len(b.bytes)) {
		return errors.New("format: bytes of a call are not there")
	}
	copy(p, b.bytes[at:])
	return nil
}

// source is where a copy of a log's pages and of what calls wrote comes from.
type source interface {
	Page(ref PageRef, dst *[addr.PageSize]byte) error
	Blob(p []byte, at uint64) error
}

// Page reads a page.
func (b *Before) Page(ref PageRef, dst *[addr.PageSize]byte) error {
	_, err := b.file.ReadAt(dst[:], int64(ref>>1)<<addr.PageShift)
	return err
}

// Blob reads bytes that a call wrote.
func (b *Before) Blob(p []byte, at uint64) error { return b.blob(nil, p, at) }
