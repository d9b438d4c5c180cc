//go:build linux

package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
)

var finders = []format.Dirty{format.DirtyWPAsync, format.DirtySoft, format.DirtyCompare}

// TestWhole: whatever a program does between and during readings, after one that is whole
// the log knows what is in memory.
func TestWhole(t *testing.T) {
	whole, cut, narrowed := 0, 0, 0
	for seed := range uint64(240) {
		by := finders[seed%3]
		t.Run(fmt.Sprint(by, "-", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			w := newWorld(t, rng, by)
			stop := never
			if seed%2 == 0 {
				stop = func() bool { return rng.IntN(6) == 0 }
			}
			for range 12 {
				for range rng.IntN(60) {
					w.runs()
				}
				for range rng.IntN(8) {
					w.call()
					w.runs()
				}
				if rng.IntN(10) == 0 {
					w.changed = true
					w.mem.WriteObject(page(100+rng.IntN(40)), w.value())
				}
				p := Plan{Order: []Order{ByAddress, BySize}[rng.IntN(2)]}
				var faults *dirty.Faults
				if w.find.Live() && rng.IntN(4) > 0 {
					faults = w.sweep(stop)
					p = Plan{Order: ByFault, Faults: func() (addr.Set, bool) {
						return faults.Pages(func() []addr.Addr { return []addr.Addr{page(3)} })
					}}
					if faults == nil {
						p.Order = ByAddress
					}
				}
				p.FilesSince = uint64(rng.IntN(2)) // a look of before is too old
				rep := w.held(p, stop)
				is := w.truths()
				if rep.Narrowed {
					w.mem.Write(page(3), w.value(), true) // as the threads go on
					for range rng.IntN(5) {
						w.write()
					}
					rep.Whole = faults.Explain(w.find, w.reader.Narrowed(w, w.find, p)) && rep.Whole
					narrowed++
				}
				if rep.Err != nil || rep.Blind {
					t.Fatalf("%+v", rep)
				}
				if !rep.Whole {
					cut++
					continue
				}
				whole++
				if w.state.Full() != dirty.Finds(w.find) {
					t.Fatalf("full %v", w.state.Full())
				}
				w.check(is, fmt.Sprintf("%+v, order %d", rep, p.Order))
			}
		})
	}
	t.Logf("%d whole, %d narrowed, %d cut short", whole, narrowed, cut)
	if whole < 500 || cut < 100 || narrowed < 50 {
		t.Errorf("%d whole, %d narrowed, %d cut short: too few to tell anything", whole, narrowed, cut)
	}
}

// sweep reads while the program runs, and has its faults watched from the beginning of the
// last sweep on, if all is protected.
func (w *world) sweep(stop func() bool) (faults *dirty.Faults) {
	w.mem.Step = func() {
		if w.rng.IntN(40) == 0 {
			w.runs()
		}
	}
	defer func() { w.mem.Step = nil }()
	for range 1 + w.rng.IntN(3) {
		for {
			rep := w.reader.Read(w, w.find, w.state, Plan{Order: Live}, stop, w.book)
			if rep.Err != nil || rep.Found < rep.Pages {
				w.t.Fatalf("sweep: %+v", rep)
			}
			if rep.Whole {
				break
			}
			w.call()
		}
	}
	if !w.state.Full() {
		w.t.Fatal("not full after a whole sweep")
	}
	if w.rng.IntN(2) == 0 {
		return nil
	}
	source := &dirtytest.Faults{Memory: w.mem}
	source.Take(nil)
	watch := dirty.FaultWatch{Source: func([]int) (dirty.FaultSource, error) { return source, nil }}
	faults = watch.Begin(dirty.Cost{Hold: time.Second}, func() []int { return nil })
	w.state.Rewind()
	w.mem.Step = func() {
		if n := w.rng.IntN(600); n < 3 {
			w.write()
		} else if n == 3 && w.rng.IntN(10) == 0 {
			_, a := w.somewhere()
			w.mem.Write(a, w.value(), true) // the kernel: no fault tells of it
		}
	}
	for !w.reader.Read(w, w.find, w.state, Plan{Order: Live}, stop, w.book).Whole {
		if w.rng.IntN(4) == 0 {
			w.call()
		}
	}
	return faults
}

