package format

import (
	"fmt"
	"io"
	"iter"

	"memtrace/format/addr"
)

// Part says which part of a run Cut writes.
type Part struct {
	From, To Step // the first and the last step; what the logs do not have is left out
	// Facts are those of the step before From. Where the first log begins with From, those that
	// it has itself are taken.
	Facts Facts
	// Before, if it is not nil, is what is known of memory before the first log.
	Before  *Before
	Reason  string   // why the new log ends; "" is as the last log, or "cut" before its end
	Options []string // are put behind those of the logs
}

// Cut writes to w a part of a run as a log of its own: it has the steps and times of the
// run, what was known at its beginning, and the stacks and texts that belong to it.
// logs are one log, or several of the same run in their order that have the steps
// between them without a gap; steps that two of them have are taken from the first.
// References to pages are left out.
func Cut(w io.Writer, logs []*Reader, p Part) (*Info, error) {
	if len(logs) == 0 {
		return nil, fmt.Errorf("format: there is no log to cut")
	}
	from := max(p.From, logs[0].Header().Begin.First())
	for len(logs) > 1 && logs[0].Steps() < from {
		logs = logs[1:]
	}
	first := logs[0]
	if from > p.To || from >= logs[len(logs)-1].Steps() {
		return nil, fmt.Errorf("format: the log has no steps from %d to %d", p.From, p.To)
	}
	c := copier{from: first, source: first, modules: map[Module]ModuleNo{}}
	h := *first.Header()
	h.Salt, h.Refs, h.Begin, h.Segment = [16]byte{}, false, Begin{}, 0
	h.Inventory = "" // it would be that of another log
	h.Options = append(h.Options[:len(h.Options):len(h.Options)], p.Options...)
	var s *State
	var events []*Event
	if from > 0 {
		var err error
		if s, err = first.StateAt(from - 1); err != nil {
			return nil, err
		}
		facts := p.Facts
		if from == first.Header().Begin.First() {
			if facts, err = first.facts(); err != nil {
				return nil, err
			}
		}
		if p.Before != nil && p.Before.s != nil && p.Before.Next() == from {
			s, c.source = p.Before.s, p.Before
		}
		events = beginning(s, facts)
		if h.Begin, err = beginAt(from, events); err != nil {
			return nil, err
		}
	}
	var err error
	if c.w, err = NewWriter(w, &h, &WriterOptions{FlushInterval: -1}); err != nil {
		return nil, err
	}
	err = c.copy(logs, s, events, from, p.To)
	reason := p.Reason
	if last := logs[len(logs)-1]; reason == "" && p.To >= last.Steps()-1 && !last.Truncated() {
		reason = last.Info().Reason
	} else if reason == "" {
		reason = "cut"
	}
	if cerr := c.w.Close(reason); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	info := c.w.info
	info.First, info.Reason, info.Size = h.Begin.Step, reason, c.w.Bytes()
	return &info, nil
}

// facts are those that a log which begins in the middle of a run begins with.
func (r *Reader) facts() (Facts, error) {
	known := map[uint32]*Attach{}
	for e, err := range r.Events(0) {
		if err != nil {
			return nil, err
		}
		if e.Step >= r.h.Begin.First() {
			break
		}
		if a, ok := e.Clone().Record.(*Attach); ok {
			known[e.Thread] = a
		}
	}
	return func(t *Thread) *Attach {
		if a := known[t.No]; a != nil {
			return a
		}
		return &Attach{PID: t.TGID, Goes: true}
	}, nil
}

// copier writes events of one log to another.
type copier struct {
	from    *Reader
	source  source // of pages and what calls wrote
	w       *Writer
	refs    refMap
	stacks  map[StackNode]StackNode
	modules map[Module]ModuleNo
	page    [addr.PageSize]byte
}

func (c *copier) copy(logs []*Reader, s *State, begin []*Event, from, to Step) error {
	if s != nil {
		if err := c.begin(s, begin, from); err != nil {
			return err
		}
	}
	next := from
	for _, r := range logs {
		if h := r.Header(); !h.Start.Equal(c.from.h.Start) || h.Mono != c.from.h.Mono {
			return fmt.Errorf("format: the logs are not of the same run")
		}
		if r.Header().Begin.First() > next {
			return fmt.Errorf("format: steps %d to %d are in none of the logs", next, r.Header().Begin.First()-1)
		}
		if r != c.source {
			c.from, c.source, c.refs = r, r, refMap{}
		}
		c.stacks = map[StackNode]StackNode{}
		if err := c.texts(to); err != nil {
			return err
		}
		for e, err := range r.Events(next) {
			if err != nil {
				return err
			}
			if e.Step > to {
				return nil
			}
			if err := c.event(e); err != nil {
				return err
			}
			next = e.Step + 1
		}
	}
	return nil
}

