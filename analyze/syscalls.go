package analyze

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

type callKey struct {
	id arch.ID
	nr uint32
}

type callCount struct {
	calls, errors, time, longest uint64
	longestStep                  *format.Step // nil: none returned
	latencies                    latencies
}

// add counts one call.
func (c *callCount) add(ev *format.Event, s *format.Syscall) {
	c.calls++
	if s.Returned {
		d := ev.Time - min(s.Enter, ev.Time)
		c.time += d
		if d > c.longest || c.longestStep == nil {
			step := ev.Step
			c.longest, c.longestStep = d, &step
		}
		c.latencies.add(d)
	}
	if failed(s) {
		c.errors++
	}
}

// CallsReport counts system calls by name.
type CallsReport struct {
	Rows  []CallRow // those that took longest first
	Total CallRow
}

// CallRow is one call, in one ABI.
type CallRow struct {
	Name        string       `col:"name,CALL"`
	Arch        arch.ID      `col:"arch,ARCH"`
	Calls       uint64       `col:"calls,CALLS"`
	Errors      uint64       `col:"errors,ERRORS"`
	Time        uint64       `col:"time,TIME,ns"`
	Share       float64      `col:"share,SHARE,percent,drop=5"` // of the time of all calls
	Mean        uint64       `col:"mean,MEAN,ns,drop=2"`
	P50         *uint64      `col:"p50,MEDIAN,ns"`
	P90         *uint64      `col:"p90,90 %,ns,drop=3"`
	P99         *uint64      `col:"p99,99 %,ns,drop=4"`
	Longest     *uint64      `col:"longest,LONGEST,ns"`
	LongestStep *format.Step `col:"longest_step,AT STEP"`
	Histogram   string       `col:"histogram,1us TO 10s,picture,drop=6"`
}

// Sheet lays the report out.
func (r *CallsReport) Sheet() *Sheet {
	s := sheet("syscalls", r.Rows)
	s.Title = "System calls"
	if !slices.ContainsFunc(r.Rows, func(c CallRow) bool { return c.Arch != r.Rows[0].Arch }) {
		s.column("arch").Drop = 1 // says the same in every row
	}
	s.sum(r.Total, "name", "calls", "errors", "time")
	return s
}

// Syscalls counts calls by name. The time is from entry to return, waiting
// included.
func Syscalls(ctx context.Context, t *replay.Trace, o Options) (*CallsReport, error) {
	by := map[callKey]*callCount{}
	var all callCount
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		s, ok := m.Event.Record.(*format.Syscall)
		if !ok || !o.mine(m) {
			continue
		}
		c := by[callKey{s.Arch, s.Nr}]
		if c == nil {
			c = &callCount{}
			by[callKey{s.Arch, s.Nr}] = c
		}
		c.add(m.Event, s)
		all.add(m.Event, s)
	}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b callKey) int {
		return cmp.Or(cmp.Compare(by[b].time, by[a].time), cmp.Compare(by[b].calls, by[a].calls),
			cmp.Compare(a.id, b.id), cmp.Compare(a.nr, b.nr))
	})
	r := &CallsReport{Total: CallRow{Name: "total", Calls: all.calls, Errors: all.errors, Time: all.time}}
	for _, k := range keys {
		c := by[k]
		r.Rows = append(r.Rows, CallRow{
			Name: replay.CallName(k.id, k.nr), Arch: k.id, Calls: c.calls, Errors: c.errors,
			Time: c.time, Share: percent(c.time, all.time), Mean: c.time / c.calls, LongestStep: c.longestStep,
			P50: c.latencies.below(50), P90: c.latencies.below(90), P99: c.latencies.below(99), Histogram: c.latencies.picture(o.ASCII),
		})
		if c.longestStep != nil {
			r.Rows[len(r.Rows)-1].Longest = &c.longest
		}
	}
	return r, nil
}

// failed says whether a call gave an error to the program.
func failed(s *format.Syscall) bool { return replay.Failed(s) }

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}
