package format

import (
	"bytes"
	"hash/maphash"

	"memtrace/format/addr"
)

var zeroPage [addr.PageSize]byte

// pageCache keeps copies of pages that the log holds, by their reference: what
// a new page is compared with before the log claims that it is equal to, or a
// difference from, an old one. It has room for a fixed number; the clock
// algorithm chooses what to forget.
type pageCache struct {
	seed  maphash.Seed
	slots []pageSlot
	of    map[PageRef]int32
	byKey []int32 // slot + 1 by hash
	slabs [][]byte
	limit int
	hand  int
}

type pageSlot struct {
	ref  PageRef
	hash uint64
	used bool // since the clock's hand passed
}

const slabPages = 256

func newPageCache(limit int) *pageCache {
	return &pageCache{seed: maphash.MakeSeed(), of: map[PageRef]int32{}, byKey: make([]int32, dedupeBuckets), limit: limit}
}

func (c *pageCache) bytes(slot int32) []byte {
	o := int(slot) % slabPages * addr.PageSize
	return c.slabs[slot/slabPages][o : o+addr.PageSize : o+addr.PageSize]
}

// get is the copy of the page with this reference.
func (c *pageCache) get(ref PageRef) (slot int32, page []byte) {
	slot, ok := c.of[ref]
	if !ok {
		return -1, nil
	}
	c.slots[slot].used = true
	return slot, c.bytes(slot)
}

// find is a page of the log that is equal to p.
func (c *pageCache) find(hash uint64, p []byte) (PageRef, bool) {
	slot := c.byKey[hash%dedupeBuckets] - 1
	if slot < 0 || c.slots[slot].hash != hash || !bytes.Equal(c.bytes(slot), p) {
		return 0, false
	}
	c.slots[slot].used = true
	return c.slots[slot].ref, true
}

// add keeps a copy of p, which the log holds as ref.
func (c *pageCache) add(ref PageRef, hash uint64, p []byte) {
	if c.limit == 0 {
		return
	}
	c.put(c.room(), ref, hash, p)
}

// put makes a slot the copy of p, whatever it held.
func (c *pageCache) put(slot int32, ref PageRef, hash uint64, p []byte) {
	s := &c.slots[slot]
	if s.ref != ref {
		delete(c.of, s.ref)
	}
	*s = pageSlot{ref: ref, hash: hash}
	copy(c.bytes(slot), p)
	c.of[ref] = slot
	c.byKey[hash%dedupeBuckets] = slot + 1
}

// room finds a slot for a new page.
func (c *pageCache) room() int32 {
	if n := len(c.slots); n < c.limit {
		if n%slabPages == 0 {
			c.slabs = append(c.slabs, make([]byte, slabPages*addr.PageSize))
		}
		c.slots = append(c.slots, pageSlot{ref: maxRef})
		return int32(n)
	}
	for {
		c.hand = (c.hand + 1) % len(c.slots)
		s := &c.slots[c.hand]
		if !s.used {
			return int32(c.hand)
		}
		s.used = false
	}
}

func (c *pageCache) hash(p []byte) uint64 { return maphash.Bytes(c.seed, p) }
