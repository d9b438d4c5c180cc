//go:build linux

// This file looks which page faults have come, and which of them were writes.

package dirty

import (
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
)

// Look tells what has been written until now.
func (w *Writes) Look() {
	if len(w.pending) == 0 && w.faults.Empty() {
		return
	}
	w.take()
	for range mostLooks {
		if !w.lookOnce() {
			return
		}
	}
}

// mostCalled is how many pages of a call are looked at.
const mostCalled = 1 << 14

// Called has it looked at which of the pages were written that a call may have written to,
// where the kernel's faults are not told. time is when it was over.
func (w *Writes) Called(tid uint32, ip addr.Addr, time uint64, at addr.Range) {
	at = at.PageAlign()
	at.End = min(at.End, at.Start+mostCalled*addr.PageSize)
	for a := at.Start; a < at.End; a += addr.PageSize {
		if _, open := w.open[a]; !open {
			w.pending = append(w.pending, fault{Fault: procfs.Fault{Time: time, TID: tid, Kernel: true, IP: ip, Addr: a}})
		}
	}
}

// mostLooks is how often Look looks again because the program has gone on meanwhile.
const mostLooks = 8

// lookOnce asks what the faults that are known have been of. It reports whether more can be
// known of some now.
func (w *Writes) lookOnce() (again bool) {
	w.pages = w.pages[:0]
	for i := range w.pending {
		f := &w.pending[i]
		f.asked, f.over = true, w.over(f.Fault)
		if _, open := w.open[f.Addr]; !open {
			w.pages = append(w.pages, f.Addr)
		}
	}
	found, err := w.unprotected(w.pages)
	if err != nil { // it has ended
		w.missing = w.missing || len(w.pages) > 0
		w.pending = w.pending[:0]
		return false
	}
	w.take() // a page that was read may have been written meanwhile
	clear(w.final)
	for i := range w.pending {
		f := &w.pending[i]
		at := addr.Reach(f.Addr, 1)
		if _, asked := slices.BinarySearch(w.pages, f.Addr); asked && (found.Overlaps(at) || w.armed.Overlaps(at)) {
			w.choose(i)
		}
	}
	kept := w.pending[:0]
	for i, f := range w.pending {
		n, written := w.final[f.Addr]
		switch _, open := w.open[f.Addr]; {
		case w.repeated(f.Fault), open:
		case written && n == i && f.asked:
			w.wrote(f, true)
		case written && n == i, !written && !f.over: // in its turn
			kept = append(kept, f)
			again = again || w.over(f.Fault)
		}
	}
	w.pending = kept
	return again
}

// choose has a pending fault be the one that tells of its page, if it is the first by an
// instruction that writes, or there is none such. Others may have been reads, or are of a
// CPU that has not heard yet that the page is open.
func (w *Writes) choose(i int) {
	f := &w.pending[i]
	if n, ok := w.final[f.Addr]; !ok || !w.pending[n].writes {
		w.final[f.Addr] = i
	}
}

// take takes the faults that there are.
func (w *Writes) take() {
	var all bool
	w.taken, all = w.faults.Take(w.taken[:0])
	w.missing = w.missing || !all
	for _, f := range w.taken {
		f.Addr = f.Addr.PageDown()
		reads, writes := false, false
		if !f.Kernel {
			reads, writes = w.space.Access(f.IP)
		}
		if !reads {
			w.pending = append(w.pending, fault{Fault: f, writes: writes})
		}
		if last, ok := w.last[whoseIs(f)]; !ok || last.Time <= f.Time {
			w.last[whoseIs(f)] = f
		}
	}
	slices.SortStableFunc(w.pending, func(a, b fault) int { return int(int64(a.Time - b.Time)) })
}

// over says whether the kernel has done with a fault.
func (w *Writes) over(f procfs.Fault) bool {
	last := max(w.last[whose{f.TID, false}].Time, w.last[whose{f.TID, true}].Time)
	return last != f.Time || w.space.Stands(f.TID)
}

// repeated says whether a fault is one more of a write whose page was protected again
// before it could be made: the next of its thread. The kernel may have some of its own
// before that.
func (w *Writes) repeated(f procfs.Fault) bool {
	before, ok := w.again[whoseIs(f)]
	if ok && before.Time == f.Time {
		return false
	}
	delete(w.again, whose{f.TID, true})
	if !f.Kernel {
		delete(w.again, whose{f.TID, false})
	}
	if !ok || before.Addr != f.Addr || before.IP != f.IP {
		return false
	}
	w.open[f.Addr] = struct{}{}
	return true
}

// wrote tells the access that a fault was of; sure says that it was a write, if only
// writes have faults there.
func (w *Writes) wrote(f fault, sure bool) {
	w.open[f.Addr] = struct{}{}
	if v, ok := w.space.Mappings().Find(f.Addr); ok && v.Prot&addr.Shared != 0 && !w.shared.Overlaps(addr.Reach(f.Addr, 1)) {
		sure = false // who reads there first is let in to write as well
	}
	kind := format.RefUnknown
	switch {
	case f.Kernel:
		kind = format.RefCall
	case sure || f.writes:
		kind = format.RefWrite
	}
	w.out.Wrote(format.Ref{Thread: f.TID, Page: f.Addr, IP: f.IP, Time: f.Time, Kind: kind})
}
