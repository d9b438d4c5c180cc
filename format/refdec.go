package format

import (
	"fmt"
	"iter"

	"memtrace/format/addr"
)

// refDec reads the payload of a REFS chunk.
type refDec struct {
	refModel
	shift  uint8
	phases uint64 // phases before the chunk
	first  Step
	refs   int // left
	no     uint64
	cols   [numRefCols]cursor

	strange []byte // of columns that this version does not know

	phase  Phase // the next one
	markAt int   // place of its address space
	until  int   // references before it, -1 for no phase
}

// newRefDec begins the payload of a chunk.
func newRefDec(e entry, payload []byte, shift uint8) (*refDec, error) {
	d := &refDec{shift: shift + refTimeShift, refs: int(e.count), no: e.base}
	c := cursor{b: payload}
	d.first = Step(c.u())
	d.phases = c.u()
	d.refModel.reset(d.first)
	n := c.count(7)
	if n > MaxRefMMs {
		return nil, overLimit("the address spaces of a REFS chunk", uint64(n), MaxRefMMs)
	}
	d.mms = make([]refMM, 0, n)
	for range n {
		m := refMM{PhaseState: PhaseState{MM: c.u32()}, time: c.u()}
		m.No, m.Engine, m.Granule, m.Pool, m.Open = c.u(), RefEngine(c.u8()), c.granule(), c.u(), c.u()
		d.mms = append(d.mms, m)
	}
	if n = c.count(2); n > MaxRefs {
		return nil, overLimit("the threads of a REFS chunk", uint64(n), MaxRefs)
	}
	d.streams = make([]refStreamOf, 0, n)
	for range n {
		s := refStreamOf{thread: c.u32(), last: noIP}
		mm := c.u()
		if mm >= uint64(len(d.mms)) {
			c.fail()
			break
		}
		s.mm = int(mm)
		d.streams = append(d.streams, s)
	}
	if err := d.columns(&c); err != nil {
		return nil, err
	}
	return d, d.nextMark()
}

// granule reads a block's size, which is a page number's worth at most.
func (c *cursor) granule() uint64 {
	n := c.u()
	if n > MaxPageNo {
		c.fail()
		return 0
	}
	return n << addr.PageShift
}

func (d *refDec) columns(c *cursor) error {
	type col struct {
		id, n uint64
		enc   uint8
	}
	n := c.count(3)
	if n > MaxColumns {
		return overLimit("the number of columns", uint64(n), MaxColumns)
	}
	dir := make([]col, n)
	for i := range dir {
		dir[i] = col{id: c.u(), enc: c.u8(), n: c.u()}
	}
	for _, x := range dir {
		b := c.take(x.n)
		if x.id < numRefCols && x.enc == 0 {
			d.cols[x.id] = cursor{b: b}
		} else {
			d.strange = append(d.strange, b...)
		}
	}
	if c.bad || len(d.cols[refColKind].b) != d.refs {
		return corrupt("start of a REFS chunk")
	}
	return nil
}

// nextMark decodes the next phase.
func (d *refDec) nextMark() error {
	c := &d.cols[refColPhase]
	if !c.more() {
		if d.until = -1; c.bad {
			return corrupt("phases of a REFS chunk")
		}
		return nil
	}
	until := c.u()
	d.phase = Phase{}
	p := &d.phase
	d.marked += Step(c.u())
	p.After = d.marked
	at := c.u()
	p.Engine, p.Granule, p.Pool = RefEngine(c.u8()), c.granule(), c.u()
	p.Time = c.u() // less that of its address space
	p.Pinned, p.Held = c.u(), c.u()
	flags := c.u8()
	p.Incomplete, p.Exact = flags&phaseIncomplete != 0, flags&phaseExact != 0
	n := c.count(1)
	if n > MaxPhaseRanges {
		return overLimit("the pages held over the end of a phase", uint64(n), MaxPhaseRanges)
	}
	if n > 0 {
		p.HeldPages = make([]addr.Addr, n)
	}
	var page uint64
	for i := range p.HeldPages {
		if page += uint64(c.zz()); page > MaxPageNo {
			c.fail()
		}
		p.HeldPages[i] = addr.Addr(page << addr.PageShift)
	}
	if n = c.count(2); n > MaxPhaseRanges {
		return overLimit("the ranges written in a phase", uint64(n), MaxPhaseRanges)
	}
	if n > 0 {
		p.Written = make([]addr.Range, n)
	}
	page = 0
	for i := range p.Written {
		skip, size := c.u(), c.u()
		if skip > MaxPageNo-page || size == 0 || size > MaxPageNo-page-skip {
			c.fail()
			break
		}
		page += skip
		p.Written[i] = addr.Range{Start: addr.Addr(page << addr.PageShift), End: addr.Addr((page + size) << addr.PageShift)}
		page += size
	}
	if c.bad || at >= uint64(len(d.mms)) || until > uint64(d.refs) || p.Granule == 0 || d.marked < d.first {
		return corrupt("phases of a REFS chunk")
	}
	d.until = int(until)
	p.MM = d.mms[at].MM
	d.markAt = int(at)
	return nil
}

