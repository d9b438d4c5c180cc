package format

import (
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// keyframeEnc writes keyframes: LEAF chunks with the page maps' leaves that
// changed, KEYMM chunks with the address spaces that changed, and a KEY chunk.
// Leaves and address spaces that did not change are referred to by number.
type keyframeEnc struct {
	put     func(c chunk, payload []byte)
	nleaf   uint64 // numbers given out
	nmm     uint64
	nwrite  uint64
	lens    []int // of the items collected for a chunk
	items   []byte
	scratch []byte
	vmas    vmaEnc
}

// chunkItems is how many bytes of items make a LEAF or KEYMM chunk: few, as a
// reader mostly wants one of them.
const (
	chunkItems   = 64 << 10
	chunkItemMax = 256 // and how many at most
)

// Encodings of a leaf.
const leafFull = 0

// add puts an item into the chunk being collected.
func (k *keyframeEnc) add(typ Type, next *uint64, item []byte) {
	k.lens = append(k.lens, len(item))
	k.items = append(k.items, item...)
	*next++
	if len(k.items) >= chunkItems || len(k.lens) >= chunkItemMax {
		k.flush(typ, *next)
	}
}

// flush writes the chunk collected; next is the number after its last item.
func (k *keyframeEnc) flush(typ Type, next uint64) {
	n := len(k.lens)
	if n == 0 {
		return
	}
	b := k.scratch[:0]
	for _, l := range k.lens {
		b = appendU(b, uint64(l))
	}
	b = append(b, k.items...)
	k.scratch = b
	k.put(chunk{typ: typ, base: next - uint64(n), count: uint32(n)}, b)
	k.lens, k.items = k.lens[:0], k.items[:0]
}

// write writes a keyframe of s, with the last registers of its threads.
func (k *keyframeEnc) write(s *State, regs map[uint32]*threadRegs, xs map[uint32]threadXState) {
	mms := sortedKeys(s.MMs)
	for _, no := range mms {
		if m := s.MMs[no]; m.key == 0 {
			k.leaves(&m.pages)
		}
	}
	k.flush(TypeLeaf, k.nleaf)
	var b []byte
	for _, no := range mms {
		if m := s.MMs[no]; m.key == 0 {
			b = k.appendMM(b[:0], m)
			k.add(TypeKeyMM, &k.nmm, b)
			m.key = k.nmm
		}
	}
	k.flush(TypeKeyMM, k.nmm)
	for _, no := range mms {
		if w := &s.MMs[no].written; w.key == 0 && (len(w.list) > 0 || w.floor > 0) {
			b = appendWritten(b[:0], w, 0)
			k.add(TypeWritten, &k.nwrite, b)
			w.key = k.nwrite
		}
	}
	k.flush(TypeWritten, k.nwrite)

	b = b[:0]
	b = appendU(b, uint64(len(s.Threads)))
	for _, no := range sortedKeys(s.Threads) {
		b = appendThread(b, s.Threads[no])
		r := regs[no]
		if r == nil {
			b = append(b, 0)
			continue
		}
		b = appendU(b, uint64(len(r.regs)))
		b = appendU(b, uint64(s.Step-r.step))
		for _, v := range r.regs {
			b = appendU(b, v)
		}
	}
	b = appendU(b, uint64(len(mms)))
	for _, no := range mms {
		b = appendU(b, uint64(no))
		b = appendU(b, s.MMs[no].key-1)
	}
	for _, no := range mms {
		b = appendU(b, s.MMs[no].confirmed)
	}
	nos, size := sortedKeys(xs), 0
	for i, no := range nos {
		if size += len(xs[no].data); size > maxXStates {
			nos = nos[:i]
			break
		}
	}
	b = appendU(b, uint64(len(nos)))
	for _, no := range nos {
		b = appendU(b, uint64(no))
		b = appendU(b, uint64(s.Step-xs[no].step))
		b = appendXState(b, xs[no].data)
	}
	for _, no := range mms {
		b = appendU(b, s.MMs[no].written.key)
	}
	k.put(chunk{typ: TypeKey, flags: flagCommit, base: uint64(s.Step + 1), count: 1}, b)
}

func sortedKeys[V any](m map[uint32]V) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// leaves stores the leaves of p that the log does not have.
func (k *keyframeEnc) leaves(p *pageMap) {
	var b []byte
	for i := range p.dir {
		r := p.dir[i].reg
		if r == nil {
			continue
		}
		for _, n := range r.nodes {
			if n == nil || n.tab == nil || n.id != 0 {
				continue
			}
			b = appendLeaf(b[:0], n.tab)
			k.add(TypeLeaf, &k.nleaf, b)
			n.id = k.nleaf
		}
	}
}

// appendMM encodes an address space: mappings, then the directory of its page
// map in runs of leaves.
func (k *keyframeEnc) appendMM(b []byte, m *MM) []byte {
	b = appendU(b, uint64(m.VMAs.Len()))
	k.vmas.reset()
	for v := range m.VMAs.All() {
		b = k.vmas.append(b, &v)
	}
	var next, last uint64 // leaf after the last run; last leaf number
	var ids []uint64      // run of leaves being collected
	flush := func() {
		if len(ids) == 0 {
			return
		}
		b = appendU(b, uint64(len(ids))<<1|1)
		for _, id := range ids {
			b = appendZZ(b, int64(id-last-1))
			last = id
		}
		ids = ids[:0]
	}
	uniform := func(at, n uint64, c cell) {
		flush()
		b = appendU(b, at-next)
		b = appendU(b, n<<1)
		b = appendU(b, c.ent)
		b = appendU(b, c.asOf)
		b = appendU(b, c.asOf-c.changed)
		next = at + n
	}
	for _, d := range m.pages.dir {
		if d.reg == nil {
			uniform(d.first*regionLeafs, (d.last-d.first+1)*regionLeafs, d.uni.uni)
			continue
		}
		for i := 0; i < regionLeafs; i++ {
			n := d.reg.nodes[i]
			if n == nil {
				continue
			}
			at := d.first*regionLeafs + uint64(i)
			if n.tab == nil {
				j := i + 1
				for j < regionLeafs && d.reg.nodes[j] != nil && d.reg.nodes[j].tab == nil && d.reg.nodes[j].uni == n.uni {
					j++
				}
				uniform(at, uint64(j-i), n.uni)
				i = j - 1
				continue
			}
			if at != next || len(ids) == 0 {
				flush()
				b = appendU(b, at-next)
			}
			ids = append(ids, n.id-1)
			next = at + 1
		}
	}
	flush()
	return b
}

// appendLeaf encodes what is known of 512 pages: the entries, the steps as of
// which they hold, and how much earlier their last change was, each as runs.
func appendLeaf(b []byte, t *[leafPages]cell) []byte {
	b = append(b, leafFull)
	var pred uint64
	for i := 0; i < leafPages; {
		ent, n := t[i].ent, 1
		stride := strideOf(ent)
		for i+n < leafPages && t[i+n].ent == ent+stride*uint64(n) {
			n++
		}
		b = appendU(b, uint64(n)<<entShift|ent&entKind)
		if PageKind(ent&entKind) == PageData {
			b = appendZZ(b, int64(ent>>entShift)-int64(pred))
			pred = ent>>entShift + 2*uint64(n)
		}
		i += n
	}
	b = appendRuns(b, t, func(c *cell) uint64 { return c.asOf })
	return appendRuns(b, t, func(c *cell) uint64 { return c.asOf - c.changed })
}

// strideOf is what entries of consecutive pages go up by.
func strideOf(ent uint64) uint64 {
	if PageKind(ent&entKind) == PageData {
		return entNext
	}
	return 0
}

func appendRuns(b []byte, t *[leafPages]cell, col func(*cell) uint64) []byte {
	var last uint64
	for i := 0; i < leafPages; {
		v, n := col(&t[i]), 1
		for i+n < leafPages && col(&t[i+n]) == v {
			n++
		}
		b = appendU(b, uint64(n))
		b = appendZZ(b, int64(v-last))
		last = v
		i += n
	}
	return b
}

// parseLeaf decodes a leaf of a log of so many steps.
func parseLeaf(b []byte, steps Step) (*[leafPages]cell, error) {
	c := cursor{b: b}
	if c.u8() != leafFull {
		return nil, corrupt("encoding of a leaf")
	}
	t := new([leafPages]cell)
	var pred uint64
	for i := 0; i < leafPages; {
		k := c.u()
		n, ent := k>>entShift, k&entKind
		if n == 0 || n > uint64(leafPages-i) || ent > uint64(PageUnreadable) {
			return nil, corrupt("entries of a leaf")
		}
		if PageKind(ent) == PageData {
			ref := pred + uint64(c.zz())
			if ref > maxRef {
				return nil, corrupt("page reference in a leaf")
			}
			ent |= ref << entShift
			pred = ref + 2*n
		}
		stride := strideOf(ent)
		for range n {
			t[i].ent = ent
			ent += stride
			i++
		}
	}
	ok := parseRuns(&c, t, uint64(steps), func(x *cell, v uint64) bool { x.asOf = v; return true }) &&
		parseRuns(&c, t, uint64(steps), func(x *cell, v uint64) bool { x.changed = x.asOf - v; return v <= x.asOf })
	if !ok || c.bad {
		return nil, corrupt("steps of a leaf")
	}
	return t, nil
}

func parseRuns(c *cursor, t *[leafPages]cell, limit uint64, set func(*cell, uint64) bool) bool {
	var v uint64
	for i := 0; i < leafPages; {
		n := c.u()
		v += uint64(c.zz())
		if n == 0 || n > uint64(leafPages-i) || v > limit {
			return false
		}
		for range n {
			if !set(&t[i], v) {
				return false
			}
			i++
		}
	}
	return true
}

// parseMM decodes an address space of a log of so many steps; its page map loads
// leaves when they are asked for.
func parseMM(b []byte, no uint32, load loader, steps Step, mem *budget) (*MM, error) {
	c := cursor{b: b}
	m := &MM{No: no, pages: pageMap{own: new(owner), load: load, mem: mem}}
	n := c.count(5)
	if n > MaxVMAs {
		return nil, overLimit("the number of mappings", uint64(n), MaxVMAs)
	}
	if err := mem.fits("the memory of the mappings of an address space", int64(n)*2*vma.Bytes); err != nil {
		return nil, err
	}
	var vmas vmaDec
	var end addr.Addr
	vs := make([]vma.VMA, 0, min(n, 4096))
	for range n {
		v := vmas.read(&c)
		if c.bad || v.Empty() || v.Start < end {
			return nil, vmas.damaged("mappings of a KEYMM chunk")
		}
		end = v.End
		vs = append(vs, v)
	}
	m.VMAs = vma.Ascending(vs)
	p := &m.pages
	p.took(m.VMAs.Memory(new(vma.Counted)))
	var next, last uint64
	for len(c.b) > 0 {
		next += c.u()
		k := c.u()
		n := k >> 1
		if c.bad || n == 0 || n > MaxPageNo>>leafShift || next > MaxPageNo>>leafShift || next+n-1 > MaxPageNo>>leafShift {
			return nil, corrupt("page map of a KEYMM chunk")
		}
		if k&1 == 0 {
			f := fill{exact: true, ent: c.u(), step: c.u()}
			back := c.u()
			f.changed = f.step - back
			if kind := PageKind(f.ent); f.ent != uint64(kind) || kind == PageData || kind == 0 || kind > PageUnreadable || f.step > uint64(steps) || back > f.step {
				return nil, corrupt("page map of a KEYMM chunk")
			}
			p.set(next<<leafShift, (next+n)<<leafShift, f)
			if err := mem.fits("the memory of a page map", 0); err != nil {
				return nil, err
			}
			next += n
			continue
		}
		if n > uint64(len(c.b)) {
			return nil, corrupt("page map of a KEYMM chunk")
		}
		p.took(int64(n) * nodeBytes)
		if err := mem.fits("the memory of a page map", 0); err != nil {
			return nil, err
		}
		nodes := make([]node, n)
		for i := range nodes {
			last += uint64(c.zz()) + 1
			nodes[i] = node{own: p.own, id: last + 1, lazy: true}
			p.region(next>>leafShift, true).nodes[next%regionLeafs] = &nodes[i]
			next++
		}
		if err := mem.fits("the memory of a page map", 0); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// threadRegs is the registers of a thread as they were last read.
type threadRegs struct {
	regs []uint64
	step Step
}

// threadXState is the same for the extended state.
type threadXState struct {
	data []byte
	step Step
}

// keyframe is a decoded KEY chunk.
type keyframe struct {
	xstates map[uint32]threadXState
	threads []Thread
	regs    []threadRegs // of each, nil slices where there are none
	mms     []keyMM
	rest    []byte // behind all of that
}

// maxXStates bounds the extended states of a keyframe; threads beyond have none
// there.
const maxXStates = 8 << 20

type keyMM struct {
	no        uint32
	id        uint64
	confirmed uint64
	written   uint64
}

// What the parts of a decoded KEY chunk take, in bytes.
const (
	keyThreadBytes = 96
	keyMMBytes     = 32
	keyXBytes      = 128
)

// parseKey decodes a KEY chunk that takes at most limit bytes.
func parseKey(b []byte, base Step, limit int64) (*keyframe, error) {
	c := cursor{b: b}
	k := new(keyframe)
	mem := budget{limit: limit}
	room := func(n int, each int64) error {
		mem.used += int64(n) * each
		return mem.fits("the memory of a keyframe", 0)
	}
	back := func() Step { // a step before base
		n := c.u()
		if n >= uint64(base) {
			c.fail()
			return 0
		}
		return base - 1 - Step(n)
	}
	n := c.count(9)
	if n > MaxThreads {
		return nil, overLimit("the number of threads", uint64(n), MaxThreads)
	}
	if err := room(n, keyThreadBytes); err != nil {
		return nil, err
	}
	for range n {
		k.threads = append(k.threads, c.thread())
		var r threadRegs
		if m := c.count(1); m > MaxRegs {
			c.fail()
		} else if m > 0 {
			if err := room(m, 8); err != nil {
				return nil, err
			}
			r.step = back()
			r.regs = make([]uint64, m)
			for i := range r.regs {
				r.regs[i] = c.u()
			}
		}
		k.regs = append(k.regs, r)
	}
	n = c.count(2)
	if n > MaxMMs {
		return nil, overLimit("the number of address spaces", uint64(n), MaxMMs)
	}
	if err := room(n, keyMMBytes); err != nil {
		return nil, err
	}
	for range n {
		k.mms = append(k.mms, keyMM{no: c.u32(), id: c.u()})
	}
	for i := 0; i < n && len(c.b) > 0; i++ {
		if k.mms[i].confirmed = c.u(); k.mms[i].confirmed > uint64(base) {
			c.fail()
		}
	}
	if c.more() {
		size := 0
		k.xstates = map[uint32]threadXState{}
		for n := c.count(4); n > 0 && !c.bad; n-- {
			if err := room(1, keyXBytes); err != nil {
				return nil, err
			}
			no, step := c.u32(), back()
			x := c.xstate()
			if size += len(x); size > maxXStates {
				return nil, overLimit("the extended states of a keyframe", uint64(size), maxXStates)
			}
			k.xstates[no] = threadXState{x, step}
		}
	}
	for i := 0; i < len(k.mms) && c.more(); i++ {
		k.mms[i].written = c.u()
	}
	if c.bad {
		return nil, corrupt("KEY chunk")
	}
	k.rest = c.b
	return k, nil
}

// item is one item of a LEAF or KEYMM chunk of count items.
func item(payload []byte, count uint32, i uint64) ([]byte, error) {
	c := cursor{b: payload}
	var off, size, sum uint64
	for k := range uint64(count) {
		n := c.u()
		if c.bad || n > uint64(len(payload)) {
			return nil, corrupt("lengths of a keyframe chunk")
		}
		if k == i {
			off, size = sum, n
		}
		sum += n
	}
	if i >= uint64(count) || sum != uint64(len(c.b)) {
		return nil, corrupt("lengths of a keyframe chunk")
	}
	return c.b[off : off+size], nil
}
