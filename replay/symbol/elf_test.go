package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"
)

// The test binary itself is an ELF file on most systems.
func TestSelf(t *testing.T) {
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := Read(r)
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		return // another executable format
	}
	e, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".text", ".rodata", ".data"} {
		s := e.Section(want)
		if got := f.Part(s.Offset, s.FileSize); got != want && !strings.HasPrefix(got, want+" +") {
			t.Errorf("part of %s: got %q", want, got)
		}
	}
	bss := e.Section(".bss")
	data := e.Section(".data")
	start, end, ok := f.BSS(data.Offset&^4095, data.Addr&^4095)
	if !ok || start > bss.Addr || end < bss.Addr+bss.Size {
		t.Errorf("bss: got %x-%x %v, section is %x-%x", start, end, ok, bss.Addr, bss.Addr+bss.Size)
	}
	if got := f.Part(1<<40, 4096); got != "" {
		t.Errorf("beyond the file: %q", got)
	}
}

func TestNotELF(t *testing.T) {
	for _, s := range []string{"", "#!/bin/sh\n", "\x7fELF", "\x7fELF\x02\x01\x01" + strings.Repeat("\xff", 57)} {
		if _, err := Read(strings.NewReader(s)); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

// A made-up 64-bit file with nothing but a header.
func TestEmptyELF(t *testing.T) {
	h := elf.Header64{Type: 2, Machine: 62, Version: 1, Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	f, err := Read(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Part(0, 4096); got != "" {
		t.Errorf("got %q", got)
	}
	if _, _, ok := f.BSS(0, 0); ok {
		t.Error("bss in an empty file")
	}
}
