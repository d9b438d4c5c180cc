package analyze

import (
	"context"
	"fmt"
	"time"

	"memtrace/analyze/refs"
	"memtrace/replay"
)

// WhatIfReport is what would happen with so much memory.
type WhatIfReport struct {
	Memory    uint64   `item:"memory,bytes"`
	Pages     uint64   `item:"pages"`
	Low       uint64   `item:"faults at least"`
	Plain     uint64   `item:"faults recorded"` // as the recorded references alone have it
	High      uint64   `item:"faults at most"`
	Optimum   *uint64  `item:"faults at the optimum"`
	Cold      uint64   `item:"first references"`
	Time      uint64   `item:"program time,ns"`
	Second    *float64 `item:"faults a second,omit"`
	Cost      uint64   `item:"cost of a fault,ns"`
	SlowLow   *float64 `item:"slowdown at least,omit"`
	SlowHigh  *float64 `item:"slowdown at most,omit"`
	Proven    uint64   `item:"bounds hold from,bytes"`
	Fits      uint64   `item:"no faults from,bytes"`
	Over      []FaultTimeRow
	Mappings  []FaultRow
	Functions []FaultRow
	scan      *refScan
}

// FaultTimeRow is a stretch of the program's own time.
type FaultTimeRow struct {
	Begin uint64  `col:"begin,FROM,ns"`
	End   uint64  `col:"end,TO,ns"`
	Low   float64 `col:"at_least,AT LEAST/S"` // faults a second
	Plain float64 `col:"recorded,RECORDED/S"`
	High  float64 `col:"at_most,AT MOST/S"`
}

// FaultRow is a mapping or a function that faults.
type FaultRow struct {
	Low   uint64  `col:"at_least,AT LEAST"`
	Plain uint64  `col:"recorded,RECORDED"`
	High  uint64  `col:"at_most,AT MOST"`
	Share float64 `col:"share,SHARE,percent"`
	Pages uint64  `col:"pages,PAGES"`
	Name  string  `col:"name,NAME,cut=end"`
}

// What what-if takes if nothing is said.
const (
	DefaultMemory    = 64 << 20
	DefaultFaultCost = 100 * time.Microsecond
)

const (
	faultRows = 10
	faultBins = 20
)

// WhatIf tells what would happen with the options' memory.
func WhatIf(ctx context.Context, t *replay.Trace, o Options) (*WhatIfReport, error) {
	r, _, err := whatIf(ctx, t, o)
	return r, err
}

func whatIf(ctx context.Context, t *replay.Trace, o Options) (*WhatIfReport, *bins, error) {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.FaultCost == 0 {
		o.FaultCost = DefaultFaultCost
	}
	r := &WhatIfReport{Memory: o.Memory, Cost: uint64(o.FaultCost)}
	var c refs.Curve
	var over bins
	var ids []uint32
	wantIDs := o.From == 0 && t.Info().Refs <= mostOptimum
	mappings, functions := faultsBy{}, faultsBy{}
	names := t.CodeNames()
	scan, err := scanRefs(ctx, t, o, func(s *refScan, x *scanned) {
		if x.Phase != nil || !x.in {
			return
		}
		c.Add(x.Depth)
		if wantIDs {
			ids = append(ids, x.Depth.Page)
		}
		pages := max(o.Memory/s.unit, 1)
		if x.Cold || uint64(x.High) < pages {
			return
		}
		v := [3]uint64{0, 0, 1}
		if uint64(x.Plain) >= pages {
			v[1] = 1
		}
		if uint64(x.Low) >= pages {
			v[0] = 1
		}
		over.add(s.clock, v)
		for _, n := range []*faultCount{mappings.of(mappingOf(x)), functions.of(codeOf(names, x))} {
			n.low, n.plain, n.high = n.low+v[0], n.plain+v[1], n.high+v[2]
			n.pages[uint64(x.Depth.Page)] = struct{}{}
		}
	})
	if err != nil || scan == nil {
		return r, nil, err
	}
	r.scan = scan
	r.Pages = max(o.Memory/scan.unit, 1)
	m := c.At([]uint64{r.Pages})[0]
	r.Low, r.Plain, r.High, r.Cold, r.Time = m.Low, m.Plain, m.High, c.Cold, scan.clock
	r.Second = perSecond(r.Plain, r.Time)
	r.Proven, r.Fits = scan.bytes(scan.proven()), scan.bytes(max(c.Fits(), scan.proven()))
	if r.Time > 0 {
		slow := func(n uint64) *float64 { f := 1 + float64(n)*float64(r.Cost)/float64(r.Time); return &f }
		r.SlowLow, r.SlowHigh = slow(r.Low), slow(r.High)
	}
	if ids != nil {
		n := refs.NewOptimum(ids, scan.depths.Pages()).Misses(int(min(r.Pages, 1<<31)))
		n -= min(n, c.Cold)
		r.Optimum = &n
	}
	r.Over = over.rows(scan.clock, faultBins)
	for _, k := range []struct {
		t   faultsBy
		out *[]FaultRow
	}{{mappings, &r.Mappings}, {functions, &r.Functions}} {
		for i, n := range k.t.sorted(func(c *faultCount) uint64 { return c.plain<<20 + c.high }) {
			if i == faultRows && o.Top >= 0 {
				break
			}
			*k.out = append(*k.out, FaultRow{n.low, n.plain, n.high, percent(n.plain, r.Plain), uint64(len(n.pages)), n.name})
		}
	}
	return r, &over, nil
}

