// Package replay answers what a recorded program looked like at any step of its
// log: which threads lived, what was mapped, what the memory held. It rests on
// the log alone and knows no ptrace: a log is read on any machine.
//
// What the log does not know is never made up. Memory that was not captured is
// ErrUnknown, and everything captured earlier than the step asked for comes with
// the step it was captured at.
//
// A Trace is safe for concurrent use; a Cursor, a View and what they hand out
// are not.
package replay

import (
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"memtrace/format"
)

var (
	// ErrUnmapped is the error of memory that no mapping covers.
	ErrUnmapped = errors.New("not mapped")
	// ErrUnknown is the error of memory whose contents are not in the log.
	ErrUnknown = errors.New("not in the log")
	// ErrEmpty is the error of a step asked of a log without events.
	ErrEmpty = errors.New("the log holds no events")
	// ErrNoThread is the error of a thread that has no event.
	ErrNoThread = errors.New("no such thread")
	// ErrNoProcess is the error of a process that does not live at the step.
	ErrNoProcess = errors.New("no such process")
)

// WordError is an error of a word that was given: it names nothing here.
type WordError struct{ E error }

func (e WordError) Error() string { return e.E.Error() }

// Trace is a log opened for questions.
type Trace struct {
	r       *format.Reader
	close   func() error
	written bool // a recorder wrote to it when it was read

	history struct {
		sync.Mutex
		done bool
		list []Life
	}
	names   nameIndex
	files   fileCache
	symbols *Symbols
	shown   int // bytes of data that a line of a call shows, 0: as many as usual
}

// New makes a Trace of a reader.
func New(r *format.Reader) *Trace {
	packed := &packedFiles{r: r}
	t := &Trace{r: r, close: func() error { return nil }, files: fileCache{packed: packed}}
	t.symbols = &Symbols{Start: r.Header().Start, texts: r.Texts(), files: &t.files}
	for _, o := range r.Header().Options {
		if n, ok := strings.CutPrefix(o, "string-limit="); ok {
			t.shown, _ = strconv.Atoi(n) // 0 if it is no number
		}
	}
	return t
}

// Open opens a log file; "-" is standard input, which may be a pipe: it is
// copied to a temporary file first, because steps are looked up in any order. o are the
// choices of a reader.
func Open(name string, o *format.ReaderOptions) (*Trace, error) {
	f, closer, err := openFile(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		closer()
		return nil, err
	}
	if fi.IsDir() {
		closer()
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	r, err := format.NewReader(f, fi.Size(), o)
	written := false
	if err == nil && r.Truncated() {
		if written = beingWritten(f); !written { // its recorder may have ended it just now
			size := fi.Size()
			if fi, err = f.Stat(); err == nil && fi.Size() != size {
				r, err = format.NewReader(f, fi.Size(), o)
			}
		}
	}
	if err != nil {
		closer()
		return nil, err
	}
	tr := New(r)
	tr.close, tr.written = closer, written
	return tr, nil
}

// BeingWritten reports whether the log has no end because a recorder was still writing it when it was read.
func (t *Trace) BeingWritten() bool { return t.written && t.Truncated() }

// OpenFile opens name for reading at any offset, spooling "-" if it is a pipe.
// The function it returns closes it and removes what was spooled.
func OpenFile(name string) (f *os.File, closer func() error, err error) { return openFile(name) }

func openFile(name string) (*os.File, func() error, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	if fi, err := os.Stdin.Stat(); err == nil && fi.Mode().IsRegular() {
		return os.Stdin, func() error { return nil }, nil
	}
	f, closer, err := spoolFile()
	if err != nil {
		return nil, nil, err
	}
	if _, err := io.Copy(f, os.Stdin); err != nil {
		return nil, nil, errors.Join(err, closer())
	}
	return f, closer, nil
}

// spoolFile makes a file for what comes through a pipe. It has no name, where the system allows that: a command
// that is killed leaves nothing of it.
func spoolFile() (f *os.File, closer func() error, err error) {
	if f, err = os.CreateTemp("", "memtrace-*.spool"); err != nil {
		return nil, nil, err
	}
	if os.Remove(f.Name()) == nil {
		return f, f.Close, nil
	}
	return f, func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }, nil
}

