package format

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// testShift is what the times of everything are multiples of.
const testShift = 7

// testHeader has a salt of its own so that logs are reproducible.
func testHeader() *Header {
	return &Header{
		Arch: arch.X86_64, TimeShift: testShift, Salt: [16]byte{1, 2, 3}, Start: time.Unix(1700000000, 123456789),
		Mono: 42, Version: "test", Kernel: "Linux 6", Host: "here", Dir: "/tmp", Argv: []string{"a", "", "b c"}, Options: []string{"x=y"}, Minor: Minor, Calls: true,
	}
}

// page is a page of content c.
func page(c byte) []byte {
	p := make([]byte, addr.PageSize)
	for i := range p {
		p[i] = c + byte(i>>3)
	}
	return p
}

// everything has every record and change there is, in a sensible order.
func everything() []Event {
	const u = 1 << testShift
	v := vma.VMA{
		Range: addr.Range{Start: 0x400000, End: 0x402000}, Prot: addr.Read | addr.Exec, Kind: vma.FilePrivate,
		Offset: 0x1000, Dev: vma.Dev{Major: 8, Minor: 1}, Inode: 99, Name: "/bin/\x01odd \n\xff name",
	}
	w := v
	w.Start, w.End, w.Offset, w.Prot = 0x402000, 0x403000, 0x3000, addr.Read|addr.Write
	heap := vma.VMA{Range: addr.Range{Start: 0x1000000, End: 0x1021000}, Prot: addr.Read | addr.Write, Kind: vma.Heap, Name: "[heap]"}
	vs := vma.VMA{Range: addr.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, Prot: addr.Exec, Kind: vma.Special, Name: "[vsyscall]"}
	odd := vma.VMA{Range: addr.Range{Start: 0x7, End: 0x19}, Prot: addr.Shared, Kind: vma.Unknown, Offset: 3, Dev: vma.Dev{Major: 1}, Inode: 1 << 63}
	three := append(append(page(1), page(2)...), make([]byte, addr.PageSize)...)
	regs := make([]uint64, 27)
	for i := range regs {
		regs[i] = uint64(i) << 32
	}
	regs2 := append([]uint64(nil), regs...)
	regs2[10], regs2[16] = 3, 0x7fff0000
	call := &Syscall{
		Arch: arch.X86_64, Nr: 257, Args: [6]uint64{0xffffff9c, 0x7fff1234, 0, 0x80000}, Ret: 3, Enter: 7 * u, Returned: true, IP: 0x7fff0000, SP: 0x7ffe0000,
		Bufs: []Buf{{Arg: 1, Addr: 0x7fff1234, Data: []byte("/etc/passwd")}, {Arg: call.BufRetName, Out: true, Addr: 3, Data: []byte("/etc/passwd")}},
	}
	fail := &Syscall{Arch: arch.I386, Nr: 5, Args: [6]uint64{1, 2, 3, 4, 5, 6}, Ret: -2, Enter: 9 * u, Returned: true,
		Bufs: []Buf{{Arg: 0, More: true, Addr: 99, Data: []byte{}}}}
	return []Event{
		{Time: 5 * u, Thread: 1, Record: &Exec{Path: "/bin/x", Argv: []string{"x", ""}, OldTID: 77, Auxv: []byte{33, 0, 1}, FDs: []FD{{-100, false, "/tmp"}, {3, true, "pipe:[1]"}}, Called: "../bin/x"}, Changes: []Change{
			&MMNew{MM: 1},
			&ThreadSet{Thread{No: 1, TID: 77, TGID: 77, NSTID: 2, Proc: 1, MM: 1, Parent: 0, Arch: arch.X86_64}},
			&VMASet{1, v}, &VMASet{1, w}, &VMASet{1, heap}, &VMASet{1, vs}, &VMASet{1, odd},
		}},
		{Time: 6 * u, Record: &Attach{PID: 77, Auxv: []byte{}, Path: "/bin/x", Argv: []string{"x"}, FDs: []FD{{0, false, "/dev/null"}}}},
		{Time: 8 * u, Thread: 1, Record: call, Regs: regs},
		{Time: 8 * u, Thread: 1, Record: call, Regs: regs2},
		{Time: 7 * u, Thread: 2, Record: fail},
		{Time: 10 * u, Thread: 1, Record: &Syscall{Arch: arch.X86_64, Nr: 231, Args: [6]uint64{1}, Enter: 10 * u}},
		{Time: 11 * u, Thread: 1, Record: &Signal{Signo: 11, Fatal: true, Info: []byte{11, 0, 0, 0, 1}}},
		{Time: 12 * u, Record: &Snapshot{MM: 1, Reason: "every", Mechanism: DirtyWPAsync, Full: true, Pages: 3, PauseNS: 12345}, Changes: []Change{
			&Pages{MM: 1, Addr: 0x1000000, N: 3, What: PageData, Data: three},
			&Pages{MM: 1, Addr: 0x1003000, N: 1 << 40, What: PageZero},
			&Pages{MM: 1, Addr: 0x400000, N: 2, What: PageFile},
			&Pages{MM: 1, Addr: 0x402000, N: 1, What: PageUnreadable},
			&Pages{MM: 1, Addr: 0x1001000, N: 1, What: PageAbsent},
			&RegsSet{Thread: 1, Regs: regs2}, &RegsSet{Thread: 7, Regs: []uint64{}}, &XStateSet{Thread: 1, Data: []byte{1, 0, 2, 0, 0, 0}}, &XStateSet{Thread: 2, Data: []byte{}},
		}},
		{Time: 13 * u, Thread: 1, Record: &Clone{Child: 3, Flags: 17, Stack: 0x7ffe0000}, Changes: []Change{
			&MMNew{MM: 2, From: 1},
			&ThreadSet{Thread{No: 3, TID: 78, TGID: 78, NSTID: 3, Proc: 3, MM: 2, Parent: 1, Arch: arch.I386}},
			&Pages{MM: 2, Addr: 0x1000000, N: 1, What: PageData, Data: page(2)},
			&Pages{MM: 2, Addr: 0x1002000, N: 2, What: PageData, Data: append(page(1), page(9)...)},
			&VMAMove{MM: 2, From: 0x1000000, To: 0x5000000, Len: 0x21000},
			&VMADel{MM: 2, Range: heap.Range},
		}},
		{Time: 14 * u, Thread: 3, Record: &Stop{What: GroupStop, Signo: 19}},
		{Time: 15 * u, Record: &MemInfo{Samples: []Sample{{"meminfo", 0, []byte("MemTotal: 1 kB\n")}, {"status", 78, []byte{}}}}},
		{Time: 16 * u, Record: &Lost{What: "something"}},
		{Time: 17 * u, Record: &Check{MM: 1, Diff: "-a\n+b\n", Maps: []byte("maps")}},
		{Time: 18 * u, Record: &Check{MM: 1, OK: true, Maps: []byte{}}},
		{Time: 19 * u, Record: &Poke{MM: 1, Addr: 0x1000000, Old: []byte{1}, New: []byte{2}}},
		{Time: 20 * u, Record: &Unknown{Code: 999, Data: []byte("later")}},
		{Time: 21 * u, Thread: 3, Record: &Exit{Status: 256, Process: true}, Changes: []Change{&ThreadEnd{3}, &MMDrop{2}}},
		{Time: 22 * u, Thread: 1, Record: &Detach{Reason: "max-steps"}, Changes: []Change{&ThreadEnd{1}}},
	}
}

