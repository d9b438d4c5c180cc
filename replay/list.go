package replay

import (
	"context"
	"io"

	"memtrace/format"
	"memtrace/format/arch"
)

// ListOptions say which events List writes, and how.
type ListOptions struct {
	PrintOptions
	JSON     bool
	From, To format.Step // both included
	PID      uint32      // 0: all
	Set      arch.Set    // system calls to show
	AllCalls bool        // Set was not given: show everything that is no call, too
}

// shows says whether an event is to be listed. With a set of calls chosen,
// what memtrace itself did is not of interest; signals and ends are, as with
// strace -e.
func (o *ListOptions) shows(m *Moment) bool {
	if o.PID != 0 && m.Thread.TGID != o.PID {
		return false
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

func (o *ListOptions) hasCall(id arch.ID, name string) bool {
	nr, ok := id.Number(name)
	return ok && o.Set.Has(id, nr)
}

// List writes a line for each event.
func (t *Trace) List(ctx context.Context, w io.Writer, o ListOptions) error {
	if t.Steps() == 0 {
		return nil
	}
	p := &Printer{PrintOptions: o.PrintOptions, t: t, start: t.Header().Start}
	var err error
	if o.From == o.To {
		err = p.seek(o.From)
	} else {
		p.fds, err = t.descriptorsAt(o.From)
	}
	if err != nil {
		return err
	}
	var b []byte
	seen := o.PID == 0
	for m, err := range t.Walk(o.From, o.To) {
		if err != nil {
			return err
		}
		if m.Event.Step%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		seen = seen || m.Thread.TGID == o.PID
		if !o.shows(m) {
			p.Skip(m)
			continue
		}
		if o.JSON {
			b = p.AppendJSON(b[:0], m)
		} else {
			b = p.AppendLine(b[:0], m)
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	if !seen {
		_, err := t.LastAlive(ctx, o.PID) // there is no such process
		return err
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
		_, err = w.Write(s.AppendMaps(nil))
		return err
	}
	for v := range s.Mappings() {
		if _, err := w.Write(append(AppendMappingJSON(nil, v), '\n')); err != nil {
			return err
		}
	}
	return nil
}
