package format

import (
	"errors"
	"fmt"
	"iter"
)

// Initial is the state before the first event.
func (r *Reader) Initial() *State {
	s := NewState()
	s.Step = r.First() - 1
	s.mem = r.budget
	return s
}

// has says whether the log has an event of step n.
func (r *Reader) has(n Step) error {
	switch {
	case n < r.First():
		return fmt.Errorf("format: the log begins at step %d: it does not have step %d", r.First(), n)
	case n >= r.info.Steps:
		return fmt.Errorf("format: the log has %d steps: there is no step %d", r.info.Steps, n)
	}
	return nil
}

// StateAt is the state when event n has happened, or before the first event.
func (r *Reader) StateAt(n Step) (*State, error) {
	if n == r.First()-1 {
		return r.Initial(), nil
	}
	if err := r.has(n); err != nil {
		return nil, err
	}
	s, p, err := r.keyframe(n)
	if err != nil {
		return nil, err
	}
	last, err := r.passed(n)
	if err != nil {
		return nil, err
	}
	if s.Step+1 < last+1 {
		err = r.replay(s, p, last)
	}
	if err == nil && last != n {
		err = r.through(s, n)
	}
	return s, err
}

// passed is the last step up to which a state at step n needs no events: those
// of the groups that are complete at n. A log without what calls wrote needs none.
func (r *Reader) passed(n Step) (Step, error) {
	if !r.h.Calls {
		return n, nil
	}
	p, ok, err := r.x.last(TypeEvent, uint64(n))
	if err != nil || !ok {
		return n, err
	}
	e, _, err := r.x.entry(&p)
	if err != nil || uint64(n) == e.base+uint64(e.count)-1 {
		return n, err
	}
	return Step(e.base) - 1, nil
}

// through takes the state event by event to step n.
func (r *Reader) through(s *State, n Step) error {
	for e, err := range r.Events(s.Step + 1) {
		if err == nil {
			err = s.ApplyEvent(e)
		}
		if err != nil || e.Step == n {
			return err
		}
	}
	return corrupt("step %d is missing", n)
}

// keyframe is the newest state at or before step n that the log has whole, and
// where the chunks begin that lead on from it.
func (r *Reader) keyframe(n Step) (*State, pos, error) {
	s := r.Initial()
	p, ok, err := r.x.last(TypeKey, uint64(n)+1)
	if err != nil || !ok {
		return s, pos{}, err
	}
	e, _, err := r.x.entry(&p)
	if err != nil {
		return nil, p, err
	}
	k, err := r.key(e)
	if err != nil {
		return nil, p, at(e.off, err)
	}
	s.mem.took(int64(len(k.threads)) * threadBytes)
	for i := range k.threads {
		s.Threads[k.threads[i].No] = &k.threads[i]
	}
	s.Step = Step(e.base) - 1
	for _, km := range k.mms {
		m, err := r.mm(km, s)
		if err == nil && km.written != 0 {
			err = r.written(m, km.written, s.Step)
		}
		if err == nil {
			s.MMs[m.No] = m
			err = s.room()
		}
		if err != nil {
			return nil, p, at(e.off, err)
		}
	}
	p.i++
	return s, p, nil
}

func (r *Reader) key(e entry) (*keyframe, error) {
	b, err := r.cached(e)
	if err != nil {
		return nil, err
	}
	return parseKey(b, Step(e.base), r.budget.limit)
}

// mm is a copy of an address space of a keyframe, for s.
func (r *Reader) mm(km keyMM, s *State) (*MM, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.mms.get(int64(km.id))
	if !ok {
		e, err := r.x.holding(TypeKeyMM, km.id)
		if err != nil {
			return nil, err
		}
		b, err := r.cached(e)
		if err != nil {
			return nil, err
		}
		if b, err = item(b, e.count, km.id-e.base); err != nil {
			return nil, at(e.off, err)
		}
		budget := budget{limit: r.budget.limit}
		if m, err = parseMM(b, km.no, r.leaf, r.info.Steps, &budget); err != nil {
			return nil, at(e.off, err)
		}
		m.cost = budget.used + mmBytes
		r.mms.put(int64(km.id), m, m.cost)
	}
	// What several address spaces share is found when the state is counted.
	s.mem.took(m.cost)
	c := &MM{No: km.no, VMAs: m.VMAs.Clone(), pages: m.pages.clone(), confirmed: km.confirmed}
	c.pages.mem = &s.mem
	return c, nil
}

