package format

import (
	"fmt"
	"io"
	"slices"
)

// Begin says where a log begins that does not begin with its run: a part that was cut
// out of another log, or the last part of a long recording. The zero value is of a log
// that begins with its run.
type Begin struct {
	Step   Step   // of the log's first event
	Events uint64 // how many events, from the first, only say what was so when the log begins
}

// First is the first step that is as it was in the run.
func (b Begin) First() Step { return b.Step + Step(b.Events) }

// Aged says of the Pages of the same event that follow it how old they are: a log that
// begins in the middle of a run knows them from before.
type Aged struct {
	AsOf    uint64 // how many steps before the event they were captured
	Changed uint64 // how many steps before that they got their contents
}

func (*Aged) code() uint8 { return recAged }

func (c *Aged) fields(x *fields) {
	x.u("steps since they were captured", &c.AsOf)
	x.u("steps before that in which they did not change", &c.Changed)
}

// age is an Aged while it holds.
type age struct {
	Aged
	step Step // of the event
	set  bool
}

func (s *State) age(c *Aged) error {
	now := uint64(s.Step + 1)
	if c.AsOf > now || c.Changed > now-c.AsOf {
		return corrupt("pages of before the first step")
	}
	s.aged = age{*c, s.Step + 1, true}
	return nil
}

// aged gives f the age of what is told now.
func (s *State) ageOf(f *fill) {
	if a := &s.aged; a.set && a.step == s.Step+1 {
		f.exact = true
		f.step -= a.AsOf
		f.changed = f.step - a.Aged.Changed
	}
}

// Facts are what is known of a process beside the state, when a log begins in the
// middle of its life: thread is one of its threads, the first if that still lives.
type Facts func(thread *Thread) *Attach

// beginning are the events that a log begins with in the middle of a run: one for each
// process, which brings its threads, its address spaces and their mappings. Nothing of
// s is shared.
func beginning(s *State, facts Facts) []*Event {
	procs := map[uint32][]*Thread{}
	for _, no := range sortedKeys(s.Threads) {
		t := s.Threads[no]
		procs[t.Proc] = append(procs[t.Proc], t)
	}
	told := map[uint32]bool{}
	var events []*Event
	for _, p := range sortedKeys(procs) {
		e := &Event{Thread: procs[p][0].No, Record: facts(procs[p][0])}
		mms := make([]uint32, 0, 1)
		for _, t := range procs[p] {
			mms = append(mms, t.MM)
		}
		if len(events) == 0 { // what nobody uses now was not dropped yet
			mms = append(mms, unused(s)...)
		}
		for _, mm := range mms {
			if m := s.MMs[mm]; m != nil && !told[mm] {
				told[mm] = true
				e.Changes = append(e.Changes, &MMNew{MM: mm})
				for v := range m.VMAs.All() {
					e.Changes = append(e.Changes, &VMASet{MM: mm, VMA: v})
				}
			}
		}
		for _, t := range procs[p] {
			e.Changes = append(e.Changes, &ThreadSet{Thread: *t})
		}
		events = append(events, e)
	}
	return events
}

// unused are the address spaces without a thread.
func unused(s *State) []uint32 {
	free := sortedKeys(s.MMs)
	for _, t := range s.Threads {
		free = slices.DeleteFunc(free, func(mm uint32) bool { return mm == t.MM })
	}
	return free
}

// beginAt says where a log begins whose first event that is as it was is step first.
func beginAt(first Step, events []*Event) (Begin, error) {
	if uint64(len(events)) > uint64(first) {
		return Begin{}, fmt.Errorf("format: %d processes at step %d", len(events), first)
	}
	return Begin{first - Step(len(events)), uint64(len(events))}, nil
}

// Continue ends the log, and begins one of the same run on to that goes on with the next
// step. No change may wait for its event. Of memory the new log knows nothing, and of
// descriptors what facts says; stacks and modules keep their numbers. done is called,
// on another goroutine, when the log that has ended is written; it is given its size.
func (w *Writer) Continue(to io.Writer, reason string, facts Facts, done func(size int64, err error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return err
	}
	if w.pending {
		return fmt.Errorf("format: a log cannot end before an event whose changes it has")
	}
	if w.h.Refs {
		return fmt.Errorf("format: a log with references to pages cannot be continued in another")
	}
	events := beginning(w.state, facts)
	begin, err := beginAt(w.state.Step+1, events)
	if err != nil {
		return err
	}
	h := w.h
	h.Salt, h.Begin, h.Segment = [16]byte{}, begin, h.Segment+1
	next, err := newOutput(to, &h, w.out)
	if err != nil {
		return err
	}
	w.commit()
	old, info, time := w.out, w.info, w.info.Time
	info.Reason = reason
	go func() {
		err := old.finish(&info)
		done(old.written.Load(), err)
	}()
	w.restart(next, &h)
	for _, e := range events {
		e.Time = time
		if _, err := w.event(e); err != nil {
			return err
		}
	}
	w.commit()
	return w.out.error()
}

// restart forgets what the log that has ended has: numbers count from the beginning.
func (w *Writer) restart(out *output, h *Header) {
	w.h, w.out = *h, out
	w.state = NewState()
	w.state.Step = h.Begin.Step - 1
	w.info = Info{}
	w.nblob, w.nraw, w.npatch, w.rawBase = 0, 0, 0, 0
	w.group, w.updates, w.keyAt, w.keyDue = 0, 0, h.Begin.Step, false
	w.key = keyframeEnc{put: w.key.put}
	w.cache.reset()
	w.patch = patchEnc{}
	w.pages, w.lastPages, w.frames = 0, 0, 0
	clear(w.regs)
	for no, x := range w.xstates {
		w.had[no] = x.data
	}
	clear(w.xstates)
	w.putTree()
	w.texts = 0
	for i := range w.kept {
		w.text(&w.kept[i])
	}
}

// putTree writes the modules and the whole tree of stacks, for another log.
func (w *Writer) putTree() {
	e := &w.stacks
	e.mb, e.mn, e.b = e.mb[:0], 0, e.b[:0]
	from := 0
	for i, m := range e.told {
		e.mb = appendStr(e.mb, m)
		if i++; len(e.mb) >= groupState || i == len(e.told) {
			w.out.put(chunk{typ: TypeModule, base: uint64(from), count: uint32(i - from)}, append(w.out.buffer(), e.mb...))
			e.mb, from = e.mb[:0], i
		}
	}
	e.mod.reset()
	from = 0
	for i := range e.nodes {
		e.b = e.nodes[i].append(e.b, FirstNode+StackNode(i), &e.mod)
		if i++; len(e.b) >= groupState || i-from >= stackNodes || i == len(e.nodes) {
			w.out.put(chunk{typ: TypeStack, base: uint64(from), count: uint32(i - from)}, append(w.out.buffer(), e.b...))
			e.b, from = e.b[:0], i
			e.mod.reset()
		}
	}
}

// Texts that are small and few are written again in a log that goes on from another:
// what they name may still be there.
const (
	keptTexts = 64
	keptText  = 64 << 10
)

func (w *Writer) keep(t *Text) {
	if len(t.Data) > keptText {
		return
	}
	if len(w.kept) == keptTexts {
		w.kept = slices.Delete(w.kept, 0, 1)
	}
	c := *t
	c.Data = slices.Clone(t.Data)
	w.kept = append(w.kept, c)
}
