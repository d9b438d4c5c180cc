package format

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"memtrace/format/addr"
)

// WriterOptions are the choices of a writer; the zero value is a good one.
type WriterOptions struct {
	// FlushInterval is how much of a recording a crash of the recorder may
	// lose; 0 is a second, below 0 there is no timer.
	FlushInterval time.Duration
	// GroupSteps is how many events make a group, 0 for 8192.
	GroupSteps int

	epoch Step // events between keyframes, 0 for 65536
	// pageCache is the most copies of pages to hold, 0 for 32768 (128 MiB).
	// Memory is taken as pages come.
	pageCache int
	// noKeyframes leaves keyframes out: such a log is slow to seek in.
	noKeyframes bool
}

// ErrClosed is returned by the methods of a closed Writer.
var ErrClosed = errors.New("format: the log is closed")

// Writer writes a log. Its methods are for one goroutine; compression and
// writing happen on another, and a timer sees to it that what was written does
// not wait too long. After an error of the file beneath, every method returns
// that error, and nothing waits.
type Writer struct {
	opt WriterOptions
	h   Header
	out *output

	mu     sync.Mutex // for the timer
	timer  *time.Timer
	expect *time.Timer // see ExpectPages
	due    bool        // the timer came while changes waited for their event
	refDue bool        // references are to go with the next group
	// refTicks is how often the timer came since references were written.
	refTicks int
	closed   bool
	err      error // of Close

	state   *State
	info    Info
	ev      eventEnc
	st      stateEnc
	ref     *refEnc
	stRecs  bool // the STATE payload at hand has been begun
	pending bool // changes wait for their event
	began   bool // changes or events since the last commit
	nblob   uint64
	group   uint64 // groups since the last keyframe
	updates uint64 // page updates since
	keyAt   Step   // steps at the last keyframe
	keyDue  bool   // one is to follow the last commit, not from the timer: it touches the state
	key     keyframeEnc
	mms     []uint32 // scratch
	regs    map[uint32]*threadRegs
	xstates map[uint32]threadXState
	had     map[uint32][]byte // extended states that a log before this one has

	cache   *pageCache
	raw     []byte // the RAW frame being filled
	rawBase uint64 // its first id
	owed    bool   // a patch that waits starts from a page in it
	nraw    uint64 // ids given out
	npatch  uint64
	patch   patchEnc
	scratch []byte
	pages   uint64  // of data since the last event
	held    pageRun // pages all alike, not written yet
	// lastPages is how many the last event had that had any.
	lastPages uint64
	frames    int // full RAW frames since the last commit

	stacks stackEnc
	texts  uint64 // TEXTS chunks so far
	kept   []Text // for the next log
}

// NewWriter begins a log on w with a header. Where h.Salt is zero it is chosen
// at random; a zero TimeShift stays 0.
func NewWriter(w io.Writer, h *Header, o *WriterOptions) (*Writer, error) {
	wr := &Writer{h: *h, state: NewState(), had: map[uint32][]byte{}}
	wr.state.Step = h.Begin.Step - 1
	wr.keyAt = h.Begin.Step
	if o != nil {
		wr.opt = *o
	}
	if wr.opt.pageCache == 0 {
		wr.opt.pageCache = 32 << 10
	}
	if wr.opt.FlushInterval == 0 {
		wr.opt.FlushInterval = time.Second
	}
	if wr.opt.GroupSteps <= 0 || wr.opt.GroupSteps > groupSteps {
		wr.opt.GroupSteps = groupSteps
	}
	if wr.opt.epoch == 0 {
		wr.opt.epoch = epochSteps
	}
	wr.cache = newPageCache(max(0, wr.opt.pageCache))
	wr.ev = *newEventEnc(h.TimeShift)
	wr.ref = newRefEnc(h.TimeShift)
	wr.regs, wr.xstates = map[uint32]*threadRegs{}, map[uint32]threadXState{}
	wr.key.put = func(c chunk, payload []byte) { wr.out.put(c, append(wr.out.buffer(), payload...)) }
	var err error
	if wr.out, err = newOutput(w, &wr.h, nil); err != nil {
		return nil, err
	}
	if wr.opt.FlushInterval > 0 {
		wr.mu.Lock() // the timer may be faster than its assignment
		wr.timer = time.AfterFunc(wr.opt.FlushInterval, wr.tick)
		wr.mu.Unlock()
	}
	return wr, nil
}

// Header is the header that was written.
func (w *Writer) Header() *Header { return &w.h }

