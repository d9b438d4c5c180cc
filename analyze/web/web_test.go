package web

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// prepared is a log that is ready.
func prepared(t *testing.T, log []byte) *Log {
	t.Helper()
	l := New(replay.New(replaytest.Open(t, log)), "the.log")
	t.Cleanup(l.Close)
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

const pageSize = addr.PageSize

// busyLog is a log of three threads in two processes that map and unmap memory and call.
func busyLog(t *testing.T, events int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := replaytest.New(t)
	const rw = addr.Read | addr.Write
	b.Event(1, &format.Exec{Path: "/tmp/prog", Argv: []string{"./prog"}, OldTID: 100},
		&format.MMNew{MM: 1}, replaytest.Map(1, replaytest.Stack, 4, rw, "[stack]"), replaytest.Thread(1, 100, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 2, Flags: 0x10100}, replaytest.Thread(2, 102, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 3, Flags: 17}, &format.MMNew{MM: 2, From: 1}, replaytest.Thread(3, 103, 103, 2, 2, 1))
	var there [3][64]bool
	for range events {
		thread := uint32(1 + rng.IntN(3))
		mm := uint32(1)
		if thread == 3 {
			mm = 2
		}
		if rng.IntN(50) == 0 {
			b.Wait(time.Duration(rng.IntN(1000)) * time.Microsecond)
		}
		i := rng.IntN(64)
		at := replaytest.Anon + addr.Addr(i*8*pageSize)
		switch rng.IntN(4) {
		case 0:
			if there[mm][i] {
				b.Call(thread, "munmap", 0, []uint64{uint64(at), 4 * pageSize}, replaytest.Unmap(mm, at, 4))
			} else {
				b.Call(thread, "mmap", int64(at), []uint64{0, 4 * pageSize, 3, 0x22}, replaytest.Map(mm, at, 4, rw, ""))
			}
			there[mm][i] = !there[mm][i]
		case 1:
			b.Call(thread, "openat", -2, []uint64{0xffffff9c, 0, 0})
		case 2:
			b.Call(thread, "futex", 0, []uint64{0, 0})
		default:
			b.Call(thread, "read", 5, []uint64{3, 0, 5})
		}
	}
	return b.Bytes()
}

// truth is what a series has to show: the bytes of anonymous memory, by bucket.
type truth struct{ min, max, last []int64 }

func mappedTruth(t *testing.T, l *Log, b *buckets) truth {
	x := truth{unknown(b.n), unknown(b.n), unknown(b.n)}
	at, now := 0, int64(-1)
	put := func(i int, n int64) {
		if x.min[i] < 0 {
			x.min[i], x.max[i] = n, n
		}
		x.min[i], x.max[i], x.last[i] = min(x.min[i], n), max(x.max[i], n), n
	}
	for m, err := range l.t.Walk(0, b.q.To) {
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, mm := range m.State.MMs {
			for v := range mm.VMAs.All() {
				if v.Kind == vma.AnonPrivate {
					n += int64(v.Len())
				}
			}
		}
		if m.Event.Step >= b.q.From {
			i := b.of(m.Event.Time)
			if now >= 0 {
				for ; at <= i; at++ {
					put(at, now)
				}
			}
			at = i
			put(i, n)
		}
		now = n
	}
	for at++; at < b.n; at++ {
		put(at, now)
	}
	return x
}

// calls counts the calls of lanes.
func (r *Lanes) calls() (n, failed uint32, long uint64) {
	for i := range r.Lanes {
		for _, list := range r.Lanes[i].Calls {
			for _, x := range list {
				n += x
			}
		}
		for k := range r.Lanes[i].At {
			failed += r.Lanes[i].Failed[k]
			long = max(long, r.Lanes[i].Longest[k])
		}
	}
	return n, failed, long
}

// TestSummary compares what is drawn with what the events say: exactly where they are read
// again, and within bounds where the summary tells, however coarse it is.
func TestSummary(t *testing.T) {
	log := busyLog(t, 6000)
	for _, c := range []struct {
		name    string
		exactly format.Step
		most    sizes
	}{
		{"events", exactly, usualSizes},
		{"summary", 0, usualSizes},
		{"coarse", 0, sizes{mem: 60, lanes: 80, uses: 4, marks: 10, births: 10}},
	} {
		l := New(replay.New(replaytest.Open(t, log)), "")
		l.exactly, l.sum.most = c.exactly, c.most
		if err := l.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if coarse := l.sum.leaf > firstLeaf; coarse != (c.name == "coarse") {
			t.Errorf("%s: leaves of %d events", c.name, l.sum.leaf)
		}
		for _, q := range []Query{l.All(), {From: 1000, To: 5000}, {From: 3000, To: 3010}} {
			b, err := l.buckets(q, 50)
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Series(t.Context(), "mapped", q, 50)
			if err != nil {
				t.Fatal(err)
			}
			want := mappedTruth(t, l, b)
			checkMapped(t, fmt.Sprintf("%s %d..%d", c.name, q.From, q.To), s, want, c.exactly > 0)
			r, err := l.Lanes(q, 50)
			if err != nil {
				t.Fatal(err)
			}
			if r.Exact != (c.exactly > 0) || len(r.Lanes) != 3 {
				t.Errorf("%s: exact %v, %d lanes", c.name, r.Exact, len(r.Lanes))
			}
			n, failed, long := r.calls()
			if q == l.All() && (n != 6000 || long != 2560) || c.exactly > 0 && n != uint32(q.To-q.From+1)-boolCount(q.From == 0)*3 || failed == 0 || failed > n {
				t.Errorf("%s %d..%d: %d calls, %d failed, the longest took %d ns", c.name, q.From, q.To, n, failed, long)
			}
			for i := 1; i < len(r.Step); i++ {
				if r.Step[i] < r.Step[i-1] || r.Step[i] > uint64(q.To) {
					t.Errorf("%s: the steps of buckets are %v", c.name, r.Step)
					break
				}
			}
		}
		l.Close()
	}
}

func boolCount(b bool) uint32 { return uint32(boolInt(b)) }

func checkMapped(t *testing.T, name string, s *Series, want truth, exact bool) {
	t.Helper()
	for i := range s.Series {
		x := &s.Series[i]
		if x.ID != "anonymous private" {
			continue
		}
		for k := range want.min {
			switch {
			case exact && (x.Min[k] != want.min[k] || x.Max[k] != want.max[k] || x.Last[k] != want.last[k]):
				t.Errorf("%s, bucket %d: %d..%d, last %d; want %d..%d, last %d", name, k, x.Min[k], x.Max[k], x.Last[k], want.min[k], want.max[k], want.last[k])
				return
			case !exact && want.min[k] >= 0 && (x.Min[k] > want.min[k] || x.Max[k] < want.max[k] || x.Last[k] < x.Min[k] || x.Last[k] > x.Max[k]):
				t.Errorf("%s, bucket %d: %d..%d, last %d; the truth is %d..%d", name, k, x.Min[k], x.Max[k], x.Last[k], want.min[k], want.max[k])
				return
			}
		}
		return
	}
	t.Errorf("%s: no anonymous memory", name)
}

// TestPIDs has series and lanes of one process.
func TestPIDs(t *testing.T) {
	l := prepared(t, busyLog(t, 3000))
	q := l.All()
	q.PID = 103
	r, err := l.Lanes(q, 20)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Lanes) != 1 || r.Lanes[0].TID != 103 {
		t.Errorf("lanes of process 103: %v", r.Lanes)
	}
	last := map[uint32]int64{}
	for _, pid := range []uint32{0, 100, 103} {
		for _, exactly := range []format.Step{0, exactly} {
			l.exactly, q.PID = exactly, pid
			s, err := l.Series(t.Context(), "mapped", q, 20)
			if err != nil {
				t.Fatal(err)
			}
			n := int64(0)
			for _, x := range s.Series {
				n += x.Last[19]
			}
			if before, ok := last[pid]; ok && n != before {
				t.Errorf("process %d has %d bytes at the end by its events, %d by the summary", pid, n, before)
			}
			last[pid] = n
		}
	}
	if last[0] != last[100]+last[103] || last[103] == 0 {
		t.Errorf("bytes at the end: %v", last)
	}
	if q.PID = 5; true {
		if _, err := l.Lanes(q, 20); err == nil {
			t.Error("lanes of a process that is not there")
		}
	}
}

