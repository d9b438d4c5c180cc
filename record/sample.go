//go:build linux

// This file samples, at intervals and at the end of processes, what the kernel says
// about memory.

package record

import (
	"maps"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/record/tracee"
)

// startSampling takes the first sample and begins the series.
func (r *Recorder) startSampling() (stop func()) {
	if !r.opts.MemInfo {
		return func() {}
	}
	s := &r.sampler
	s.refs = referencing{on: r.opts.Referenced, every: r.opts.ReferencedInterval, warn: r.warn}
	pids := slices.Sorted(maps.Keys(r.group.Processes()))
	if main := r.group.Main(); main != 0 {
		pids = []int{main}
	}
	s.open(pids)
	r.sampleAll()
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case <-time.After(r.sampleGap()):
				taken := make(chan struct{})
				if r.Ask(func() { r.sampleAll(); close(taken) }) != nil {
					return
				}
				select {
				case <-taken:
				case <-quit:
					return
				}
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); s.close() }
}

// Without an interval of the user's choice, samples begin close together, so
// that a program of a second has a series too, and end defaultGap apart.
const (
	// A program that is done at once has the first and the last sample only: two
	// logs of it have the same steps.
	quiet      = 100 * time.Millisecond
	firstGap   = 50 * time.Millisecond
	defaultGap = time.Second
	gapShare   = 16
	// With many processes the samples are further apart: they take at most this
	// part of the time, and with very many ten times that.
	costShare = 50
)

func (r *Recorder) sampleGap() time.Duration {
	since, cost := time.Since(r.start), time.Duration(r.sampler.cost.Load())
	gap := r.opts.MemInfoInterval
	switch {
	case gap > 0:
	case since < quiet:
		gap = quiet - since
	default:
		gap = min(max(since/gapShare, firstGap), defaultGap)
		gap = max(gap, min(costShare*cost, defaultGap), costShare/10*cost)
	}
	if due := time.Duration(r.sampler.refs.due.Load()); due > 0 {
		gap = min(gap, max(due-since, firstGap, costShare*cost))
	}
	return gap
}

// sampleAll writes one sample of the system and of all processes.
func (r *Recorder) sampleAll() {
	if !r.sampling() || !slices.ContainsFunc(slices.Collect(r.group.Threads()), func(t *tracee.Thread) bool { return !t.Over() }) {
		return
	}
	s := &r.sampler
	begin := time.Now()
	s.begin()
	for _, p := range r.group.Processes() {
		s.process(p, nil, r.group.Now())
	}
	r.emit(&format.Event{Record: s.record()})
	// One that was slow because the machine was busy does not count.
	took := time.Since(begin)
	s.cost.Store(int64(min(took, s.took)))
	s.took, s.last = took, r.group.Now()
	s.refs.due.Store(s.nextRead())
}

// soonShare is how much closer together samples may be that are taken because something happened.
const soonShare = 4

// sampleOutOfTurn samples at a fork, and where much memory was given back: what a process had in
// common with others, or was left with, would else be met by chance. It is no use to a program
// that is done at once, and never done where the user has set the pace.
func sampleOutOfTurn(r *Recorder) {
	now, cost := r.group.Now(), time.Duration(r.sampler.cost.Load())
	if !r.sampling() || r.opts.MemInfoInterval > 0 || now < uint64(quiet) {
		return
	}
	if since := time.Duration(now - r.sampler.last); since >= max(r.sampleGap()/soonShare, firstGap, costShare*cost) {
		r.sampleAll()
	}
}

// sampling reports whether samples are written.
func (r *Recorder) sampling() bool {
	return r.opts.MemInfo && !r.group.Over() && r.log.err == nil
}

// sampleLast writes a sample when the last thread of a process is about to end
// with its memory still there. What lived too shortly to matter has none.
func (r *Recorder) sampleLast(t *tracee.Thread) {
	s := &r.sampler
	if !r.sampling() || s.procs[t.Proc] == nil {
		return
	}
	s.begin()
	s.process(t.Proc, t, r.group.Now())
	r.emit(&format.Event{Thread: t.No, Record: s.record()})
	s.forget(t.Proc)
}
