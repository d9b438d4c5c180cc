//go:build linux

package ring

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// bench is a ring that a test writes to: a process of one thread that makes calls.
type bench struct {
	*Ring
	t    *testing.T
	dir  string
	now  uint64
	want []string // the lines of all events
	said []string
}

const (
	thread = 1
	pid    = 4711
)

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	o.Dir = b.dir
	if o.Keep == "" {
		o.Keep = DefaultConds
	}
	if o.Max == 0 {
		o.Max = 5
	}
	if o.Output == "" {
		o.Output = filepath.Join(b.dir, "kept")
	}
	o.Facts = func(*format.Thread) *format.Attach { return &format.Attach{PID: pid, Path: "/prog", Goes: true} }
	o.Say = func(s string) { b.said = append(b.said, s) } // Close waits for it
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	h := &format.Header{Arch: arch.X86_64, Start: time.Unix(1, 0), Mono: 1, Argv: []string{"prog"}, Options: o.Lines()}
	var err error
	if b.Ring, err = New(h, o); err != nil {
		t.Fatal(err)
	}
	b.event(&format.Exec{Path: "/prog", Argv: []string{"prog"}},
		&format.MMNew{MM: 1}, &format.ThreadSet{Thread: format.Thread{No: thread, TID: pid, TGID: pid, Proc: thread, MM: 1}},
		&format.VMASet{MM: 1, VMA: vma.VMA{Range: addr.Range{Start: 0x1000000, End: 0x1010000}, Prot: 3, Name: "[heap]", Kind: vma.Heap}})
	return b
}

// event writes an event, and notes its line.
func (b *bench) event(r format.Record, changes ...format.Change) format.Step {
	b.t.Helper()
	for _, c := range changes {
		if err := b.Change(c); err != nil {
			b.t.Fatal(err)
		}
	}
	step, err := b.Event(&format.Event{Time: b.now, Thread: thread, Record: r})
	if err != nil {
		b.t.Fatal(err)
	}
	b.want = append(b.want, line(b.now, r))
	if int(step) != len(b.want)-1 {
		b.t.Fatalf("step %d, want %d", step, len(b.want)-1)
	}
	return step
}

func line(time uint64, r format.Record) string {
	s, ok := r.(*format.Syscall)
	if !ok {
		return fmt.Sprintf("%d %T", time, r)
	}
	return fmt.Sprintf("%d %d %x %d", time, s.Nr, s.Args, s.Ret)
}

// calls makes calls, gap apart. Their arguments are noise: a log of them does not get small.
func (b *bench) calls(n int, gap time.Duration) {
	b.t.Helper()
	for range n {
		b.now += uint64(gap)
		s := &format.Syscall{Arch: arch.X86_64, Nr: 1, Enter: b.now - 1000, Returned: true}
		x := b.now * 0x9e3779b97f4a7c15
		for i := range 3 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			s.Args[i] = x
		}
		b.event(s)
	}
}