// TestReadOnce: what was read and not written since is not read again, where writes are
// found.
func TestReadOnce(t *testing.T) {
	for _, by := range finders {
		w := newWorld(t, rand.New(rand.NewPCG(1, 3)), by)
		first := w.held(Plan{}, never)
		w.mem.Reads = 0
		again := w.held(Plan{}, never)
		if uint64(w.mem.Reads) != again.Pages {
			t.Errorf("%v: %d pages read, %d reported", by, w.mem.Reads, again.Pages)
		}
		w.write()
		w.mem.Write(page(10), 1, false)
		third := w.held(Plan{}, never)
		w.check(w.truths(), "at last")
		if finds := by != format.DirtyCompare; finds != (again.Pages < first.Pages/4) || finds && third.Pages > again.Pages+2 || first.Pages < 100 {
			t.Errorf("%v: %d pages, then %d, then %d", by, first.Pages, again.Pages, third.Pages)
		}
	}
}

// TestCutShort: readings that are cut short get on, and round.
func TestCutShort(t *testing.T) {
	for _, order := range []Order{ByAddress, BySize} {
		w := newWorld(t, rand.New(rand.NewPCG(1, 4)), format.DirtyWPAsync)
		always := func() bool { return true }
		last := addr.Addr(0)
		n := 0
		for ; n < 50; n++ {
			rep := w.held(Plan{Order: order}, always)
			if rep.Whole {
				t.Fatal("whole")
			}
			if order == BySize {
				if !w.state.Rewound() {
					t.Fatal("by size, the next reading begins anew")
				}
				break
			}
			if w.state.cursor <= last {
				break
			}
			last = w.state.cursor
		}
		if order == ByAddress && n < 8 {
			t.Errorf("it went round after %d readings", n)
		}
		if rep := w.held(Plan{Order: order}, never); !rep.Whole {
			t.Errorf("not whole at last: %+v", rep)
		}
		w.check(w.truths(), "at last")
	}
}

// TestGone: a process that ends while it is read leaves no page behind that is said to be
// known and is not, and all is read anew.
func TestGone(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t, rng, finders[seed%3])
		if seed%4 < 2 {
			w.held(Plan{}, never)
			for range 100 {
				w.write()
			}
		}
		before := w.book
		w.book = newBook() // what is told from now on is right
		left := rng.IntN(600)
		w.mem.Step = func() {
			left--
			w.mem.Ended = left < 0
		}
		p := Plan{Order: []Order{ByAddress, BySize, Live}[rng.IntN(3)]}
		if p.Order == Live && !w.find.Live() {
			p.Order = ByAddress
		}
		rep := w.held(p, never)
		switch w.mem.Step = nil; {
		case !w.mem.Ended:
			continue
		case rep.Whole, w.state.Full(), !errors.Is(rep.Err, procfs.ErrGone):
			t.Fatalf("seed %d: %+v, full %v", seed, rep, w.state.Full())
		}
		for a, e := range w.book.known {
			tr := w.mem.Truth(a)
			if e.what == format.PageData && e.value != tr || e.what == format.PageZero && tr != 0 || e.what == format.PageFile && tr != w.mem.File(a) {
				t.Fatalf("seed %d: page %#x is %d, not %v", seed, a.Page(), tr, e)
			}
		}
		w.mem.Ended = false
		maps.Copy(before.known, w.book.known)
		w.book = before
		if rep := w.held(Plan{}, never); !rep.Whole || !rep.Full {
			t.Fatalf("seed %d: %+v", seed, rep)
		}
		w.check(w.truths(), fmt.Sprint("seed ", seed))
	}
}