// Bytes is the size of the log so far, without what waits to be written.
func (w *Writer) Bytes() int64 { return w.out.written.Load() }

// State is the state after the last change; it belongs to the writer, and is
// not to be changed.
func (w *Writer) State() *State { return w.state }

// tick runs on the timer's goroutine.
func (w *Writer) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if w.refTicks++; w.refTicks >= refTicks || w.ref.refs >= groupRefs/4 {
		w.refDue = true
	}
	if w.pending {
		w.due = true
	} else {
		w.commit()
	}
	w.timer.Reset(w.opt.FlushInterval)
}

// ready begins a call.
func (w *Writer) ready() error {
	if w.closed {
		return ErrClosed
	}
	if w.keyDue {
		w.keyframe() // before anything else is in the next group
	}
	return w.out.error()
}

// Change writes a change that belongs to the next Event. Nothing of it is kept.
func (w *Writer) Change(c Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.change(c)
}

func (w *Writer) change(c Change) error {
	if err := w.ready(); err != nil {
		return err
	}
	if p, ok := c.(*Pages); ok {
		return w.pagesChange(p)
	}
	if err := w.flushHeld(); err != nil {
		return err
	}
	if v, ok := c.(*VMASet); ok && len(v.VMA.Name) > MaxName {
		cut := *v
		cut.VMA.Name = cut.VMA.Name[:MaxName]
		c = &cut
	}
	if err := w.state.Apply(c); err != nil {
		return fmt.Errorf("format: change cannot be written: %w", err)
	}
	switch t := c.(type) {
	case *MMDrop:
		delete(w.ref.live, t.MM)
	case *MMNew:
		if t.From != 0 {
			w.cache.forks++
		}
	case *XStateSet:
		if had, ok := w.had[t.Thread]; ok {
			delete(w.had, t.Thread)
			if len(t.Data) == 0 {
				t = &XStateSet{Thread: t.Thread, Data: had}
				c = t
			}
		}
		if !w.opt.noKeyframes {
			x := threadXState{slices.Clone(t.Data), w.step()}
			if len(x.data) == 0 {
				x.data = w.xstates[t.Thread].data
			}
			w.xstates[t.Thread] = x
		}
	case *RegsSet:
		if !w.opt.noKeyframes {
			w.regs[t.Thread] = &threadRegs{regs: slices.Clone(t.Regs), step: w.step()}
		}
	}
	w.open()
	w.st.change(w.step(), c)
	w.spill()
	return nil
}

// step is the step of the next event.
func (w *Writer) step() Step { return w.state.Step + 1 }

// open makes the STATE payload ready for a record.
func (w *Writer) open() {
	if !w.stRecs {
		w.st.begin(w.nraw, w.npatch)
		w.stRecs = true
	}
	w.pending, w.began = true, true
}

// spill sends a full STATE payload off.
func (w *Writer) spill() {
	if w.stRecs && len(w.st.b)+len(w.st.runs) >= groupState {
		w.putState()
	}
}

func (w *Writer) putState() {
	// A STATE chunk takes only pages that the log has.
	w.putRaw()
	w.putPatch()
	w.st.closePages()
	w.stRecs = false
	w.out.put(chunk{typ: TypeState, base: uint64(w.st.base), count: uint32(w.st.recs)}, append(w.out.buffer(), w.st.b...))
}

// safeRows is how many events are committed before a snapshot of many pages is
// written: few enough to lose, many enough that small groups do not cost.
const (
	safeRows  = 256
	frameRows = 64 // and how many after a full frame of pages: a small disk fills with those
	manyPages = 64
)

