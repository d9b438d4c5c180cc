package format

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// randomEvents is a log with much going on in a small space, so that page maps
// are filled, split, moved, forked and dropped in all ways.
func randomEvents(seed uint64, n int) []Event {
	rng := rand.New(rand.NewPCG(seed, 7))
	mms := []uint32{1}
	next, threads := uint32(2), uint32(1)
	pool := make([][]byte, 6)
	for i := range pool {
		pool[i] = page(byte(i)) // 0 to 5
	}
	pageNo := func() uint64 {
		// Around the ends of leaves and regions.
		return uint64(rng.IntN(3))<<18 + uint64(rng.IntN(3))<<9 + uint64(rng.IntN(8)) - 4 + 1<<18
	}
	size := func() uint64 {
		switch rng.IntN(40) {
		case 0, 1, 2, 3, 4:
			return 512 * uint64(1+rng.IntN(3))
		case 5:
			return 1 << 18 * uint64(1+rng.IntN(2))
		case 6:
			return 1 << uint(rng.IntN(40))
		}
		return uint64(1 + rng.IntN(9))
	}
	evs := []Event{{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}, &ThreadSet{Thread{No: 1, MM: 1}}}}}
	for len(evs) < n {
		e := Event{Time: uint64(len(evs)) * 1000, Thread: 1, Record: &Syscall{Arch: arch.X86_64, Nr: 9, Returned: true, Enter: uint64(len(evs)) * 1000}}
		for range rng.IntN(3) {
			b := Buf{Arg: uint8(rng.IntN(3)), Out: rng.IntN(8) > 0, Addr: addr.Addr(pageNo()<<addr.PageShift + uint64(rng.IntN(5000)))}
			b.Data = bytes.Repeat([]byte{byte(rng.IntN(4))}, 1+rng.IntN([...]int{9, 9, 90, 9000}[rng.IntN(4)]))
			c := e.Record.(*Syscall)
			c.Bufs = append(c.Bufs, b)
		}
		if rng.IntN(3) == 0 {
			e.Thread = 1 + uint32(rng.IntN(int(threads)))
			e.Regs = make([]uint64, 27)
			e.Regs[rng.IntN(27)] = rng.Uint64()
		}
		if rng.IntN(4) == 0 {
			regs := make([]uint64, 27)
			regs[rng.IntN(27)] = rng.Uint64()
			e.Changes = append(e.Changes, &RegsSet{Thread: 1 + uint32(rng.IntN(int(threads))), Regs: regs})
			x := make([]byte, 64)
			x[rng.IntN(64)] = byte(rng.Uint32())
			e.Changes = append(e.Changes, &XStateSet{Thread: 1 + uint32(rng.IntN(int(threads))), Data: x})
		}
		for range rng.IntN(4) {
			mm := mms[rng.IntN(len(mms))]
			at := addr.Addr(pageNo() << addr.PageShift)
			var c Change
			switch rng.IntN(16) {
			case 0:
				if len(mms) > 6 {
					continue
				}
				c = &MMNew{MM: next, From: mm}
				mms = append(mms, next)
				next++
			case 1:
				if len(mms) == 1 {
					continue
				}
				i := rng.IntN(len(mms))
				c = &MMDrop{MM: mms[i]}
				mms = append(mms[:i:i], mms[i+1:]...)
			case 2:
				c = &VMADel{MM: mm, Range: addr.Range{Start: at, End: at + addr.Addr(size()<<addr.PageShift)}}
			case 3, 4:
				c = &VMASet{MM: mm, VMA: vma.VMA{Range: addr.Range{Start: at, End: at + addr.Addr(size()<<addr.PageShift)},
					Prot: addr.Prot(rng.IntN(16)), Kind: vma.AnonPrivate, Inode: uint64(rng.IntN(3)), Name: string(rune('a' + rng.IntN(4)))}}
			case 5, 6:
				k := size()
				from, to := pageNo(), pageNo()
				if from < to+k && to < from+k {
					to += 1 << 42
				}
				c = &VMAMove{MM: mm, From: addr.Addr(from << addr.PageShift), To: addr.Addr(to << addr.PageShift), Len: k << addr.PageShift}
			case 7:
				threads++
				c = &ThreadSet{Thread{No: threads, TID: threads + 1000, MM: mm}}
			case 8, 9, 10, 11:
				c = &Pages{MM: mm, Addr: at, N: size(), What: PageZero + PageKind(rng.IntN(4))}
			default:
				p := &Pages{MM: mm, Addr: at, N: uint64(1 + rng.IntN(20)), What: PageData}
				if rng.IntN(20) == 0 {
					p.N = 700
				}
				for range p.N {
					q := pool[rng.IntN(len(pool))]
					if rng.IntN(3) == 0 {
						q = bytes.Clone(q)
						q[rng.IntN(addr.PageSize)] = byte(rng.IntN(256))
						if rng.IntN(3) == 0 {
							pool[rng.IntN(len(pool))] = q
						}
					}
					p.Data = append(p.Data, q...)
				}
				c = p
			}
			e.Changes = append(e.Changes, c)
		}
		evs = append(evs, e)
	}
	return evs
}

