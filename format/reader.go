package format

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"sync"
)

// ReaderOptions are the choices of a reader.
type ReaderOptions struct {
	// Cache is how many bytes of decoded chunks to hold, 0 for 16 MiB and 8 times
	// the log's size, but at most 64 MiB.
	Cache int64
	// MaxState is how many bytes a state may take, with its threads, mappings and
	// page maps, before a log is refused as hostile, 0 for 128 MiB and 64 times
	// the log's size.
	MaxState int64
}

// Reader reads a log in any order. It is safe for concurrent use; the states
// and iterators it gives are not.
type Reader struct {
	r     io.ReaderAt
	size  int64
	h     *Header
	start int64 // of the first chunk
	x     index
	info  Info
	cache *lru[[]byte]

	mu      sync.Mutex // for making copies of what mms holds
	mms     *lru[*MM]
	leaves  *lru[*[leafPages]cell]
	patches *lru[*patchFrame]
	writes  *lru[*written]
	nodes   *lru[[]rawNode]
	modules *lru[[]Module]
	budget  budget // of a state
}

// NewReader opens a log of size bytes. One without an end (its recorder was
// killed, or still runs) is read up to its last complete group.
func NewReader(r io.ReaderAt, size int64, o *ReaderOptions) (*Reader, error) {
	rd, err := openHeader(r, size, o)
	if err != nil {
		return nil, err
	}
	ok, err := rd.openRoot()
	if err != nil {
		return nil, err
	}
	if !ok {
		if err := rd.openTruncated(); err != nil {
			return nil, err
		}
	}
	return rd, nil
}

// openHeader reads the file header and nothing else.
func openHeader(r io.ReaderAt, size int64, o *ReaderOptions) (*Reader, error) {
	rd := &Reader{r: r, size: size}
	limit := min(int64(64<<20), 16<<20+8*min(size, 64<<20))
	if o != nil && o.Cache > 0 {
		limit = o.Cache
	}
	rd.cache = newLRU[[]byte](limit / 2)
	rd.patches = newLRU[*patchFrame](limit / 4)
	rd.mms = newLRU[*MM](limit / 8)
	rd.writes = newLRU[*written](limit / 16)
	rd.nodes = newLRU[[]rawNode](limit / 4)
	rd.modules = newLRU[[]Module](limit / 4)
	rd.leaves = newLRU[*[leafPages]cell](limit / 8)
	rd.budget = stateBudget(size, 0)
	if o != nil && o.MaxState > 0 {
		rd.budget = stateBudget(size, o.MaxState)
	}
	rd.x.fetch = rd.fetchBlock
	var err error
	rd.h, rd.start, err = readHeader(io.NewSectionReader(r, 0, size))
	return rd, err
}

// readHeader reads the file header, and how long it is.
func readHeader(r io.Reader) (*Header, int64, error) {
	var fixed [headerFixed]byte
	n, err := io.ReadFull(r, fixed[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, 0, fmt.Errorf("read the log: %w", err)
	}
	total, err := headerLen(fixed[:n])
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, total)
	copy(b, fixed[:])
	if _, err := io.ReadFull(r, b[headerFixed:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, 0, fmt.Errorf("%w: in its header", ErrTruncated)
		}
		return nil, 0, fmt.Errorf("read the log: %w", err)
	}
	h, err := parseHeader(b)
	return h, int64(total), err
}

// Header is what was known when the recording began. It is not to be changed.
func (r *Reader) Header() *Header { return r.h }

// Steps is the step after the last event: the number of events, in a log that begins
// with its run.
func (r *Reader) Steps() Step { return r.info.Steps }

// First is the step of the first event: 0, but in a log that does not begin with its run.
func (r *Reader) First() Step { return r.h.Begin.Step }

// Truncated says that the log has no end.
func (r *Reader) Truncated() bool { return r.info.Truncated }

// Info is what the log says of itself as a whole.
func (r *Reader) Info() *Info { i := r.info; return &i }

