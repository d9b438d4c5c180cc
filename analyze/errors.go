package analyze

import (
	"cmp"
	"context"
	"slices"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// ErrorsReport counts failed calls by name and error.
type ErrorsReport struct {
	Rows []ErrorRow // the most frequent first
}

// ErrorRow is one error of one call.
type ErrorRow struct {
	Name  string      `col:"name,CALL"`
	Errno string      `col:"errno,ERROR"`
	Calls uint64      `col:"calls,CALLS"`
	First format.Step `col:"first_step,FIRST"`
	Last  format.Step `col:"last_step,LAST"`
	Text  string      `col:"text,MEANING,cut=begin"`
}

// Sheet lays the report out.
func (r *ErrorsReport) Sheet() *Sheet {
	s := sheet("errors", r.Rows)
	s.Title = "Failed calls"
	if len(r.Rows) == 0 {
		s.Notes = []string{"no call failed"}
	}
	return s
}

// Failures counts failed calls by name and error.
func Failures(ctx context.Context, t *replay.Trace, o Options) (*ErrorsReport, error) {
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
		if !ok || !failed(s) || !o.mine(m) {
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
	r := &ErrorsReport{}
	for k, c := range by {
		r.Rows = append(r.Rows, ErrorRow{
			Name: replay.CallName(k.id, k.nr), Errno: arch.ErrnoName(k.errno), Calls: c.n,
			First: c.first, Last: c.last, Text: arch.ErrnoText(k.errno),
		})
	}
	slices.SortFunc(r.Rows, func(a, b ErrorRow) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Errno, b.Errno), cmp.Compare(a.First, b.First))
	})
	return r, nil
}
