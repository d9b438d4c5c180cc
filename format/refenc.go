package format

import (
	"cmp"
	"fmt"
	"slices"

	"memtrace/format/addr"
)

// Columns of a REFS chunk.
const (
	refColKind   = iota // kind of each reference, and flags
	refColStream        // stream of each reference that has refStream
	refColStep          // steps since the item before, of each that has refStep
	refColIP            // instruction of each
	refColNewIP         // those that the chunk did not have before
	refColPage          // page of each
	refColTime          // time of each
	refColPhase         // phases
	numRefCols
)

// refTimeShift makes units of references of those of events: finer is noise, as a
// reference takes microseconds to record.
const refTimeShift = 3

// Flags of a reference, above its kind.
const (
	refStream   = 1 << 3 // another stream than the reference before
	refStep     = 1 << 4 // steps have happened since the reference before
	refKindMask = 7
)

// Values of the IP column; above are the instructions of the chunk, in the order of
// their first reference.
const (
	ipNext  = iota // the one that followed the last time
	ipNew          // the next of the new ones
	ipKnown        // 2 + its place
)

// Flags of a phase.
const (
	phaseIncomplete = 1 << iota
	phaseExact
)

// refIP is an instruction of a chunk.
type refIP struct {
	ip   uint64
	page uint64 // it referenced last; if none, the stream that had it first
	next uint32 // place of the instruction that followed, the last time
}

// refMM is an address space of a chunk: what a reader has to know of it.
type refMM struct {
	PhaseState
	time uint64 // of the last item, in units
}

// refStreamOf is one thread in one address space.
type refStreamOf struct {
	thread uint32
	mm     int    // place in the list of address spaces
	last   uint32 // place of the last instruction, noIP for none
	page   uint64 // of the last reference that was no fetch
}

const noIP = ^uint32(0)

// refModel is what encoder and decoder know in the middle of a chunk.
type refModel struct {
	mms     []refMM
	streams []refStreamOf
	ips     []refIP
	cur     int  // stream
	after   Step // of the last reference
	marked  Step // of the last phase
}

func (m *refModel) reset(first Step) {
	m.mms, m.streams, m.ips = m.mms[:0], m.streams[:0], m.ips[:0]
	m.cur, m.after, m.marked = 0, first, first
}

// from is the page that a reference's is told against: that of the instruction which
// is fetched, or that which the instruction referenced last.
func (m *refModel) from(at uint32, kind RefKind) uint64 {
	if kind == RefFetch {
		return addr.Addr(m.ips[at].ip).Page()
	}
	return m.ips[at].page
}

// lastIP is the instruction that a new one of a stream is told against.
func (m *refModel) lastIP(s *refStreamOf) uint64 {
	if s.last == noIP {
		return 0
	}
	return m.ips[s.last].ip
}

// went notes that a stream went on to an instruction, and its page.
func (m *refModel) went(s *refStreamOf, at uint32, page uint64, kind RefKind) {
	if s.last != noIP {
		m.ips[s.last].next = at
	}
	s.last = at
	if kind != RefFetch {
		s.page = page
		m.ips[at].page = page
	}
}

// refEnc builds REFS chunks.
type refEnc struct {
	refModel
	shift  uint8
	total  uint64 // references before the chunk
	phases uint64 // phases before it
	refs   int    // in the chunk
	marks  int    // phases in it
	first  Step
	since  int // references since the last phase of the chunk
	cols   [numRefCols][]byte
	live   map[uint32]refMM // by number, as of the last item
	place  map[uint32]int   // of an address space in mms
	stream map[uint64]int   // of thread and place of the address space
	ipAt   map[uint64]uint32
	table  []byte // of mms, as they were at the begin of the chunk
}

func newRefEnc(shift uint8) *refEnc {
	return &refEnc{shift: shift + refTimeShift, live: map[uint32]refMM{}, place: map[uint32]int{}, stream: map[uint64]int{}, ipAt: map[uint64]uint32{}}
}

func (e *refEnc) empty() bool { return e.refs == 0 && e.marks == 0 }

// full says whether the chunk is to be written.
func (e *refEnc) full() bool {
	n := len(e.table)
	for _, c := range e.cols {
		n += len(c)
	}
	return e.refs >= groupRefs || n >= groupState
}

