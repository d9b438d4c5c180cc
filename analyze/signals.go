package analyze

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/replay"
)

// Signals counts delivered signals by name.
func Signals(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	type count struct {
		n, fatal    uint64
		first, last format.Step
		senders     map[uint32]bool
		faults      uint64
	}
	by := map[int32]*count{}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		s, ok := m.Event.Record.(*format.Signal)
		if !ok || !o.mine(m) {
			continue
		}
		c := by[s.Signo]
		if c == nil {
			c = &count{first: m.Event.Step, senders: map[uint32]bool{}}
			by[s.Signo] = c
		}
		c.n++
		c.last = m.Event.Step
		if s.Fatal {
			c.fatal++
		}
		if len(s.Info) > 0 {
			// Codes up to 0 say that a process sent it (sigaction(2)).
			if si := call.ParseSigInfo(s.Info); si.Code <= 0 && si.PID != 0 {
				c.senders[uint32(si.PID)] = true
			} else if si.Code > 0 {
				c.faults++
			}
		}
	}
	r := &Result{Report: "signals", Title: "Signals", Columns: []Column{
		{Key: "signal", Title: "SIGNAL", Unit: Text}, {Key: "count", Title: "COUNT", Unit: Count}, {Key: "fatal", Title: "FATAL", Unit: Count},
		{Key: "first_step", Title: "FIRST", Unit: Count}, {Key: "last_step", Title: "LAST", Unit: Count}, {Key: "from", Title: "FROM", Unit: Text, Cut: keepBegin},
	}}
	for _, n := range slices.SortedFunc(maps.Keys(by), func(a, b int32) int {
		return cmp.Or(cmp.Compare(by[b].fatal, by[a].fatal), cmp.Compare(by[b].n, by[a].n), cmp.Compare(a, b))
	}) {
		c := by[n]
		r.Rows = append(r.Rows, []any{
			arch.SignalName(int(n)), c.n, c.fatal, uint64(c.first), uint64(c.last), from(c.senders, c.faults),
		})
	}
	if len(r.Rows) == 0 {
		r.Notes = []string{"no signal was delivered"}
	}
	return r, nil
}

// from says who sent signals.
func from(senders map[uint32]bool, kernel uint64) string {
	var parts []string
	if kernel > 0 {
		parts = append(parts, "kernel")
	}
	pids := slices.Sorted(maps.Keys(senders))
	for i, p := range pids {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("%d more", len(pids)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("pid %d", p))
	}
	return strings.Join(parts, ", ")
}

// Processes tells of every process of the log.
func Processes(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	r := &Result{Report: "processes", Title: "Processes", Columns: []Column{
		{Key: "pid", Title: "PID", Unit: Count}, {Key: "parent", Title: "PARENT", Unit: Count}, {Key: "first_step", Title: "FROM", Unit: Count}, {Key: "last_step", Title: "TO", Unit: Count},
		{Key: "duration", Title: "LIVED", Unit: Duration, Drop: 4}, {Key: "threads", Title: "THREADS", Unit: Count, Drop: 3}, {Key: "events", Title: "EVENTS", Unit: Count, Drop: 2},
		{Key: "peak", Title: "PEAK", Unit: Bytes}, {Key: "peak_step", Title: "AT STEP", Unit: Count, Drop: 1}, {Key: "end", Title: "END", Unit: Text}, {Key: "program", Title: "PROGRAM", Unit: Text, Max: 60, Cut: keepBegin},
	}}
	pids, by := map[uint32]uint64{}, map[uint32]*replay.Life{}
	for i := range lives {
		pids[lives[i].No], by[lives[i].No] = uint64(lives[i].PID), &lives[i]
	}
	for i := range lives {
		l := &lives[i]
		if o.PID != 0 && l.PID != o.PID || l.First > o.To || l.Last < o.From {
			continue
		}
		var parent any
		if p, ok := pids[l.Parent]; ok && l.Parent != 0 {
			parent = p
		}
		r.Rows = append(r.Rows, []any{
			uint64(l.PID), parent, uint64(l.First), uint64(l.Last), l.End - l.Start, uint64(l.Threads), l.Events,
			l.Peak, uint64(l.PeakStep), ending(l), program(l, by),
		})
	}
	return r, nil
}

// ending says how a process left the log.
func ending(l *replay.Life) string {
	switch {
	case l.Ended:
		return replay.StatusText(l.Status)
	case l.Detached:
		return "detached"
	}
	return "still running"
}

// program is the command line of what a process ran last. One that ran nothing
// itself is a copy of what its parent ran when it was born; by may be nil.
func program(l *replay.Life, by map[uint32]*replay.Life) string {
	note := ""
	for at := l.Last; l != nil; at, l = l.First, by[l.Parent] {
		for i := len(l.Execs) - 1; i >= 0; i-- {
			e := &l.Execs[i]
			switch {
			case e.Step > at:
				continue
			case len(e.Argv) == 0:
				return note + e.Path
			}
			return note + strings.TrimRight(strings.Join(e.Argv, " "), " ") // setproctitle pads
		}
		note = "(fork of) "
	}
	return "(unknown)" // attached to, and it ran no other since
}
