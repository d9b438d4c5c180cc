package analyze

import (
	"context"
	"fmt"
	"slices"

	"memtrace/replay"
)

// killed tells of a program that a signal ended which is no fault of its own.
func (f *findings) killed(ctx context.Context, t *replay.Trace, o Options, main *replay.Life) (Finding, bool, error) {
	if slices.ContainsFunc(f.crashes, func(c crash) bool { return c.thread.TGID == main.PID }) {
		return Finding{}, false, nil
	}
	text := fmt.Sprintf("KILLED: %s was %s after %s%s", who(main), replay.StatusText(main.Status), Span(main.End), f.saying(main.PID))
	if c, ok := f.waits.waited(main.PID); ok {
		text += fmt.Sprintf("; it had waited %s in %s", Span(c.until-c.since), replay.CallName(c.id, c.nr))
		file, err := fileAt(ctx, t, c.step)
		if err != nil {
			return Finding{}, false, err
		}
		if file != "" {
			text += " of " + file
		}
	}
	x := Finding{Kind: "killed", Text: text + ".", PID: &main.PID, Said: f.wrote(main.PID)}
	if step := main.Last; step > 0 {
		x.Step, x.Then = &step, o.command("report", "signals")
	}
	return x, true, nil
}

// didEnd says how a process ended, behind its name.
func didEnd(status uint32) string {
	text := replay.StatusText(status)
	if status&0x7f != 0 {
		return "was " + text
	}
	return text
}

// status tells of a program that says itself that it has failed.
func (f *findings) status(t *replay.Trace, o Options, main *replay.Life, explained bool) Finding {
	x := Finding{Kind: "status", Text: fmt.Sprintf("STATUS: %s %s%s", who(main), didEnd(main.Status), f.saying(main.PID)), PID: &main.PID, Said: f.wrote(main.PID)}
	if last, ok := f.lastOf(main); ok && !explained {
		x.Text += fmt.Sprintf("; the last call that failed before it was %s: %s, at step %d", last.what(), last.why(), last.step)
		x.Step, x.Then = &last.step, o.command("replay", fmt.Sprintf("--from %d", last.step))
	} else if main.Last > 0 {
		x.Step, x.Then = &main.Last, o.command("replay", fmt.Sprintf("--from %d", main.Last-min(main.Last, 20)))
	}
	x.Text += "."
	return x
}

// failedAt reports whether a process's end says that something failed. Shells ask by 1, as
// with grep and test: it counts if the process complained, or if the parent failed at once too.
func (f *findings) failedAt(l *replay.Life, byNo map[uint32]*replay.Life) bool {
	if !l.Ended || l.Killed || l.Status == 0 {
		return false
	}
	const one, soon = 1 << 8, 50_000_000
	p := byNo[l.Parent]
	return l.Status != one || f.wrote(l.PID) != "" || p == nil || p.Ended && p.Status != 0 && p.End < l.End+soon
}

// children tells of other processes that say that they have failed.
func (f *findings) children(o Options, lives []replay.Life, main *replay.Life) (Finding, bool) {
	if o.PID != 0 {
		return Finding{}, false
	}
	var first *replay.Life
	n := uint64(0)
	byNo := map[uint32]*replay.Life{}
	for i := range lives {
		byNo[lives[i].No] = &lives[i]
	}
	for i := range lives {
		if l := &lives[i]; l != main && f.failedAt(l, byNo) {
			if n++; first == nil || l.End < first.End { // it is why those failed that waited for it
				first = l
			}
		}
	}
	if first == nil {
		return Finding{}, false
	}
	text := fmt.Sprintf("CHILD: %s %s after %s, at step %d%s", who(first), didEnd(first.Status), Span(first.End-first.Start), first.Last, f.saying(first.PID))
	if last, ok := f.lastOf(first); ok {
		text += fmt.Sprintf("; the last call that failed before it was %s: %s, at step %d", last.what(), last.why(), last.step)
	}
	if n > 1 {
		text += fmt.Sprintf("; %s failed too", plural(n-1, "more process", "more processes"))
	}
	return Finding{
		Kind: "child", Text: text + ".", Step: &first.Last, PID: &first.PID, Said: f.wrote(first.PID),
		Then: o.command("replay", fmt.Sprintf("--pid %d", first.PID)), Also: o.command("report", "processes"),
	}, true
}

// Processes are told of if there are that many, and that many in a second.
const (
	manyProcesses = 200
	processRate   = 20
)

// forks tells of a program that makes processes all the time.
func forks(o Options, lives []replay.Life, end uint64) (Finding, bool) {
	n := uint64(len(lives))
	if n < manyProcesses || n*1e9 < end*processRate {
		return Finding{}, false
	}
	short := uint64(0)
	for i := range lives {
		if l := &lives[i]; l.Ended && l.End-l.Start < 1e8 {
			short++
		}
	}
	return Finding{
		Kind: "forks", Text: fmt.Sprintf("FORKS: %d processes were made in %s; %d of them lived for less than 100 ms.", n, Span(end), short),
		Then: o.command("report", "processes"),
	}, true
}

// cutShort tells of a log whose end is missing.
func cutShort(t *replay.Trace, o Options) (Finding, bool) {
	if !t.Truncated() || t.BeingWritten() || t.Count() == 0 {
		return Finding{}, false
	}
	last := t.Steps() - 1
	return Finding{
		Kind: "cut", Text: fmt.Sprintf("CUT: the log ends at step %d, before the recording ended: memtrace was killed, or its disk was full.", last), Step: &last,
		Then: o.command("verify", ""),
	}, true
}
