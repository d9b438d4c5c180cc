package format

import (
	"bytes"
	"hash/maphash"
	"time"

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
	ready chan []byte // slabs to come, see Writer.ExpectPages
	limit int
	hand  int
	forks uint32
}

type pageSlot struct {
	ref  PageRef
	hash uint64
	used bool // since the clock's hand passed
	// shared says that other pages may have this reference too, so that the
	// copy is not overwritten when one of them changes.
	shared bool
	forks  uint32 // pageCache.forks when the copy was made

	// The chain of patches that leads to it.
	depth  uint8
	cum    uint16 // bytes of patches
	frame  int32  // the PATCH chunk of the last one
	frames uint32 // decoded bytes of the other chunks
}

const slabPages = 256

func newPageCache(limit int) *pageCache {
	return &pageCache{seed: maphash.MakeSeed(), of: map[PageRef]int32{}, byKey: make([]int32, dedupeBuckets), ready: make(chan []byte, expectedSlabs), limit: limit}
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
	c.slots[slot].used, c.slots[slot].shared = true, true
	return c.slots[slot].ref, true
}

// add keeps a copy of p, which the log holds whole as ref.
func (c *pageCache) add(ref PageRef, hash uint64, p []byte) {
	if c.limit > 0 {
		c.put(c.room(), pageSlot{ref: ref, hash: hash, frames: frameBytes}, p)
	}
}

// put makes a slot the copy of p, whatever it held. One with hash 0 is not
// found by its contents.
func (c *pageCache) put(slot int32, s pageSlot, p []byte) {
	old := &c.slots[slot]
	if old.ref != s.ref {
		delete(c.of, old.ref)
	}
	s.forks, s.used = c.forks, true
	*old = s
	copy(c.bytes(slot), p)
	c.of[s.ref] = slot
	if s.hash != 0 {
		c.byKey[s.hash%dedupeBuckets] = slot + 1
	}
}

// reset forgets all pages; the room for them is kept.
func (c *pageCache) reset() {
	clear(c.of)
	clear(c.byKey)
	c.slots, c.hand = c.slots[:0], 0
}

// next is a slot for the version of a page that follows the one in slot: the
// same where nothing else may need that.
func (c *pageCache) next(slot int32) int32 {
	if s := &c.slots[slot]; !s.shared && s.forks == c.forks {
		return slot
	}
	return c.room()
}

