package analyze

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// acting is a program that a test makes up, tick by tick.
type acting struct {
	*rt.Builder
	heap    uint64    // pages of [heap]
	next    addr.Addr // where the next mapping goes
	used    int       // KiB in use, of which a sample tells
	shared  int       // KiB of shared memory in use
	tables  int       // KiB
	threads uint32
	procs   uint32
	fds     int64
	buffer  addr.Range // a large mapping that is sampled, with used KiB in use
}

const ticks = 160 // of 50 ms

// brk sets the size of the heap in KiB, in steps of 132 KiB.
func (a *acting) brk(kib int) {
	n := uint64(kib+131) / 132 * 33
	if n > a.heap {
		a.Call(1, "brk", 0, nil, rt.Map(1, rt.Heap, n, rw, "[heap]"))
	} else if n < a.heap {
		a.Call(1, "brk", 0, nil, rt.Unmap(1, rt.Heap+addr.Addr(n)<<addr.PageShift, int(a.heap-n)))
	}
	a.heap = n
}

func (a *acting) mmap(kib int, p addr.Prot) addr.Addr {
	at := a.next
	a.Call(1, "mmap", int64(at), []uint64{0, uint64(kib) << 10, uint64(p), 0x22, ^uint64(0), 0}, rt.Map(1, at, uint64(kib)/4, p, ""))
	a.next += addr.Addr(kib<<10) + addr.PageSize
	return at
}

func (a *acting) munmap(at addr.Addr, kib int) { a.Call(1, "munmap", 0, nil, rt.Unmap(1, at, kib/4)) }

func (a *acting) sample(last bool) {
	thread := uint32(0)
	if last {
		thread = 1
	}
	list := []format.Sample{
		{Source: "status", PID: 100, Data: fmt.Appendf(nil, "Name:\tp\nVmRSS:\t%d kB\nRssAnon:\t%d kB\nRssShmem:\t%d kB\nVmStk:\t132 kB\nVmPTE:\t%d kB\n",
			a.used+a.shared+999, a.used+999, a.shared, a.tables)},
		{Source: "smaps_rollup", PID: 100, Data: fmt.Appendf(nil, "Rss: %d kB\nAnonymous: %d kB\nLazyFree: 0 kB\nSwap: 0 kB\n", a.used+a.shared, a.used)},
	}
	if a.buffer.Len() > 0 {
		list = append(list, format.Sample{Source: "smaps", PID: 100, Data: fmt.Appendf(nil,
			"%x-%x rw-p\nRss: %d kB\nAnonymous: %d kB\nLazyFree: 8 kB\nSwap: 4 kB\n10-20 rw-p\nAnonymous: 2048 kB\n", uint64(a.buffer.Start), uint64(a.buffer.End), a.used, a.used)})
	}
	a.Event(thread, &format.MemInfo{Samples: list})
}

// heapUse samples the heap as --referenced does.
func (a *acting) heapUse(source string, referenced int) {
	a.Event(0, &format.MemInfo{Samples: []format.Sample{{Source: source, PID: 100, Data: fmt.Appendf(nil,
		"%x-%x rw-p\nRss: %d kB\nReferenced: %d kB\nAnonymous: %d kB\n", uint64(rt.Heap), uint64(rt.Heap)+a.heap<<addr.PageShift, a.used, referenced, a.used)}}})
}