// expected is what a reader hands out for the events of everything.
func expected() []Event {
	evs := everything()
	for i := range evs {
		evs[i].Step = Step(i)
		if s, ok := evs[i].Record.(*Snapshot); ok && s != nil {
			evs[i].Changes = append([]Change{
				&Pages{MM: 1, Addr: 0x1000000, N: 2, What: PageData, Refs: []PageRef{0, 2}},
				&Pages{MM: 1, Addr: 0x1002000, N: 1<<40 + 1, What: PageZero},
			}, evs[i].Changes[2:]...)
		}
		if c, ok := evs[i].Record.(*Clone); ok && c != nil {
			ch := evs[i].Changes
			evs[i].Changes = []Change{
				ch[0], ch[1],
				&Pages{MM: 2, Addr: 0x1000000, N: 1, What: PageData, Refs: []PageRef{2}},
				&Pages{MM: 2, Addr: 0x1002000, N: 1, What: PageData, Refs: []PageRef{0}},
				&Pages{MM: 2, Addr: 0x1003000, N: 1, What: PageData, Refs: []PageRef{4}},
				ch[4], ch[5],
			}
		}
	}
	return evs
}

func writeLog(t testing.TB, evs []Event, o *WriterOptions, flush int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range evs {
		step, err := w.Event(&evs[i])
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if step != Step(i) {
			t.Fatalf("event %d has step %d", i, step)
		}
		if flush > 0 && i%flush == flush-1 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close("done"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close("again"); err != nil {
		t.Fatal(err)
	}
	if w.Bytes() != int64(b.Len()) {
		t.Errorf("Bytes() = %d of %d", w.Bytes(), b.Len())
	}
	return b.Bytes()
}

func openLog(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func collect(t testing.TB, r *Reader, from Step) (evs []Event) {
	t.Helper()
	for e, err := range r.Events(from) {
		if err != nil {
			t.Fatal(err)
		}
		evs = append(evs, *e.Clone())
	}
	return evs
}

var cmpEvents = []cmp.Option{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Syscall{}, "Blobs")}

func TestRoundTrip(t *testing.T) {
	for _, flush := range []int{0, 1, 2, 5} {
		t.Run(fmt.Sprint("flush", flush), func(t *testing.T) {
			b := writeLog(t, everything(), nil, flush)
			r := openLog(t, b)
			if r.Truncated() || r.Info().Reason != "done" || int(r.Steps()) != len(everything()) {
				t.Errorf("info: %+v", r.Info())
			}
			h := testHeader()
			if diff := cmp.Diff(h, r.Header()); diff != "" {
				t.Error("header:", diff)
			}
			want := expected()
			for from := range want {
				if diff := cmp.Diff(want[from:], collect(t, r, Step(from)), cmpEvents...); diff != "" {
					t.Fatalf("from %d: %s", from, diff)
				}
			}
			var p [addr.PageSize]byte
			for ref, c := range map[PageRef]byte{0: 1, 2: 2, 4: 9} {
				if err := r.Page(ref, &p); err != nil || !bytes.Equal(p[:], page(c)) {
					t.Errorf("page %d: %v", ref, err)
				}
			}
			if err := r.Page(6, &p); err == nil {
				t.Error("a page that is not there was read")
			}
		})
	}
}

// stateText says all of a state.
func stateText(t testing.TB, s *State) string {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintln(&b, "step", int64(s.Step))
	for no := range uint32(64) {
		if th := s.Threads[no]; th != nil {
			fmt.Fprintf(&b, "thread %+v\n", *th)
		}
		if m := s.MMs[no]; m != nil {
			fmt.Fprintf(&b, "mm %d\n%s", m.No, m.VMAs.AppendMaps(nil))
			for v := range m.VMAs.All() {
				fmt.Fprint(&b, v.Kind, " ")
			}
			type unit struct {
				at, n uint64
				info  PageInfo
			}
			var last unit
			for r, err := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
				if err != nil {
					t.Fatal(err)
				}
				u := unit{r.Addr.Page(), r.N, r.PageInfo}
				if last.n > 0 && last.at+last.n == u.at {
					want := last.info
					if want.What == PageData {
						want.Ref += PageRef(2 * last.n)
					}
					if want == u.info {
						last.n += u.n
						continue
					}
				}
				fmt.Fprintf(&b, "\npages %x", last)
				last = u
			}
			fmt.Fprintf(&b, "\npages %x\n", last)
			for x := range m.Written(addr.Range{End: ^addr.Addr(0)}) {
				fmt.Fprintf(&b, "written %x\n", x)
			}
		}
	}
	return b.String()
}

func TestStates(t *testing.T) {
	r := openLog(t, writeLog(t, everything(), nil, 3))
	s := r.Initial()
	for e, err := range r.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		before := s.Clone()
		was := stateText(t, before)
		if err := s.ApplyEvent(e); err != nil {
			t.Fatal(err)
		}
		if stateText(t, before) != was {
			t.Fatal("a clone changed with its origin")
		}
		at, err := r.StateAt(e.Step)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stateText(t, s), stateText(t, at)); diff != "" {
			t.Fatalf("step %d: %s", e.Step, diff)
		}
	}
}

