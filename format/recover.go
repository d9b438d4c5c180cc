package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// scan is a walk over the chunks of a log, one after the other: the authority
// where a log has no end.
type scan struct {
	r       *Reader
	off     int64
	entries []entry // since the last INDEX chunk
	blocks  []*block
	seq     uint32 // expected of the next chunk
	first   uint32 // seq of the first entry

	info   Info
	commit scanPoint // after the last group that is complete
}

// scanPoint is where a scan was.
type scanPoint struct {
	off            int64
	entries        int
	blocks         int
	seq            uint32
	steps          Step
	types          [numTypes]typeTotals
	raw, patch, ks uint64
	last           entry // the last EVENT chunk
}

// step reads the next chunk. io.EOF is the end of the file, or the ROOT chunk.
func (s *scan) step() (c chunk, stored []byte, err error) {
	if s.off >= s.r.size {
		return c, nil, io.EOF
	}
	if c, err = s.r.header(s.off); err != nil {
		return c, nil, err
	}
	if c.end() > s.r.size {
		return c, nil, fmt.Errorf("%w: in a %v chunk", ErrTruncated, c.typ)
	}
	if c.seq != s.seq {
		return c, nil, corrupt("chunk %d where chunk %d was to be", c.seq, s.seq)
	}
	if stored, err = s.r.stored(&c); err != nil {
		return c, nil, err
	}
	if c.typ == TypeRoot {
		return c, stored, io.EOF
	}
	s.take(c.entry(), c.ulen)
	return c, stored, nil
}

// take notes a chunk that is all right.
func (s *scan) take(e entry, decoded uint32) {
	t := &s.info.types[e.typ%numTypes]
	t.chunks++
	t.stored += uint64(e.size)
	t.decoded += uint64(decoded)
	last := s.commit.last
	switch e.typ {
	case TypeRaw:
		s.info.RawPages = e.base + uint64(e.count)
	case TypePatch:
		s.info.Patches = e.base + uint64(e.count)
	case TypeKey:
		s.info.Keyframes++
	case TypeEvent:
		s.info.Steps = Step(e.base + uint64(e.count))
		last = e
	}
	s.off = e.off + e.size
	s.seq++
	if e.typ == TypeIndex {
		b := &block{off: e.off, end: e.off, seq: s.first, n: len(s.entries), entries: s.entries}
		b.bases()
		s.blocks = append(s.blocks, b)
		s.entries, s.first = nil, s.seq
	} else {
		s.entries = append(s.entries, e)
	}
	if e.commit {
		s.commit = scanPoint{
			s.off, len(s.entries), len(s.blocks), s.seq, s.info.Steps, s.info.types,
			s.info.RawPages, s.info.Patches, s.info.Keyframes, last,
		}
	}
}

// run walks as far as the log is all right; err is why it stopped, nil at the
// end of the file or at the ROOT chunk.
func (s *scan) run() error {
	for {
		_, _, err := s.step()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return at(s.off, err)
		}
	}
}

// damage says whether err is the file's contents' fault.
func damage(err error) bool {
	return errors.Is(err, ErrTruncated) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrLimit)
}

// back goes back to the last commit.
func (s *scan) back() {
	p := s.commit
	if p.blocks < len(s.blocks) {
		// An INDEX chunk in the middle of a group that was not finished.
		s.entries, s.first = s.blocks[p.blocks].entries, s.blocks[p.blocks].seq
	}
	s.off, s.seq = p.off, p.seq
	s.entries, s.blocks = s.entries[:p.entries:p.entries], s.blocks[:p.blocks]
	s.info = Info{Steps: p.steps, RawPages: p.raw, Patches: p.patch, Keyframes: p.ks, types: p.types}
}

// newScan begins a walk at the first chunk.
func (r *Reader) newScan() *scan {
	return &scan{r: r, off: r.start, commit: scanPoint{off: r.start}}
}

// openTruncated opens a log that has no end: with the help of the INDEX chunks
// that it has, else by a walk over all of it.
func (r *Reader) openTruncated() error {
	s, err := r.openIndexed()
	if err != nil && !damage(err) {
		return err
	}
	if s == nil {
		s = r.newScan()
	}
	if err := s.run(); err != nil && !damage(err) {
		return err
	}
	last := s.commit.last
	s.back()
	b := &block{n: len(s.entries), entries: s.entries, seq: s.first, end: s.off}
	b.bases()
	r.x.blocks = append(s.blocks, b)
	r.info = s.info
	r.info.Truncated = true
	r.info.Size = s.off
	if last.count > 0 {
		r.info.Time = r.lastTime(last) // 0 where it cannot be told
	}
	return nil
}

