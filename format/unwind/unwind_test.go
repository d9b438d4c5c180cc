package unwind

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/unwind/cfi"
	"memtrace/format/vma"
)

// fakeMemory is memory in pieces.
type fakeMemory struct {
	at    []uint64
	bytes [][]byte
	reads int
}

func (m *fakeMemory) Read(b []byte, a addr.Addr) int {
	m.reads++
	for i, at := range m.at {
		if off := uint64(a) - at; off < uint64(len(m.bytes[i])) {
			return copy(b, m.bytes[i][off:])
		}
	}
	return 0
}

func (m *fakeMemory) add(at uint64, b []byte) {
	m.at, m.bytes = append(m.at, at), append(m.bytes, b)
}

func mapping(start, end uint64, prot addr.Prot, kind vma.Kind, inode, off uint64, name string) vma.VMA {
	return vma.VMA{Range: addr.Range{Start: addr.Addr(start), End: addr.Addr(end)}, Prot: prot, Kind: kind, Inode: inode, Offset: off, Name: name}
}

func setOf(t testing.TB, vs ...vma.VMA) *vma.Set {
	t.Helper()
	s, err := vma.NewSet(vs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func regsOf(pc, sp, fp uint64) *Regs {
	r := &Regs{Arch: arch.X86_64}
	for i := range cfi.NumRegs {
		r.set(i, 0)
	}
	r.set(x86RA, pc)
	r.set(x86RSP, sp)
	r.set(x86RBP, fp)
	return r
}

const (
	codeAt  = 0x10000000
	stackAt = 0x7ff000000000
)

// anon is code made at run time, full of calls: each address that is a multiple of 16 is a
// return address. Its stack is 64 KiB.
func anon(t testing.TB) (*vma.Set, *fakeMemory, []byte) {
	code, stack := make([]byte, 0x1000), make([]byte, 0x10000)
	for i := 16; i < len(code); i += 16 {
		code[i-5] = 0xe8
	}
	m := &fakeMemory{}
	m.add(codeAt, code)
	m.add(stackAt, stack)
	maps := setOf(t, mapping(codeAt, codeAt+0x1000, addr.Read|addr.Exec, vma.AnonPrivate, 0, 0, ""),
		mapping(stackAt, stackAt+0x10000, addr.Read|addr.Write, vma.MainStack, 0, 0, "[stack]"))
	return maps, m, stack
}

func word(b []byte, off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }

func TestFramePointers(t *testing.T) {
	maps, m, stack := anon(t)
	// Three frames by rbp; above the last is no code.
	word(stack, 0x100, stackAt+0x200)
	word(stack, 0x108, codeAt+0x20)
	word(stack, 0x200, stackAt+0x300)
	word(stack, 0x208, codeAt+0x30)
	word(stack, 0x300, stackAt+0x400)
	word(stack, 0x308, codeAt+0x31) // not behind a call
	u := NewUnwinder(NewCache(nil))
	frames, end := u.Stack(NewSpace(7), maps, m, regsOf(codeAt+0x10, stackAt+0x50, stackAt+0x100), 100)
	if len(frames) != 3 || end != NoRule {
		t.Fatalf("%d frames, %v: %+v", len(frames), end, frames)
	}
	for i, f := range frames {
		want := FP
		if i == 0 {
			want = CFI
		}
		if f.How != want || f.Module == nil || f.Module.Class != ClassAnon || f.Module.MM != 7 || f.Offset != f.PC || f.PC != codeAt+0x10*uint64(i+1) {
			t.Errorf("frame %d: %+v", i, f)
		}
	}
	word(stack, 0x300, 0)
	word(stack, 0x308, 0)
	if _, end := u.Stack(NewSpace(7), maps, m, regsOf(codeAt+0x10, stackAt+0x50, stackAt+0x100), 100); end != Complete {
		t.Errorf("the chain ends in 0: %v", end)
	}
	if frames, end := u.Stack(NewSpace(7), maps, m, regsOf(codeAt+0x10, stackAt+0x50, stackAt+0x100), 2); end != Limit || len(frames) != 2 {
		t.Errorf("2 frames at most: %d, %v", len(frames), end)
	}
	// A frame pointer below the stack pointer, far above it, or odd is data.
	for _, fp := range []uint64{stackAt + 0x40, stackAt + 0x50 + maxFPFrame + 8, stackAt + 0x101, 0} {
		if frames, end := u.Stack(NewSpace(7), maps, m, regsOf(codeAt+0x10, stackAt+0x50, fp), 100); len(frames) != 1 || end != NoRule {
			t.Errorf("rbp %#x: %d frames, %v", fp, len(frames), end)
		}
	}
	// One that leads to itself.
	word(stack, 0x100, stackAt+0x100)
	word(stack, 0x108, codeAt+0x20)
	if frames, end := u.Stack(NewSpace(7), maps, m, regsOf(codeAt+0x10, stackAt+0x50, stackAt+0x100), 100); end == Complete || len(frames) > 3 {
		t.Errorf("a loop: %d frames, %v", len(frames), end)
	}
}

// TestNullCall is a call of a function that is not there: its caller is on top of the stack.
func TestNullCall(t *testing.T) {
	maps, m, stack := anon(t)
	word(stack, 0x50, codeAt+0x40)
	u := NewUnwinder(NewCache(nil))
	frames, _ := u.Stack(NewSpace(1), maps, m, regsOf(0, stackAt+0x50, 0), 100)
	if len(frames) != 2 || frames[0].Module != nil || frames[1].PC != codeAt+0x40 {
		t.Errorf("%+v", frames)
	}
	word(stack, 0x50, codeAt+0x41)
	if frames, end := u.Stack(NewSpace(1), maps, m, regsOf(0, stackAt+0x50, 0), 100); len(frames) != 1 || end != NoRule {
		t.Errorf("%+v, %v", frames, end)
	}
	if _, end := u.Stack(NewSpace(1), maps, m, regsOf(0, 0x1000, 0), 100); end != Unreadable {
		t.Errorf("no stack: %v", end)
	}
}

// TestSignalFrame finds what a signal interrupted by the code that returns from its handler.
func TestSignalFrame(t *testing.T) {
	maps, m, stack := anon(t)
	copy(m.bytes[0][0x800:], "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05")
	const uc = 0x1000
	for i, off := range sigX86Regs {
		word(stack, uc+40+off, 0x5000+uint64(i))
	}
	word(stack, uc+40+sigX86Regs[x86RA], codeAt+0x123) // at no call
	word(stack, uc+40+sigX86Regs[x86RSP], stackAt+0x2000)
	word(stack, uc+40+sigX86Regs[x86RBP], stackAt+0x2010)
	word(stack, 0x2010, 0)
	word(stack, 0x2018, codeAt+0x60)
	u := NewUnwinder(NewCache(nil))
	frames, end := u.Stack(NewSpace(1), maps, m, regsOf(codeAt+0x800, stackAt+uc, 0), 100)
	if len(frames) != 3 || !frames[1].Signal || frames[1].PC != codeAt+0x123 || frames[2].Signal || frames[2].How != FP || end != NoRule {
		t.Errorf("%+v, %v", frames, end)
	}
	// While it returns.
	frames, _ = u.Stack(NewSpace(1), maps, m, regsOf(codeAt+0x809, stackAt+uc, 0), 100)
	if len(frames) != 3 || !frames[1].Signal {
		t.Errorf("%+v", frames)
	}
	if m.reads > 40 {
		t.Errorf("%d reads", m.reads)
	}
}

// TestChanged drops what is known of code when mappings change.
func TestChanged(t *testing.T) {
	maps, m, stack := anon(t)
	s := NewSpace(1)
	u := NewUnwinder(NewCache(nil))
	word(stack, 0x58, codeAt+0x10)
	regs := regsOf(codeAt+0x10, stackAt+0x40, stackAt+0x50)
	if frames, _ := u.Stack(s, maps, m, regs, 10); len(frames) != 2 {
		t.Fatalf("%+v", frames)
	}
	maps.Remove(addr.Range{Start: codeAt, End: codeAt + 0x1000})
	s.Changed(addr.Range{Start: codeAt + 0x800, End: codeAt + 0x900})
	frames, _ := u.Stack(s, maps, m, regs, 10)
	if len(frames) != 1 || frames[0].Module != nil {
		t.Errorf("%+v", frames)
	}
}

func TestAfterCall(t *testing.T) {
	for _, c := range []struct {
		code string
		want bool
	}{
		{"\x00\x00\xe8\x01\x02\x03\x04", true},
		{"\x00\x00\x00\x00\x00\xff\xd0", true},                       // call *%rax
		{"\x00\x00\x00\x00\x41\xff\xd4", true},                       // call *%r12
		{"\x00\xff\x15\x01\x02\x03\x04", true},                       // call *x(%rip)
		{"\x00\x00\x00\x00\xff\x50\x08", true},                       // call *8(%rax)
		{"\x00\x00\x00\xff\x54\x24\x08", true},                       // call *8(%rsp)
		{"\xff\x94\x24\x01\x02\x03\x04", true},                       // call *x(%rsp)
		{"\xff\x14\xc5\x01\x02\x03\x04", true},                       // call *x(,%rax,8)
		{"\x00\x00\x00\x00\xff\x14\xc0", true},                       // call *(%rax,%rax,8)
		{"\x00\x00\x00\x00\x00\xff\x10", true},                       // call *(%rax)
		{"\x00\x00\x00\x00\x00\xff\xe0", false},                      // jmp *%rax
		{"\x90\x90\x90\x90\x90\x90\x90", false},                      // nothing
		{"\x00\x00\xe9\x01\x02\x03\x04", false},                      // jmp
		{"\x00\xff\x15\x01\x02\x03", false},                          // cut
		{"\x00\x00\x00\x00\xff\x15\x00", false},                      // too short for its form
		{"\x00\x00\x00\x00\x00\x00\x00", false},                      // zeros
		{"\xe8\x01\x02\x03\x04\x90\x90", false},                      // not right before
		{"\x00\x00\x00\x00\x00\x00\xff", false},                      // half
		{"\x00\x00\xff\xd0\xff\xd0\xff\xd0"[1:8], true},              // two
		{"\x00\x00\x00\x00\x00\xff\x50", false},                      // 8-bit displacement is missing
		{"\x00\x00\x00\x00\x00\x00\xff\xd0\x00"[2:9], false},         // one byte after
		{"\x00\x00\x00\x00\x00\x00\x00\xff\xd0"[2:9], true},          //
		{"\x00\x00\x00\x00\x00\x00\x67\xe8\x01"[2:9], false},         //
		{"\x00\x67\xe8\x01\x02\x03\x04\x05\x06"[0:7], true},          // with a prefix
		{"\x00\x00\x00\x00\x00\xff\x14\x24\x00"[1:8], true},          // call *(%rsp)
		{"\x00\x00\x00\x00\x00\xff\x14\x25\x00"[1:8], false},         // call *abs32, cut
		{"\x00\x00\x00\x00\xff\x14\x25\x00\x00\x00\x00"[4:11], true}, // call *abs32
	} {
		maps, m, _ := anon(t)
		b := make([]byte, 7)
		copy(b[7-min(7, len(c.code)):], c.code)
		clear(m.bytes[0])
		copy(m.bytes[0][0x100-7:], b)
		u := NewUnwinder(NewCache(nil))
		u.space, u.maps, u.mem = NewSpace(1), maps, m
		if got := u.afterCall(codeAt + 0x100); got != c.want {
			t.Errorf("%x: %v, want %v", c.code, got, c.want)
		}
	}
}

func TestRegs(t *testing.T) {
	values := make([]uint64, len(arch.X86_64.Registers()))
	for i := range values {
		values[i] = uint64(i)
	}
	var r Regs
	if !r.Set(arch.X86_64, values) || r.PC() != arch.RIP || r.SP() != arch.RSP || r.Val[0] != arch.RAX {
		t.Errorf("%+v", r)
	}
	if r.Set(arch.AArch64, values) || r.Set(arch.X86_64, values[:5]) {
		t.Error("registers that cannot be used")
	}
	four := make([]uint64, len(arch.I386.Registers()))
	for i, row := range arch.I386.Registers() {
		four[i] = 100 + uint64(row.DWARF)
	}
	if !r.Set(arch.I386, four) || r.PC() != 108 || r.SP() != 104 || r.Val[i386EBP] != 105 || r.ptr() != 4 {
		t.Errorf("%+v", r)
	}
}

// hostile is an address space of random bytes with something of an ELF file.
func hostile(t testing.TB, seed uint64, elf []byte) (*vma.Set, *fakeMemory, *Regs) {
	rng := rand.New(rand.NewPCG(seed, 9))
	m := &fakeMemory{}
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := 0; i+8 <= len(b); i += 8 {
			v := rng.Uint64()
			switch rng.IntN(16) {
			default:
				v = codeAt + v%0x10000
			case 0:
				v = stackAt + v%0x8000
			case 1:
				v %= 64
			case 2:
			}
			word(b, i, v)
		}
		return b
	}
	head := fill(0x2000)
	copy(head, elf)
	code := fill(0x10000 - 0x2000)
	for i := 0; i < len(code); i += 3 {
		if rng.IntN(3) == 0 {
			code[i] = 0xe8
		}
	}
	m.add(codeAt, append(head, code...))
	m.add(stackAt, fill(0x8000))
	maps := setOf(t, mapping(codeAt, codeAt+0x2000, addr.Read, vma.FilePrivate, 5, 0, "/x"),
		mapping(codeAt+0x2000, codeAt+0x10000, addr.Read|addr.Exec, vma.FilePrivate, 5, 0x2000, "/x"),
		mapping(stackAt, stackAt+0x8000, addr.Read|addr.Write, vma.MainStack, 0, 0, "[stack]"))
	r := regsOf(codeAt+0x2000+rng.Uint64()%0xe000, stackAt+rng.Uint64()%0x1000*8, stackAt+rng.Uint64()%0x1000*8)
	return maps, m, r
}

// elfHead is an ELF header with a table of unwind information that a test fills in.
func elfHead(frame []byte, hdr []byte) []byte {
	b := make([]byte, 0x2000)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[18:], 62)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 3)
	ph := func(i int, typ, flags uint32, off, vaddr, size uint64) {
		p := b[64+56*i:]
		le.PutUint32(p, typ)
		le.PutUint32(p[4:], flags)
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], vaddr)
		le.PutUint64(p[32:], size)
		le.PutUint64(p[40:], size)
	}
	ph(0, ptLoad, 4, 0, 0, 0x2000)
	ph(1, ptLoad, 5, 0x2000, 0x2000, 0xe000)
	ph(2, ptEHHdr, 4, 0x400, 0x400, uint64(len(hdr)))
	copy(b[0x400:], hdr)
	copy(b[0x800:], frame)
	return b
}