// act makes the log of a program.
func act(t *testing.T, path string, do func(a *acting, i int), end func(a *acting)) *replay.Trace {
	t.Helper()
	a := &acting{Builder: rt.New(t), next: rt.Anon, threads: 1, procs: 1, tables: 40}
	a.Event(1, &format.Exec{Path: path}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, 5, path))
	a.sample(false)
	for i := range ticks {
		do(a, i)
		a.Wait(50 * time.Millisecond)
		if i%2 == 1 {
			a.sample(false)
		}
	}
	if end != nil {
		end(a)
	}
	s := &format.Syscall{Arch: arch.X86_64, Nr: 231}
	a.Event(1, s)
	a.sample(true)
	a.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(rt.Open(t, a.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func leaksOf(t *testing.T, tr *replay.Trace) *LeaksReport {
	t.Helper()
	last, _ := tr.Last()
	r, err := Leaks(context.Background(), tr, Options{To: last})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVerdicts: what programs come to that use and map memory in known ways.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name, path, want string // verdict and kind
		says             string
		do               func(a *acting, i int)
		end              func(a *acting)
	}{
		{"heap", "/p", "leak heap", "brk took", func(a *acting, i int) {
			a.used = 2000 + 100*i
			a.brk(a.used)
		}, nil},
		{"50 KiB/s in 200 MiB", "/p", "leak heap", "50 KiB/s", func(a *acting, i int) {
			a.used = 200<<10 + i*5/2
			a.brk(a.used)
		}, nil},
		{"mappings", "/p", "leak anonymous private", "mmap", func(a *acting, i int) {
			a.used += 64
			a.mmap(64, rw)
		}, nil},
		{"freed before its end", "/p", "leak heap", "were given back", func(a *acting, i int) {
			a.used = 2000 + 100*i
			a.brk(a.used)
		}, func(a *acting) { a.brk(0); a.used = 100 }},
		{"built up, then freed", "/p", "grows heap", "gave most of it back", func(a *acting, i int) {
			a.used = 2000 + 100*min(i, 3*(ticks-i))
			a.brk(a.used)
		}, nil},
		{"below a saw-tooth", "/p", "leak heap", "comes and goes", sawWith(8), nil},
		{"a saw-tooth", "/p", "none memory", "comes and goes", sawWith(0), nil},
		{"a full cache", "/p", "none memory", "was flat in the last", func(a *acting, i int) {
			a.used = 2000 + 800*min(i, ticks/4)
			a.brk(a.used)
		}, nil},
		{"a cache that fills up", "/p", "grows heap", "not flat yet", func(a *acting, i int) {
			a.used = int(30000 * toward(0.6)(float64(i)/ticks) / 30)
			a.brk(a.used)
		}, nil},
		{"a buffer mapped at first", "/p", "grows memory", "it had mapped before", func(a *acting, i int) {
			if i == 0 {
				a.mmap(64<<10, rw)
			}
			a.used = 300 * i
		}, nil},
		{"a buffer that is sampled", "/p", "grows memory", "46.6 MiB of 64 MiB are in use there", func(a *acting, i int) {
			if i == 0 {
				at := a.mmap(64<<10, rw)
				a.buffer = addr.Range{Start: at, End: at + 64<<20}
			}
			a.used = 300 * i
		}, nil},
		{"address space", "/p", "leak address space", "touched 0 % of it", func(a *acting, i int) { a.mmap(1<<10, rw) }, nil},
		{"reservations", "/p", "leak address space", "cannot write to", func(a *acting, i int) { a.mmap(4<<10, 0) }, nil},
		{"one reservation", "/p", "none memory", "flat", func(a *acting, i int) {
			if i == 40 {
				a.mmap(4<<20, 0)
			}
		}, nil},
		{"node before a collection", "/usr/bin/node", "grows anonymous private", "Node's heap", grownBy(128), nil},
		{"node after many", "/usr/bin/node", "leak anonymous private", "", grownBy(2048), nil},
		{"java", "/usr/lib/jvm/bin/java", "grows anonymous private", "the JVM's heap", grownBy(2048), nil},
		{"threads", "/p", "leak threads", "8.0 threads a second", func(a *acting, i int) {
			if i%5 < 2 {
				at := a.mmap(8<<10, rw)
				a.threads++
				stack := rt.Map(1, at, 2<<10, rw, "")
				stack.VMA.Kind = vma.ThreadStack
				a.Event(1, &format.Clone{Child: a.threads, Flags: 0x10f00}, rt.Thread(a.threads, 100+a.threads, 100, 1, 1, 0), stack)
				a.used += 12
			}
		}, nil},
		{"descriptors", "/p", "leak descriptors", "20.0 a second", func(a *acting, i int) { a.fds++; a.Call(1, "openat", 3+a.fds, nil) }, nil},
		{"descriptors come and go", "/p", "none memory", "", func(a *acting, i int) {
			a.Call(1, "openat", 3, nil)
			a.Call(1, "close", 0, []uint64{3})
		}, nil},
		{"memfds", "/p", "leak memfd", "", func(a *acting, i int) {
			a.fds++
			a.Call(1, "memfd_create", 3+a.fds, nil)
			a.Call(1, "ftruncate", 0, []uint64{uint64(3 + a.fds), 64 << 10})
		}, nil},
		{"memfds that it closes as it ends", "/p", "leak memfd", "", func(a *acting, i int) {
			a.fds++
			a.Call(1, "memfd_create", 3+a.fds, nil)
			a.Call(1, "ftruncate", 0, []uint64{uint64(3 + a.fds), 64 << 10})
		}, func(a *acting) {
			for ; a.fds > 0; a.fds-- {
				a.Call(1, "close", 0, []uint64{uint64(3 + a.fds)})
			}
		}},
		{"shared memory", "/p", "leak anonymous shared", "", func(a *acting, i int) {
			a.mmap(64, rw|addr.Shared)
			a.shared += 64
		}, nil},
		{"shared memory of before", "/p", "grows anonymous shared", "", func(a *acting, i int) {
			if i == 0 {
				a.mmap(64<<10, rw|addr.Shared)
			}
			a.shared += 64
		}, nil},
		{"page tables", "/p", "leak page tables", "400 KiB/s", func(a *acting, i int) { a.tables += 20 }, nil},
		{"processes", "/p", "leak processes", "", func(a *acting, i int) {
			if i%4 == 0 {
				a.threads++
				no := a.threads
				a.Event(1, &format.Clone{Child: no, Flags: 17}, &format.MMNew{MM: no, From: 1}, rt.Thread(no, 100+no, 100+no, no, no, 1))
			}
		}, func(a *acting) {
			for ; a.threads > 1; a.threads-- {
				a.Event(a.threads, &format.Exit{Process: true}, &format.ThreadEnd{No: a.threads}, &format.MMDrop{MM: a.threads})
			}
		}},
	} {
		r := leaksOf(t, act(t, tt.path, tt.do, tt.end))
		v := r.Verdict
		if got := v.Word + " " + v.Kind; got != tt.want || !strings.Contains(v.Text, tt.says) {
			t.Errorf("%s: %s, want %s (%q): %s", tt.name, got, tt.want, tt.says, v.Text)
		}
		for _, x := range r.Rows {
			if x.High < x.End || x.High < x.Begin {
				t.Errorf("%s: %s of %s is %d at most, and %d at the end", tt.name, x.Series, x.Who, x.High, x.End)
			}
		}
		if v.Word != wordShort && v.Kind != kindProcesses && (v.From == nil || v.To == nil || v.FromTime == nil || *v.FromTime >= *v.ToTime) {
			t.Errorf("%s: no from and to: %+v", tt.name, v)
		}
	}
}

// grownBy has a program's heap grow by so many KiB a tick.
func grownBy(kib int) func(a *acting, i int) {
	return func(a *acting, i int) {
		a.used += kib
		a.mmap(kib, rw)
	}
}

// sawWith takes and gives back 8 MiB, five times a second, and keeps so many KiB of the heap each
// tick.
func sawWith(kib int) func(a *acting, i int) {
	var at []addr.Addr
	return func(a *acting, i int) {
		if i == 0 {
			at = nil
		}
		if len(at) == 8 {
			for _, p := range at {
				a.munmap(p, 1024)
			}
			at = at[:0]
		}
		at = append(at, a.mmap(1024, rw))
		a.used = 1024*len(at) + kib*i
		a.brk(100 + kib*i)
	}
}

// TestUsedAgain: memory that grows and is used again is no lost memory. That is said only where
// most of what was looked at is what grew, and nothing but the program looks at it.
func TestUsedAgain(t *testing.T) {
	for _, tt := range []struct {
		path       string
		before     int // KiB in use when it began
		again      int // percent of what was there
		want, says string
	}{
		{"/p", 2000, 19, "leak heap 19", "Of 11.7 MiB that were there at 5.00 s ([heap]), 19 % were used in the next 2.00 s."},
		{"/p", 2000, 79, "leak heap 79", "79 % were used"},
		{"/p", 2000, 100, "grows heap 100", "was not given back, but the program still uses it. A cache that is filling looks so"},
		{"/p", 2000, 0, "leak heap 0", "0 % were used"},
		{"/p", 20000, 100, "leak heap 100", "100 % were used"},
		{"/p", 200000, 100, "leak heap", "LEAK"},
		{"/usr/lib/jvm/bin/java", 2000, 100, "grows heap 100", "100 % were used in the next 2.00 s, perhaps by the JVM's collector."},
	} {
		before := 0
		v := leaksOf(t, act(t, tt.path, func(a *acting, i int) {
			a.used = tt.before + 100*i
			a.brk(a.used)
			a.buffer = addr.Range{Start: rt.Heap, End: rt.Heap + addr.Addr(a.heap)<<addr.PageShift}
			switch i {
			case 100:
				before = a.used
				a.heapUse("cleared", a.used)
			case 140:
				a.heapUse("referenced", a.used-before+before*tt.again/100)
			}
		}, nil)).Verdict
		got := v.Word + " " + v.Kind
		if v.UsedAgain != nil {
			got += fmt.Sprintf(" %.0f", *v.UsedAgain)
		}
		if got != tt.want || !strings.Contains(v.Text, tt.says) {
			t.Errorf("%+v: %s: %s", tt, got, v.Text)
		}
	}
}

// TestShort: what lives shorter than two seconds has one verdict for all.
func TestShort(t *testing.T) {
	b := rt.New(t)
	b.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, 5, "/p"))
	for no := uint32(2); no < 9; no++ {
		b.Event(1, &format.Clone{Child: no, Flags: 17}, &format.MMNew{MM: no, From: 1}, rt.Thread(no, 100+no, 100+no, no, no, 1))
		b.Wait(200 * time.Millisecond)
		b.Event(no, &format.Exit{Process: true}, &format.ThreadEnd{No: no}, &format.MMDrop{MM: no})
	}
	r := leaksOf(t, replay.New(rt.Open(t, b.Bytes())))
	if len(r.Verdicts) != 1 || r.Verdict.Word != wordShort || r.Verdict.PID != nil || !strings.Contains(r.Verdict.Text, "8 programs") {
		t.Errorf("%+v", r.Verdicts)
	}
}

