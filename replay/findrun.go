package replay

import (
	"memtrace/format/addr"
)

// run is places that are told of together.
type run struct {
	first, last addr.Addr
	count       uint64
	stride      uint64 // 0: one place, or unevenly spaced
	text        *pageText
}

const (
	// maxStride is how far apart places of a run are at most.
	maxStride = addr.PageSize
	// nearGap is how much lies between two places of a run that are not evenly spaced at
	// most, in bytes: four lines of hexdump.
	nearGap = 64
	// evenRun is how many evenly spaced places are a run that no others join.
	evenRun = 16
	// fewPlaces that are unevenly spaced are told one by one.
	fewPlaces = 4
)

// gatherer makes runs of places that come in ascending order: of those that are evenly
// spaced, and of many that are near each other.
type gatherer struct {
	near   uint64 // how far apart places of a run are that are not evenly spaced
	r      run
	uneven bool
	few    [fewPlaces]run // the first places, one by one
	yield  func(run) error
}

// add adds a place of a page with a text.
func (g *gatherer) add(a addr.Addr, text *pageText) error {
	r := &g.r
	d := uint64(a - r.last)
	switch {
	case r.count == 0:
		r.first, r.text = a, text
	case r.count == 1 && d <= maxStride, r.count > 1 && !g.uneven && d == r.stride:
		r.stride = d
	case r.count == 2 && !g.uneven && r.stride > g.near: // two alone are no run
		two := g.few[1]
		if err := g.yield(g.few[0]); err != nil {
			return err
		}
		*r, g.few[0] = two, two
		return g.add(a, text)
	case d <= g.near && (g.uneven || r.count < evenRun && r.stride <= g.near):
		g.uneven = true
	default:
		if err := g.flush(); err != nil {
			return err
		}
		return g.add(a, text)
	}
	if r.count < fewPlaces {
		g.few[r.count] = run{first: a, last: a, count: 1, text: text}
	}
	r.count++
	r.last = a
	return nil
}

// flush yields what was gathered.
func (g *gatherer) flush() error {
	r := g.r
	single := r.count > 1 && r.count < fewPlaces && (g.uneven || r.count == 2 && r.stride > g.near)
	if g.uneven || r.count == 1 {
		r.stride = 0
	}
	g.r, g.uneven = run{}, false
	if r.count == 0 {
		return nil
	}
	if !single {
		return g.yield(r)
	}
	for _, p := range g.few[:r.count] {
		if err := g.yield(p); err != nil {
			return err
		}
	}
	return nil
}
