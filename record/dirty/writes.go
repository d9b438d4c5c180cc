//go:build linux

// This file has a trace of which pages a program writes to, and when, that does not stop it. How it
// goes on from phase to phase is in phases.go.
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

// Open is how many pages are open.
func (w *Writes) Open() uint64 { return uint64(len(w.open)) }

// held are the pages that are open when a phase begins; with true they may have another
// fault.
type held map[addr.Addr]bool

const (
	block = 2 << 20 // that one table of pages is for
	// walkShare has a look at all pages take no more than one part in so many of the time.
	walkShare = 20
	// queryGap is how many bytes that nobody asks for cost as little as another call.
	queryGap = 64 * addr.PageSize
)

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