// steps are those of rows.
func steps(rows []EventRow) (list []uint64) {
	for _, r := range rows {
		list = append(list, r.Step)
	}
	return list
}

// TestEvents goes through a log in both directions, filtered or not, counted or not, and
// must see each event that the filter shows once.
func TestEvents(t *testing.T) {
	l := prepared(t, busyLog(t, 3000))
	for _, f := range []string{"", "failed", "tid=103", "call=mmap tid=102", "type=clone", "slower=1s", "path=none"} {
		for _, counted := range []bool{false, true} {
			total := uint64(0)
			if counted {
				c, err := l.Count(t.Context(), f, 0, nil)
				if err != nil {
					t.Fatal(err)
				}
				total = c.Total
			}
			var on, back []uint64
			for at, n := uint64(0), 0; ; n++ {
				r, err := l.Events(t.Context(), format.Step(at), 0, 39, f, 0)
				if err != nil || n > 1000 {
					t.Fatal(n, err)
				}
				on = append(on, steps(r.Rows)...)
				if r.Next == nil {
					break
				}
				at = *r.Next
			}
			for at, n := uint64(l.t.Steps()-1), 0; ; n++ {
				r, err := l.Events(t.Context(), format.Step(at), 40, 0, f, 0)
				if err != nil || n > 1000 {
					t.Fatal(n, err)
				}
				list := steps(r.Rows)
				if n > 0 && len(list) > 0 && list[len(list)-1] == at && len(back) > 0 && back[0] == at {
					list = list[:len(list)-1] // the step itself was shown
				}
				back = append(list, back...)
				if r.Prev == nil {
					break
				}
				at = *r.Prev
			}
			if fmt.Sprint(on) != fmt.Sprint(back) {
				t.Errorf("filter %q, counted %v: on %d rows, back %d", f, counted, len(on), len(back))
			}
			if counted && uint64(len(on)) != total {
				t.Errorf("filter %q: %d rows, %d counted", f, len(on), total)
			}
			if f == "" && len(on) != int(l.t.Steps()) || f == "failed" && len(on) < 100 {
				t.Errorf("filter %q: %d rows", f, len(on))
			}
		}
	}
	r, err := l.Events(t.Context(), 1500, 5, 5, "", 0)
	if err != nil || fmt.Sprint(steps(r.Rows)) != "[1495 1496 1497 1498 1499 1500 1501 1502 1503 1504 1505]" || *r.Prev != 1495 || *r.Next != 1506 {
		t.Errorf("around a step: %v, %v", r, err)
	}
}

