package format

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"memtrace/format/addr"
)

// memoryText is a state with the bytes of its pages, whatever their references are.
// With since, it has the steps as of which they are known.
func memoryText(t testing.TB, r *Reader, s *State, since bool) string {
	t.Helper()
	var b strings.Builder
	for _, no := range sortedKeys(s.Threads) {
		fmt.Fprintln(&b, "thread", *s.Threads[no])
	}
	for _, no := range sortedKeys(s.MMs) {
		m := s.MMs[no]
		fmt.Fprintln(&b, "mm", no)
		for v := range m.VMAs.All() {
			fmt.Fprintln(&b, v)
		}
		line := func(a addr.Addr, n uint64, info PageInfo, sum uint32) {
			fmt.Fprint(&b, a, n, info.What, sum)
			if since {
				fmt.Fprint(&b, " ", info.AsOf, info.Changed)
			}
			fmt.Fprintln(&b)
		}
		var last PageRun // how a stretch of equal pages is cut into runs does not matter
		flush := func() {
			if last.N > 0 {
				line(last.Addr, last.N, last.PageInfo, 0)
			}
			last.N = 0
		}
		for p, err := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
			if err != nil {
				t.Fatal(err)
			}
			if last.N > 0 && last.PageInfo == p.PageInfo && p.Addr == last.Addr+addr.Addr(last.N<<addr.PageShift) {
				last.N += p.N
				continue
			}
			flush()
			if p.What != PageData {
				last = p
				continue
			}
			for ref, at := range p.each() {
				var page [addr.PageSize]byte
				if err := r.Page(ref, &page); err != nil {
					t.Fatalf("page at %v: %v", at, err)
				}
				line(at, 1, p.PageInfo, crc32.ChecksumIEEE(page[:]))
			}
		}
		flush()
		for w := range m.Written(addr.Range{End: ^addr.Addr(0)}) {
			bs := make([]byte, w.Len)
			if err := r.Blob(bs, w.Blob); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, "written", w.Addr, w.Len, w.Step, crc32.ChecksumIEEE(bs))
		}
	}
	return b.String()
}

// eventText is an event without its changes.
func eventText(e *Event) string {
	record := e.Record
	if c, ok := record.(*Syscall); ok {
		c := *c
		c.Blobs = nil
		record = &c
	}
	return fmt.Sprintf("%d %d %d %+v %v", e.Step, e.Time, e.Thread, record, e.Regs)
}