// Close releases the file.
func (t *Trace) Close() error {
	t.files.close()
	t.symbols.Close()
	return t.close()
}

// Header is what the log says of itself.
func (t *Trace) Header() *format.Header { return t.r.Header() }

// Info is what the log's container holds.
func (t *Trace) Info() *format.Info { return t.r.Info() }

// Steps is the step after the last: the number of events, in a log that begins with its
// run.
func (t *Trace) Steps() format.Step { return t.r.Steps() }

// First is the first step: 0, but in a log that does not begin with its run.
func (t *Trace) First() format.Step { return t.r.First() }

// Count is the number of events.
func (t *Trace) Count() uint64 { return uint64(t.Steps() - t.First()) }

// Truncated says that the log was cut: it ends where the last whole group ends.
func (t *Trace) Truncated() bool { return t.r.Truncated() }

// Last is the last step; ok is false in a log without events.
func (t *Trace) Last() (last format.Step, ok bool) {
	return max(t.Steps(), 1) - 1, t.Count() > 0
}

// StepAt is the last step at or before the time d after the start; the first
// step if there is none.
func (t *Trace) StepAt(d time.Duration) (format.Step, error) {
	last, ok := t.Last()
	if !ok {
		return 0, ErrEmpty
	}
	n, err := t.r.StepAtTime(uint64(max(d, 0)))
	return min(n, last), err
}

// Times are those of steps, in ns since the start.
func (t *Trace) Times(steps ...format.Step) ([]uint64, error) {
	out := make([]uint64, len(steps))
	for i, n := range steps {
		for ev, err := range t.r.Events(n) {
			if err != nil {
				return nil, err
			}
			out[i] = ev.Time
			break
		}
	}
	return out, nil
}

// Events goes over the events from a step on, without their states. An event is
// the caller's only until the next.
func (t *Trace) Events(from format.Step) iter.Seq2[*format.Event, error] { return t.r.Events(from) }

// Moment is an event with the state it leads to.
type Moment struct {
	Event *format.Event
	// Thread is whose event it is: as it was before an end, as it is after a
	// birth or an exec. Zero for events of the recorder.
	Thread format.Thread
	// Changes are what the event did to mappings, in the order it was done.
	Changes []Change
	// State is the state at Event.Step.
	State *format.State
}

// Before is the state that precedes step n.
func (t *Trace) Before(n format.Step) (*format.State, error) {
	if n <= t.First() {
		return t.r.Initial(), nil
	}
	return t.r.StateAt(n - 1)
}

// Walk goes over the steps from..to (both included) in order. A Moment and what
// it points to is the caller's only until the next.
func (t *Trace) Walk(from, to format.Step) iter.Seq2[*Moment, error] {
	return func(yield func(*Moment, error) bool) {
		if from > to || from >= t.Steps() {
			return
		}
		from := max(from, t.First())
		s, err := t.Before(from)
		if err != nil {
			yield(nil, err)
			return
		}
		m := Moment{State: s}
		for ev, err := range t.r.Events(from) {
			if err != nil {
				yield(nil, err)
				return
			}
			if ev.Step > to {
				return
			}
			if err := m.advance(ev); err != nil {
				yield(nil, err)
				return
			}
			s.Step = ev.Step
			if !yield(&m, nil) || ev.Step == to {
				return
			}
		}
	}
}

// At is the state at step n.
func (t *Trace) At(n format.Step) (*View, error) {
	s, err := t.r.StateAt(n)
	if err != nil {
		return nil, err
	}
	return &View{Step: n, State: s, Pages: t.r, Files: &t.files, Start: t.Header().Start, Symbols: t.symbols}, nil
}
