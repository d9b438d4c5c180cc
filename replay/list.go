package replay

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
)

// ListOptions say which events List writes, and how.
type ListOptions struct {
	PrintOptions
	JSON     bool
	From, To format.Step // both included
	PID      uint32      // 0: all
	TID      uint32      // 0: all
	Types    []string    // as TypeName; nil: all
	Set      arch.Set    // system calls to show
	AllCalls bool        // Set was not given: show everything that is no call, too
	Site     *Site       // only events whose stack goes through it; nil: all
	Part     bool        // From..To are a part of what is listed: a process need not be in it
	// Near, if it is not 0, has the names of descriptors come from so many events before From,
	// where those of the whole log before it are not at hand (Trace.Names): descriptors that
	// were made earlier have no name then.
	Near format.Step

	// Only calls that failed, that took at least so long, or that name a file like Path
	// (Like), by its path or its last part.
	Failed bool
	Slower time.Duration
	Path   string
}

// Shows says whether an event is to be listed. With a set of calls chosen,
// what memtrace itself did is not of interest; signals and ends are, as with
// strace -e.
func (o *ListOptions) Shows(m *Moment) bool {
	if o.PID != 0 && m.Thread.TGID != o.PID || o.TID != 0 && m.Thread.TID != o.TID {
		return false
	}
	if o.Types != nil && !slices.Contains(o.Types, TypeName(m.Event.Record)) {
		return false
	}
	if o.Failed || o.Slower > 0 || o.Path != "" {
		c, ok := m.Event.Record.(*format.Syscall)
		switch {
		case !ok, o.Failed && !Failed(c):
			return false
		case o.Slower > 0 && Elapsed(m.Event, c) < uint64(o.Slower):
			return false
		}
	}
	switch r := m.Event.Record.(type) {
	case *format.Syscall:
		return o.AllCalls || o.Set.Has(r.Arch, r.Nr)
	case *format.Exec:
		return o.AllCalls || o.hasCall(m.Thread.Arch, "execve")
	case *format.Clone:
		return o.AllCalls || o.hasCall(m.Thread.Arch, "clone")
	case *format.Snapshot, *format.MemInfo, *format.Check:
		return o.AllCalls
	}
	return true
}

// Failed says whether a call gave an error to the program. What the kernel restarts by
// itself is none.
func Failed(s *format.Syscall) bool {
	return s.Returned && s.Ret < 0 && s.Ret >= -arch.MaxErrno && !(s.Ret <= -512 && s.Ret >= -516)
}

// Elapsed is how long a call took, in ns; 0 if it never returned.
func Elapsed(ev *format.Event, s *format.Syscall) uint64 {
	if !s.Returned {
		return 0
	}
	return ev.Time - min(s.Enter, ev.Time)
}

// Files calls f for each file that m's event, a call, names, by a path or by a descriptor
// (call.Files). It is to be asked before the event is printed or skipped.
func (p *Printer) Files(m *Moment, f func(name string, byFD bool)) {
	s, ok := m.Event.Record.(*format.Syscall)
	if !ok {
		return
	}
	c := &p.call // kept: there are millions of calls
	*c = callOf(s)
	c.FD = unnamed
	p.fds.tell(m.Event.Thread, c)
	c.Files(f)
}

// unnamed is the name of a descriptor of which nothing is known.
func unnamed(int32) string { return "" }

// about says whether an event names a file like o.Path.
func (o *ListOptions) about(p *Printer, m *Moment) (found bool) {
	p.Files(m, func(name string, _ bool) {
		found = found || Like(o.Path, name) || Like(o.Path, base(name))
	})
	return found
}

func (o *ListOptions) hasCall(id arch.ID, name string) bool {
	nr, ok := id.Number(name)
	return ok && o.Set.Has(id, nr)
}

// List writes a line for each event.
func (t *Trace) List(ctx context.Context, w io.Writer, o ListOptions) error {
	var b []byte
	return t.Each(ctx, o, func(p *Printer, m *Moment) error {
		if o.JSON {
			b = p.AppendJSON(b[:0], m)
		} else {
			b = p.AppendLine(b[:0], m)
		}
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// Each calls f for each event that a list would have, with the printer that is to
// write it. f must have the printer write the event, or its fields, once.
func (t *Trace) Each(ctx context.Context, o ListOptions, f func(*Printer, *Moment) error) error {
	if t.Count() == 0 {
		return nil
	}
	p := &Printer{PrintOptions: o.PrintOptions, t: t, start: t.Header().Start}
	var err error
	switch {
	case o.Near > 0:
		p.fds, err = t.descriptorsNear(o.From, o.Near)
	case o.From == o.To:
		err = p.seek(o.From)
	default:
		p.fds, err = t.descriptorsAt(o.From)
	}
	if err != nil {
		return err
	}
	seen, seenThread := o.PID == 0 || o.Part, o.TID == 0 || o.Part
	through := siteFilter{t, o.Site, map[format.StackNode]bool{}}
	for m, err := range t.Walk(o.From, o.To) {
		if err != nil {
			return err
		}
		if m.Event.Step%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		seen, seenThread = seen || m.Thread.TGID == o.PID, seenThread || m.Thread.TID == o.TID
		show := o.Shows(m)
		if show && o.Path != "" {
			show = o.about(p, m)
		}
		if show && o.Site != nil {
			if show, err = through.has(m.Event.Stack); err != nil {
				return err
			}
		}
		if !show {
			p.Skip(m)
			continue
		}
		if err := f(p, m); err != nil {
			return err
		}
		if p.err != nil {
			return p.err
		}
	}
	if !seen {
		_, err := t.LastAlive(ctx, o.PID) // there is no such process
		return err
	}
	if !seenThread {
		return fmt.Errorf("thread %d: %w in steps %d to %d", o.TID, ErrNoThread, o.From, o.To)
	}
	return nil
}

// WriteMaps writes the address space as /proc/PID/maps showed it, or as one
// JSON object a mapping.
func (p *Process) WriteMaps(w io.Writer, json bool) error {
	s, err := p.Space()
	if err != nil {
		return err
	}
	if !json {
		return s.Set().WriteMaps(w)
	}
	var f fieldList
	for v := range s.Mappings() {
		f = f[:0]
		mappingFields(&f, v)
		if _, err := w.Write(append(AppendJSON(nil, f), '\n')); err != nil {
			return err
		}
	}
	return nil
}
