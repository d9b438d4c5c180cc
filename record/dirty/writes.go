//go:build linux

// This file tells which pages a program writes to, and when, without stopping it.
//
// A phase begins with all pages protected. The first write to a page has a fault, which
// takes the protection from it: the page is open. When as many pages are open as the pool
// allows they are protected again, and the next phase begins.
//
// The program runs while pages are protected. A page to which it writes meanwhile, after
// its turn, is open when the next phase begins: it is held. So is that of the last fault of
// a thread that has not been seen in a call since: it may have been about to write when the
// page was protected again, and has another fault for the same write then. The kernel may
// have one of its own in between, when it writes the thread's area for rseq(2).
//
// A fault is no write: it may be that of a read, to a page that was not there. So it is
// looked at whether the page is open afterwards. The fault is told of at its beginning: as
// long as its thread has no other, and runs, a page that is not open may become so.

package dirty

import (
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// FaultLog yields page faults with their times; *procfs.FaultLog is one.
type FaultLog interface {
	// Take appends the faults since the last Take; all says that none is missing.
	Take(faults []procfs.Fault) (_ []procfs.Fault, all bool)
	Empty() bool
}

// Traced is an address space whose writes are traced.
type Traced interface {
	Mappings() *vma.Set
	// Grow brings up to date what mappings have grown by themselves.
	Grow()
	// Stands says whether a thread stands still, so that its last fault is over.
	Stands(tid uint32) bool
	// Done says whether a thread is known to have made the access that its last fault was
	// for.
	Done(tid uint32) bool
	// Access says what an instruction does with memory, if it is known that it does
	// nothing else: it reads its operand, or writes it.
	Access(ip addr.Addr) (reads, writes bool)
}

// WritesOut is told what was written, in the order of time.
type WritesOut interface {
	// Wrote tells the first write to a page in a phase; a kind that is not known may
	// have been a read. Its Thread is a tid, its Time that of the fault.
	Wrote(r format.Ref)
	// Turned tells that a phase has ended and another begun; p is valid during the call.
	Turned(p *format.Phase)
}

// Writes traces the writes to an address space.
type Writes struct {
	// Pool is how many pages are open when the next phase begins; it may be changed.
	Pool uint64
	// Keep has a page that is protected count as written for Scan until that has told it.
	Keep bool

	finder *Uffd
	faults FaultLog
	space  Traced
	out    WritesOut
	now    func() uint64 // CLOCK_MONOTONIC

	pending []fault                // of which it is not known what they were, in the order of time
	last    map[whose]procfs.Fault // of each thread
	turned  map[whose]procfs.Fault // the same at the end of a phase
	again   map[whose]procfs.Fault // of threads that may have one more for the same write
	open    map[addr.Addr]struct{}
	held    held     // when the phase began
	armed   addr.Set // that others have protected in this phase, or we at a new place
	written addr.Set // the part of armed that was written
	shared  addr.Set // pages of shared mappings that have been protected since they are there
	missing bool     // faults of this phase

	walk  walk
	pages []addr.Addr // scratch
	taken []procfs.Fault
	final map[addr.Addr]int
}

// fault is one whose Addr is that of its page.
type fault struct {
	procfs.Fault
	writes      bool // its instruction does
	asked, over bool // it has been asked what it was, and was over then
}

// whose faults: a thread's, or the kernel's on behalf of it.
type whose struct {
	tid    uint32
	kernel bool
}

func whoseIs(f procfs.Fault) whose { return whose{f.TID, f.Kernel} }

// walk is a look at all pages that there are.
type walk struct {
	last, took uint64 // when one was, and how long it took
	began      bool   // the phase began with one: nothing is older that its end finds
}

// NewWrites traces writes from Begin on. now is the time of the faults' clock.
func NewWrites(u *Uffd, faults FaultLog, space Traced, out WritesOut, now func() uint64) *Writes {
	w := &Writes{
		finder: u, faults: faults, space: space, out: out, now: now,
		last: map[whose]procfs.Fault{}, again: map[whose]procfs.Fault{}, open: map[addr.Addr]struct{}{}, final: map[addr.Addr]int{},
	}
	u.Share(func(g procfs.Region) {
		if anyWrote(g.Categories) {
			w.armed.Add(g.Range)
			w.written.Add(g.Range)
		}
	})
	return w
}

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

// Open is how many pages are open.
func (w *Writes) Open() uint64 { return uint64(len(w.open)) }

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

// held are the pages that are open when a phase begins; with true they may have another
// fault.
type held map[addr.Addr]bool

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

const (
	block = 2 << 20 // that one table of pages is for
	// walkShare has a look at all pages take no more than one part in so many of the time.
	walkShare = 20
	// queryGap is how many bytes that nobody asks for cost as little as another call.
	queryGap = 64 * addr.PageSize
)

// near is around the pages that are open: those have faults. What others write has none.
func (w *Writes) near() (places addr.Set) {
	for _, a := range slices.Sorted(maps.Keys(w.open)) {
		places.Add(addr.Reach(a-a%block, block))
	}
	return places
}

// protect protects what was written, and adds what has contents of its own to written.
func (w *Writes) protect(places addr.Set, written *addr.Set) error {
	var shared addr.Set
	for at := range places.All() {
		for v := range w.space.Mappings().Overlapping(at) {
			if !w.watches(v) {
				continue
			}
			err := w.finder.Protect(v.Intersect(at), report(v), w.Keep && w.finder.Covers(v), func(g procfs.Region) {
				if wrote(v, g.Categories) {
					written.Add(g.Range)
				}
				if v.Prot&addr.Shared != 0 {
					shared.Add(g.Range)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	w.shared.AddSet(shared)
	return nil
}

// watches says whether the writes to a mapping are traced. Parts of pages of hugetlbfs
// cannot be protected.
func (w *Writes) watches(v vma.VMA) bool { return w.finder.Watches(v) && !Huge(v) }

// unprotected are those of some pages that have contents of their own and are not
// protected. It sorts them.
func (w *Writes) unprotected(pages []addr.Addr) (found addr.Set, err error) {
	slices.Sort(pages)
	grown := false
	for i := 0; i < len(pages); {
		v, ok := w.space.Mappings().Find(pages[i])
		if !ok && !grown {
			grown = true
			w.space.Grow()
			continue
		}
		if !ok || !w.watches(v) {
			i++
			continue
		}
		at := addr.Reach(pages[i], addr.PageSize)
		for i++; i < len(pages) && pages[i] < v.End && pages[i] <= at.End+queryGap; i++ {
			at.End = pages[i] + addr.PageSize
		}
		err = w.finder.Unprotected(at, report(v), func(g procfs.Region) {
			if wrote(v, g.Categories) {
				found.Add(g.Range)
			}
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// report are the categories that tell of the pages of a mapping whether they have
// contents of their own.
func report(v vma.VMA) uint64 {
	if v.File() && v.Prot&addr.Shared == 0 {
		return Present | procfs.PageIsZero | procfs.PageIsFile
	}
	return Present | procfs.PageIsZero
}

// anyWrote is wrote where the mapping is not known: what may be the file's does not count.
func anyWrote(categories uint64) bool {
	return categories&Present != 0 && categories&(procfs.PageIsZero|procfs.PageIsFile) == 0
}

// wrote says whether a page that is not protected was written to since it is there. In
// shared mappings it may be that it was only read.
func wrote(v vma.VMA, categories uint64) bool {
	return categories&Present != 0 && categories&procfs.PageIsZero == 0 && (v.Prot&addr.Shared != 0 || categories&procfs.PageIsFile == 0)
}
