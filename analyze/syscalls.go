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

type callKey struct {
	id arch.ID
	nr uint32
}

type callCount struct {
	calls, errors, time, longest uint64
	longestStep                  format.Step
}

// Syscalls counts calls by name. The time is from entry to return, waiting
// included.
func Syscalls(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	by := map[callKey]*callCount{}
	var all callCount
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		s, ok := m.Event.Record.(*format.Syscall)
		if !ok || s.Injected || !o.mine(m) {
			continue
		}
		c := by[callKey{s.Arch, s.Nr}]
		if c == nil {
			c = &callCount{}
			by[callKey{s.Arch, s.Nr}] = c
		}
		c.calls++
		all.calls++
		if s.Returned {
			d := m.Event.Time - min(s.Enter, m.Event.Time)
			c.time += d
			all.time += d
			if d > c.longest {
				c.longest, c.longestStep = d, m.Event.Step
			}
		}
		if failed(s) {
			c.errors++
			all.errors++
		}
	}
	r := &Result{Report: "syscalls", Title: "System calls", Columns: []Column{
		{Key: "name", Title: "CALL", Unit: Text}, {Key: "arch", Title: "ARCH", Unit: Text}, {Key: "calls", Title: "CALLS", Unit: Count}, {Key: "errors", Title: "ERRORS", Unit: Count},
		{Key: "time", Title: "TIME", Unit: Duration}, {Key: "share", Title: "SHARE", Unit: Percent}, {Key: "mean", Title: "MEAN", Unit: Duration, Drop: 2},
		{Key: "longest", Title: "LONGEST", Unit: Duration}, {Key: "longest_step", Title: "AT STEP", Unit: Count},
	}}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b callKey) int {
		return cmp.Or(cmp.Compare(by[b].time, by[a].time), cmp.Compare(by[b].calls, by[a].calls),
			cmp.Compare(a.id, b.id), cmp.Compare(a.nr, b.nr))
	})
	for _, k := range keys {
		c := by[k]
		r.Rows = append(r.Rows, []any{
			replay.CallName(k.id, k.nr), k.id.String(), c.calls, c.errors, c.time, percent(c.time, all.time),
			c.time / c.calls, c.longest, uint64(c.longestStep),
		})
	}
	if !slices.ContainsFunc(keys, func(k callKey) bool { return k.id != keys[0].id }) {
		r.Columns[1].Drop = 1 // says the same in every row
	}
	r.Total = []any{"total", "", all.calls, all.errors, all.time, "", "", "", ""}
	return r, nil
}

// failed says whether a call gave an error to the program. What the kernel
// restarts by itself is none.
func failed(s *format.Syscall) bool {
	return s.Returned && s.Ret < 0 && s.Ret >= -arch.MaxErrno && !(s.Ret <= -512 && s.Ret >= -516)
}

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// Failures counts failed calls by name and error.
func Failures(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	type key struct {
		callKey
		errno int
	}
	type count struct {
		n           uint64
		first, last format.Step
	}
	by := map[key]*count{}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		s, ok := m.Event.Record.(*format.Syscall)
		if !ok || s.Injected || !failed(s) || !o.mine(m) {
			continue
		}
		k := key{callKey{s.Arch, s.Nr}, int(-s.Ret)}
		c := by[k]
		if c == nil {
			c = &count{first: m.Event.Step}
			by[k] = c
		}
		c.n++
		c.last = m.Event.Step
	}
	r := &Result{Report: "errors", Title: "Failed calls", Columns: []Column{
		{Key: "name", Title: "CALL", Unit: Text}, {Key: "errno", Title: "ERROR", Unit: Text}, {Key: "calls", Title: "CALLS", Unit: Count},
		{Key: "first_step", Title: "FIRST", Unit: Count}, {Key: "last_step", Title: "LAST", Unit: Count}, {Key: "text", Title: "WHICH MEANS", Unit: Text, Cut: keepBegin},
	}}
	for k, c := range by {
		r.Rows = append(r.Rows, []any{
			replay.CallName(k.id, k.nr), arch.ErrnoName(k.errno), c.n,
			uint64(c.first), uint64(c.last), arch.ErrnoText(k.errno),
		})
	}
	slices.SortFunc(r.Rows, func(a, b []any) int {
		return cmp.Or(compare(a[2], b[2]), compare(a[0], b[0]), compare(a[1], b[1]), -compare(a[3], b[3]))
	})
	if len(r.Rows) == 0 {
		r.Notes = []string{"no call failed"}
	}
	return r, nil
}
