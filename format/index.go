package format

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"
	"sync"
)

// entry is what an INDEX chunk says of a chunk.
type entry struct {
	off    int64
	size   int64 // in the file, header included
	base   uint64
	count  uint32
	time   uint64 // EVENT: of the first row, in clock units
	typ    Type
	commit bool
}

func (c *chunk) entry() entry {
	e := entry{off: c.off, size: c.size(), base: c.base, count: c.count, typ: c.typ, commit: c.commit()}
	if c.typ == TypeEvent {
		e.time = c.time()
	}
	return e
}

const entryCommit = 0x80

// indexTypes is how many types of chunk version 1.1 knew first. It kept the bases of
// an INDEX chunk in so many places, so that those of later types share them.
const indexTypes = 14

// appendIndex encodes an INDEX chunk's payload: prev is the offset of the one
// before, seq the ordinal of the first chunk. The entries follow each other in
// the file without gaps.
func appendIndex(b []byte, entries []entry, prev int64, seq uint32) []byte {
	b = appendU(b, uint64(len(entries)))
	b = appendU(b, uint64(prev))
	b = appendU(b, uint64(seq))
	if len(entries) == 0 {
		return b
	}
	b = appendU(b, uint64(entries[0].off))
	var base [indexTypes]uint64
	var time uint64
	for _, e := range entries {
		t := byte(e.typ)
		if e.commit {
			t |= entryCommit
		}
		b = append(b, t)
		b = appendU(b, uint64(e.size))
		b = appendZZ(b, int64(e.base-base[e.typ%indexTypes]))
		b = appendU(b, uint64(e.count))
		base[e.typ%indexTypes] = e.base + uint64(e.count)
		if e.typ == TypeEvent {
			b = appendZZ(b, int64(e.time-time))
			time = e.time
		}
	}
	return b
}

// parseIndex decodes an INDEX chunk at off.
func parseIndex(payload []byte, off int64) (entries []entry, prev int64, seq uint32, err error) {
	c := cursor{b: payload}
	n := c.count(4)
	prev, seq = int64(c.u()), c.u32()
	if prev < 0 || prev >= off {
		return nil, 0, 0, corrupt("INDEX chunk points forward")
	}
	// They lie between the two INDEX chunks: what a log has of entries is in
	// proportion to its size.
	if int64(n) > (off-prev)/chunkHeader {
		return nil, 0, 0, corrupt("INDEX chunk of %d entries for %d bytes", n, off-prev)
	}
	if n == 0 {
		if c.bad {
			return nil, 0, 0, corrupt("INDEX chunk")
		}
		return nil, prev, seq, nil
	}
	at := int64(c.u())
	var base [indexTypes]uint64
	var time uint64
	entries = make([]entry, n)
	for i := range entries {
		t := c.u8()
		e := entry{off: at, typ: Type(t &^ entryCommit), commit: t&entryCommit != 0, size: int64(c.u())}
		e.base = base[e.typ%indexTypes] + uint64(c.zz())
		e.count = c.u32()
		base[e.typ%indexTypes] = e.base + uint64(e.count)
		if e.typ == TypeEvent {
			time += uint64(c.zz())
			e.time = time
		}
		if c.bad || e.size < chunkHeader || e.size > chunkHeader+MaxExt+MaxStored || e.off < headerFixed || e.off < prev ||
			at > off-e.size || e.base+uint64(e.count) < e.base {
			return nil, 0, 0, corrupt("INDEX chunk entry %d", i)
		}
		at += e.size
		entries[i] = e
	}
	return entries, prev, seq, nil
}

// noBase marks a type that a block and those after it do not have.
const noBase = ^uint64(0)

// block is an INDEX chunk, or the chunks after the last one. Its entries are
// read when they are needed.
type block struct {
	off   int64 // of the INDEX chunk; 0 for chunks that no INDEX covers
	prev  int64 // of the INDEX chunk before
	end   int64 // end of the last chunk it covers
	seq   uint32
	n     int
	first [numTypes]uint64 // base of the first chunk of each type, or of the next block's
	ends  [numTypes]uint64 // first of the next block
	time  uint64           // of the first EVENT chunk, likewise

	once    sync.Once
	entries []entry
	byType  [numTypes][]int32 // positions in entries
	err     error
}

