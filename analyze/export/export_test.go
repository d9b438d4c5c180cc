package export

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

func open(t *testing.T, log []byte) *replay.Trace {
	t.Helper()
	return replay.New(replaytest.Open(t, log))
}

// notesOf are the notes of a core by type, in order.
func notesOf(t *testing.T, e *elf.File) map[uint32][][]byte {
	t.Helper()
	b, err := io.ReadAll(e.Progs[0].Open())
	if err != nil {
		t.Fatal(err)
	}
	notes := map[uint32][][]byte{}
	for len(b) > 0 {
		name, desc := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		b = b[12+(name+3)&^3:]
		notes[typ] = append(notes[typ], b[:desc])
		b = b[(desc+3)&^3:]
	}
	return notes
}

func makeCore(t *testing.T, tr *replay.Trace, o Options) (*elf.File, string) {
	t.Helper()
	form, err := Find("core")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	notes, err := form.Write(context.Background(), tr, &b, o)
	if err != nil {
		t.Fatal(err)
	}
	e, err := elf.NewFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return e, strings.Join(notes, "\n")
}

// TestCore looks at the core of the made-up program.
func TestCore(t *testing.T) {
	tr := open(t, replaytest.Log(t))
	e, notes := makeCore(t, tr, Options{At: 14})
	for _, want := range []string{"auxiliary vector is not in the log", "memory is as of step 3 or later", "of memory are not in the log"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes do not say %q:\n%s", want, notes)
		}
	}
	got := map[uint64]string{}
	for _, p := range e.Progs[1:] {
		b, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		got[p.Vaddr] = string(b[:1]) + string(rune('0'+len(b)>>12))
		if p.Filesz != p.Memsz {
			t.Errorf("segment %#x: %d of %d bytes", p.Vaddr, p.Filesz, p.Memsz)
		}
	}
	want := map[uint64]string{uint64(replaytest.Heap): "C1", uint64(replaytest.Moved): "B1", uint64(replaytest.Moved) + 4096: "\x001"}
	for a, w := range want {
		if got[a] != w {
			t.Errorf("segment %#x: %q, want %q", a, got[a], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("segments %v", got)
	}
	ns := notesOf(t, e)
	regs := replaytest.Regs(0x3000)
	if s := ns[1][0]; len(ns[1]) != 1 || binary.LittleEndian.Uint64(s[112:]) != regs[0] || binary.LittleEndian.Uint32(s[32:]) != 100 {
		t.Errorf("%d threads, first % x", len(ns[1]), s[:120])
	}
	if f := ns[0x46494c45][0]; binary.LittleEndian.Uint64(f) != 2 || !bytes.Contains(f, []byte("/tmp/prog\x00/memfd:buf (deleted)\x00")) {
		t.Errorf("NT_FILE: %q", f)
	}
	if p := ns[3][0]; !bytes.Contains(p, []byte("prog\x00")) || !bytes.Contains(p, []byte("./prog a b\x00")) {
		t.Errorf("NT_PRPSINFO: %q", p)
	}
	// The child that is about to be killed.
	e, _ = makeCore(t, tr, Options{At: 10, PID: 101})
	ns = notesOf(t, e)
	if s := ns[1][0]; s[12] != 11 || len(ns[0x53494749]) != 1 || ns[0x53494749][0][16] != 0x10 {
		t.Errorf("signal %d, siginfo %x", s[12], ns[0x53494749])
	}
	if binary.LittleEndian.Uint32(ns[1][0][36:]) != 100 {
		t.Errorf("parent %d", binary.LittleEndian.Uint32(ns[1][0][36:]))
	}
}

// TestCoreThreads: registers beside events, extended state, the vector of an
// exec before a fork, the thread of the event first.
func TestCoreThreads(t *testing.T) {
	b := replaytest.New(t)
	x := make([]byte, 832)
	x[24] = 0x80 // mxcsr
	auxv := []byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	b.EventRegs(1, &format.Exec{Path: "/tmp/prog", Argv: []string{"prog"}, Auxv: auxv}, replaytest.Regs(1), &format.MMNew{MM: 1},
		replaytest.Map(1, replaytest.Stack, 4, addr.Read|addr.Write, "[stack]"), replaytest.Thread(1, 100, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, replaytest.Thread(2, 101, 101, 2, 2, 1))
	b.Event(2, &format.Clone{Child: 3, Flags: 0x10100}, replaytest.Thread(3, 102, 101, 2, 2, 1))
	for range 200 { // more than one group
		b.Call(2, "getpid", 101, nil)
	}
	n := b.Event(3, &format.Snapshot{MM: 2}, replaytest.Page(2, replaytest.Stack, 'S'),
		&format.RegsSet{Thread: 2, Regs: replaytest.Regs(0x200)}, &format.RegsSet{Thread: 3, Regs: replaytest.Regs(0x300)}, &format.XStateSet{Thread: 3, Data: x})
	for range 200 {
		b.Call(3, "getpid", 101, nil)
	}
	// Here the extended state was found to be the same.
	same := b.Event(3, &format.Snapshot{MM: 2}, &format.RegsSet{Thread: 3, Regs: replaytest.Regs(0x400)}, &format.XStateSet{Thread: 3})
	e, notes := makeCore(t, open(t, b.Bytes()), Options{At: n, PID: 101})
	if notes != "12 KiB of memory are not in the log: the core leaves them out" {
		t.Errorf("notes: %s", notes)
	}
	ns := notesOf(t, e)
	if len(ns[1]) != 2 {
		t.Fatalf("%d threads", len(ns[1]))
	}
	for i, want := range []uint64{0x300, 0x200} {
		if got := binary.LittleEndian.Uint64(ns[1][i][112:]); got != want {
			t.Errorf("thread %d: r15 = %#x, want %#x", i, got, want)
		}
	}
	if len(ns[0x202]) != 1 || !bytes.Equal(ns[0x202][0], x) || len(ns[2]) != 1 || len(ns[2][0]) != 512 {
		t.Errorf("%d extended states, %d of FXSAVE", len(ns[0x202]), len(ns[2]))
	}
	if len(ns[6]) != 1 || !bytes.Equal(ns[6][0], auxv) {
		t.Errorf("auxiliary vector % x", ns[6])
	}
	if e.Machine != elf.EM_X86_64 {
		t.Errorf("machine %v", e.Machine)
	}
	tr := open(t, b.Bytes())
	e, notes = makeCore(t, tr, Options{At: n + 100, PID: 101})
	if got := binary.LittleEndian.Uint64(notesOf(t, e)[1][0][112:]); got != 0x300 || !strings.Contains(notes, "thread 102: registers as of step 203") {
		t.Errorf("later: r15 = %#x, %s", got, notes)
	}
	e, _ = makeCore(t, tr, Options{At: same, PID: 101})
	if ns := notesOf(t, e); binary.LittleEndian.Uint64(ns[1][0][112:]) != 0x400 || len(ns[0x202]) != 1 || !bytes.Equal(ns[0x202][0], x) {
		t.Errorf("an extended state that stayed the same: %d", len(ns[0x202]))
	}
}

// TestCSV: as many rows as events, and as many cells as columns.
func TestCSV(t *testing.T) {
	tr := open(t, replaytest.Log(t))
	last, _ := tr.Last()
	var b bytes.Buffer
	if _, err := csvEvents(context.Background(), tr, &b, Options{To: last, Set: arch.AllCalls(), AllCalls: true}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != int(last)+2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if r := rows[5]; r[0] != "4" || r[5] != "openat" || r[7] != "-2" || r[8] != "ENOENT" {
		t.Errorf("row of step 4: %q", r)
	}
}

// TestCells compares what is written by hand with encoding/csv and encoding/json.
func TestCells(t *testing.T) {
	for _, s := range []string{"", "a", " a", "a ", "\u00a0a", "\u2028", "\\.", "\\.a", "a,b", "a\"b", "\"", "a\rb", "a\nb", "\xff", "\xff\"", "<>&\u2027\u2028\u2029\u202a\xe2\x80", "\t", "=1+2", "+1", "-1", "@a", "'a", "\r=1", "a=1", "=\"a\",b"} {
		valid := strings.Map(func(r rune) rune { return r }, s)
		text := replay.Value{Kind: replay.ValueText, Text: s}
		var r csvRow
		got := r.line([]replay.Field{{Name: "path", Value: text}, {Name: "what", Value: text}})
		more, err := json.Marshal(map[string]string{"what": valid})
		if err != nil {
			t.Fatal(err)
		}
		cells := make([]string, len(csvColumns)+1)
		cells[len(csvColumns)-1], cells[len(csvColumns)] = analyze.CSVText(valid), string(more)
		var b bytes.Buffer
		want := csv.NewWriter(&b)
		if err := want.Write(cells); err != nil {
			t.Fatal(err)
		}
		want.Flush()
		// encoding/json has a short form of CR, which ours has not.
		if w := strings.ReplaceAll(b.String(), `\r`, `\u000d`); string(got) != w {
			t.Errorf("%q: got %s want %s", s, got, w)
		}
	}
}

// TestDump: only what is known, and where.
func TestDump(t *testing.T) {
	tr := open(t, replaytest.Log(t))
	s, err := Moment(context.Background(), tr, 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	r := addr.Range{Start: replaytest.Anon + 8*addr.PageSize + 100, End: replaytest.Anon + 10*addr.PageSize}
	if _, err := s.WriteDump(context.Background(), dir, DumpOptions{Heap: true, Ranges: []addr.Range{r}}, false); err != nil {
		t.Fatal(err)
	}
	x, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"bytes": 4096`, `"bytes": 8092`, `"zero": true`, `"as_of": 3`, `"step": 5`, `"kind": "heap"`} {
		if !strings.Contains(string(x), want) {
			t.Errorf("index.json has no %s:\n%s", want, x)
		}
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*.bin"))
	if len(names) != 2 {
		t.Fatalf("files %q", names)
	}
	heap, _ := os.ReadFile(filepath.Join(dir, "555555558000-55555555c000.bin"))
	if len(heap) != 4<<12 || heap[0] != 'A' || heap[4095] != 'A' || heap[4096] != 0 {
		t.Errorf("%d bytes of heap", len(heap))
	}
	part, _ := os.ReadFile(filepath.Join(dir, "7ffff7c08064-7ffff7c0a000.bin"))
	if len(part) != 8092 || part[3995] != 'B' || part[3996] != 0 {
		t.Errorf("%d bytes of the range", len(part))
	}
	if _, err := s.WriteDump(context.Background(), dir, DumpOptions{}, false); err == nil {
		t.Error("an existing directory was taken")
	}
}

// TestZerosOfCore: a core has zeros up to a limit, all mappings together, and says what
// it leaves out.
func TestZerosOfCore(t *testing.T) {
	b := replaytest.New(t)
	changes := []format.Change{&format.MMNew{MM: 1}, replaytest.Thread(1, 100, 100, 1, 1, 0)}
	for i := range 16 { // of 128 MiB
		a := replaytest.Anon + addr.Addr(i)<<28
		changes = append(changes, replaytest.Map(1, a, 1<<15, 3, ""), &format.Pages{MM: 1, Addr: a, N: 1 << 15, What: format.PageZero})
	}
	b.Event(1, &format.Exec{Path: "/bin/a"}, changes...)
	file, err := os.Create(filepath.Join(t.TempDir(), "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	notes, err := core(context.Background(), replay.New(replaytest.Open(t, b.Bytes())), file, Options{})
	if err != nil || !slices.Contains(notes, "1 GiB that hold zeros are left out: 1 GiB of them are in the core") {
		t.Errorf("%q, %v", notes, err)
	}
	if st, err := file.Stat(); err != nil || st.Size() < maxZeros || st.Size() > maxZeros+1<<20 {
		t.Errorf("%v, %v", st.Size(), err)
	}
}