// TestMoments looks at a log whose contents are known.
func TestMoments(t *testing.T) {
	l := prepared(t, replaytest.Log(t))
	m, err := l.Maps(3, 0, 128)
	if err != nil {
		t.Fatal(err)
	}
	// 16 pages of anonymous memory: one is written, one is zero, the rest is not known.
	anon := m.Mappings[2]
	if anon.Start != "0x7ffff7c00000" || anon.Written != pageSize || anon.Zero != pageSize || anon.Unknown != 14*pageSize || fmt.Sprint(anon.Cells) != "[[8 0] [1 3] [1 1] [6 0]]" {
		t.Errorf("anonymous memory at step 3: %+v", anon)
	}
	if anon.Since == nil || *anon.Since != 2 || anon.By != "mmap" {
		t.Errorf("anonymous memory was mapped at %v by %s", anon.Since, anon.By)
	}
	if m.Last == nil || *m.Last != 3 || m.Total.Bytes != (4+4+16+4)*pageSize {
		t.Errorf("at step 3: last snapshot %v, %+v", m.Last, m.Total)
	}
	l.sum.unborn = 3
	if m, err := l.Maps(3, 0, 4); err != nil || m.Mappings[2].Since != nil {
		t.Errorf("births that are not kept are told: %+v, %v", m, err)
	}
	if m, err = l.Maps(14, 100, 4); err != nil || m.Mappings[1].Cells[0] != [2]int{1, cellNew} {
		t.Errorf("heap at step 14: %+v, %v", m, err)
	}
	x, err := l.Mem(14, 100, "[heap]", 2*pageSize)
	if err != nil || len(x.Pieces) != 2 || !x.Pieces[0].Exact || !strings.HasPrefix(*x.Pieces[0].Bytes, "4343") || x.Pieces[1].Bytes != nil || x.Pieces[1].Unknown == "" {
		t.Errorf("memory: %+v, %v", x, err)
	}
	if x, err = l.Mem(13, 100, "[heap]", 16); err != nil || x.Pieces[0].Exact || x.Pieces[0].AsOf != 3 || !strings.HasPrefix(*x.Pieces[0].Bytes, "4141") {
		t.Errorf("old memory: %+v, %v", x, err)
	}
	if _, err := l.Mem(14, 100, "0x10", 16); err == nil {
		t.Log("memory that is not mapped is said piece by piece")
	}
	var eras []Era
	err = l.History(t.Context(), 100, "[heap]", 1, nil, func(e *Era) error { eras = append(eras, *e); return nil })
	if err != nil || len(eras) < 3 {
		t.Errorf("history: %+v, %v", eras, err)
	}
	var found []Found
	err = l.Find(t.Context(), 0, "0x42424242", nil, func(f *Found) error { found = append(found, *f); return nil })
	if err != nil || len(found) == 0 || found[0].From != 3 {
		t.Errorf("found: %+v, %v", found, err)
	}
	d, err := l.Diff(t.Context(), 3, 16, 100, nil)
	if err != nil || len(d.Mappings) == 0 || len(d.Kinds) == 0 || len(d.Pages) == 0 {
		t.Errorf("difference: %+v, %v", d, err)
	}
	th, err := l.Threads(t.Context(), 14, 100)
	if err != nil || len(th.Threads) != 1 || *th.Threads[0].AsOf != 14 || th.Threads[0].Registers[0].Value != "0x3000" {
		t.Errorf("threads: %+v, %v", th, err)
	}
	if _, err := l.Maps(18, 100, 4); err == nil {
		t.Error("an address space after the end of its process")
	}
	f, err := l.Findings(t.Context(), l.All(), nil, nil)
	if err != nil || len(f.Rows) == 0 || f.Rows[0].Kind != "crash" || f.Rows[0].Title != "CRASH" || f.Rows[0].Step == nil || *f.Rows[0].Step != 10 {
		t.Errorf("findings: %+v, %v", f, err)
	}
	for q, what := range map[string]string{"3": "step", "50%": "step", "0x7ffff7c00010": "addr", "openat": "filter", `"abc"`: "find", "/etc/passwd": "filter"} {
		r, err := l.Resolve(q, 14, 0)
		if err != nil || len(r.Rows) == 0 || r.Rows[0].What != what {
			t.Errorf("%s means %+v, %v; want %s first", q, r, err, what)
		}
	}
}