// written gives m what calls wrote as section id-1 of the WRITTEN chunks has it.
func (r *Reader) written(m *MM, id uint64, last Step) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.writes.get(int64(id))
	if !ok {
		e, err := r.x.holding(TypeWritten, id-1)
		if err != nil {
			return err
		}
		b, err := r.cached(e)
		if err != nil {
			return err
		}
		if b, err = item(b, e.count, id-1-e.base); err != nil {
			return at(e.off, err)
		}
		if w, err = parseWritten(b, last); err != nil {
			return at(e.off, err)
		}
		r.writes.put(int64(id), w, int64(len(w.list))*writtenBytes+128)
	}
	m.written = w.clone()
	m.written.key = id
	return nil
}

// leaf is a leaf of the page maps of keyframes; it is not to be changed.
func (r *Reader) leaf(id uint64) (*[leafPages]cell, error) {
	if t, ok := r.leaves.get(int64(id)); ok {
		return t, nil
	}
	e, err := r.x.holding(TypeLeaf, id)
	if err != nil {
		return nil, err
	}
	b, err := r.cached(e)
	if err != nil {
		return nil, err
	}
	if b, err = item(b, e.count, id-e.base); err != nil {
		return nil, at(e.off, err)
	}
	t, err := parseLeaf(b, r.info.Steps)
	if err != nil {
		return nil, at(e.off, err)
	}
	r.leaves.put(int64(id), t, leafBytes)
	return t, nil
}

// replay applies the STATE chunks from p on until step n.
func (r *Reader) replay(s *State, p pos, n Step) error {
	for ; ; p.i++ {
		e, ok, err := r.x.entry(&p)
		if err != nil {
			return err
		}
		if !ok || (e.typ == TypeState || e.typ == TypeEvent) && e.base > uint64(n) {
			break
		}
		if e.typ != TypeState {
			continue
		}
		g := group{states: []statePart{r.state(e, p)}, spent: &s.mem}
		if err := s.apply(&g, n); err != nil {
			return at(e.off, err)
		}
	}
	s.Step = n
	return nil
}

// apply takes the state through the records of g up to step n.
func (s *State) apply(g *group, n Step) error {
	for {
		step, ok, err := g.peek()
		if err != nil || !ok || step > n {
			return err
		}
		if step < s.Step+1 {
			return corrupt("record of step %d after step %d", step, s.Step)
		}
		s.Step = step - 1
		err = g.changes(step, func(c Change, r pageRun) error {
			if c == nil {
				return s.run(r)
			}
			return s.Apply(c)
		})
		if err != nil {
			return err
		}
	}
}

// StepChange is a change with the step that it belongs to.
type StepChange struct {
	Step   Step
	Change Change
}

// Changes yields the changes of the state from a step on, in order. It reads no
// events, which makes it the quick way to what happened to a page. After an
// error nothing follows.
func (r *Reader) Changes(from Step) iter.Seq2[StepChange, error] {
	return func(yield func(StepChange, error) bool) {
		from := max(from, r.First())
		if from >= r.info.Steps {
			return
		}
		// The group that has from: its STATE chunks may begin before.
		p, ok, err := r.x.last(TypeEvent, uint64(from))
		if err != nil || !ok {
			if err != nil {
				yield(StepChange{}, err)
			}
			return
		}
		for p.i--; ; p.i-- {
			e, ok, err := r.x.entry(&p)
			if err != nil {
				yield(StepChange{}, err)
				return
			}
			if !ok {
				p = pos{}
			}
			if !ok || e.commit {
				break
			}
		}
		spent := r.budget
		for ; ; p.i++ {
			e, ok, err := r.x.entry(&p)
			if err == nil && ok && e.typ == TypeState {
				var more bool
				if more, err = r.chunkChanges(e, p, from, &spent, yield); err == nil && !more {
					return
				}
			}
			if err != nil {
				yield(StepChange{}, at(e.off, err))
			}
			if err != nil || !ok {
				return
			}
		}
	}
}

