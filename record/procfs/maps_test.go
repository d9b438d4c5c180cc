package procfs

import (
	"os"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/recordtest"
)

const mapsText = `56078d6a1000-56078d6a3000 r--p 00000000 fe:00 1835023                    /usr/bin/cat
56078d6ab000-56078d6cc000 rw-p 00000000 00:00 0                          [heap]
7f0a0f9cb000-7f0a0f9cc000 rw-s 00000000 00:05 32768                      /SYSV00000000 (deleted)
7f0a0f9cc000-7f0a0f9cd000 rw-s 00001000 00:1a 5                          /dev/shm/a b\012c (deleted)
7f0a0f9cd000-7f0a0f9ce000 ---p 00000000 00:00 0 
7ffd4aa8e000-7ffd4aaaf000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMapsAndBack(t *testing.T) {
	vs, err := ParseMaps(nil, []byte(mapsText))
	if err != nil {
		t.Fatal(err)
	}
	var back []byte
	for _, v := range vs {
		back = v.AppendMaps(back)
	}
	if string(back) != mapsText {
		t.Errorf("written back:\n%s\nwant:\n%s", back, mapsText)
	}
	want := []vma.Kind{vma.FilePrivate, vma.Heap, vma.SysV, vma.POSIXShm, vma.AnonPrivate, vma.MainStack, vma.Special}
	for i, v := range vs {
		if v.Kind != want[i] {
			t.Errorf("%v %q is %v, want %v", v.Range, v.Name, v.Kind, want[i])
		}
	}
	if got := vs[3].Name; got != "/dev/shm/a b\nc (deleted)" {
		t.Errorf("name %q", got)
	}
	if got := vs[0]; got.Start != 0x56078d6a1000 || got.Dev != (vma.Dev{Major: 0xfe}) || got.Inode != 1835023 || got.Prot != addr.Read {
		t.Errorf("first line: %+v", got)
	}
}

func TestParseMapsRefusesRubbish(t *testing.T) {
	for _, line := range []string{
		"", "x", "1000-2000", "1000-2000 r--p", "1000-2000 r--p 0 0:0", "2000-1000 r--p 0 0:0 0",
		"1000-2000 r--q 0 0:0 0 ", "1000-2000 q--p 0 0:0 0 ", "11112222333344445-2 r--p 0 0:0 0 ", "1000-2000 r--p 0 0:0 z",
	} {
		if _, err := ParseMaps(nil, []byte(line+"\n")); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
}

// The kernel's own answer for this process, by both ways, is the oracle.
func TestOwnMaps(t *testing.T) {
	_, err := os.Stat("/proc/self/maps")
	recordtest.Require(t, "proc", err)
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	vs, err := ParseMaps(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	var back []byte
	for _, v := range vs {
		back = v.AppendMaps(back)
	}
	if string(back) != string(text) {
		t.Errorf("written back:\n%s\nread:\n%s", back, text)
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(mapsText))
	f.Fuzz(func(t *testing.T, text []byte) {
		vs, err := ParseMaps(nil, text)
		if err != nil {
			return
		}
		for _, v := range vs {
			if v.Empty() {
				t.Errorf("empty mapping %+v", v)
			}
		}
	})
}
