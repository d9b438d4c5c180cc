//go:build linux

// This file takes snapshots by the clock: sweeps beside the running program, and
// holds that are as short as can be.

package record

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/dirty"
	"memtrace/record/snapshot"
)

// intervalSnapshot saves the memory of every address space that has been used
// since the last time.
func (r *Recorder) intervalSnapshot() {
	r.group.FreeSilent() // the sweep would take their CPU from them
	var due []*memory
	for m := range r.memories {
		if m.Ran && m.fs != nil {
			due = append(due, m)
		}
	}
	slices.SortFunc(due, func(a, b *memory) int { return cmp.Compare(a.MM(), b.MM()) })
	for _, m := range due {
		if m.alive() && !r.group.Over() {
			release := m.inside.Outside()
			r.tick(m, r.opts.Snapshot.interval(r.group.Now())/time.Duration(len(due)))
			release()
		}
	}
}

// tick takes the interval snapshot of an address space, or as much of it as fits
// into a share of the time.
func (r *Recorder) tick(m *memory, interval time.Duration) {
	w := &m.sweeps
	if r.sampler.waitsFor(m.Space) {
		return // the kernel would take what is read here for used by the program
	}
	if r.group.Now() < w.notBefore {
		w.leftOut++
		return
	}
	r.tellLeftOut(m)
	r.wantTracking(m)
	if m.track.stage != trackIdle && !r.trackAtTick(m) {
		return
	}
	if m.finder.Live() && !r.sweepBefore(m, interval) {
		return
	}
	if w.watch != nil {
		defer func() { w.watch.Close(); w.watch = nil }()
	}
	if !m.alive() {
		return
	}
	r.snapshotHeld(m)
}

// sweepBefore sweeps an address space before it is held, and begins to watch its page
// faults where that makes the hold shorter. It reports whether it is to be held now.
func (r *Recorder) sweepBefore(m *memory, interval time.Duration) bool {
	w := &m.sweeps
	begin := time.Now()
	if !r.sweep(m, interval) || !m.alive() {
		return false // the next tick goes on from there
	}
	w.notBefore = r.group.Now() + intervalShare*uint64(dirty.FaultCost)*w.armed
	w.armed = 0
	if copyCost*time.Duration(w.cost.Found) > holdMost {
		w.leftOut++
		return false
	}
	interval -= sweepShare * time.Since(begin)
	if w.watch = w.faults.Begin(w.cost, m.tids); w.watch != nil {
		m.notes.Rewind() // all of it is armed anew: who writes from now on has a fault
		r.sweep(m, interval)
	}
	return true
}

// snapshotHeld takes a snapshot of a held address space, and lets its threads go on
// as soon as its memory has been copied.
func (r *Recorder) snapshotHeld(m *memory) {
	r.group.Hold(m.Space)
	t := r.group.Standing(m.Space)
	if t == nil || !r.canCapture(m, ReasonInterval) {
		return
	}
	begin := time.Now()
	now := r.prepareCapture(m, t)
	plan := snapshot.Plan{FilesSince: ago(now, fileTrust), Lazy: m.lazyMost}
	if w := m.sweeps.watch; w != nil {
		plan.Order = snapshot.ByFault
		plan.Faults = func() (addr.Set, bool) { return w.Pages(func() []addr.Addr { return m.restartableSequences() }) }
	}
	h := &hold{group: r.group, sink: m.sink, begin: begin, limit: r.opts.Snapshot.holdLimit(r.group.Now(), m.expected())}
	if !m.Asleep() {
		h.waitedFor(begin)
	}
	reading := time.Now()
	rep := r.reader.Read(m, m.finder, m.notes, plan, h.over, m.sink)
	if !rep.Narrowed {
		m.sweeps.cost.Hold = time.Since(reading)
	}
	s := r.read(m, rep, ReasonInterval)
	m.Ran = !s.whole
	m.registers(false)
	r.group.LetGo(m.Space)
	s.PauseNS = uint64(h.lasted())
	if rep.Narrowed {
		s.whole = s.whole && m.sweeps.watch.Explain(m.finder, r.reader.Narrowed(m, m.finder, plan))
	}
	m.Ran = m.Ran || !s.whole
	m.sink.HandOver()
	s.took = time.Since(begin)
	r.confirm(s)
	r.endCapture(t, s)
	end := r.group.Now()
	m.sweeps.notBefore = max(m.sweeps.notBefore, end+intervalShare*s.PauseNS, end+uint64(s.took))
}

