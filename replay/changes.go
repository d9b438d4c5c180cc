package replay

import (
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Change is what an event did to the mappings of an address space.
type Change struct {
	MM uint32
	vma.Delta
}

// advance applies ev to m's state and says what that meant.
func (m *Moment) advance(ev *format.Event) error {
	m.Event, m.Changes, m.Thread = ev, m.Changes[:0], format.Thread{}
	s := m.State
	_, exec := ev.Record.(*format.Exec)
	if t := s.Threads[ev.Thread]; t != nil {
		m.Thread = *t
	}
	if len(ev.Changes) > 0 { // else s may be shared with earlier steps
		s.Step = ev.Step - 1
		defer func() { s.Step = ev.Step }()
	}
	var moves []*format.VMAMove
	for _, c := range ev.Changes {
		switch c := c.(type) {
		case *format.VMASet:
			if mm := s.MMs[c.MM]; mm != nil {
				m.say(c.MM, vma.Diff(mm.VMAs.Cut(c.VMA.Range), []vma.VMA{c.VMA}))
			}
		case *format.VMADel:
			if mm := s.MMs[c.MM]; mm != nil {
				m.say(c.MM, vma.Diff(mm.VMAs.Cut(c.Range), nil))
			}
		case *format.VMAMove:
			moves = append(moves, c)
		}
		if err := s.Apply(c); err != nil {
			return fmt.Errorf("step %d: %w", ev.Step, err)
		}
	}
	if err := s.Called(ev); err != nil {
		return fmt.Errorf("step %d: %w", ev.Step, err)
	}
	for _, mv := range moves {
		m.remap(mv)
	}
	if m.Thread.No == 0 || exec {
		if t := s.Threads[ev.Thread]; t != nil {
			m.Thread = *t
		}
	}
	return nil
}

func (m *Moment) say(mm uint32, ds []vma.Delta) {
	for _, d := range ds {
		m.Changes = append(m.Changes, Change{mm, d})
	}
}

// remap turns the map of mv's new place and the unmap of its old one into one
// move. With MREMAP_DONTUNMAP the old place stays, and the map is a map.
func (m *Moment) remap(mv *format.VMAMove) {
	from, ok := addr.Span(mv.From, mv.Len)
	if !ok {
		return
	}
	to := slices.IndexFunc(m.Changes, func(c Change) bool {
		return c.MM == mv.MM && c.Op == vma.Map && c.VMA.Start == mv.To
	})
	if to < 0 {
		return
	}
	var out []Change
	var old vma.VMA
	at := 0
	for i, c := range m.Changes {
		if i == to {
			at = len(out)
		}
		if c.MM != mv.MM || c.Op != vma.Unmap || !c.VMA.Overlaps(from) {
			out = append(out, c)
			continue
		}
		// What was unmapped beyond the part that moved is really gone.
		moved := addr.SetOf(from)
		for r := range moved.Gaps(c.VMA.Range) {
			out = append(out, Change{mv.MM, vma.Delta{Op: vma.Unmap, VMA: c.VMA.Slice(r)}})
		}
		if old.Empty() {
			old = c.VMA.Slice(from)
		} else {
			old.End = min(c.VMA.End, from.End)
		}
	}
	if old.Empty() {
		return
	}
	out[at].Op, out[at].Old = vma.Remap, old
	m.Changes = out
}