// TestCut has a log that begins in the middle of its run: its steps keep their numbers, and
// what is drawn of them is the same.
func TestCut(t *testing.T) {
	const first, last = 1000, 2999
	log := busyLog(t, 4000)
	whole := prepared(t, log)
	var cut bytes.Buffer
	if _, err := replay.Cut(t.Context(), &cut, []*replay.Trace{whole.t}, first, last, nil); err != nil {
		t.Fatal(err)
	}
	l := prepared(t, cut.Bytes())
	q := l.All()
	if q.To != last || q.From != l.t.First() || q.From > first || q.From < first-10 { // what is known before comes first
		t.Fatalf("the cut log has steps %d to %d", q.From, q.To)
	}
	i := l.LogInfo()
	if i.First != uint64(q.From) || i.Steps != last+1 || i.Ready != 1 {
		t.Errorf("info: %+v", i)
	}
	for _, exactly := range []format.Step{0, exactly} {
		l.exactly = exactly
		var ends [2]int64
		for k, x := range []*Log{whole, l} {
			s, err := x.Series(t.Context(), "mapped", Query{From: first, To: last}, 30)
			if err != nil {
				t.Fatal(err)
			}
			for i := range s.Series {
				ends[k] += s.Series[i].Last[29]
			}
		}
		if ends[0] != ends[1] || ends[0] == 0 {
			t.Errorf("at the end %d bytes are mapped in the whole log, %d in the cut one", ends[0], ends[1])
		}
		r, err := l.Lanes(q, 30)
		if err != nil || len(r.Lanes) != 3 {
			t.Errorf("lanes: %+v, %v", r, err)
		}
	}
	for _, f := range []string{"", "failed"} {
		a, err := whole.Events(t.Context(), first+5, 3, 20, f, 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Events(t.Context(), first+5, 3, 20, f, 0)
		if err != nil {
			t.Fatal(err)
		}
		if f == "" && fmt.Sprint(steps(a.Rows)) != fmt.Sprint(steps(b.Rows)) {
			t.Errorf("filter %q: rows %v, in the cut log %v", f, steps(a.Rows), steps(b.Rows))
		}
		if b, err = l.Events(t.Context(), q.From, 100, 0, f, 0); err != nil || b.Prev != nil {
			t.Errorf("filter %q: before the first step: %+v, %v", f, b, err)
		}
	}
	c, err := l.Count(t.Context(), "call=mmap,munmap,openat,futex,read", 0, nil)
	if err != nil || c.Total < last-first-5 || c.Total > last-first+11 {
		t.Errorf("counted %+v, %v", c, err)
	}
	if _, err := l.Events(t.Context(), 3, 1, 1, "", 0); err == nil {
		t.Error("events before the first step")
	}
}

// TestGivenUp has an answer that nobody waits for end, and be made anew.
func TestGivenUp(t *testing.T) {
	l := prepared(t, replaytest.Log(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		<-ended
	}()
	work := func(ctx context.Context, _ func(float64)) (any, error) {
		cancel()
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}
	if _, err := l.once(ctx, "x", nil, work); err == nil {
		t.Error("an answer without waiting for it")
	}
	<-ended
	v, err := l.once(t.Context(), "x", nil, func(context.Context, func(float64)) (any, error) { return 1, nil })
	if err != nil || v != 1 {
		t.Errorf("then %v, %v", v, err)
	}
	if v, ok := l.peek("x"); !ok || v != 1 {
		t.Errorf("kept %v, %v", v, ok)
	}
}
