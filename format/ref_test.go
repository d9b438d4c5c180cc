package format

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"memtrace/format/addr"
)

// refAct is what a recorder of references does next: an event, a reference or a
// phase.
type refAct struct {
	ev    *Event
	ref   *Ref
	phase *Phase
	flush bool
}

// refMM0 is the first of three address spaces that references are of, and events
// not.
const refMM0 = 1001

// refShift is what the times of references are rounded to.
const refShift = testShift + refTimeShift

// randomRefs is what a recorder of several threads and address spaces does: n items,
// with few or many events between them.
func randomRefs(seed uint64, n int) (steps []refAct) {
	rng := rand.New(rand.NewPCG(seed, 5))
	evs := randomEvents(seed, n/4+20)
	var time [3]uint64
	ips := []addr.Addr{0, 0x401000, 0x401010, 0x7f0000000000, ^addr.Addr(0)}
	for len(steps) < n {
		switch k := rng.IntN(20); {
		case k == 0 && len(evs) > 0:
			for range 1 + rng.IntN(3) {
				if len(evs) > 0 {
					steps = append(steps, refAct{ev: &evs[0], flush: rng.IntN(6) == 0})
					evs = evs[1:]
				}
			}
		case k < 3:
			mm := refMM0 + rng.Uint32N(3)
			time[mm-refMM0] += rng.Uint64N(1 << 20)
			p := &Phase{
				MM: mm, Engine: RefEngine(1 + rng.IntN(3)), Granule: addr.PageSize << rng.IntN(5), Pool: rng.Uint64N(4096), Time: time[mm-refMM0],
				Pinned: rng.Uint64N(5), Held: rng.Uint64N(3), Incomplete: rng.IntN(4) == 0, Exact: rng.IntN(2) == 0,
			}
			for range p.Held {
				p.HeldPages = append(p.HeldPages, addr.Addr(rng.Uint64N(1<<35)<<12))
			}
			if p.Exact {
				at := addr.Addr(0)
				for range rng.IntN(5) {
					at += addr.Addr(1+rng.Uint64N(1<<30)) << 12
					end := at + addr.Addr(1+rng.Uint64N(100))<<12
					p.Written = append(p.Written, addr.Range{Start: at, End: end})
					at = end
				}
			}
			steps = append(steps, refAct{phase: p, flush: rng.IntN(30) == 0})
		default:
			mm := refMM0 + rng.Uint32N(3)
			time[mm-refMM0] += rng.Uint64N(1 << 12)
			page := rng.Uint64N(100)
			if rng.IntN(10) == 0 {
				page = rng.Uint64N(1 << 52)
			}
			steps = append(steps, refAct{ref: &Ref{
				Thread: rng.Uint32N(3), MM: mm, Page: addr.Addr(page << 12), IP: ips[rng.IntN(len(ips))], Time: time[mm-refMM0], Kind: RefKind(rng.IntN(5)),
			}, flush: rng.IntN(60) == 0})
		}
	}
	return steps
}

// writeRefs writes them, and says what a reader is to hand out.
func writeRefs(t testing.TB, steps []refAct, o *WriterOptions) (log []byte, want []RefItem) {
	t.Helper()
	var b bytes.Buffer
	h := testHeader()
	h.Refs = true
	w, err := NewWriter(&b, h, o)
	if err != nil {
		t.Fatal(err)
	}
	n, events := uint64(0), Step(0)
	var phase [3]uint64
	for _, s := range steps {
		switch {
		case s.ev != nil:
			_, err = w.Event(s.ev)
			events++
		case s.ref != nil:
			err = w.Ref(s.ref)
			r := *s.ref
			r.After, r.Time = events, r.Time>>refShift<<refShift
			want = append(want, RefItem{Ref: r, No: n, PhaseNo: phase[r.MM-refMM0]})
			n++
		case s.phase != nil:
			err = w.Phase(s.phase)
			p := *s.phase
			phase[p.MM-refMM0]++
			p.After, p.Time = events, p.Time>>refShift<<refShift
			want = append(want, RefItem{Phase: &p, No: n, PhaseNo: phase[p.MM-refMM0]})
		}
		if err == nil && s.flush {
			err = w.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close("done"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), want
}

func (x *RefItem) after() Step {
	if x.Phase != nil {
		return x.Phase.After
	}
	return x.After
}

func readRefs(t testing.TB, r *Reader, from, to Step) (items []RefItem) {
	t.Helper()
	for x, err := range r.Refs(from, to) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, *x)
	}
	return items
}