// bases finds what the block's entries say of first, for a block that has them.
func (b *block) bases() {
	for i := range b.first {
		b.first[i] = noBase
	}
	b.time = noBase
	for _, e := range b.entries {
		if e.typ < numTypes && b.first[e.typ] == noBase {
			b.first[e.typ] = e.base
			if e.typ == TypeEvent {
				b.time = e.time
			}
		}
	}
}

// index is where the committed chunks of a log are. It is not changed once it
// is made, but for blocks being read.
type index struct {
	blocks []*block
	fetch  func(b *block) ([]entry, error)
}

// finish completes an index whose blocks are all there.
func (x *index) finish() {
	next, time := [numTypes]uint64{}, uint64(noBase)
	for i := range next {
		next[i] = noBase
	}
	for i, b := range slices.Backward(x.blocks) {
		if i > 0 {
			b.prev = x.blocks[i-1].off
		}
		b.ends = next
		for t := range b.first {
			if b.first[t] == noBase {
				b.first[t] = next[t]
			}
		}
		if b.time == noBase {
			b.time = time
		}
		next, time = b.first, b.time
	}
}

// dense says whether chunks of a type are numbered without gaps, from 0: what they
// hold can be found by number, and there is no more of it than they have.
func (t Type) dense() bool {
	switch t {
	case TypeRaw, TypePatch, TypeEvent, TypeLeaf, TypeBlob, TypeKeyMM, TypeWritten, TypeModule, TypeStack, TypeTexts, TypeRefs, TypeFile, TypeFData:
		return true
	}
	return false
}

// check compares the entries of a block with what ROOT says of it and of the next
// block.
func (b *block) check(entries []entry) error {
	next := b.first
	for i := range entries {
		e := &entries[i]
		if !e.typ.dense() {
			continue
		}
		if e.base != next[e.typ] {
			return corrupt("INDEX chunk has a %v chunk at %d, not at %d", e.typ, e.base, next[e.typ])
		}
		next[e.typ] = e.base + uint64(e.count)
	}
	for t := range next {
		if Type(t).dense() && b.ends[t] != noBase && next[t] != b.ends[t] {
			return corrupt("INDEX chunk ends its %v chunks at %d, not at %d", Type(t), next[t], b.ends[t])
		}
	}
	return nil
}

// totals says whether the numbers of a ROOT chunk are those of the chunks. A log
// whose ROOT lies is read as one without.
func (x *index) totals(info *Info, begin Step) bool {
	for t, want := range map[Type]uint64{TypeEvent: uint64(info.Steps), TypeRaw: info.RawPages, TypePatch: info.Patches, TypeRefs: info.Refs} {
		have := x.base(t, begin)
		if p, ok, err := x.last(t, noBase-1); err != nil {
			return false
		} else if ok {
			e := x.blocks[p.block].entries[p.i]
			have = e.base + uint64(e.count)
		}
		if have != want {
			return false
		}
	}
	for t := Type(0); len(x.blocks) > 0 && t < numTypes; t++ {
		if first := x.blocks[0].first[t]; t.dense() && first != x.base(t, begin) && first != noBase {
			return false
		}
	}
	return true
}

// base is the number that chunks of a type begin with, in a log whose first step is begin.
func (x *index) base(t Type, begin Step) uint64 {
	if t == TypeEvent {
		return uint64(begin)
	}
	return 0
}

func (x *index) get(b *block) ([]entry, error) {
	b.once.Do(func() {
		if b.entries == nil && b.n > 0 {
			b.entries, b.err = x.fetch(b)
		}
		for i, e := range b.entries {
			if e.typ < numTypes {
				b.byType[e.typ] = append(b.byType[e.typ], int32(i))
			}
		}
	})
	return b.entries, b.err
}

