package analyze

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/call"
	"memtrace/replay"
)

// FindingsReport is what went wrong, worst first.
type FindingsReport struct {
	Rows []Finding // one that says so if there is nothing
}

// Finding is one thing that went wrong.
type Finding struct {
	// Kind is crash, deadlock, stuck, killed, leak, failures, child, status, slow, lock, polling,
	// forks, cut or none.
	Kind string       `col:"finding,FINDING"`
	Text string       `col:"text,"`
	Step *format.Step `col:"step,AT STEP"` // to look at; nil: there is none
	PID  *uint32      `col:"pid,PID"`
	Then string       `col:"then,TYPE NEXT"` // the command that tells more
	Also string       `col:"also,ALSO"`      // another one
	Said string       `col:"said,SAID,fine"` // what the process wrote to its standard error last
}

// mostFindings is how many there are at most.
const mostFindings = 4

// Sheet lays the report out.
func (r *FindingsReport) Sheet() *Sheet {
	s := sheet("findings", r.Rows)
	s.Title = "Findings"
	s.screen = func(*Sheet) []string { return r.screen() }
	return s
}

// lines is a finding in sentences.
func (f *Finding) lines() []string {
	lines := wrap(replay.Escape(f.Text), screenCols-2)
	for i := 1; i < len(lines); i++ {
		lines[i] = "  " + lines[i]
	}
	return append(lines, excerpt(f.Said)...)
}

// screen is the findings in sentences, each with the commands that tell more.
func (r *FindingsReport) screen() []string {
	var out []string
	for i := range r.Rows {
		f := &r.Rows[i]
		out = append(out, f.lines()...)
		for _, c := range []string{f.Then, f.Also} {
			if c != "" {
				out = append(out, "  > "+replay.Escape(c))
			}
		}
	}
	return out
}

// Findings says what went wrong.
func Findings(ctx context.Context, t *replay.Trace, o Options) (*FindingsReport, error) {
	return EachFinding(ctx, t, o, func(*Finding) {})
}

// EachFinding makes what Findings makes, and tells each finding as soon as it is sure. What is
// told comes as it is found, and may be more than the report has room for: that has the worst
// first, and those that all others have to be known for.
func EachFinding(ctx context.Context, t *replay.Trace, o Options, found func(*Finding)) (*FindingsReport, error) {
	_, n, err := count(ctx, t, o)
	if err != nil {
		return nil, err
	}
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	return n.findings.report(ctx, t, o, n.end, lives, func() (*LeaksReport, error) { return Leaks(ctx, t, o) }, found)
}

// findings are gathered along a walk.
type findings struct {
	crashes []crash
	fails   map[failure]*failures
	last    map[uint32][]failedCall // by process: its last failures that may be why it ended
	grave   map[uint32]failedCall   // by process: its last grave failure
	said    map[uint32]*words       // by process: its last words on its standard error
	closed  map[descriptor]format.Step
	sought  map[sought][]failure
	slow    map[callKey]*slowCall
	waits   waits
	peak    uint64 // the highest RSS of a process
}

func (f *findings) see(m *replay.Moment) {
	f.waits.follow(m)
	switch r := m.Event.Record.(type) {
	case *format.Exec:
		f.foundName(m.Thread.TGID, r.Path)
		delete(f.said, m.Thread.TGID) // that was another program
		delete(f.last, m.Thread.TGID)
		delete(f.grave, m.Thread.TGID)
	case *format.Signal:
		if r.Fatal && crashes(r.Signo) && len(f.crashes) < mostCrashes {
			f.crashes = append(f.crashes, crash{m.Event.Step, r.Signo, call.ParseSigInfo(r.Info), m.Thread, m.Event.Stack})
		}
	case *format.Syscall:
		name := replay.CallName(r.Arch, r.Nr)
		f.fail(m, r, name)
		f.slowly(m, r, name)
		f.waits.call(m, r, name)
		f.listen(m, r)
	case *format.MemInfo:
		f.sample(r)
	}
}

// RSSPoint is the resident memory of all sampled processes together.
type RSSPoint struct {
	Time uint64 `col:"time,TIME,ns"`
	RSS  uint64 `col:"rss,RSS,bytes"`
}