func TestRefs(t *testing.T) {
	for seed := range uint64(20) {
		n := 40 << (seed % 6)
		log, want := writeRefs(t, randomRefs(seed, n), &WriterOptions{GroupSteps: 1 + int(seed), epoch: 7, FlushInterval: -1})
		mustVerify(t, log)
		r := openLog(t, log)
		if !r.Header().Refs {
			t.Error("the header does not tell of references")
		}
		got := readRefs(t, r, 0, NoStep)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		refs := slices.DeleteFunc(slices.Clone(want), func(x RefItem) bool { return x.Phase != nil })
		if r.Info().Refs != uint64(len(refs)) {
			t.Errorf("%d references of %d", r.Info().Refs, len(refs))
		}
		for from := Step(0); from <= r.Steps(); from++ {
			to := from + Step(seed%3)
			some := slices.DeleteFunc(slices.Clone(want), func(x RefItem) bool { return x.after() < from || x.after() > to })
			if diff := cmp.Diff(some, readRefs(t, r, from, to), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d, steps %d to %d: %s", seed, from, to, diff)
			}
		}
		marks := slices.DeleteFunc(slices.Clone(want), func(x RefItem) bool { return x.Phase == nil })
		var phases []RefItem
		for x, err := range r.Phases() {
			if err != nil {
				t.Fatal(err)
			}
			phases = append(phases, *x)
		}
		for i := range marks {
			p := *marks[i].Phase
			p.Time = 0
			marks[i].Phase = &p
		}
		if diff := cmp.Diff(marks, phases, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d, phases: %s", seed, diff)
		}
		for n := range r.Steps() {
			at := map[uint32]PhaseState{}
			for i := range want {
				x := &want[i]
				if x.after() > n {
					break
				}
				if p := x.Phase; p != nil {
					at[p.MM] = PhaseState{p.MM, x.PhaseNo, p.Engine, p.Granule, p.Pool, 0, p.Time}
					continue
				}
				s := at[x.MM]
				s.MM, s.Time = x.MM, x.Time
				s.Open++
				at[x.MM] = s
			}
			got, err := r.PhasesAt(n)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range got {
				if was := at[s.MM]; was != s && s.No > 0 {
					t.Fatalf("seed %d: at step %d %+v, want %+v", seed, n, s, was)
				}
				delete(at, s.MM)
			}
			for _, s := range at {
				if s.No > 0 {
					t.Fatalf("seed %d: at step %d nothing of %+v", seed, n, s)
				}
			}
		}
	}
}

