package format

// group is a committed group of a log, decoded: its events with the changes
// that lead to each.
type group struct {
	ev     *eventDec
	states []statePart
	st     *stateDec
	limit  int64 // of what the changes of an event take, in bytes
	spent  *budget
}

// statePart is a STATE chunk; load reads it, and says how many ids the log has
// before it.
type statePart struct {
	off  int64
	base Step
	load func() (payload []byte, raw, patch uint64, err error)
}

// step is the step of the next record, if there is one.
func (g *group) peek() (Step, bool, error) {
	for g.st == nil || !g.st.ok {
		if len(g.states) == 0 {
			return 0, false, nil
		}
		p := &g.states[0]
		payload, raw, patch, err := p.load()
		if err != nil {
			return 0, false, err
		}
		g.spent.read(len(payload))
		st, err := newStateDec(payload, p.base, raw, patch)
		if err != nil {
			return 0, false, at(p.off, err)
		}
		g.st, g.states = st, g.states[1:]
	}
	return g.st.step, true, nil
}

// changes gives f what happens up to a step (inclusive): either a change or,
// for pages, a run.
func (g *group) changes(to Step, f func(c Change, r pageRun) error) error {
	for {
		step, ok, err := g.peek()
		if err != nil || !ok || step > to {
			return err
		}
		c, r, err := g.st.next()
		g.spent.work += 16
		if err == nil {
			err = g.spent.worked()
		}
		if err != nil {
			return err
		}
		if c == nil && r.n == 0 {
			continue
		}
		if err := f(c, r); err != nil {
			return err
		}
	}
}

// event is the next event, without its changes.
func (g *group) event() (*Event, error) {
	e, err := g.ev.next()
	if err != nil {
		return nil, err
	}
	g.spent.work += g.ev.work
	g.ev.work = 0
	return e, g.spent.worked()
}

// changeBytes is what a change takes at least; most take less.
const changeBytes = 160

// next is the next event, with its changes.
func (g *group) next() (*Event, error) {
	e, err := g.event()
	if err != nil {
		return nil, err
	}
	var refs uint64
	var size int64
	err = g.changes(e.Step, func(c Change, r pageRun) error {
		whole := c != nil || !e.goesOn(r)
		if whole {
			size += changeBytes
		}
		if r.kind == PageData {
			if refs += r.n; refs > MaxEventPages {
				return overLimit("the number of pages of an event", refs, MaxEventPages)
			}
			size += int64(r.n) * 8
		}
		if x, ok := c.(*XStateSet); ok {
			size += int64(len(x.Data))
		}
		if size > g.limit {
			return overBudget("the memory of the changes of an event", uint64(size), uint64(g.limit))
		}
		if !whole {
			e.Changes[len(e.Changes)-1].(*Pages).add(r)
			return nil
		}
		if c == nil {
			c = r.pages()
		}
		if _, ok := c.(*wroteSet); ok { // for those who do not see the events
			return nil
		}
		e.Changes = append(e.Changes, c)
		return nil
	})
	return e, err
}

// fewChanges is how many changes of an event are told as the log has them.
const fewChanges = 1024

// goesOn says whether r, of an event with many changes, follows the pages of the
// last one. Memory that a program fills with one byte has a run for each page.
func (e *Event) goesOn(r pageRun) bool {
	n := len(e.Changes)
	if n < fewChanges {
		return false
	}
	p, ok := e.Changes[n-1].(*Pages)
	return ok && p.MM == r.mm && p.What == r.kind && p.Addr.Page()+p.N == r.vpn
}

// add makes p reach over r, which follows it.
func (p *Pages) add(r pageRun) {
	if p.N += r.n; r.kind == PageData {
		for i := range r.n {
			p.Refs = append(p.Refs, r.ref+PageRef(2*i))
		}
	}
}

// skip goes to the event of a step, which is in the group or before it.
func (g *group) skip(to Step) error {
	if to <= g.ev.base {
		return nil
	}
	for g.ev.row < g.ev.rows && g.ev.base+Step(g.ev.row) < to {
		if _, err := g.event(); err != nil {
			return err
		}
	}
	return g.changes(to-1, func(Change, pageRun) error { return nil })
}
