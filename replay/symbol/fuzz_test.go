package symbol

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
)

// seeds are small ELF files with all that is read.
func seeds(f *testing.F) [][]byte {
	var list [][]byte
	for _, flags := range [][]string{
		{"-g", "-O1"}, {"-g", "-gdwarf-4", "-O2", "-gz=zlib"}, {"-s"}, {"-g", "-O0", "-no-pie"},
	} {
		b, err := os.ReadFile(build(f, "gcc", "stubs.c", "seed", flags...))
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// askAll asks all there is of a file. Nothing may panic, go on for ever, or be of a
// function that does not hold the address.
func askAll(t *testing.T, b []byte, more ...uint64) {
	m, err := OpenImage(bytes.NewReader(b), nil)
	if err != nil {
		return
	}
	m.debug = m.main // with itself as the separate debug file
	for i := range m.main.code {
		more = append(more, m.main.code[i].lo, m.main.code[i].hi-1)
	}
	for _, a := range more {
		if fn, ok := m.Func(a); ok && (fn.Start > a || fn.Name == "") {
			t.Errorf("%#x is of %v", a, fn)
		}
		if n := len(m.Places(a)); n > 1<<16 {
			t.Errorf("%d places", n)
		}
	}
	m.Lookup("main")
	_ = m.Err()
	_, _, _ = m.main.debugLink()
}

// TestDamaged changes bytes all over a file.
func TestDamaged(t *testing.T) {
	b, err := os.ReadFile(build(t, "gcc", "stubs.c", "damaged", "-g", "-O1"))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(b); at += 7 {
		b[at] ^= 0xff
		askAll(t, b)
		askAll(t, b[:at])
		b[at] ^= 0xff
	}
}

// FuzzImage asks files some bytes of which are changed.
func FuzzImage(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, uint64(0x1139), 0, byte(0))
		f.Add(b, uint64(0x401126), len(b)-700, byte(0xff))
	}
	f.Fuzz(func(t *testing.T, b []byte, a uint64, at int, x byte) {
		b = bytes.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= x
		}
		askAll(t, b, a, a+16)
	})
}

// FuzzGo does it with the Go linker's table, a whole program of which is too large.
func FuzzGo(f *testing.F) {
	f.Add([]byte("\xf1\xff\xff\xff\x00\x00\x01\x08"), uint64(0x1000), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, a uint64, n uint32) {
		o := &goTable{order: binary.LittleEndian, quantum: 1, text: 0x1000, end: 0x2000, nfunc: int(n % 64), names: b, units: b, files: b, pctab: b, inlines: b, funcSize: 44}
		o.funcs = b
		o.nfunc = min(o.nfunc, len(b)/8)
		o.find(a)
		if len(o.places(a)) > maxNesting {
			t.Error("too many places")
		}
	})
}

func FuzzPerfMap(f *testing.F) {
	f.Add([]byte("1000 10 f\n1008 10 g h\n"), uint64(0x1009))
	f.Fuzz(func(t *testing.T, b []byte, a uint64) {
		if name, start, ok := ReadPerfMap(b).Find(a); ok && (start > a || name == "") {
			t.Errorf("%q from %#x", name, start)
		}
	})
}

func FuzzDemangle(f *testing.F) {
	for _, s := range []string{"_Z4workiPKc", "_RNvC6_123foo3bar", "_ZN4core3fmt5write17h0123456789abcdefE", "_ZSt1SIS_IS_IS_E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := Demangle(s); len(got) > 1<<maxDemangled+len(s) {
			t.Errorf("%d bytes of %d", len(got), len(s))
		}
		Short(s)
	})
}
