package analyze

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// CallSitesReport is who asked the kernel for memory, and who still has it.
type CallSitesReport struct {
	Rows  []CallSiteRow // those that have most at the end first
	Total CallSiteRow
	// Stacks are those of the first rows, if they were asked for.
	Stacks []SiteStack
	by     string
	what   string
	frees  bool
	stacks bool // asked for
	pools  poolGrowth
	bare   uint64
	notes  []string
}

// CallSiteRow is one call site, in bytes. Committed is private memory that could be
// written to; what was only reserved is in Mapped alone.
type CallSiteRow struct {
	Calls     uint64       `col:"calls,CALLS"`
	Mapped    int64        `col:"mapped,MAPPED,bytes,drop=5"`
	Unmapped  int64        `col:"unmapped,UNMAPPED,bytes,drop=4"`
	Net       int64        `col:"net,NET,bytes,fine"` // Mapped - Unmapped
	Committed int64        `col:"committed,COMMITTED,bytes"`
	Live      int64        `col:"live,LIVE,bytes"` // committed, at the end
	Reserved  int64        `col:"live_mapped,LIVE MAPPED,bytes,fine"`
	Resident  *int64       `col:"resident,RESIDENT,bytes"`            // nil: not known
	LiveShare float64      `col:"live_share,SHARE,percent,drop=6"`    // of what the sites are ranked by
	Peak      int64        `col:"peak,PEAK,bytes"`                    // of Live
	PeakAll   int64        `col:"peak_mapped,PEAK MAPPED,bytes,fine"` // of Reserved
	First     *format.Step `col:"first,FIRST,drop=2"`
	Last      *format.Step `col:"last,LAST,drop=3"`
	Pools     uint64       `col:"pool_growths,POOLS,fine"`
	Site      string       `col:"site,SITE,cut=begin,least=36"`
	Via       string       `col:"via,VIA,max=16,drop=1"`
	FreedBy   string       `col:"freed_by,FREED BY,cut=begin,least=24"` // whose calls took most of Unmapped
}

// SiteStack is a stack of a call site.
type SiteStack struct {
	Calls     uint64 `col:"calls,CALLS"`
	Mapped    int64  `col:"mapped,MAPPED,bytes"`
	Committed int64  `col:"committed,COMMITTED,bytes"`
	Live      int64  `col:"live,LIVE,bytes"`
	Site      string `col:"site,SITE"`
	Stack     string `col:"stack,STACK"` // functions, the innermost first, with " < " between them
	lines     []string
}

// measure is what a row is ranked by.
func (r *CallSiteRow) measure(what string) int64 {
	switch {
	case what == "mapped":
		return r.Reserved
	case what == "resident" && r.Resident != nil:
		return *r.Resident
	}
	return r.Live
}

// poolGrowth is how often an allocator's pool grew, and by how much.
type poolGrowth struct {
	times uint64
	bytes int64
}

// Sheet lays the report out.
func (r *CallSitesReport) Sheet() *Sheet {
	s := sheet("callsites", r.Rows)
	s.Title = "Memory by call site (" + r.by + ")"
	s.Notes = r.notes
	if len(r.Rows) > 0 {
		s.sum(r.Total, "calls", "mapped", "unmapped", "committed", "live", "live_mapped", "resident", "site")
	}
	s.column("via").Fine = r.by == "stack"
	if r.what == "mapped" {
		for _, key := range []string{"committed", "live", "peak"} {
			s.column(key).Fine = true
		}
		s.column("live_mapped").Fine, s.column("peak_mapped").Fine = false, false
	}
	if r.what != "resident" {
		s.drop("resident")
	}
	if r.frees {
		s.column("unmapped").Drop = 0
	} else {
		s.drop("freed_by")
	}
	s.several = r.stacks
	if len(r.Stacks) > 0 {
		s.Parts = append(s.Parts, siteStacksSheet(r.Stacks))
	}
	if r.pools.times > 0 {
		s.Notes = append(s.Notes, r.pools.note())
	}
	if r.bare > 0 {
		s.Notes = append(s.Notes, plural(r.bare, "call that got memory has", "calls that got memory have")+" no stack in the log.")
	}
	return s
}

