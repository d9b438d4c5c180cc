//go:build linux

package record

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// A hold has to find the few pages that were written since the last sweep. To ask
// the kernel for them takes as long as to walk all page tables: in a large address
// space that is most of the hold. There the page faults are watched from the
// beginning of the last sweep on: each page that was written has one. When the
// threads run again, a walk over all page tables shows whether that was so. If
// not (another process wrote, or the kernel for it), the snapshot is not whole.

const (
	watchFrom  = 150 * time.Microsecond // how long a hold has to read without
	watchFound = 1000                   // pages a sweep, from which on it is not worth it
	watchWait  = 100 * time.Microsecond // that threads waited for the sweep: another one would cost as much
	watchMost  = 48                     // pages with faults that are looked at one by one
	watchDoubt = 3                      // times in a row that pages were written without a fault
)

// watching says, once, whether page faults can be watched. The first watch on a
// machine takes the kernel 30 ms, so nobody waits for it.
var watching = sync.OnceValue(func() <-chan struct{} {
	ready := make(chan struct{})
	go func() {
		if procfs.PrepareFaults() == nil {
			close(ready)
		}
	}()
	return ready
})

// watch is of the page faults of an address space.
type watch struct {
	*procfs.Faults
	// rseq are the pages that the kernel writes to without a fault when it lets the
	// threads go on.
	rseq []addr.Addr
	// forked says that the program has forked since: the fault of a page that it
	// shares now may hide a write before.
	forked bool
}

// watchFaults begins to watch the page faults of an address space; nil where that is
// not worth it, or cannot be.
func (r *Recorder) watchFaults(mm *space) *watch {
	k := &mm.track
	if k.walk < watchFrom || k.found > watchFound || k.waited > watchWait || k.doubts >= watchDoubt {
		return nil
	}
	select {
	case <-watching():
	default:
		return nil
	}
	var tids []int
	for t := range mm.users {
		if !t.exiting {
			tids = append(tids, t.tid)
		}
	}
	f, err := procfs.WatchFaults(tids)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		k.doubts = watchDoubt
	}
	if err != nil {
		return nil
	}
	return &watch{Faults: f}
}

// narrow leaves of the mappings whose writes are found the parts that had a fault or
// were mapped since the last snapshot. It reports whether it did.
func (r *Recorder) narrow(mm *space, todo []vma.VMA) (parts []vma.VMA, ok bool) {
	w := mm.track.watch
	faults, all := w.Take(nil)
	slices.Sort(faults)
	faults = slices.Compact(faults)
	if !all || len(faults) > watchMost || w.forked {
		return todo, false
	}
	for t := range mm.users {
		if at, err := ptrace.RSeq(t.tid); err == nil && at != 0 {
			w.rseq = append(w.rseq, addr.Addr(at).PageDown())
		}
	}
	places := slices.Concat(mm.track.fresh, mm.track.freed, mm.track.lazy)
	for _, a := range append(faults, w.rseq...) {
		places = append(places, addr.Range{Start: a, End: a + addr.PageSize})
	}
	slices.SortFunc(places, func(a, b addr.Range) int { return cmp.Compare(a.Start, b.Start) })
	for _, v := range todo {
		if !r.narrows(mm, v) {
			parts = append(parts, v)
			continue
		}
		for next := v.Start; len(places) > 0 && places[0].Start < v.End; {
			at := places[0].Intersect(addr.Range{Start: next, End: v.End})
			if !at.Empty() {
				parts = append(parts, v.Slice(at))
				next = at.End
			}
			if places[0].End > v.End {
				break // goes on in the next mapping
			}
			places = places[1:]
		}
	}
	return parts, true
}

func (r *Recorder) narrows(mm *space, v vma.VMA) bool { return mm.sweepable(v) && !r.changing(v) }

// explained says whether all pages that are written now had a fault since narrow
// asked: so narrow had all that were written before.
func (r *Recorder) explained(mm *space) bool {
	var written []addr.Range
	const present = procfs.PagePresent | procfs.PageSwapped
	for v := range mm.vmas.All() {
		for next := v.Start; next < v.End && r.narrows(mm, v); {
			var err error
			next, err = mm.fs.Scan(addr.Range{Start: next, End: v.End}, procfs.PageWritten, present, false, 0, func(g procfs.Region) {
				if g.Categories&present != 0 {
					written = append(written, g.Range)
				}
			})
			if err != nil {
				return false
			}
		}
	}
	faults, _ := mm.track.watch.Take(mm.track.watch.rseq)
	slices.Sort(faults)
	for _, w := range written {
		for a := w.Start; a < w.End; a += addr.PageSize {
			if _, ok := slices.BinarySearch(faults, a); !ok {
				mm.track.doubts++
				return false
			}
		}
	}
	mm.track.doubts = 0
	return true
}