// pos is a chunk's place in the index.
type pos struct{ block, i int }

// last finds the last chunk of a type with a base of at most id.
func (x *index) last(t Type, id uint64) (p pos, ok bool, err error) {
	return x.lastBefore(t, func(b *block) bool { return b.first[t] > id }, func(e *entry) bool { return e.base > id })
}

// lastBefore finds the last chunk of a type before those that lie beyond.
func (x *index) lastBefore(t Type, beyondBlock func(*block) bool, beyond func(*entry) bool) (p pos, ok bool, err error) {
	n := sort.Search(len(x.blocks), func(i int) bool { return beyondBlock(x.blocks[i]) })
	if n == 0 {
		return p, false, nil
	}
	b := x.blocks[n-1]
	entries, err := x.get(b)
	if err != nil {
		return p, false, err
	}
	of := b.byType[t]
	k := sort.Search(len(of), func(i int) bool { return beyond(&entries[of[i]]) })
	if k == 0 {
		return p, false, at(b.off, corrupt("INDEX chunk lacks what ROOT says it has"))
	}
	return pos{n - 1, int(of[k-1])}, true, nil
}

// holding finds the chunk of a type with dense ids that has id.
func (x *index) holding(t Type, id uint64) (entry, error) {
	p, ok, err := x.last(t, id)
	if err != nil {
		return entry{}, err
	}
	if ok {
		if e := x.blocks[p.block].entries[p.i]; id-e.base < uint64(e.count) {
			return e, nil
		}
	}
	return entry{}, corrupt("the log has no %v chunk with number %d", t, id)
}

// lastTime finds the last EVENT chunk that begins at or before a time.
func (x *index) lastTime(t uint64) (p pos, ok bool, err error) {
	return x.lastBefore(TypeEvent, func(b *block) bool { return b.time > t }, func(e *entry) bool { return e.time > t })
}

// entry is the chunk at a place; ok is false beyond the end (or, going down,
// before the beginning). It moves p to where the entry is, over block bounds.
func (x *index) entry(p *pos) (e entry, ok bool, err error) {
	for p.block >= 0 && p.block < len(x.blocks) {
		entries, err := x.get(x.blocks[p.block])
		if err != nil {
			return e, false, err
		}
		switch {
		case p.i < 0:
			p.block--
			if p.block >= 0 {
				p.i = x.blocks[p.block].n - 1
			}
		case p.i >= len(entries):
			p.block++
			p.i = 0
		default:
			return entries[p.i], true, nil
		}
	}
	return e, false, nil
}

// Sections of a ROOT chunk.
const (
	rootBlocks = iota + 1
	rootTypes
	rootTotals
	rootReason
	rootAllTypes
)

// typeTotals counts the chunks of a type.
type typeTotals struct{ chunks, stored, decoded uint64 }

// appendRoot encodes a ROOT chunk's payload.
func appendRoot(b []byte, blocks []*block, info *Info) []byte {
	var s []byte
	s = appendU(s, uint64(len(blocks)))
	var off, end int64
	for _, x := range blocks {
		s = appendU(s, uint64(x.off-off))
		s = appendZZ(s, x.end-end)
		off, end = x.off, x.end
		s = appendU(s, uint64(x.seq))
		s = appendU(s, uint64(x.n))
		n := 0
		for _, f := range x.first {
			if f != noBase {
				n++
			}
		}
		s = appendU(s, uint64(n))
		for t, f := range x.first {
			if f != noBase {
				s = appendU(appendU(s, uint64(t)), f)
			}
		}
		s = appendU(s, x.time+1)
	}
	b = appendTLV(b, rootBlocks, s)
	// Version 1.1 counts later types as others, and compares.
	var first [indexTypes]typeTotals
	later := false
	for t, c := range info.types {
		f := &first[t%indexTypes]
		f.chunks, f.stored, f.decoded = f.chunks+c.chunks, f.stored+c.stored, f.decoded+c.decoded
		later = later || t >= indexTypes && c.chunks > 0
	}
	b = appendTLV(b, rootTypes, appendTotals(s[:0], first[:]))
	if later {
		b = appendTLV(b, rootAllTypes, appendTotals(s[:0], info.types[:]))
	}
	s = s[:0]
	for _, v := range info.totals() {
		s = appendU(s, *v)
	}
	b = appendTLV(b, rootTotals, s)
	return appendTLV(b, rootReason, []byte(info.Reason))
}