// chunkChanges yields the changes of one STATE chunk; it says whether to go on.
func (r *Reader) chunkChanges(e entry, p pos, from Step, spent *budget, yield func(StepChange, error) bool) (more bool, err error) {
	g := group{states: []statePart{r.state(e, p)}, spent: spent}
	stop := errors.New("stop")
	for {
		step, ok, err := g.peek()
		if err != nil || !ok || step >= r.info.Steps {
			return true, err
		}
		err = g.changes(step, func(c Change, run pageRun) error {
			if step < from {
				return nil
			}
			if c == nil {
				for run.n > 0 {
					part := run
					if run.kind == PageData {
						part.n = min(run.n, 64<<10)
					}
					if !yield(StepChange{step, part.pages()}, nil) {
						return stop
					}
					run.vpn, run.n, run.ref = run.vpn+part.n, run.n-part.n, run.ref+PageRef(2*part.n)
				}
				return nil
			}
			if _, ok := c.(*wroteSet); ok {
				return nil
			}
			if !yield(StepChange{step, c}, nil) {
				return stop
			}
			return nil
		})
		if err == stop {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Registers are those of a thread as the log had them last.
type Registers struct {
	Regs []uint64 // nil: never read
	Step Step     // they are of
	// XState is its extended state (XStateSet), nil if it was never read.
	XState []byte
	XStep  Step // it was read then, or found to be the same
}

// Regs is the registers of a thread as the log had them last at step n, and the
// step that they are of; nil where they were never read.
func (r *Reader) Regs(n Step, thread uint32) (regs []uint64, step Step, err error) {
	out, err := r.Registers(n, []uint32{thread}, false)
	if err != nil {
		return nil, 0, err
	}
	return out[0].Regs, out[0].Step, nil
}

// Registers finds the registers of threads as the log had them last at step n,
// with x also their extended state.
func (r *Reader) Registers(n Step, threads []uint32, x bool) ([]Registers, error) {
	if err := r.has(n); err != nil {
		return nil, err
	}
	f := regsFinder{out: make([]Registers, len(threads)), index: make(map[uint32]int, len(threads)), x: x}
	for i, no := range threads {
		f.index[no] = i
	}
	p, ok, err := r.x.last(TypeEvent, uint64(n))
	if err != nil || !ok {
		return f.out, err
	}
	spent := r.budget
	for ; !f.done(); p.i-- {
		e, ok, err := r.x.entry(&p)
		if err != nil || !ok {
			return f.out, err
		}
		switch e.typ {
		case TypeEvent:
			g, err := r.group(p, &spent)
			if err == nil {
				err = f.group(g, n)
			}
			if err != nil {
				return nil, at(e.off, err)
			}
		case TypeKey:
			k, err := r.key(e)
			if err != nil {
				return nil, at(e.off, err)
			}
			f.keyframe(k)
			return f.out, nil
		}
	}
	return f.out, nil
}

// regsFinder gathers registers group by group, the newest first.
type regsFinder struct {
	out   []Registers
	index map[uint32]int // into out, by thread
	x     bool
}

func (f *regsFinder) done() bool {
	for i := range f.out {
		if f.out[i].Regs == nil || f.x && f.out[i].XState == nil {
			return false
		}
	}
	return true
}

// merge takes from a thread's registers what is not known from later groups.
func (f *regsFinder) merge(thread uint32, r Registers) {
	i, wanted := f.index[thread]
	if !wanted {
		return
	}
	o := &f.out[i]
	if o.Regs == nil && r.Regs != nil {
		o.Regs, o.Step = r.Regs, r.Step
	}
	if f.x && o.XState == nil {
		o.XState, o.XStep = r.XState, max(o.XStep, r.XStep)
	}
}

func (f *regsFinder) group(g *group, n Step) error {
	last := map[uint32]*Registers{}
	of := func(thread uint32) *Registers {
		if last[thread] == nil {
			last[thread] = new(Registers)
		}
		return last[thread]
	}
	for g.ev.row < g.ev.rows {
		e, err := g.event()
		if err != nil {
			return err
		}
		if e.Step > n {
			break
		}
		if _, wanted := f.index[e.Thread]; wanted && e.Regs != nil {
			r := of(e.Thread)
			r.Regs, r.Step = append(r.Regs[:0], e.Regs...), e.Step
		}
	}
	err := g.each(n, func(c Change, at Step) {
		switch c := c.(type) {
		case *RegsSet:
			if r := of(c.Thread); r.Regs == nil || at > r.Step {
				r.Regs, r.Step = c.Regs, at
			}
		case *XStateSet:
			r := of(c.Thread)
			r.XStep = at
			if len(c.Data) > 0 { // else it is what it was
				r.XState = c.Data
			}
		}
	})
	for no, r := range last {
		f.merge(no, *r)
	}
	return err
}

func (f *regsFinder) keyframe(k *keyframe) {
	for i := range k.threads {
		no := k.threads[i].No
		x := k.xstates[no]
		f.merge(no, Registers{k.regs[i].regs, k.regs[i].step, x.data, x.step})
	}
}

// each calls f with the changes up to step n that are no pages.
func (g *group) each(n Step, f func(c Change, at Step)) error {
	for {
		step, ok, err := g.peek()
		if err != nil || !ok || step > n {
			return err
		}
		err = g.changes(step, func(c Change, _ pageRun) error {
			if c != nil {
				f(c, step)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
