package format

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

var (
	seekEvents = flag.Int("seek.events", 200_000, "events of the log that BenchmarkSeek makes: 10000000 takes a minute and 0.6 GB of disk")
	seekLog    = flag.String("seek.log", "", "where BenchmarkSeek leaves its log, for the benchmarks of other packages")
)

// world is a family of processes whose memory a generated log records: what the
// log must give back.
type world struct {
	rng   *rand.Rand
	words [1 << 14]uint64
	procs []*genProc
	now   uint64
	calls []Event
}

type genProc struct {
	mm    uint32
	pages [][]byte
}

const (
	genBase  = 0x5500_0000_0000
	genPages = 8192 // of a process
)

func newWorld() *world {
	w := &world{rng: rand.New(rand.NewPCG(1, 2)), calls: walkEvents(4096)}
	for i := range w.words {
		switch i % 4 {
		case 0:
			w.words[i] = 0x7f00_0000_0000 + w.rng.Uint64N(1<<30)&^15
		case 1:
			w.words[i] = w.rng.Uint64N(1 << 16)
		case 2:
			w.words[i] = w.rng.Uint64()
		}
	}
	for i := range 8 {
		w.procs = append(w.procs, &genProc{mm: uint32(i + 1)})
	}
	return w
}

func (w *world) fill(p []byte) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], w.words[w.rng.Uint32N(1<<14)])
	}
}

// touch changes a few bytes of a page, sometimes many.
func (w *world) touch(p []byte) {
	n := 1 + int(w.rng.ExpFloat64()*3)
	if w.rng.IntN(40) == 0 {
		n = 60
	}
	for range n {
		binary.LittleEndian.PutUint64(p[w.rng.IntN(addr.PageSize/8)*8:], w.words[w.rng.Uint32N(1<<14)])
	}
}

// event makes the next event. Every 50th brings some pages.
func (w *world) event(i int) Event {
	e := w.calls[i%len(w.calls)]
	s := *e.Record.(*Syscall)
	w.now += 4000 + w.rng.Uint64N(4000)
	s.Enter = w.now
	w.now += 3000 + w.rng.Uint64N(2000)
	p := w.procs[(i>>8)%len(w.procs)]
	e.Time, e.Record, e.Thread = w.now, &s, p.mm
	if i%50 != 49 {
		return e
	}
	e.Regs = make([]uint64, 27)
	for k := range e.Regs {
		e.Regs[k] = w.words[(k+i>>9)%len(w.words)]
	}
	for range 6 {
		at, n := 0, 1+w.rng.IntN(3)
		fresh := len(p.pages) < genPages && w.rng.IntN(4) == 0
		if fresh || len(p.pages) < 16 {
			at = len(p.pages)
			for range n {
				q := make([]byte, addr.PageSize)
				w.fill(q)
				p.pages = append(p.pages, q)
			}
		} else {
			// Most writes go to few pages, which move on slowly.
			at = w.rng.IntN(min(len(p.pages)-n, 200))
			if w.rng.IntN(3) == 0 {
				at = w.rng.IntN(len(p.pages) - n)
			}
			for k := range n {
				w.touch(p.pages[at+k])
			}
		}
		c := &Pages{MM: p.mm, Addr: genBase + addr.Addr(at<<addr.PageShift), N: uint64(n), What: PageData}
		for k := range n {
			c.Data = append(c.Data, p.pages[at+k]...)
		}
		e.Changes = append(e.Changes, c)
	}
	return e
}

// sample is a page at a step, by its checksum.
type sample struct {
	step Step
	mm   uint32
	at   addr.Addr
	crc  uint32
}