// more says whether there is another item.
func (d *refDec) more() bool { return d.refs > 0 || d.until >= 0 }

// nextAfter is how many steps had happened before the next item.
func (d *refDec) nextAfter() Step {
	if d.until == 0 {
		return d.phase.After
	}
	if c := d.cols[refColKind]; c.u8()&refStep != 0 {
		c = d.cols[refColStep]
		return d.after + Step(c.u())
	}
	return d.after
}

// next decodes an item into x.
func (d *refDec) next(x *RefItem) error {
	if d.until == 0 {
		p := d.phase
		m := &d.mms[d.markAt]
		m.time += p.Time
		p.Time = m.time << d.shift
		m.begin(&p)
		*x = RefItem{Phase: &p, No: d.no, PhaseNo: m.No}
		return d.nextMark()
	}
	flags := d.cols[refColKind].u8()
	if flags&refStream != 0 {
		d.cur = int(min(d.cols[refColStream].u(), MaxPayload))
	}
	if flags&refStep != 0 {
		d.after += Step(d.cols[refColStep].u())
	}
	if d.cur >= len(d.streams) {
		return corrupt("a reference of no thread in a REFS chunk")
	}
	s := &d.streams[d.cur]
	id, kind := uint32(len(d.ips)), RefKind(flags&refKindMask)
	switch v := d.cols[refColIP].u(); v {
	case ipNew:
		ip := d.lastIP(s) + uint64(d.cols[refColNewIP].zz())
		d.ips = append(d.ips, refIP{ip: ip, page: s.page, next: noIP})
	case ipNext:
		if s.last == noIP || d.ips[s.last].next == noIP {
			return corrupt("an instruction of a REFS chunk follows none")
		}
		id = d.ips[s.last].next
	default:
		if v-ipKnown >= uint64(len(d.ips)) {
			return corrupt("instruction %d of %d in a REFS chunk", v-ipKnown, len(d.ips))
		}
		id = uint32(v - ipKnown)
	}
	page := (d.from(id, kind) + uint64(d.cols[refColPage].zz())) & MaxPageNo
	d.went(s, id, page, kind)
	m := &d.mms[s.mm]
	m.time += d.cols[refColTime].u()
	m.Open++
	x.Ref = Ref{
		After: d.after, Thread: s.thread, MM: m.MM, Page: addr.Addr(page << addr.PageShift), IP: addr.Addr(d.ips[id].ip),
		Time: m.time << d.shift, Kind: kind,
	}
	x.Phase, x.No, x.PhaseNo = nil, d.no, m.No
	d.no++
	d.refs--
	if d.until > 0 {
		d.until--
	}
	if x.Kind >= NumRefKinds {
		x.Kind = RefUnknown
	}
	return nil
}

// end checks that nothing was missing; nothing more is to come.
func (d *refDec) end() error {
	for i := range d.cols {
		if d.cols[i].bad {
			return corrupt("column %d of a REFS chunk", i)
		}
	}
	return nil
}

// states are the phases that the address spaces of the chunk are in.
func (d *refDec) states() []PhaseState {
	out := make([]PhaseState, len(d.mms))
	for i := range d.mms {
		out[i] = d.mms[i].PhaseState
		out[i].Time = d.mms[i].time << d.shift
	}
	return out
}

// refChunk begins the REFS chunk of e.
func (r *Reader) refChunk(e entry, spent *budget) (*refDec, error) {
	b, err := r.cached(e)
	if err != nil {
		return nil, err
	}
	spent.read(len(b))
	if err := spent.worked(); err != nil {
		return nil, at(e.off, err)
	}
	d, err := newRefDec(e, b, r.h.TimeShift)
	if err != nil {
		return nil, at(e.off, err)
	}
	return d, nil
}

// Refs yields the references and phases that come after at least from and at most
// to steps, in their order: those of step s, which lie between the events s-1 and s,
// have After s. An item is valid until the next one. After an error nothing follows.
func (r *Reader) Refs(from, to Step) iter.Seq2[*RefItem, error] {
	return func(yield func(*RefItem, error) bool) {
		if _, err := r.refs(from, to, nil, yield); err != nil {
			yield(nil, err)
		}
	}
}

