package replay

import (
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
)

// Follower turns the events of a recording into moments while they are made. It
// keeps mappings and threads, not contents: those are to be had from the living
// program.
type Follower struct {
	m       Moment
	p       *Printer
	threads map[uint32]format.Thread
	line    string
}

// NewFollower makes one that has seen nothing yet.
func NewFollower(start time.Time, o PrintOptions) *Follower {
	return &Follower{m: Moment{State: format.NewState()}, p: LivePrinter(start, o), threads: map[uint32]format.Thread{}}
}

// See follows an event and returns its moment, which is valid until the next.
func (f *Follower) See(e *format.Event) (*Moment, error) {
	ev := e.Clone()
	kept := ev.Changes[:0]
	for _, c := range ev.Changes {
		if _, pages := c.(*format.Pages); !pages {
			kept = append(kept, c)
		}
	}
	ev.Changes = kept
	if err := f.m.advance(ev); err != nil {
		return nil, err
	}
	f.m.State.Step = ev.Step
	for _, c := range ev.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			f.threads[c.Thread.No] = c.Thread
		}
	}
	f.line = string(f.p.AppendLine(nil, &f.m))
	return &f.m, nil
}

// Moment is the last event's.
func (f *Follower) Moment() *Moment {
	if f.m.Event == nil {
		return nil
	}
	return &f.m
}

// Line is what the printer made of the last event.
func (f *Follower) Line() string { return f.line }

// State is the state after the last event, without contents.
func (f *Follower) State() *format.State { return f.m.State }

// Entry is a call that is about to be made, in strace's notation: without what
// it will return.
func (f *Follower) Entry(thread uint32, s *format.Syscall) string {
	c := callOf(s)
	c.Returned = false
	f.p.fds.tell(thread, &c)
	return strings.TrimSuffix(strings.TrimRight(string(c.Append(nil)), " "), " = ?")
}

// LiveMemory reads the memory of a living program as it is now.
type LiveMemory interface {
	ReadMem(mm uint32, b []byte, a addr.Addr) (int, error)
}
