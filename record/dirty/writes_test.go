//go:build linux

package dirty

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
)

// busy is a program with threads that access memory all the time: whenever somebody looks
// at it or at the clock. An access has a fault where the kernel has to be asked. The fault
// is told of, then the kernel serves it, then the access is tried again.
type busy struct {
	*dirtytest.Memory
	rng      *rand.Rand
	clock    uint64
	quiet    bool // all threads stand still
	threads  []access
	pages    int
	log      []procfs.Fault
	lose     bool // the log has lost some
	done     []access
	faulted  []access // every fault, by its time
	accesses int
}

// access is one of a thread.
type access struct {
	tid   uint32
	page  addr.Addr
	write bool
	ip    addr.Addr
	stage int
	fault uint64 // time of the last one; 0 none
	time  uint64 // when it was done
}

func newBusy(m *dirtytest.Memory, rng *rand.Rand, threads, pages int) *busy {
	b := &busy{Memory: m, rng: rng, threads: make([]access, threads), pages: pages, clock: 1000}
	for i := range b.threads {
		b.next(i)
	}
	m.Step = func() {
		for range b.rng.IntN(3) {
			b.step()
		}
	}
	return b
}

func (b *busy) next(i int) {
	b.accesses++
	a := access{tid: uint32(100 + i), page: page(b.rng.IntN(b.pages)), write: b.rng.IntN(4) > 0, ip: addr.Addr(4 * b.accesses)}
	switch {
	case b.rng.IntN(4) == 0: // an instruction that nobody knows
	case a.write:
		a.ip++
	default:
		a.ip += 2
	}
	b.threads[i] = a
}

func (b *busy) step() {
	if !b.quiet {
		b.run(b.rng.IntN(len(b.threads)))
	}
}

func (b *busy) run(i int) {
	b.clock++
	a := &b.threads[i]
	switch {
	case a.stage == 1:
		if a.write {
			b.Write(a.page, b.clock, true)
		} else {
			b.Touch(a.page)
		}
		a.stage = 0
		if b.rng.IntN(6) == 0 {
			b.preempt(i)
		}
	case b.Memory.Faults(a.page, a.write):
		a.fault, a.stage = b.clock, 1
		b.log = append(b.log, procfs.Fault{Time: b.clock, TID: a.tid, IP: a.ip, Addr: a.page + addr.Addr(b.rng.IntN(addr.PageSize))})
		b.faulted = append(b.faulted, *a)
	default:
		a.time = b.clock
		b.done = append(b.done, *a)
		b.next(i)
	}
}

// preempt has the kernel write a thread's area for rseq(2) before it goes on with its
// access: the kernel has a fault of its own for that.
func (b *busy) preempt(i int) {
	at := page(b.pages + i)
	b.clock++
	if b.Memory.Faults(at, true) {
		b.log = append(b.log, procfs.Fault{Time: b.clock, TID: b.threads[i].tid, Kernel: true, Addr: at})
		b.faulted = append(b.faulted, access{tid: b.threads[i].tid, page: at, write: true, fault: b.clock})
		b.Write(at, b.clock, true)
	}
}

// stand has all threads finish what they do with the kernel, and stop.
func (b *busy) stand() {
	b.quiet = true
	for i := range b.threads {
		if b.threads[i].stage == 1 {
			b.run(i)
		}
	}
}

func (b *busy) Take(faults []procfs.Fault) ([]procfs.Fault, bool) {
	all := !b.lose
	faults = append(faults, b.log...)
	b.log, b.lose = nil, false
	return faults, all
}

func (b *busy) Empty() bool                              { return len(b.log) == 0 }
func (b *busy) Access(ip addr.Addr) (reads, writes bool) { return ip%4 == 2, ip%4 == 1 }
func (b *busy) Grow()                                    {}
func (b *busy) Stands(uint32) bool                       { return b.quiet }
func (b *busy) Done(tid uint32) bool                     { return b.quiet && b.threads[tid-100].fault == 0 }
func (b *busy) now() uint64                              { b.Memory.Step(); b.clock++; return b.clock }

// heard is what a trace of writes tells.
type heard struct {
	phases []heardPhase // the first is before the trace begins
}

type heardPhase struct {
	format.Phase // at its beginning; that of the end is the next one's
	refs         []format.Ref
}

func (h *heard) Wrote(r format.Ref) {
	last := &h.phases[len(h.phases)-1]
	last.refs = append(last.refs, r)
}

func (h *heard) Turned(p *format.Phase) {
	kept := *p
	kept.HeldPages, kept.Written = slices.Clone(p.HeldPages), slices.Clone(p.Written)
	h.phases = append(h.phases, heardPhase{Phase: kept})
}