// note says what a site of a pool's growth means, and how sure shares are.
func (p poolGrowth) note() string {
	return fmt.Sprintf("%s of pools (brk, mprotect) by %s each: the call that found the pool full pays for all that others took since the growth before. "+
		"The shares of sites that grow pools are uncertain by %.0f %% or more: a call that soon gives back can pay for others that keep.",
		plural(p.times, "growth", "growths"), Size(uint64(p.bytes)/p.times), 100/math.Sqrt(float64(p.times)))
}

// keep fills the books with the events of the options' range.
func keep(ctx context.Context, t *replay.Trace, o Options, late uint64, each func(*replay.Moment, *books) error) (*books, error) {
	s, err := t.Before(o.From)
	if err != nil {
		return nil, err
	}
	b := newBooks(t, s, o, nil)
	b.late = late
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		if err := b.see(m); err != nil {
			return nil, err
		}
		if each != nil {
			if err := each(m, b); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// CallSites tells who asked the kernel for memory: for each call site what it mapped, and
// what of it is there at the end.
func CallSites(ctx context.Context, t *replay.Trace, o Options) (*CallSitesReport, error) {
	if err := cmp.Or(o.siteBy(), o.siteWhat()); err != nil {
		return nil, err
	}
	r := &CallSitesReport{by: o.By, what: o.What, frees: o.Frees, stacks: o.Stacks > 0}
	if no := NoStacks(t); no != "" {
		r.notes = []string{no}
		return r, nil
	}
	b, err := keep(ctx, t, o, 0, nil)
	if err != nil {
		return nil, err
	}
	for mm, s := range b.spaces {
		b.settle(mm, s)
	}
	r.pools, r.bare = poolGrowth{b.pools, b.pooled}, b.bare
	if b.pages {
		r.notes = append(r.notes, residentNote(b.imaged))
	}
	r.rows(b)
	if o.Stacks > 0 {
		r.Stacks, err = siteStacks(ctx, t, o, r.Rows)
	}
	return r, err
}

// residentNote says what RESIDENT is.
func residentNote(known bool) string {
	if !known {
		return "The log has no snapshot: what was resident is not known."
	}
	return "RESIDENT is what the last snapshot of each process found data in: at least so much, if it left something out."
}

// rows makes the rows of the books.
func (r *CallSitesReport) rows(b *books) {
	r.Total = CallSiteRow{Site: "total"}
	if b.imaged {
		r.Total.Resident = new(int64)
	}
	for _, h := range b.list {
		row := CallSiteRow{
			Calls: h.calls, Mapped: h.mapped, Unmapped: h.unmapped, Net: h.mapped - h.unmapped, Committed: h.committed, Live: h.live + h.left,
			Peak: h.peak, Reserved: h.liveMapped + h.leftover, PeakAll: h.peakMapped, Pools: h.pools, Site: h.name, Via: h.via, FreedBy: b.freer(h),
		}
		if h.seen {
			row.First, row.Last = &h.first, &h.last
		}
		if row.Mapped == 0 && row.Committed == 0 {
			continue // it only gave back
		}
		if b.imaged {
			row.Resident = &h.resident
			*r.Total.Resident += h.resident
		}
		r.Rows = append(r.Rows, row)
		r.Total.Calls += row.Calls
		r.Total.Mapped += row.Mapped
		r.Total.Unmapped += row.Unmapped
		r.Total.Committed += row.Committed
		r.Total.Live += row.Live
		r.Total.Reserved += row.Reserved
	}
	for i := range r.Rows {
		r.Rows[i].LiveShare = percent(uint64(max(r.Rows[i].measure(r.what), 0)), uint64(max(r.Total.measure(r.what), 0)))
	}
	slices.SortStableFunc(r.Rows, func(a, b CallSiteRow) int {
		return cmp.Or(cmp.Compare(b.measure(r.what), a.measure(r.what)), cmp.Compare(b.Live, a.Live), cmp.Compare(b.Committed, a.Committed),
			cmp.Compare(b.Mapped, a.Mapped), cmp.Compare(a.Site, b.Site))
	})
}

// freer is who gave back most of what an owner lost, and how much of it.
func (b *books) freer(h *holding) string {
	most, sum := -1, int64(0)
	for i, n := range h.freed {
		sum += n
		if most < 0 || n > h.freed[most] || n == h.freed[most] && i < most {
			most = i
		}
	}
	switch {
	case most < 0:
		return ""
	case h.freed[most] == sum:
		return b.list[most].name
	}
	return fmt.Sprintf("%s (%.0f %%)", b.list[most].name, percent(uint64(h.freed[most]), uint64(sum)))
}

// shownSiteRows is how many sites have their stacks shown, if Top does not say.
const shownSiteRows = 20

// siteStacks are the stacks of the first rows: of each site o.Stacks, those that have most
// at the end first.
func siteStacks(ctx context.Context, t *replay.Trace, o Options, rows []CallSiteRow) ([]SiteStack, error) {
	uses, err := StackUses(ctx, t, o, nil)
	if err != nil {
		return nil, err
	}
	names := newSiteNamer(t, o)
	of := map[string]map[format.StackNode]*SiteStack{}
	for _, u := range uses {
		if u.Node == 0 || u.Mapped == 0 && u.Committed == 0 {
			continue
		}
		s, err := names.find(u.Node)
		if err != nil {
			return nil, err
		}
		if of[s.name] == nil {
			of[s.name] = map[format.StackNode]*SiteStack{}
		}
		x := of[s.name][u.Node]
		if x == nil {
			x = &SiteStack{Site: s.name}
			of[s.name][u.Node] = x
		}
		x.Calls += u.Calls
		x.Mapped += u.Mapped
		x.Committed += u.Committed
		x.Live += u.Live
	}
	if top := cmp.Or(o.Top, shownSiteRows); top > 0 {
		rows = rows[:min(len(rows), top)]
	}
	var list []SiteStack
	for i := range rows {
		stacks := of[rows[i].Site]
		nodes := slices.SortedFunc(maps.Keys(stacks), func(a, b format.StackNode) int {
			x, y := stacks[a], stacks[b]
			return cmp.Or(cmp.Compare(y.Live, x.Live), cmp.Compare(y.Committed, x.Committed), cmp.Compare(y.Mapped, x.Mapped), cmp.Compare(a, b))
		})
		for _, n := range nodes[:min(len(nodes), o.Stacks)] {
			x := stacks[n]
			stack, err := t.Stack(n, true)
			if err != nil {
				return nil, err
			}
			var names []string
			for _, s := range steps(stack) {
				names, x.lines = append(names, s.called()), append(x.lines, s.String())
			}
			if end := stack.EndText(); end != "" {
				names, x.lines = append(names, "..."), append(x.lines, "... "+end)
			}
			x.Stack = strings.Join(names, " < ")
			list = append(list, *x)
		}
	}
	return list, nil
}

// siteStacksSheet lays the stacks of sites out: a person sees a line for each function.
func siteStacksSheet(list []SiteStack) *Sheet {
	s := sheet("stacks", list)
	s.Title = "Stacks"
	s.screen = func(*Sheet) []string {
		var out []string
		for i := range list {
			x := &list[i]
			out = append(out, "", fmt.Sprintf("%s live, %s committed, in %s from %s:", Size(uint64(max(x.Live, 0))), Size(uint64(x.Committed)), plural(x.Calls, "call", "calls"), replay.Escape(x.Site)))
			for _, l := range x.lines {
				out = append(out, "  "+replay.Escape(l))
			}
		}
		return out[min(1, len(out)):]
	}
	return s
}