func appendTotals(s []byte, types []typeTotals) []byte {
	for t, c := range types {
		if c.chunks > 0 {
			s = appendU(s, uint64(t))
			s = appendU(s, c.chunks)
			s = appendU(s, c.stored)
			s = appendU(s, c.decoded)
		}
	}
	return s
}

func parseRoot(payload []byte, off int64) (blocks []*block, info *Info, err error) {
	info = new(Info)
	c := cursor{b: payload}
	for len(c.b) > 0 {
		tag, s := c.u(), cursor{b: c.blob()}
		switch tag {
		case rootBlocks:
			if blocks, err = parseBlocks(&s, off); err != nil {
				return nil, nil, err
			}
		case rootTypes, rootAllTypes:
			info.types = [numTypes]typeTotals{}
			for len(s.b) > 0 {
				t, x := s.u(), typeTotals{s.u(), s.u(), s.u()}
				if t < uint64(numTypes) {
					info.types[t] = x
				}
			}
		case rootTotals:
			for _, v := range info.totals() {
				if len(s.b) > 0 {
					*v = s.u()
				}
			}
		case rootReason:
			info.Reason = string(s.b)
			s.b = nil
		}
		if s.bad {
			return nil, nil, corrupt("section %d of the ROOT chunk", tag)
		}
	}
	if c.bad {
		return nil, nil, corrupt("ROOT chunk")
	}
	return blocks, info, nil
}

func parseBlocks(s *cursor, root int64) ([]*block, error) {
	n := s.count(6)
	if int64(n) > root/chunkHeader {
		return nil, corrupt("ROOT chunk lists %d INDEX chunks in %d bytes", n, root)
	}
	blocks := make([]*block, n)
	slab := make([]block, n)
	var off, end int64
	for i := range blocks {
		b := &slab[i]
		off += int64(s.u())
		end += s.zz()
		b.off, b.end, b.seq, b.n = off, end, s.u32(), int(s.u32())
		for t := range b.first {
			b.first[t] = noBase
		}
		for n := s.count(2); n > 0 && !s.bad; n-- {
			if t, f := s.u(), s.u(); t < uint64(numTypes) {
				b.first[t] = f
			}
		}
		b.time = s.u() - 1
		if s.bad || b.off <= 0 || b.off >= root || b.end < 0 || b.end > b.off || i > 0 && b.off <= blocks[i-1].off {
			return nil, corrupt("INDEX block %d of the ROOT chunk", i)
		}
		blocks[i] = b
	}
	return blocks, nil
}

var tailMagic = [8]byte{'M', 'T', 'L', 'O', 'G', 'E', 'N', 'D'}

// appendTail encodes the last bytes of a log: where its ROOT chunk is.
func appendTail(b []byte, salt *[16]byte, root, size int64) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint64(b, uint64(root))
	b = append(b, salt[:8]...)
	b = append(b, tailMagic[:]...)
	b = le.AppendUint32(b, uint32(size))
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseTail finds the ROOT chunk by the last bytes of a file of the given size.
func parseTail(b []byte, salt *[16]byte, size int64) (root int64, ok bool) {
	le := binary.LittleEndian
	if len(b) != tailSize || string(b[8:16]) != string(salt[:8]) || string(b[16:24]) != string(tailMagic[:]) ||
		le.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return 0, false
	}
	root = int64(le.Uint64(b))
	return root, root >= headerFixed && root+int64(le.Uint32(b[24:])) == size-tailSize
}