func rssSheet(points []RSSPoint) *Sheet {
	s := sheet("rss", points)
	s.Title = "Resident memory"
	return s
}

// mostPoints is how many points are kept.
const mostPoints = 600

// rss is the resident memory of all processes together, which the report timeline has at each
// sample, in some points, evenly spaced.
func (s *samples) rss() (list []RSSPoint) {
	for i := range s.list {
		if r := s.list[i].row(); r.RSS != nil {
			list = append(list, RSSPoint{r.Time, *r.RSS})
		}
	}
	for len(list) >= mostPoints { // the higher of two: peaks stay
		half := list[:0]
		for i := 0; i < len(list); i += 2 {
			p := list[i]
			if i+1 < len(list) && list[i+1].RSS > p.RSS {
				p = list[i+1]
			}
			half = append(half, p)
		}
		list = half
	}
	return list
}

// sample looks at the resident memory of processes.
func (f *findings) sample(r *format.MemInfo) {
	for _, x := range residents(r) {
		f.peak = max(f.peak, x.most)
	}
}

// report says what was found, worst first. end is the time of the last event. Leaks come
// before failures, but are asked for last: that may read the log again.
func (f *findings) report(ctx context.Context, t *replay.Trace, o Options, end uint64, lives []replay.Life, leaks func() (*LeaksReport, error), found func(*Finding)) (*FindingsReport, error) {
	var main *replay.Life
	for i := range lives {
		if o.PID == 0 || lives[i].PID == o.PID {
			main = &lives[i]
			break
		}
	}
	ends, err := f.ends(ctx, t, o, lives, main, found)
	if err != nil {
		return nil, err
	}
	failed, err := f.failures(ctx, t, o)
	if err != nil {
		return nil, err
	}
	for i := range failed {
		found(&failed[i])
	}
	rest, err := f.slowness(t, o, end, lives, found)
	if err != nil {
		return nil, err
	}
	leaking, err := leaks()
	if err != nil {
		return nil, err
	}
	r := &FindingsReport{Rows: ends}
	add := func(x Finding, ok bool) {
		if ok {
			found(&x)
			r.Rows = append(r.Rows, x)
		}
	}
	add(leakFinding(leaking, o))
	r.Rows = append(r.Rows, failed...)
	if main != nil && main.Ended && !main.Killed && main.Status != 0 {
		if len(r.Rows) == 0 {
			add(f.children(o, lives, main))
		}
		add(f.status(t, o, main, len(r.Rows) > 0), true)
	} else {
		add(f.children(o, lives, main))
	}
	r.Rows = append(r.Rows, rest...)
	if len(r.Rows) == 0 {
		add(f.nothing(o, main, end, leaking), true)
	}
	r.Rows = r.Rows[:min(len(r.Rows), mostFindings)]
	return r, nil
}

