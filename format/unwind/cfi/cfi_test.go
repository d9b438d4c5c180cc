package cfi

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"memtrace/record/recordtest"
)

var regNames = map[elf.Class][]string{
	elf.ELFCLASS64: {"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra"},
	elf.ELFCLASS32: {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "ra"},
}

// section is all entries of an .eh_frame or .debug_frame, read from a file.
type section struct {
	w    Where
	data []byte
	addr uint64
	cies map[uint64]*CIE
}

func openSection(t testing.TB, name, sec string) (*section, elf.Class) {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	sh := f.Section(sec)
	if sh == nil {
		t.Skipf("%s has no %s", name, sec)
	}
	data, err := sh.Data()
	if err != nil {
		t.Fatal(err)
	}
	s := &section{w: Where{Ptr: 8, Debug: sec == ".debug_frame"}, data: data, addr: sh.Addr, cies: map[uint64]*CIE{}}
	if f.Class == elf.ELFCLASS32 {
		s.w.Ptr = 4
	}
	if s.w.Debug {
		s.addr = 0
	}
	return s, f.Class
}

// fdes calls yield with each FDE and its offset.
func (s *section) fdes(t testing.TB, yield func(off uint64, f *FDE)) {
	t.Helper()
	for off := uint64(0); off < uint64(len(s.data)); {
		e, err := s.w.Entry(s.data[off:], s.addr+off)
		if err != nil {
			t.Fatalf("entry at %#x: %v", off, err)
		}
		if e.Size == 0 {
			off += 4
			continue
		}
		if !e.CIE {
			k := s.cies[e.Parent]
			if k == nil {
				ce, err := s.w.Entry(s.data[e.Parent-s.addr:], e.Parent)
				if err != nil {
					t.Fatal(err)
				}
				if k, err = s.w.ParseCIE(ce); err != nil {
					t.Fatalf("CIE at %#x: %v", e.Parent, err)
				}
				s.cies[e.Parent] = k
			}
			f, err := k.ParseFDE(e)
			if err != nil {
				t.Fatalf("FDE at %#x: %v", off, err)
			}
			yield(off, &f)
		}
		off += e.Size
	}
}

// shown is a rule as readelf shows it.
func shown(r *Rule, names []string, reg string) string {
	if reg == "CFA" {
		if r.CFAExpr != "" {
			return "exp"
		}
		if int(r.CFAReg) >= len(names) {
			return "?"
		}
		name := names[r.CFAReg]
		if name == "ra" {
			name = "eip"
			if len(names) > 9 {
				name = "rip"
			}
		}
		return fmt.Sprintf("%s%+d", name, r.CFAOff)
	}
	i := slices.Index(names, reg)
	if i < 0 {
		return "?"
	}
	x := r.Regs[i]
	switch x.Kind {
	case Offset:
		return fmt.Sprintf("c%+d", x.Off)
	case ValOffset:
		return fmt.Sprintf("v%+d", x.Off)
	case Register:
		return names[x.Reg]
	case Expr:
		return "exp"
	case ValExpr:
		return "vexp"
	}
	return "u"
}

// TestReadelf compares every row of every FDE with what readelf says.
func TestReadelf(t *testing.T) {
	need(t, "readelf")
	files := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/i386-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/lib64/libc.so.6", "/usr/lib32/libc.so.6"}
	if os.Getenv("MEMTRACE_LONG") != "" {
		files = append(files, "/usr/bin/node", "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so")
	} else {
		files = files[:3]
	}
	rows := 0
	for _, name := range files {
		if _, err := os.Stat(name); err != nil {
			continue
		}
		t.Run(name, func(t *testing.T) { rows += compareReadelf(t, name, ".eh_frame", "-wF") })
	}
	if rows == 0 {
		t.Skip("no file to compare")
	}
	t.Logf("%d rows", rows)
}