// FuzzStack unwinds hostile memory: no panic, an end, and bounded work.
func FuzzStack(f *testing.F) {
	hdr := []byte("\x01\x1b\x03\x3b\x00\x04\x00\x00\x01\x00\x00\x00\x00\x1c\x00\x00\x18\x04\x00\x00")
	frame := []byte("\x14\x00\x00\x00\x00\x00\x00\x00\x01zR\x00\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\x00\x00" +
		"\x14\x00\x00\x00\x1c\x00\x00\x00\xe0\x17\x00\x00\x00\xe0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	f.Add(uint64(1), hdr, frame)
	f.Add(uint64(2), hdr, frame[:30])
	f.Add(uint64(3), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, seed uint64, hdr, frame []byte) {
		maps, m, regs := hostile(t, seed, elfHead(frame, hdr))
		u := NewUnwinder(NewCache(nil))
		s := NewSpace(1)
		for _, depth := range []int{256, 5000} {
			start := time.Now()
			frames, end := u.Stack(s, maps, m, regs, depth)
			if len(frames) == 0 || len(frames) > MaxDepth || end == 0 || end > Loop {
				t.Fatalf("%d frames, %v", len(frames), end)
			}
			if u.work > 2*maxWork {
				t.Errorf("work %d in %v", u.work, time.Since(start))
			}
		}
	})
}