// ready begins a chunk if none is at hand.
func (e *refEnc) ready(after Step) error {
	if e.empty() {
		e.begin(after)
	}
	if n := max(len(e.mms), len(e.live)); n >= MaxRefMMs {
		return overLimit("the number of address spaces that are traced", uint64(n), MaxRefMMs)
	}
	return nil
}

// begin starts a chunk whose first item comes after so many steps.
func (e *refEnc) begin(first Step) {
	e.refModel.reset(first)
	e.refs, e.marks, e.since, e.first = 0, 0, 0, first
	for i := range e.cols {
		e.cols[i] = e.cols[i][:0]
	}
	clear(e.place)
	clear(e.stream)
	clear(e.ipAt)
	e.table = e.table[:0]
	for _, m := range e.live {
		e.mms = append(e.mms, m)
	}
	slices.SortFunc(e.mms, func(a, b refMM) int { return cmp.Compare(a.MM, b.MM) })
	for i := range e.mms {
		e.place[e.mms[i].MM] = i
		e.table = appendRefMM(e.table, &e.mms[i])
	}
}

func appendRefMM(b []byte, m *refMM) []byte {
	b = appendU(b, uint64(m.MM))
	b = appendU(b, m.time)
	b = appendU(b, m.No)
	b = append(b, byte(m.Engine))
	b = appendU(b, m.Granule>>addr.PageShift)
	b = appendU(b, m.Pool)
	return appendU(b, m.Open)
}

// mm is the place of an address space; the chunk has begun.
func (e *refEnc) mm(no uint32) int {
	i, ok := e.place[no]
	if !ok {
		i = len(e.mms)
		e.place[no] = i
		m := refMM{PhaseState: PhaseState{MM: no}}
		e.mms = append(e.mms, m)
		e.table = appendRefMM(e.table, &m)
	}
	return i
}

// at brings the time of an address space to ns, and says by how many units. Time
// does not go back: what is earlier counts as now.
func (m *refMM) at(ns uint64, shift uint8) uint64 {
	t := max(ns>>shift, m.time)
	d := t - m.time
	m.time = t
	return d
}

func (e *refEnc) add(r *Ref, after Step) error {
	if uint64(r.Page)&pageLow != 0 || r.Kind >= NumRefKinds {
		return fmt.Errorf("format: reference of kind %d to %v", r.Kind, r.Page)
	}
	if err := e.ready(after); err != nil {
		return err
	}
	flags := byte(r.Kind)
	key := uint64(r.Thread)<<32 | uint64(e.mm(r.MM))
	at, ok := e.stream[key]
	if !ok {
		at = len(e.streams)
		e.stream[key] = at
		e.streams = append(e.streams, refStreamOf{thread: r.Thread, mm: int(uint32(key)), last: noIP})
	}
	if at != e.cur {
		flags |= refStream
		e.cols[refColStream] = appendU(e.cols[refColStream], uint64(at))
		e.cur = at
	}
	if after != e.after {
		flags |= refStep
		e.cols[refColStep] = appendU(e.cols[refColStep], uint64(after-e.after))
		e.after = after
	}
	e.cols[refColKind] = append(e.cols[refColKind], flags)
	s, page, ip := &e.streams[at], r.Page.Page(), uint64(r.IP)
	id, known := e.ipAt[ip]
	switch {
	case !known:
		id = uint32(len(e.ips))
		e.ipAt[ip] = id
		e.cols[refColNewIP] = appendZZ(e.cols[refColNewIP], int64(ip-e.lastIP(s)))
		e.ips = append(e.ips, refIP{ip: ip, page: s.page, next: noIP})
		e.cols[refColIP] = append(e.cols[refColIP], ipNew)
	case s.last != noIP && e.ips[s.last].next == id:
		e.cols[refColIP] = append(e.cols[refColIP], ipNext)
	default:
		e.cols[refColIP] = appendU(e.cols[refColIP], ipKnown+uint64(id))
	}
	e.cols[refColPage] = appendZZ(e.cols[refColPage], int64(page-e.from(id, r.Kind)))
	e.went(s, id, page, r.Kind)
	m := &e.mms[s.mm]
	e.cols[refColTime] = appendU(e.cols[refColTime], m.at(r.Time, e.shift))
	m.Open++
	e.live[r.MM] = *m
	e.refs++
	e.since++
	return nil
}

