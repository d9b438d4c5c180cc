package analyze_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// refReports are the reports of page references.
var refReports = []string{"memory-curve", "what-if", "working-set", "hot", "phases"}

// walked is a log of one process whose every reference is known.
func walked(t *testing.T, seed uint64, pool int) (tr *replay.Trace, pages []int, half format.Step) {
	t.Helper()
	const rw = addr.Read | addr.Write
	rng := rand.New(rand.NewPCG(seed, 1))
	b := New(t)
	b.Event(1, &format.Exec{Path: "/tmp/prog", OldTID: 100}, &format.MMNew{MM: 1}, Map(1, Text, 4, addr.Read|addr.Exec, "/tmp/prog"),
		Map(1, Heap, 200, rw, "[heap]"), Thread(1, 100, 100, 1, 1, 0))
	p := Pager{B: b, MM: 1, Pool: pool}
	at := 0
	for i := range 6000 {
		if i == 3000 {
			half = b.Call(1, "getpid", 100, nil)
		}
		at = (at + 200 + rng.IntN(9) - 4) % 200
		if rng.IntN(50) == 0 {
			at = rng.IntN(200)
		}
		pages = append(pages, at)
		p.Touch(1, Heap+addr.Addr(at)*addr.PageSize, Text+8, format.RefRead)
	}
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return replay.New(Open(t, b.Bytes())), pages, half
}

// misses are those of an LRU memory, without first references.
func misses(pages []int, size int) (n uint64) {
	var list []int
	seen := map[int]bool{}
	for _, p := range pages {
		at := slices.Index(list, p)
		if at < 0 && seen[p] {
			n++
		}
		seen[p] = true
		if at >= 0 {
			list = slices.Delete(list, at, at+1)
		} else if len(list) == size {
			list = list[:size-1]
		}
		list = slices.Insert(list, 0, p)
	}
	return n
}