func compareReadelf(t *testing.T, name, sec, how string) (rows int) {
	s, class := openSection(t, name, sec)
	names := regNames[class]
	var fdes []FDE
	at := map[uint64]int{}
	s.fdes(t, func(off uint64, f *FDE) {
		at[off] = len(fdes)
		fdes = append(fdes, *f)
	})
	cmd := exec.Command("readelf", how, name)
	out, err := cmd.Output()
	if err != nil {
		t.Skip(err)
	}
	var x Machine
	var cur *FDE
	var columns []string
	wrong := 0
	type row struct {
		pc   uint64
		text []string
	}
	var last *row
	check := func() {
		if cur == nil || last == nil || wrong > 10 {
			return
		}
		var r Rule
		if _, err := x.Rule(cur, last.pc, &r); err != nil {
			t.Errorf("%#x: %v", last.pc, err)
			wrong++
			return
		}
		rows++
		for i, c := range columns {
			got, want := shown(&r, names, c), last.text[i]
			if want == "s" {
				want = "u"
			}
			if got != want && got != "?" {
				t.Errorf("%#x: %s is %s, readelf says %s", last.pc, c, got, want)
				wrong++
			}
		}
	}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	in := false
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "Contents of the ") {
			check()
			cur, last = nil, nil
			in = strings.Contains(line, sec+" ")
		}
		f := strings.Fields(line)
		if !in || len(f) < 2 {
			continue
		}
		switch {
		case len(f) > 4 && f[3] == "FDE":
			check()
			off, _ := strconv.ParseUint(f[0], 16, 64)
			cur, last = &fdes[at[off]], nil
			if pc := strings.TrimPrefix(f[5], "pc="); pc != fmt.Sprintf("%0*x..%0*x", len(pc)/2-1, cur.Begin, len(pc)/2-1, cur.End) {
				t.Errorf("FDE %s: %x..%x, readelf says %s", f[0], cur.Begin, cur.End, pc)
			}
		case len(f) > 3 && f[3] == "CIE":
			check()
			cur, last = nil, nil
		case f[0] == "LOC":
			columns = f[1:]
		case cur != nil:
			pc, err := strconv.ParseUint(f[0], 16, 64)
			if err != nil || len(f) != len(columns)+1 {
				continue
			}
			if last != nil && last.pc != pc {
				check()
			}
			last = &row{pc, f[1:]}
		}
	}
	check()
	if rows < 10 {
		t.Errorf("only %d rows were compared", rows)
	}
	// All rows, as one goes over them, are those that are found one by one.
	for i := range fdes {
		err := x.Rows(&fdes[i], func(begin, end uint64, r *Rule) bool {
			if begin < end {
				var one Rule
				var y Machine
				if _, err := y.Rule(&fdes[i], end-1, &one); err != nil || one != *r {
					t.Fatalf("%#x: the rule differs, %v", begin, err)
				}
			}
			return true
		})
		if err != nil {
			t.Errorf("%#x: %v", fdes[i].Begin, err)
		}
		if i > 3000 {
			break
		}
	}
	return rows
}