// sameRun compares a part of a run with the whole: the events from a step on, and the
// states, with the bytes that they have.
func sameRun(t testing.TB, part, whole *Reader, from Step, since bool) {
	t.Helper()
	n := 0
	want := map[Step]string{}
	for e, err := range whole.Events(from) {
		if err != nil {
			t.Fatal(err)
		}
		want[e.Step] = eventText(e)
	}
	for e, err := range part.Events(from) {
		if err != nil {
			t.Fatal(err)
		}
		if got := eventText(e); got != want[e.Step] {
			t.Fatalf("step %d:\n%s\nwant\n%s", e.Step, got, want[e.Step])
		}
		n++
	}
	if n != int(part.Steps()-from) {
		t.Errorf("%d events from %d to %d", n, from, part.Steps())
	}
	if !since {
		return
	}
	walked := part.Initial()
	for e, err := range part.Events(0) {
		if err == nil {
			err = walked.ApplyEvent(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Step+1 < from || e.Step%25 != 0 && e.Step > from {
			continue
		}
		s, err := whole.StateAt(e.Step)
		if err != nil {
			t.Fatal(err)
		}
		want := memoryText(t, whole, s, true)
		if got := memoryText(t, part, walked, true); got != want {
			t.Fatalf("walked to step %d:\n%s", e.Step, cmp.Diff(want, got))
		}
		if s, err = part.StateAt(e.Step); err != nil {
			t.Fatal(err)
		}
		if got := memoryText(t, part, s, true); got != want {
			t.Fatalf("at step %d:\n%s", e.Step, cmp.Diff(want, got))
		}
	}
}

func testFacts(th *Thread) *Attach {
	return &Attach{PID: th.TGID, Path: "/bin/x", FDs: []FD{{3, true, "pipe"}}, Goes: true}
}

func TestPart(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for seed := range uint64(3) {
		log := writeLog(t, randomEvents(seed, 250), &WriterOptions{GroupSteps: 7, epoch: 31, pageCache: 64}, 0)
		whole := openLog(t, log)
		for range 3 {
			from, to := Step(rng.IntN(200)), Step(rng.IntN(60))
			to += from
			var out bytes.Buffer
			info, err := Cut(&out, []*Reader{whole}, Part{From: from, To: to, Facts: testFacts, Options: []string{"more=1"}})
			if err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
			mustVerify(t, out.Bytes())
			part := openLog(t, out.Bytes())
			if part.Header().Begin.First() != from || part.Steps() != min(to+1, 250) || info.Steps != part.Steps() || part.Header().Options[1] != "more=1" {
				t.Fatalf("%d to %d: begins at %+v, has %d steps", from, to, part.Header().Begin, part.Steps())
			}
			sameRun(t, part, whole, from, true)
			if _, err := part.StateAt(part.First() - 2); from > 1 && err == nil {
				t.Error("a state from before the log")
			}
			// A part of the part is the same part of the whole.
			if mid := from + (part.Steps()-from)/2; mid > from {
				var again bytes.Buffer
				if _, err := Cut(&again, []*Reader{part}, Part{From: mid, To: to, Facts: testFacts}); err != nil {
					t.Fatal(err)
				}
				mustVerify(t, again.Bytes())
				sameRun(t, openLog(t, again.Bytes()), whole, mid, true)
			}
		}
	}
}

// TestContinue records into one log after another, and joins some of them.
func TestContinue(t *testing.T) {
	for seed := range uint64(3) {
		evs := randomEvents(seed, 300)
		whole := openLog(t, writeLog(t, evs, &WriterOptions{GroupSteps: 7, epoch: 31}, 0))
		outs := []*bytes.Buffer{new(bytes.Buffer)}
		w, err := NewWriter(outs[0], testHeader(), &WriterOptions{GroupSteps: 7, epoch: 31})
		if err != nil {
			t.Fatal(err)
		}
		var ended sync.WaitGroup
		for i := range evs {
			if _, err := w.Event(&evs[i]); err != nil {
				t.Fatal(err)
			}
			if i%50 == 49 {
				outs = append(outs, new(bytes.Buffer))
				ended.Add(1)
				err := w.Continue(outs[len(outs)-1], "goes on", testFacts, func(_ int64, err error) {
					if err != nil {
						t.Error(err)
					}
					ended.Done()
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close("end"); err != nil {
			t.Fatal(err)
		}
		ended.Wait()
		var logs []*Reader
		for i, out := range outs {
			mustVerify(t, out.Bytes())
			r := openLog(t, out.Bytes())
			if h := r.Header(); h.Segment != uint64(i) || h.Begin.First() != Step(i*50) {
				t.Errorf("log %d is segment %d, from %d", i, h.Segment, h.Begin.First())
			}
			sameRun(t, r, whole, Step(i*50), false)
			logs = append(logs, r)
		}
		for i := range logs[:len(logs)-1] {
			var out bytes.Buffer
			if _, err := Cut(&out, logs[i:], Part{To: 299}); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, out.Bytes())
			r := openLog(t, out.Bytes())
			sameRun(t, r, whole, Step(i*50), i == 0 && seed == 0)
			if r.Info().Reason != "end" || r.Steps() != 300 || r.Header().Begin != logs[i].Header().Begin {
				t.Errorf("%q, %d steps, begins at %+v", r.Info().Reason, r.Steps(), r.Header().Begin)
			}
			if i%4 != 2 { // it takes a while
				continue
			}
			// With what was known before it is as the whole.
			store, err := os.Create(filepath.Join(t.TempDir(), "pages"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			before := NewBefore(store, 1<<30)
			for _, l := range logs[:i] {
				if err := before.Advance(l); err != nil {
					t.Fatal(err)
				}
			}
			out.Reset()
			if _, err := Cut(&out, logs[i:], Part{To: 299, Before: before}); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, out.Bytes())
			sameRun(t, openLog(t, out.Bytes()), whole, Step(i*50), true)
		}
		var out bytes.Buffer
		if _, err := Cut(&out, []*Reader{logs[0], logs[2]}, Part{To: 299}); err == nil {
			t.Error("a gap went unnoticed")
		}
		out.Reset()
		if _, err := Cut(&out, logs, Part{From: 75, To: 120, Reason: "cut", Facts: testFacts}); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, out.Bytes())
		sameRun(t, openLog(t, out.Bytes()), whole, 75, false)
	}
}

// TestBeforeLimit: where there is no room for pages from before they are not known, and those that
// are known are right.
func TestBeforeLimit(t *testing.T) {
	whole := openLog(t, writeLog(t, randomEvents(2, 200), &WriterOptions{GroupSteps: 7, epoch: 31}, 0))
	store, err := os.Create(filepath.Join(t.TempDir(), "pages"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const room = 8
	before := NewBefore(store, room*addr.PageSize)
	parts := [2]*Reader{}
	for i, p := range []Part{{To: 119}, {From: 120, To: 199, Facts: testFacts}} {
		var out bytes.Buffer
		if _, err := Cut(&out, []*Reader{whole}, p); err != nil {
			t.Fatal(err)
		}
		parts[i] = openLog(t, out.Bytes())
	}
	if err := before.Advance(parts[0]); err != nil {
		t.Fatal(err)
	}
	n, lost := before.Pages()
	if st, err := store.Stat(); err != nil || st.Size() > room*addr.PageSize || n == 0 || n > room || lost == 0 {
		t.Fatalf("%d pages, %d lost; %v", n, lost, err)
	}
	var out bytes.Buffer
	if _, err := Cut(&out, parts[1:], Part{To: 199, Before: before}); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, out.Bytes())
	part := openLog(t, out.Bytes())
	pages := func(r *Reader) map[string]bool {
		s, err := r.StateAt(119)
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		for no, m := range s.MMs {
			for p, err := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
				if err != nil {
					t.Fatal(err)
				}
				if p.What != PageData {
					continue
				}
				for ref, at := range p.each() {
					var page [addr.PageSize]byte
					if err := r.Page(ref, &page); err != nil {
						t.Fatal(err)
					}
					known[fmt.Sprint(no, at, p.AsOf, p.Changed, crc32.ChecksumIEEE(page[:]))] = true
				}
			}
		}
		return known
	}
	want := pages(whole)
	got := pages(part)
	for p := range got {
		if !want[p] {
			t.Errorf("page %s is not so", p)
		}
	}
	if len(got) == 0 || len(got) >= len(want) {
		t.Errorf("%d pages of %d", len(got), len(want))
	}
}

// TestContinueStacks: stacks, modules and texts are in each of the logs, and in what
// comes of them.
func TestContinueStacks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	log, want, _, texts := stackLog(t, rng, 400, nil)
	whole := openLog(t, log)
	var out bytes.Buffer
	if _, err := Cut(&out, []*Reader{whole}, Part{From: 150, To: 1000, Facts: testFacts}); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, out.Bytes())
	part := openLog(t, out.Bytes())
	for e, err := range part.Events(150) {
		if err != nil {
			t.Fatal(err)
		}
		got, err := part.Stack(e.Stack)
		if err != nil {
			t.Fatal(err)
		}
		w := want[e.Step]
		if len(got.Frames) != len(w.Frames) || e.Stack != 0 && got.End != w.End {
			t.Fatalf("step %d: %d frames, want %d; end %v, want %v", e.Step, len(got.Frames), len(w.Frames), got.End, w.End)
		}
		for i := range got.Frames {
			g, w := &got.Frames[i], &w.Frames[i]
			if g.Offset != w.Offset || g.How != w.How || (g.Mod == nil) != (w.Mod == nil) || g.Mod != nil && *g.Mod != *w.Mod {
				t.Fatalf("step %d, frame %d: %+v, want %+v", e.Step, i, g, w)
			}
		}
	}
	n := 0
	for _, err := range part.Texts() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(texts) {
		t.Errorf("%d texts of %d", n, len(texts))
	}
}

// TestPartTruncated: a log that is still being written can be cut.
func TestPartTruncated(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, testHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	evs := randomEvents(3, 100)
	for i := range evs {
		if _, err := w.Event(&evs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := Cut(&out, []*Reader{openLog(t, b)}, Part{From: 40, To: 99, Facts: testFacts}); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, out.Bytes())
	if r := openLog(t, out.Bytes()); r.Steps() != 100 || r.Info().Reason != "cut" {
		t.Errorf("%d steps, %q", r.Steps(), r.Info().Reason)
	}
	if err := w.Close("done"); err != nil {
		t.Fatal(err)
	}
}