// TestBounds compares memory-curve and what-if with an LRU memory that sees every
// reference of the program.
func TestBounds(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(4) {
		pool := 16 << (seed % 3)
		tr, pages, half := walked(t, seed, pool)
		last, _ := tr.Last()
		r, err := analyze.MemoryCurve(ctx, tr, analyze.Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) < 5 || r.Rows[0].Pages != uint64(pool) {
			t.Fatalf("pool %d: %+v", pool, r.Rows)
		}
		for _, row := range r.Rows {
			truth := misses(pages, int(row.Pages))
			if truth < row.Low || truth > row.High || row.Plain < row.Low || row.Plain > row.High || row.Optimum == nil || *row.Optimum > truth {
				t.Errorf("pool %d, %d pages: %+v, the truth is %d", pool, row.Pages, row, truth)
			}
			w, err := analyze.WhatIf(ctx, tr, analyze.Options{To: last, Memory: row.Memory, FaultCost: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if w.Low != row.Low || w.Plain != row.Plain || w.High != row.High || *w.Optimum != *row.Optimum || w.Cold != 200 {
				t.Errorf("pool %d, %d pages: what-if %+v, the curve %+v", pool, row.Pages, w, row)
			}
			var sum uint64
			for _, m := range w.Functions {
				sum += m.High
			}
			if sum != row.High {
				t.Errorf("pool %d, %d pages: functions have %d faults of %d", pool, row.Pages, sum, row.High)
			}
			// Two ranges are the whole.
			a, err := analyze.WhatIf(ctx, tr, analyze.Options{To: half, Memory: row.Memory})
			if err != nil {
				t.Fatal(err)
			}
			b, err := analyze.WhatIf(ctx, tr, analyze.Options{From: half + 1, To: last, Memory: row.Memory})
			if err != nil {
				t.Fatal(err)
			}
			if a.Plain+b.Plain < row.Plain || a.Cold+b.Cold != 200 || a.Plain > row.Plain {
				t.Errorf("%+v and %+v are not %+v", a, b, row)
			}
		}
	}
}

// TestWorkingSetBounds compares the working set with what was used, reference by
// reference.
func TestWorkingSetBounds(t *testing.T) {
	tr, pages, _ := walked(t, 7, 32)
	last, _ := tr.Last()
	const tau = 100 // references, of 1 us each
	r, err := analyze.WorkingSet(context.Background(), tr, analyze.Options{To: last, Tau: []time.Duration{tau * time.Microsecond}})
	if err != nil {
		t.Fatal(err)
	}
	most, sum := 0, 0
	for i := range pages {
		used := map[int]bool{}
		for _, p := range pages[max(0, i-tau+1) : i+1] {
			used[p] = true
		}
		most = max(most, len(used))
		sum += len(used)
	}
	mean := uint64(sum/len(pages)) * addr.PageSize
	// The clock of the log is coarser than a reference: leave room for one.
	row := r.Rows[0]
	if row.MeanLow > mean+addr.PageSize || row.MeanHigh < mean || row.PeakLow > uint64(most+1)*addr.PageSize || row.PeakHigh < uint64(most)*addr.PageSize {
		t.Errorf("%+v, the truth is a mean of %d and at most %d pages", row, mean, most)
	}
}

// TestHotOnce writes to pages once.
func TestHotOnce(t *testing.T) {
	const rw = addr.Read | addr.Write
	b := New(t)
	b.Event(1, &format.Exec{Path: "/tmp/prog", OldTID: 100}, &format.MMNew{MM: 1}, Map(1, Heap, 100, rw, "[heap]"), Map(1, Anon, 50, rw, ""),
		Thread(1, 100, 100, 1, 1, 0))
	p := Pager{B: b, MM: 1, Pool: 8}
	for i := range addr.Addr(40) {
		p.Touch(1, Heap+i*addr.PageSize, 0, format.RefWrite)
	}
	for range 10 {
		for i := range addr.Addr(12) {
			p.Touch(1, Heap+i*addr.PageSize, 0, format.RefRead)
		}
	}
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(Open(t, b.Bytes()))
	last, _ := tr.Last()
	r, err := analyze.Hot(context.Background(), tr, analyze.Options{To: last})
	if err != nil {
		t.Fatal(err)
	}
	const page = addr.PageSize
	if len(r.Rows) != 2 {
		t.Fatalf("%+v", r.Rows)
	}
	heap, anon := r.Rows[0], r.Rows[1]
	if heap.Mapped != 100*page || heap.Touched != 40*page || heap.Written != 40*page || heap.Read != 12*page || heap.Once != 28*page || heap.Recent != 12*page || heap.Never != 60*page {
		t.Errorf("%+v", heap)
	}
	if anon.Mapped != 50*page || anon.Touched != 0 || !strings.HasPrefix(anon.Name, "[anon]") {
		t.Errorf("%+v", anon)
	}
}

// TestHotHolds: of a mapping no more is resident, touched or used otherwise than was mapped. Blocks are
// larger than mappings; a mapping has shrunk, one is gone, one was merged with another; the process has run
// another program with memory at the same addresses, and its child shares its memory.
func TestHotHolds(t *testing.T) {
	const rw = addr.Read | addr.Write
	const page = addr.PageSize
	for _, size := range []uint64{page, 16 * page} {
		b := New(t)
		b.Event(1, &format.Exec{Path: "/tmp/sh", OldTID: 100}, &format.MMNew{MM: 1}, Map(1, Heap, 40, rw, "[heap]"), Thread(1, 100, 100, 1, 1, 0))
		p := Pager{B: b, MM: 1, Pool: 64, Size: size}
		for i := range addr.Addr(40) {
			p.Touch(1, Heap+i*page, 0, format.RefWrite)
		}
		b.Event(1, &format.Exec{Path: "/tmp/prog", OldTID: 100}, &format.MMDrop{MM: 1}, &format.MMNew{MM: 2}, Map(2, Heap, 40, rw, "[heap]"),
			Map(2, Anon, 64, rw, ""), Map(2, Anon+0x100000, 8, rw, ""), Map(2, Anon+0x200000+15*page, 1, rw, ""), Map(2, Anon+0x300000, 8, rw, ""), Thread(1, 100, 100, 1, 2, 0))
		p = Pager{B: b, MM: 2, Pool: 64, Size: size}
		for i := range addr.Addr(40) {
			p.Touch(1, Heap+i*page, 0, format.RefWrite)
		}
		for i := range addr.Addr(64) {
			p.Touch(1, Anon+i*page, 0, format.RefWrite)
		}
		for i := range addr.Addr(8) {
			p.Touch(1, Anon+0x100000+i*page, 0, format.RefRead)
			p.Touch(1, Anon+0x300000+i*page, 0, format.RefRead)
		}
		p.Touch(1, Anon+0x200000+15*page, 0, format.RefRead) // of its block the first mapping
		b.Call(1, "vfork", 101, nil)
		b.Event(1, &format.Clone{Child: 2, Flags: 0x4111}, Thread(2, 101, 101, 2, 2, 1))
		p.Touch(2, Heap, 0, format.RefRead)
		b.Call(1, "munmap", 0, nil, Unmap(2, Anon+page, 63), Unmap(2, Anon+0x100000, 8), Unmap(2, Heap+30*page, 10),
			Map(2, Anon+0x308000, 2, rw, ""))
		b.Event(0, &format.Snapshot{MM: 2, Full: true, Pages: 3}, Page(2, Heap, 'a'), Page(2, Anon, 'b'), Page(2, Anon+0x308000, 'c'))
		tr := replay.New(Open(t, b.Bytes()))
		last, _ := tr.Last()
		r, err := analyze.Hot(context.Background(), tr, analyze.Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		var touched uint64
		for i := range r.Rows {
			x := &r.Rows[i]
			touched += x.Touched
			if x.Resident > x.Mapped || x.Touched > x.Mapped || max(x.Read, x.Written, x.Recent, x.Once) > x.Touched || x.Never != x.Mapped-x.Touched {
				t.Errorf("blocks of %d: %+v", size, *x)
			}
			if size > page && x.Touched > 0 && x.Resident > max(uint64(1), (x.Touched+size-1)/size+1)*page {
				t.Errorf("a block is surely no more than one page: %+v", *x)
			}
		}
		if size == page && touched != (40+40+64+8+8+1)*page {
			t.Errorf("%d pages were touched, the report has %d", 40+40+64+8+8+1, touched/page)
		}
	}
}

// TestBehaviour has a program that goes from one half of its memory to the other.
func TestBehaviour(t *testing.T) {
	b := New(t)
	b.Event(1, &format.Exec{Path: "/tmp/prog", OldTID: 100}, &format.MMNew{MM: 1}, Map(1, Heap, 100, addr.Read|addr.Write, "[heap]"),
		Map(1, Anon, 100, addr.Read|addr.Write, ""), Thread(1, 100, 100, 1, 1, 0))
	p := Pager{B: b, MM: 1, Pool: 8}
	step := format.Step(0)
	for i := range addr.Addr(1200) {
		at := Heap
		if i >= 600 {
			at = Anon
		}
		if i == 600 {
			p.Phase()
			step = b.Call(1, "getpid", 100, nil)
		}
		p.Touch(1, at+i%10*addr.PageSize, 0, format.RefRead)
	}
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(Open(t, b.Bytes()))
	last, _ := tr.Last()
	r, err := analyze.Behaviour(context.Background(), tr, analyze.Options{To: last})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || r.Rows[0].Mapping != "[heap]" || r.Rows[1].Mapping != "[anon]" || r.Rows[1].Step > step ||
		*r.Rows[1].Change != 100 || r.Rows[0].Used != 10*addr.PageSize {
		t.Errorf("%+v", r.Rows)
	}
}

// TestNoRefs asks reports for what a log does not have.
func TestNoRefs(t *testing.T) {
	tr := replay.New(Open(t, Log(t)))
	last, _ := tr.Last()
	for _, name := range refReports {
		r, err := analyze.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Make(context.Background(), tr, analyze.Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.Write(&b, analyze.Table); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.HasSuffix(got, replay.NoRefs+"\n") || strings.Count(got, "\n") > 2 {
			t.Errorf("%s: %q", name, got)
		}
		if _, err := r.Charts(context.Background(), tr, analyze.Options{To: last}); err == nil || err.Error() != replay.NoRefs {
			t.Errorf("%s --plot: %v", name, err)
		}
	}
}
