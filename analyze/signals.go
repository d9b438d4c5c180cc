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

// SignalsReport counts delivered signals by name.
type SignalsReport struct {
	Rows []SignalRow // those that ended a process first, then the most frequent
}

// SignalRow is one signal.
type SignalRow struct {
	Signal string      `col:"signal,SIGNAL"`
	Count  uint64      `col:"count,COUNT"`
	Fatal  uint64      `col:"fatal,FATAL"`
	First  format.Step `col:"first_step,FIRST"`
	Last   format.Step `col:"last_step,LAST"`
	From   string      `col:"from,FROM,cut=begin"`
}

// Sheet lays the report out.
func (r *SignalsReport) Sheet() *Sheet {
	s := sheet("signals", r.Rows)
	s.Title = "Signals"
	if len(r.Rows) == 0 {
		s.Notes = []string{"no signal was delivered"}
	}
	return s
}

// Signals counts delivered signals by name.
func Signals(ctx context.Context, t *replay.Trace, o Options) (*SignalsReport, error) {
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
	r := &SignalsReport{}
	for _, n := range slices.SortedFunc(maps.Keys(by), func(a, b int32) int {
		return cmp.Or(cmp.Compare(by[b].fatal, by[a].fatal), cmp.Compare(by[b].n, by[a].n), cmp.Compare(a, b))
	}) {
		c := by[n]
		r.Rows = append(r.Rows, SignalRow{
			Signal: arch.SignalName(int(n)), Count: c.n, Fatal: c.fatal, First: c.first, Last: c.last, From: from(c.senders, c.faults),
		})
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
