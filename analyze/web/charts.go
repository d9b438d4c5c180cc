package web

import (
	"context"
	"fmt"
	"math"
	"slices"

	"memtrace/analyze"
	"memtrace/replay"
)

// refCharts are the drawings that take page references.
var refCharts = []string{"memory-curve", "what-if", "working-set", "hot", "phases"}

// Charts are the drawings of a report.
func (l *Log) Charts(ctx context.Context, name string, q Query, progress func(float64)) (*Charts, error) {
	r, err := report(name)
	if err != nil {
		return nil, err
	}
	if !r.CanPlot() {
		return nil, fmt.Errorf("%s is not drawn", name)
	}
	out := &Charts{Name: name, Charts: []Chart{}}
	if slices.Contains(refCharts, name) && !l.t.HasRefs() {
		out.Why = replay.NoRefs
		return out, nil
	}
	v, err := l.once(ctx, key("charts "+name, q), progress, func(ctx context.Context, progress func(float64)) (any, error) {
		o := l.options(q)
		o.Progress = passes(l.t, progress)
		return r.Charts(ctx, l.t, o)
	})
	if err != nil {
		return nil, err
	}
	for _, c := range v.([]analyze.Chart) {
		out.Charts = append(out.Charts, chart(&c))
	}
	return out, nil
}

func chart(c *analyze.Chart) Chart {
	x := Chart{Title: shown(c.Title), X: string(c.X), Y: string(c.Y), Lines: []Line{}, Stack: []Line{}, Bands: []Band{}, Marks: []ChartMark{}}
	if c.X == analyze.AxisTime {
		x.X = "time"
	}
	if c.Y == analyze.AxisBytes {
		x.Y = "bytes"
	}
	for i := range c.Lines {
		x.Lines = append(x.Lines, chartLine(&c.Lines[i]))
	}
	for i := range c.Stack {
		x.Stack = append(x.Stack, chartLine(&c.Stack[i]))
	}
	for i := range c.Bands {
		b := &c.Bands[i]
		low, high := chartLine(&analyze.Line{Points: b.Low}), chartLine(&analyze.Line{Points: b.High})
		x.Bands = append(x.Bands, Band{Name: shown(b.Name), X: low.X, Low: low.Y, High: high.Y})
	}
	for _, m := range c.Marks {
		x.Marks = append(x.Marks, ChartMark{X: m.T, Name: shown(m.Name), Grave: m.Grave})
	}
	if h := c.Heat; h != nil {
		x.Heat = &Heat{Cells: h.Cells, Width: h.Width, Labels: []HeatLabel{}, Cuts: h.Cuts}
		for _, b := range h.Labels {
			x.Heat.Labels = append(x.Heat.Labels, HeatLabel{Row: b.Row, Name: shown(b.Name)})
		}
	}
	return x
}

func chartLine(l *analyze.Line) Line {
	x := Line{Name: shown(l.Name), X: make([]float64, 0, len(l.Points)), Y: make([]float64, 0, len(l.Points)), Dashed: l.Dashed}
	for _, p := range l.Points {
		if !math.IsNaN(p.V) && !math.IsInf(p.V, 0) { // else there is nothing, and JSON has no number for it
			x.X, x.Y = append(x.X, p.T), append(x.Y, p.V)
		}
	}
	return x
}