// event copies an event with its changes.
func (c *copier) event(e *Event) error {
	for _, x := range e.Changes {
		if p, ok := x.(*Pages); ok && p.What == PageData {
			if err := c.data(p.MM, p.Addr, p.Refs); err != nil {
				return err
			}
		} else if err := c.w.Change(x); err != nil {
			return err
		}
	}
	var err error
	out := *e
	out.Changes = nil
	if out.Stack, err = c.stack(e.Stack); err != nil {
		return err
	}
	step, err := c.w.Event(&out)
	if err == nil && step != e.Step {
		err = fmt.Errorf("format: step %d became step %d", e.Step, step)
	}
	return err
}

// data copies pages. Pages that were the same are again.
func (c *copier) data(mm uint32, at addr.Addr, refs []PageRef) error {
	for i, ref := range refs {
		vpn := at.Page() + uint64(i)
		now, ok := ref, ref.Redacted()
		if !ok {
			now, ok = c.refs.get(ref)
		}
		if ok {
			if err := c.w.samePage(mm, vpn, now); err != nil {
				return err
			}
			continue
		}
		if err := c.source.Page(ref, &c.page); err != nil {
			return err
		}
		now, ok, err := c.w.onePage(mm, vpn, c.page[:])
		if err != nil {
			return err
		}
		if ok {
			c.refs.put(ref, now)
		}
	}
	return nil
}

// samePage writes that a page holds what another one of the log does.
func (w *Writer) samePage(mm uint32, vpn uint64, ref PageRef) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.ready()
	if err == nil {
		err = w.flushHeld()
	}
	if err != nil {
		return err
	}
	w.pages++
	w.info.Pages++
	w.info.Same++
	w.updates++
	return w.run(pageRun{mm: mm, kind: PageData, vpn: vpn, n: 1, ref: ref}, runRef)
}

// onePage writes a page and returns what it became; ok is false for no data.
func (w *Writer) onePage(mm uint32, vpn uint64, data []byte) (ref PageRef, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.change(&Pages{MM: mm, Addr: addr.Addr(vpn << addr.PageShift), N: 1, What: PageData, Data: data}); err != nil {
		return 0, false, err
	}
	x, err := w.state.MMs[mm].pages.get(vpn)
	return PageRef(x.ent >> entShift), PageKind(x.ent&entKind) == PageData, err
}

// stack is the number in the new log of a stack of the old one.
func (c *copier) stack(n StackNode) (StackNode, error) {
	if n < FirstNode {
		return n, nil
	}
	if now, ok := c.stacks[n]; ok {
		return now, nil
	}
	// The frames up to one that is known.
	var path []StackNode
	var frames []RawFrame
	caller := n
	for caller >= FirstNode {
		if _, ok := c.stacks[caller]; ok {
			break
		}
		if len(path) == MaxDepth {
			return 0, overLimit("the depth of a stack", MaxDepth+1, MaxDepth)
		}
		f, up, err := c.from.StackFrame(caller)
		if err != nil {
			return 0, err
		}
		raw := f.RawFrame
		if raw.Module, err = c.module(f.Mod); err != nil {
			return 0, err
		}
		path, frames = append(path, caller), append(frames, raw)
		caller = up
	}
	if caller >= FirstNode {
		caller = c.stacks[caller]
	}
	for i := len(path) - 1; i >= 0; i-- {
		var err error
		if caller, err = c.w.Stack(frames[i:i+1], caller, 0); err != nil {
			return 0, err
		}
		c.stacks[path[i]] = caller
	}
	return caller, nil
}

func (c *copier) module(m *Module) (no ModuleNo, err error) {
	if m == nil {
		return 0, nil
	}
	no, ok := c.modules[*m]
	if !ok {
		if no, err = c.w.Module(m); err == nil {
			c.modules[*m] = no
		}
	}
	return no, err
}

