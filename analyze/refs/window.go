package refs

// Window counts the pages of a working set: those that were used in the last Tau
// units of time. Times never go back.
type Window struct {
	Tau  uint64
	Max  int     // the most pages at a time
	area float64 // pages times time
	cur  int
	now  uint64
	in   []bool // by place of the page
	held []bool // stays in until it is left
	last []uint64
	due  []leaving // in the order of their times
	head int
	// Step, if set, is called with each stretch of time and how many pages there were
	// in it.
	Step func(from, to uint64, pages int)
}

// leaving is a page that goes Tau after a time if it was not used since.
type leaving struct {
	at   uint64
	page uint32
}

// Mean is the average number of pages over the time since the begin.
func (w *Window) Mean(begin uint64) float64 {
	if w.now <= begin {
		return float64(w.cur)
	}
	return w.area / float64(w.now-begin)
}

// Begin starts the clock.
func (w *Window) Begin(now uint64) { w.now = now }

// Advance goes on to a time.
func (w *Window) Advance(now uint64) {
	for w.head < len(w.due) && w.due[w.head].at+w.Tau <= now {
		l := w.due[w.head]
		w.head++
		if !w.in[l.page] || w.held[l.page] || w.last[l.page] != l.at {
			continue
		}
		w.to(l.at + w.Tau)
		w.in[l.page] = false
		w.cur--
	}
	if w.head > 1<<12 && w.head > len(w.due)/2 {
		w.due = append(w.due[:0], w.due[w.head:]...)
		w.head = 0
	}
	w.to(now)
}

func (w *Window) to(now uint64) {
	if now <= w.now {
		return
	}
	w.area += float64(w.cur) * float64(now-w.now)
	if w.Step != nil {
		w.Step(w.now, now, w.cur)
	}
	w.now = now
}

// Use says that a page is used now; open: and may be used until Leave.
func (w *Window) Use(page uint32, open bool) {
	for int(page) >= len(w.in) {
		w.in, w.held, w.last = append(w.in, false), append(w.held, false), append(w.last, 0)
	}
	if !w.in[page] {
		w.in[page] = true
		w.cur++
		w.Max = max(w.Max, w.cur)
	}
	w.held[page] = open
	if !open {
		w.Leave(page)
	}
}

// Leave says that a page is used for the last time now.
func (w *Window) Leave(page uint32) {
	w.held[page] = false
	w.last[page] = w.now
	w.due = append(w.due, leaving{w.now, page})
}
