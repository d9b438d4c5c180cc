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

	next   [numTypes]uint64 // number after the last, for types with dense numbers
	info   Info
	commit scanPoint // after the last group that is complete
}

// scanPoint is where a scan was.
type scanPoint struct {
	off        int64
	entries    int
	blocks     int
	seq        uint32
	steps      Step
	types      [numTypes]typeTotals
	raw, patch uint64
	ks, refs   uint64
	last       entry // the last EVENT chunk
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
		return c, nil, fmt.Errorf("%w: in chunk %v", ErrTruncated, c.typ)
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
	if err := s.follows(c.entry()); err != nil {
		return c, nil, err
	}
	s.take(c.entry(), c.ulen)
	return c, stored, nil
}

// follows says whether the numbers of a chunk go on where those of its type ended.
func (s *scan) follows(e entry) error {
	want := uint64(0)
	if e.typ.dense() {
		want = s.next[e.typ]
	} else if e.typ == TypeKey {
		want = uint64(s.info.Steps)
	} else {
		return nil
	}
	if e.base != want {
		return corrupt("%v chunk begins at %d, not at %d", e.typ, e.base, want)
	}
	return nil
}

// take notes a chunk that is all right.
func (s *scan) take(e entry, decoded uint32) {
	if e.typ < numTypes {
		s.next[e.typ] = e.base + uint64(e.count)
	}
	if e.typ < numTypes {
		t := &s.info.types[e.typ]
		t.chunks++
		t.stored += uint64(e.size)
		t.decoded += uint64(decoded)
	}
	last := s.commit.last
	switch e.typ {
	case TypeRaw:
		s.info.RawPages = e.base + uint64(e.count)
	case TypePatch:
		s.info.Patches = e.base + uint64(e.count)
	case TypeKey:
		s.info.Keyframes++
	case TypeRefs:
		s.info.Refs = e.base + uint64(e.count)
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
			s.info.RawPages, s.info.Patches, s.info.Keyframes, s.info.Refs, last,
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
	s.info = Info{First: s.info.First, Steps: p.steps, RawPages: p.raw, Patches: p.patch, Keyframes: p.ks, Refs: p.refs, types: p.types}
}

// newScan begins a walk at the first chunk.
func (r *Reader) newScan() *scan {
	first := r.h.Begin.Step
	s := &scan{r: r, off: r.start, commit: scanPoint{off: r.start, steps: first}}
	s.next[TypeEvent], s.info.First, s.info.Steps = uint64(first), first, first
	return s
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
	r.x.finish()
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
	// The chain of INDEX chunks, newest first. Each covers what lies between the
	// one before and itself, so that no bytes are counted twice.
	var blocks []*block
	var chunks []chunk
	next := int64(0) // where the entries of the one after begin
	for end := off; end > 0; {
		c, entries, prev, seq, err := r.index(end)
		if err == nil && next != 0 && c.end() != next {
			err = corrupt("INDEX chunks leave a gap")
		}
		if err != nil {
			return nil, err
		}
		if next = c.off; len(entries) > 0 {
			next = entries[0].off
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
			if err := s.follows(e); err != nil {
				return nil, err
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
// reader of the original would see, but at once, and a log that verifies. If what
// it would write did not, it writes nothing and says so. opt are the choices of a reader. It says in Info what is in
// it, and in Truncated whether anything was missing.
func Recover(r io.ReaderAt, size int64, opt *ReaderOptions, w io.Writer) (*Info, error) {
	rd, err := openHeader(r, size, opt)
	if err != nil {
		return nil, err
	}
	var end bytes.Buffer
	o, info, err := rd.another(&end)
	if err != nil {
		return nil, err
	}
	keep := o.off
	if err := o.end(info); err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	// What no checksum shows may be wrong, too.
	v := verifier{recovered: true}
	if _, err := v.verify(&joined{r, keep, end.Bytes()}, o.off, opt); err != nil {
		return nil, fmt.Errorf("what can be read does not make a whole log: %w", err)
	}
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, keep)); err != nil {
		return nil, fmt.Errorf("copy the log: %w", err)
	}
	if _, err := w.Write(end.Bytes()); err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	info.Size = o.off
	return info, nil
}

// another makes an output that goes on behind the part of a log that is complete, at its
// offset, and says what is in that part; Truncated says whether anything was missing.
func (rd *Reader) another(w io.Writer) (*output, *Info, error) {
	s := rd.newScan()
	scanErr := s.run()
	if scanErr != nil && !damage(scanErr) {
		return nil, nil, scanErr
	}
	ok, err := rd.openRoot()
	whole := err == nil && ok && scanErr == nil
	last := s.commit.last
	s.back()
	o := newIdleOutput(w, rd.h)
	o.off, o.seq, o.entries, o.firstSeq, o.blocks, o.types = s.off, s.seq, s.entries, s.first, s.blocks, s.info.types
	o.since, o.commit = s.off, s.off
	if n := len(s.blocks); n > 0 {
		o.lastIndex = s.blocks[n-1].off
	}
	info := s.info
	if whole {
		info = rd.info
	} else if info.Reason = "recovered"; last.count > 0 {
		info.Time = rd.lastTime(last)
	}
	info.Truncated = !whole
	return o, &info, nil
}

// joined is the first n bytes of a file and others after them.
type joined struct {
	r   io.ReaderAt
	n   int64
	end []byte
}

func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	if off < j.n {
		k := min(int64(len(p)), j.n-off)
		if n, err = j.r.ReadAt(p[:k], off); int64(n) < k {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
	}
	k := copy(p[n:], j.end[min(off+int64(n)-j.n, int64(len(j.end))):])
	if n += k; n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