// rows are at most n stretches of time up to end.
func (b *bins) rows(end uint64, n int) (rows []FaultTimeRow) {
	if len(b.sums) == 0 {
		return nil
	}
	all := max((end+b.width-1)/b.width, uint64(len(b.sums)))
	step := (all + uint64(n) - 1) / uint64(n)
	for i := uint64(0); i < all; i += step {
		var sum [3]uint64
		for k := i; k < min(i+step, uint64(len(b.sums))); k++ {
			for j := range sum {
				sum[j] += b.sums[k][j]
			}
		}
		row := FaultTimeRow{Begin: i * b.width, End: min((i+step)*b.width, max(end, i*b.width+1))}
		secs := float64(row.End-row.Begin) / 1e9
		row.Low, row.Plain, row.High = float64(sum[0])/secs, float64(sum[1])/secs, float64(sum[2])/secs
		rows = append(rows, row)
	}
	return rows
}

// Sheet lays the report out.
func (r *WhatIfReport) Sheet() *Sheet {
	s := items("what-if", r)
	s.Title, s.several = "With "+Size(r.Memory)+" of memory", true
	if r.scan == nil {
		return noRefs(s)
	}
	s.Notes = append(s.Notes, "a fault is a reference that an LRU memory of this size misses; first references of pages are no faults here: they cost the same with any memory")
	switch {
	case r.Memory < r.Proven:
		s.Notes = append(s.Notes, fmt.Sprintf("the bounds do not hold: the program was traced with %s open, and what is less than that is not known. Record with a smaller POOL", Size(r.Proven)))
	case r.Memory >= r.Fits:
		s.Notes = append(s.Notes, fmt.Sprintf("it fits: %s are enough", Size(r.Fits)))
	}
	s.Notes = append(s.Notes, r.scan.notes()...)
	over, by, at := sheet("over time", r.Over), sheet("mappings", r.Mappings), sheet("functions", r.Functions)
	over.Title, by.Title, at.Title = "Faults a second, over the program's own time", "Mappings that fault", "Functions that fault"
	if r.High > 0 {
		s.Parts = append(s.Parts, over, by, at)
	}
	return s
}

// whatIfCharts are the faults over time.
func whatIfCharts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	r, over, err := whatIf(ctx, t, o)
	if err != nil {
		return nil, err
	}
	if r.scan == nil {
		return nil, fmt.Errorf("%s", replay.NoRefs)
	}
	band, plain := Band{Name: "bounds"}, Line{Name: "recorded"}
	for _, row := range over.rows(r.Time, 200) {
		for _, at := range []uint64{row.Begin, row.End} {
			x := float64(at) / 1e9
			band.Low = append(band.Low, Point{T: x, V: row.Low})
			band.High = append(band.High, Point{T: x, V: row.High})
			plain.Points = append(plain.Points, Point{T: x, V: row.Plain})
		}
	}
	return []Chart{{
		Title: "Faults with " + Size(r.Memory) + " of memory", X: AxisProgramTime, Y: "faults a second", Lines: []Line{plain}, Bands: []Band{band},
	}}, nil
}