// pagesChange writes a Pages change. What is all alike is held back: data often
// follows that lies in it (a mapping that is zero but for what was touched), and
// such a page was not zero before.
func (w *Writer) pagesChange(p *Pages) error {
	if uint64(p.Addr)%addr.PageSize != 0 {
		return fmt.Errorf("format: pages at %v, which is not at a page boundary", p.Addr)
	}
	m, err := w.state.mm(p.MM)
	if err != nil {
		return fmt.Errorf("format: change cannot be written: %w", err)
	}
	r := pageRun{mm: p.MM, kind: p.What, vpn: p.Addr.Page(), n: p.N}
	if r.n > MaxPageNo || r.n > 0 && r.vpn+r.n-1 > MaxPageNo {
		return overLimit("a page number", r.vpn+r.n-1, MaxPageNo)
	}
	if h := &w.held; h.n > 0 && h.mm == r.mm && r.vpn >= h.vpn && r.vpn+r.n <= h.vpn+h.n {
		if h.kind == r.kind {
			return nil
		}
		before := *h
		before.n = r.vpn - h.vpn
		h.n -= before.n + r.n
		h.vpn = r.vpn + r.n
		if err := w.alike(before); err != nil {
			return err
		}
	} else if err := w.flushHeld(); err != nil {
		return err
	}
	if p.What == PageData {
		return w.data(m, p)
	}
	if _, ok := runKind(p.What); !ok {
		return fmt.Errorf("format: pages of unknown kind %d", p.What)
	}
	if w.held.n > 0 { // inside what is held
		return w.alike(r)
	}
	if err := w.early(0); err != nil {
		return err
	}
	w.open()
	w.held = r
	return nil
}

// flushHeld writes what pagesChange held back.
func (w *Writer) flushHeld() error {
	r := w.held
	if r.n == 0 {
		return nil
	}
	w.held.n = 0
	return w.alike(r)
}

// alike writes a stretch of pages that are not data.
func (w *Writer) alike(r pageRun) error {
	kind, _ := runKind(r.kind)
	return w.run(r, kind)
}

func runKind(what PageKind) (kind uint64, ok bool) {
	for k, x := range runKinds {
		if x == what && what != PageData {
			return uint64(k), true
		}
	}
	return 0, false
}

// early ends the group before a snapshot that may be large, so that a disk that
// its pages fill does not cost the events before them. n is how many pages are
// known to come.
func (w *Writer) early(n uint64) error {
	if w.pages > 0 || w.pending || w.ev.rows < safeRows || max(n, w.lastPages) < manyPages {
		return nil
	}
	w.commit()
	return w.ready()
}

// data writes pages of data.
func (w *Writer) data(m *MM, p *Pages) error {
	if len(p.Data) == 0 && uint64(len(p.Refs)) == p.N {
		return w.redacted(p)
	}
	if p.N > 1<<40 || uint64(len(p.Data)) != p.N*addr.PageSize {
		return fmt.Errorf("format: %d bytes for %d pages", len(p.Data), p.N)
	}
	if err := w.early(p.N); err != nil {
		return err
	}
	if w.pages += p.N; w.pages > MaxEventPages {
		return overLimit("the number of pages of an event", w.pages, MaxEventPages)
	}
	w.info.Pages += p.N
	w.updates += p.N
	vpn := p.Addr.Page()
	for i := range p.N {
		if err := w.storePage(m, vpn+i, p.Data[i*addr.PageSize:][:addr.PageSize]); err != nil {
			return err
		}
	}
	return nil
}

// redacted writes that pages have data, which the log does not get.
func (w *Writer) redacted(p *Pages) error {
	r := pageRun{mm: p.MM, kind: PageData, vpn: p.Addr.Page(), n: 1}
	w.updates += p.N
	for _, ref := range p.Refs {
		if !ref.Redacted() || !w.h.NoPages {
			return fmt.Errorf("format: reference %d without the data of its page", ref)
		}
		r.ref = ref
		if err := w.run(r, runRef); err != nil {
			return err
		}
		r.vpn++
	}
	return nil
}

// run notes what a stretch of pages became.
func (w *Writer) run(r pageRun, kind uint64) error {
	if err := w.state.run(r); err != nil {
		return fmt.Errorf("format: change cannot be written: %w", err)
	}
	if r.n == 0 {
		return nil
	}
	w.spill() // before: the page of a runRaw is not in its frame yet
	w.open()
	w.st.pages(w.step(), r.mm, r.vpn, r.n, kind, r.ref)
	return nil
}

// Event writes an event, with e.Changes before it, and returns its step. The
// Step of e does not matter, and e is not kept.
func (w *Writer) Event(e *Event) (Step, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.event(e)
}

