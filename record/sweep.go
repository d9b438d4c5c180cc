//go:build linux

package record

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Interval snapshots are taken in two parts. While the program runs, a sweep
// reads what was written since the last one. Then all threads of the address
// space are held, for as long as it takes to read what they wrote during the
// sweep.

const (
	// intervalShare keeps the stops for interval snapshots to one part in so many
	// of the time, sweepShare what is read beside the running program.
	intervalShare = 20
	sweepShare    = 2
	// calm is how few pages a sweep has to find for the hold to follow at once;
	// after more, another one finds fewer.
	calm = 64
	// What one page costs the program: to be copied while it is held, and to be
	// written to for the first time after a sweep.
	copyCost  = 1500 * time.Nanosecond
	faultCost = 1000 * time.Nanosecond
	// holdMost is how long a program is held for an interval snapshot. What is
	// rewritten faster than that is read by sweeps alone.
	holdMost = 50 * time.Millisecond
)

// intervalSnapshot saves the memory of every address space that has been used
// since the last time.
func (r *Recorder) intervalSnapshot() {
	r.freeSilent() // the sweep would take their CPU from them
	var due []*space
	for mm := range r.mms {
		if mm.ran && mm.fs != nil {
			due = append(due, mm)
		}
	}
	slices.SortFunc(due, func(a, b *space) int { return cmp.Compare(a.no, b.no) })
	for _, mm := range due {
		if r.alive(mm) && !r.stop {
			r.spaceTick(mm, r.opts.Snapshot.Interval/time.Duration(len(due)))
		}
	}
}

// alive says whether an address space is still in use.
func (r *Recorder) alive(mm *space) bool {
	_, ok := r.mms[mm]
	return ok && len(mm.users) > 0
}

// spaceTick takes the interval snapshot of an address space, or as much of it as
// fits into a share of the time.
func (r *Recorder) spaceTick(mm *space, interval time.Duration) {
	if r.now() < mm.notBefore {
		mm.leftOut++
		return
	}
	r.tellLeftOut(mm)
	r.wantTracking(mm)
	if mm.track.wanted {
		r.hold(mm)
		mm.track.late = true
		if t := r.standing(mm); t != nil {
			r.beginTracking(t)
			t.injectable, t.preempted = false, false
		}
		r.serveBacklog()
		if r.stop || !r.alive(mm) {
			return // what they stopped with was an exec, or the end
		}
	}
	if mm.track.uffd != nil {
		begin := time.Now()
		whole := r.sweep(mm, interval)
		if !whole || !r.alive(mm) {
			return // the next tick goes on from there
		}
		mm.notBefore = r.now() + intervalShare*uint64(faultCost)*mm.track.protected
		mm.track.protected = 0
		if copyCost*time.Duration(mm.track.found) > holdMost {
			mm.leftOut++
			return
		}
		interval -= sweepShare * time.Since(begin)
		if mm.track.watch = r.watchFaults(mm); mm.track.watch != nil {
			defer func() { mm.track.watch.Close(); mm.track.watch = nil }()
			mm.track.cursor = 0 // all of it is protected anew: who writes from now on has a fault
			r.sweep(mm, interval)
			if !r.alive(mm) {
				return
			}
		}
	}
	r.hold(mm)
	if t := r.standing(mm); t != nil {
		t.injectable = false
		if s := r.capture(mm, t, "interval"); s != nil {
			r.endCapture(t, s)
			mm.notBefore = max(mm.notBefore, r.now()+intervalShare*s.PauseNS, r.now()+uint64(s.took))
		}
	}
}

// tellLeftOut writes down how many interval snapshots there were none of.
func (r *Recorder) tellLeftOut(mm *space) {
	if mm.leftOut > 0 {
		r.emit(nil, &format.Lost{What: fmt.Sprintf("interval snapshots of address space %d left out: %d, not to slow the program down", mm.no, mm.leftOut)})
		mm.leftOut = 0
	}
}

// standing is a thread that speaks for a held address space: one that a call can
// be injected into, if there is one.
func (r *Recorder) standing(mm *space) (at *thread) {
	for t := range mm.users {
		if t.exiting {
			continue
		}
		if at = t; r.trapped(t) {
			t.injectable = true
			break
		}
	}
	return at
}

// trapped says whether a held thread stands at the stop of our interrupt.
func (r *Recorder) trapped(t *thread) bool {
	for _, s := range r.backlog {
		if s.TID == t.tid {
			return s.Kind == ptrace.Trap
		}
	}
	return false
}

// serveBacklog lets go on whom a hold has stopped.
func (r *Recorder) serveBacklog() {
	for len(r.backlog) > 0 && !r.stop {
		s, _ := r.next()
		r.handle(s)
	}
}

// poll says whether a thread has come to a stop and waits for us.
func (r *Recorder) poll() bool {
	if len(r.backlog) > 0 {
		return true
	}
	s, err := ptrace.Wait(true)
	if err != nil || s.TID == 0 {
		return false
	}
	r.later(s)
	return true
}

