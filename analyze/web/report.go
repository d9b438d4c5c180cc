package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// Limits say how much a report has.
type Limits struct {
	Bytes   int64 // of the JSON, 0: as many as it takes
	Buckets int   // 0: 1,200
	Context int   // events before and after a moment, 0: 100
	Rows    int   // of a table, 0: 200
	Memory  bool  // also what the memory held around a fault
}

// reportTables are the tables of a report.
var reportTables = []string{
	"summary", "syscalls", "slow", "files", "threads", "errors", "growth", "callsites", "signals", "processes", "writers", "shm", "leaks", "system",
}

// fewRows are those of tables whose later rows say little, of the rows that others have.
var fewRows = map[string]int{"slow": 4}

// mostMoments is how many steps a report shows in full.
const mostMoments = 8

// mostSpaces is at how many steps besides a report has the address space, a cell of which
// is a larger part of a mapping.
const (
	mostSpaces = 24
	spaceCells = 16
)

// leastContext is below which nothing is halved any more.
const leastContext = 8

// MakeReport gathers what a page shows that needs no server. It has fewer buckets, rows and
// events if it would be larger than the limits say, and tells so. name is the log's file.
func MakeReport(ctx context.Context, t *replay.Trace, name, version string, lim Limits) ([]byte, error) {
	l := New(t, name)
	defer l.Close()
	if err := l.Prepare(ctx); err != nil {
		return nil, err
	}
	lim.Buckets, lim.Context, lim.Rows = cmp.Or(lim.Buckets, 1200), cmp.Or(lim.Context, 100), cmp.Or(lim.Rows, 200)
	first := lim
	for {
		r, err := l.report(ctx, version, lim)
		if err != nil {
			return nil, err
		}
		if lim != first {
			r.Limits = append(r.Limits, fmt.Sprintf("To keep the file small, it has %d points of time instead of %d, %d events around each moment instead of %d, %d rows of a table instead of %d, and fewer address spaces.",
				lim.Buckets, first.Buckets, 2*lim.Context, 2*first.Context, lim.Rows, first.Rows))
		}
		b, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if lim.Bytes == 0 || int64(len(b)) <= lim.Bytes {
			return b, nil
		}
		if lim.Context <= leastContext {
			return nil, fmt.Errorf("a report of this log takes %s at least: want a limit of that", analyze.Size(uint64(len(b))))
		}
		lim.Buckets, lim.Context, lim.Rows = lim.Buckets/2, lim.Context/2, lim.Rows/2
	}
}

func (l *Log) report(ctx context.Context, version string, lim Limits) (*Report, error) {
	all := l.All()
	r := &Report{
		Info: Info{Version: version, Logs: []LogInfo{l.LogInfo()}}, Series: map[string]Series{}, Tables: map[string]json.RawMessage{}, Moments: []Moment{},
		Stacks: map[string]Stacks{}, Charts: map[string]Charts{}, Limits: []string{},
	}
	if l.t.Count() == 0 {
		return nil, replay.ErrEmpty
	}
	f, err := l.Findings(ctx, all, nil, nil)
	if err != nil {
		return nil, err
	}
	r.Findings = *f
	if _, _, err := l.timeline(ctx, 0, true); err != nil {
		return nil, err
	}
	for _, by := range []string{"kind", "mapped", "rss", "system"} {
		s, err := l.Series(ctx, by, all, lim.Buckets)
		if err != nil {
			return nil, err
		}
		r.Series[by] = *s
	}
	lanes, err := l.Lanes(all, lim.Buckets)
	if err != nil {
		return nil, err
	}
	r.Lanes = *lanes
	for _, name := range reportTables {
		t, err := l.Table(ctx, name, all, lim.Rows/cmp.Or(fewRows[name], 1), nil)
		if errors.Is(err, errLarge) {
			r.Limits = append(r.Limits, fmt.Sprintf("The table %s is too large for a page: memtrace report %s writes it.", name, name))
			continue
		}
		if errors.Is(err, replay.ErrUnknown) {
			r.Limits = append(r.Limits, fmt.Sprintf("There is no table %s: %s.", name, shown(err.Error())))
			continue
		}
		if err != nil {
			return nil, err
		}
		r.Tables[name] = t
	}
	for _, m := range Metrics {
		s, err := l.Stacks(ctx, m.Name, all, nil)
		if err != nil {
			return nil, err
		}
		r.Stacks[m.Name] = *s
	}
	for _, name := range refCharts {
		c, err := l.Charts(ctx, name, all, nil)
		if err != nil {
			return nil, err
		}
		r.Charts[name] = *c
	}
	if err := l.moments(ctx, r, lim); err != nil {
		return nil, err
	}
	return r, l.spaces(ctx, r, mostSpaces*lim.Context/100)
}

