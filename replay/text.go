package replay

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Clock is how a line says when.
type Clock uint8

// The clocks.
const (
	NoClock  Clock = iota
	Relative       // seconds since the start
	Delta          // seconds since the line before
	Absolute       // time of day
)

// PrintOptions say how lines look.
type PrintOptions struct {
	Steps   bool // begin with the step
	PIDs    bool // say whose event it is; it says so anyway once there are several threads
	Clock   Clock
	Elapsed bool // end with how long the call took, as strace -T
	Stacks  StackDetail
}

// Printer renders events in strace's notation. It follows the descriptors of
// every thread, so it must be shown every event of the log in order; seek
// starts it elsewhere.
type Printer struct {
	PrintOptions
	t     *Trace
	start time.Time
	fds   *descriptors
	last  uint64 // time of the line before

	err error // of reading a stack

	// Room for the fields of an event, the fields in those, and a call's text.
	fields, inner fieldList
	text          []byte
	call          call.Call
}

// Printer makes a printer for a walk that begins at step from.
func (t *Trace) Printer(from format.Step, o PrintOptions) (*Printer, error) {
	p := &Printer{PrintOptions: o, t: t, start: t.Header().Start}
	var err error
	p.fds, err = t.descriptorsAt(from)
	return p, err
}

// LivePrinter makes a printer for events as they are made.
func LivePrinter(start time.Time, o PrintOptions) *Printer {
	return &Printer{PrintOptions: o, start: start, fds: &descriptors{}}
}

// seek makes it print a line or two at from.
func (p *Printer) seek(from format.Step) (err error) {
	if p.t == nil {
		return nil
	}
	p.fds, err = p.t.descriptorsNear(from, nameReach)
	return err
}

// Skip follows an event that is not to be shown.
func (p *Printer) Skip(m *Moment) { p.fds.feed(m.Event) }

// AppendLine appends m's event as one line without its newline.
func (p *Printer) AppendLine(b []byte, m *Moment) []byte {
	ev := m.Event
	if p.Steps {
		b = fmt.Appendf(b, "%6d ", ev.Step)
	}
	p.PIDs = p.PIDs || p.fds.several || len(m.State.Threads) > 1
	if p.PIDs {
		if m.Thread.TID != 0 {
			b = fmt.Appendf(b, "[pid %d] ", m.Thread.TID)
		} else {
			b = append(b, "[recorder] "...)
		}
	}
	if p.Clock != NoClock {
		b = append(p.Clock.AppendTime(b, p.start, ev.Time, p.last), ' ')
	}
	p.last = ev.Time
	b = p.AppendEvent(b, m)
	if s, ok := ev.Record.(*format.Syscall); ok && p.Elapsed && s.Returned {
		d := ev.Time - min(s.Enter, ev.Time)
		b = fmt.Appendf(b, " <%d.%06d>", d/1e9, d%1e9/1e3)
	}
	if ev.Stack != 0 && p.Stacks != NoStack && p.t != nil {
		s, err := p.t.Stack(ev.Stack, p.Stacks >= StackLines)
		if err != nil {
			p.failed(err)
			return b
		}
		b = s.Append(b, p.Stacks)
	}
	return b
}

// failed keeps the first error of reading a stack.
func (p *Printer) failed(err error) {
	if p.err == nil {
		p.err = err
	}
}

// AppendEvent appends what happened, and follows the event.
func (p *Printer) AppendEvent(b []byte, m *Moment) []byte {
	ev := m.Event
	if _, exec := ev.Record.(*format.Exec); !exec {
		// A call's own descriptor is named after it: open shows what it opened.
		defer p.fds.feed(ev)
	} else {
		p.fds.feed(ev)
	}
	if s, ok := ev.Record.(*format.Syscall); ok {
		c := p.callOf(s)
		p.fds.tell(ev.Thread, &c)
		return c.Append(b)
	}
	if x, ok := ev.Record.(*format.Exec); ok && ev.Step == 0 {
		return p.appendFirstExec(b, x)
	}
	return appendOther(b, m)
}

// callOf is the call with as much of its data as the log was told to keep.
func (p *Printer) callOf(s *format.Syscall) call.Call {
	c := callOf(s)
	if p.t != nil {
		c.MaxString = p.t.shown
	}
	return c
}

// appendFirstExec renders the execve that started the program. The kernel puts the
// interpreter of a script before its arguments: the header has those of the call.
func (p *Printer) appendFirstExec(b []byte, x *format.Exec) []byte {
	argv := x.Argv
	if p.t != nil && len(p.t.Header().Argv) > 0 {
		argv = p.t.Header().Argv
	}
	return call.AppendExec(b, cmp.Or(x.Called, x.Path), argv)
}

