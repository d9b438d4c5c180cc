package analyze

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"memtrace/format"
)

// InsideRow is how the calls of processes were recorded that ran one program.
type InsideRow struct {
	Process string  `col:"process,PROCESS"` // the first, and how many more
	Program string  `col:"program,PROGRAM"`
	Calls   uint64  `col:"calls,CALLS"`
	Inside  uint64  `col:"inside,INSIDE"`
	Share   float64 `col:"share,SHARE,percent"`
	Why     string  `col:"why,BY STOPS BECAUSE"`
}

// insideCount counts calls that were recorded inside the programs, by process.
type insideCount struct {
	procs []*insideProc // in the order of their beginnings
	by    map[uint32]*insideProc
	of    map[uint32]*insideProc // threads
	all   []string               // why no process was to
}

// insideProc is a process, as far as insideCount knows it.
type insideProc struct {
	pid           uint32
	program       string
	calls, inside uint64
	why           []string
}

// see takes an event.
func (n *insideCount) see(ev *format.Event) {
	for _, c := range ev.Changes {
		c, ok := c.(*format.ThreadSet)
		if !ok {
			continue
		}
		p := n.by[c.Thread.Proc]
		if p == nil {
			p = &insideProc{pid: c.Thread.TGID}
			if parent := n.by[c.Thread.Parent]; parent != nil {
				p.program = parent.program
			}
			n.by[c.Thread.Proc] = p
			n.procs = append(n.procs, p)
		}
		n.of[c.Thread.No] = p
	}
	p := n.of[ev.Thread]
	switch r := ev.Record.(type) {
	case *format.Syscall:
		if p != nil {
			p.calls++
			if r.Inside {
				p.inside++
			}
		}
	case *format.Exec:
		if p != nil {
			p.program = filepath.Base(r.Path)
		}
	case *format.Attach:
		if p != nil && r.Path != "" {
			p.program = filepath.Base(r.Path)
		}
	case *format.Outside:
		why := &n.all
		if p != nil {
			why = &p.why
		}
		if !slices.Contains(*why, r.Why) {
			*why = append(*why, r.Why)
		}
	}
}

// rows are one for each program and set of reasons.
func (n *insideCount) rows() (rows []InsideRow) {
	type key struct{ program, why string }
	more := map[key]int{}
	at := map[key]int{}
	for _, p := range n.procs {
		k := key{p.program, strings.Join(slices.Concat(n.all, p.why), "; ")}
		i, known := at[k]
		if !known {
			i = len(rows)
			at[k] = i
			rows = append(rows, InsideRow{Process: fmt.Sprint(p.pid), Program: p.program, Why: k.why})
		} else {
			more[k]++
		}
		rows[i].Calls += p.calls
		rows[i].Inside += p.inside
	}
	for k, i := range at {
		r := &rows[i]
		if r.Share = percent(r.Inside, r.Calls); more[k] > 0 {
			r.Process += fmt.Sprintf(" and %d more", more[k])
		}
	}
	return rows
}

// inside tells of the calls that were recorded inside the programs, if some were to be.
func (r *InfoReport) inside(h *format.Header, n *insideCount) {
	asked := slices.ContainsFunc(h.Options, func(l string) bool {
		return strings.HasPrefix(l, "in-process=") && l != "in-process=off"
	})
	var calls, inside uint64
	why := n.all
	for _, p := range n.procs {
		calls, inside = calls+p.calls, inside+p.inside
		why = append(why, p.why...)
	}
	if !asked && inside == 0 && len(why) == 0 {
		return
	}
	share := percent(inside, calls)
	r.InsideShare, r.Inside = &share, n.rows()
}