// TestDebugFrame compares a .debug_frame, of both classes where the compiler can.
func TestDebugFrame(t *testing.T) {
	need(t, "readelf")
	need(t, "gcc")
	dir := t.TempDir()
	src := dir + "/a.c"
	if err := os.WriteFile(src, []byte("int g(int*);int f(int n){int a[n];return g(a)+1;}int h(int n){return n<2?n:h(n-1)+f(n);}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bits := range []string{"-m64", "-m32"} {
		t.Run(bits, func(t *testing.T) {
			lib := dir + "/a" + bits + ".so"
			if out, err := exec.Command("gcc", bits, "-O1", "-g", "-shared", "-nostdlib", "-fpic", "-fno-asynchronous-unwind-tables", "-fno-exceptions", "-o", lib, src).CombinedOutput(); err != nil {
				t.Skipf("%v: %s", err, out)
			}
			s, _ := openSection(t, lib, ".debug_frame")
			n := 0
			s.fdes(t, func(uint64, *FDE) { n++ })
			if n < 2 {
				t.Fatalf("%d FDEs", n)
			}
			if rows := compareReadelf(t, lib, ".debug_frame", "-wF"); rows < 10 {
				t.Errorf("%d rows", rows)
			}
		})
	}
}

// TestHeader finds each FDE of the C library by the table.
func TestHeader(t *testing.T) {
	name := "/lib/x86_64-linux-gnu/libc.so.6"
	s, _ := openSection(t, name, ".eh_frame")
	f, err := elf.Open(name)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	sh := f.Section(".eh_frame_hdr")
	data, err := sh.Data()
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.w.ParseHeader(data, sh.Addr)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.fdes(t, func(uint64, *FDE) { n++ })
	if h.Frame != s.addr || h.Count != uint64(n) || h.Table != sh.Addr+12 || h.Base != sh.Addr {
		t.Errorf("%+v, %d FDEs, .eh_frame at %#x", h, n, s.addr)
	}
}

type fakeEnv struct{}

func (fakeEnv) Reg(n uint64) (uint64, bool)          { return 100 * n, n < NumRegs }
func (fakeEnv) Word(at uint64, n int) (uint64, bool) { return at + 1, at < 1<<20 }

func TestEval(t *testing.T) {
	for _, c := range []struct {
		code  []byte
		first uint64
		want  uint64
		ok    bool
	}{
		{[]byte{exLit0 + 3, exLit0 + 4, exPlus}, 0, 7, true},
		{[]byte{exBreg0 + 7, 8}, 0, 708, true},
		{[]byte{exBreg0 + 7, 0x78, exDeref}, 0, 693, true},
		{[]byte{exPlusUconst, 0x80, 1}, 5, 133, true},
		{[]byte{exConst1s, 0xff}, 0, ^uint64(0), true},
		{[]byte{exConst2u, 0xff, 0xff}, 0, 0xffff, true},
		{[]byte{exDup, exLit0 + 9, exEq, exBra, 1, 0, exDup, exLit0}, 9, 0, true},
		{[]byte{exLit0 + 1, exLit0 + 2, exLit0 + 3, exRot}, 0, 2, true},
		{[]byte{exLit0 + 1, exLit0 + 2, exSwap}, 0, 1, true},
		{[]byte{exLit0 + 10, exLit0 + 3, exMinus}, 0, 7, true},
		{[]byte{exLit0 + 10, exLit0 + 3, exLt}, 0, 0, true},
		// PLT: ((rip & 15) >= 11) << 3 + rsp + 8
		{[]byte{exBreg0 + 7, 8, exBreg0 + 16, 0, exLit0 + 15, exAnd, exLit0 + 11, exGe, exLit0 + 3, exShl, exPlus}, 0, 708, true},
		{[]byte{exSkip, 0xfd, 0xff}, 0, 0, false}, // for ever
		{[]byte{exDeref, exDeref}, 1 << 30, 0, false},
		{[]byte{exDrop, exDrop}, 0, 0, false},
		{[]byte{exBreg0 + 30, 0}, 0, 0, false},
		{[]byte{exConst8u, 1}, 0, 0, false},
		{[]byte{exLit0 + 1, exLit0, exDiv}, 0, 0, false},
		{[]byte{0xe0}, 0, 0, false},
		{[]byte{exDup, exSkip, 0xfc, 0xff}, 0, 0, false}, // fills the stack
	} {
		v, _, ok := Eval(string(c.code), 8, fakeEnv{}, c.first, true)
		if ok != c.ok || ok && v != c.want {
			t.Errorf("%x: %d, %v, want %d, %v", c.code, v, ok, c.want, c.ok)
		}
	}
	if v, _, ok := Eval(string([]byte{exLit0, exLit0 + 1, exMinus}), 4, fakeEnv{}, 0, false); v != 0xffffffff || !ok {
		t.Errorf("0 - 1 in 32 bits is %#x", v)
	}
}

// FuzzEntries reads bytes as a section.
func FuzzEntries(f *testing.F) {
	s, _ := openSection(f, "/lib/x86_64-linux-gnu/libc.so.6", ".eh_frame")
	f.Add(s.data[:400], false, false)
	f.Add(s.data[4000:4400], false, true)
	f.Add([]byte("\x14\x00\x00\x00\xff\xff\xff\xff\x04\x00\x08\x00\x01\x78\x10\x0c\x07\x08\x90\x01\x00\x00\x00\x00"), true, false)
	f.Fuzz(func(t *testing.T, b []byte, debug, small bool) {
		w := Where{Ptr: 8, Debug: debug}
		if small {
			w.Ptr = 4
		}
		const at = 0x1000
		var x Machine
		_, _ = w.ParseHeader(b, at)
		for off := uint64(0); off < uint64(len(b)); {
			e, err := w.Entry(b[off:], at+off)
			if err != nil && !errors.Is(err, ErrBad) && !errors.Is(err, ErrShort) {
				t.Error(err)
			}
			if err != nil || e.Size == 0 {
				break
			}
			if e.CIE {
				k, err := w.ParseCIE(e)
				if err == nil {
					// The rest as an FDE of it.
					if g, err := w.Entry(b[off+e.Size:], at+off+e.Size); err == nil && g.Size > 0 && !g.CIE {
						if fde, err := k.ParseFDE(g); err == nil {
							var r Rule
							_, _ = x.Rule(&fde, fde.Begin+10, &r)
							_ = x.Rows(&fde, func(_, _ uint64, r *Rule) bool {
								for i := range r.Regs {
									if c := r.Regs[i].Code; c != "" {
										Eval(c, w.Ptr, fakeEnv{}, 1, true)
									}
								}
								Eval(r.CFAExpr, w.Ptr, fakeEnv{}, 0, false)
								return true
							})
						}
					}
				} else if !errors.Is(err, ErrBad) {
					t.Error(err)
				}
			}
			off += e.Size
		}
	})
}

func need(t *testing.T, tool string) {
	t.Helper()
	_, err := exec.LookPath(tool)
	recordtest.Require(t, tool, err)
}