// generate writes a log of n events and says what to find in it.
func generate(t testing.TB, w io.Writer, n, samples int, o *WriterOptions) []sample {
	t.Helper()
	lw, err := NewWriter(w, testHeader(), o)
	if err != nil {
		t.Fatal(err)
	}
	wd := newWorld()
	for i, p := range wd.procs {
		for _, c := range []Change{
			&MMNew{MM: p.mm}, &ThreadSet{Thread{No: p.mm, TID: p.mm, TGID: p.mm, NSTID: p.mm, Proc: p.mm, MM: p.mm, Arch: arch.X86_64}},
			&VMASet{p.mm, vma.VMA{Range: addr.Range{Start: genBase, End: genBase + genPages<<addr.PageShift + 1<<20}, Prot: addr.Read | addr.Write, Kind: vma.Heap, Name: "[heap]"}},
		} {
			if err := lw.Change(c); err != nil {
				t.Fatal(err)
			}
		}
		for k := range 200 {
			v := vma.VMA{Range: addr.Range{Start: 0x7f0000000000 + addr.Addr(k)<<20, End: 0x7f0000008000 + addr.Addr(k)<<20}, Prot: addr.Read, Kind: vma.FilePrivate, Inode: uint64(k/4 + 1), Offset: uint64(k%4) << 15, Name: "/usr/lib/libsomething" + string(rune('a'+i))}
			if err := lw.Change(&VMASet{p.mm, v}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out []sample
	every := max(1, n/samples)
	for i := range n {
		e := wd.event(i)
		step, err := lw.Event(&e)
		if err != nil {
			t.Fatal(err)
		}
		if i%every == every/2 {
			p := wd.procs[wd.rng.IntN(len(wd.procs))]
			if len(p.pages) > 0 {
				k := wd.rng.IntN(len(p.pages))
				out = append(out, sample{step, p.mm, genBase + addr.Addr(k<<addr.PageShift), crc32.ChecksumIEEE(p.pages[k])})
			}
		}
	}
	if err := lw.Close("generated"); err != nil {
		t.Fatal(err)
	}
	return out
}

// countReader counts what is read.
type countReader struct {
	r        io.ReaderAt
	n, bytes atomic.Int64
}

func (c *countReader) ReadAt(b []byte, off int64) (int, error) {
	c.n.Add(1)
	c.bytes.Add(int64(len(b)))
	return c.r.ReadAt(b, off)
}

func check(t testing.TB, r *Reader, s sample) {
	t.Helper()
	st, err := r.StateAt(s.step)
	if err != nil {
		t.Fatal(err)
	}
	if st.MMs[s.mm].VMAs.Len() != 201 {
		t.Fatalf("%d mappings", st.MMs[s.mm].VMAs.Len())
	}
	info, ok := st.MMs[s.mm].Page(s.at)
	if !ok {
		t.Fatalf("step %d: nothing known of %v", s.step, s.at)
	}
	var p [addr.PageSize]byte
	if err := r.Page(info.Ref, &p); err != nil {
		t.Fatal(err)
	}
	if crc32.ChecksumIEEE(p[:]) != s.crc {
		t.Fatalf("step %d: %v of %d is wrong", s.step, s.at, s.mm)
	}
}

// TestGenerated checks a small generated log.
func TestGenerated(t *testing.T) {
	var b bytes.Buffer
	samples := generate(t, &b, 30_000, 50, nil)
	mustVerify(t, b.Bytes())
	for _, s := range samples {
		check(t, openLog(t, b.Bytes()), s)
	}
}

// TestSeekMemory sees that a seek takes as much memory in a long log as in a
// short one.
func TestSeekMemory(t *testing.T) {
	taken := func(n int) uint64 {
		var b bytes.Buffer
		samples := generate(t, &b, n, 40, &WriterOptions{GroupSteps: 512, epoch: 2048})
		samples = samples[len(samples)-20:]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, s := range samples {
			check(t, openLog(t, b.Bytes()), s)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / uint64(len(samples))
	}
	short, long := taken(10_000), taken(80_000)
	t.Logf("%d KiB a seek, %d KiB in a log of 8 times as many events", short>>10, long>>10)
	if long > short*3/2 || long > 4<<20 { // the race detector empties pools
		t.Errorf("a seek takes %d bytes in a short log, %d in a long one", short, long)
	}
}

// BenchmarkSeek answers mappings and a page of a log just opened, at random
// steps. Each time begins with an empty heap, as it does in a process that is
// asked once; the log is in the system's page cache.
func BenchmarkSeek(b *testing.B) {
	name := *seekLog
	if name == "" {
		name = filepath.Join(b.TempDir(), "log")
	}
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	samples := generate(b, f, *seekEvents, 300, nil)
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	r, err := NewReader(f, st.Size(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d events, %d MB of pages in %d bytes, written in %v", r.Steps(), r.Info().Pages>>8, st.Size(), time.Since(start))
	for u := range r.Info().Usage() {
		b.Logf("%-5v %6d chunks %10d bytes of %d", u.Type, u.Chunks, u.Stored, u.Decoded)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	var took []time.Duration
	c := &countReader{r: f}
	b.ReportAllocs()
	for b.Loop() {
		s := samples[rng.IntN(len(samples))]
		b.StopTimer()
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		b.StartTimer()
		start := time.Now()
		r, err := NewReader(c, st.Size(), nil)
		if err != nil {
			b.Fatal(err)
		}
		check(b, r, s)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(q int) float64 { return float64(took[(len(took)-1)*q/100].Microseconds()) / 1000 }
	b.ReportMetric(ms(50), "p50-ms")
	b.ReportMetric(ms(99), "p99-ms")
	b.ReportMetric(ms(100), "max-ms")
	b.ReportMetric(float64(c.n.Load())/float64(len(took)), "preads/seek")
	b.ReportMetric(float64(c.bytes.Load())/float64(len(took))/1024, "KB/seek")
}

// BenchmarkStream reads all events and changes of a generated log.
func BenchmarkStream(b *testing.B) {
	var log bytes.Buffer
	generate(b, &log, 200_000, 1, nil)
	r := openLog(b, log.Bytes())
	n := 0
	for b.Loop() {
		for _, err := range r.Events(0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
