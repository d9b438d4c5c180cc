package analyze

import (
	"context"
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// tally is what the summary counts in its one walk.
type tally struct {
	events, calls, failed, signals, fatal, snapshots, pages uint64
	lost, checks, differed                                  uint64
	longestPause                                            uint64
	end                                                     uint64
	crash                                                   format.StackNode // of the last fatal signal
	crashSignal                                             int32
	findings                                                findings
	use                                                     inUse
	inside                                                  *insideCount
}

func (n *tally) see(m *replay.Moment) {
	n.events++
	n.end = m.Event.Time
	n.findings.see(m)
	n.use.see(m)
	switch r := m.Event.Record.(type) {
	case *format.Syscall:
		n.calls++
		if failed(r) {
			n.failed++
		}
	case *format.Signal:
		n.signals++
		if r.Fatal {
			n.fatal++
			if m.Event.Stack != 0 {
				n.crash, n.crashSignal = m.Event.Stack, r.Signo
			}
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

// SummaryReport is what ran, for how long, what grew and what went wrong.
type SummaryReport struct {
	Program       string      `item:"program"`
	End           string      `item:"end"`
	Started       string      `item:"started"`
	Duration      uint64      `item:"duration,ns"`
	Processes     uint64      `item:"processes"`
	Threads       uint64      `item:"threads"`
	Events        uint64      `item:"events"`
	Calls         uint64      `item:"syscalls"`
	Failed        uint64      `item:"failed calls"`
	Signals       uint64      `item:"signals"`
	Fatal         uint64      `item:"fatal signals"`
	Mapped        int64       `item:"mapped at end,bytes"`
	Peak          int64       `item:"mapped at peak,bytes"`
	PeakStep      format.Step `item:"peak step"`
	Unread        int         `item:"processes of unknown mappings"`
	Snapshots     uint64      `item:"snapshots"`
	Pages         uint64      `item:"captured pages"`
	LongestPause  uint64      `item:"longest pause,ns"`
	Lost          uint64      `item:"lost"`
	Checks        uint64      `item:"checks"`
	ChecksDiffer  uint64      `item:"checks that differed"`
	Crash         string      `item:"crash,omit"`           // where the last fatal signal came
	Leak          string      `item:"leak,omit"`            // what grows without end, and from where
	PeakRSS       uint64      `item:"peak RSS,bytes,omit"`  // of one process
	Time          string      `item:"time,omit"`            // how threads spent it
	Stacks        string      `item:"stacks,omit"`          // of which events, if not of calls
	Inside        string      `item:"recorded inside,omit"` // which of the calls, if --in-process was asked for
	Next          string      `item:"next"`
	Then          string      `item:"also"`
	Findings      *FindingsReport
	Growth        *GrowthReport
	Peaks         []PeakRow
	RSS           []RSSPoint
	Errors        *ErrorsReport
	SignalsByName *SignalsReport

	cut     bool // the log was
	written bool // it still is
	last    format.Step
	more    string // the command that shows all findings
	ascii   bool
}

// Sheet lays the report out.
func (r *SummaryReport) Sheet() *Sheet {
	s := items("summary", r)
	s.Parts = []*Sheet{r.Findings.Sheet(), r.Growth.Sheet(), peaksSheet(r.Peaks), rssSheet(r.RSS), r.Errors.Sheet(), r.SignalsByName.Sheet()}
	s.screen = func(*Sheet) []string { return r.screen() }
	return s
}

// Summary answers on one screen what ran, for how long, what grew and what went
// wrong.
func Summary(ctx context.Context, t *replay.Trace, o Options) (*SummaryReport, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	l, n, err := count(ctx, t, o)
	if err != nil {
		return nil, err
	}
	h := t.Header()
	r := &SummaryReport{
		Program: strings.Join(h.Argv, " "), Started: h.Start.UTC().Format("2006-01-02 15:04:05 MST"), Duration: n.end,
		Events: n.events, Calls: n.calls, Failed: n.failed, Signals: n.signals, Fatal: n.fatal,
		Mapped: l.total.now, Peak: l.total.peak, PeakStep: l.total.peakStep,
		Snapshots: n.snapshots, Pages: n.pages, LongestPause: n.longestPause, Lost: n.lost, Checks: n.checks, ChecksDiffer: n.differed,
		cut: t.Truncated() && !t.BeingWritten(), written: t.BeingWritten(), last: t.Steps() - 1,
	}
	if r.Growth, err = l.report(ctx, t); err != nil {
		return nil, err
	}
	r.Unread = r.Growth.unread
	for i := range lives {
		if o.PID != 0 && lives[i].PID != o.PID {
			continue
		}
		if r.Processes == 0 {
			r.End = ending(&lives[i])
			if r.Program == "" || o.PID != 0 {
				r.Program = unknownProgram
				if n := len(lives[i].Execs); n > 0 {
					r.Program = commandLine(&lives[i].Execs[n-1])
				}
			}
		}
		r.Processes++
		r.Threads += uint64(lives[i].Threads)
	}
	if n.crash != 0 {
		where, err := crashSite(t, n.crash)
		if err != nil {
			return nil, err
		}
		r.Crash = arch.SignalName(int(n.crashSignal)) + " " + where
	}
	leaks, err := Leaks(ctx, t, o)
	if err != nil {
		return nil, err
	}
	if v := &leaks.Verdict; v.Word == wordLeak && v.Site != nil {
		r.Leak = fmt.Sprintf("%s: %.0f %% of %s in %s", *v.Site, *v.SiteShare, rate(float64(*v.Rate)), v.Who)
	}
	if r.Findings, err = n.findings.report(ctx, t, o, n.end, lives, func() (*LeaksReport, error) { return leaks, nil }, func(*Finding) {}); err != nil {
		return nil, err
	}
	switch {
	case t.HasCallStacks():
	case t.HasStacks():
		r.Stacks = "of fatal signals only; record -k takes those of memory calls too"
	default:
		r.Stacks = "none; record -k takes those of memory calls"
	}
	r.Inside = n.inside.short(h, o.PID)
	r.PeakRSS, r.RSS, r.ascii = n.findings.peak, leaks.rss, o.ASCII
	r.Peaks, r.Time = peaks(l, &n.use), n.findings.waits.shares()
	r.Next, r.Then = r.Findings.next(o)
	r.more = o.command("report", "findings")
	if r.Errors, err = Failures(ctx, t, o); err != nil {
		return nil, err
	}
	r.SignalsByName, err = Signals(ctx, t, o)
	return r, err
}

func count(ctx context.Context, t *replay.Trace, o Options) (*ledger, *tally, error) {
	s, err := t.Before(o.From)
	if err != nil {
		return nil, nil, err
	}
	l, n := newLedger(s, o.PID), &tally{use: inUse{pid: o.PID}, inside: newInside(s)}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, nil, err
		}
		l.see(m)
		n.inside.see(m.Event)
		if o.mine(m) {
			n.see(m)
		}
	}
	return l, n, nil
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + many
}

// cut shortens a line to n columns, for characters that take one each.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return strings.TrimRight(s, " ")
	}
	return string(r[:n-3]) + "..."
}
