package pcln

import (
	"debug/elf"
	"debug/gosym"
	"os"
	"runtime"
	"testing"
)

// self opens the tables of this test.
func self(t testing.TB) (*Table, *gosym.Table) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the test reads its own program, which is none of Linux on x86_64")
	}
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sec := f.Section(".gopclntab")
	data, err := sec.Data()
	if err != nil {
		t.Fatal(err)
	}
	if Find(append(make([]byte, 24), data...), 0) != 24 {
		t.Error("the tables are not found")
	}
	src := func(b []byte, off uint64) int {
		if off >= uint64(len(data)) {
			return 0
		}
		return copy(b, data[off:])
	}
	h, err := ParseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text").Addr
	tab, err := Open(h, src, text)
	if err != nil {
		t.Fatal(err)
	}
	sym, err := gosym.NewTable(nil, gosym.NewLineTable(data, text))
	if err != nil {
		t.Fatal(err)
	}
	return tab, sym
}

// TestFuncs compares names and bounds of all functions with debug/gosym.
func TestFuncs(t *testing.T) {
	tab, sym := self(t)
	if len(sym.Funcs) < 500 {
		t.Fatalf("%d functions", len(sym.Funcs))
	}
	tops, deltas := 0, 0
	for i := range sym.Funcs {
		want := &sym.Funcs[i]
		f, ok := tab.Func(want.Entry)
		if !ok || f.Entry != want.Entry || f.End != want.End || tab.Name(f) != want.Name {
			t.Fatalf("%s: %+v, %q, %v", want.Name, f, tab.Name(f), ok)
		}
		if g, ok := tab.Func(want.End - 1); !ok || g.Entry != f.Entry {
			t.Errorf("%s: its last byte is in %+v", want.Name, g)
		}
		if f.Top {
			tops++
		}
		d, ok := tab.Delta(f, f.Entry)
		if ok && d != 0 {
			t.Errorf("%s: %d bytes on the stack at its beginning", want.Name, d)
		}
		if d, ok = tab.Delta(f, (f.Entry+f.End)/2); ok && d > 0 {
			deltas++
		}
	}
	if tops == 0 || tops > 20 || deltas < len(sym.Funcs)/3 {
		t.Errorf("%d functions that nothing calls, %d with something on the stack, of %d", tops, deltas, len(sym.Funcs))
	}
	for _, pc := range []uint64{0, tab.text - 1, ^uint64(0)} {
		if _, ok := tab.Func(pc); ok {
			t.Errorf("a function at %#x", pc)
		}
	}
}

// FuzzTable reads bytes as tables.
func FuzzTable(f *testing.F) {
	b := make([]byte, 400)
	copy(b, magic120[:])
	b[8], b[24+16], b[56], b[64] = 2, 80, 200, 100
	f.Add(b, uint64(0x1000))
	f.Fuzz(func(t *testing.T, b []byte, pc uint64) {
		src := func(p []byte, off uint64) int {
			if off >= uint64(len(b)) {
				return 0
			}
			return copy(p, b[off:])
		}
		Find(b, 0)
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		tab, err := Open(h, src, 0x1000)
		if err != nil {
			return
		}
		for _, pc := range []uint64{pc, tab.entry(0), 0x1000 + First(h, src) + 5} {
			if fn, ok := tab.Func(pc); ok {
				tab.Name(fn)
				tab.Delta(fn, pc)
			}
		}
	})
}