// TestCut cuts a log at every byte: what is read is a prefix of what was
// written, at least up to the last flush.
func TestCut(t *testing.T) {
	want := expected()
	sizes := commitSizes(t, everything())
	log := writeLog(t, everything(), nil, 1)
	for n := range log {
		r, err := NewReader(bytes.NewReader(log[:n]), int64(n), nil)
		if n < sizes[0] {
			if err == nil {
				t.Fatalf("cut at %d: no error", n)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		steps := 0
		for steps+1 < len(sizes) && sizes[steps+1] <= n {
			steps++
		}
		if !r.Truncated() || int(r.Steps()) != steps {
			t.Fatalf("cut at %d: %d steps, want %d", n, r.Steps(), steps)
		}
		if evs := collect(t, r, 0); len(evs) != steps {
			t.Fatalf("cut at %d: %d events", n, len(evs))
		} else if n != sizes[steps] && n%61 != 0 {
			continue // comparing them all takes long
		} else if diff := cmp.Diff(want[:steps], evs, cmpEvents...); diff != "" {
			t.Fatalf("cut at %d: %s", n, diff)
		}
	}
}

// commitSizes is how long the log is after each event is flushed.
func commitSizes(t *testing.T, evs []Event) []int {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{b.Len()}
	for _, e := range evs {
		if _, err := w.Event(&e); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, b.Len())
	}
	return sizes
}

// TestBigSnapshot streams more pages through one event than fit in its buffers.
func TestBigSnapshot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{pageCache: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Change(&MMNew{MM: 1}); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	data := make([]byte, n*addr.PageSize)
	for i := 0; i < len(data); i += 97 {
		data[i] = byte(rng.Uint32())
	}
	for i := range n {
		// Far apart and in odd order, so that the STATE payload is long.
		at := addr.Addr(uint64(i*7%n) << 34)
		if err := w.Change(&Pages{MM: 1, Addr: at, N: 1, What: PageData, Data: data[i*addr.PageSize:][:addr.PageSize]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Event(&Event{Record: &Snapshot{MM: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(""); err != nil {
		t.Fatal(err)
	}
	r := openLog(t, b.Bytes())
	s, err := r.StateAt(0)
	if err != nil {
		t.Fatal(err)
	}
	var p [addr.PageSize]byte
	for i := range n {
		info, ok := s.MMs[1].Page(addr.Addr(uint64(i*7%n) << 34))
		if !ok || info.What != PageData {
			t.Fatalf("page %d: %+v", i, info)
		}
		if err := r.Page(info.Ref, &p); err != nil || !bytes.Equal(p[:], data[i*addr.PageSize:][:addr.PageSize]) {
			t.Fatalf("page %d: %v", i, err)
		}
	}
}

// TestLongState fills STATE payloads with records of both kinds by turns: each
// goes out once, whichever record filled it.
func TestLongState(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{FlushInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	p := page(1)
	e := &Event{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}}}
	for i := range 2 * groupSteps {
		at := addr.Addr(i) << addr.PageShift
		v := vma.VMA{Range: addr.Range{Start: at, End: at + addr.PageSize}, Kind: vma.Unknown, Prot: addr.Read}
		for range 8 {
			e.Changes = append(e.Changes, &VMASet{1, v}, &Pages{MM: 1, Addr: at, N: 1, What: PageData, Data: p})
		}
		if _, err := w.Event(e); err != nil {
			t.Fatal(err)
		}
		e = &Event{Record: &Signal{Signo: 1}}
	}
	if err := w.Close(""); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, b.Bytes())
	r := openLog(t, b.Bytes())
	if n := r.Info().types[TypeState].chunks; n < 4 {
		t.Fatalf("%d STATE chunks: none of them was filled", n)
	}
	steps := 0
	for e, err := range r.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Changes) != 16 && steps > 0 {
			t.Fatalf("step %d has %d changes, not 16", e.Step, len(e.Changes))
		}
		steps++
	}
	if steps != 2*groupSteps {
		t.Errorf("%d steps", steps)
	}
}

// TestHeldPages gives data on top of pages said to be zero, as a recorder does
// that reads what is present of a mapping: what was not zero before has not
// changed.
func TestHeldPages(t *testing.T) {
	snap := func() Event {
		return Event{Record: &Snapshot{MM: 1}, Changes: []Change{
			&Pages{MM: 1, Addr: 0x10000, N: 100, What: PageZero},
			&Pages{MM: 1, Addr: 0x12000, N: 2, What: PageData, Data: append(page(1), page(2)...)},
			&Pages{MM: 1, Addr: 0x14000, N: 5, What: PageZero},
			&Pages{MM: 1, Addr: 0x20000, N: 1, What: PageUnreadable},
			&Pages{MM: 1, Addr: 0x21000, N: 1, What: PageData, Data: page(3)},
			&Pages{MM: 1, Addr: 0x90000, N: 3, What: PageFile},
		}}
	}
	b := writeLog(t, []Event{{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}}}, snap(), snap(), snap()}, nil, 2)
	mustVerify(t, b)
	r := openLog(t, b)
	if r.Info().Same != 6 || r.Info().RawPages != 3 {
		t.Errorf("%+v", r.Info())
	}
	s, err := r.StateAt(3)
	if err != nil {
		t.Fatal(err)
	}
	for vpn, want := range map[uint64]PageKind{
		0x10: PageZero, 0x11: PageZero, 0x12: PageData, 0x13: PageData, 0x14: PageZero, 0x1f: PageZero, 0x20: PageUnreadable,
		0x21: PageData, 0x22: PageZero, 0x73: PageZero, 0x74: 0, 0x90: PageFile, 0x92: PageFile,
	} {
		info, _ := s.MMs[1].Page(addr.Addr(vpn << addr.PageShift))
		if info.What != want || want != 0 && (info.AsOf != 3 || info.Changed != 1) {
			t.Errorf("page %#x: %+v, want kind %d as of 3, changed at 1", vpn, info, want)
		}
	}
}
