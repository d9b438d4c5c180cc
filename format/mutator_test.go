package format

import (
	"bytes"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A Mutator makes logs that lie: it takes one apart into chunks and their payloads
// into records, changes some, and puts all together again with checksums, an index
// and an end that are right, or lie on purpose.
type Mutator struct {
	head []byte // file header
	h    *Header
	in   []mutantPart
	enc  *zstd.Encoder
}

type mutantPart struct {
	c       chunk
	payload []byte
}

// NewMutator takes a log apart.
func NewMutator(t testing.TB, log []byte) *Mutator {
	t.Helper()
	r, err := openHeader(bytes.NewReader(log), int64(len(log)), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mutator{head: log[:r.start], h: r.h}
	if m.enc, err = newEncoder(zstd.SpeedFastest); err != nil {
		t.Fatal(err)
	}
	for s := r.newScan(); ; {
		c, stored, err := s.step()
		if err == io.EOF {
			return m
		}
		if err != nil {
			t.Fatal(err)
		}
		payload, err := c.decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if c.typ != TypeIndex {
			m.in = append(m.in, mutantPart{c, bytes.Clone(payload)})
		}
	}
}

// Seeds are logs that have something of everything.
func Seeds(t testing.TB) [][]byte { return append(seedLogs(t), tinyLogs(t)...) }

// Mutant makes a log of the seed. Most of its lies are in one place: with many, the
// first would hide the others.
func (m *Mutator) Mutant(rng *rand.Rand) []byte {
	parts := slices.Clone(m.in)
	for range 1 + rng.IntN(2) {
		if len(parts) == 0 {
			break
		}
		k := rng.IntN(len(parts))
		for range 4 { // pages have little to lie about
			if parts[k].c.typ == TypeRaw {
				k = rng.IntN(len(parts))
			}
		}
		p := &parts[k]
		switch rng.IntN(14) {
		case 0:
			p.c.base = extreme(rng, p.c.base)
		case 1:
			p.c.count = uint32(extreme(rng, uint64(p.c.count)))
		case 2:
			p.c.flags ^= flagCommit
		case 3:
			p.c.typ = Type(1 + rng.IntN(int(numTypes)+1))
		case 4:
			p.c.ext = mutate(rng, append(bytes.Clone(p.c.ext), 1, 1, 0))
		case 5:
			parts = slices.Delete(parts, k, k+1)
		case 6:
			parts = slices.Insert(parts, rng.IntN(len(parts)), *p)
		case 7:
			j := rng.IntN(len(parts))
			parts[j], parts[k] = parts[k], parts[j]
		case 8, 9, 10:
			if p.c.typ == TypeState {
				p.payload, p.c.count = mutateRecords(rng, p.payload, p.c.count)
				break
			}
			fallthrough
		case 11, 12:
			p.payload = mutateNumber(rng, p.payload)
		default:
			p.payload = mutate(rng, append(bytes.Clone(p.payload), 0))
		}
	}
	b := m.build(rng, parts)
	if rng.IntN(12) == 0 {
		b = b[:len(m.head)+rng.IntN(len(b)-len(m.head)+1)]
	}
	return b
}

// extreme is another number, near or far.
func extreme(rng *rand.Rand, v uint64) uint64 {
	switch rng.IntN(4) {
	case 0:
		return v + uint64(rng.IntN(5)) - 2
	case 1:
		return 1<<rng.IntN(64) - uint64(rng.IntN(2))
	case 2:
		return -uint64(1 + rng.IntN(4))
	}
	return rng.Uint64() >> rng.IntN(64)
}

// mutateNumber puts another number in place of one that begins somewhere.
func mutateNumber(rng *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	at := rng.IntN(len(b))
	c := cursor{b: b[at:]}
	v := c.u()
	if c.bad {
		return mutate(rng, b)
	}
	return append(appendU(bytes.Clone(b[:at]), extreme(rng, v)), c.b...)
}

// mutateRecords changes the records of a STATE chunk: drops, doubles, swaps and
// repeats them, or changes numbers in one, whose length is right again then.
func mutateRecords(rng *rand.Rand, payload []byte, count uint32) ([]byte, uint32) {
	type rec struct {
		typ  byte
		body []byte
	}
	c := cursor{b: payload}
	raw, patch := c.u(), c.u()
	var recs []rec
	for len(c.b) > 0 {
		recs = append(recs, rec{c.u8(), c.blob()})
	}
	if c.bad || len(recs) == 0 {
		return payload, count
	}
	k := rng.IntN(len(recs))
	switch rng.IntN(6) {
	case 0:
		recs = slices.Delete(recs, k, k+1)
	case 1:
		recs = slices.Insert(recs, rng.IntN(len(recs)), recs[k])
	case 2:
		j := rng.IntN(len(recs))
		recs[j], recs[k] = recs[k], recs[j]
	case 3: // many times, with a number that counts up
		body := recs[k].body
		at := rng.IntN(len(body) + 1)
		n := 1 << rng.IntN(15)
		var more []rec
		for i := range n {
			b := bytes.Clone(body)
			if at < len(b) && len(b) > 1 {
				v := cursor{b: b[at:]}
				x := v.u()
				b = append(appendU(bytes.Clone(b[:at]), x+uint64(i)), v.b...)
			}
			more = append(more, rec{recs[k].typ, b})
		}
		recs = slices.Insert(recs, k, more...)
	case 4:
		recs[k].typ = byte(rng.IntN(int(recAncillary) + 2))
	default:
		recs[k].body = mutateNumber(rng, recs[k].body)
	}
	if rng.IntN(8) == 0 {
		raw, patch = extreme(rng, raw), extreme(rng, patch)
	}
	out := appendU(appendU(nil, raw), patch)
	for _, r := range recs {
		out = appendStr(append(out, r.typ), r.body)
	}
	return out, uint32(len(recs))
}

// build puts a log together.
func (m *Mutator) build(rng *rand.Rand, parts []mutantPart) []byte {
	b := bytes.Clone(m.head)
	if rng.IntN(30) == 0 {
		h := *m.h
		h.TimeShift, h.Calls = uint8(rng.IntN(31)), !h.Calls
		if other, err := h.append(nil); err == nil {
			b = other
		}
	}
	lies := rng.IntN(4) == 0
	every := 1 + rng.IntN(2*len(parts)+2) // chunks between INDEX chunks
	var s scan
	seq, prev, sinceSeq := uint32(0), int64(0), uint32(0)
	put := func(c chunk, payload []byte) chunk {
		c.off, c.seq, c.lastIndex = int64(len(b)), seq, prev
		c.flags = c.flags&^flagCodec | codecStored
		stored := payload
		if len(payload) > 1024 {
			c.flags, stored = c.flags|codecZstd, m.enc.EncodeAll(payload, nil)
		}
		c.clen, c.ulen, c.pcrc = uint32(len(stored)), uint32(len(payload)), crc32.Checksum(stored, castagnoli)
		b = append(c.append(b, &m.h.Salt), stored...)
		seq++
		return c
	}
	index := func() {
		if len(s.entries) == 0 {
			return
		}
		es := slices.Clone(s.entries)
		if lies && rng.IntN(2) == 0 {
			e := &es[rng.IntN(len(es))]
			switch rng.IntN(5) {
			case 0:
				e.base = extreme(rng, e.base)
			case 1:
				e.count = uint32(extreme(rng, uint64(e.count)))
			case 2:
				e.size = int64(extreme(rng, uint64(e.size)))
			case 3:
				es[0].off = int64(extreme(rng, uint64(es[0].off)))
			default:
				es = append(es, es...)
			}
		}
		payload := appendIndex(nil, es, prev, sinceSeq)
		if lies && rng.IntN(4) == 0 {
			payload = mutateNumber(rng, payload)
		}
		c := put(chunk{typ: TypeIndex, count: uint32(len(es))}, payload)
		s.take(c.entry(), c.ulen)
		prev, sinceSeq = c.off, seq
	}
	for i, p := range parts {
		c := put(p.c, p.payload)
		s.take(c.entry(), c.ulen)
		if (i+1)%every == 0 {
			index()
		}
	}
	if rng.IntN(5) == 0 { // no end
		return b
	}
	index()
	if lies {
		for _, v := range s.info.totals() {
			if rng.IntN(6) == 0 {
				*v = extreme(rng, *v)
			}
		}
		if len(s.blocks) > 0 {
			x := s.blocks[rng.IntN(len(s.blocks))]
			x.first[rng.IntN(int(numTypes))] = extreme(rng, 0)
			x.time = extreme(rng, x.time)
		}
	}
	payload := appendRoot(nil, s.blocks, &s.info)
	if lies && rng.IntN(3) == 0 {
		payload = mutateNumber(rng, payload)
	}
	c := put(chunk{typ: TypeRoot, count: 1}, payload)
	return appendTail(b, &m.h.Salt, c.off, int64(len(b))-c.off)
}