// hold is how long an address space is held: not at all, while all its threads sleep
// and nobody waits.
type hold struct {
	group interface{ Poll() bool }
	sink  *snapshot.Copies
	begin time.Time
	since time.Time // somebody has been held, or waits for us; zero for nobody
	limit time.Duration
}

// waitedFor notes since when somebody waits. What is read is kept in copies from now
// on: that is faster than to write it to the log.
func (h *hold) waitedFor(since time.Time) {
	h.since = since
	h.sink.Keep()
}

// over reports whether the threads have been held for long enough.
func (h *hold) over() bool {
	if h.since.IsZero() {
		if !h.group.Poll() {
			return time.Since(h.begin) > idleMost
		}
		h.waitedFor(time.Now())
	}
	return time.Since(h.begin) > h.limit
}

func (h *hold) lasted() time.Duration {
	if h.since.IsZero() {
		return 0
	}
	return time.Since(h.since)
}

// lazyMost is how much may be read, of a mapping, of what was given back with
// MADV_FREE: little while somebody waits.
func (m *memory) lazyMost() uint64 {
	if m.sink.Keeping() {
		return lazyMost
	}
	return ^uint64(0)
}

// expected is how many pages a hold is going to find.
func (m *memory) expected() uint64 {
	if f, ok := m.finder.(interface{ Pages() uint64 }); ok && m.notes.Full() {
		return f.Pages()
	}
	return m.sweeps.cost.Found
}

// sweep reads what has been written to an address space while its threads run, and
// reports whether it got to the end of it in time. A thread that comes to a stop
// meanwhile is served between two chunks.
func (r *Recorder) sweep(m *memory, interval time.Duration) (whole bool) {
	w := &m.sweeps
	p := pacer{group: r.group, begin: time.Now(), limit: interval / sweepShare, patience: interval / intervalShare}
	if w.behind {
		p.patience *= behindFactor
	}
	if r.group.Pinned() {
		p.limit = p.patience // the program has no CPU of its own
	}
	plan := snapshot.Plan{Order: snapshot.Live, FilesSince: ago(r.group.Now(), fileTrust)}
	if m.notes.Rewound() {
		w.counted = 0
	}
	defer func() { w.cost.Waited = p.waited }()
	for again := false; ; {
		full := m.notes.Full()
		p.chunk = time.Now()
		rep := r.reader.Read(m, m.finder, m.notes, plan, p.stop, m.sink)
		w.counted += rep.Found
		if rep.Pages > 0 {
			r.emit(&format.Event{Thread: m.Any().No, Record: &format.Snapshot{
				MM: m.MM(), Reason: ReasonSweep.String(), Mechanism: m.finder.Name(), Full: rep.Full, Pages: rep.Pages,
			}})
			w.pages += rep.Pages
		}
		if rep.Whole {
			// The first one took long, and so the next one finds much.
			again = !full || !whole && w.counted >= calm
			whole = full
			if full {
				w.behind = false
				w.cost.Found = w.counted
				w.armed += w.counted
			}
			w.counted = 0
		}
		r.group.Answer()
		r.group.ServeWaiting()
		switch {
		case r.group.Over() || !m.alive() || !m.finder.Live():
			return false
		case rep.Err != nil:
			return true // the hold will tell of it
		case p.over() || whole && !again:
			return whole
		}
	}
}

// pacer limits how long a sweep takes, and how long threads wait for it.
type pacer struct {
	group interface {
		Poll() bool
		Wanted() bool
	}
	begin, chunk    time.Time
	limit, patience time.Duration
	waited          time.Duration // of threads, for us
}

// stop reports whether to stop reading after a chunk: a thread has come to a stop,
// somebody asks for something, or it has taken long enough.
func (p *pacer) stop() bool {
	now := time.Now()
	came := p.group.Poll()
	if came {
		p.waited += now.Sub(p.chunk)
	}
	p.chunk = now
	return came || p.group.Wanted() || p.over()
}

func (p *pacer) over() bool { return time.Since(p.begin) > p.limit || p.waited > p.patience }

// tellLeftOut writes down how many interval snapshots there were none of.
func (r *Recorder) tellLeftOut(m *memory) {
	if n := m.sweeps.leftOut; n > 0 {
		m.sweeps.leftOut = 0
		r.lost(0, fmt.Sprintf("interval snapshots of address space %d left out: %d, not to slow the program down", m.MM(), n))
	}
}