// sizes are those of the segments that are whole, and the number of files.
func (b *bench) sizes() (sizes []int64, files int) {
	b.t.Helper()
	for _, s := range b.segs[:len(b.segs)-1] {
		<-s.ready
		if s.err != nil {
			b.t.Fatal(s.err)
		}
		sizes = append(sizes, s.size)
	}
	list, err := filepath.Glob(filepath.Join(b.dir, "memtrace-ring.*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return sizes, len(list)
}

// reader opens a log that must be whole.
func reader(t *testing.T, name string) *format.Reader {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := format.Verify(f, st.Size(), nil, func(err error) { t.Error(name, err) }); err != nil {
		t.Fatal(name, err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same compares the events of a log with those that were written. It returns the first and
// the one behind the last.
func (b *bench) same(r *format.Reader) (first, end format.Step) {
	b.t.Helper()
	first, end = r.Header().Begin.First(), r.Steps()
	for e, err := range r.Events(first) {
		if err != nil {
			b.t.Fatal(err)
		}
		if got := line(e.Time, e.Record); got != b.want[e.Step] {
			b.t.Fatalf("step %d is %s, was written as %s", e.Step, got, b.want[e.Step])
		}
	}
	return first, end
}

// TestSegments: segments are logs that go on one where the other ends; those that are not needed
// any more are dropped, and no others.
func TestSegments(t *testing.T) {
	const size = MinSize
	b := newBench(t, Options{Size: size, Keep: "exit"})
	dropped, most := 0, 0
	for i := range 400 {
		b.calls(100, time.Millisecond)
		if err := b.Flush(); err != nil { // the ring sees sizes of what is written, and a test makes calls faster than programs
			t.Fatal(err)
		}
		sizes, files := b.sizes()
		sum := int64(0)
		for _, n := range sizes {
			sum += n
		}
		if files != len(b.segs) {
			t.Fatalf("%d files of %d segments", files, len(b.segs))
		}
		if b.segs[0].begin > 0 {
			dropped++
			if sum < size {
				t.Fatalf("round %d: the oldest was dropped, and %d bytes are left", i, sum)
			}
		}
		if len(sizes) > 1 && sum-sizes[0] >= size {
			t.Fatalf("round %d: %d bytes, of which the oldest has %d, of at most %d", i, sum, sizes[0], size)
		}
		if sum+b.Bytes() > size*5/4 {
			t.Fatalf("round %d: %d bytes", i, sum+b.Bytes())
		}
		most = max(most, len(b.segs))
	}
	if dropped == 0 || most < parts {
		t.Errorf("%d rounds after something was dropped; %d segments", dropped, most)
	}
	next := format.Step(0)
	for i, s := range b.segs[:len(b.segs)-1] {
		r := reader(t, s.name)
		first, end := b.same(r)
		if i > 0 && first != next || r.Header().Segment == 0 {
			t.Errorf("segment %d begins at %d, not %d", i, first, next)
		}
		next = end
	}
	if err := b.Close("done"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "*")); len(left) > 0 || len(b.Kept()) > 0 {
		t.Errorf("%v are left, %v was kept", left, b.Kept())
	}
}

// TestAge: of a ring of a time the last so much is there, and at most a quarter more.
func TestAge(t *testing.T) {
	b := newBench(t, Options{Age: 2 * time.Second, Keep: "exit"})
	for i := range 600 {
		b.calls(1, 17*time.Millisecond)
		has := time.Duration(b.now - b.segs[0].begin)
		if full := 2 * time.Second; b.segs[0].begin > 0 && has < full || has > full*5/4+2*17*time.Millisecond {
			t.Fatalf("call %d: %v", i, has)
		}
	}
	if err := b.Close("done"); err != nil {
		t.Fatal(err)
	}
}

// TestDumps: a dump has all events that the ring has, and is a log of its own. There are as many
// as --keep-max says, no closer than --keep-gap, but what a person asks for.
func TestDumps(t *testing.T) {
	b := newBench(t, Options{Size: MinSize, Keep: "errno=ENOENT", Max: 3, Gap: time.Hour})
	old := filepath.Join(b.dir, "kept")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.calls(40_000, time.Millisecond) // much more than fits: what is written lags behind what was said
	fails := &format.Syscall{Arch: arch.X86_64, Nr: 2, Returned: true, Ret: -2}
	for range 3 { // one is kept, two come too early
		if b.Call(fails, b.now) {
			t.Error("memory is to be saved, which nobody wants")
		}
		b.event(fails)
	}
	b.calls(500, time.Millisecond)
	saved := 0
	for i := range 3 {
		_, err := b.Trigger("dump", func() { saved++ })
		if (err == nil) != (i < 2) {
			t.Errorf("dump %d: %v", i, err)
		}
	}
	if err := b.Close("done"); err != nil {
		t.Fatal(err)
	}
	kept := b.Kept()
	if len(kept) != 3 || saved != 0 {
		t.Fatalf("%d were kept, memory was saved %d times", len(kept), saved)
	}
	for i, d := range kept {
		if want := filepath.Join(b.dir, "kept") + map[int]string{1: ".2", 2: ".3"}[i]; d.Name != want || d.Err != nil {
			t.Errorf("dump %d is %s, not %s; %v", i, d.Name, want, d.Err)
			continue
		}
		r := reader(t, d.Name)
		first, end := b.same(r)
		if i == 0 && (first == 0 || b.want[end-1] != line(b.now-500*uint64(time.Millisecond), fails)) {
			t.Errorf("steps %d to %d were kept", first, end)
		}
		if st, err := r.StateAt(r.Steps() - 1); err != nil || len(st.Threads) != 1 || st.MMs[1] == nil {
			t.Errorf("dump %d: the state at its end: %v", i, err)
		}
		if opts := strings.Join(r.Header().Options, " "); !strings.Contains(opts, "kept="+d.Why) || !strings.Contains(opts, "ring=65536") {
			t.Errorf("options %s", opts)
		}
	}
	if text, err := os.ReadFile(old + ".old"); err != nil || string(text) != "old" {
		t.Errorf("what had the name before: %q %v", text, err)
	}
	if len(b.said) != 3 || b.more != 3 {
		t.Errorf("%d times more; %q", b.more, b.said)
	}
}

// TestDumpWaits: what is kept because a signal ends a process has the end of the process.
func TestDumpWaits(t *testing.T) {
	b := newBench(t, Options{Size: MinSize, Memory: true})
	b.calls(10, time.Millisecond)
	if !b.Signal(b.State().Threads[thread], 11, true, b.now) {
		t.Error("memory is not saved at the signal")
	}
	b.event(&format.Signal{Signo: 11, Fatal: true})
	b.event(&format.Snapshot{MM: 1, Reason: "signal"})
	if b.due == nil {
		t.Error("it was kept before the process had ended")
	}
	if b.Exit(b.State().Threads[thread], 11) {
		t.Error("memory is saved once more at the end")
	}
	b.event(&format.Exit{Status: 11, Process: true}, &format.ThreadEnd{No: thread}, &format.MMDrop{MM: 1})
	if err := b.Close("done"); err != nil {
		t.Fatal(err)
	}
	if len(b.kept) != 1 {
		t.Fatalf("kept: %v", b.kept)
	}
	if first, end := b.same(reader(t, b.kept[0].Name)); first != 0 || int(end) != len(b.want) {
		t.Errorf("steps %d to %d were kept of %d", first, end, len(b.want))
	}
}

// TestMemoryBefore: with memory that is saved all the time, what segments knew that are dropped is
// known at the beginning of a dump. A recording without that knows nothing there.
func TestMemoryBefore(t *testing.T) {
	for _, every := range []time.Duration{0, time.Second} {
		b := newBench(t, Options{Size: MinSize, Every: every, Room: 1 << 20})
		page := func(text string) *format.Pages {
			data := make([]byte, addr.PageSize)
			copy(data, text)
			return &format.Pages{MM: 1, Addr: 0x1001000, N: 1, What: format.PageData, Data: data}
		}
		around := func() { // not faster than memory is taken over
			for range 200 {
				b.calls(100, 100*time.Microsecond)
				b.dumps.Wait()
			}
		}
		at := b.event(&format.Snapshot{MM: 1, Reason: "interval"}, page("first"))
		around()
		if _, err := b.Trigger("dump", nil); err != nil {
			t.Fatal(err)
		}
		changed := b.event(&format.Snapshot{MM: 1, Reason: "interval"}, page("second"))
		around()
		if _, err := b.Trigger("dump", nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Close("done"); err != nil {
			t.Fatal(err)
		}
		for i, d := range b.kept {
			r := reader(t, d.Name)
			first, _ := b.same(r)
			asOf, want := at, "first"
			if i == 1 {
				asOf, want = changed, "second"
			}
			if first <= asOf {
				t.Fatalf("dump %d begins at %d, not behind %d", i, first, asOf)
			}
			st, err := r.StateAt(first)
			if err != nil {
				t.Fatal(err)
			}
			info, ok := st.MMs[1].Page(0x1001000)
			if ok != (every > 0) || ok && info.AsOf != asOf {
				t.Errorf("every %v, dump %d: %v %+v, want as of %d", every, i, ok, info, asOf)
				continue
			}
			var got [addr.PageSize]byte
			if ok {
				if err := r.Page(info.Ref, &got); err != nil || string(got[:len(want)]) != want {
					t.Errorf("dump %d: %q, want %q; %v", i, got[:len(want)], want, err)
				}
			}
		}
		if status := b.Status(); strings.Contains(status, "1 pages from before, of at most 256") != (every > 0) {
			t.Errorf("every %v: %s", every, status)
		}
	}
}

// TestNameTaken: a ring takes no name that parts of another have.
func TestNameTaken(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, fmt.Sprintf("memtrace-ring.%d.000009.mtl", os.Getpid()))
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r := &Ring{opt: Options{Dir: dir}}
		s, err := r.first()
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(dir, fmt.Sprintf("memtrace-ring.%d-%d.000001.mtl", os.Getpid(), i+2)); s.name != want {
			t.Errorf("%s, want %s", s.name, want)
		}
		defer s.unused()
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "other" {
		t.Errorf("%q %v", b, err)
	}
}

// TestSweep: what is left of a log that was not finished goes, one that is being written stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	writing, err := unfinished(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close()
	left, err := unfinished(dir)
	if err == nil {
		err = left.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, unfinishedName+"link")
	if err := os.Symlink("/nowhere", link); err != nil {
		t.Fatal(err)
	}
	sweep(dir)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 || !slices.Contains(files, writing.Name()) || !slices.Contains(files, link) {
		t.Errorf("%v are left; %v", files, err)
	}
}

// TestDumpFails: of a dump that fails nothing is left, and the recording goes on.
func TestDumpFails(t *testing.T) {
	b := newBench(t, Options{Size: MinSize})
	if err := os.Mkdir(filepath.Join(b.dir, "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.calls(10, time.Millisecond)
	wait, err := b.Trigger("dump", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := wait(); d.Err == nil {
		t.Error("the dump says nothing of it")
	}
	b.calls(10, time.Millisecond)
	if err := b.Close("done"); err == nil {
		t.Error("no error")
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, unfinishedName+"*")); len(left) > 0 || len(b.said) != 1 || !strings.Contains(b.said[0], "could not be kept") {
		t.Errorf("%v are left; %q", left, b.said)
	}
}
