//go:build linux

// This file watches page faults, so that a hold need not look for the pages that were
// written since the last sweep.
//
// To ask the kernel for them takes as long as to walk all page tables: in a large
// address space that is most of the hold. There the page faults are watched from the
// beginning of the last sweep on: each page that was written has one. When the threads
// run again, a walk over all page tables shows whether that was so. If not (another
// process wrote, or the kernel for it), the snapshot is not whole.

package dirty

import (
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

const (
	faultsFrom  = 150 * time.Microsecond // how long a hold has to read without
	faultsFound = 1000                   // pages a sweep, from which on it is not worth it
	faultsWait  = 100 * time.Microsecond // that threads waited for the sweep: another one would cost as much
	faultsMost  = 48                     // pages with faults that are looked at one by one
	faultsDoubt = 3                      // times in a row that pages were written without a fault
)

// FaultSource yields page faults; *procfs.Faults is one.
type FaultSource interface {
	// Take appends the pages of the faults since the last Take; all says that none is
	// missing.
	Take(pages []addr.Addr) (_ []addr.Addr, all bool)
	Close()
}

// faultsReady is closed when page faults can be watched. The first watch on a machine
// takes the kernel 30 ms, so nobody waits for it.
var faultsReady = sync.OnceValue(func() <-chan struct{} {
	ready := make(chan struct{})
	go func() {
		if procfs.PrepareFaults() == nil {
			close(ready)
		}
	}()
	return ready
})

// perfSource watches threads, once faultsReady; nil, nil before.
func perfSource(tids []int) (FaultSource, error) {
	select {
	case <-faultsReady():
	default:
		return nil, nil
	}
	f, err := procfs.WatchFaults(tids)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// FaultCost is what it costs a program to write to a page for the first time after a sweep.
const FaultCost = 1000 * time.Nanosecond

// Cost is what reading an address space has cost until now.
type Cost struct {
	Hold   time.Duration // that the last hold without page faults took to read
	Found  uint64        // pages that the last sweep from beginning to end found
	Waited time.Duration // of threads for the last sweep
}

// FaultWatch decides whether the page faults of an address space are watched. Its zero
// value is ready for use.
type FaultWatch struct {
	// Source, if not nil, watches threads instead of the kernel's perf events. It may
	// have nothing to watch with yet: nil, nil.
	Source func(tids []int) (FaultSource, error)
	doubts int // times in a row that faults did not explain what was written
}

// Begin begins to watch the page faults of threads; nil where that is not worth it, or
// cannot be.
func (w *FaultWatch) Begin(c Cost, tids func() []int) *Faults {
	if c.Hold < faultsFrom || c.Found > faultsFound || c.Waited > faultsWait || w.doubts >= faultsDoubt {
		return nil
	}
	source := w.Source
	if source == nil {
		source = perfSource
	}
	f, err := source(tids())
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		w.doubts = faultsDoubt
	}
	if err != nil || f == nil {
		return nil
	}
	return &Faults{source: f, watch: w}
}

// Faults are the page faults of an address space since they are watched.
type Faults struct {
	source FaultSource
	watch  *FaultWatch
	// unseen are pages that the kernel writes to without a fault when it lets the
	// threads go on.
	unseen []addr.Addr
	forked bool
}

// Forked notes that the program has forked: the fault of a page that it shares now may
// hide a write before.
func (f *Faults) Forked() {
	if f != nil {
		f.forked = true
	}
}

// Pages are the pages that had a fault since the watch began, for a hold. It adds those
// of rseq, at which the kernel writes to the struct rseq of each thread. It fails when
// faults are missing, or so many that a walk is as fast.
func (f *Faults) Pages(rseq func() []addr.Addr) (pages addr.Set, ok bool) {
	faults, all := f.source.Take(nil)
	slices.Sort(faults)
	faults = slices.Compact(faults)
	if !all || len(faults) > faultsMost || f.forked {
		return pages, false
	}
	for _, a := range rseq() {
		f.unseen = append(f.unseen, a.PageDown())
	}
	for _, a := range slices.Concat(faults, f.unseen) {
		pages.Add(addr.Reach(a, addr.PageSize))
	}
	return pages, true
}

// Explain reports whether every page of some mappings that is found written now had a
// page fault since Pages was called. Then Pages missed no write that was before.
func (f *Faults) Explain(finder Finder, mappings iter.Seq[vma.VMA]) bool {
	var written addr.Set
	for v := range mappings {
		for next := v.Start; next < v.End; {
			var err error
			next, err = finder.Scan(addr.Range{Start: next, End: v.End}, true, false, func(g procfs.Region) {
				if g.Categories&Present != 0 {
					written.Add(g.Range)
				}
			})
			if err != nil {
				return false
			}
		}
	}
	faults, _ := f.source.Take(slices.Clone(f.unseen))
	slices.Sort(faults)
	for r := range written.All() {
		for a := r.Start; a < r.End; a += addr.PageSize {
			if _, ok := slices.BinarySearch(faults, a); !ok {
				f.watch.doubts++
				return false
			}
		}
	}
	f.watch.doubts = 0
	return true
}

// Close ends the watch.
func (f *Faults) Close() { f.source.Close() }
