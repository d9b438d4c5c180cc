package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
)

// Era is a stretch of steps during which the log shows the same at an address.
type Era struct {
	From, To         format.Step // both included
	FromTime, ToTime uint64      // of these steps, ns since the start
	End              bool        // To is the last step of the log
	// Since is the last step at which the log knew what was there before: it
	// changed after Since and not later than From. It is From where nothing
	// was known before.
	Since format.Step
	// Seen is the last step at which it was captured or confirmed, if Err is nil.
	Seen  format.Step
	Value []byte // as far as it is known
	Err   error  // why it is not known whole: ErrUnmapped or ErrUnknown
	MM    uint32
	// Call is the name of the system call that wrote the value or a part of it at
	// step From, "" if none did.
	Call string
}

// MaxHistory is how many bytes History looks at.
const MaxHistory = 1 << 20

// History gathers what EachEra yields.
func (t *Trace) History(ctx context.Context, r addr.Range, pid uint32) ([]Era, error) {
	var out []Era
	err := t.EachEra(ctx, r, pid, nil, func(e *Era) error {
		out = append(out, *e)
		return nil
	})
	return out, err
}

// EachEra tells what the bytes of r were in process pid (0: the log's first)
// over the whole log, in order. What the log does not know between two captures
// it cannot tell: an era begins where its value was first seen. It yields an era when
// the next one begins. progress, if it is not nil, is told now and then what part is
// done, 0 to 1.
func (t *Trace) EachEra(ctx context.Context, r addr.Range, pid uint32, progress func(float64), yield func(*Era) error) error {
	if r.Empty() || r.Len() > MaxHistory {
		return fmt.Errorf("history of %d bytes: want 1 to %d", r.Len(), MaxHistory)
	}
	last, ok := t.Last()
	if !ok {
		return ErrEmpty
	}
	no, err := t.procNo(ctx, pid)
	if err != nil {
		return err
	}
	pages := r.PageAlign()
	h := history{r: r, old: make([]byte, r.Len()), yield: yield}
	h.view = View{Pages: t.r, Files: &t.files, Start: t.Header().Start, Symbols: t.symbols}
	known := false
	for m, err := range t.Walk(0, last) {
		if err == nil && m.Event.Step%1024 == 0 {
			if err = ctx.Err(); progress != nil {
				progress(float64(m.Event.Step-t.First()) / float64(t.Count()))
			}
		}
		if err != nil {
			return err
		}
		mm := h.mm
		before := h.now
		h.now = m.Event.Time
		for _, c := range m.Event.Changes {
			if c, ok := c.(*format.ThreadSet); ok && c.Thread.Proc == no {
				mm = c.Thread.MM
			}
		}
		if s := m.State.MMs[mm]; !known && s != nil {
			known = s.VMAs.Len() > 0
		}
		call := ""
		if w := callWrites(m.Event); m.Thread.MM == mm && slices.ContainsFunc(w, r.Overlaps) {
			c := callOf(m.Event.Record.(*format.Syscall))
			call = c.Name()
		}
		if mm == 0 || mm == h.mm && call == "" && !slices.ContainsFunc(m.Event.Changes, func(c format.Change) bool { return touches(c, mm, pages) }) {
			continue
		}
		h.mm = mm
		if err := h.look(m, call, before); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("%w (%s)", ErrUnknown, noMappings)
	}
	if h.era == nil {
		return nil
	}
	h.era.To, h.era.ToTime, h.era.End = last, h.now, true
	return yield(h.era)
}

// procNo is the number of the process with this pid; of several, the first.
func (t *Trace) procNo(ctx context.Context, pid uint32) (uint32, error) {
	if pid == 0 {
		if no := t.first(); no != 0 {
			return no, nil
		}
		return 0, fmt.Errorf("%w: the log knows none", ErrNoProcess)
	}
	lives, err := t.Lives(ctx)
	if err != nil {
		return 0, err
	}
	for i := range lives {
		if lives[i].PID == pid {
			return lives[i].No, nil
		}
	}
	return 0, fmt.Errorf("pid %d: %w in this log (memtrace report processes lists them)", pid, ErrNoProcess)
}

// touches says whether a change may alter what is known of pages of mm.
func touches(c format.Change, mm uint32, pages addr.Range) bool {
	hits := func(no uint32, a addr.Addr, n uint64) bool {
		r, ok := addr.Span(a, n)
		return no == mm && (!ok || r.Overlaps(pages))
	}
	switch c := c.(type) {
	case *format.Pages:
		return hits(c.MM, c.Addr, c.N<<addr.PageShift)
	case *format.VMASet:
		return hits(c.MM, c.VMA.Start, c.VMA.Len())
	case *format.VMADel:
		return hits(c.MM, c.Range.Start, c.Range.Len())
	case *format.VMAMove:
		return hits(c.MM, c.From, c.Len) || hits(c.MM, c.To, c.Len)
	case *format.MMDrop:
		return c.MM == mm
	case *format.Confirm:
		return c.MM == mm
	}
	return false
}

type history struct {
	r     addr.Range
	mm    uint32
	old   []byte
	era   *Era // the present one
	now   uint64
	view  View
	yield func(*Era) error
}