// TestKeyframes compares the state that keyframes give with that of applying
// everything from the beginning.
func TestKeyframes(t *testing.T) {
	for seed := range uint64(2) {
		evs := randomEvents(seed, 200)
		log := writeLog(t, evs, &WriterOptions{GroupSteps: 7, epoch: 31}, 0)
		r := openLog(t, log)
		if r.Info().Keyframes < 5 {
			t.Fatalf("%d keyframes", r.Info().Keyframes)
		}
		s := r.Initial()
		var want []string
		for e, err := range r.Events(0) {
			if err != nil {
				t.Fatal(err)
			}
			if err := s.ApplyEvent(e); err != nil {
				t.Fatal(err)
			}
			want = append(want, stateText(t, s))
		}
		plain := openLog(t, writeLog(t, evs, &WriterOptions{noKeyframes: true}, 0))
		rng := rand.New(rand.NewPCG(seed, 9))
		for range 12 {
			n := Step(rng.IntN(len(evs)))
			at, err := r.StateAt(n)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[n], stateText(t, at)); diff != "" {
				t.Fatalf("seed %d step %d: %s", seed, n, diff)
			}
			// Going on from a keyframe, also over what it has not loaded.
			c := at.Clone()
			for e, err := range r.Events(n + 1) {
				if err != nil {
					t.Fatal(err)
				}
				if err := c.ApplyEvent(e); err != nil {
					t.Fatal(err)
				}
				if e.Step > n+20 {
					break
				}
			}
			if diff := cmp.Diff(want[c.Step], stateText(t, c)); diff != "" {
				t.Fatalf("seed %d step %d from %d: %s", seed, c.Step, n, diff)
			}
			if diff := cmp.Diff(want[n], stateText(t, at)); diff != "" {
				t.Fatalf("clone changed its origin: %s", diff)
			}
			for th := range uint32(4) {
				a, sa, err := r.Regs(n, th)
				if err != nil {
					t.Fatal(err)
				}
				b, sb, err := plain.Regs(n, th)
				if err != nil {
					t.Fatal(err)
				}
				all, err := r.Registers(n, []uint32{th, 1}, true)
				if err != nil {
					t.Fatal(err)
				}
				want, err := plain.Registers(n, []uint32{th, 1}, true)
				if err != nil {
					t.Fatal(err)
				}
				if at.Threads[th] != nil && at.Threads[1] != nil {
					if diff := cmp.Diff(want, all); diff != "" {
						t.Fatalf("registers of threads %d and 1 at step %d: %s", th, n, diff)
					}
				}
				if r.Info().Keyframes > 0 && at.Threads[th] != nil && (sa != sb || !cmp.Equal(a, b)) {
					t.Fatalf("registers of thread %d at step %d: %v of %d, want %v of %d", th, n, a, sa, b, sb)
				}
			}
		}
	}
}