// room finds a slot for a new page.
func (c *pageCache) room() int32 {
	if n := len(c.slots); n < c.limit {
		if n/slabPages == len(c.slabs) {
			c.slabs = append(c.slabs, c.slab())
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

func (c *pageCache) slab() []byte {
	select {
	case b := <-c.ready:
		return b
	default:
		return make([]byte, slabPages*addr.PageSize)
	}
}

// Fresh memory comes from the kernel a page at a time, as it is touched, and that
// takes as long as to store a page does. So a writer that expects pages touches
// beforehand what 2,048 of them take, on another goroutine and not in logs that
// are as short as most.
const (
	expectAfter    = 100 * time.Millisecond
	expectedSlabs  = 2048 / slabPages
	expectedFrames = 24 // as they come and as they are stored; those that are written are used again
)

// ExpectPages says that the contents of memory will be written.
func (w *Writer) ExpectPages() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.expect == nil && !w.closed {
		out := w.out
		w.expect = time.AfterFunc(expectAfter, func() { w.prepare(out) })
	}
}

func (w *Writer) prepare(out *output) {
	for range min(expectedSlabs, w.cache.limit/slabPages) {
		w.cache.ready <- touched(slabPages * addr.PageSize)
	}
	for range expectedFrames {
		out.recycle(touched(frameBytes))
	}
}

func touched(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += addr.PageSize {
		b[i] = 1
	}
	return b
}

func (c *pageCache) hash(p []byte) uint64 { return max(1, maphash.Bytes(c.seed, p)) }

// storePage stores a page of data in the cheapest way.
func (w *Writer) storePage(m *MM, vpn uint64, p []byte) error {
	r := pageRun{mm: m.No, kind: PageData, vpn: vpn, n: 1}
	old, err := m.pages.get(vpn)
	if err != nil {
		return err
	}
	slot, have := int32(-1), []byte(nil)
	var was PageRef
	if PageKind(old.ent&entKind) == PageData {
		was = PageRef(old.ent >> entShift)
		slot, have = w.cache.get(was)
		if have != nil && string(have) == string(p) {
			w.info.Same++
			r.ref = was
			return w.run(r, runRef)
		}
	}
	if string(p) == string(zeroPage[:]) {
		w.info.ZeroPages++
		r.kind = PageZero
		return w.run(r, runZero)
	}
	patched := false
	if have != nil && w.mayPatch(&w.cache.slots[slot]) {
		w.scratch, patched = appendPatch(w.scratch[:0], have, p, MaxPatch)
		if patched && len(w.scratch) <= smallPatch {
			return w.storePatch(r, was, slot, p)
		}
	}
	hash := w.cache.hash(p)
	if ref, ok := w.cache.find(hash, p); ok {
		w.info.Shared++
		r.ref = ref
		return w.run(r, runRef)
	}
	if patched {
		return w.storePatch(r, was, slot, p)
	}
	r.ref = PageRef(w.nraw << 1)
	// The record first: a STATE payload says which number it begins with.
	if err := w.run(r, runRaw); err != nil {
		return err
	}
	w.nraw++
	w.info.RawPages++
	if have == nil {
		w.cache.add(r.ref, hash, p)
	} else {
		w.cache.put(w.cache.next(slot), pageSlot{ref: r.ref, hash: hash, frames: frameBytes}, p)
	}
	if w.raw == nil {
		w.raw = w.out.buffer()
	}
	w.raw = append(w.raw, p...)
	if len(w.raw) >= frameBytes {
		w.frames++
		w.putRaw()
	}
	return nil
}

// What a chain of patches may come to.
const (
	smallPatch     = 128  // up to here nobody looks for an equal page
	maxCum         = 4096 // bytes of patches
	fullPatchFrame = frameBytes + 2*MaxPatch
)

// mayPatch says whether the page in s may have one more patch.
func (w *Writer) mayPatch(s *pageSlot) bool {
	frames := int(s.frames)
	if s.depth > 0 && s.frame != w.patch.frame() {
		frames += int(w.patch.sizes[s.frame])
	}
	return s.depth < MaxPatchDepth && s.cum <= maxCum && frames+fullPatchFrame <= MaxChain
}

// storePatch stores the page p as w.scratch against the page in slot.
func (w *Writer) storePatch(r pageRun, from PageRef, slot int32, p []byte) error {
	r.ref = PageRef(w.npatch<<1 | 1)
	if err := w.run(r, runPatch); err != nil {
		return err
	}
	s := w.cache.slots[slot]
	if s.depth > 0 && s.frame != w.patch.frame() {
		s.frames += w.patch.sizes[s.frame]
	}
	s.frame = w.patch.frame()
	s.ref, s.hash, s.shared = r.ref, 0, false
	s.depth++
	s.cum += uint16(len(w.scratch))
	w.patch.add(from, w.scratch)
	if from&1 == 0 && uint64(from>>1) >= w.rawBase {
		w.owed = true
	}
	w.npatch++
	w.info.Patches++
	w.cache.put(w.cache.next(slot), s, p)
	if w.patch.size() >= frameBytes {
		if w.owed { // what a patch starts from comes before it
			w.putRaw()
		}
		w.putPatch()
	}
	return nil
}

func (w *Writer) putRaw() {
	if len(w.raw) == 0 {
		return
	}
	n := uint64(len(w.raw) / addr.PageSize)
	w.out.put(chunk{typ: TypeRaw, base: w.rawBase, count: uint32(n)}, w.raw)
	w.rawBase, w.raw, w.owed = w.rawBase+n, nil, false
}

func (w *Writer) putPatch() {
	if w.patch.n == 0 {
		return
	}
	c := chunk{typ: TypePatch, base: w.patch.base, count: uint32(w.patch.n)}
	w.out.put(c, w.patch.appendPayload(w.out.buffer()))
}
