package format

import (
	"encoding/binary"
	"math/bits"

	"memtrace/format/addr"
)

// A patch is the difference between two versions of a page: pairs of how many
// bytes stay and how many new ones follow, and those (XBZRLE). What is beyond
// the last pair stays.

// patchGap is how many equal bytes between two differences are taken along: a
// pair of lengths is as long.
const patchGap = 3

// appendPatch appends the patch from old to new; ok is false when it would be
// longer than limit bytes.
func appendPatch(b, old, new []byte, limit int) (_ []byte, ok bool) {
	_, _ = old[addr.PageSize-1], new[addr.PageSize-1]
	limit += len(b)
	start, end, done := 0, 0, 0 // the difference at hand; end of the last pair
	for i := 0; i < addr.PageSize; i += 8 {
		x := binary.LittleEndian.Uint64(old[i:]) ^ binary.LittleEndian.Uint64(new[i:])
		if x == 0 {
			continue
		}
		lo, hi := i+bits.TrailingZeros64(x)/8, i+8-bits.LeadingZeros64(x)/8
		if end > start {
			if lo-end <= patchGap {
				end = hi
				continue
			}
			b = appendPair(b, start-done, new[start:end])
			done = end
		}
		start, end = lo, hi
		if len(b) > limit {
			return b, false
		}
	}
	if end > start {
		b = appendPair(b, start-done, new[start:end])
	}
	return b, len(b) <= limit
}

func appendPair(b []byte, skip int, p []byte) []byte {
	b = appendU(b, uint64(skip))
	b = appendU(b, uint64(len(p)))
	return append(b, p...)
}

// applyPatch turns a page into its next version.
func applyPatch(page *[addr.PageSize]byte, patch []byte) error {
	c := cursor{b: patch}
	at := uint64(0)
	for len(c.b) > 0 {
		skip, n := c.u(), c.u()
		p := c.take(n)
		if c.bad || skip > addr.PageSize || at+skip+n > addr.PageSize {
			return corrupt("patch of a page")
		}
		at += skip
		copy(page[at:], p)
		at += n
	}
	if c.bad {
		return corrupt("patch of a page")
	}
	return nil
}

// patchEnc collects patches for a PATCH chunk.
type patchEnc struct {
	base  uint64 // number of the first
	n     uint64
	table []byte
	data  []byte
	sizes []uint32 // decoded size of each PATCH chunk so far
}

// frame is the ordinal of the chunk being filled.
func (e *patchEnc) frame() int32 { return int32(len(e.sizes)) }

func (e *patchEnc) size() int { return len(e.table) + len(e.data) }

// add gives a patch a number. from is the page that it starts from.
func (e *patchEnc) add(from PageRef, patch []byte) PageRef {
	id := e.base + e.n
	if from&1 != 0 {
		e.table = appendU(e.table, (id-uint64(from>>1))<<1|1)
	} else {
		e.table = appendU(e.table, uint64(from))
	}
	e.table = appendU(e.table, uint64(len(patch)))
	e.data = append(e.data, patch...)
	e.n++
	return PageRef(id<<1 | 1)
}

// appendPayload ends the chunk.
func (e *patchEnc) appendPayload(b []byte) []byte {
	e.sizes = append(e.sizes, uint32(e.size()))
	b = append(append(b, e.table...), e.data...)
	e.base += e.n
	e.n, e.table, e.data = 0, e.table[:0], e.data[:0]
	return b
}

// patchFrame is a decoded PATCH chunk.
type patchFrame struct {
	payload []byte
	off     []uint32  // where each patch begins, and the end of the last
	from    []PageRef // what each starts from
}

// parsePatches decodes the payload of a PATCH chunk; base is the number of its
// first patch.
func parsePatches(payload []byte, base uint64, count uint32) (*patchFrame, error) {
	if uint64(count) > uint64(len(payload))/2 {
		return nil, corrupt("PATCH chunk of %d bytes for %d patches", len(payload), count)
	}
	f := &patchFrame{payload: payload, off: make([]uint32, count+1), from: make([]PageRef, count)}
	c := cursor{b: payload}
	var sum uint64
	for i := range f.from {
		from, n := c.u(), c.u()
		if c.bad || n > MaxPatch {
			return nil, corrupt("table of a PATCH chunk")
		}
		id := base + uint64(i)
		if from&1 != 0 {
			// Strictly older: a chain of patches always ends.
			d := from >> 1
			if d == 0 || d > id {
				return nil, corrupt("patch %d starts from one that is not older", id)
			}
			f.from[i] = PageRef((id-d)<<1 | 1)
		} else {
			f.from[i] = PageRef(from)
		}
		f.off[i] = uint32(sum)
		sum += n
	}
	if sum != uint64(len(c.b)) {
		return nil, corrupt("PATCH chunk of %d bytes of patches for %d", len(c.b), sum)
	}
	f.off[count] = uint32(sum)
	table := uint32(len(payload) - len(c.b))
	for i := range f.off {
		f.off[i] += table
	}
	return f, nil
}

func (f *patchFrame) patch(i uint64) []byte { return f.payload[f.off[i]:f.off[i+1]] }