// TestPages reads every page at every step and compares it with what was
// written.
func TestPages(t *testing.T) {
	type key struct {
		mm  uint32
		vpn uint64
	}
	evs := randomEvents(99, 200)
	r := openLog(t, writeLog(t, evs, &WriterOptions{GroupSteps: 7, epoch: 31}, 0))
	oracle := map[key][]byte{}
	clearRange := func(mm uint32, lo, n uint64) {
		for k := range oracle {
			if k.mm == mm && k.vpn >= lo && k.vpn-lo < n {
				delete(oracle, k)
			}
		}
	}
	for i, e := range evs {
		for _, c := range e.Changes {
			switch c := c.(type) {
			case *MMNew:
				for k, p := range oracle {
					if k.mm == c.From {
						oracle[key{c.MM, k.vpn}] = p
					}
				}
			case *MMDrop:
				clearRange(c.MM, 0, 1<<60)
			case *VMADel:
				clearRange(c.MM, c.Range.Start.Page(), c.Range.Len()>>addr.PageShift)
			case *VMAMove:
				moved := map[key][]byte{}
				for k, p := range oracle {
					if k.mm == c.MM && k.vpn >= c.From.Page() && k.vpn-c.From.Page() < c.Len>>addr.PageShift {
						moved[key{c.MM, k.vpn - c.From.Page() + c.To.Page()}] = p
					}
				}
				clearRange(c.MM, c.From.Page(), c.Len>>addr.PageShift)
				clearRange(c.MM, c.To.Page(), c.Len>>addr.PageShift)
				for k, p := range moved {
					oracle[k] = p
				}
			case *Pages:
				clearRange(c.MM, c.Addr.Page(), c.N)
				if c.What == PageData {
					for j := range c.N {
						oracle[key{c.MM, c.Addr.Page() + j}] = c.Data[j*addr.PageSize:][:addr.PageSize]
					}
				}
			}
		}
		if i%5 != 0 {
			continue
		}
		s, err := r.StateAt(Step(i))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range s.MMs {
			for run, err := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
				if err != nil {
					t.Fatal(err)
				}
				if run.What != PageData {
					continue
				}
				for j := range run.N {
					n++
					k := key{m.No, run.Addr.Page() + j}
					var p [addr.PageSize]byte
					if err := r.Page(run.Ref+PageRef(2*j), &p); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(p[:], oracle[k]) {
						t.Fatalf("step %d: page %#x of %d is wrong", i, k.vpn, k.mm)
					}
				}
			}
		}
		data := 0
		for _, p := range oracle {
			if !bytes.Equal(p, zeroPage[:]) {
				data++
			}
		}
		if n != data {
			t.Fatalf("step %d: %d pages of data, want %d", i, n, data)
		}
	}
}

// TestChanges compares the changes alone with those of the events.
func TestChanges(t *testing.T) {
	evs := randomEvents(13, 120)
	r := openLog(t, writeLog(t, evs, &WriterOptions{GroupSteps: 4, epoch: 20}, 0))
	var want []StepChange
	for _, e := range collect(t, r, 0) {
		for _, c := range e.Changes {
			want = append(want, StepChange{e.Step, c})
		}
	}
	for from := range r.Steps() {
		for len(want) > 0 && want[0].Step < from {
			want = want[1:]
		}
		var got []StepChange
		for c, err := range r.Changes(from) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c)
			if from%3 != 0 && len(got) == 20 {
				break
			}
		}
		if n := len(want); from%3 != 0 && len(got) != min(n, 20) || from%3 == 0 && len(got) != n {
			t.Fatalf("from %d: %d changes of %d", from, len(got), n)
		}
		if diff := cmp.Diff(want[:len(got)], got); diff != "" {
			t.Fatalf("from %d: %s", from, diff)
		}
	}
}

// TestConcurrent reads one log from many goroutines.
func TestConcurrent(t *testing.T) {
	evs := randomEvents(12, 150)
	b := writeLog(t, evs, &WriterOptions{GroupSteps: 5, epoch: 20}, 0)
	r, err := NewReader(bytes.NewReader(b), int64(len(b)), &ReaderOptions{Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range evs {
		s, err := openLog(t, b).StateAt(Step(n))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, stateText(t, s))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 30 {
				n := rng.IntN(len(evs))
				s, err := r.StateAt(Step(n))
				if err != nil {
					t.Error(err)
					return
				}
				if stateText(t, s) != want[n] {
					t.Errorf("step %d differs", n)
				}
				for _, m := range s.MMs {
					for run := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
						var p [addr.PageSize]byte
						if run.What == PageData {
							if err := r.Page(run.Ref, &p); err != nil {
								t.Error(err)
							}
						}
					}
				}
				k := n
				for e, err := range r.Events(Step(n)) {
					if err != nil || e.Step != Step(k) {
						t.Errorf("event %d: %v", k, err)
						return
					}
					if k++; k > n+10 {
						break
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestKeyframesOfTimer lets timer and snapshots end groups, so that keyframes
// come at odd moments.
func TestKeyframesOfTimer(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{FlushInterval: time.Millisecond, epoch: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Change(&MMNew{MM: 1}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(8, 8))
	data := make([]byte, 70*addr.PageSize)
	for i := range 2000 {
		for range rng.IntN(3) {
			n := 1 + rng.IntN(3)
			if i%300 == 299 {
				n = 70
			}
			data[rng.IntN(n*addr.PageSize)]++
			if err := w.Change(&Pages{MM: 1, Addr: addr.Addr(rng.IntN(100) << addr.PageShift), N: uint64(n), What: PageData, Data: data[:n*addr.PageSize]}); err != nil {
				t.Fatal(err)
			}
			_ = w.State().Clone()
		}
		if _, err := w.Event(&Event{Record: &Snapshot{MM: 1}}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if err := w.Close(""); err != nil {
		t.Fatal(err)
	}
	if info := mustVerify(t, b.Bytes()); info.Keyframes == 0 {
		t.Error("no keyframes")
	}
}
