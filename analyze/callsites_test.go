package analyze

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// siteLog is a log of a program whose code has names in a perf map: each is 0x100 long.
type siteLog struct {
	*rt.Builder
	code format.ModuleNo
	at   map[string]uint64
	text strings.Builder
}

func newSiteLog(t *testing.T) *siteLog {
	s := &siteLog{Builder: rt.NewStacks(t), at: map[string]uint64{}}
	s.code = s.Module(format.Module{Class: format.ModuleAnon, MM: 1})
	s.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, 5, "/p"))
	return s
}

// through sets the stack of what follows, the innermost function first.
func (s *siteLog) through(names ...string) {
	var frames []format.RawFrame
	for _, n := range names {
		a, ok := s.at[n]
		if !ok {
			a = 0x7f0000000000 + uint64(len(s.at))<<8
			s.at[n] = a
			fmt.Fprintf(&s.text, "%x 100 %s\n", a, n)
		}
		frames = append(frames, format.RawFrame{Module: s.code, Offset: a + 0x10})
	}
	s.Through(format.StackComplete, frames...)
}

func (s *siteLog) trace(t *testing.T) *replay.Trace {
	t.Helper()
	if err := s.W.Text(&format.Text{Name: "perf.map", MM: 1, Data: []byte(s.text.String())}); err != nil {
		t.Fatal(err)
	}
	tr := replay.New(rt.Open(t, s.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

const rw = addr.Read | addr.Write

// mmap maps n pages at a.
func (s *siteLog) mmap(a addr.Addr, n uint64, p addr.Prot) {
	s.Call(1, "mmap", int64(a), []uint64{0, n * addr.PageSize, uint64(p), 0x22, ^uint64(0), 0}, rt.Map(1, a, n, p, ""))
}

func sheetText(t *testing.T, v Value) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.Sheet().Write(&b, Table); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestCallSites looks at who is named, and for what.
func TestCallSites(t *testing.T) {
	s := newSiteLog(t)
	s.through("mmap", "sysmalloc", "malloc", "operator new", "std::vector<int>::reserve", "load_table", "main")
	s.mmap(rt.Anon, 16, rw)
	s.through("mmap", "malloc", "parse_row", "main")
	s.mmap(rt.Anon+0x100000, 4, rw)
	s.mmap(rt.Anon+0x200000, 4, rw)
	s.through("mmap", "new_heap", "arena_get2", "malloc", "worker") // a reservation
	s.mmap(rt.Moved, 0x100, 0)
	s.through("mprotect", "grow_heap", "sysmalloc", "malloc", "my_pool_get", "worker") // a part of which is used
	s.Call(1, "mprotect", 0, nil, rt.Map(1, rt.Moved, 8, rw, ""))
	s.through("munmap", "free", "main")
	s.Call(1, "munmap", 0, nil, rt.Unmap(1, rt.Anon+0x100000, 4))
	s.through("brk", "sbrk", "malloc", "parse_row", "main")
	s.Call(1, "brk", 0, nil, rt.Map(1, rt.Heap, 33, rw, "[heap]"))
	s.through("read", "main") // changes nothing
	s.Call(1, "read", 5, nil)
	s.through("runtime.mmap", "runtime.sysAlloc", "runtime.mstart") // of nobody but the runtime
	s.mmap(rt.Shm, 2, rw)
	s.Stack = 0
	s.mmap(rt.Shm+0x80000, 1, rw)
	s.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := s.trace(t)
	last, _ := tr.Last()
	const k = addr.PageSize
	for by, want := range map[string]string{
		"function": "parse_row/malloc 3 41 4 41 37, load_table/std::vector<int>::reserve 1 16 0 16 16, my_pool_get/malloc 1 0 0 8 8, " +
			"runtime.sysAlloc/runtime.mmap 1 2 0 2 2, (no stack) mmap/ 1 1 0 1 1, worker/malloc 1 256 0 0 0, (exec)/ 1 4 0 0 0",
		"module": "[anon]/malloc 7 315 4 67 63, (no stack) mmap/ 1 1 0 1 1, (exec)/ 1 4 0 0 0",
		"stack": "parse_row < main/ 3 41 4 41 37, load_table < main/ 1 16 0 16 16, my_pool_get < worker/ 1 0 0 8 8, " +
			"runtime.sysAlloc < runtime.mstart/ 1 2 0 2 2, (no stack) mmap/ 1 1 0 1 1, worker/ 1 256 0 0 0, (exec)/ 1 4 0 0 0",
	} {
		r, err := CallSites(context.Background(), tr, Options{To: last, By: by})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range r.Rows {
			via := x.Via
			if by == "module" && x.Site == "[anon]" {
				via = "malloc" // that of the first
			}
			got = append(got, fmt.Sprintf("%s/%s %d %d %d %d %d", x.Site, via, x.Calls, x.Mapped/k, x.Unmapped/k, x.Committed/k, x.Live/k))
		}
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("by %s:\n got %s\nwant %s", by, g, want)
		}
	}
	r, err := CallSites(context.Background(), tr, Options{To: last, By: "function", Skip: []string{"parse_*"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Rows[0].Site != "main" || r.Rows[0].Via != "parse_row" {
		t.Errorf("skipped parse_row: %+v", r.Rows[0])
	}
	if r, err = CallSites(context.Background(), tr, Options{To: last, By: "function", Skip: []string{"none"}}); err != nil {
		t.Fatal(err)
	}
	if r.Rows[0].Site != "brk" || r.Rows[0].Via != "" {
		t.Errorf("skipped nothing: %+v", r.Rows[0])
	}
	if text := sheetText(t, r); !strings.Contains(text, "2 growths of pools (brk, mprotect) by 82 KiB each") || !strings.Contains(text, "uncertain by 71 % or more") ||
		!strings.Contains(text, "1 call that got memory has no stack") {
		t.Errorf("notes:\n%s", text)
	}
	if _, err := CallSites(context.Background(), tr, Options{To: last, By: "colour"}); err == nil {
		t.Error("sites by colour")
	}
	calls, err := Callers(context.Background(), tr, Options{To: last, By: "site"})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range calls.Rows {
		found = found || c.Name == "read" && c.Calls == 1 && strings.HasPrefix(c.Site, "read")
	}
	if !found || calls.Total.Calls != 10 {
		t.Errorf("%+v", calls)
	}
}

// TestCallSitesMore asks for what is not shown by default: rankings, who gave back, stacks.
func TestCallSitesMore(t *testing.T) {
	s := newSiteLog(t)
	s.through("mmap", "malloc", "keep", "warm", "main")
	s.mmap(rt.Anon, 8, rw)
	s.through("mmap", "malloc", "keep", "cold", "main")
	s.mmap(rt.Anon+0x100000, 4, rw)
	s.through("mmap", "reserve", "main")
	s.mmap(rt.Moved, 0x100, 0)
	s.through("mmap", "malloc", "fill", "main")
	s.mmap(rt.Shm, 6, rw)
	const page = addr.PageSize
	s.Event(0, &format.Snapshot{MM: 1, Full: true, Pages: 5}, rt.Page(1, rt.Anon, 'a'), rt.Page(1, rt.Shm, 'b'), rt.Page(1, rt.Shm+page, 'c'),
		rt.Page(1, rt.Shm+2*page, 'd'), &format.Pages{MM: 1, Addr: rt.Shm + 3*page, N: 1, What: format.PageZero}, rt.Page(1, rt.Anon+0x100000, 'e'))
	s.through("munmap", "free", "drop", "main")
	s.Call(1, "munmap", 0, nil, rt.Unmap(1, rt.Anon, 4))
	s.through("munmap", "free", "sweep", "main")
	s.Call(1, "munmap", 0, nil, rt.Unmap(1, rt.Anon+4*page, 1))
	s.Call(1, "munmap", 0, nil, rt.Unmap(1, rt.Shm, 1))
	s.mmap(rt.Anon, 2, rw) // sweep's own, where data was
	s.Stack = 0
	s.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := s.trace(t)
	last, _ := tr.Last()
	o := Options{To: last, By: "function", Frees: true, Stacks: 1}
	for what, want := range map[string]string{
		"committed": "keep 7 50 drop (80 %), fill 5 36 sweep, sweep 2 14 , reserve 0 0 , (exec) 0 0 ",
		"mapped":    "reserve 256 93 , keep 7 3 drop (80 %), fill 5 2 sweep, (exec) 4 1 , sweep 2 1 ",
		"resident":  "fill 2 67 sweep, keep 1 33 drop (80 %), sweep 0 0 , reserve 0 0 , (exec) 0 0 ",
	} {
		o.What = what
		r, err := CallSites(context.Background(), tr, o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range r.Rows {
			x := &r.Rows[i]
			got = append(got, fmt.Sprintf("%s %d %.0f %s", x.Site, x.measure(what)/page, x.LiveShare, x.FreedBy))
		}
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("%s:\n got %s\nwant %s", what, g, want)
		}
		if (r.Rows[0].Resident != nil) != (what == "resident") {
			t.Errorf("%s: resident memory is %v", what, r.Rows[0].Resident)
		}
		text := sheetText(t, r)
		if n := strings.Count(text, " live, "); n != 4 || !strings.Contains(text, "16 KiB live, 16 KiB committed, in 1 call from keep:\n  mmap ([anon])\n  malloc ([anon])\n  keep ([anon])\n  cold ([anon])\n") {
			t.Errorf("%d stacks:\n%s", n, text)
		}
	}
	for _, bad := range []Options{{To: last, What: "colour"}, {To: last, Stacks: -1}} {
		if _, err := CallSites(context.Background(), tr, bad); err == nil {
			t.Errorf("%+v", bad)
		}
	}
}

// TestNoStacks: a log without stacks says how to have them, and nothing else.
func TestNoStacks(t *testing.T) {
	tr := replay.New(rt.Open(t, rt.Log(t)))
	r, err := CallSites(context.Background(), tr, Options{To: 18})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Callers(context.Background(), tr, Options{To: 18, By: "line"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Value{r, c} {
		if text := sheetText(t, v); !strings.HasSuffix(text, NoStacks(tr)+"\n") {
			t.Error(text)
		}
	}
}

// TestLeakSites makes a leak from three sites, most of which comes late from one that had
// little at first.
func TestLeakSites(t *testing.T) {
	s := newSiteLog(t)
	next := rt.Anon
	grow := func(n uint64, names ...string) {
		s.through(names...)
		s.mmap(next, n, rw)
		next += addr.Addr(n+1) << addr.PageShift
	}
	pages := uint64(100)
	for i := range 200 {
		one, two, three := uint64(20), uint64(6), uint64(2)
		if i < 20 {
			one, two = 2, 90 // what came at the start is no leak
		}
		grow(one, "mmap", "malloc", "xmalloc", "keep_row", "main")
		grow(two, "mmap", "malloc", "operator new", "add_index", "main")
		grow(three, "mmap", "malloc", "log_line", "main")
		s.Wait(15 * time.Millisecond)
		pages += one + two + three
		s.Stack = 0
		s.Event(0, &format.MemInfo{Samples: []format.Sample{{
			Source: "status", PID: 100,
			Data: fmt.Appendf(nil, "Name:\tp\nVmRSS:\t%d kB\nRssAnon:\t%d kB\nVmData:\t%d kB\n", pages*4, pages*4, pages*4),
		}}})
	}
	tr := s.trace(t)
	last, _ := tr.Last()
	r, err := Leaks(context.Background(), tr, Options{To: last})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range r.Sites {
		got = append(got, fmt.Sprintf("%s by %s %.0f", x.Site, x.Via, x.Share))
	}
	want := "keep_row ([anon]) by xmalloc 71, add_index ([anon]) by operator new 21, log_line ([anon]) by malloc 7"
	if g := strings.Join(got, ", "); g != want {
		t.Errorf("got %s, want %s", g, want)
	}
	if !strings.Contains(r.Verdict.Text, "71 % of what came after the start and stayed is from keep_row ([anon]) (by xmalloc), in") {
		t.Error(r.Verdict.Text)
	}
	sum, err := Summary(context.Background(), tr, Options{To: last})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(sum.Leak, "keep_row ([anon]): 71 % of ") {
		t.Errorf("summary: %q", sum.Leak)
	}
}

// TestCrashSite names where a program died.
func TestCrashSite(t *testing.T) {
	for want, stack := range map[string][]string{
		"SIGSEGV in parse_row ([anon])":               {"parse_row", "main"},
		"SIGSEGV in main ([anon]), by operator new[]": {"brk", "malloc", "operator new[]", "main"},
	} {
		s := newSiteLog(t)
		s.through(stack...)
		s.Event(1, &format.Signal{Signo: 11, Fatal: true})
		s.Stack = 0
		s.Event(1, &format.Exit{Status: 11, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
		tr := s.trace(t)
		last, _ := tr.Last()
		sum, err := Summary(context.Background(), tr, Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		if sum.Crash != want {
			t.Errorf("%q, want %q", sum.Crash, want)
		}
		if text := sheetText(t, sum); !strings.Contains(text, "CRASH: "+want) {
			t.Error(text)
		}
	}
}
