package analyze

import (
	"context"
	"fmt"

	"memtrace/analyze/refs"
	"memtrace/replay"
)

// MemoryCurveReport is how many references miss in an LRU memory of each size.
type MemoryCurveReport struct {
	Rows []CurveRow
	scan *refScan
	c    *refs.Curve
}

// CurveRow is a size of memory.
type CurveRow struct {
	Memory  uint64   `col:"memory,MEMORY,bytes"`
	Pages   uint64   `col:"pages,PAGES"`
	Low     uint64   `col:"at_least,AT LEAST"` // misses, cold ones apart
	Plain   uint64   `col:"recorded,RECORDED"` // in the recorded references alone
	High    uint64   `col:"at_most,AT MOST"`
	Second  *float64 `col:"per_second,A SECOND"` // recorded, of the program's own time
	Optimum *uint64  `col:"optimum,OPTIMUM"`     // Belady's, of the recorded references
}

const curveSizes = 16

// MemoryCurve tells how many references miss at each size of memory.
func MemoryCurve(ctx context.Context, t *replay.Trace, o Options) (*MemoryCurveReport, error) {
	r, ids, err := curve(ctx, t, o, true)
	if err != nil || r.scan == nil {
		return r, err
	}
	var opt *refs.Optimum
	if ids != nil {
		opt = refs.NewOptimum(ids, r.scan.depths.Pages())
	}
	for _, m := range r.at(curveSizes) {
		row := CurveRow{
			Memory: r.scan.bytes(m.Pages), Pages: m.Pages, Low: m.Low, Plain: m.Plain, High: m.High, Second: perSecond(m.Plain, r.scan.clock),
		}
		if opt != nil {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n := opt.Misses(int(m.Pages))
			n -= min(n, uint64(r.scan.depths.Pages()))
			row.Optimum = &n
		}
		r.Rows = append(r.Rows, row)
	}
	return r, nil
}

// curve counts the depths of the range; ids are the pages in their order, if they are
// few enough and all of the log was asked for.
func curve(ctx context.Context, t *replay.Trace, o Options, wantIDs bool) (r *MemoryCurveReport, ids []uint32, err error) {
	r = &MemoryCurveReport{c: new(refs.Curve)}
	wantIDs = wantIDs && o.From == 0 && t.Info().Refs <= mostOptimum
	r.scan, err = scanRefs(ctx, t, o, func(_ *refScan, x *scanned) {
		if x.Phase == nil && x.in {
			r.c.Add(x.Depth)
			if wantIDs {
				ids = append(ids, x.Depth.Page)
			}
		}
	})
	return r, ids, err
}

// at are n sizes from that on from which the bounds hold.
func (r *MemoryCurveReport) at(n int) []refs.Misses {
	return r.c.At(refs.Sizes(r.scan.proven(), max(r.c.Fits(), r.scan.proven()), n))
}

// Sheet lays the report out.
func (r *MemoryCurveReport) Sheet() *Sheet {
	s := sheet("memory-curve", r.Rows)
	s.Title = "Misses at each size of memory (LRU), first references of pages apart"
	if r.scan == nil {
		return noRefs(s)
	}
	c, scan := r.c, r.scan
	proven, exact := scan.proven(), max(c.Exact(), scan.proven())
	s.Notes = append(s.Notes,
		fmt.Sprintf("%d recorded references in %s of the program's own time; %d first references of pages (%s) miss at any size",
			c.Refs, Span(scan.clock), c.Cold, Size(scan.bytes(c.Cold))),
		fmt.Sprintf("the truth is between AT LEAST and AT MOST from %s on, the most that was open in a phase; below that nothing is known", Size(scan.bytes(proven))),
		fmt.Sprintf("exact from %s on; no more misses from %s on", Size(scan.bytes(exact)), Size(scan.bytes(max(c.Fits(), proven)))))
	s.Notes = append(s.Notes, "there is no miss ratio: hits of pages that were open are not counted")
	s.Notes = append(s.Notes, scan.notes()...)
	return s
}

// memoryCurveCharts are the curve and its bounds.
func memoryCurveCharts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	r, _, err := curve(ctx, t, o, false)
	if err != nil {
		return nil, err
	}
	if r.scan == nil {
		return nil, fmt.Errorf("%s", replay.NoRefs)
	}
	band := Band{Name: "bounds"}
	plain := Line{Name: "recorded"}
	for _, m := range r.at(300) {
		x := float64(r.scan.bytes(m.Pages))
		band.Low = append(band.Low, Point{T: x, V: float64(m.Low)})
		band.High = append(band.High, Point{T: x, V: float64(m.High)})
		plain.Points = append(plain.Points, Point{T: x, V: float64(m.Plain)})
	}
	return []Chart{{
		Title: "Misses at each size of memory", X: AxisMemory, Y: "misses, first references apart", Lines: []Line{plain}, Bands: []Band{band},
	}}, nil
}
