package elfcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

func sample(id arch.ID) *Core {
	seg := func(page, n addr.Addr, what Content, p addr.Prot) Segment {
		return Segment{addr.Range{Start: page << 12, End: (page + n) << 12}, p, what}
	}
	regs := make([]uint64, len(id.Registers()))
	for i := range regs {
		regs[i] = uint64(0x1000 + i)
	}
	return &Core{
		Arch:    id,
		Process: Process{PID: 100, PPID: 1, UID: 70000, Name: "a-very-long-program-name", Args: "prog a b"},
		Threads: []Thread{{TID: 101, Regs: regs, Signal: 11, SigInfo: []byte{11, 0, 0, 0, 0, 0, 0, 0, 1}}, {TID: 100}},
		Auxv:    []byte{6, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0},
		Files:   []File{{addr.Range{Start: 0x10000, End: 0x12000}, 0x3000, "/bin/x"}},
		Segments: []Segment{
			seg(0x12, 1, Data, addr.Read|addr.Write),
			seg(0x13, 40, Zero, addr.Read|addr.Write), seg(0x80, 2, Data, addr.Read), seg(0x90, 64, Zero, addr.Write),
		},
	}
}

func fill(a addr.Addr, p *[addr.PageSize]byte) error {
	for i := range p {
		p[i] = byte(a >> 12)
	}
	return nil
}

// TestWrite reads a core back with debug/elf.
func TestWrite(t *testing.T) {
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		c := sample(id)
		var buf bytes.Buffer
		if err := c.Write(&buf, fill); err != nil {
			t.Fatal(err)
		}
		// With holes it is the same file.
		f, err := os.Create(filepath.Join(t.TempDir(), "core"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := c.Write(f, fill); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, buf.Bytes()) {
			t.Errorf("%v: the file differs from the stream", id)
		}
		e, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != elf.ET_CORE || len(e.Progs) != 5 || e.Progs[0].Type != elf.PT_NOTE {
			t.Fatalf("%v: %v, %d segments", id, e.Type, len(e.Progs))
		}
		for i, s := range c.Segments {
			p := e.Progs[i+1]
			if p.Vaddr != uint64(s.Start) || p.Memsz != s.Len() || p.Off%addr.PageSize != 0 {
				t.Errorf("%v: segment %d: %+v", id, i, p.ProgHeader)
			}
			data, err := io.ReadAll(p.Open())
			if err != nil {
				t.Fatal(err)
			}
			var want []byte
			for a := s.Start; a < s.End; a += addr.PageSize {
				var page [addr.PageSize]byte
				if s.What == Data {
					_ = fill(a, &page)
				}
				want = append(want, page[:]...)
			}
			if !bytes.Equal(data, want) {
				t.Errorf("%v: segment %d holds other bytes", id, i)
			}
		}
		notes, err := io.ReadAll(e.Progs[0].Open())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(notes, []byte("a-very-long-pro\x00prog a b\x00")) || !bytes.Contains(notes, []byte("/bin/x\x00")) {
			t.Errorf("%v: notes %q", id, notes)
		}
	}
}

// TestMany: more segments than the header's field can count.
func TestMany(t *testing.T) {
	c := sample(arch.X86_64)
	c.Segments = nil
	for i := range addr.Addr(70000) { // 273 MiB of holes
		c.Segments = append(c.Segments, Segment{addr.Range{Start: i << 13, End: i<<13 + 4096}, addr.Read, Zero})
	}
	c.Segments[69999].What = Data
	var e ends
	if err := c.Write(&e, fill); err != nil {
		t.Fatal(err)
	}
	b := e.head
	shoff := int(b[0x28]) | int(b[0x29])<<8 | int(b[0x2a])<<16
	if b[56] != 0xff || b[57] != 0xff || b[60] != 1 {
		t.Errorf("e_phnum % x, e_shnum %d", b[56:58], b[60])
	}
	info := b[shoff+44:] // sh_info
	if n := int(info[0]) | int(info[1])<<8 | int(info[2])<<16; n != 70001 {
		t.Errorf("sh_info = %d", n)
	}
	if e.last != byte(69999<<1&0xff) || e.n%addr.PageSize != 0 {
		t.Errorf("%d bytes, the last %x", e.n, e.last)
	}
}

// ends keeps the beginning and the last byte of what is written.
type ends struct {
	head []byte
	last byte
	n    int
}

func (e *ends) Write(p []byte) (int, error) {
	if len(e.head) < 5<<20 {
		e.head = append(e.head, p...)
	}
	if len(p) > 0 {
		e.last = p[len(p)-1]
	}
	e.n += len(p)
	return len(p), nil
}

func TestErrors(t *testing.T) {
	if err := (&Core{Arch: arch.AArch64}).Write(io.Discard, fill); !errors.Is(err, ErrArch) {
		t.Errorf("aarch64: %v", err)
	}
	broken := errors.New("broken")
	err := sample(arch.X86_64).Write(io.Discard, func(addr.Addr, *[addr.PageSize]byte) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("memory that fails: %v", err)
	}
	c := sample(arch.I386)
	c.Segments = append(c.Segments, Segment{addr.Range{Start: 1 << 32, End: 1<<32 + 4096}, addr.Read, Data})
	if err := c.Write(io.Discard, fill); err == nil {
		t.Error("64-bit segment of a 32-bit process")
	}
}

// TestIntelXState: the parts of an area of AMD's are found where gdb looks for them.
func TestIntelXState(t *testing.T) {
	area := func(size int, xcr0 uint64) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i) ^ byte(i>>8)
		}
		binary.LittleEndian.PutUint64(b[464:], xcr0)
		return b
	}
	for _, c := range []struct {
		name       string
		size       int
		xcr0       uint64
		want       int
		moved, to  int // 64 bytes of AVX-512 masks
		pkru, keys int // 8 bytes of protection keys
	}{
		{"AVX", 832, 0x7, 832, 0, 0, 0, 0},
		{"AMD, AVX-512", 2432, 0xe7, 2688, 832, 1088, 0, 0},
		{"AMD, AVX-512 and keys", 2440, 0x2e7, 2696, 832, 1088, 2432, 2688},
		{"AMD, keys", 840, 0x207, 2696, 0, 0, 832, 2688},
		{"Intel", 2696, 0x2ff, 2696, 1088, 1088, 2688, 2688},
		{"unknown", 2500, 0xe7, 2500, 0, 0, 0, 0},
		{"old", 512, 0, 512, 0, 0, 0, 0},
	} {
		in := area(c.size, c.xcr0)
		out := intelXState(in)
		head := min(c.size, 832)
		if len(out) != c.want || !bytes.Equal(out[:head], in[:head]) {
			t.Errorf("%s: %d bytes, want %d", c.name, len(out), c.want)
			continue
		}
		if !bytes.Equal(out[c.to:c.to+64], in[c.moved:c.moved+64]) || !bytes.Equal(out[c.keys:c.keys+8], in[c.pkru:c.pkru+8]) {
			t.Errorf("%s: a part is somewhere else", c.name)
		}
	}
}