// ends are the crashes, a deadlock, and what killed the program.
func (f *findings) ends(ctx context.Context, t *replay.Trace, o Options, lives []replay.Life, main *replay.Life, found func(*Finding)) (rows []Finding, err error) {
	add := func(x Finding, ok bool, err error) error {
		if ok && err == nil {
			found(&x)
			rows = append(rows, x)
		}
		return err
	}
	for i := range f.crashes {
		x, err := f.crash(ctx, t, o, &f.crashes[i])
		if err := add(x, true, err); err != nil {
			return nil, err
		}
	}
	if t.Truncated() && slices.Contains(t.Header().Options, "in-process=off") { // what a program records itself comes late
		f.waits.cut()
	}
	dead, ok, err := f.waits.deadlock(t, o, lives)
	if err == nil && !ok {
		dead, ok, err = f.waits.standstill(t, o, lives)
	}
	if err := add(dead, ok, err); err != nil {
		return nil, err
	}
	if main != nil && main.Killed {
		if err := add(f.killed(ctx, t, o, main)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// slowness is what took long or was done too often, and that the log was cut.
func (f *findings) slowness(t *replay.Trace, o Options, end uint64, lives []replay.Life, found func(*Finding)) (rows []Finding, err error) {
	add := func(x Finding, ok bool) {
		if ok {
			found(&x)
			rows = append(rows, x)
		}
	}
	add(f.slowest(o, end))
	contended, ok, err := f.waits.lock(t, o)
	if err != nil {
		return nil, err
	}
	add(contended, ok)
	add(f.waits.polling(o))
	add(forks(o, lives, end))
	add(cutShort(t, o))
	return rows, nil
}

// command is what to type to see more of this log.
func (o Options) command(verb, rest string) string {
	words := []string{"memtrace", verb}
	if o.Log != "" {
		words = append(words, shellWord(o.Log))
	}
	if rest != "" {
		words = append(words, rest)
	}
	return strings.Join(words, " ")
}

// shellWord is s as one word of a shell.
func shellWord(s string) string {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-+,:@%", c)) {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}

// leakFinding puts a leak into one sentence.
func leakFinding(l *LeaksReport, o Options) (Finding, bool) {
	v := &l.Verdict
	if v.Word != wordLeak {
		return Finding{}, false
	}
	text := v.short
	if v.Site != nil {
		text += fmt.Sprintf(" %.0f %% of it by %s", *v.SiteShare, *v.Site)
		if len(l.Sites) > 0 && l.Sites[0].caller != "" {
			text += ", called from " + l.Sites[0].caller
		}
		text += "."
	}
	x := Finding{Kind: "leak", PID: v.PID, Then: o.command("report", "leaks")}
	if v.Site != nil {
		x.Also = o.command("report", "callsites")
		if v.freed {
			x.Also = o.command("report", fmt.Sprintf("callsites --to %.3fs", float64(*v.ToTime)/1e9))
		}
	} else if v.Rate != nil {
		text += " Record with -k to see which line takes it."
	}
	x.Text = text
	return x, true
}

// Growth that is no leak for sure is told of from these on.
const (
	grewLeast = 8 << 20
	grewShare = 4 // a quarter of what was in use at the end
)

// grew is the program whose memory in use grew most to the end, nil if none grew by much.
func (r *LeaksReport) grew() (most *LeakRow) {
	for i := range r.Rows {
		x := &r.Rows[i]
		if x.Series != seriesInUse || x.Trend != grow.String() && x.Trend != slowing.String() || x.Rise < grewLeast || x.Rise < x.End/grewShare {
			continue
		}
		if most == nil || x.Rise > most.Rise {
			most = x
		}
	}
	return most
}

// nothing says that nothing went wrong, how much memory it took, and whether that grew.
func (f *findings) nothing(o Options, main *replay.Life, end uint64, leaks *LeaksReport) Finding {
	text := "Nothing went wrong"
	if main != nil && !main.Ended {
		text += " so far"
	}
	peak := f.peak
	for _, p := range leaks.rss { // of all processes together
		peak = max(peak, p.RSS)
	}
	if peak > 0 {
		text += fmt.Sprintf(": peak %s RSS", Size(peak))
	}
	if main != nil {
		sep := ", "
		if peak == 0 {
			sep = ": "
		}
		text += sep + ending(main)
	}
	x := Finding{Kind: "none", Text: fmt.Sprintf("%s after %s.", text, Span(end))}
	if g := leaks.grew(); g != nil {
		whose := ""
		if main == nil || *g.PID != main.PID {
			whose = fmt.Sprintf(" of %s (process %d)", g.Who, *g.PID)
		}
		x.Text += fmt.Sprintf(" Memory in use%s grew by %s to the end, which may be no leak.", whose, Size(uint64(g.Rise)))
		x.PID, x.Then = g.PID, o.command("report", "leaks")
	}
	return x
}

// programOf is what a process ran last, "" if that is not known.
func programOf(l *replay.Life) string {
	if n := len(l.Execs); n > 0 {
		x := &l.Execs[n-1]
		return path.Base(replay.CalledAs(x.Path, x.Called, x.Argv))
	}
	return ""
}

// who names a process.
func who(l *replay.Life) string {
	if p := programOf(l); p != "" {
		return fmt.Sprintf("%s (process %d)", p, l.PID)
	}
	return fmt.Sprintf("process %d", l.PID)
}
