package analyze

import (
	"context"
	"fmt"
	"time"

	"memtrace/analyze/refs"
	"memtrace/replay"
)

// WorkingSetReport is how much was used in windows of time.
type WorkingSetReport struct {
	Rows []WorkingSetRow
	scan *refScan
	sets []*workingSet
}

// WorkingSetRow is a length of window.
type WorkingSetRow struct {
	Tau      uint64 `col:"tau,WINDOW,ns"`
	MeanLow  uint64 `col:"mean_at_least,MEAN AT LEAST,bytes"`
	MeanHigh uint64 `col:"mean_at_most,MEAN AT MOST,bytes"`
	PeakLow  uint64 `col:"peak_at_least,PEAK AT LEAST,bytes"`
	PeakHigh uint64 `col:"peak_at_most,PEAK AT MOST,bytes"`
}

// DefaultTau are the windows if none are asked for.
var DefaultTau = []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second}

// workingSet is the two bounds for a window.
type workingSet struct {
	low, high         refs.Window
	lowOver, highOver bins // pages times ns
}

// spreadInto puts a stretch of time into bins.
func spreadInto(b *bins) func(from, to uint64, pages int) {
	return func(from, to uint64, pages int) {
		for from < to {
			if b.width == 0 {
				b.add(from, [3]uint64{})
			}
			end := min(to, (from/b.width+1)*b.width)
			b.add(from, [3]uint64{uint64(pages) * (end - from), end - from})
			from = end
		}
	}
}

// WorkingSet tells how much memory is used in the options' windows.
func WorkingSet(ctx context.Context, t *replay.Trace, o Options) (*WorkingSetReport, error) {
	if len(o.Tau) == 0 {
		o.Tau = DefaultTau
	}
	r := &WorkingSetReport{}
	for _, tau := range o.Tau {
		w := &workingSet{low: refs.Window{Tau: uint64(tau)}, high: refs.Window{Tau: uint64(tau)}}
		w.low.Step, w.high.Step = spreadInto(&w.lowOver), spreadInto(&w.highOver)
		r.sets = append(r.sets, w)
	}
	open := map[uint32][]uint32{} // pages that are open, by address space
	now := func(s *refScan) {
		for _, w := range r.sets {
			w.low.Advance(s.clock)
			w.high.Advance(s.clock)
		}
	}
	var err error
	r.scan, err = scanRefs(ctx, t, o, func(s *refScan, x *scanned) {
		if !x.in {
			return
		}
		now(s)
		for _, mm := range x.Ended() {
			for _, p := range open[mm] {
				for _, w := range r.sets {
					w.high.Leave(p)
				}
			}
			delete(open, mm)
		}
		if x.Phase == nil {
			for _, w := range r.sets {
				w.low.Use(x.Depth.Page, false)
				w.high.Use(x.Depth.Page, true)
			}
			open[x.MM] = append(open[x.MM], x.Depth.Page)
			return
		}
		held := map[uint32]bool{}
		for _, a := range x.Phase.HeldPages {
			if p, ok := s.depths.Known(x.Phase.MM, s.page(a)); ok {
				held[p] = true
			}
		}
		var still []uint32
		for _, p := range open[x.Phase.MM] {
			if held[p] {
				still = append(still, p)
				delete(held, p)
				continue
			}
			for _, w := range r.sets {
				w.high.Leave(p)
			}
		}
		for p := range held { // open for a call
			for _, w := range r.sets {
				w.high.Use(p, true)
			}
			still = append(still, p)
		}
		open[x.Phase.MM] = still
	})
	if err != nil || r.scan == nil {
		return r, err
	}
	now(r.scan)
	for _, w := range r.sets {
		r.Rows = append(r.Rows, WorkingSetRow{
			Tau: w.low.Tau, MeanLow: uint64(w.low.Mean(0) * float64(r.scan.unit)), MeanHigh: uint64(w.high.Mean(0) * float64(r.scan.unit)),
			PeakLow: r.scan.bytes(uint64(w.low.Max)), PeakHigh: r.scan.bytes(uint64(w.high.Max)),
		})
	}
	return r, nil
}

// Sheet lays the report out.
func (r *WorkingSetReport) Sheet() *Sheet {
	s := sheet("working-set", r.Rows)
	s.Title = "Memory that was used within a window of the program's own time"
	if r.scan == nil {
		return noRefs(s)
	}
	s.Notes = append(s.Notes,
		fmt.Sprintf("over %s; at least: references that were recorded; at most: all pages that were open and so may have been referenced", Span(r.scan.clock)))
	s.Notes = append(s.Notes, r.scan.notes()...)
	return s
}

// workingSetCharts are the working sets over time.
func workingSetCharts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	r, err := WorkingSet(ctx, t, o)
	if err != nil {
		return nil, err
	}
	if r.scan == nil {
		return nil, fmt.Errorf("%s", replay.NoRefs)
	}
	c := Chart{Title: "Working set", X: AxisProgramTime, Y: AxisBytes}
	series := func(b *bins) (ps []Point) {
		for i, x := range b.sums {
			if x[1] > 0 {
				ps = append(ps, Point{T: (float64(i) + 0.5) * float64(b.width) / 1e9, V: float64(x[0]) / float64(x[1]) * float64(r.scan.unit)})
			}
		}
		return ps
	}
	for _, w := range r.sets {
		c.Bands = append(c.Bands, Band{Name: "within " + Span(w.low.Tau), Low: series(&w.lowOver), High: series(&w.highOver)})
	}
	return []Chart{c}, nil
}