// readAt reads exactly len(b) bytes.
func (r *Reader) readAt(b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > r.size {
		return fmt.Errorf("%w: %d bytes at offset %d of %d", ErrTruncated, len(b), off, r.size)
	}
	n, err := r.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: the file has become shorter", ErrTruncated)
	}
	return fmt.Errorf("read the log: %w", err)
}

// header reads a chunk header.
func (r *Reader) header(off int64) (chunk, error) {
	b := make([]byte, min(chunkHeader+16, r.size-off))
	if off < r.start || len(b) < chunkHeader {
		return chunk{}, fmt.Errorf("%w: in a chunk header", ErrTruncated)
	}
	if err := r.readAt(b, off); err != nil {
		return chunk{}, err
	}
	c, extLen, err := parseFixed(b, off)
	if err != nil {
		return c, err
	}
	if n := chunkHeader + extLen; n > len(b) {
		long := make([]byte, n)
		if err := r.readAt(long, off); err != nil {
			return c, err
		}
		b = long
	}
	return c, c.check(b[:chunkHeader+extLen], &r.h.Salt)
}

// stored reads the payload of c as it is in the file.
func (r *Reader) stored(c *chunk) ([]byte, error) {
	b := make([]byte, c.clen)
	if err := r.readAt(b, c.off+chunkHeader+int64(len(c.ext))); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != c.pcrc {
		return nil, corrupt("checksum of chunk %v", c.typ)
	}
	return b, nil
}

// storedBufs has buffers for most chunks as they are in the file.
var storedBufs = sync.Pool{New: func() any {
	b := make([]byte, frameBytes+chunkHeader+MaxExt)
	return &b
}}

// read reads the payload of the chunk of an index entry, and checks that the
// chunk is what the index says.
func (r *Reader) read(e entry) ([]byte, error) {
	if e.off < r.start || e.size < chunkHeader || e.size > chunkHeader+MaxExt+MaxStored || e.off > r.size-e.size {
		return nil, at(e.off, corrupt("index entry beyond the file"))
	}
	buf := storedBufs.Get().(*[]byte)
	defer storedBufs.Put(buf)
	b := *buf
	if e.size > int64(len(b)) {
		b = make([]byte, e.size)
	}
	payload, err := r.readInto(b[:e.size], e)
	return payload, at(e.off, err)
}

// readInto is read with a buffer of the size of the chunk, which it does not
// keep.
func (r *Reader) readInto(b []byte, e entry) ([]byte, error) {
	if err := r.readAt(b, e.off); err != nil {
		return nil, err
	}
	c, extLen, err := parseFixed(b, e.off)
	if err == nil && chunkHeader+extLen > len(b) {
		err = corrupt("size of a chunk header")
	}
	if err == nil {
		err = c.check(b[:chunkHeader+extLen], &r.h.Salt)
	}
	if err != nil {
		return nil, err
	}
	if c.typ != e.typ || c.base != e.base || c.count != e.count || c.size() != e.size {
		return nil, corrupt("the index does not fit the %v chunk", c.typ)
	}
	stored := b[chunkHeader+extLen:]
	if crc32.Checksum(stored, castagnoli) != c.pcrc {
		return nil, corrupt("checksum of chunk %v", c.typ)
	}
	if c.flags&flagCodec == codecStored {
		return bytes.Clone(stored), nil
	}
	return c.decode(stored)
}

// cached is read through the cache.
func (r *Reader) cached(e entry) ([]byte, error) {
	if b, ok := r.cache.get(e.off); ok {
		return b, nil
	}
	b, err := r.read(e)
	if err == nil {
		r.cache.put(e.off, b, int64(cap(b)))
	}
	return b, err
}

