//go:build linux

// This file runs a recording from its beginning to its end.

package record

import (
	"context"
	"sync/atomic"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// New makes a recorder that writes to w. Closing w stays with the caller.
func New(w Log, o Options) *Recorder { return newRecorder(nil, w, time.Now(), o) }

// newRecorder is New on a kernel of the caller's choice, nil being the real one, for a
// recording that began at start.
func newRecorder(k tracee.Kernel, w Log, start time.Time, o Options) *Recorder {
	r := &Recorder{
		opts: o, set: o.recorded(), start: start, kernel: linux{}, log: journal{log: w},
		memories: map[*memory]struct{}{}, warned: map[string]bool{}, when: triggers{policy: &o.Snapshot},
	}
	r.when.keep, _ = w.(keeper)
	g := tracee.Options{
		Calls: r.set, DataLimit: o.DataLimit, StringLimit: o.StringLimit, Keep: o.Snapshot.keep(),
		Follow: o.Follow, NoPin: o.NoPin, NoGuard: o.Pause != nil,
		Poked: func(t *tracee.Thread, at addr.Addr, old, now []byte) { r.poked(memoryOf(t), at, old, now) },
	}
	switch o.PageTrace.Engine {
	case pagetrace.Prot:
		r.warden = pagetrace.New(o.PageTrace, &r.log, tracer{r})
		g.Warden = r.warden
	case pagetrace.WP:
		r.writes = pagetrace.NewWrites(o.PageTrace, o.Snapshot.any(), &r.log, tracer{r})
	}
	if o.inside() {
		r.inside = inside.New(o.InProcess, insider{r})
		g.Inside, g.Suits = r.inside, inproc.Suits
		r.kernel = hidingKernel{r.kernel}
	}
	r.group = tracee.New(k, r, r.start, g)
	r.warden.Serve(r.group)
	r.writes.Serve(r.group)
	if r.inside != nil {
		r.inside.Serve(r.group, &g, insider{r}.choice)
	}
	r.files = snapshot.NewFiles(w.Header().Start, r.group.Now, snapshot.Stat)
	r.reader = snapshot.NewReader(r.files)
	r.stacks = newStacks(o.Stacks, o.StackDepth, !o.NoPerfMaps, w, r.group, r.files, func(what string) { r.lost(0, what) })
	if p, ok := w.(interface{ ExpectPages() }); ok && o.Snapshot.often() {
		p.ExpectPages()
	}
	return r
}

// Run starts a program and records until the last traced process has ended or
// the recording is. ctx's end ends the recording and leaves the program running,
// unless it depends on its tracer (see Options.filtered): then it is killed.
func (r *Recorder) Run(ctx context.Context, p *Program) (*Result, error) {
	var filter *arch.Set
	if r.opts.filtered() {
		filter = &r.set
	}
	return r.record(ctx, func() error { return r.group.Launch(p, filter) })
}

// Attach records running processes, all their threads, until they have ended or
// the recording is. It leaves them running.
func (r *Recorder) Attach(ctx context.Context, pids ...int) (*Result, error) {
	return r.record(ctx, func() error {
		for _, pid := range pids {
			if err := r.group.Attach(pid); err != nil {
				return err
			}
		}
		tellOutside(r)
		return nil
	})
}

// record makes the tracees with begin and serves them to the end.
func (r *Recorder) record(ctx context.Context, begin func() error) (*Result, error) {
	if err := procfs.Check(); err != nil {
		return nil, err
	}
	var stop []func()
	err := r.group.Serve(func() error {
		if err := begin(); err != nil {
			return err
		}
		stopAsking := context.AfterFunc(ctx, func() { _ = r.Ask(func() { r.finish(Interrupted) }) })
		stop = append(stop, func() { stopAsking() }, r.startTimers(), r.startSampling())
		return nil
	}, func() {
		for _, f := range stop {
			f()
		}
		r.close()
	})
	if err != nil {
		return nil, err
	}
	return &r.result, nil
}

// close lets go of what the recording holds, and writes that the threads which are
// left are not traced any more.
func (r *Recorder) close() {
	r.result.Status, r.result.Ended = r.group.Status()
	if r.result.Reason == "" {
		r.result.Reason = "exit"
	}
	for m := range r.memories {
		if t := m.Any(); t != nil {
			r.stacks.leaving(t, m)
		}
		m.close()
	}
	r.writes.Close()
	r.log.drop() // no event has come that they belong to
	for t := range r.group.Threads() {
		if c := t.Call(); c != nil && r.set.Has(c.Arch, c.Nr) { // it is in the middle of that
			c.Returned = false
			r.log.write(&format.Event{Time: r.group.Now(), Thread: t.No, Record: syscallOf(t, c), Stack: r.stacks.of(t)})
		}
	}
	r.result.Events = r.log.events()
	for t := range r.group.Threads() {
		r.log.write(&format.Event{Time: r.group.Now(), Thread: t.No, Record: &format.Detach{Reason: r.result.Reason}})
	}
	r.result.Err = r.log.err
}

// startTimers begins what happens by the clock.
func (r *Recorder) startTimers() (stop func()) {
	if t := r.opts.MaxTime; t > 0 {
		r.group.After(t, func() { r.finish("max-time") })
	}
	d := r.opts.Snapshot.Interval
	if d == 0 {
		return func() {}
	}
	tick := time.NewTicker(min(d, firstInterval))
	first := true
	quit := make(chan struct{})
	var asked atomic.Bool
	go func() {
		for {
			select {
			case <-tick.C:
				if first {
					first = false
					tick.Reset(d)
				}
				if asked.CompareAndSwap(false, true) {
					_ = r.Ask(func() { r.intervalSnapshot(); asked.Store(false) })
				}
			case <-quit:
				return
			}
		}
	}()
	return func() { tick.Stop(); close(quit) }
}

// Interrupt brings a running thread to a stop, and there to Options.Pause. Its error
// is ErrNotRecording.
func (r *Recorder) Interrupt() error { return r.group.Interrupt() }

// Kill ends all traced processes. Its error is ErrNotRecording.
func (r *Recorder) Kill() error { return r.Ask(r.group.Kill) }