// TestStall: a machine that stood still makes no leak flat, and where it did so for long nothing is
// said to be flat.
func TestStall(t *testing.T) {
	for _, tt := range []struct {
		leaks, stalls bool
		want          string
	}{{true, true, wordLeak}, {false, false, wordNone}, {false, true, wordShort}} {
		tr := act(t, "/p", func(a *acting, i int) {
			if tt.leaks {
				a.used = 2000 + 100*i
				a.brk(a.used)
			}
			if i == 100 && tt.stalls {
				a.Wait(6 * time.Second)
			}
		}, nil)
		tr.Header().Options = []string{"meminfo=auto"}
		if v := leaksOf(t, tr).Verdict; v.Word != tt.want {
			t.Errorf("%+v: %s: %s", tt, v.Word, v.Text)
		}
	}
}

// TestExtents: what an address space has mapped, by use, is what the log's mappings sum up to after
// any change: fork, mprotect in the middle, mremap, another kind.
func TestExtents(t *testing.T) {
	rec, err := replay.Open("testdata/recorded.mtl", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	for name, tr := range map[string]*replay.Trace{"recorded": rec, "every": replay.New(rt.Open(t, rt.Every(t))), "log": replay.New(rt.Open(t, rt.Log(t)))} {
		before, err := tr.Before(0)
		if err != nil {
			t.Fatal(err)
		}
		c := newCensus(before)
		last, _ := tr.Last()
		for m, err := range tr.Walk(0, last) {
			if err != nil {
				t.Fatal(err)
			}
			c.see(m, float64(m.Event.Time)/1e9)
			for no, mm := range m.State.MMs {
				var want [numUses]float64
				for v := range mm.VMAs.All() {
					if u, ok := useOf(v); ok {
						want[u] += float64(v.Len())
					}
				}
				for u := range want {
					if got := c.extents[no].by[u].now; got != want[u] {
						t.Fatalf("%s, step %d, space %d: %g bytes %s, want %g", name, m.Event.Step, no, got, use(u).mapped(), want[u])
					}
				}
			}
		}
	}
}

// TestJSON: a verdict has the names that programs rely on.
func TestVerdictJSON(t *testing.T) {
	r := leaksOf(t, act(t, "/p", grownBy(64), nil))
	var b strings.Builder
	if err := r.Sheet().Write(&b, JSON); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"verdicts":[{"verdict":"leak","kind":"anonymous private","pid":100,"program":"p","rate_bytes_per_s":13`, `"rate_per_s":null`, `"from":`, `"to":`, `"from_time":`, `"to_time":`,
		`"least_rate_bytes_per_s":`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, b.String())
		}
	}
	if !slices.ContainsFunc(r.Rows, func(x LeakRow) bool { return x.Series == "in use" && x.Trend == "grows" }) {
		t.Errorf("%+v", r.Rows)
	}
}