// openRoot opens a log by its end; ok is false where it has none.
func (r *Reader) openRoot() (ok bool, err error) {
	var tail [tailSize]byte
	if r.size < r.start+tailSize {
		return false, nil
	}
	if err := r.readAt(tail[:], r.size-tailSize); err != nil {
		return false, err
	}
	off, ok := parseTail(tail[:], &r.h.Salt, r.size)
	if !ok {
		return false, nil
	}
	c, err := r.header(off)
	if err != nil || c.typ != TypeRoot || c.end() != r.size-tailSize {
		return false, nil
	}
	stored, err := r.stored(&c)
	if err != nil {
		return false, nil
	}
	payload, err := c.decode(stored)
	if err != nil {
		return false, nil
	}
	blocks, info, err := parseRoot(payload, off)
	if err != nil {
		return false, nil
	}
	x := index{blocks: blocks, fetch: r.x.fetch}
	x.finish()
	if !x.totals(info, r.h.Begin.Step) {
		return false, nil
	}
	r.x, r.info = x, *info
	r.info.First, r.info.Size = r.h.Begin.Step, r.size
	return true, nil
}

// fetchBlock reads the INDEX chunk of a block.
func (r *Reader) fetchBlock(b *block) ([]entry, error) {
	_, entries, prev, _, err := r.index(b.off)
	switch {
	case err != nil:
	case len(entries) != b.n:
		err = corrupt("INDEX chunk of %d entries, not %d", len(entries), b.n)
	case prev != b.prev:
		err = corrupt("the INDEX chunk before is said to be at %d, not at %d", prev, b.prev)
	default:
		err = b.check(entries)
	}
	return entries, at(b.off, err)
}

// index reads the INDEX chunk at off. Its entries end there, and begin after the
// INDEX chunk before.
func (r *Reader) index(off int64) (c chunk, entries []entry, prev int64, seq uint32, err error) {
	c, err = r.header(off)
	if err == nil && c.typ != TypeIndex {
		err = corrupt("%v chunk in place of an INDEX", c.typ)
	}
	var payload []byte
	if err == nil {
		payload, err = r.stored(&c)
	}
	if err == nil {
		payload, err = c.decode(payload)
	}
	if err == nil {
		entries, prev, seq, err = parseIndex(payload, off)
	}
	if n := len(entries); err == nil && n > 0 && entries[n-1].off+entries[n-1].size != off {
		err = corrupt("INDEX chunks leave a gap")
	}
	return c, entries, prev, seq, at(off, err)
}

// group decodes the group whose EVENT chunk is at p; what that costs is added to
// spent.
func (r *Reader) group(p pos, spent *budget) (*group, error) {
	e, _, err := r.x.entry(&p)
	if err != nil {
		return nil, err
	}
	// Its other chunks lie between the commit before and this one.
	var blobs, states []entry
	var statePos []pos
	for q := (pos{p.block, p.i - 1}); ; q.i-- {
		x, ok, err := r.x.entry(&q)
		if err != nil {
			return nil, err
		}
		if !ok || x.commit {
			break
		}
		switch x.typ {
		case TypeBlob:
			blobs = append(blobs, x)
		case TypeState:
			states, statePos = append(states, x), append(statePos, q)
		}
	}
	payload, err := r.cached(e)
	if err != nil {
		return nil, err
	}
	slices.Reverse(blobs)
	blob, err := r.blobOf(e, blobs)
	if err != nil {
		return nil, err
	}
	spent.read(len(payload) + len(blob))
	if err := spent.worked(); err != nil {
		return nil, at(e.off, err)
	}
	g := &group{limit: r.budget.limit / 4, spent: spent}
	if g.ev, err = newEventDec(e, payload, blob, r.h.TimeShift); err != nil {
		return nil, at(e.off, err)
	}
	if len(g.ev.cols[colStack].b) > 0 {
		if g.ev.nodes, err = r.ids(TypeStack, p); err != nil {
			return nil, err
		}
	}
	if n := len(blobs); n > 0 {
		g.ev.calls, g.ev.blob0 = r.h.Calls, blobs[0].base
	}
	for i := len(states) - 1; i >= 0; i-- {
		g.states = append(g.states, r.state(states[i], statePos[i]))
	}
	return g, nil
}