// appendOther renders what is no system call.
func appendOther(b []byte, m *Moment) []byte {
	switch r := m.Event.Record.(type) {
	case *format.Signal:
		b = call.AppendSignal(b, r.Info, m.Thread.Arch)
		if r.Fatal {
			b = append(b, " (fatal)"...)
		}
		return b
	case *format.Exec:
		// The call itself has a line of its own, when it returns.
		b = append(b, "+++ now runs "...)
		b = strconv.AppendQuoteToASCII(b, short(r.Path))
		if r.OldTID != 0 && r.OldTID != m.Thread.TID {
			b = fmt.Appendf(b, ", thread %d became %d", r.OldTID, m.Thread.TID)
		}
		return append(b, " +++"...)
	case *format.Clone:
		tid, what := childOf(m, r)
		return fmt.Appendf(b, "+++ new %s %d +++", what, tid)
	case *format.Exit:
		return fmt.Appendf(b, "+++ %s +++", StatusText(r.Status))
	case *format.Stop:
		if r.What == format.Continued {
			return append(b, "--- continued ---"...)
		}
		return fmt.Appendf(b, "--- stopped by %s ---", arch.SignalName(int(r.Signo)))
	case *format.Snapshot:
		if r.Reason == format.ReasonSweep {
			return fmt.Appendf(b, "--- sweep: %d pages read beside the running program ---", r.Pages)
		}
		return fmt.Appendf(b, "--- snapshot (%s): %d pages in %d us ---", Escape(short(r.Reason)), r.Pages, r.PauseNS/1000)
	case *format.MemInfo:
		return fmt.Appendf(b, "--- memory sampled: %d files ---", len(r.Samples))
	case *format.Attach:
		if r.Goes {
			return fmt.Appendf(b, "+++ the log begins here: %d is running %s +++", r.PID, Escape(short(r.Path)))
		}
		return fmt.Appendf(b, "+++ attached to %d +++", r.PID)
	case *format.Detach:
		if r.Reason != "" {
			return fmt.Appendf(b, "+++ detached: %s +++", Escape(short(r.Reason)))
		}
		return append(b, "+++ detached +++"...)
	case *format.Lost:
		return fmt.Appendf(b, "--- lost: %s ---", Escape(short(r.What)))
	case *format.Outside:
		return fmt.Appendf(b, "--- calls are recorded by stops: %s ---", Escape(short(r.Why)))
	case *format.Check:
		if r.OK {
			return append(b, "--- check: equal to the kernel's table ---"...)
		}
		return append(b, "--- check: DIFFERS from the kernel's table ---"...)
	case *format.Poke:
		unit := "bytes"
		if len(r.New) == 1 {
			unit = "byte"
		}
		return fmt.Appendf(b, "--- wrote %d %s at %v ---", len(r.New), unit, r.Addr)
	case *format.Redacted:
		return fmt.Appendf(b, "--- redacted: an event of kind %v ---", wasKind(r))
	case *format.Unknown:
		return fmt.Appendf(b, "--- event of unknown kind %d, %d bytes ---", r.Code, len(r.Data))
	}
	return append(b, "--- event without a record ---"...)
}

// What a line shows of an event, which may be a part: a log of a kilobyte can have
// a million texts of a megabyte.
const (
	maxText = 4096
	maxArgs = 1024
)

// wasKind is the name of what was taken out.
func wasKind(r *format.Redacted) format.Kind {
	if r.Was >= uint32(format.NumKinds) {
		return format.KindUnknown
	}
	return format.Kind(r.Was)
}

// short is the beginning of a text.
func short(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}

// childOf is the kernel's tid of a clone's child, and what it is.
func childOf(m *Moment, r *format.Clone) (tid uint32, what string) {
	what = "process"
	if r.Flags&cloneThread != 0 {
		what = "thread"
	}
	if t := m.State.Threads[r.Child]; t != nil {
		if t.Proc != t.No {
			what = "thread"
		}
		return t.TID, what
	}
	return 0, what
}

// StatusText says what a wait status means, as strace does.
func StatusText(status uint32) string {
	sig := status & 0x7f
	if sig == 0 {
		return fmt.Sprintf("exited with %d", status>>8&0xff)
	}
	s := "killed by " + arch.SignalName(int(sig))
	if status&0x80 != 0 {
		s += " (core dumped)"
	}
	return s
}

// Escape makes text from the program safe for a terminal: control characters
// and bytes that are no text are written as C escapes.
func Escape(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return escapeC(s)
		}
	}
	return s
}

func escapeC(s string) string {
	var b []byte
	for _, r := range []byte(s) {
		switch {
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ' || r > '~':
			b = fmt.Appendf(b, `\%03o`, r)
		default:
			b = append(b, r)
		}
	}
	return string(b)
}
