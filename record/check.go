//go:build linux

// This file compares the log's tables with the kernel's (--check).

package record

import (
	"memtrace/format"
)

// touched are the address spaces whose mappings an event changes, where it is no
// call: after a call that may change them Returned checks, whether it did or not.
func (r *Recorder) touched(e *format.Event) []*memory {
	if _, call := e.Record.(*format.Syscall); call || !r.opts.Check {
		return nil
	}
	var found []*memory
	for m := range r.memories {
		for _, c := range e.Changes {
			if mappingsOf(c) == m.MM() {
				found = append(found, m)
				break
			}
		}
	}
	return found
}

// mappingsOf is the address space whose mappings a change changes, 0 for none.
func mappingsOf(c format.Change) uint32 {
	switch c := c.(type) {
	case *format.VMASet:
		return c.MM
	case *format.VMADel:
		return c.MM
	}
	return 0
}

// check compares the table of an address space with what the kernel prints, with its
// threads held. It returns an event of what it found, nil where that cannot be told. no is
// the thread whose event it follows.
func (r *Recorder) check(m *memory, no uint32) *format.Event {
	busy, ok := m.turn.Busy()
	if ok && busy.No != no || m.turn.Overdue() > 0 || m.untracedUsers {
		return nil
	}
	r.group.Hold(m.Space)
	for t := range m.Threads {
		if t.Unseen() {
			return nil // what it is doing is not known yet
		}
	}
	c, ok := m.table.Compare(m)
	if !ok {
		return nil // it has ended
	}
	r.result.Checks++
	rec := &format.Check{MM: m.MM(), OK: c.Same, Diff: c.Diff, Sum: format.MapsSum(c.Text)}
	if !c.Same {
		rec.Maps = c.Text
		r.result.Differed++
	}
	return &format.Event{Thread: no, Record: rec}
}
