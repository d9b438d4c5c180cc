package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/replay"
)

// LeakSite is a call site and what it has of a leak: memory that it got after the program's
// start and that was there at the end.
type LeakSite struct {
	Bytes int64       `col:"bytes,BYTES,bytes"`
	Share float64     `col:"share,SHARE,percent"`
	Calls uint64      `col:"calls,CALLS"` // after the start
	Last  format.Step `col:"last,LAST"`
	Site  string      `col:"site,SITE,cut=begin,least=36"`
	Via   string      `col:"via,VIA,max=16,drop=1"`

	caller string // of the site, "" if that is not known, or if several called it
}

// shownSites is how many sites of a leak a table has.
const shownSites = 5

// leakSites are the sites of a leak of a program, the one that has most first: of what came in
// the time that was judged and was there at its end.
func leakSites(ctx context.Context, t *replay.Trace, o Options, of span) ([]LeakSite, error) {
	o.PID, o.By = of.pid, ""
	to, err := t.StepAt(of.to)
	if err != nil {
		return nil, err
	}
	o.To = min(o.To, to)
	b, err := keep(ctx, t, o, max(of.from, 1), nil)
	if err != nil {
		return nil, err
	}
	var list []LeakSite
	var sum int64
	callers := map[int]string{}
	for s, i := range b.bySite {
		callers[i] = s.caller
	}
	for i, h := range b.list {
		if n := h.lateLive + h.lateLeft; n > 0 {
			list = append(list, LeakSite{Bytes: n, Calls: h.lateCalls, Last: h.last, Site: h.name, Via: h.via, caller: callers[i]})
			sum += n
		}
	}
	for i := range list {
		list[i].Share = percent(uint64(list[i].Bytes), uint64(sum))
	}
	slices.SortStableFunc(list, func(a, b LeakSite) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Site, b.Site)) })
	return list, nil
}

// sited adds to a verdict who made the memory grow.
func (v *Verdict) sited(list []LeakSite) {
	if len(list) == 0 {
		return
	}
	top := &list[0]
	by := ""
	if top.Via != "" {
		by = " (by " + top.Via + ")"
	}
	v.Site, v.SiteShare = &top.Site, &top.Share
	v.Text += fmt.Sprintf(" %.0f %% of what came after the start and stayed is from %s%s, in %s.", top.Share, replay.Escape(top.Site), replay.Escape(by),
		plural(top.Calls, "call", "calls"))
}

// sitesSheet is the table of a leak's sites.
func sitesSheet(list []LeakSite) *Sheet {
	s := sheet("sites", list)
	s.Title = "Who got what stayed, after the start"
	s.screen = func(s *Sheet) []string {
		if len(list) < 2 {
			return nil // the verdict says it
		}
		c := *s
		c.screen = nil
		return c.lines(shownSites)
	}
	return s
}