// spaces adds the address space of the first process at n steps evenly spaced over its life.
func (l *Log) spaces(ctx context.Context, r *Report, n int) error {
	r.Spaces = []Maps{}
	lives, err := l.t.Lives(ctx)
	if err != nil || len(lives) == 0 {
		return err
	}
	first, last := uint64(lives[0].First), uint64(lives[0].Last)
	n = min(n, mostSpaces, int(last-first)+1)
	var before uint64
	for i := range n {
		at := first + (last-first)*uint64(i)/uint64(max(n-1, 1))
		if i > 0 && at == before {
			continue
		}
		before = at
		m, err := l.Maps(format.Step(at), lives[0].PID, spaceCells)
		if err != nil && !gone(err) {
			return err
		}
		if err == nil {
			r.Spaces = append(r.Spaces, *m)
		}
	}
	return nil
}

// moments adds the steps of the findings, the peak and the end.
func (l *Log) moments(ctx context.Context, r *Report, lim Limits) error {
	by := map[uint64]*Moment{}
	add := func(step uint64, pid uint32, why string) {
		m := by[step]
		if m == nil {
			m = &Moment{Step: step, PID: pid, Mem: []Mem{}}
			by[step] = m
		}
		m.Why = append(m.Why, why)
		m.PID = cmp.Or(m.PID, pid)
	}
	for i := range r.Findings.Rows {
		if f := &r.Findings.Rows[i]; f.Step != nil {
			pid := uint32(0)
			if f.PID != nil {
				pid = *f.PID
			}
			add(*f.Step, pid, f.ID)
		}
	}
	lives, err := l.t.Lives(ctx)
	if err != nil {
		return err
	}
	if len(lives) > 0 {
		end, err := l.t.LastWhole(ctx, 0)
		if err != nil {
			return err
		}
		near := func(step uint64) bool { // the same is around it
			for at := range by {
				if at != step && max(at, step)-min(at, step) <= uint64(lim.Context/4) {
					return true
				}
			}
			return false
		}
		if !near(uint64(end)) {
			add(uint64(end), lives[0].PID, "end")
		}
		if peak := uint64(lives[0].PeakStep); !near(peak) {
			add(peak, lives[0].PID, "peak")
		}
	}
	for _, step := range slices.Sorted(maps.Keys(by))[:min(len(by), mostMoments)] {
		m := by[step]
		if err := l.moment(ctx, m, lim, r.Findings.Rows); err != nil {
			return err
		}
		r.Moments = append(r.Moments, *m)
	}
	return nil
}

func (l *Log) moment(ctx context.Context, m *Moment, lim Limits, findings []Finding) (err error) {
	at := format.Step(m.Step)
	if m.Events, err = l.Events(ctx, at, lim.Context, lim.Context, "", 0); err != nil {
		return err
	}
	// A process that has gone has neither mappings nor threads: the page says so.
	if m.Maps, err = l.Maps(at, m.PID, 128); err != nil && !gone(err) {
		return err
	}
	if m.Threads, err = l.Threads(ctx, at, m.PID); err != nil && !gone(err) {
		return err
	}
	if !lim.Memory {
		return nil
	}
	for i := range findings {
		for _, a := range findings[i].Actions {
			if a.Do == "history" && slices.Contains(m.Why, findings[i].ID) {
				if err := l.origin(ctx, m, a); err != nil {
					return err
				}
			}
		}
	}
	if x, err := l.Mem(at, m.PID, "rsp", 512); err == nil { // the stack, of a process that has registers
		m.Mem = append(m.Mem, *x)
	}
	return nil
}

// origin adds where a pointer came from.
func (l *Log) origin(ctx context.Context, m *Moment, a Action) error {
	h := &History{Addr: a.Addr, Len: a.Len, Eras: []Era{}}
	err := l.History(ctx, m.PID, a.Addr, a.Len, nil, func(e *Era) error {
		h.Eras = append(h.Eras, *e)
		return nil
	})
	if err != nil {
		return err
	}
	m.History = h
	n, err := replay.ParseNumber(a.Addr)
	if err != nil {
		return err
	}
	x, err := l.Mem(format.Step(m.Step), m.PID, hexAddr(addr.Addr(n)&^15-128), 512)
	if err == nil {
		m.Mem = append(m.Mem, *x)
	}
	return err
}

func gone(err error) bool {
	return errors.Is(err, replay.ErrNoProcess) || errors.Is(err, replay.ErrUnknown) || errors.Is(err, ErrGone)
}
