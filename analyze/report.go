package analyze

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// Options say what of the log a report is about.
type Options struct {
	From format.Step
	To   format.Step // included
	// At is the step that a report about one moment is to look at; nil leaves
	// the choice to the report.
	At  *format.Step
	PID uint32 // 0: all processes, or the first where a report is about one
	// Top keeps that many rows, 0 the report's own choice, <0 all.
	Top int
	// Sort is the key of the column to sort by, biggest first (texts: A first);
	// a leading '-' turns it round.
	Sort string
	// ASCII keeps to characters that every terminal has.
	ASCII bool
	// Width is how wide a table may be; 0: as wide as it is.
	Width int
}

// Report is a report that can be asked for by name.
type Report struct {
	Name, Short string
	Run         func(context.Context, *replay.Trace, Options) (*Result, error)
	top         int // rows shown when Top is 0; 0: all
}

// Reports are all reports, in the order in which they are listed.
var Reports = []Report{
	{"summary", "what ran, how long, what grew and what went wrong, on one screen", Summary, 0},
	{"syscalls", "calls by name: how many, how many failed, how long they took", Syscalls, 0},
	{"errors", "failed calls by name and errno", Failures, 0},
	{"growth", "bytes mapped and unmapped by kind of memory, and the peak of each", Growth, 0},
	{"maps", "the largest mappings at a step, or at the peak", Maps, 20},
	{"sharing", "private and shared, anonymous and file-backed memory at that step", Sharing, 0},
	{"signals", "signals by name: how many, from whom, which were fatal", Signals, 0},
	{"processes", "every process: program, life, exit, peak", Processes, 0},
	{"writers", "the mappings that are written to most, as snapshots saw them", Writers, 20},
	{"shm", "shared memory segments and objects, and who attached them when", SharedMemory, 0},
	{"system", "the system's memory, and what moved in it", SystemReport, 0},
	{"timeline", "memory over time, of the program and of the system", Timeline, 0},
	{"leaks", "whether memory grows without end, and whose", Leaks, 0},
}

// Find finds a report by its name or an unambiguous beginning of it.
func Find(name string) (*Report, error) {
	var found []*Report
	for i := range Reports {
		if Reports[i].Name == name {
			return &Reports[i], nil
		}
		if strings.HasPrefix(Reports[i].Name, name) && name != "" {
			found = append(found, &Reports[i])
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return nil, fmt.Errorf("no report %q (memtrace report list names them all)", name)
}

// Make runs the report and puts its rows in the order and number asked for.
func (r *Report) Make(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	if t.Steps() == 0 {
		return nil, replay.ErrEmpty
	}
	res, err := r.Run(ctx, t, o)
	if err != nil {
		return nil, err
	}
	res.Width = o.Width
	if o.Sort != "" {
		if err := res.Sort(o.Sort); err != nil {
			return nil, err
		}
	}
	top := cmp.Or(o.Top, r.top)
	if top > 0 && len(res.Rows) > top && res.Units == nil {
		res.Notes = append(res.Notes, fmt.Sprintf("%d more (--top -1 shows all)", len(res.Rows)-top))
		res.Rows = res.Rows[:top]
	}
	return res, nil
}

// List is the table of all reports.
func List() *Result {
	r := &Result{Report: "list", Columns: []Column{{Key: "name", Title: "REPORT", Unit: Text}, {Key: "short", Title: "WHAT IT SAYS", Unit: Text}}}
	for _, rep := range Reports {
		r.Rows = append(r.Rows, []any{rep.Name, rep.Short})
	}
	return r
}

// Sort orders the rows by a column.
func (r *Result) Sort(by string) error {
	key, turn := by, 1
	if strings.HasPrefix(by, "-") {
		key, turn = by[1:], -1
	}
	i := slices.IndexFunc(r.Columns, func(c Column) bool { return c.Key == key || strings.EqualFold(c.Title, key) })
	if i < 0 {
		var keys []string
		for _, c := range r.Columns {
			keys = append(keys, c.Key)
		}
		return fmt.Errorf("report %s has no column %q: want %s", r.Report, key, strings.Join(keys, ", "))
	}
	slices.SortStableFunc(r.Rows, func(a, b []any) int { return turn * compare(a[i], b[i]) })
	return nil
}

// compare puts big numbers first, texts in order, and what is not known last.
func compare(a, b any) int {
	if a == nil || b == nil {
		switch {
		case a != nil:
			return -1
		case b != nil:
			return 1
		}
		return 0
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b)
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			return cmp.Compare(b, a)
		}
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(b, a)
		}
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(b, a)
		}
	case addr.Addr:
		if b, ok := b.(addr.Addr); ok {
			return cmp.Compare(a, b)
		}
	}
	return 0
}

// walk goes over the events of the options' range, and looks at ctx now and
// then. Events of other processes than the one asked for are given too: state
// must follow them.
func walk(ctx context.Context, t *replay.Trace, o Options) iter.Seq2[*replay.Moment, error] {
	return func(yield func(*replay.Moment, error) bool) {
		n := 0
		for m, err := range t.Walk(o.From, o.To) {
			if n++; n%1024 == 0 && err == nil {
				err = ctx.Err()
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// mine says whether m's event is of the process asked for.
func (o Options) mine(m *replay.Moment) bool { return o.PID == 0 || m.Thread.TGID == o.PID }
