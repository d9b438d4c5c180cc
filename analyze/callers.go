package analyze

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// runSyscalls counts calls by name, or by name and call site.
func runSyscalls(ctx context.Context, t *replay.Trace, o Options) (Value, error) {
	if o.By == "" {
		return Syscalls(ctx, t, o)
	}
	return Callers(ctx, t, o)
}

// CallersReport counts system calls by name and by who made them.
type CallersReport struct {
	Rows  []CallerRow // those that took longest first
	Total CallerRow
	by    string
	notes []string
}

// CallerRow is one call from one site.
type CallerRow struct {
	Name        string       `col:"name,CALL"`
	Arch        arch.ID      `col:"arch,ARCH,fine"`
	Calls       uint64       `col:"calls,CALLS"`
	Errors      uint64       `col:"errors,ERRORS,drop=4"`
	Time        uint64       `col:"time,TIME,ns"`
	Share       float64      `col:"share,SHARE,percent,drop=5"`
	Mean        uint64       `col:"mean,MEAN,ns,drop=3"`
	Longest     uint64       `col:"longest,LONGEST,ns,drop=2"`
	LongestStep *format.Step `col:"longest_step,AT STEP,drop=1"`
	Site        string       `col:"site,SITE,cut=begin,least=36"`
}

// Sheet lays the report out.
func (r *CallersReport) Sheet() *Sheet {
	s := sheet("syscalls", r.Rows)
	s.Title = "System calls by call site (" + r.by + ")"
	s.Notes = r.notes
	if len(r.Rows) > 0 {
		s.sum(r.Total, "name", "calls", "errors", "time")
	}
	return s
}

// Callers counts system calls by name and call site: the innermost function that is
// neither libc's nor an allocator's. Calls without a stack count too.
func Callers(ctx context.Context, t *replay.Trace, o Options) (*CallersReport, error) {
	if err := o.siteBy(); err != nil {
		return nil, err
	}
	r := &CallersReport{by: o.By}
	if no := NoStacks(t); no != "" {
		r.notes = []string{no}
		return r, nil
	}
	type key struct {
		callKey
		site string
	}
	by := map[key]*callCount{}
	var all callCount
	names := newSiteNamer(t, o)
	names.libc = true
	bare := uint64(0)
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		s, ok := m.Event.Record.(*format.Syscall)
		if !ok || !o.mine(m) {
			continue
		}
		k := key{callKey{s.Arch, s.Nr}, bareSite}
		if m.Event.Stack != 0 {
			at, err := names.find(m.Event.Stack)
			if err != nil {
				return nil, err
			}
			k.site = at.name
		} else {
			bare++
		}
		c := by[k]
		if c == nil {
			c = &callCount{}
			by[k] = c
		}
		c.add(m.Event, s)
		all.add(m.Event, s)
	}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b key) int {
		return cmp.Or(cmp.Compare(by[b].time, by[a].time), cmp.Compare(by[b].calls, by[a].calls),
			cmp.Compare(a.id, b.id), cmp.Compare(a.nr, b.nr), cmp.Compare(a.site, b.site))
	})
	r.Total = CallerRow{Name: "total", Calls: all.calls, Errors: all.errors, Time: all.time}
	for _, k := range keys {
		c := by[k]
		r.Rows = append(r.Rows, CallerRow{
			Name: replay.CallName(k.id, k.nr), Arch: k.id, Calls: c.calls, Errors: c.errors, Time: c.time, Share: percent(c.time, all.time),
			Mean: c.time / c.calls, Longest: c.longest, LongestStep: c.longestStep, Site: k.site,
		})
	}
	if bare > 0 {
		r.notes = append(r.notes, plural(bare, "call has", "calls have")+" no stack in the log (record -k=all takes all).")
	}
	return r, nil
}
