package inproc

import (
	"bytes"
	"encoding/hex"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"memtrace/format/addr"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, code string
		pad        addr.Addr // offset, 0 for a follow
		moved      int
		ok         bool
	}{
		{"padding behind ret", "0f05c30f1f840000000000", 3, 0, true},
		{"padding of breakpoints", "0f05c3cccccccccccc", 3, 0, true},
		{"a function between", "0f05c390ff25112233440f1f440000", 10, 0, true},
		{"little padding, then a compare", "0f05483d00f0ffff7706c390904889c8c3", 0, 6, true},
		{"compare", "0f05483d00f0ffff7706", 0, 6, true},
		{"a short instruction", "0f0589c2c3", 0, 0, false},
		{"relative to rip", "0f05488b0511223344c3", 0, 0, false},
		{"a branch", "0f050f8511223344c3", 0, 0, false},
		{"a call", "0f05e811223344c3", 0, 0, false},
		{"nothing that is known", "0f0506060606060606", 0, 0, false},
		{"no system call", "0f0bc30f1f840000000000", 0, 0, false},
		{"not all there", "0f05", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ok := Find(0x1000, unhex(t, c.code))
			if ok != c.ok {
				t.Fatalf("found: %v", ok)
			}
			if !ok {
				return
			}
			if c.pad != 0 && p.Pad != 0x1000+c.pad || c.pad == 0 && p.Pad != 0 || len(p.moved) != c.moved {
				t.Errorf("padding at %#x, %d bytes moved", p.Pad, len(p.moved))
			}
		})
	}
}

// TestPatchLeads applies patches to memory, follows the jumps, and undoes them.
func TestPatchLeads(t *testing.T) {
	const site, code = 0x7f00_0000_1230, 0x1234_5678_9000
	for _, text := range []string{"0f05c30f1f840000000000909090", "0f05483d00f0ffff7706909090"} {
		mem := unhex(t, text)
		was := bytes.Clone(mem)
		p, ok := Find(site, mem)
		if !ok {
			t.Fatal("not found")
		}
		w := NewWindow(site&^0xfff - 1<<30)
		if !w.Place(p) {
			t.Fatal("no place")
		}
		window := make([]byte, WindowLen)
		copy(window, Code{Base: code}.Head())
		put := func(ws []Write) {
			for _, x := range ws {
				to := mem
				off := x.At - site
				if x.At >= w.Base && x.At < w.Base+WindowLen {
					to, off = window, x.At-w.Base
				}
				copy(to[off:], x.Bytes)
			}
		}
		writes, ok := p.Apply(w, func(b []byte, a addr.Addr) bool { return copy(b, mem[a-site:]) == len(b) })
		if !ok {
			t.Fatal("not applied")
		}
		put(writes)
		at := addr.Addr(site)
		for range 2 { // a short jump may lead to a long one
			in, err := x86asm.Decode(mem[at-site:], 64)
			if err != nil || in.Op != x86asm.JMP {
				t.Fatalf("at %#x: %v %v", at, in, err)
			}
			if at += addr.Addr(in.Len) + addr.Addr(int64(in.Args[0].(x86asm.Rel))); at < site || at > site+100 {
				break
			}
		}
		if at != p.stub || at%16 != 0 {
			t.Fatalf("it leads to %#x, not to its stub at %#x", at, p.stub)
		}
		stub := window[p.stub-w.Base:]
		if !p.hop() && mem[2] != intr3 {
			t.Errorf("where the instruction behind the call was, there is %#x", mem[2])
		}
		load, _ := x86asm.Decode(stub, 64)
		if load.Op != x86asm.LEA || load.Args[0] != x86asm.RCX || p.stub+addr.Addr(load.Len)+addr.Addr(load.Args[1].(x86asm.Mem).Disp) != p.Return() {
			t.Errorf("the stub begins with %v", load)
		}
		jmp, _ := x86asm.Decode(stub[load.Len:], 64)
		if from := p.stub + addr.Addr(load.Len+jmp.Len) + addr.Addr(jmp.Args[0].(x86asm.Mem).Disp); jmp.Op != x86asm.JMP || from != w.Base {
			t.Errorf("the stub goes on with %v", jmp)
		}
		if !bytes.Equal(stub[stubBack-2:stubBack], []byte{0x0f, 0x05}) {
			t.Error("there is no system call before where the stub goes on")
		}
		if got := p.Program(p.Return()); got != site+2 {
			t.Errorf("behind the call is %#x", got)
		}
		if got := StubReturn(w.Base, p.stub+20); got != p.Return() {
			t.Errorf("the stub's end is found at %#x", got)
		}
		seen := bytes.Clone(mem)
		if p.Original(seen, site); !bytes.Equal(seen, was) {
			t.Errorf("read as the program's: % x", seen)
		}
		if put(p.Undo()); !bytes.Equal(mem, was) {
			t.Errorf("undone: % x", mem)
		}
	}
}
