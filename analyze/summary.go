package analyze

import (
	"context"
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// summaryRows is how many lines each list of the summary may have, so that all
// of it fits 80x24.
const summaryRows = 3

// tally is what the summary counts in its one walk.
type tally struct {
	events, calls, failed, signals, fatal, snapshots, pages uint64
	lost, checks, differed                                  uint64
	longestPause                                            uint64
	end                                                     uint64
}

func (n *tally) see(m *replay.Moment) {
	n.events++
	n.end = m.Event.Time
	switch r := m.Event.Record.(type) {
	case *format.Syscall:
		if r.Injected {
			break
		}
		n.calls++
		if failed(r) {
			n.failed++
		}
	case *format.Signal:
		n.signals++
		if r.Fatal {
			n.fatal++
		}
	case *format.Snapshot:
		if r.Reason == format.ReasonSweep {
			break // its pages count with those of the snapshot that follows
		}
		n.snapshots++
		n.pages += r.Pages
		n.longestPause = max(n.longestPause, r.PauseNS)
	case *format.Lost:
		n.lost++
	case *format.Check:
		n.checks++
		if !r.OK {
			n.differed++
		}
	}
}

// Summary answers on one screen what ran, for how long, what grew and what went
// wrong.
func Summary(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	l, n, err := count(ctx, t, o)
	if err != nil {
		return nil, err
	}
	h := t.Header()
	r := &Result{Report: "summary", Columns: []Column{{Key: "item", Title: "", Unit: Text}, {Key: "value", Title: "", Unit: Text}}}
	item := func(name string, v any, u Unit) {
		r.Rows = append(r.Rows, []any{name, v})
		r.Units = append(r.Units, u)
	}
	var procs, threads uint64
	end := ""
	name := strings.Join(h.Argv, " ")
	for i := range lives {
		if o.PID != 0 && lives[i].PID != o.PID {
			continue
		}
		if procs == 0 {
			end = ending(&lives[i])
			if name == "" || o.PID != 0 {
				name = program(&lives[i], nil)
			}
		}
		procs++
		threads += uint64(lives[i].Threads)
	}
	item("program", name, Text)
	item("end", end, Text)
	item("started", h.Start.UTC().Format("2006-01-02 15:04:05 MST"), Text)
	item("duration", n.end, Duration)
	item("processes", procs, Count)
	item("threads", threads, Count)
	item("events", n.events, Count)
	item("syscalls", n.calls, Count)
	item("failed calls", n.failed, Count)
	item("signals", n.signals, Count)
	item("fatal signals", n.fatal, Count)
	item("mapped at end", l.total.now, Bytes)
	item("mapped at peak", l.total.peak, Bytes)
	item("peak step", uint64(l.total.peakStep), Count)
	item("snapshots", n.snapshots, Count)
	item("captured pages", n.pages, Count)
	item("longest pause", n.longestPause, Duration)
	item("lost", n.lost, Count)
	item("checks", n.checks, Count)
	item("checks that differed", n.differed, Count)

	grew := l.result()
	fails, err := Failures(ctx, t, o)
	if err != nil {
		return nil, err
	}
	sigs, err := Signals(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r.Parts = []*Result{grew, fails, sigs}
	r.screen = func() []string { return summaryScreen(t, r, l, n, fails, sigs) }
	return r, nil
}

func count(ctx context.Context, t *replay.Trace, o Options) (*ledger, *tally, error) {
	s, err := t.Before(o.From)
	if err != nil {
		return nil, nil, err
	}
	l, n := newLedger(s, o.PID), &tally{}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, nil, err
		}
		l.see(m)
		if o.mine(m) {
			n.see(m)
		}
	}
	return l, n, nil
}

// Size of the summary for a person.
const (
	screenCols  = 79
	screenLines = 24
)

// screen gathers the lines of the summary.
type screen []string

func (s *screen) line(label, format string, a ...any) {
	*s = append(*s, cut(fmt.Sprintf("%-10s", label)+fmt.Sprintf(format, a...), screenCols))
}

// summaryScreen is the summary for a person: at most 80 columns and 24 lines.
func summaryScreen(t *replay.Trace, r *Result, l *ledger, n *tally, fails, sigs *Result) []string {
	val := func(name string) string {
		for i, row := range r.Rows {
			if row[0] == name {
				return Human(row[1], r.Units[i])
			}
		}
		return ""
	}
	var head screen
	head.line("program", "%s", val("program"))
	head.line("ended", "%s after %s, started %s", val("end"), val("duration"), val("started"))
	head.line("events", "%s, of which %s system calls, in %s, %s", val("events"), val("syscalls"),
		plural(val("processes"), "process", "processes"), plural(val("threads"), "thread", "threads"))
	if n.snapshots > 0 {
		head.line("memory", "captured %s times, %s pages, program held at most %s", val("snapshots"), val("captured pages"), val("longest pause"))
	}
	head.line("mapped", "%s at the peak (step %s, after %s), %s at the end", val("mapped at peak"), val("peak step"),
		Span(l.total.peakTime), val("mapped at end"))
	tail := troubles(t, n, fails, sigs)
	// What grew gets the room that is left: a title, a heading and a total
	// beside its rows, and an empty line on each side.
	grew := l.result()
	grew.drop("unmapped", "peak_step")
	rows := min(len(grew.Rows), screenLines-len(head)-len(tail)-5)
	out := append(head, "")
	if rows > 0 {
		out = append(out, grew.lines(rows)...)
		out = append(out, "")
	}
	return append(out, tail...)
}

// troubles says what went wrong.
func troubles(t *replay.Trace, n *tally, fails, sigs *Result) []string {
	var out screen
	if len(fails.Rows) == 0 && len(sigs.Rows) == 0 && n.lost == 0 && n.differed == 0 {
		out.line("Nothing went wrong:", " no failed calls, no signals")
	}
	if len(fails.Rows) > 0 {
		f := *fails
		f.Title = fmt.Sprintf("Failed calls: %d", n.failed)
		f.drop("first_step", "last_step")
		out = append(out, f.lines(summaryRows)...)
		if len(sigs.Rows) > 0 || n.lost > 0 || n.differed > 0 || t.Truncated() {
			out = append(out, "")
		}
	}
	for i, s := range sigs.Rows {
		if i == 2 {
			out.line("", "%d more kinds (report signals)", len(sigs.Rows)-i)
			break
		}
		fatal, by := "", ""
		if f, ok := s[2].(uint64); ok && f > 0 {
			fatal = ", FATAL"
		}
		if s[5] != "" {
			by = fmt.Sprintf(", from %v", s[5])
		}
		out.line("signal", "%v x %v%s, last at step %v%s", s[0], s[1], fatal, s[4], by)
	}
	if n.lost > 0 {
		out.line("lost", "%d events could not be recorded in full (replay shows them)", n.lost)
	}
	if n.differed > 0 {
		out.line("checks", "%d of %d differed from the kernel's table", n.differed, n.checks)
	}
	if t.Truncated() {
		out.line("log", "cut short: it ends at step %d (memtrace recover)", t.Steps()-1)
	}
	return out
}

func plural(n any, one, many string) string {
	if n == "1" {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + many
}

// cut shortens a line to n columns of ASCII.
func cut(s string, n int) string {
	if len(s) <= n {
		return strings.TrimRight(s, " ")
	}
	return s[:n-3] + "..."
}
