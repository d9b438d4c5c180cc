package analyze

import (
	"fmt"
	"math"
	"strings"

	"memtrace/replay"
)

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

// text is a line that goes on below itself.
func (s *screen) text(label, text string) {
	for i, l := range wrap(text, screenCols-10) {
		if i > 0 {
			label = ""
		}
		*s = append(*s, fmt.Sprintf("%-10s%s", label, l))
	}
}

// Wrap breaks a text into lines of at most n columns.
func Wrap(s string, n int) []string { return wrap(s, n) }

// mostFindingLines is how many lines the findings may take.
const mostFindingLines = 9

// screen is the summary for a person: at most 80 columns and 24 lines.
func (r *SummaryReport) screen() []string {
	head := append(screen(r.Findings.short(r.more)), "")
	if line := r.memoryLine(); line != "" {
		head.line("RSS", "%s", line)
	}
	head.line("program", "%s", replay.Escape(r.Program))
	head.line("ended", "%s after %s, started %s", replay.Escape(r.End), Span(r.Duration), r.Started)
	head.line("events", "%d, of which %s, in %s, %s", r.Events, plural(r.Calls, "system call", "system calls"),
		plural(r.Processes, "process", "processes"), plural(r.Threads, "thread", "threads"))
	if r.Time != "" {
		head.text("time", r.Time)
	}
	if r.Inside != "" {
		head.text("inside", cut(replay.Escape(r.Inside), 2*(screenCols-10)))
	}
	if r.Snapshots > 0 {
		head.line("snapshots", "%d with %s; the program was held for at most %s", r.Snapshots, plural(r.Pages, "page", "pages"), Span(r.LongestPause))
	}
	if r.Stacks != "" {
		head.line("stacks", "%s", r.Stacks)
	}
	if r.Growth.unknown() {
		head.line("mapped", "not known: memtrace could not read the mappings")
	}
	out := append(head, r.troubles()...)
	last := []string{"", "Type next:", "  > " + replay.Escape(r.Next), "  > " + replay.Escape(r.Then)}
	rows := shownPeaks(r.Peaks)
	all := rows[len(rows)-1]
	rows = rows[:len(rows)-1]
	room := screenLines - len(out) - len(last) - 4 // a blank line, a title, a heading and the sum
	if room > 0 && !r.Growth.unknown() {
		s := peaksSheet(rows[:min(len(rows), room)])
		s.sum(all)
		var idle []string
		for i, c := range s.Columns {
			if c.Key == "step" || (c.Key == "end" || c.Key == "in_use") && !s.some(i) {
				idle = append(idle, c.Key)
			}
		}
		s.drop(idle...)
		out = append(out, "")
		out = append(out, s.lines(len(rows))...)
	}
	return append(out, last...)
}

// some reports whether a column has anything but zeros.
func (s *Sheet) some(i int) bool {
	for _, row := range append(s.Rows, s.Total) {
		if v := row[i]; v != nil && v != uint64(0) && v != int64(0) {
			return true
		}
	}
	return false
}

// short is the findings without commands, as many as there is room for.
func (r *FindingsReport) short(more string) []string {
	var out []string
	for i := range r.Rows {
		lines := r.Rows[i].lines()
		if said := len(excerpt(r.Rows[i].Said)); i > 0 && len(out)+len(lines) > mostFindingLines {
			lines = lines[:len(lines)-said]
		}
		if i > 0 && len(out)+len(lines) > mostFindingLines {
			left := uint64(len(r.Rows) - i)
			return append(out, fmt.Sprintf("%s: %s", plural(left, "more finding", "more findings"), replay.Escape(more)))
		}
		out = append(out, lines...)
	}
	return out
}

// next are the two commands to type next.
func (r *FindingsReport) next(o Options) (next, then string) {
	first := &r.Rows[0]
	if next, then = first.Then, first.Also; next == "" {
		next = o.command("report", "timeline --plot memory.svg")
	}
	if then == "" {
		then = o.command("replay", "")
		if first.Step != nil {
			then = o.command("replay", fmt.Sprintf("--from %d", *first.Step))
		}
	}
	return next, then
}

// memoryLine is a sparkline of the resident memory, "" if it was not sampled.
func (r *SummaryReport) memoryLine() string {
	if len(r.RSS) == 0 {
		return ""
	}
	end := max(r.Duration, 1)
	bins := make([]float64, sparkWidth)
	for i := range bins {
		bins[i] = math.NaN()
	}
	var high RSSPoint
	for _, p := range r.RSS {
		k := min(int(float64(p.Time)/float64(end)*sparkWidth), sparkWidth-1)
		if v := float64(p.RSS); !(v <= bins[k]) { // also if it is NaN
			bins[k] = v
		}
		if p.RSS > high.RSS {
			high = p
		}
	}
	goOn(bins)
	last := r.RSS[len(r.RSS)-1]
	text := fmt.Sprintf("%s peak %s", Sparkline(bins, r.ascii), Size(max(high.RSS, r.PeakRSS)))
	if r.PeakRSS <= high.RSS {
		text += " at " + Span(high.Time)
	}
	return text + ", end " + Size(last.RSS)
}

// looksUp reports whether the only calls that failed are some that found no file: each
// program looks for files in several places.
func (r *SummaryReport) looksUp() bool {
	const some = 5
	for i := range r.Errors.Rows {
		if r.Errors.Rows[i].Errno != "ENOENT" {
			return false
		}
	}
	return r.Failed <= some
}

// troubles are lines on what the findings may not tell of.
func (r *SummaryReport) troubles() []string {
	var out screen
	if fails := r.Errors.Rows; len(fails) > 0 && !r.looksUp() {
		text := plural(r.Failed, "call", "calls") + ": "
		for i := range fails {
			part := fmt.Sprintf("%s %s x %d", fails[i].Name, fails[i].Errno, fails[i].Calls)
			if i == 3 || i > 0 && len(text)+len(part) > screenCols-len("failed    , ...") {
				text += ", ..."
				break
			}
			if i > 0 {
				text += ", "
			}
			text += part
		}
		out.line("failed", "%s", text)
	}
	for i, s := range r.SignalsByName.Rows {
		if s.Fatal == s.Count && strings.HasPrefix(r.Findings.Rows[0].Text, "CRASH: "+s.Signal) {
			continue // said above
		}
		if s.Signal == "SIGCHLD" && s.Fatal == 0 {
			continue // all programs with children have it
		}
		if i == 2 {
			out.line("", "%d more kinds (report signals)", len(r.SignalsByName.Rows)-i)
			break
		}
		fatal, by := "", ""
		if s.Fatal > 0 {
			fatal = ", FATAL"
		}
		if s.From != "" {
			by = ", from " + s.From
		}
		out.line("signal", "%s x %d%s, last at step %d%s", s.Signal, s.Count, fatal, s.Last, by)
	}
	if r.Lost > 0 {
		out.line("missing", "%s could not be recorded (replay --type lost)", plural(r.Lost, "thing", "things"))
	}
	if r.ChecksDiffer > 0 {
		out.line("checks", "%d of %d differed from the kernel's table", r.ChecksDiffer, r.Checks)
	}
	if r.written {
		out.line("log", "still being written: this is up to step %d (report --follow)", r.last)
	}
	if r.cut {
		out.line("log", "cut short: it ends at step %d (memtrace recover)", r.last)
	}
	return out
}