// look compares what is there now with the last era; before is the time of the event
// before.
func (h *history) look(m *Moment, call string, before uint64) error {
	h.view.Step, h.view.State = m.Event.Step, m.State
	e := Era{From: m.Event.Step, FromTime: m.Event.Time, Since: m.Event.Step, MM: h.mm, Call: call}
	n := 0
	if s, ok := h.view.Space(h.mm); ok {
		var seen format.Step
		n, seen, e.Err = s.ReadMem(h.old, h.r.Start)
		if e.Err == nil {
			e.Seen = seen
		}
	} else {
		e.Err = ErrUnmapped
	}
	if e.Err != nil && sentinel(e.Err) == nil {
		return e.Err // the log is damaged there
	}
	if was := h.era; was != nil {
		if bytes.Equal(was.Value, h.old[:n]) && sentinel(was.Err) == sentinel(e.Err) {
			was.Seen = max(was.Seen, e.Seen)
			return nil
		}
		if was.Err == nil {
			e.Since = was.Seen
		}
		was.To, was.ToTime = e.From-1, before
		if err := h.yield(was); err != nil {
			return err
		}
	}
	e.Value = bytes.Clone(h.old[:n])
	h.era = &e
	return nil
}

// sentinel is the one of this package's errors that err is.
func sentinel(err error) error {
	for _, s := range []error{ErrUnmapped, ErrUnknown} {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// maxShown is how many bytes of a value are shown.
const maxShown = 16

// EraWriter writes eras for a person, a line each; of long values the bytes that
// differ from the era before.
type EraWriter struct {
	Range addr.Range
	Clock Clock
	Start time.Time // of the recording
	old   []byte    // the value of the era before
	any   bool
}

// WriteHistory writes eras for a person.
func WriteHistory(w io.Writer, r addr.Range, eras []Era) error {
	ew := EraWriter{Range: r}
	var b []byte
	for i := range eras {
		b = append(ew.Append(b, &eras[i]), '\n')
	}
	_, err := w.Write(b)
	return err
}

// Exact says that the value came with the event From: a call wrote it, or the step
// before had another.
func (e *Era) Exact() bool { return e.Call != "" || e.Since != e.From && e.Since+1 == e.From }

// appendOrigin appends how exactly the step From is known. What is no value has its
// step from the mappings, which are always exact.
func (e *Era) appendOrigin(b []byte) []byte {
	switch {
	case e.Call != "":
		return fmt.Appendf(b, " (exact, %s)", e.Call)
	case e.Exact():
		return append(b, " (exact)"...)
	case len(e.Value) == 0:
		return b
	case e.Since != e.From:
		return fmt.Appendf(b, " (at latest, after %d)", e.Since)
	}
	return append(b, " (at latest)"...)
}

// Append appends a line about the next era, without a newline.
func (w *EraWriter) Append(b []byte, e *Era) []byte {
	b = appendSteps(b, stepSpan{e.From, e.To, e.FromTime, e.ToTime, e.End}, w.Clock, w.Start)
	b = append(e.appendOrigin(b), ": "...)
	from := 0
	if w.any {
		for from < len(e.Value) && from < len(w.old) && e.Value[from] == w.old[from] {
			from++
		}
		from = min(from, max(0, len(e.Value)-maxShown))
	}
	if len(e.Value) <= maxShown {
		from = 0
	}
	if from > 0 {
		b = fmt.Appendf(b, "+%#x ", from)
	}
	shown := e.Value[from:min(len(e.Value), from+maxShown)]
	if len(shown) > 0 {
		b = fmt.Appendf(b, "% x |", shown)
		b = append(appendText(b, shown), '|')
	}
	switch {
	case e.Err != nil && len(e.Value) > 0:
		b = fmt.Appendf(b, ", from %v on %v", w.Range.Start+addr.Addr(len(e.Value)), sentinel(e.Err))
	case e.Err != nil:
		b = append(b, sentinel(e.Err).Error()...)
	case w.any && len(e.Value) > maxShown && len(w.old) == len(e.Value):
		n := 0
		for k := range e.Value {
			if e.Value[k] != w.old[k] {
				n++
			}
		}
		b = fmt.Appendf(b, " %d of %d bytes changed", n, len(e.Value))
	case len(e.Value) > from+maxShown:
		b = append(b, "..."...)
	}
	w.old, w.any = e.Value, true
	return b
}

// AppendJSON appends the era as a JSON object: the value in hexadecimal.
func (e *Era) AppendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"from":`...), uint64(e.From), 10)
	b = strconv.AppendUint(key(b, "to"), uint64(e.To), 10)
	b = strconv.AppendUint(key(b, "from_time"), e.FromTime, 10)
	b = strconv.AppendUint(key(b, "to_time"), e.ToTime, 10)
	b = strconv.AppendBool(key(b, "exact"), e.Exact() || e.Err != nil && len(e.Value) == 0)
	b = strconv.AppendBool(key(b, "to_end"), e.End)
	b = strconv.AppendUint(key(b, "since"), uint64(e.Since), 10)
	if e.Err == nil {
		b = strconv.AppendUint(key(b, "seen"), uint64(e.Seen), 10)
	} else {
		b = str(key(b, "unknown"), sentinel(e.Err).Error())
	}
	if e.Call != "" {
		b = str(key(b, "call"), e.Call)
	}
	b = fmt.Appendf(key(b, "bytes"), `"%x"`, e.Value)
	return append(b, '}')
}
