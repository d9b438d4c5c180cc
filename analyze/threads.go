package analyze

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/replay"
)

// ThreadsReport tells of every thread.
type ThreadsReport struct {
	Rows []ThreadRow // in the order of their birth
}

// ThreadRow is one thread.
type ThreadRow struct {
	PID     uint32      `col:"pid,PID"`
	TID     uint32      `col:"tid,THREAD"`
	First   format.Step `col:"first_step,FROM"`
	Last    format.Step `col:"last_step,TO"`
	Lived   uint64      `col:"duration,LIVED,ns"`
	Calls   uint64      `col:"calls,CALLS"`
	Errors  uint64      `col:"errors,ERRORS,drop=2"`
	InCalls uint64      `col:"time,IN CALLS,ns"`
	Share   float64     `col:"share,SHARE,percent,drop=1"` // of its life that it was in calls
	Signals uint64      `col:"signals,SIGNALS,drop=3"`
	Most    string      `col:"most,MOST OF IT IN"` // the call that took most of that time
	End     string      `col:"end,END,cut=begin"`
}

// Sheet lays the report out.
func (r *ThreadsReport) Sheet() *Sheet {
	s := sheet("threads", r.Rows)
	s.Title = "Threads"
	return s
}

// threadLife is a thread that is being counted.
type threadLife struct {
	ThreadRow
	begin, last uint64 // ns
	by          map[callKey]uint64
}

// Threads tells of every thread: how long it lived, and how long it was in calls, waiting
// included. A thread whose events are all outside the range is left out.
func Threads(ctx context.Context, t *replay.Trace, o Options) (*ThreadsReport, error) {
	all := map[uint32]*threadLife{}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		for _, c := range m.Event.Changes {
			if c, ok := c.(*format.ThreadSet); ok {
				meet(all, m, &c.Thread, o)
			}
		}
		if x := meet(all, m, &m.Thread, o); x != nil {
			x.see(m)
		}
	}
	r := &ThreadsReport{}
	for _, no := range slices.Sorted(maps.Keys(all)) {
		x := all[no]
		x.Lived = x.last - x.begin
		x.Share = min(100, percent(x.InCalls, x.Lived))
		var most callKey
		for k, ns := range x.by {
			if d := cmp.Compare(ns, x.by[most]); d > 0 || d == 0 && (most == callKey{} || k.nr < most.nr) {
				most = k
			}
		}
		if len(x.by) > 0 {
			x.Most = replay.CallName(most.id, most.nr)
		}
		r.Rows = append(r.Rows, x.ThreadRow)
	}
	return r, nil
}

// meet is the life of a thread, made if need be; nil if it is none of the options'.
func meet(all map[uint32]*threadLife, m *replay.Moment, t *format.Thread, o Options) *threadLife {
	if t.No == 0 || o.PID != 0 && t.TGID != o.PID {
		return nil
	}
	x := all[t.No]
	if x == nil {
		x = &threadLife{ThreadRow: ThreadRow{First: m.Event.Step, Last: m.Event.Step, End: "still running"}, begin: m.Event.Time, last: m.Event.Time}
		all[t.No] = x
	}
	x.PID, x.TID = t.TGID, t.TID
	return x
}

// see counts an event of the thread.
func (x *threadLife) see(m *replay.Moment) {
	x.Last, x.last = m.Event.Step, m.Event.Time
	switch r := m.Event.Record.(type) {
	case *format.Syscall:
		x.Calls++
		if failed(r) {
			x.Errors++
		}
		d := replay.Elapsed(m.Event, r)
		x.InCalls += d
		if x.by == nil {
			x.by = map[callKey]uint64{}
		}
		x.by[callKey{r.Arch, r.Nr}] += d
	case *format.Signal:
		x.Signals++
	case *format.Exit:
		x.End = replay.StatusText(r.Status)
	case *format.Detach:
		x.End = "detached"
	}
}