// texts copies the texts of the steps up to one.
func (c *copier) texts(to Step) error {
	for t, err := range c.from.Texts() {
		if err == nil && t.Step <= to {
			err = c.w.Text(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin writes the events that a log begins with in the middle of a run: at state s, of
// the step before from.
func (c *copier) begin(s *State, events []*Event, from Step) error {
	threads := sortedKeys(s.Threads)
	regs, err := c.from.Registers(from-1, threads, true)
	if err != nil {
		return err
	}
	for i, no := range threads {
		if regs[i].XState != nil {
			c.w.had[no] = regs[i].XState // for what says that it did not change
		}
	}
	wrote, err := c.written(s)
	if err != nil {
		return err
	}
	time, err := c.from.timeOf(from - 1)
	if err != nil {
		return err
	}
	for i, e := range events {
		for _, x := range e.Changes {
			if err := c.w.Change(x); err != nil {
				return err
			}
		}
		if i == len(events)-1 { // all of it is known at this step
			for _, mm := range sortedKeys(s.MMs) {
				if err := c.memory(s.MMs[mm]); err != nil {
					return err
				}
			}
			for _, x := range wrote {
				if err := c.w.Change(x); err != nil {
					return err
				}
			}
		}
		if _, err := c.w.Event(&Event{Time: time, Thread: e.Thread, Record: e.Record}); err != nil {
			return err
		}
	}
	return nil
}

// timeOf is when an event was.
func (r *Reader) timeOf(n Step) (uint64, error) {
	for e, err := range r.Events(n) {
		if err != nil {
			return 0, err
		}
		return e.Time, nil
	}
	return 0, nil
}

// memory writes what is known of the pages of an address space, and since when.
func (c *copier) memory(m *MM) error {
	was := Aged{AsOf: ^uint64(0)}
	for p, err := range m.Pages(addr.Range{End: MaxPageNo << addr.PageShift}) {
		if err != nil {
			return err
		}
		if p.What == PageData && p.Err != nil {
			return p.Err
		}
		now := uint64(c.w.step())
		age := Aged{now - uint64(p.AsOf), uint64(p.AsOf - p.Changed)}
		if age != was {
			was = age
			if err := c.w.Change(&age); err != nil {
				return err
			}
		}
		if p.What != PageData {
			if err := c.w.Change(&Pages{MM: m.No, Addr: p.Addr, N: p.N, What: p.What}); err != nil {
				return err
			}
			continue
		}
		for ref, at := range p.each() {
			if err := c.data(m.No, at, []PageRef{ref}); err != nil {
				return err
			}
		}
	}
	return nil
}

// each yields the references of pages of data, and their addresses.
func (p *PageRun) each() iter.Seq2[PageRef, addr.Addr] {
	return func(yield func(PageRef, addr.Addr) bool) {
		for i := range p.N {
			if !yield(p.Ref+PageRef(2*i), p.Addr+addr.Addr(i<<addr.PageShift)) {
				return
			}
		}
	}
}

// written puts the bytes that calls wrote before the log begins at its head, and says of
// each address space what they are.
func (c *copier) written(s *State) (out []*WrittenBefore, err error) {
	at := map[[2]uint64]uint64{} // where bytes are that several address spaces have
	var bytes []byte
	for _, no := range sortedKeys(s.MMs) {
		w := s.MMs[no].written
		if len(w.list) == 0 && w.floor == 0 {
			continue
		}
		list := written{floor: w.floor, list: append([]Written(nil), w.list...)}
		for i := range list.list {
			x := &list.list[i]
			key := [2]uint64{x.Blob, x.Len}
			if _, ok := at[key]; !ok {
				n := len(bytes)
				bytes = append(bytes, make([]byte, x.Len)...)
				if err := c.source.Blob(bytes[n:], x.Blob); err != nil {
					return nil, err
				}
				at[key] = uint64(n)
			}
			x.Blob = at[key]
		}
		out = append(out, &WrittenBefore{wroteSet{mm: no, floor: list.floor, list: list.list, enc: appendWritten(nil, &list, 0)}})
	}
	c.w.blobs(bytes)
	return out, nil
}

// blobs writes bytes as a group of its own.
func (w *Writer) blobs(b []byte) {
	for len(b) > 0 {
		n := min(len(b), frameBytes)
		w.out.put(chunk{typ: TypeBlob, flags: flagCommit, base: w.nblob, count: uint32(n)}, append(w.out.buffer(), b[:n]...))
		w.nblob += uint64(n)
		b = b[n:]
	}
}

// refMap says what pages of one log are in another, of those that were met lately.
type refMap struct{ now, before map[PageRef]PageRef }

// refsKept is how many of each of its two halves there are.
const refsKept = 1 << 19

func (m *refMap) get(ref PageRef) (PageRef, bool) {
	if now, ok := m.now[ref]; ok {
		return now, true
	}
	now, ok := m.before[ref]
	if ok {
		m.put(ref, now)
	}
	return now, ok
}

func (m *refMap) put(ref, now PageRef) {
	if m.now == nil || len(m.now) >= refsKept {
		m.now, m.before = make(map[PageRef]PageRef), m.now
	}
	m.now[ref] = now
}
