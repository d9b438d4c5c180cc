package format

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// origin is a byte's place in the model: who wrote it, and where that is.
type origin struct {
	step Step
	blob uint64
}

func spread(w *written) map[addr.Addr]origin {
	m := map[addr.Addr]origin{}
	for _, x := range w.list {
		for i := range x.Len {
			m[x.Addr+addr.Addr(i)] = origin{x.Step, x.Blob + i}
		}
	}
	return m
}

// TestWrittenModel does the same to a list and to a map of single bytes.
func TestWrittenModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var w written
		model := map[addr.Addr]origin{}
		none := func(int64) {}
		drop := func(a, last addr.Addr) {
			for b := range model {
				if b >= a && b <= last {
					delete(model, b)
				}
			}
		}
		base := []addr.Addr{0, 1000, ^addr.Addr(0) - 300}[rng.IntN(3)]
		at := func() addr.Addr { return base + addr.Addr(rng.IntN(200)) }
		for step := Step(1); step < 60; step++ {
			a, n := at(), uint64(1+rng.IntN(60))
			w.own(none)
			switch rng.IntN(8) {
			case 0:
				w.cut(a, a+addr.Addr(n-1))
				drop(a, a+addr.Addr(n-1))
			case 1:
				from, to := base+addr.Addr(rng.IntN(60)), base+addr.Addr(100+rng.IntN(60))
				n = uint64(1 + rng.IntN(40))
				w.move(from, to, n)
				moved := map[addr.Addr]origin{}
				for b, o := range model {
					if b >= from && uint64(b-from) < n {
						moved[b-from+to] = o
					}
				}
				drop(from, from+addr.Addr(n-1))
				drop(to, to+addr.Addr(n-1))
				for b, o := range moved {
					model[b] = o
				}
			case 2:
				floor := step - min(step, Step(rng.IntN(40)))
				w.forget(floor)
				for b, o := range model {
					if o.step < floor {
						delete(model, b)
					}
				}
			case 3: // a clone is independent
				c := w.clone()
				before := spread(&c)
				w.own(none)
				w.add(Written{a, n, step, 7})
				if after := spread(&c); len(after) != len(before) {
					t.Fatal("a clone changed")
				}
				w = c
			case 4: // several at once
				var more []Written
				for next := a; len(more) < 3; {
					next += addr.Addr(rng.IntN(20))
					x := Written{next, uint64(1 + rng.IntN(25)), step, rng.Uint64N(1 << 40)}
					if x.last() < x.Addr {
						break
					}
					more = append(more, x)
					for i := range x.Len {
						model[x.Addr+addr.Addr(i)] = origin{step, x.Blob + i}
					}
					next = x.last() + 1
				}
				w.merge(more)
			default:
				blob := rng.Uint64N(1 << 40)
				w.add(Written{a, n, step, blob})
				for i := range n {
					model[a+addr.Addr(i)] = origin{step, blob + i}
				}
			}
			got := spread(&w)
			if len(got) != len(model) {
				t.Fatalf("step %d: %d bytes, want %d", step, len(got), len(model))
			}
			for b, o := range model {
				if got[b] != o {
					t.Fatalf("step %d: %v is %v, want %v", step, b, got[b], o)
				}
			}
			for i := 1; i < len(w.list); i++ {
				if w.list[i-1].last() >= w.list[i].Addr {
					t.Fatalf("step %d: not in order: %v", step, w.list)
				}
			}
			again, err := parseWritten(appendWritten(nil, &w, 0), step)
			if err != nil || again.floor != w.floor || !slices.Equal(again.list, w.list) {
				t.Fatalf("step %d: encoded and decoded: %v, %v, want %v", step, err, again, w.list)
			}
		}
	}
}

