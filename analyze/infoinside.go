package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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

// newInside is a count that begins with a state.
func newInside(s *format.State) *insideCount {
	n := &insideCount{by: map[uint32]*insideProc{}, of: map[uint32]*insideProc{}}
	for _, no := range slices.Sorted(maps.Keys(s.Threads)) {
		n.thread(s.Threads[no])
	}
	return n
}

// thread takes a thread, and its process if that is new.
func (n *insideCount) thread(t *format.Thread) {
	p := n.by[t.Proc]
	if p == nil {
		p = &insideProc{pid: t.TGID}
		if parent := n.by[t.Parent]; parent != nil {
			p.program = parent.program
		}
		n.by[t.Proc] = p
		n.procs = append(n.procs, p)
	}
	n.of[t.No] = p
}

// see takes an event.
func (n *insideCount) see(ev *format.Event) {
	for _, c := range ev.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			n.thread(&c.Thread)
		}
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

// asked reports whether a log was to have calls that were recorded inside the programs, as far as it knows.
func (n *insideCount) asked(h *format.Header) bool {
	return len(n.all) > 0 || slices.ContainsFunc(h.Options, func(l string) bool {
		return strings.HasPrefix(l, "in-process=") && l != "in-process=off"
	}) || slices.ContainsFunc(n.procs, func(p *insideProc) bool { return p.inside > 0 || len(p.why) > 0 })
}

// short tells of the calls of a process, 0 for all: which part was recorded inside, and why the others were
// not, the reason of most calls first. It is "" of a log that was not to have any.
func (n *insideCount) short(h *format.Header, pid uint32) string {
	if !n.asked(h) {
		return ""
	}
	var calls, inside uint64
	why, stops := slices.Clone(n.all), map[string]uint64{}
	for _, p := range n.procs {
		if pid != 0 && p.pid != pid {
			continue
		}
		calls, inside = calls+p.calls, inside+p.inside
		for _, w := range p.why {
			if stops[w] += p.calls - p.inside; !slices.Contains(why, w) {
				why = append(why, w)
			}
		}
	}
	if calls == inside {
		return "all calls"
	}
	slices.SortStableFunc(why[len(n.all):], func(a, b string) int { return cmp.Compare(stops[b], stops[a]) })
	s := fmt.Sprintf("%.0f %% of the calls", math.Floor(percent(inside, calls)))
	switch {
	case inside == 0:
		s = "no call"
	case inside*100 < calls:
		s = "less than 1 % of the calls"
	}
	if len(why) == 0 {
		return s + ", the others by stops (memtrace info)"
	}
	s += " (memtrace info); by stops: " + why[0]
	if more := len(why) - 1; more > 0 {
		s += fmt.Sprintf(", and %d more", more)
	}
	return s
}

// inside tells of the calls that were recorded inside the programs, if some were to be.
func (r *InfoReport) inside(h *format.Header, n *insideCount) {
	if !n.asked(h) {
		return
	}
	var calls, inside uint64
	for _, p := range n.procs {
		calls, inside = calls+p.calls, inside+p.inside
	}
	share := percent(inside, calls)
	r.InsideShare, r.Inside = &share, n.rows()
}
