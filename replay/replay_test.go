package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

func trace(t testing.TB) *replay.Trace { return replay.New(Open(t, Log(t))) }

func TestStepOf(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	tr := trace(t)
	start := tr.Header().Start.UTC()
	times, err := tr.Times(3, 18)
	if err != nil {
		t.Fatal(err)
	}
	clock := func(ns uint64) string {
		return start.Add(time.Duration(ns)).Format("15:04:05.999999999")
	}
	for s, want := range map[string]format.Step{
		"0": 0, "18": 18, "last": 18, "first": 0, "-1": 18, "-19": 0, "50%": 9, "100%": 18, "0%": 0, "25us": 1, "1h": 18, "0s": 0,
		"last-0": 18, "last-1": 17, "last-18": 0, "-0s": 18, "last-0s": 18, "-1ns": 17, "last-1ns": 17,
		fmt.Sprintf("-%dns", times[1]-times[0]): 3, fmt.Sprintf("last-%dns", times[1]): 0,
		clock(times[0]): 3, clock(times[0] + 1): 3, clock(times[0] - 1): 2, clock(times[1]): 18,
	} {
		if got, err := tr.StepOf(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "19", "-20", "-0", "101%", "x%", "NaN%", "x", "1.5", "-1s", "last-19", "last-1h", "last-x", "last-", "12:4x",
		clock(times[1] + 1), start.Add(-time.Minute).Format("15:04:05")} {
		if got, err := tr.StepOf(s); err == nil {
			t.Errorf("%q: got %d, want an error", s, got)
		}
	}
	for s, has := range map[string]func(*format.Signal) bool{
		"signal": func(*format.Signal) bool { return true }, "crash": func(r *format.Signal) bool { return r.Fatal },
	} {
		n, err := tr.StepOf(s)
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range tr.Events(n) {
			if r, ok := ev.Record.(*format.Signal); err != nil || !ok || !has(r) {
				t.Errorf("%s is step %d: %+v, %v", s, n, ev, err)
			}
			break
		}
	}
}

// Every step's mappings, going forward, back, and at random, must be the same.
func TestCursor(t *testing.T) {
	tr := trace(t)
	n := int(tr.Steps())
	state := func(v *replay.View) string {
		var b []byte
		for _, p := range v.Processes() {
			b = fmt.Appendf(b, "%d %d\n", p.PID, len(p.Threads))
			if s, err := p.Space(); err == nil {
				b = s.AppendMaps(b)
			}
		}
		return string(b)
	}
	var want []string
	c := tr.Cursor()
	defer c.Close()
	if _, ok := c.Step(); ok {
		t.Error("a new cursor stands on a step")
	}
	for i := range n {
		ev, err := c.Next()
		if err != nil || ev.Step != format.Step(i) {
			t.Fatalf("next: got %v, %v, want %d", ev, err, i)
		}
		want = append(want, state(c.View()))
	}
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
	for i := n - 2; i >= 0; i-- {
		ev, err := c.Prev()
		if err != nil || ev.Step != format.Step(i) {
			t.Fatalf("prev: got %v, %v, want %d", ev, err, i)
		}
		if got := state(c.View()); got != want[i] {
			t.Errorf("prev to %d: got\n%swant\n%s", i, got, want[i])
		}
	}
	if _, err := c.Prev(); err != io.EOF {
		t.Errorf("before the first: %v", err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		c := c
		if rng.IntN(3) == 0 {
			c = tr.Cursor()
		}
		i := rng.IntN(n)
		if err := c.Seek(format.Step(i)); err != nil {
			t.Fatal(err)
		}
		for range rng.IntN(4) {
			if rng.IntN(2) == 0 && i+1 < n {
				i++
				_, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
			} else if i > 0 {
				i--
				if _, err := c.Prev(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := state(c.View()); got != want[i] {
			t.Fatalf("at %d: got\n%swant\n%s", i, got, want[i])
		}
		v, err := tr.At(format.Step(i))
		if err != nil || state(v) != want[i] {
			t.Fatalf("At(%d): %v\n%s", i, err, state(v))
		}
	}
	if err := c.Seek(format.Step(n)); err == nil {
		t.Error("seek beyond the end: no error")
	}
}

// A cursor's window moves: going far forward and all the way back must give
// each step once, with its own line.
func TestCursorLong(t *testing.T) {
	b := New(t)
	b.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, Thread(1, 7, 7, 1, 1, 0))
	const n = 3000
	for i := 1; i < n; i++ {
		b.Call(1, "mmap", int64(i), nil, Map(1, addr.Addr(i)<<addr.PageShift, 1, addr.Read, ""))
	}
	tr := replay.New(Open(t, b.Bytes()))
	c := tr.Cursor()
	defer c.Close()
	p, err := tr.Printer(0, replay.PrintOptions{Steps: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Printer = p
	check := func(i int) {
		t.Helper()
		if !strings.HasPrefix(c.Line(), fmt.Sprintf("%6d ", i)) {
			t.Fatalf("line at %d: %s", i, c.Line())
		}
		s, ok := c.View().Space(1)
		if !ok || s.Set().Len() != i {
			t.Fatalf("at %d: %d mappings", i, s.Set().Len())
		}
	}
	for i := range n {
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		check(i)
	}
	for i := n - 2; i >= 0; i-- {
		if _, err := c.Prev(); err != nil {
			t.Fatal(err)
		}
		check(i)
	}
}

func at(t *testing.T, tr *replay.Trace, n format.Step, pid uint32) *replay.AddressSpace {
	t.Helper()
	v, err := tr.At(n)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr.Find(context.Background(), v, pid)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Space()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadMem(t *testing.T) {
	tr := trace(t)
	const page = addr.PageSize
	p := make([]byte, 3*page)
	for _, c := range []struct {
		step format.Step
		a    addr.Addr
		len  int
		n    int
		asOf format.Step
		err  error
		at   addr.Addr
		want byte
	}{
		{2, Heap, 8, 0, 2, replay.ErrUnknown, Heap, 0},
		{3, Heap, 8, 8, 3, nil, 0, 'A'},
		{13, Heap + 100, 8, 8, 3, nil, 0, 'A'},
		{14, Heap, 8, 8, 14, nil, 0, 'C'},
		{14, Heap, page + 8, page, 14, replay.ErrUnknown, Heap + page, 'C'},
		{14, Stack - 4, 8, 0, 14, replay.ErrUnmapped, Stack - 4, 0},
		{12, Anon + 8*page, page, page, 3, nil, 0, 'B'},
		{13, Anon + 8*page, page, 0, 13, replay.ErrUnmapped, Anon + 8*page, 0},
		{13, Moved, page, page, 3, nil, 0, 'B'},
		{13, Moved + page, 5, 5, 3, nil, 0, 0},
		{13, Moved, 3 * page, 2 * page, 3, replay.ErrUnknown, Moved + 2*page, 'B'},
		{13, ^addr.Addr(0) - 3, 8, 0, 13, replay.ErrUnmapped, ^addr.Addr(0) - 3, 0},
	} {
		s := at(t, tr, c.step, 0)
		n, asOf, err := s.ReadMem(p[:c.len], c.a)
		var u *replay.UnknownError
		if n != c.n || asOf != c.asOf || !errors.Is(err, c.err) || c.err != nil && (!errors.As(err, &u) || u.Addr != c.at) {
			t.Errorf("step %d, %v: got %d bytes as of %d, %v", c.step, c.a, n, asOf, err)
		}
		if n > 0 && p[0] != c.want {
			t.Errorf("step %d, %v: got %q", c.step, c.a, p[0])
		}
	}
	// The child has the parent's pages until it runs another program.
	if _, _, err := at(t, tr, 7, 101).ReadMem(p[:4], Heap); err != nil || string(p[:4]) != "AAAA" {
		t.Errorf("child: %q, %v", p[:4], err)
	}
}

func TestWriteMem(t *testing.T) {
	tr := trace(t)
	s := at(t, tr, 13, 0)
	var b bytes.Buffer
	older, err := s.WriteMem(&b, addr.Range{Start: Moved + addr.PageSize - 24, End: Moved + addr.PageSize + 40}, false)
	want := "7ffff7a00fe8  42 42 42 42 42 42 42 42  42 42 42 42 42 42 42 42  |BBBBBBBBBBBBBBBB|\n" +
		"7ffff7a00ff8  42 42 42 42 42 42 42 42  00 00 00 00 00 00 00 00  |BBBBBBBB........|\n" +
		"7ffff7a01008  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n" +
		"7ffff7a01028\n"
	if err != nil || b.String() != want {
		t.Errorf("got %v\n%s", err, b.String())
	}
	if len(older) != 1 || older[0].AsOf != 3 {
		t.Errorf("older: %v", older)
	}
	b.Reset()
	_, err = s.WriteMem(&b, addr.Range{Start: Heap + addr.PageSize - 3, End: Heap + addr.PageSize + 3}, true)
	if !errors.Is(err, replay.ErrUnknown) || b.String() != "AAA" {
		t.Errorf("raw: got %q, %v", b.String(), err)
	}
}

func TestFind(t *testing.T) {
	tr := trace(t)
	for _, c := range []struct {
		step format.Step
		pid  uint32
		want string // part of the error; "" for none
	}{
		{3, 0, ""}, {7, 101, ""}, {9, 101, ""},
		{3, 101, "begins at step 7"}, {12, 101, "ended at step 11 (killed by SIGSEGV): its last address space is at step 10"},
		{18, 0, "ended at step 18 (exited with 3): its last address space is at step 17"},
		{3, 999, "no such process in this log"},
	} {
		v, err := tr.At(c.step)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.Find(context.Background(), v, c.pid)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("step %d, pid %d: got %v, want %q", c.step, c.pid, err, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	tr := trace(t)
	want := map[format.Step]string{
		1:  "map 555555558000+2",
		2:  "map 7ffff7c00000+16",
		5:  "protect 7ffff7c00000+4",
		8:  "map 555555554000+2 map 7ffffffde000+4",
		9:  "unmap 7ffffffde000+1",
		13: "remap 7ffff7a00000+16",
		15: "unmap 55555555b000+1",
	}
	want[1] = "map 55555555a000+2"
	for m, err := range tr.Walk(1, 18) {
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range m.Changes {
			got = append(got, fmt.Sprintf("%s %x+%d", c.Op, uint64(c.VMA.Start), c.VMA.Len()>>addr.PageShift))
		}
		n := m.Event.Step
		if n != 6 && strings.Join(got, " ") != want[n] {
			t.Errorf("step %d: got %q, want %q", n, got, want[n])
		}
	}
}

func TestRegisters(t *testing.T) {
	tr := trace(t)
	v, err := tr.At(13)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr.Find(context.Background(), v, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[format.Step]format.Step{0: 0, 13: 0, 14: 14, 17: 14} {
		rs, err := tr.Registers(n, p.Threads)
		if err != nil || len(rs) != 1 || rs[0].AsOf != want || len(rs[0].Values) != len(arch.X86_64.Registers()) {
			t.Errorf("at %d: got %+v, %v", n, rs, err)
		}
	}
	rs, err := tr.Registers(13, []format.Thread{{No: 99}})
	if err != nil || rs[0].Values != nil {
		t.Errorf("unknown thread: %+v, %v", rs, err)
	}
}

func TestCompare(t *testing.T) {
	tr := trace(t)
	d, err := tr.Compare(context.Background(), 4, 14, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.Write(&b, replay.NoClock, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"+7ffff7a00000-7ffff7a10000 rw-p", "-7ffff7c08000-7ffff7c10000 rw-p", "<7ffff7c00000-7ffff7c04000 rw-p",
		">7ffff7c00000-7ffff7c04000 r--p", "changed: 1 in [heap]", "lost: 2",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if !json.Valid(d.AppendJSON(nil, nil)) {
		t.Errorf("bad JSON: %s", d.AppendJSON(nil, nil))
	}
}

func TestJSON(t *testing.T) {
	tr := trace(t)
	var b bytes.Buffer
	if err := tr.List(context.Background(), &b, replay.ListOptions{JSON: true, To: 18, AllCalls: true}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if m["step"] != float64(n) {
			t.Errorf("step %v, want %d", m["step"], n)
		}
		n++
	}
	if n != 19 {
		t.Errorf("%d lines", n)
	}
}

func TestLives(t *testing.T) {
	ls, err := trace(t).Lives(context.Background())
	if err != nil || len(ls) != 2 {
		t.Fatalf("%v, %v", ls, err)
	}
	a, b := ls[0], ls[1]
	if a.PID != 100 || a.First != 0 || a.Last != 18 || !a.Ended || a.Status != 3<<8 || a.Threads != 1 || a.PeakStep != 13 {
		t.Errorf("parent: %+v", a)
	}
	if b.PID != 101 || b.First != 7 || b.Last != 11 || b.Status != 11 || b.Parent != 1 || b.Name() != "/bin/child" {
		t.Errorf("child: %+v", b)
	}
}

// TestLastWhole: a process that a signal killed is looked at when it came, with all its
// threads; another, or one that outlived it, before its end.
func TestLastWhole(t *testing.T) {
	b := New(t)
	b.Event(1, &format.Exec{Path: "/bin/a"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Stack, 8, 3, "[stack]"))
	b.Event(1, &format.Clone{Child: 2}, Thread(2, 101, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 3}, &format.MMNew{MM: 2, From: 1}, Thread(3, 200, 200, 3, 2, 1))
	b.Event(2, &format.Signal{Signo: 11, Fatal: true})
	b.Event(1, &format.Exit{Status: 11}, &format.ThreadEnd{No: 1})
	b.Event(2, &format.Exit{Status: 11, Process: true}, &format.ThreadEnd{No: 2}, &format.MMDrop{MM: 1})
	b.Event(3, &format.Signal{Signo: 15, Fatal: true}) // and it is not: the log says how it ended
	b.Call(3, "getpid", 200, nil)
	b.Event(3, &format.Exit{Status: 1 << 8, Process: true}, &format.ThreadEnd{No: 3}, &format.MMDrop{MM: 2})
	tr := replay.New(Open(t, b.Bytes()))
	for pid, want := range map[uint32][2]format.Step{0: {3, 4}, 100: {3, 4}, 200: {7, 7}} {
		whole, err := tr.LastWhole(context.Background(), pid)
		alive, err2 := tr.LastAlive(context.Background(), pid)
		if err != nil || err2 != nil || whole != want[0] || alive != want[1] {
			t.Errorf("%d: %d, %d, %v, %v; want %v", pid, whole, alive, err, err2, want)
		}
	}
	if _, err := tr.LastWhole(context.Background(), 300); !errors.Is(err, replay.ErrNoProcess) {
		t.Errorf("of no process: %v", err)
	}
}

func TestParseAddr(t *testing.T) {
	s := at(t, trace(t), 3, 0)
	for in, want := range map[string]addr.Addr{
		"0x1000": 0x1000, "4096": 0x1000, "7fff": 0x7fff, "heap": Heap, "[heap]+0x10": Heap + 16, "prog": Text, "4K": 4096,
	} {
		if got, err := replay.ParseAddr(in, s); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"heap:16": "555555558000-555555558010", "0x1000-0x2000": "00001000-00002000", "0x1000:4K": "00001000-00002000",
	} {
		if got, err := replay.ParseRange(in, s); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "nope", "heap:0", "2-1", "0xffffffffffffffff:2", "heap:x"} {
		if got, err := replay.ParseRange(in, s); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

// A Trace is for several goroutines at once; run with -race this shows.
func TestConcurrent(t *testing.T) {
	tr := trace(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := tr.Cursor()
			defer c.Close()
			if err := c.Seek(format.Step(i + 3)); err != nil {
				t.Error(err)
			}
			s, ok := c.View().Space(1)
			if !ok {
				t.Error("no address space")
				return
			}
			if _, _, err := s.ReadMem(make([]byte, 8), Heap); err != nil {
				t.Error(err)
			}
			if _, err := tr.Lives(context.Background()); err != nil {
				t.Error(err)
			}
			if err := tr.List(context.Background(), io.Discard, replay.ListOptions{From: 5, To: 18, AllCalls: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestLongTexts: a log of a few kilobytes says no megabytes in each of its lines, and a
// reason makes no line of its own.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("\x01", 1<<20)
	b := New(t)
	b.Event(1, &format.Exec{Path: "/bin/a"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Stack, 8, 3, "[stack]"))
	b.Event(1, &format.Lost{What: long})
	b.Event(0, &format.Snapshot{MM: 1, Reason: "a\n 9 exit(0)" + long})
	b.Event(1, &format.Detach{Reason: long})
	tr := replay.New(Open(t, b.Bytes()))
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		if err := tr.List(context.Background(), &out, replay.ListOptions{JSON: json, To: 3, AllCalls: true}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != 4 || out.Len() > 3*8*4096 {
			t.Errorf("JSON %v: %d lines, %d bytes", json, n, out.Len())
		}
	}
}

// TestParseBytes reads the patterns that a user types.
func TestParseBytes(t *testing.T) {
	for in, want := range map[string]string{
		"text": "text", "'a b'": "a b", "0x00ff": "\x00\xff",
		`"a\0b"`: "a\x00b", `"\0"`: "\x00", `"\1012"`: "A2", `"\377"`: "\xff", `"\x4142"`: "A42", `"\xa"`: "\n",
		`"\a\b\e\f\n\r\t\v\\\'\"\?"`: "\a\b\x1b\f\n\r\t\v\\'\"?", `"\u00e9\U0001F600"`: "é😀", `"é"`: "é",
	} {
		if got, err := replay.ParseBytes(in); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q; %v", in, got, want, err)
		}
	}
	for _, in := range []string{"0x", "0x1", "0xzz", `"`, `""`, `"a`, `"\8"`, `"\400"`, `"\x"`, `"\q"`, `"\u12"`, `"a\"`, `"a"b"`} {
		if got, err := replay.ParseBytes(in); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}
