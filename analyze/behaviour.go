package analyze

import (
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/replay"
)

// BehaviourReport tells where a program's use of memory changes.
type BehaviourReport struct {
	Rows []BehaviourRow
	scan *refScan
	cuts []uint64 // ns of the program's own time
}

// BehaviourRow is a stretch of time in which the program used much the same memory.
type BehaviourRow struct {
	Begin    uint64      `col:"begin,FROM,ns"`
	End      uint64      `col:"end,TO,ns"`
	Step     format.Step `col:"step,STEP"` // the last before it
	Phases   uint64      `col:"phases,PHASES,drop=2"`
	Refs     uint64      `col:"refs,REFS"`
	Used     uint64      `col:"used,USED,bytes"` // different pages
	New      uint64      `col:"new,NEW,bytes"`   // of these, never used before
	Change   *float64    `col:"change,CHANGE,percent"`
	Mapping  string      `col:"mapping,MOST IN,cut=end,drop=1"`
	Function string      `col:"function,MOST BY,cut=end"`
}

// group is what was referenced in some successive phases of the recording.
type behaviourGroup struct {
	begin, end uint64
	step       format.Step
	phases     uint64
	refs       uint64
	fresh      uint64 // pages that were not used before
	pages      map[uint32]struct{}
	mappings   map[string]uint64
	functions  map[string]uint64
}

func newGroup(begin uint64, step format.Step) *behaviourGroup {
	return &behaviourGroup{begin: begin, step: step, pages: map[uint32]struct{}{}, mappings: map[string]uint64{}, functions: map[string]uint64{}}
}

// join takes a group that follows.
func (g *behaviourGroup) join(next *behaviourGroup) {
	g.end = next.end
	g.phases, g.refs, g.fresh = g.phases+next.phases, g.refs+next.refs, g.fresh+next.fresh
	for p := range next.pages {
		g.pages[p] = struct{}{}
	}
	for k, n := range next.mappings {
		g.mappings[k] += n
	}
	for k, n := range next.functions {
		g.functions[k] += n
	}
}

// distance is how much of what two groups used only one did (Jaccard).
func (g *behaviourGroup) distance(next *behaviourGroup) float64 {
	both := 0
	for p := range g.pages {
		if _, ok := next.pages[p]; ok {
			both++
		}
	}
	all := len(g.pages) + len(next.pages) - both
	if all == 0 {
		return 0
	}
	return 1 - float64(both)/float64(all)
}

const (
	mostGroups = 256 // that are compared
	leastCut   = 0.5 // distance of two groups that behave differently, at least
	mostCuts   = 15
)

// Behaviour tells where the program's use of memory changes, and what it uses in
// between.
func Behaviour(ctx context.Context, t *replay.Trace, o Options) (*BehaviourReport, error) {
	r := &BehaviourReport{}
	var groups []*behaviourGroup
	var cur *behaviourGroup
	each := uint64(1) // phases a group
	names := t.CodeNames()
	var err error
	r.scan, err = scanRefs(ctx, t, o, func(s *refScan, x *scanned) {
		if !x.in {
			return
		}
		if cur == nil {
			cur = newGroup(s.clock, x.Step)
		}
		if x.Phase != nil {
			cur.end = s.clock
			if cur.refs == 0 {
				return
			}
			if cur.phases++; cur.phases < each {
				return
			}
			groups = append(groups, cur)
			cur = newGroup(s.clock, x.Step)
			if len(groups) >= 2*mostGroups {
				half := groups[:0]
				for i := 0; i+1 < len(groups); i += 2 {
					groups[i].join(groups[i+1])
					half = append(half, groups[i])
				}
				groups = half
				each *= 2
			}
			return
		}
		cur.refs++
		if x.Cold {
			cur.fresh++
		}
		cur.pages[x.Depth.Page] = struct{}{}
		cur.mappings[mappingOf(x)]++
		cur.functions[codeOf(names, x)]++
	})
	if err != nil || r.scan == nil {
		return r, err
	}
	if cur != nil && cur.refs > 0 {
		cur.end = r.scan.clock
		groups = append(groups, cur)
	}
	r.split(groups)
	return r, nil
}

// split cuts between groups where they differ most.
func (r *BehaviourReport) split(groups []*behaviourGroup) {
	if len(groups) == 0 {
		return
	}
	dist := make([]float64, len(groups)) // from the one before
	for i := 1; i < len(groups); i++ {
		dist[i] = groups[i-1].distance(groups[i])
	}
	sorted := slices.Sorted(slices.Values(dist[1:]))
	limit := leastCut
	if n := len(sorted); n > 0 {
		// A program that goes through memory differs from phase to phase: what counts is
		// where it differs more than it mostly does.
		limit = max(limit, min(sorted[n/2]+0.25, 0.98))
		if n > mostCuts {
			limit = max(limit, sorted[n-mostCuts])
		}
	}
	at := 0
	for i := 1; i <= len(groups); i++ {
		if i < len(groups) && (dist[i] < limit || dist[i] == 0) {
			continue
		}
		g := groups[at]
		for _, next := range groups[at+1 : i] {
			g.join(next)
		}
		row := BehaviourRow{
			Begin: g.begin, End: g.end, Step: g.step, Phases: g.phases, Refs: g.refs, Used: r.scan.bytes(uint64(len(g.pages))), New: r.scan.bytes(g.fresh),
			Mapping: most(g.mappings), Function: most(g.functions),
		}
		if at > 0 {
			d := 100 * dist[at]
			row.Change = &d
			r.cuts = append(r.cuts, g.begin)
		}
		r.Rows = append(r.Rows, row)
		at = i
	}
}

// most is the name with the most.
func most(of map[string]uint64) (name string) {
	n := uint64(0)
	for k, v := range of {
		if v > n || v == n && k < name {
			name, n = k, v
		}
	}
	return name
}

// Sheet lays the report out.
func (r *BehaviourReport) Sheet() *Sheet {
	s := sheet("phases", r.Rows)
	s.Title = "Where the use of memory changes, in the program's own time"
	if r.scan == nil {
		return noRefs(s)
	}
	s.Notes = append(s.Notes, fmt.Sprintf("of %d phases of the recording; CHANGE: how much of what was used before and after only one of both used", r.scan.phases))
	s.Notes = append(s.Notes, r.scan.notes()...)
	return s
}

// behaviourCharts are the heat map with the cuts.
func behaviourCharts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	r, err := Behaviour(ctx, t, o)
	if err != nil {
		return nil, err
	}
	h, err := heatOf(ctx, t, o, false)
	if err != nil {
		return nil, err
	}
	for _, at := range r.cuts {
		h.Cuts = append(h.Cuts, float64(at)/1e9)
	}
	return []Chart{{Title: "Where the use of memory changes", X: AxisProgramTime, Y: "addresses, without gaps", Heat: h}}, nil
}