// sweep reads what has been written to an address space while its threads run, and
// reports whether it got to the end of it in time. A thread that comes to a stop
// meanwhile is served between two chunks.
func (r *Recorder) sweep(mm *space, interval time.Duration) (whole bool) {
	limit, patience := interval/sweepShare, interval/intervalShare
	if r.pin.count > 0 {
		limit = patience // the program has no CPU of its own
	}
	begin := time.Now()
	r.filesFrom = r.now() - min(r.now(), fileTrust)
	if mm.track.cursor == 0 {
		mm.track.counted = 0
	}
	var waited time.Duration // of threads, for us
	defer func() { mm.track.waited = waited }()
	again := false
	over := func() bool { return time.Since(begin) > limit || waited > patience }
	for {
		chunk := time.Now()
		pages, end := r.readSpace(mm, live, func() bool {
			now := time.Now()
			came := r.poll()
			if came {
				waited += now.Sub(chunk)
			}
			chunk = now
			return came || r.pending.Load() || over()
		})
		if pages > 0 {
			r.emit(r.anyUser(mm), &format.Snapshot{MM: mm.no, Reason: format.ReasonSweep, Mechanism: mm.mechanism(), Full: !mm.track.full, Pages: pages})
			mm.track.swept += pages
		}
		if end {
			// The first one took long, and so the next one finds much.
			again = !mm.track.full || !whole && mm.track.counted >= calm
			whole = mm.track.full
			if mm.track.full {
				mm.track.found = mm.track.counted
				mm.track.protected += mm.track.counted
			}
			mm.track.full, mm.track.counted = true, 0
		}
		if r.pending.Load() {
			r.answer()
		}
		r.serveBacklog()
		if r.stop || !r.alive(mm) || mm.track.uffd == nil {
			return false
		}
		if r.readErr != nil {
			mm.track.full = false // what is protected has not all been read
			return true           // the hold will tell of it
		}
		if over() || whole && !again {
			return whole
		}
	}
}

func (r *Recorder) anyUser(mm *space) *thread {
	for t := range mm.users {
		return t
	}
	return nil
}

// holdLimit is how long an address space may be held for an interval snapshot.
func (r *Recorder) holdLimit(mm *space) time.Duration {
	found := mm.track.found
	if mm.track.soft != nil && mm.track.full {
		found = mm.track.soft.pages.len() / addr.PageSize
	}
	return min(r.opts.Snapshot.Interval/intervalShare+2*copyCost*time.Duration(found), holdMost)
}

// letGoOn lets threads go on that only our interrupt has stopped. What they come
// to next waits until the loop asks for it.
func (r *Recorder) letGoOn(mm *space) {
	if r.pausing {
		return
	}
	r.backlog = slices.DeleteFunc(r.backlog, func(s ptrace.Stop) bool {
		t := r.threads[s.TID]
		if s.Kind != ptrace.Trap || t == nil || t.mm != mm || !t.asked || t.unseen || t.listening {
			return false
		}
		t.asked, t.faults = false, s.Faults
		undoInterrupt(t.tid)
		r.resume(t, 0)
		return true
	})
}

// room is where up to n bytes of memory can be read to.
func (r *Recorder) room(n uint64) []byte {
	if !r.copying {
		return r.buf[:n]
	}
	const most = 32
	used := r.copiedBytes / snapshotChunk
	if used == most {
		r.handOver()
		used = 0
	}
	if used == len(r.copies) {
		r.copies = append(r.copies, make([]byte, snapshotChunk))
	}
	b := r.copies[used][r.copiedBytes%snapshotChunk:]
	return b[:min(n, uint64(len(b)))]
}

// keepCopy notes what was read into room.
func (r *Recorder) keepCopy(p format.Pages) {
	r.copied = append(r.copied, p)
	r.copiedBytes += len(p.Data)
}

// handOver gives the writer what was copied.
func (r *Recorder) handOver() {
	for i := range r.copied {
		r.pages(&r.copied[i])
	}
	r.copied, r.copiedBytes = r.copied[:0], 0
}

// readStill reads pages that have just been protected, into r.buf behind those in
// r.still. Those that are written meanwhile are restless: they will be found again.
func (r *Recorder) readStill(mm *space, at addr.Range, used int) (end int) {
	for a := at.Start; a < at.End; {
		b := r.buf[used:][:at.End-a]
		got, err := mm.fs.ReadMem(b, a)
		if errors.Is(err, procfs.ErrGone) {
			r.readErr = err
			return used
		}
		got -= got % addr.PageSize
		if got == 0 {
			r.still = append(r.still, format.Pages{MM: mm.no, Addr: a, N: 1, What: format.PageUnreadable})
			a += addr.PageSize
			continue
		}
		part := addr.Range{Start: a, End: a + addr.Addr(got)}
		still := func(to addr.Addr) {
			if a < to {
				n := to - a
				r.still = append(r.still, format.Pages{MM: mm.no, Addr: a, N: uint64(n) / addr.PageSize, What: format.PageData, Data: r.buf[used : used+int(n)]})
			}
		}
		for next := a; next < part.End; {
			var err error
			next, err = mm.fs.Scan(addr.Range{Start: next, End: part.End}, procfs.PageWritten, procfs.PageWritten, false, 0, func(g procfs.Region) {
				still(g.Start)
				r.restless = append(r.restless, g.Range)
				used += int(g.End - a)
				a = g.End
			})
			if err != nil {
				return used // it is gone
			}
		}
		still(part.End)
		used += int(part.End - a)
		a = part.End
	}
	return used
}

// sweepable says whether a mapping can be read while the program writes to it.
func (mm *space) sweepable(v vma.VMA) bool { return mm.tracked(v) && !unread(v) && !huge(v) }