func (w *Writer) event(e *Event) (Step, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	for _, c := range e.Changes {
		if err := w.change(c); err != nil {
			return 0, err
		}
	}
	if err := w.flushHeld(); err != nil {
		return 0, err
	}
	if err := w.ev.check(e); err != nil {
		return 0, err
	}
	if e.Stack != 0 && !w.stacks.has(e.Stack) {
		return 0, fmt.Errorf("format: stack %d is not known", e.Stack)
	}
	step := w.step()
	if err := w.ev.add(e, step); err != nil {
		return 0, err
	}
	w.state.Step = step
	if c, ok := e.Record.(*Syscall); ok && len(c.Bufs) > 0 && !w.h.NoCalls {
		if err := w.state.wrote(e.Thread, step, c.Bufs, w.ev.at, w.nblob); err != nil {
			return 0, err
		}
	}
	w.info.Steps, w.info.Time = step+1, e.Time>>w.h.TimeShift<<w.h.TimeShift
	if w.pages > 0 {
		w.lastPages, w.pages = w.pages, 0
	}
	w.pending, w.began = false, true
	if w.due || w.ev.rows >= w.opt.GroupSteps || w.ev.full() || w.frames > 0 && w.ev.rows >= frameRows && w.atRisk() {
		w.commit()
	}
	return step, nil
}

// atRisk says whether a disk that fills now would cost events whose pages are a
// sizeable part of the log.
func (w *Writer) atRisk() bool {
	return int64(w.frames)*frameBytes >= min(8<<20, w.Bytes()/16)
}

// commit ends the group, if one has begun. No changes may wait for their event.
func (w *Writer) commit() {
	if w.refDue { // else they wait: large chunks take less
		w.refDue, w.refTicks = false, 0
		w.putRefs(!w.began)
	}
	if !w.began {
		return
	}
	w.due, w.began, w.frames = false, false, 0
	w.summary()
	for b := w.ev.blob; len(b) > 0; {
		n := min(len(b), frameBytes)
		w.out.put(chunk{typ: TypeBlob, base: w.nblob, count: uint32(n)}, append(w.out.buffer(), b[:n]...))
		w.nblob += uint64(n)
		b = b[n:]
	}
	if w.stRecs {
		w.putState()
	}
	w.putRaw()
	w.putPatch()
	w.putStacks()
	ext := appendTLV(nil, extTime, appendU(nil, w.ev.time0))
	c := chunk{typ: TypeEvent, flags: flagCommit, base: uint64(w.ev.base), count: uint32(w.ev.rows), ext: ext}
	w.out.put(c, append(w.out.buffer(), w.ev.payload()...))
	if !w.opt.noKeyframes {
		for no, r := range w.ev.regs {
			if old := w.regs[no]; old == nil || old.step <= r.step {
				w.regs[no] = r
			}
		}
	}
	w.ev.reset()
	w.group++
	w.keyDue = !w.opt.noKeyframes && (w.group >= epochGroups || w.updates >= epochUpdates || w.state.Step+1-w.keyAt >= w.opt.epoch)
}

// summary writes what the calls of the group wrote and is still there.
func (w *Writer) summary() {
	w.mms = w.mms[:0]
	for no, m := range w.state.MMs {
		if m.written.wrote && m.written.newest >= w.ev.base {
			w.mms = append(w.mms, no)
		}
	}
	slices.Sort(w.mms)
	for _, no := range w.mms {
		if !w.stRecs {
			w.st.begin(w.nraw, w.npatch)
			w.stRecs = true
		}
		m := w.state.MMs[no]
		w.scratch = appendWritten(w.scratch[:0], &m.written, w.ev.base)
		w.st.change(w.state.Step, &wroteSet{mm: no, enc: w.scratch})
		w.spill()
	}
}

// keyframe writes the state whole. The group before it is complete.
func (w *Writer) keyframe() {
	for no := range w.regs {
		if w.state.Threads[no] == nil {
			delete(w.regs, no)
		}
	}
	for no := range w.xstates {
		if w.state.Threads[no] == nil {
			delete(w.xstates, no)
		}
	}
	w.key.write(w.state, w.regs, w.xstates)
	w.info.Keyframes++
	w.keyDue = false
	w.group, w.updates, w.keyAt = 0, 0, w.state.Step+1
}

// Flush puts all events so far where a crash of this process does not reach
// them: it waits until they are written. Changes without their event are not
// among them.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return err
	}
	w.refDue = true
	if !w.pending {
		w.commit()
	}
	return w.out.sync()
}

// Close ends the log: it writes what waits, the index, and why the recording
// ended. Changes that wait for an event are lost. A second Close does
// nothing and returns what the first did.
func (w *Writer) Close(reason string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.expect != nil {
		w.expect.Stop()
	}
	if w.out.error() == nil {
		w.held.n = 0
		w.began, w.refDue = w.ev.rows > 0, true
		w.commit()
	}
	w.info.Reason = reason
	info := w.info
	w.err = w.out.finish(&info)
	return w.err
}