// blobOf is the bytes of the BLOB chunks of the group of e.
func (r *Reader) blobOf(e entry, blobs []entry) ([]byte, error) {
	if len(blobs) == 1 {
		return r.cached(blobs[0])
	}
	size := uint64(0)
	for i := range blobs {
		size += uint64(blobs[i].count) // bytes
	}
	if size > MaxGroupBlob {
		return nil, at(e.off, overLimit("the blobs of a group", size, MaxGroupBlob))
	}
	blob := make([]byte, 0, size)
	for i := range blobs {
		b, err := r.cached(blobs[i])
		if err != nil {
			return nil, err
		}
		blob = append(blob, b...)
	}
	return blob, nil
}

// state is a STATE chunk, which is read when its turn comes.
func (r *Reader) state(e entry, p pos) statePart {
	return statePart{off: e.off, base: Step(e.base), load: func() (payload []byte, raw, patch uint64, err error) {
		if raw, err = r.ids(TypeRaw, p); err != nil {
			return nil, 0, 0, err
		}
		if patch, err = r.ids(TypePatch, p); err != nil {
			return nil, 0, 0, err
		}
		payload, err = r.cached(e)
		return payload, raw, patch, err
	}}
}

// ids is how many ids of a type the log has before p.
func (r *Reader) ids(t Type, p pos) (uint64, error) {
	// Within the block, else the last of the blocks before.
	for b := p.block; b >= 0; b-- {
		entries, err := r.x.get(r.x.blocks[b])
		if err != nil {
			return 0, err
		}
		of := r.x.blocks[b].byType[t]
		for k := len(of) - 1; k >= 0; k-- {
			if b == p.block && int(of[k]) >= p.i {
				continue
			}
			e := entries[of[k]]
			return e.base + uint64(e.count), nil
		}
	}
	return 0, nil
}

// Events yields the events from a step on, each with its changes. An Event is
// valid until the next one. After an error nothing follows.
func (r *Reader) Events(from Step) iter.Seq2[*Event, error] {
	from = max(from, r.First())
	return func(yield func(*Event, error) bool) {
		p, ok, err := r.x.last(TypeEvent, uint64(from))
		if err != nil {
			yield(nil, err)
			return
		}
		if !ok {
			return
		}
		spent := r.budget
		next := NoStep // what the chunk must begin with
		for {
			e, ok, err := r.x.entry(&p)
			if err != nil {
				yield(nil, err)
				return
			}
			if !ok {
				return
			}
			if e.typ != TypeEvent {
				p.i++
				continue
			}
			if next != NoStep && e.base != uint64(next) {
				yield(nil, at(e.off, corrupt("events %d to %d are missing", next, e.base)))
				return
			}
			next = Step(e.base + uint64(e.count))
			if next <= from {
				p.i++
				continue
			}
			g, err := r.group(p, &spent)
			if err != nil {
				yield(nil, err)
				return
			}
			if !g.events(e.off, from, yield) {
				return
			}
			p.i++
		}
	}
}

// events yields the events of a group from a step on; it says whether to go on.
func (g *group) events(off int64, from Step, yield func(*Event, error) bool) bool {
	if err := g.skip(from); err != nil {
		yield(nil, at(off, err))
		return false
	}
	for g.ev.row < g.ev.rows {
		e, err := g.next()
		if err != nil {
			yield(nil, at(off, err))
			return false
		}
		if !yield(e, nil) {
			return false
		}
	}
	return true
}

// StepAtTime is the last event that happened at or before a time (ns since the
// start), or the first event. The log must have one.
func (r *Reader) StepAtTime(ns uint64) (Step, error) {
	if r.info.Steps == r.First() {
		return 0, fmt.Errorf("format: the log has no steps")
	}
	p, ok, err := r.x.lastTime(ns >> r.h.TimeShift)
	if err != nil || !ok {
		return r.First(), err
	}
	spent := r.budget
	g, err := r.group(p, &spent)
	if err != nil {
		return 0, err
	}
	// The times are a column: the events need not be decoded.
	d := g.ev
	step := d.base
	for i := range d.rows {
		d.time += uint64(d.cols[colTime].zz())
		if d.cols[colTime].bad {
			return 0, corrupt("row %d of an EVENT chunk", i)
		}
		if d.time<<d.shift <= ns {
			step = d.base + Step(i)
		}
	}
	return step, nil
}