// refs is Refs; it says whether yield wants no more. begun, if there is one, is called
// at the begin of each chunk.
func (r *Reader) refs(from, to Step, begun func(*refDec) error, yield func(*RefItem, error) bool) (stop bool, err error) {
	p, err := r.refsFrom(from)
	if err != nil {
		return false, err
	}
	spent := r.budget
	var x RefItem
	last := Step(0)
	for ; ; p.i++ {
		e, ok, err := r.x.entry(&p)
		if err != nil || !ok {
			return false, err
		}
		if e.typ != TypeRefs {
			continue
		}
		d, err := r.refChunk(e, &spent)
		if err != nil {
			return false, err
		}
		if d.first < last {
			return false, at(e.off, corrupt("references after %d steps come after those after %d", d.first, last))
		}
		if d.first > to {
			return false, nil
		}
		if begun != nil {
			if err := begun(d); err != nil {
				return false, at(e.off, err)
			}
		}
		for d.more() {
			if err := d.next(&x); err != nil {
				return false, at(e.off, err)
			}
			after := x.After
			if x.Phase != nil {
				after = x.Phase.After
			}
			if after < last || after > r.info.Steps {
				return false, at(e.off, corrupt("a reference after %d steps, of %d, comes after one after %d", after, r.info.Steps, last))
			}
			if last = after; after < from {
				continue
			}
			if after > to {
				return false, nil
			}
			if !yield(&x, nil) {
				return true, nil
			}
		}
		if err := d.end(); err != nil {
			return false, at(e.off, err)
		}
	}
}

// Phases yields the phases of the whole log in their order, without the references
// between them, which makes it quick. Their Time is not told: it counts from these. After an error nothing follows.
func (r *Reader) Phases() iter.Seq2[*RefItem, error] {
	return func(yield func(*RefItem, error) bool) {
		spent := r.budget
		for p := (pos{}); ; p.i++ {
			e, ok, err := r.x.entry(&p)
			if err == nil && ok && e.typ == TypeRefs {
				var d *refDec
				if d, err = r.refChunk(e, &spent); err == nil {
					for d.until >= 0 && err == nil {
						d.no += uint64(d.until)
						d.refs -= d.until
						d.until = 0
						var x RefItem
						if err = d.next(&x); x.Phase == nil {
							break
						}
						if x.Phase.Time = 0; !yield(&x, nil) {
							return
						}
					}
				}
			}
			if err != nil {
				yield(nil, at(e.off, err))
			}
			if err != nil || !ok {
				return
			}
		}
	}
}

// refsFrom is a place that no reference after from or more steps comes before.
func (r *Reader) refsFrom(from Step) (p pos, err error) {
	if from == 0 || r.info.Steps == 0 {
		return pos{}, nil
	}
	// They are in the group of the event before, or later.
	p, ok, err := r.x.last(TypeEvent, uint64(min(from, r.info.Steps)-1))
	if err != nil || !ok {
		return pos{}, err
	}
	for p.i--; ; p.i-- {
		e, ok, err := r.x.entry(&p)
		if err != nil {
			return pos{}, err
		}
		if !ok {
			return pos{}, nil
		}
		if e.typ == TypeEvent {
			return p, nil
		}
	}
}

// PhasesAt are the phases that address spaces are in at step n, of those that are
// traced or were lately.
func (r *Reader) PhasesAt(n Step) ([]PhaseState, error) {
	if n >= r.info.Steps {
		return nil, fmt.Errorf("format: the log has %d steps: there is no step %d", r.info.Steps, n)
	}
	p, ok, err := r.x.last(TypeEvent, uint64(n))
	if err != nil || !ok {
		return nil, err
	}
	spent := r.budget
	// The last chunk that begins in time comes before the event, or not long after it.
	var found *refDec
	var off int64
	look := func(q pos, on int) error {
		for ; ; q.i += on {
			e, ok, err := r.x.entry(&q)
			if err != nil || !ok {
				return err
			}
			if e.typ != TypeRefs {
				continue
			}
			d, err := r.refChunk(e, &spent)
			if err != nil {
				return err
			}
			if d.first <= n {
				found, off = d, e.off
			}
			if (d.first <= n) != (on > 0) { // going back, one will do
				return nil
			}
		}
	}
	if err := look(p, -1); err != nil {
		return nil, err
	}
	if err := look(p, 1); err != nil || found == nil {
		return nil, err
	}
	var x RefItem
	for found.more() && found.nextAfter() <= n {
		if err := found.next(&x); err != nil {
			return nil, at(off, err)
		}
	}
	return found.states(), nil
}