// TestWrittenMany writes to more places than are known at a time, and forks.
func TestWrittenMany(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	evs := []Event{{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}, &ThreadSet{Thread{No: 1, MM: 1}}}}}
	for i := 1; i < 9000; i++ {
		c := &Syscall{Arch: arch.X86_64, Nr: 0, Returned: true}
		e := Event{Time: uint64(i) << 10, Thread: 1 + uint32(i&1), Record: c}
		for range 1 + rng.IntN(3) {
			a := addr.Addr(0x10000 + rng.Uint64N(3<<20))
			if i%5000 < 20 {
				a = addr.Addr(0x10000 + 8*rng.Uint64N(20))
			}
			c.Bufs = append(c.Bufs, Buf{Arg: 1, Out: true, Addr: a, Data: bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(40))})
		}
		if i == 1 {
			e.Changes = []Change{&MMNew{MM: 2, From: 1}, &ThreadSet{Thread{No: 2, MM: 2}}}
		}
		if i%1000 == 500 {
			for range 2000 { // one call with very much
				c.Bufs = append(c.Bufs, Buf{Arg: 1, Out: true, Addr: addr.Addr(0x10000 + rng.Uint64N(3<<20)), Data: []byte("x")})
			}
		}
		if i%700 == 0 {
			e.Changes = append(e.Changes, &VMADel{MM: 1, Range: addr.Range{Start: 0x10000, End: 0x40000}},
				&VMAMove{MM: 1, From: 0x80000, To: 0x10000, Len: 0x20000}, &Pages{MM: 2, Addr: 0x20000, N: 16, What: PageZero})
		}
		evs = append(evs, e)
	}
	log := writeLog(t, evs, &WriterOptions{GroupSteps: 300, epoch: 2000}, 0)
	mustVerify(t, log)
	r := openLog(t, log)
	s := r.Initial()
	for e, err := range r.Events(0) {
		if err == nil {
			err = s.ApplyEvent(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Step%271 != 0 && e.Step != r.Steps()-1 {
			continue
		}
		at, err := r.StateAt(e.Step)
		if err == nil {
			err = sameState(at, s)
		}
		if err != nil {
			t.Fatalf("step %d: %v", e.Step, err)
		}
		for _, m := range s.MMs {
			if len(m.written.list) > maxWritten {
				t.Fatalf("step %d: %d stretches", e.Step, len(m.written.list))
			}
			for k, x := range m.written.list {
				if k%50 != 0 {
					continue
				}
				p := make([]byte, x.Len)
				if err := r.Blob(p, x.Blob); err != nil {
					t.Fatal(err)
				}
				if p[0] != byte(x.Step) && p[0] != 'x' {
					t.Fatalf("step %d: %v of step %d holds %x", e.Step, x.Addr, x.Step, p)
				}
			}
		}
	}
	if s.MMs[1].written.floor == 0 {
		t.Error("nothing was forgotten")
	}
}

// What is read in place of a list is checked.
func TestWrittenHostile(t *testing.T) {
	good := written{floor: 2, list: []Written{{100, 10, 5, 7}, {200, 1, 2, 0}}}
	enc := appendWritten(nil, &good, 0)
	if _, err := parseWritten(enc, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := parseWritten(enc, 4); err == nil {
		t.Error("a call of a later step")
	}
	for _, w := range []written{
		{list: []Written{{100, 0, 5, 7}}},
		{floor: 3, list: []Written{{100, 1, 2, 7}}},
		{list: []Written{{^addr.Addr(0), 2, 2, 7}}},
		{list: []Written{{100, 10, 2, 7}, {105, 10, 2, 7}}},
	} {
		if _, err := parseWritten(appendWritten(nil, &w, 0), 9); err == nil {
			t.Errorf("%v: no error", w)
		}
	}
	for n := range enc {
		if _, err := parseWritten(enc[:n], 9); err == nil {
			t.Errorf("%d bytes of %d: no error", n, len(enc))
		}
	}
}

// readEvents are reads into a few buffers that a program uses again and again, or
// with fresh always into new memory.
func readEvents(n int, out, fresh bool) []Event {
	rng := rand.New(rand.NewPCG(1, 1))
	evs := []Event{{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}, &ThreadSet{Thread{No: 1, MM: 1}}}}}
	for i := 1; i < n; i++ {
		a := 0x7f0000000000 + uint64(i)%40*0x1000
		if fresh {
			a = 0x7f0000000000 + uint64(i)*64
		}
		data := bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(60))
		c := &Syscall{Arch: arch.X86_64, Args: [6]uint64{3, a, 4096}, Ret: int64(len(data)), Returned: true, Bufs: []Buf{{Arg: 1, Out: out, Addr: addr.Addr(a), Data: data}}}
		evs = append(evs, Event{Time: uint64(i) << 12, Thread: 1, Record: c})
	}
	return evs
}

func BenchmarkWritten(b *testing.B) {
	for _, c := range []struct {
		name       string
		out, fresh bool
	}{{"none", false, false}, {"same", true, false}, {"fresh", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			evs := readEvents(1<<16, c.out, c.fresh)
			w, err := NewWriter(io.Discard, testHeader(), nil)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.Event(&evs[0]); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := w.Event(&evs[1+i%(len(evs)-1)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Close(""); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.Bytes())/float64(b.N), "B/event")
		})
	}
}

// BenchmarkWrittenSeek seeks to the middle of groups.
func BenchmarkWrittenSeek(b *testing.B) {
	r := openLog(b, writeLog(b, readEvents(100_000, true, true), nil, 0))
	for i := 0; b.Loop(); i++ {
		if _, err := r.StateAt(Step(i * 7919 % 100_000)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrittenAdd is what a writer does more for a call with a buffer.
func BenchmarkWrittenAdd(b *testing.B) {
	for _, c := range []struct {
		name  string
		fresh bool
	}{{"same", false}, {"fresh", true}} {
		b.Run(c.name, func(b *testing.B) {
			evs := readEvents(1<<16, true, c.fresh)
			s := NewState()
			for _, c := range evs[0].Changes {
				if err := s.Apply(c); err != nil {
					b.Fatal(err)
				}
			}
			at := []uint64{0}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c := evs[1+i%(len(evs)-1)].Record.(*Syscall)
				if err := s.wrote(1, Step(i), c.Bufs, at, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func sameState(a, b *State) error {
	if len(a.Threads) != len(b.Threads) || len(a.MMs) != len(b.MMs) {
		return corrupt("%d threads and %d address spaces, not %d and %d", len(a.Threads), len(a.MMs), len(b.Threads), len(b.MMs))
	}
	for no, t := range a.Threads {
		if o := b.Threads[no]; o == nil || *o != *t {
			return corrupt("thread %d", no)
		}
	}
	for no, m := range a.MMs {
		o := b.MMs[no]
		if o == nil || !m.VMAs.Equal(o.VMAs) {
			return corrupt("mappings of address space %d", no)
		}
		if err := samePages(&m.pages, &o.pages, new(budget)); err != nil {
			return err
		}
		if m.written.floor != o.written.floor || !slices.Equal(m.written.list, o.written.list) {
			return corrupt("address space %d: what calls wrote", no)
		}
	}
	return nil
}
