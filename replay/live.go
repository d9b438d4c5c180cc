package replay

import (
	"io"
	"time"

	"memtrace/format"
)

// Live prints events while they are recorded.
type Live struct {
	p       *Printer
	out     io.Writer
	line    []byte
	only    *ListOptions             // what to print; nil: everything
	threads map[uint32]format.Thread // as last seen: an exit takes its thread out of the state
}

// NewLive makes a Live that writes a line an event to out.
func NewLive(out io.Writer, start time.Time, o PrintOptions) *Live {
	return &Live{p: LivePrinter(start, o), out: out, threads: map[uint32]format.Thread{}}
}

// Only has Print leave out what a list with these options would.
func (l *Live) Only(o ListOptions) { l.only = &o }

// Print writes the line of an event; s is the state after it.
func (l *Live) Print(e *format.Event, s *format.State) error {
	if t := s.Threads[e.Thread]; t != nil {
		l.threads[e.Thread] = *t
	}
	m := Moment{Event: e, Thread: l.threads[e.Thread], State: s}
	if _, ended := e.Record.(*format.Exit); ended {
		defer delete(l.threads, e.Thread)
	}
	if l.only != nil && !l.only.Shows(&m) {
		l.p.Skip(&m)
		return nil
	}
	l.line = append(l.p.AppendLine(l.line[:0], &m), '\n')
	_, err := l.out.Write(l.line)
	return err
}
