//go:build linux

// This file begins and ends the phases of a trace of page writes.

package dirty

import (
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
)

// Begin protects all that is there. The threads should stand still.
func (w *Writes) Begin() error {
	if err := w.protect(addr.SetOf(everywhere), new(addr.Set)); err != nil {
		return err
	}
	w.walk.began = true
	w.taken, _ = w.faults.Take(w.taken[:0])
	w.missing = false
	w.out.Turned(&format.Phase{Engine: format.EngineWP, Granule: addr.PageSize, Pool: w.Pool, Time: w.now()})
	return nil
}

// Turn begins the next phase.
func (w *Writes) Turn() {
	w.Look()
	var written addr.Set
	begin := w.now()
	whole := begin-w.walk.last >= walkShare*w.walk.took
	places := addr.SetOf(everywhere)
	if !whole {
		places = w.near()
	}
	err := w.protect(places, &written)
	end := w.now()
	h := w.late(begin, end, &written)

	p := w.phase(&written)
	p.Pool, p.Time = w.Pool, end
	p.Incomplete = p.Incomplete || err != nil
	p.Exact = whole && w.walk.began && !p.Incomplete && w.shared.Count() == 0
	w.walk.began = whole && err == nil
	if w.walk.began {
		w.walk.last, w.walk.took = end, end-begin
	}
	unopened := w.lastOnes(end, h)
	clear(w.open)
	for page, again := range h {
		if !again {
			w.open[page] = struct{}{}
		}
	}
	for _, page := range unopened {
		h[page] = true
	}
	w.held = h
	maps.DeleteFunc(w.last, func(o whose, _ procfs.Fault) bool { return w.space.Done(o.tid) })
	p.HeldPages = slices.Sorted(maps.Keys(h))
	p.Held = uint64(len(h))
	w.out.Turned(p)
}

// late tells of the faults until end since the last look: from begin on, written was found
// and protected.
func (w *Writes) late(begin, end uint64, written *addr.Set) held {
	w.turned = maps.Clone(w.last)
	w.take()
	over := map[uint32]uint64{} // until when the faults of each thread were over at begin
	for i := range w.pending {
		f := &w.pending[i]
		if f.Time <= begin {
			over[f.TID] = f.Time
		}
		if f.Time <= end {
			w.turned[whoseIs(f.Fault)] = f.Fault
		}
	}
	w.pages = w.pages[:0]
	for i := range w.pending {
		if f := &w.pending[i]; f.Time <= end {
			f.asked, f.over = true, w.over(f.Fault)
			w.pages = append(w.pages, f.Addr)
		}
	}
	now, err := w.unprotected(w.pages)
	if err != nil {
		w.missing = true
	}
	w.take()
	clear(w.final)
	h, after := held{}, map[addr.Addr]bool{}
	for i, f := range w.pending {
		if f.Time <= end {
			w.choose(i)
		} else {
			after[f.Addr] = true
		}
	}
	var unsure []addr.Addr
	kept := w.pending[:0]
	for i, f := range w.pending {
		if f.Time > end {
			kept = append(kept, f)
			continue
		}
		at := addr.Reach(f.Addr, 1)
		opened := now.Overlaps(at)
		if !opened && !f.over {
			unsure = append(unsure, f.Addr)
		}
		if opened {
			h[f.Addr] = after[f.Addr]
		}
		switch _, open := w.open[f.Addr]; {
		case w.repeated(f.Fault), open:
		case !f.asked:
			kept = append(kept, f)
		case written.Overlaps(at), w.armed.Overlaps(at), opened && !after[f.Addr]:
			if w.final[f.Addr] == i {
				w.wrote(f, true)
			}
		case opened && f.Time < over[f.TID]: // a read: one that is later has opened it
		case opened: // by this one or by one in the next phase
			w.wrote(f, false)
		case !f.over:
			kept = append(kept, f)
		}
	}
	w.pending = kept
	for _, page := range unsure {
		if _, open := w.open[page]; open && !h[page] {
			h[page] = true // it may have been opened since
		}
	}
	return h
}

// lastOnes are the pages of the last faults until end of threads, but for those that are
// known to be open: the threads may have another one for the same write.
func (w *Writes) lastOnes(end uint64, open held) (pages []addr.Addr) {
	before := maps.Clone(w.again)
	clear(w.again)
	next := map[uint32]bool{} // threads that have had another fault
	waits := map[uint64]bool{}
	for i := range w.pending {
		if f := &w.pending[i]; f.Time > end {
			next[f.TID] = true
		} else {
			waits[f.Time] = true
		}
	}
	for o, f := range w.turned {
		if o.kernel && w.turned[whose{o.tid, false}].Time > f.Time {
			continue // the thread has gone on since
		}
		_, recorded := w.open[f.Addr]
		again, still := open[f.Addr]
		recorded = recorded || before[o] == f && f.Time != 0
		if recorded && (!still || again) && !waits[f.Time] && (next[o.tid] || !w.space.Done(o.tid)) {
			w.again[o] = f
			pages = append(pages, f.Addr)
		}
	}
	return pages
}

// phase is what is known of the phase that ends, in which written was found at its end.
func (w *Writes) phase(written *addr.Set) *format.Phase {
	p := &format.Phase{Engine: format.EngineWP, Granule: addr.PageSize, Incomplete: w.missing}
	for r := range written.All() {
		for a := r.Start; a < r.End && !p.Incomplete; a += addr.PageSize {
			_, open := w.open[a]
			_, held := w.held[a]
			p.Incomplete = !open && !held
		}
	}
	written.AddSet(w.written)
	var open addr.Set
	for _, a := range slices.Sorted(maps.Keys(w.open)) {
		open.Add(addr.Reach(a, addr.PageSize))
	}
	written.AddSet(open)
	p.Written = slices.Collect(written.All())
	w.armed.Clear()
	w.written.Clear()
	w.missing = false
	return p
}

// End tells what has been written until now, and that it is not traced any longer.
func (w *Writes) End() {
	w.Look()
	p := w.phase(new(addr.Set))
	p.Time = w.now()
	clear(w.open)
	w.out.Turned(p)
}

// Mapped protects what is there already at a new place, or counts as written because the
// place has left the watch: nobody need have written it.
func (w *Writes) Mapped(at addr.Range) {
	var found addr.Set
	_ = w.finder.Protect(at, Reported, w.Keep, func(g procfs.Region) {
		if anyWrote(g.Categories) {
			found.Add(g.Range)
		}
	})
	w.armed.AddSet(found)
}

// Gone forgets a place that is not mapped any more.
func (w *Writes) Gone(at addr.Range) { w.shared.Remove(at) }