// TestBlind: where the kernel does not tell which pages are there, all are read.
func TestBlind(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 6)), format.DirtyCompare)
	w.mem.Old = true
	rep := w.held(Plan{}, never)
	w.check(w.truths(), "blind")
	if !rep.Blind || !rep.Whole || rep.Pages != 60+30+40+20+10+2+30+600 {
		t.Errorf("%+v", rep)
	}
	w = newWorld(t, rand.New(rand.NewPCG(1, 6)), format.DirtyWPAsync)
	w.mem.Old = true
	if rep := w.held(Plan{Order: Live}, never); rep.Pages != 0 || !rep.Whole {
		t.Errorf("while threads run: %+v", rep)
	}
}

// TestUnreadable: pages that cannot be read are said to be so, held and live.
func TestUnreadable(t *testing.T) {
	for _, order := range []Order{ByAddress, Live} {
		w := newWorld(t, rand.New(rand.NewPCG(1, 7)), format.DirtyWPAsync)
		for i := range 20 {
			w.mem.Write(page(i), w.value(), false)
		}
		w.mem.Unreadable.Add(pages(4, 6))
		w.held(Plan{Order: order}, never)
		for i := range 20 {
			want := format.PageData
			if i == 4 || i == 5 {
				want = format.PageUnreadable
			}
			if e := w.book.known[page(i)]; e.what != want {
				t.Errorf("order %d, page %d: %v", order, i, e)
			}
		}
		w.held(Plan{}, never)
		w.check(w.truths(), "at last")
	}
}

// TestUnwatched: a mapping that cannot be watched again is read each time, one that can
// be only once.
func TestUnwatched(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		w := newWorld(t, rand.New(rand.NewPCG(1, 8)), format.DirtyWPAsync)
		for i := 500; i < 600; i++ {
			w.mem.Write(page(i), w.value(), false)
		}
		w.held(Plan{}, never)
		all := mapping(400, 1000, vma.AnonPrivate)
		if w.uffd.Unregister(all.Range); foreign {
			w.mem.Foreign.Add(all.Range)
		}
		if rep := w.held(Plan{Order: Live}, never); !rep.Whole || rep.Pages != 0 {
			t.Errorf("while threads run: %+v", rep)
		}
		byFault := Plan{Order: ByFault, Faults: func() (addr.Set, bool) { return addr.Set{}, true }}
		if rep := w.held(byFault, never); rep.Narrowed || !rep.Whole || rep.Pages < 100 {
			t.Errorf("narrowed, though something was left: %+v", rep)
		}
		w.uffd.Unregister(all.Range)
		for i := range 3 {
			w.mem.Write(page(500+i), w.value(), false)
			rep := w.held(Plan{}, never)
			w.check(w.truths(), "unwatched")
			if again := rep.Pages > 100; again != (foreign || i == 0) || !rep.Whole {
				t.Errorf("foreign %v, reading %d: %+v", foreign, i, rep)
			}
		}
	}
}

