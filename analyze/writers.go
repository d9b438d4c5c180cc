package analyze

import (
	"context"
	"fmt"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// rewritten is what snapshots found of one mapping.
type rewritten struct {
	v        vma.VMA // as last seen
	pid      uint32
	versions uint64              // contents of pages that were new at a snapshot
	pages    map[uint64]struct{} // that had any
	times    uint64              // snapshots with a change
	last     format.Step
}

// Writers tells which mappings are written to most: whose pages held something
// new when they were captured, and how often.
func Writers(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	type place struct {
		mm    uint32
		start addr.Addr
	}
	by := map[place]*rewritten{}
	var order []*rewritten
	var snapshots uint64
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		if s, is := m.Event.Record.(*format.Snapshot); is && s.Reason != format.ReasonSweep {
			snapshots++
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
			if o.PID != 0 && pid != o.PID {
				continue
			}
			r, ok := addr.Span(p.Addr, p.N<<addr.PageShift)
			if !ok {
				continue
			}
			for run, err := range mm.Pages(r) {
				if err != nil {
					return nil, err
				}
				if run.Changed != m.Event.Step || run.What != format.PageData {
					continue
				}
				for i := uint64(0); i < run.N; {
					at := run.Addr + addr.Addr(i<<addr.PageShift)
					v, ok := mm.VMAs.Find(at)
					if !ok {
						i++
						continue
					}
					w := by[place{p.MM, v.Start}]
					if w == nil {
						w = &rewritten{pages: map[uint64]struct{}{}, last: format.NoStep}
						by[place{p.MM, v.Start}] = w
						order = append(order, w)
					}
					w.v, w.pid = v, pid
					if w.last != m.Event.Step {
						w.last = m.Event.Step
						w.times++
					}
					for ; i < run.N && v.Contains(run.Addr+addr.Addr(i<<addr.PageShift)); i++ {
						w.versions++
						w.pages[run.Addr.Page()+i] = struct{}{}
					}
				}
			}
		}
	}
	r := &Result{Report: "writers", Title: "Mappings by what was written to them", Columns: []Column{
		{Key: "written", Title: "WRITTEN", Unit: Bytes}, {Key: "touched", Title: "TOUCHED", Unit: Bytes}, {Key: "snapshots", Title: "SNAPSHOTS", Unit: Count, Drop: 1},
		{Key: "rewritten", Title: "REWRITTEN", Unit: Bytes, Drop: 2}, {Key: "pid", Title: "PID", Unit: Count}, {Key: "start", Title: "START", Unit: Address},
		{Key: "end", Title: "END", Unit: Address, Fine: true}, {Key: "kind", Title: "KIND", Unit: Text}, {Key: "path", Title: "PATH", Unit: Text, Cut: keepEnd},
	}}
	for _, w := range order {
		n := uint64(len(w.pages))
		r.Rows = append(r.Rows, []any{
			w.versions << addr.PageShift, n << addr.PageShift, w.times, (w.versions - n) << addr.PageShift, uint64(w.pid),
			w.v.Start, w.v.End, w.v.Kind.String(), w.v.Name,
		})
	}
	r.Notes = append(r.Notes, fmt.Sprintf("as %d snapshots saw it: a page that was written to several times between two of them counts once", snapshots))
	return r, r.Sort("written")
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
