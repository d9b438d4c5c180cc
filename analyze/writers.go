package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// WritersReport tells which mappings are written to most: whose pages held
// something new when they were captured, and how often.
type WritersReport struct {
	Rows      []WriterRow // those with the most bytes first
	Snapshots uint64
}

// WriterRow is one mapping.
type WriterRow struct {
	Written   uint64    `col:"written,WRITTEN,bytes"`            // of pages that were new at a snapshot
	Touched   uint64    `col:"touched,TOUCHED,bytes"`            // of different pages
	Snapshots uint64    `col:"snapshots,SNAPSHOTS,drop=1"`       // with a change
	Rewritten uint64    `col:"rewritten,REWRITTEN,bytes,drop=2"` // Written - Touched
	PID       uint32    `col:"pid,PID"`
	Start     addr.Addr `col:"start,START"`
	End       addr.Addr `col:"end,END,fine"`
	Kind      vma.Kind  `col:"kind,KIND"`
	Path      string    `col:"path,PATH,cut=end"`
}

// Sheet lays the report out.
func (r *WritersReport) Sheet() *Sheet {
	s := sheet("writers", r.Rows)
	s.Title = "Mappings by what was written to them"
	s.Notes = []string{fmt.Sprintf("as %d snapshots saw it: a page that was written to several times between two of them counts once", r.Snapshots)}
	return s
}

// rewritten is what snapshots found of one mapping.
type rewritten struct {
	v        vma.VMA // as last seen
	pid      uint32
	versions uint64              // contents of pages that were new at a snapshot
	pages    map[uint64]struct{} // that had any
	times    uint64              // snapshots with a change
	last     format.Step
}

// writersBook collects what snapshots found.
type writersBook struct {
	pid       uint32 // of the only process to count, or 0
	by        map[writtenPlace]*rewritten
	order     []*rewritten
	snapshots uint64
}

// writtenPlace identifies a mapping.
type writtenPlace struct {
	mm    uint32
	start addr.Addr
}

// Writers tells which mappings are written to most.
func Writers(ctx context.Context, t *replay.Trace, o Options) (*WritersReport, error) {
	b, err := writtenIn(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r := &WritersReport{Snapshots: b.snapshots}
	for _, w := range b.order {
		n := uint64(len(w.pages))
		r.Rows = append(r.Rows, WriterRow{
			Written: w.versions << addr.PageShift, Touched: n << addr.PageShift, Snapshots: w.times, Rewritten: (w.versions - n) << addr.PageShift,
			PID: w.pid, Start: w.v.Start, End: w.v.End, Kind: w.v.Kind, Path: w.v.Name,
		})
	}
	slices.SortStableFunc(r.Rows, func(a, b WriterRow) int { return cmp.Compare(b.Written, a.Written) })
	return r, nil
}

// writtenIn books the pages of the events of the options' range.
func writtenIn(ctx context.Context, t *replay.Trace, o Options) (*writersBook, error) {
	b := &writersBook{pid: o.PID, by: map[writtenPlace]*rewritten{}}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		if err := b.see(m); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// see books the pages of one event.
func (b *writersBook) see(m *replay.Moment) error {
	if s, is := m.Event.Record.(*format.Snapshot); is && s.Reason != format.ReasonSweep {
		b.snapshots++
	}
	pids := map[uint32]uint32{}
	for _, c := range m.Event.Changes {
		p, is := c.(*format.Pages)
		if !is || p.What != format.PageData {
			continue
		}
		mm := m.State.MMs[p.MM]
		if mm == nil {
			continue
		}
		pid, known := pids[p.MM]
		if !known {
			pid = pidOf(m.State, p.MM)
			pids[p.MM] = pid
		}
		r, ok := addr.Span(p.Addr, p.N<<addr.PageShift)
		if !ok || b.pid != 0 && pid != b.pid {
			continue
		}
		for run, err := range mm.Pages(r) {
			if err != nil {
				return err
			}
			if run.Changed == m.Event.Step && run.What == format.PageData {
				b.run(m.Event.Step, mm, pid, run.Addr, run.N)
			}
		}
	}
	return nil
}

// run books n pages from an address on, which are new at a step.
func (b *writersBook) run(step format.Step, mm *format.MM, pid uint32, from addr.Addr, n uint64) {
	at := func(i uint64) addr.Addr { return from + addr.Addr(i<<addr.PageShift) }
	for i := uint64(0); i < n; {
		v, ok := mm.VMAs.Find(at(i))
		if !ok {
			i++
			continue
		}
		place := writtenPlace{mm.No, v.Start}
		w := b.by[place]
		if w == nil {
			w = &rewritten{pages: map[uint64]struct{}{}, last: format.NoStep}
			b.by[place] = w
			b.order = append(b.order, w)
		}
		w.v, w.pid = v, pid
		if w.last != step {
			w.last = step
			w.times++
		}
		for ; i < n && v.Contains(at(i)); i++ {
			w.versions++
			w.pages[from.Page()+i] = struct{}{}
		}
	}
}

// pidOf is the first process that uses an address space.
func pidOf(s *format.State, mm uint32) (pid uint32) {
	var no uint32
	for _, t := range s.Threads {
		if t.MM == mm && (no == 0 || t.No < no) {
			no, pid = t.No, t.TGID
		}
	}
	return pid
}