// TestStubborn: a kernel that takes a registration and does not watch does not keep a
// reading going for ever.
func TestStubborn(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 8)), format.DirtyWPAsync)
	w.held(Plan{}, never)
	w.mem.Unwatch(pages(400, 1000)) // and what is written from now on does not show
	for i := 400; i < 450; i++ {
		w.mem.Write(page(i), w.value(), false)
	}
	m := stubborn{w}
	done := make(chan Report, 1)
	go func() { done <- w.reader.Read(m, w.find, w.state, Plan{}, never, w.book) }()
	select {
	case rep := <-done:
		if w.check(w.truths(), "stubborn"); !rep.Whole {
			t.Errorf("%+v", rep)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

type stubborn struct{ *world }

func (stubborn) Rewatch(vma.VMA) bool { return true }

// TestLazy: what was given back with MADV_FREE is read each time until it is written to,
// and not known where there is no time for it.
func TestLazy(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 9)), format.DirtyWPAsync)
	for i := 400; i < 500; i++ {
		w.mem.Write(page(i), w.value(), false)
	}
	w.held(Plan{}, never)
	others := w.held(Plan{}, never).Pages
	free := func(at addr.Range) {
		w.mem.Free(at)
		w.state.Dropped(at, arch.DropsLater, true, true, w.find, w.mem.Mappings(), w.book.Pages)
	}
	free(pages(400, 410))
	free(pages(420, 490))
	if w.book.known[page(400)].what != format.PageAbsent {
		t.Error("what was freed is still known")
	}
	few := func() uint64 { return 20 * addr.PageSize }
	w.held(Plan{Lazy: few}, never)
	if a, b := w.book.known[page(400)].what, w.book.known[page(420)].what; a != format.PageData || b != format.PageAbsent {
		t.Errorf("with little time: kinds %d and %d", a, b)
	}
	for i := range 5 {
		w.mem.Reclaim(page(400 + i))
		w.mem.Write(page(420+i), w.value(), false)
		rep := w.held(Plan{}, never)
		w.check(w.truths(), "freed")
		// A page that is gone and protected counts as swapped out.
		if want := others + 80 - uint64(i); rep.Pages != want {
			t.Errorf("reading %d: %d pages, want %d", i, rep.Pages, want)
		}
	}
}

// TestUnproved: a page that counts as written because its mapping was out of the watch may
// still be taken by the kernel, if it was given back before.
func TestUnproved(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 11)), format.DirtyWPAsync)
	for i := 400; i < 420; i++ {
		w.mem.Write(page(i), w.value(), false)
	}
	w.mem.Free(pages(400, 420))
	w.state.Dropped(pages(400, 420), arch.DropsLater, true, true, w.find, w.mem.Mappings(), w.book.Pages)
	w.held(Plan{}, never)
	w.uffd.Unregister(pages(400, 1000))
	w.state.cursor = page(700) // it is found in another part of the mapping
	w.held(Plan{}, never)
	w.mem.Reclaim(page(405))
	w.held(Plan{}, never)
	w.check(w.truths(), "reclaimed")
}

// TestRestless: a page that is written while it is read live is not told of; a hold finds
// it.
func TestRestless(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 12)), format.DirtyWPAsync)
	for i := range 20 {
		w.mem.Write(page(i), w.value(), false)
	}
	w.mem.Reads = 0
	w.mem.Step = func() {
		if w.mem.Reads == 8 {
			w.mem.Write(page(5), w.value(), false)
		}
	}
	rep := w.held(Plan{Order: Live}, never)
	if _, told := w.book.known[page(5)]; told || w.book.known[page(6)].what != format.PageData || rep.Found != rep.Pages+1 {
		t.Errorf("told %v, %+v", told, rep)
	}
	w.mem.Step = nil
	w.held(Plan{}, never)
	w.check(w.truths(), "at last")
}

// TestChangedFile: of a file that has changed since the recording began, the bytes are
// kept that are there.
func TestChangedFile(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 13)), format.DirtyWPAsync)
	w.mem.Drop(pages(100, 140))
	w.mem.Touch(page(120))
	w.held(Plan{}, never)
	if a, b := w.book.known[page(120)].what, w.book.known[page(121)].what; a != format.PageFile || b != format.PageFile {
		t.Errorf("before: kinds %d and %d", a, b)
	}
	w.changed = true
	w.mem.WriteObject(page(120), 77)
	w.held(Plan{Order: Live, FilesSince: 1}, never)
	if w.book.known[page(120)].what != format.PageFile {
		t.Error("it was read while others may write to it")
	}
	for _, value := range []uint64{77, 78} {
		w.mem.WriteObject(page(120), value)
		w.held(Plan{FilesSince: 1}, never)
		if e := w.book.known[page(120)]; e != (entry{format.PageData, value}) {
			t.Errorf("%v, want %d", e, value)
		}
	}
	w.mem.Drop(pages(120, 121))
	w.held(Plan{FilesSince: 1}, never)
	if e := w.book.known[page(120)]; e.what != 0 {
		t.Errorf("it is not there any more: %v", e)
	}
}
