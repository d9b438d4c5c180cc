package format

import (
	"bytes"
	"encoding/binary"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Kinds of a run of pages.
const (
	runRaw        = 0 // the next ids in line
	runPatch      = 1
	runZero       = 2
	runRef        = 3 // one reference for each page, as the difference from the one before
	runFile       = 4
	runAbsent     = 5
	runUnreadable = 6
)

const maxDirty = 16 << 10 // bytes of runs in one record

var runKinds = [8]PageKind{
	runRaw: PageData, runPatch: PageData, runRef: PageData,
	runZero: PageZero, runFile: PageFile, runAbsent: PageAbsent, runUnreadable: PageUnreadable,
}

// Flags of a mapping.
const (
	vmaUnaligned = 1 << iota // start and end as they are, not as page numbers
	vmaOffset
	vmaFile
	vmaSameFile // device, inode and name of the mapping before
	vmaBytes    // the offset is in bytes, not pages
)

// stateEnc builds the payload of a STATE chunk.
type stateEnc struct {
	b       []byte
	recs    int
	base    Step // of the first record
	last    Step // of the last record
	body    fields
	scratch []byte

	// The open record of page runs.
	open    bool
	runs    []byte // finished runs
	nruns   int
	mm      uint32
	step    Step
	next    uint64 // page after the last run
	kind    uint64 // of the run being built, of n pages from vpn on
	vpn, n  uint64
	refs    []byte // of a runRef
	lastRef PageRef
}

// begin starts a payload; raw and patch are the ids that come next.
func (e *stateEnc) begin(raw, patch uint64) {
	e.b = appendU(appendU(e.b[:0], raw), patch)
	e.recs, e.open = 0, false
	e.body.enc.reset()
}

func (e *stateEnc) record(typ byte, step Step, body []byte) {
	if e.recs == 0 {
		e.base, e.last = step, step
	}
	d := uint64(step - e.last)
	e.b = append(e.b, typ)
	e.b = appendU(e.b, uint64(sizeU(d)+len(body)))
	e.b = appendU(e.b, d)
	e.b = append(e.b, body...)
	e.last = step
	e.recs++
}

// pages adds n pages from vpn on; ref counts for runRef only.
func (e *stateEnc) pages(step Step, mm uint32, vpn, n uint64, kind uint64, ref PageRef) {
	if e.open && (e.mm != mm || e.step != step || len(e.runs) > maxDirty) {
		e.closePages()
	}
	if !e.open {
		e.open, e.mm, e.step, e.next, e.lastRef = true, mm, step, 0, 0
		e.runs, e.refs, e.nruns, e.n = e.runs[:0], e.refs[:0], 0, 0
	}
	if e.n == 0 || e.kind != kind || e.vpn+e.n != vpn || len(e.refs) > maxDirty {
		e.endRun()
		e.kind, e.vpn = kind, vpn
	}
	if kind == runRef {
		for range n {
			e.refs = appendZZ(e.refs, int64(ref-e.lastRef))
			e.lastRef = ref
			ref += 2
		}
	}
	e.n += n
}

func (e *stateEnc) endRun() {
	if e.n == 0 {
		return
	}
	e.runs = appendZZ(e.runs, int64(e.vpn-e.next))
	e.runs = appendU(e.runs, e.n<<3|e.kind)
	e.runs = append(e.runs, e.refs...)
	e.next, e.n, e.refs = e.vpn+e.n, 0, e.refs[:0]
	e.nruns++
}

// closePages ends the open record of page runs.
func (e *stateEnc) closePages() {
	if !e.open {
		return
	}
	e.endRun()
	e.open = false
	b := appendU(e.scratch[:0], uint64(e.mm))
	b = appendU(b, uint64(e.nruns))
	b = append(b, e.runs...)
	e.scratch = b
	e.record(recPages, e.step, b)
}

// change adds any change but Pages.
func (e *stateEnc) change(step Step, c Change) {
	e.closePages()
	e.body.b = e.body.b[:0]
	c.fields(&e.body)
	e.record(c.code(), step, e.body.b)
}

// registers are how many, a mask of those that are not 0, and these as they are,
// which compresses better than differences do.
func (x *fields) registers(p *[]uint64) {
	switch x.mode {
	case writing:
		x.b = appendRegs(x.b, *p)
	case reading:
		*p = x.c.registers()
	case owning:
		*p = slices.Clone(*p)
	case describing:
		x.describe("`u` how many")
		x.describe("`u` mask of those that are not 0")
		x.describe("these as `u64`")
		x.seen("registers", nil)
	case visiting:
		x.seen("registers", appendWords(nil, *p))
	}
}

// appendWords are registers as bytes.
func appendWords(b []byte, regs []uint64) []byte {
	for _, v := range regs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func appendRegs(b []byte, regs []uint64) []byte {
	var mask uint64
	for i, v := range regs {
		if v != 0 {
			mask |= 1 << i
		}
	}
	b = appendU(appendU(b, uint64(len(regs))), mask)
	for _, v := range regs {
		if v != 0 {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	return b
}

func (c *cursor) registers() []uint64 {
	n, mask := c.u(), c.u()
	if n > MaxRegs || n < MaxRegs && mask>>n != 0 {
		c.fail()
	}
	if c.bad {
		return nil
	}
	regs := make([]uint64, n)
	for i := range regs {
		if mask>>i&1 != 0 {
			regs[i] = c.fixed64()
		}
	}
	return regs
}

// xstate is how long the area is, and its bytes without the zeros at its end.
func (x *fields) xstate(p *[]byte) {
	switch x.mode {
	case writing:
		x.b = appendXState(x.b, *p)
	case reading:
		*p = x.c.xstate()
	case owning:
		*p = slices.Clone(*p)
	case describing:
		x.describe("`u` size")
		x.describe("`str` its bytes without the zeros at the end")
		x.seen("extended state", nil)
	case visiting:
		x.seen("extended state", *p)
	}
}

func appendXState(b, area []byte) []byte {
	return appendStr(appendU(b, uint64(len(area))), bytes.TrimRight(area, "\x00"))
}

func (c *cursor) xstate() []byte {
	n := c.u()
	b := c.blob()
	if n > MaxXState || uint64(len(b)) > n {
		c.fail()
	}
	if c.bad {
		return nil
	}
	x := make([]byte, n)
	copy(x, b)
	return x
}

// appendThread and thread are for keyframes.
func appendThread(b []byte, t *Thread) []byte {
	x := fields{b: b}
	t.fields(&x)
	return x.b
}

func (c *cursor) thread() (t Thread) {
	x := fields{mode: reading, c: *c}
	t.fields(&x)
	*c = x.c
	return t
}

// mapping is told against the one before.
func (x *fields) mapping(p *vma.VMA) {
	switch x.mode {
	case writing:
		x.b = x.enc.append(x.b, p)
	case reading:
		*p = x.dec.read(&x.c)
	case visiting:
		x.seen("name", []byte(p.Name))
	case describing:
		x.describe("mapping")
		x.seen("numbers", nil)
		x.seen("name", nil)
	}
}

// vmaEnc writes mappings one after the other, each against the one before.
type vmaEnc struct {
	end   uint64
	dev   vma.Dev
	inode uint64
	name  string
	strs  map[string]int
}

func (e *vmaEnc) reset() {
	clear(e.strs)
	*e = vmaEnc{strs: e.strs}
	if e.strs == nil {
		e.strs = map[string]int{}
	}
}

const pageLow = addr.PageSize - 1

func (e *vmaEnc) append(b []byte, v *vma.VMA) []byte {
	start, end := uint64(v.Start), uint64(v.End)
	var flags byte
	if (start|end|e.end)&pageLow != 0 || end < start {
		flags |= vmaUnaligned
	}
	if v.Offset != 0 {
		flags |= vmaOffset
		if v.Offset&pageLow != 0 {
			flags |= vmaBytes
		}
	}
	same := v.Dev == e.dev && v.Inode == e.inode && v.Name == e.name
	if same {
		flags |= vmaSameFile
	} else if v.File() {
		flags |= vmaFile
	}
	b = append(b, flags, byte(v.Prot), byte(v.Kind))
	if flags&vmaUnaligned != 0 {
		b = appendU(appendU(b, start), end)
	} else {
		b = appendZZ(b, int64(start-e.end)>>addr.PageShift)
		b = appendU(b, (end-start)>>addr.PageShift)
	}
	switch {
	case flags&vmaBytes != 0:
		b = appendU(b, v.Offset)
	case flags&vmaOffset != 0:
		b = appendU(b, v.Offset>>addr.PageShift)
	}
	if flags&vmaFile != 0 {
		b = appendU(b, uint64(v.Dev.Major))
		b = appendU(b, uint64(v.Dev.Minor))
		b = appendU(b, v.Inode)
	}
	if !same {
		b = e.str(b, v.Name)
	}
	e.end = end
	e.dev, e.inode, e.name = v.Dev, v.Inode, v.Name
	return b
}

// str writes a string: 0 for none, 1 and its bytes when it is new to the
// chunk, or 2 + its number among those.
func (e *vmaEnc) str(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	if i, ok := e.strs[s]; ok {
		return appendU(b, uint64(i)+2)
	}
	e.strs[s] = len(e.strs)
	return appendStr(append(b, 1), s)
}

// vmaDec is the counterpart of vmaEnc.
type vmaDec struct {
	end   uint64
	dev   vma.Dev
	inode uint64
	name  string
	strs  []string
	long  int // bytes of a name that is too long
}

// damaged is what is wrong with the mappings that were read last.
func (d *vmaDec) damaged(what string, args ...any) error {
	if d.long > 0 {
		return overLimit("the name of a mapping", uint64(d.long), MaxName)
	}
	return corrupt(what, args...)
}

func (d *vmaDec) read(c *cursor) (v vma.VMA) {
	flags := c.u8()
	v.Prot, v.Kind = addr.Prot(c.u8()), vma.Kind(c.u8())
	if flags&vmaUnaligned != 0 {
		v.Start, v.End = addr.Addr(c.u()), addr.Addr(c.u())
	} else {
		v.Start = addr.Addr(d.end + uint64(c.zz())<<addr.PageShift)
		v.End = v.Start + addr.Addr(c.u()<<addr.PageShift)
	}
	switch {
	case flags&vmaBytes != 0:
		v.Offset = c.u()
	case flags&vmaOffset != 0:
		v.Offset = c.u() << addr.PageShift
	}
	if flags&vmaFile != 0 {
		v.Dev = vma.Dev{Major: c.u32(), Minor: c.u32()}
		v.Inode = c.u()
	}
	if flags&vmaSameFile != 0 {
		v.Dev, v.Inode, v.Name = d.dev, d.inode, d.name
	} else {
		v.Name = d.str(c)
	}
	d.end = uint64(v.End)
	d.dev, d.inode, d.name = v.Dev, v.Inode, v.Name
	return v
}

func (d *vmaDec) str(c *cursor) string {
	switch i := c.u(); {
	case i == 0:
		return ""
	case i == 1:
		b := c.blob()
		if d.long = 0; len(b) > MaxName {
			d.long = len(b)
			c.fail()
			return ""
		}
		d.strs = append(d.strs, string(b))
		return d.strs[len(d.strs)-1]
	case i-2 < uint64(len(d.strs)):
		return d.strs[i-2]
	}
	c.fail()
	return ""
}

// stateDec reads the payload of a STATE chunk record by record.
type stateDec struct {
	c          cursor
	step       Step // of the record that is next
	typ        byte
	body       fields
	ok         bool // there is a record
	raw, patch uint64
	ids        [2]uint64 // how many raw pages and patches the log has so far

	// Inside a record of page runs.
	inRuns  bool
	runs    uint64
	mm      uint32
	vpn     uint64
	lastRef PageRef
	left    uint64 // references left in a runRef
}

// newStateDec begins a payload of a chunk with this base; raw and patch say how
// many ids the log has given out before it.
func newStateDec(payload []byte, base Step, raw, patch uint64) (*stateDec, error) {
	d := &stateDec{c: cursor{b: payload}, step: base, body: fields{mode: reading}, ids: [2]uint64{raw, patch}}
	d.raw, d.patch = d.c.u(), d.c.u()
	if d.c.bad || d.raw > raw || d.patch > patch {
		return nil, corrupt("start of a STATE chunk")
	}
	return d, d.advance()
}

// advance goes to the next record.
func (d *stateDec) advance() error {
	for {
		d.ok = false
		if d.c.bad {
			return corrupt("record of a STATE chunk")
		}
		if len(d.c.b) == 0 {
			return nil
		}
		d.typ = d.c.u8()
		d.body.c = cursor{b: d.c.blob()}
		delta := d.body.c.u()
		if d.c.bad || d.body.c.bad || uint64(d.step)+delta < delta {
			return corrupt("record of a STATE chunk")
		}
		d.step += Step(delta)
		if changeSpecs[d.typ].make != nil {
			d.ok = true
			return nil
		}
		if d.typ&recAncillary == 0 {
			return corrupt("unknown record type %d in a STATE chunk", d.typ)
		}
	}
}

// next decodes the record at hand, or the next run of its pages, and goes on:
// either the change or, for pages, the run is set.
func (d *stateDec) next() (c Change, r pageRun, err error) {
	if d.typ == recPages {
		r, err = d.nextRun()
		if err != nil || d.inRuns {
			return nil, r, err
		}
		return nil, r, d.advance()
	}
	c = changeSpecs[d.typ].make()
	d.body.step = d.step
	c.fields(&d.body)
	if d.body.c.bad {
		return nil, r, d.body.dec.damaged("record %q of a STATE chunk", changeSpecs[d.typ].name)
	}
	return c, r, d.advance()
}

// nextRun decodes one run of pages; of one with references as many as go up by
// one page each. r.n is 0 for a record without runs.
func (d *stateDec) nextRun() (r pageRun, err error) {
	b := &d.body.c
	if !d.inRuns {
		d.mm, d.runs = b.u32(), uint64(b.count(2))
		d.inRuns, d.vpn, d.lastRef, d.left = true, 0, 0, 0
	}
	r.mm = d.mm
	if d.left == 0 && d.runs > 0 {
		d.runs--
		d.vpn += uint64(b.zz())
		k := b.u()
		r.n = k >> 3
		r.kind = runKinds[k&7]
		if r.kind == 0 || d.vpn > MaxPageNo || r.n > MaxPageNo {
			b.fail()
		}
		switch k & 7 {
		case runRef:
			if d.left = r.n; d.left > uint64(len(b.b)) {
				b.fail()
			}
		case runRaw:
			r.ref = PageRef(d.raw << 1)
			d.raw += r.n
		case runPatch:
			r.ref = PageRef(d.patch<<1 | 1)
			d.patch += r.n
		}
		if d.raw > d.ids[0] || d.patch > d.ids[1] {
			return r, corrupt("STATE chunk takes pages that the log does not have")
		}
	}
	if r.vpn = d.vpn; d.left > 0 && !b.bad {
		r.kind, r.n = PageData, 0
		for d.left > 0 && !b.bad {
			was := b.b
			ref := d.lastRef + PageRef(b.zz())
			if r.n == 0 {
				r.ref = ref
			} else if ref != d.lastRef+2 {
				b.b = was
				break
			}
			d.lastRef = ref
			d.left--
			r.n++
		}
	}
	d.vpn += r.n
	if b.bad {
		return r, corrupt("page runs of a STATE chunk")
	}
	if r.kind == PageData && r.n > 0 && !r.ref.Redacted() && uint64(r.ref>>1)+r.n > d.ids[r.ref&1] {
		return r, corrupt("STATE chunk refers to pages that the log does not have")
	}
	d.inRuns = d.runs > 0 || d.left > 0
	return r, nil
}

// pages makes the Pages change of a run.
func (r pageRun) pages() *Pages {
	p := &Pages{MM: r.mm, Addr: addr.Addr(r.vpn << addr.PageShift), N: r.n, What: r.kind}
	if r.kind == PageData {
		p.Refs = make([]PageRef, r.n)
		for i := range p.Refs {
			p.Refs[i] = r.ref + PageRef(2*i)
		}
	}
	return p
}