// TestHostile is FuzzStack with random tables, many times.
func TestHostile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ends, deepest := map[End]int{}, 0
	for seed := range uint64(300) {
		hdr := []byte("\x01\x1b\x03\x3b\x00\x04\x00\x00\x01\x00\x00\x00\x00\x1c\x00\x00\x18\x04\x00\x00")
		frame := make([]byte, 0x400)
		copy(frame, "\x14\x00\x00\x00\x00\x00\x00\x00\x01zR\x00\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\x00\x00"+
			"\xe4\x03\x00\x00\x1c\x00\x00\x00\xe0\x17\x00\x00\x00\xe0\x00\x00\x00")
		for i := 41; i < len(frame); i++ {
			frame[i] = byte(rng.Uint32())
		}
		if seed%3 == 0 { // a rule that is right, on memory that is not
			copy(frame[41:], make([]byte, 0x400))
		}
		maps, m, regs := hostile(t, seed, elfHead(frame, hdr))
		u := NewUnwinder(NewCache(nil))
		frames, end := u.Stack(NewSpace(1), maps, m, regs, MaxDepth)
		deepest = max(deepest, len(frames))
		ends[end]++
		if u.work > 2*maxWork {
			t.Errorf("seed %d: work %d", seed, u.work)
		}
	}
	if len(ends) < 2 || deepest < 5 {
		t.Errorf("ends: %v, at most %d frames", ends, deepest)
	}
}