// check says what is wrong with what was heard of a program.
func (h *heard) check(b *busy, from uint64) (wrong []string) {
	say := func(text string, args ...any) { wrong = append(wrong, fmt.Sprintf(text, args...)) }
	faults := map[uint64]access{}
	times := map[addr.Addr]int{} // how often each access was recorded
	for _, f := range b.faulted {
		faults[f.fault] = f
	}
	for n := 1; n < len(h.phases); n++ {
		p := h.phases[n]
		open := map[addr.Addr]bool{}
		for _, a := range p.HeldPages {
			open[a] = true
		}
		recorded := map[addr.Addr]bool{}
		for _, r := range p.refs {
			f, ok := faults[r.Time]
			if r.Kind == format.RefCall && ok && r.Thread == f.tid && r.Page == f.page && f.ip == 0 {
				open[r.Page] = true
				continue
			}
			if times[r.IP]++; times[r.IP] > 1 && r.IP%4 == 1 {
				say("phase %d: %+v was recorded before", n, r)
			}
			// A read of a page that was not there may have met a write by another thread.
			met := slices.ContainsFunc(b.faulted, func(o access) bool {
				return o.write && o.page == f.page && o.tid != f.tid && o.fault > p.Time && o.fault < f.fault
			})
			if !ok || !f.write && !met && r.Kind != format.RefUnknown || f.tid != r.Thread || f.page != r.Page || r.IP != f.ip || r.Kind != format.RefWrite && r.Kind != format.RefUnknown {
				say("phase %d (from %d): %+v was recorded of %+v", n, p.Time, r, f)
				for _, o := range b.faulted {
					if o.page == f.page {
						say("   %+v", o)
					}
				}
			}
			if recorded[r.Page] {
				say("phase %d: page %v was recorded twice", n, r.Page)
			}
			recorded[r.Page], open[r.Page] = true, true
		}
		if n+1 == len(h.phases) {
			break
		}
		end := h.phases[n+1]
		var written addr.Set
		for _, r := range end.Written {
			written.Add(r)
		}
		first, _ := slices.BinarySearchFunc(b.done, max(from, p.Time)+1, func(a access, t uint64) int { return cmp.Compare(a.time, t) })
		for _, a := range b.done[first:] {
			if a.time > end.Time {
				break
			}
			if !a.write {
				continue
			}
			if !open[a.page] {
				say("phase %d (%d to %d): page %v, written at %d with a fault at %d, is not open", n, p.Time, end.Time, a.page, a.time, a.fault)
			}
			if !written.Overlaps(addr.Reach(a.page, 1)) {
				say("phase %d: page %v was written at %d, and is not in %v", n, a.page, a.time, end.Written)
			}
		}
		if end.Incomplete {
			say("phase %d is incomplete", n)
		}
	}
	return wrong
}

// TestWrites: while a program runs and others look for its writes too, every page that it
// has written to in a phase was recorded in it, or is held, and nothing else was.
func TestWrites(t *testing.T) {
	const pages = 300
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			m := memory(t, mapping(0, 200, vma.AnonPrivate), mapping(200, pages, vma.FilePrivate))
			b := newBusy(m, rng, 1+rng.IntN(4), 1+rng.IntN(pages))
			for range 100 {
				b.step()
			}
			u := NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings())
			h := &heard{phases: make([]heardPhase, 1)}
			w := NewWrites(u, b, b, h, b.now)
			w.Pool, w.Keep = 20, true
			b.stand()
			if err := w.Begin(); err != nil {
				t.Fatal(err)
			}
			from := b.clock
			b.quiet = false
			found := map[addr.Addr]uint64{} // when snapshots have found a page
			for range 150 {
				for range rng.IntN(20) {
					b.step()
				}
				switch rng.IntN(12) {
				case 0, 1, 2:
					w.Look()
				case 3, 4:
					w.Turn()
				case 5:
					b.stand()
					w.Look()
					b.quiet = false
				case 6:
					b.stand()
					w.Turn()
					b.quiet = false
				case 7, 8: // a snapshot
					at := page(rng.IntN(pages))
					written := rng.IntN(2) == 0
					_, err := u.Scan(addr.Reach(at, 40*addr.PageSize), written, true, func(g procfs.Region) {
						for a := g.Start; a < g.End; a += addr.PageSize {
							found[a] = b.clock
						}
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			b.stand()
			w.Turn()
			last := b.clock
			for _, s := range h.check(b, from) {
				t.Error(s)
			}
			if n := len(h.phases); n < 20 {
				t.Errorf("only %d phases", n)
			}
			// Snapshots find what was written since they have found it last.
			var now addr.Set
			for next := page(0); next < page(pages); {
				var err error
				if next, err = u.Scan(addr.Range{Start: next, End: page(pages)}, true, true, func(g procfs.Region) { now.Add(g.Range) }); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range b.done {
				if at := found[a.page]; a.write && a.time > max(at, from) && !now.Overlaps(addr.Reach(a.page, 1)) {
					t.Errorf("page %v was written at %d, found at %d, and not found at %d", a.page, a.time, at, last)
				}
			}
		})
	}
}
