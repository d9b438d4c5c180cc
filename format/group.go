package format

// group is a committed group of a log, decoded: its events with the changes
// that lead to each.
type group struct {
	ev     *eventDec
	states []statePart
	st     *stateDec
}

// statePart is a STATE chunk and how many ids the log has before it.
type statePart struct {
	ch         chunk
	payload    []byte
	raw, patch uint64
}

// step is the step of the next record, if there is one.
func (g *group) peek() (Step, bool, error) {
	for g.st == nil || !g.st.ok {
		if len(g.states) == 0 {
			return 0, false, nil
		}
		p := &g.states[0]
		st, err := newStateDec(p.payload, Step(p.ch.base), p.raw, p.patch)
		if err != nil {
			return 0, false, at(p.ch.off, err)
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

// next is the next event, with its changes.
func (g *group) next() (*Event, error) {
	e, err := g.ev.next()
	if err != nil {
		return nil, err
	}
	var refs uint64
	err = g.changes(e.Step, func(c Change, r pageRun) error {
		if c == nil {
			if r.kind == PageData {
				if refs += r.n; refs > MaxEventPages {
					return overLimit("the number of pages of an event", refs, MaxEventPages)
				}
			}
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

// skip goes to the event of a step, which is in the group or before it.
func (g *group) skip(to Step) error {
	if to <= g.ev.base {
		return nil
	}
	for g.ev.row < g.ev.rows && g.ev.base+Step(g.ev.row) < to {
		if _, err := g.ev.next(); err != nil {
			return err
		}
	}
	return g.changes(to-1, func(Change, pageRun) error { return nil })
}
