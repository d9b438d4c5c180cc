package replay

import (
	"fmt"
	"io"
	"iter"

	"memtrace/format"
)

// window is how many steps a Cursor keeps behind it, and how many it fetches at
// once when it begins to go back. Each fetch costs a seek: as it goes on they
// double, up to what it keeps at all.
const (
	window = 256
	most   = 4 * window
)

// keeps is how many steps with states like s are kept at most: each may be a copy,
// whose threads and address spaces are its own.
func keeps(s *format.State) int {
	const room, each = 64 << 20, 448 // bytes, of all and of one
	return max(16, min(most, room/(each*(1+len(s.MMs)+len(s.Threads)))))
}

// moment is a Moment that stays.
type moment struct {
	Moment
	line string // rendered while the descriptor tables were at hand
}

// Cursor is a place in the log that moves in both directions.
type Cursor struct {
	t   *Trace
	buf []moment // consecutive steps
	at  int      // index into buf; -1: before the first step
	// back is how many steps to fetch when it next goes back beyond buf.
	back format.Step
	// next and stop pull the events after buf's last one; nil until needed.
	next func() (*format.Event, error, bool)
	stop func()
	// Printer, when set before the first move, renders the line of each step.
	Printer *Printer
}

// Cursor makes a cursor before the first step: Next goes to step 0.
func (t *Trace) Cursor() *Cursor { return &Cursor{t: t, at: -1, back: window} }

// Close ends the cursor's reading.
func (c *Cursor) Close() {
	if c.stop != nil {
		c.stop()
	}
	c.next, c.stop = nil, nil
}

// Step is where the cursor stands; ok is false before the first step.
func (c *Cursor) Step() (n format.Step, ok bool) {
	if c.at < 0 {
		return 0, false
	}
	return c.buf[c.at].Event.Step, true
}

// Moment is the step the cursor stands on, nil before the first. It stays valid.
func (c *Cursor) Moment() *Moment {
	if c.at < 0 {
		return nil
	}
	return &c.buf[c.at].Moment
}

// Line is what the Printer made of the present step.
func (c *Cursor) Line() string {
	if c.at < 0 {
		return ""
	}
	return c.buf[c.at].line
}

// View is the state where the cursor stands.
func (c *Cursor) View() *View {
	m := c.Moment()
	if m == nil {
		return &View{State: c.t.r.Initial(), Pages: c.t.r, Files: &c.t.files, Start: c.t.Header().Start, Symbols: c.t.symbols}
	}
	return &View{Step: m.Event.Step, State: m.State, Pages: c.t.r, Files: &c.t.files, Start: c.t.Header().Start, Symbols: c.t.symbols}
}

// Seek goes to step n.
func (c *Cursor) Seek(n format.Step) error {
	if n >= c.t.Steps() || n < c.t.First() {
		return fmt.Errorf("no step %d: the log has steps %d to %d", n, c.t.First(), c.t.Steps()-1)
	}
	if len(c.buf) > 0 {
		if first := c.buf[0].Event.Step; n >= first && n < first+format.Step(len(c.buf)) {
			c.at = int(n - first)
			return nil
		}
	}
	c.back = window
	return c.load(n, n)
}

// load replaces the buffer by the steps from..to and stands on to.
func (c *Cursor) load(from, to format.Step) error {
	s, err := c.t.Before(from)
	if err != nil {
		return err
	}
	c.Close()
	if c.Printer != nil {
		if err := c.Printer.seek(from); err != nil {
			return err
		}
	}
	next, stop := iter.Pull2(c.t.r.Events(from))
	var buf []moment
	for n := from; n <= to; n++ {
		m, err := c.pull(s, next)
		if err != nil {
			stop()
			return err
		}
		buf = append(buf, m)
		s = m.State
	}
	c.buf, c.at, c.next, c.stop = buf, len(buf)-1, next, stop
	return nil
}

// pull takes the next event and applies it to a copy of s, if it changes it.
func (c *Cursor) pull(s *format.State, next func() (*format.Event, error, bool)) (moment, error) {
	ev, err, ok := next()
	if !ok {
		return moment{}, io.EOF
	}
	if err != nil {
		return moment{}, err
	}
	// States are shared between steps until one changes: a step of its own
	// costs only what the event touched.
	m := moment{Moment: Moment{State: s}}
	if len(ev.Changes) > 0 || len(callWrites(ev)) > 0 {
		m.State = s.Clone()
	}
	if err := m.advance(ev.Clone()); err != nil {
		return moment{}, err
	}
	if c.Printer != nil {
		m.line = string(c.Printer.AppendLine(nil, &m.Moment))
	}
	return m, nil
}

// Next goes one step on and returns its event, which stays valid; io.EOF after
// the last.
func (c *Cursor) Next() (*format.Event, error) {
	if c.at+1 < len(c.buf) {
		c.at++
		return c.buf[c.at].Event, nil
	}
	n := c.t.First()
	s := c.t.r.Initial()
	if len(c.buf) > 0 {
		l := &c.buf[len(c.buf)-1]
		n, s = l.Event.Step+1, l.State
	}
	if n >= c.t.Steps() {
		return nil, io.EOF
	}
	if c.next == nil {
		c.next, c.stop = iter.Pull2(c.t.r.Events(n))
	}
	m, err := c.pull(s, c.next)
	if err != nil {
		return nil, err
	}
	if k := keeps(m.State); len(c.buf) >= k {
		n := copy(c.buf, c.buf[len(c.buf)-k/4:])
		clear(c.buf[n:])
		c.buf = c.buf[:n]
	}
	c.buf = append(c.buf, m)
	c.at = len(c.buf) - 1
	return m.Event, nil
}

// Prev goes one step back and returns that step's event; io.EOF before the
// first, where the cursor stays.
func (c *Cursor) Prev() (*format.Event, error) {
	n, ok := c.Step()
	if !ok || n == c.t.First() {
		return nil, io.EOF
	}
	if c.at == 0 {
		back := min(c.back, format.Step(keeps(c.buf[0].State)), n-c.t.First())
		if err := c.load(n-back, n-1); err != nil {
			return nil, err
		}
		c.back = min(2*c.back, most)
		return c.buf[c.at].Event, nil
	}
	c.at--
	return c.buf[c.at].Event, nil
}