// lastTime is the time of the last event of an EVENT chunk.
func (r *Reader) lastTime(e entry) uint64 {
	payload, err := r.cached(e)
	if err != nil {
		return 0
	}
	d, err := newEventDec(e, payload, nil, r.h.TimeShift)
	if err != nil {
		return 0
	}
	for i := 0; i < d.rows && !d.cols[colTime].bad; i++ {
		d.time += uint64(d.cols[colTime].zz())
	}
	return d.time << r.h.TimeShift
}

// openIndexed begins a walk after the newest INDEX chunk, which is found by the
// newest chunk header. It returns nil where there is none that can be trusted.
func (r *Reader) openIndexed() (*scan, error) {
	off, err := r.newestIndex()
	if err != nil || off == 0 {
		return nil, err
	}
	// The chain of INDEX chunks, newest first.
	var blocks []*block
	var chunks []chunk
	for end := off; end > 0; {
		c, err := r.header(end)
		if err == nil && c.typ != TypeIndex {
			err = corrupt("%v chunk in place of an INDEX", c.typ)
		}
		if err != nil {
			return nil, err
		}
		stored, err := r.stored(&c)
		if err != nil {
			return nil, err
		}
		payload, err := c.decode(stored)
		if err != nil {
			return nil, err
		}
		entries, prev, seq, err := parseIndex(payload, end)
		if err != nil {
			return nil, err
		}
		b := &block{off: end, end: end, seq: seq, n: len(entries), entries: entries}
		b.bases()
		blocks, chunks = append(blocks, b), append(chunks, c)
		end = prev
	}
	slices.Reverse(blocks)
	slices.Reverse(chunks)
	// They must cover the file without gaps: then the walk knows all it would
	// know if it had begun at the beginning.
	s := r.newScan()
	for i, b := range blocks {
		if b.seq != s.seq {
			return nil, corrupt("INDEX chunks do not follow each other")
		}
		for _, e := range b.entries {
			if e.off != s.off {
				return nil, corrupt("INDEX chunks leave a gap")
			}
			s.take(e, 0)
		}
		if chunks[i].off != s.off || chunks[i].seq != s.seq {
			return nil, corrupt("INDEX chunks leave a gap")
		}
		s.take(chunks[i].entry(), chunks[i].ulen)
	}
	return s, nil
}

// newestIndex searches the file from its end for a chunk header, which says
// where the newest INDEX chunk is; 0 for none.
func (r *Reader) newestIndex() (int64, error) {
	const window = 1 << 20
	var sign [4]byte
	binary.LittleEndian.PutUint32(sign[:], chunkMagic)
	// A chunk is at most so long: farther back there must be a header.
	stop := max(r.start, r.size-4*(MaxStored+MaxExt+chunkHeader))
	b := make([]byte, min(window+chunkHeader, r.size))
	for end := r.size; end > stop; end -= window {
		lo := max(stop, end-window)
		w := b[:min(end-lo+chunkHeader, r.size-lo)]
		if err := r.readAt(w, lo); err != nil {
			return 0, err
		}
		for {
			i := bytes.LastIndex(w, sign[:])
			if i < 0 {
				break
			}
			c, err := r.header(lo + int64(i))
			if err == nil {
				if c.typ == TypeIndex && c.end() <= r.size {
					return c.off, nil
				}
				if c.lastIndex < 0 || c.lastIndex >= c.off {
					return 0, corrupt("a chunk points forward")
				}
				return c.lastIndex, nil
			}
			if !damage(err) {
				return 0, err
			}
			w = w[:i+3]
		}
	}
	return 0, nil
}

// Recover writes to w the part of a log that is complete, with an end: what a
// reader of the original would see, but at once, and a log that verifies. It
// says in Info what is in it, and in Truncated whether anything was missing.
func Recover(r io.ReaderAt, size int64, w io.Writer) (*Info, error) {
	rd, err := openHeader(r, size, nil)
	if err != nil {
		return nil, err
	}
	s := rd.newScan()
	scanErr := s.run()
	if scanErr != nil && !damage(scanErr) {
		return nil, scanErr
	}
	whole := false
	reason := "recovered"
	if ok, err := rd.openRoot(); err == nil && ok && scanErr == nil {
		whole, reason = true, rd.info.Reason
	}
	last := s.commit.last
	s.back()
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, s.off)); err != nil {
		return nil, fmt.Errorf("copy the log: %w", err)
	}
	o := newIdleOutput(w, rd.h)
	o.off, o.seq, o.entries, o.firstSeq, o.blocks, o.types = s.off, s.seq, s.entries, s.first, s.blocks, s.info.types
	if n := len(s.blocks); n > 0 {
		o.lastIndex = s.blocks[n-1].off
	}
	info := s.info
	if whole {
		info = rd.info
	} else if info.Reason = reason; last.count > 0 {
		info.Time = rd.lastTime(last)
	}
	if err := o.end(&info); err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	info.Size, info.Truncated = o.off, !whole
	return &info, nil
}