// TestRefsDropped ends an address space: later chunks do not tell of it.
func TestRefsDropped(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{FlushInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	event := func(changes ...Change) {
		t.Helper()
		if _, err := w.Event(&Event{Record: &Lost{}, Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	ref := func(mm uint32) {
		t.Helper()
		if err := w.Phase(&Phase{MM: mm, Granule: addr.PageSize, Pool: 64}); err != nil {
			t.Fatal(err)
		}
		if err := w.Ref(&Ref{MM: mm}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	event(&MMNew{MM: 1}, &MMNew{MM: 2})
	ref(1)
	ref(2)
	event(&MMDrop{MM: 1})
	ref(2)
	event()
	if err := w.Close(""); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, b.Bytes())
	got, err := openLog(t, b.Bytes()).PhasesAt(2)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].MM != 2 || got[0].No != 2 || got[0].Open != 1 {
		t.Errorf("%+v", got)
	}
}

// TestRefsCut cuts a log off anywhere: what is left of the references is how they
// began, and what recover makes of it verifies.
func TestRefsCut(t *testing.T) {
	log, want := writeRefs(t, randomRefs(3, 400), &WriterOptions{GroupSteps: 5, epoch: 9, FlushInterval: -1})
	last := -1
	for n := len(log); n > headerFixed+200; n -= 397 {
		r, err := NewReader(bytes.NewReader(log[:n]), int64(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := readRefs(t, r, 0, NoStep)
		if len(got) > len(want) {
			t.Fatalf("%d items of %d", len(got), len(want))
		}
		if diff := cmp.Diff(append([]RefItem(nil), want[:len(got)]...), got); diff != "" {
			t.Fatalf("cut at %d: %s", n, diff)
		}
		if last >= 0 && len(got) > last {
			t.Errorf("cut at %d: more than of a longer one", n)
		}
		last = len(got)
		var out bytes.Buffer
		if _, err := Recover(bytes.NewReader(log[:n]), int64(n), nil, &out); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, out.Bytes())
		if again := readRefs(t, openLog(t, out.Bytes()), 0, NoStep); len(again) != len(got) {
			t.Errorf("cut at %d: %d items after recover, %d before", n, len(again), len(got))
		}
	}
}

// TestRefsOfTimer writes references without events: they are committed all the
// same.
func TestRefsOfTimer(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{FlushInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200_000 {
		if err := w.Ref(&Ref{MM: 1, Thread: 1, Page: addr.Addr(i%999) << 12, IP: addr.Addr(i % 7)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := openLog(t, b.Bytes())
	if r.Info().Refs != 200_000 || !r.Truncated() {
		t.Errorf("%d references", r.Info().Refs)
	}
	if err := w.Close(""); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, b.Bytes())
}

// TestRefAlloc writes references without allocation.
func TestRefAlloc(t *testing.T) {
	e := newRefEnc(9)
	ref := Ref{Thread: 1, MM: 1, IP: 0x400000}
	var b []byte
	one := func() {
		for i := range 100_000 {
			ref.Page, ref.IP, ref.Time = addr.Addr(i%5000)<<12, addr.Addr(i*i%301), uint64(i)*1000
			if err := e.add(&ref, 0); err != nil {
				t.Fatal(err)
			}
			if e.full() {
				b = e.payload(b[:0])
			}
		}
		b = e.payload(b[:0])
	}
	one()
	if n := testing.AllocsPerRun(5, one); n > 5 {
		t.Errorf("%v allocations for 100,000 references", n)
	}
}

// TestOddRefs writes what cannot be written.
func TestOddRefs(t *testing.T) {
	w, err := NewWriter(new(bytes.Buffer), testHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close("")
	for _, r := range []Ref{{Page: 1}, {Kind: NumRefKinds}} {
		if err := w.Ref(&r); err == nil {
			t.Errorf("%+v was written", r)
		}
	}
	for _, p := range []Phase{
		{}, {Granule: 100}, {Granule: 4096, Exact: true, Written: []addr.Range{{Start: 0x2000, End: 0x3000}, {Start: 0x1000, End: 0x2000}}},
		{Granule: 4096, Exact: true, Written: []addr.Range{{Start: 0x2001, End: 0x3000}}},
	} {
		if err := w.Phase(&p); err == nil {
			t.Errorf("%+v was written", p)
		}
	}
	// What was refused leaves no trace: the next is written right.
	if err := w.Phase(&Phase{MM: 1, Granule: 4096}); err != nil {
		t.Error(err)
	}
}

// docRefColumns encodes references and reads the columns as the table says.
func docRefColumns(t *testing.T, rows [][]string) {
	docConstants(t, rows, constants(t), "refCol", "refColKind")
	e := newRefEnc(0)
	for _, r := range []Ref{
		{Thread: 7, MM: 3, Page: 0x5000, IP: 0x40, Time: 80, Kind: RefRead},
		{Thread: 7, MM: 3, Page: 0x9000, IP: 0x50, Time: 96, Kind: RefWrite},
		{Thread: 7, MM: 3, Page: 0x6000, IP: 0x40, Time: 96, Kind: RefRead},
		{Thread: 7, MM: 3, Page: 0x8000, IP: 0x50, Time: 104, Kind: RefWrite},
		{Thread: 8, MM: 3, Page: 0x1000, IP: 0x40, Time: 160, Kind: RefCall},
	} {
		if err := e.add(&r, 4+Step(r.Time/160)); err != nil {
			t.Fatal(err)
		}
	}
	c := cursor{b: e.payload(nil)}
	for i, want := range []uint64{4, 0, 1, 3, 0, 0, 0, 0, 0, 0, 2, 7, 0, 8, 0} {
		if got := c.u(); got != want {
			t.Errorf("number %d of the payload is %d, not %d", i, got, want)
		}
	}
	type col struct{ id, n uint64 }
	dir := make([]col, c.u())
	for i := range dir {
		dir[i].id = c.u()
		c.u8()
		dir[i].n = c.u()
	}
	want := map[string]string{
		"kind": "[1 2 1 2 28]", "stream": "[1]", "step": "[1]", "IP": "[1 1 2 0 2]", "newIP": "[64 16]", "page": "[5 4 1 -1 -5]", "time": "[10 2 0 1 7]",
		"phase": "[]",
	}
	for _, d := range dir {
		x := cursor{b: c.take(d.n)}
		vs := []int64{}
		for x.more() {
			switch typ := rows[d.id][2]; typ {
			case "zz":
				vs = append(vs, x.zz())
			case "u":
				vs = append(vs, int64(x.u()))
			case "u8":
				vs = append(vs, int64(x.u8()))
			default:
				t.Fatalf("column %d has type %q in docs/format.md", d.id, typ)
			}
		}
		if name := rows[d.id][1]; fmt.Sprint(vs) != want[name] || x.bad {
			t.Errorf("column %s as docs/format.md has it is %v, not %v", name, vs, want[name])
		}
	}
	if c.bad || c.more() || len(dir) != len(want) {
		t.Error("the payload is not as docs/format.md has it")
	}
}

func BenchmarkRefs(b *testing.B) {
	var out bytes.Buffer
	w, err := NewWriter(&out, testHeader(), nil)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.2, 2, 50_000)
	const n = 1_000_000
	refs := make([]Ref, n)
	for i := range refs {
		refs[i] = Ref{MM: 1, Thread: 1, Page: addr.Addr(zipf.Uint64()) << 12, IP: addr.Addr(0x400000 + zipf.Uint64()), Time: uint64(i) * 900, Kind: 1}
	}
	b.Run("write", func(b *testing.B) {
		for i := range b.N {
			if err := w.Ref(&refs[i%n]); err != nil {
				b.Fatal(err)
			}
		}
	})
	if err := w.Close(""); err != nil {
		b.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			for _, err := range r.Refs(0, NoStep) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(r.Info().Refs), "ns/ref")
	})
}