// phase adds the mark of a phase.
func (e *refEnc) phase(p *Phase, after Step) error {
	if p.Granule == 0 || p.Granule&pageLow != 0 {
		return fmt.Errorf("format: a phase with blocks of %d bytes", p.Granule)
	}
	if err := e.ready(after); err != nil {
		return err
	}
	at := e.mm(p.MM)
	m := &e.mms[at]
	b := e.cols[refColPhase]
	b = appendU(b, uint64(e.since))
	b = appendU(b, uint64(after-e.marked))
	b = appendU(b, uint64(at))
	b = append(b, byte(p.Engine))
	b = appendU(b, p.Granule>>addr.PageShift)
	b = appendU(b, p.Pool)
	b = appendU(b, m.at(p.Time, e.shift))
	b = appendU(b, p.Pinned)
	b = appendU(b, p.Held)
	held, written, flags := p.HeldPages, p.Written, byte(0)
	if len(held) > MaxPhaseRanges {
		held = held[:MaxPhaseRanges] // Held says that there were more
	}
	if p.Exact && len(written) <= MaxPhaseRanges {
		flags |= phaseExact
	} else {
		written = nil
	}
	if p.Incomplete {
		flags |= phaseIncomplete
	}
	b = append(b, flags)
	b = appendU(b, uint64(len(held)))
	var last uint64
	for _, a := range held {
		b = appendZZ(b, int64(a.Page()-last))
		last = a.Page()
	}
	b = appendU(b, uint64(len(written)))
	var end addr.Addr
	for _, r := range written {
		if r.Start < end || r.Empty() || uint64(r.Start|r.End)&pageLow != 0 {
			return fmt.Errorf("format: written pages %v after %v", r, end)
		}
		b = appendU(b, (r.Start - end).Page())
		b = appendU(b, r.Len()>>addr.PageShift)
		end = r.End
	}
	e.cols[refColPhase] = b
	m.begin(p)
	e.live[p.MM] = *m
	e.marked, e.since = after, 0
	e.marks++
	return nil
}

// begin makes p the phase of m.
func (m *refMM) begin(p *Phase) {
	m.No++
	m.Engine, m.Granule, m.Pool, m.Open = p.Engine, p.Granule, p.Pool, 0
}

// payload appends the chunk's payload to b; the next item begins another.
func (e *refEnc) payload(b []byte) []byte {
	b = appendU(b, uint64(e.first))
	b = appendU(b, e.phases)
	b = appendU(b, uint64(len(e.mms)))
	b = append(b, e.table...)
	b = appendU(b, uint64(len(e.streams)))
	for i := range e.streams {
		b = appendU(b, uint64(e.streams[i].thread))
		b = appendU(b, uint64(e.streams[i].mm))
	}
	b = appendU(b, numRefCols)
	for id, c := range e.cols {
		b = appendU(b, uint64(id))
		b = append(b, 0) // encoding
		b = appendU(b, uint64(len(c)))
	}
	for _, c := range e.cols {
		b = append(b, c...)
	}
	e.total += uint64(e.refs)
	e.phases += uint64(e.marks)
	e.refs, e.marks = 0, 0
	return b
}

// Ref writes a reference to a page, which comes after all events so far. Its After
// does not matter, and r is not kept.
func (w *Writer) Ref(r *Ref) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return err
	}
	if err := w.ref.add(r, w.step()); err != nil {
		return err
	}
	return w.spillRefs()
}

// Phase writes that one phase of an address space has ended and the next begins.
// Its After does not matter, and p is not kept.
func (w *Writer) Phase(p *Phase) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return err
	}
	if err := w.ref.phase(p, w.step()); err != nil {
		return err
	}
	return w.spillRefs()
}

// spillRefs sends a full REFS chunk off.
func (w *Writer) spillRefs() error {
	if w.ref.full() {
		w.putRefs(!w.began)
	}
	return nil
}

// putRefs writes the references that wait; alone says that they make a group of
// their own.
func (w *Writer) putRefs(alone bool) {
	e := w.ref
	if e.empty() {
		return
	}
	c := chunk{typ: TypeRefs, base: e.total, count: uint32(e.refs)}
	if alone {
		c.flags = flagCommit
	}
	w.out.put(c, e.payload(w.out.buffer()))
	w.info.Refs = e.total
}
