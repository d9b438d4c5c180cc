package parquet

import (
	"cmp"
	"context"
	"slices"
	"sort"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// leakResult is what the verdict on a log is.
type leakResult struct {
	verdict string
	rate    *int64 // bytes per second
	err     error
}

// judge is the verdict on a log, as the report leaks has it. Before, it reads the lives of
// processes, which the trace keeps: both go over the log, beside the walk that fills tables.
func judge(ctx context.Context, t *replay.Trace) leakResult {
	if _, err := t.Lives(ctx); err != nil {
		return leakResult{err: err}
	}
	last, ok := t.Last()
	if !ok {
		return leakResult{}
	}
	r, err := analyze.Leaks(ctx, t, analyze.Options{From: t.First(), To: last})
	if err != nil {
		return leakResult{err: err}
	}
	l := leakResult{verdict: r.Verdict.Word}
	switch l.verdict {
	case "leak":
		l.rate = r.Verdict.Rate
	case "none":
		l.rate = new(int64)
	}
	return l
}

// end is how a process ended: the status that it gave, or the signal that killed it.
func end(l *replay.Life) (code *int32, signal string) {
	if !l.Ended {
		return nil, ""
	}
	if sig := l.Status & 0x7f; sig != 0 {
		return nil, arch.SignalName(int(sig))
	}
	n := int32(l.Status >> 8 & 0xff)
	return &n, ""
}

// images are what processes ran. Lives are to be asked for in order.
type images map[uint32]imaged // by the log's number of the process

type imaged struct {
	life *replay.Life
	born *replay.Image // what its parent ran when it was born
}

// at is what a process had run last at a step, nil if that is not known.
func (p imaged) at(step format.Step) *replay.Image {
	n := sort.Search(len(p.life.Execs), func(i int) bool { return p.life.Execs[i].Step > step })
	if n == 0 {
		return p.born
	}
	return &p.life.Execs[n-1]
}

// last is what a process ran last, nil if that is not known. A fork that runs no other
// program runs its parent's.
func (p images) last(l *replay.Life) *replay.Image {
	one := imaged{life: l}
	if parent, known := p[l.Parent]; known {
		one.born = parent.at(l.First)
	}
	p[l.No] = one
	return one.at(l.Last)
}

// processRows fills processes.
func (x *exporter) processRows(ctx context.Context) error {
	t := x.processes
	if t == nil {
		return nil
	}
	lives, err := x.t.Lives(ctx)
	if err != nil {
		return err
	}
	ran := images{}
	for i := range lives {
		l := &lives[i]
		r := t.row()
		*r = processRow{
			Run: x.o.Run, Proc: int64(l.No), PID: int64(l.PID), Parent: t.number(uint64(l.Parent)), FirstStep: int64(l.First), LastStep: int64(l.Last),
			BeginNS: int64(l.Start), EndNS: int64(l.End), Threads: int64(l.Threads), Calls: int64(l.Syscalls),
		}
		if e := ran.last(l); e != nil {
			r.Program, r.Argv = t.text(e.Path), texts(e.Argv)
		}
		var signal string
		r.ExitCode, signal = end(l)
		r.ExitSignal = t.text(signal)
		if l.Peak > 0 { // nothing runs without a mapping: 0 is not known
			r.PeakBytes, r.PeakStep = t.int(int64(l.Peak)), t.int(int64(l.PeakStep))
		}
	}
	return nil
}

// runRow fills runs.
func (x *exporter) runRow(ctx context.Context, leaks leakResult) error {
	lives, err := x.t.Lives(ctx)
	if err != nil {
		return err
	}
	h, t := x.t.Header(), x.runs
	r := t.row()
	*r = runRow{
		Run: x.o.Run, Schema: Schema, DurationNS: int64(x.t.Info().Time), Host: t.text(h.Host), Kernel: t.text(h.Kernel), Argv: texts(h.Argv),
		Commit: t.text(x.o.Labels["commit"]), Labels: map[string]string{}, Log: t.text(x.o.Log), FirstStep: int64(x.t.First()), Steps: int64(x.t.Count()), Verdict: t.text(leaks.verdict), LeakBPS: leaks.rate,
		Whole: !x.t.Truncated(), Recorder: t.text(h.Version), PeakRSS: t.number(x.peak),
	}
	if !h.Start.IsZero() {
		r.Started = t.int(h.Start.UnixMicro())
	}
	for k, v := range x.o.Labels {
		r.Labels[text(k)] = text(v)
	}
	if len(lives) > 0 {
		first := &lives[0]
		if e := (images{}).last(first); e != nil {
			r.Program, r.BuildID = t.text(e.Path), t.text(x.stacks.buildID[e.Path])
			if len(r.Argv) == 0 {
				r.Argv = texts(e.Argv)
			}
		}
		var signal string
		r.ExitCode, signal = end(first)
		r.ExitSignal = t.text(signal)
		most := slices.MaxFunc(lives, func(a, b replay.Life) int { return cmp.Compare(a.Peak, b.Peak) })
		r.PeakMapped = t.number(most.Peak)
	}
	return nil
}

// references fills refs.
func (x *exporter) references(ctx context.Context) error {
	last, ok := x.t.Last()
	if x.refs == nil || !ok || !x.t.HasRefs() {
		return nil
	}
	t := x.refs
	for m, err := range x.t.Refs(ctx, x.t.First(), last) {
		if err != nil {
			return err
		}
		if m.Phase != nil {
			continue
		}
		r := t.row()
		*r = refRow{
			Run: x.o.Run, No: int64(m.No), Step: int64(m.Step), OwnNS: int64(m.Time), Phase: int64(m.PhaseNo), Kind: m.Kind.String(), Page: int64(m.Page),
			IP: t.number(uint64(m.IP)),
		}
		if m.Thread.No != 0 {
			r.Proc, r.TID = t.number(uint64(m.Thread.Proc)), t.number(uint64(m.Thread.TID))
		}
	}
	return nil
}
