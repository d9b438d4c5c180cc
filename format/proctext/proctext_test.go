package proctext

import (
	"bytes"
	"testing"
)

const status = "Name:\ta b: c\nState:\tS (sleeping)\nUid:\t1000\t1000\t0\t0\nVmRSS:\t     120 kB\nThreads:\t3\n" +
	"SigCgt:\t00000001000004e8\nGroups:\t \nShdPnd:\tffffffffffffffff\nSeccomp:\t2\nSeccomp_filters:\t5\nSeccomp:\t9\nlast:\tno newline"

func TestField(t *testing.T) {
	for _, c := range []struct {
		key, want string
		n         uint64
		isNumber  bool
		size, hex uint64
	}{
		{"Name", "a b: c", 0, false, 0, 0},
		{"State", "S (sleeping)", 0, false, 0, 0},
		{"Uid", "1000\t1000\t0\t0", 1000, true, 1000, 0},
		{"VmRSS", "120 kB", 120, true, 120 << 10, 0},
		{"Threads", "3", 3, true, 3, 3},
		{"SigCgt", "00000001000004e8", 0, false, 0, 0x1000004e8},
		{"ShdPnd", "ffffffffffffffff", 0, false, 0, ^uint64(0)},
		{"Groups", "", 0, false, 0, 0},
		{"Seccomp", "2", 2, true, 2, 2},
		{"Seccomp_filters", "5", 5, true, 5, 5},
		{"last", "no newline", 0, false, 0, 0},
		{"Vm", "", 0, false, 0, 0},
		{"", "", 0, false, 0, 0},
	} {
		v := Field([]byte(status), c.key)
		n, ok := v.Number()
		size, _ := v.Size()
		if v.String() != c.want || n != c.n || ok != c.isNumber || size != c.size || v.Hex() != c.hex {
			t.Errorf("%s: %q, number %d %v, size %d, hex %#x", c.key, v, n, ok, size, v.Hex())
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		v     string
		n     uint64
		ok    bool
		size  uint64
		whole bool
	}{
		{"18446744073709551615", 1<<64 - 1, true, 1<<64 - 1, true},
		{"18446744073709551616", 0, false, 0, false},
		{"18446744073709551615 kB", 1<<64 - 1, true, 0, false}, // too many bytes
		{"7 kB more", 7, true, 7, true},
		{"-1", 0, false, 0, false},
		{"0x10", 0, false, 0, false},
	} {
		n, ok := Value(c.v).Number()
		size, whole := Value(c.v).Size()
		if n != c.n || ok != c.ok || size != c.size || whole != c.whole {
			t.Errorf("%q: %d %v, %d %v", c.v, n, ok, size, whole)
		}
	}
}

// The line of a mapping is no field, whatever its name is.
func TestSmaps(t *testing.T) {
	const smaps = "559a1000-559a2000 r--p 00000000 08:01 123    /usr/bin/Rss: 7 kB\nSize:                  4 kB\nRss:                   0 kB\nVmFlags: rd mr mw me sd\n" +
		"7ffc0000-7ffd0000 rw-p 00000000 00:00 0      [stack]\nRss:                  12 kB\n"
	var got []string
	for k, v := range Fields([]byte(smaps)) {
		got = append(got, string(k)+"="+v.String())
	}
	want := []string{"Size=4 kB", "Rss=0 kB", "VmFlags=rd mr mw me sd", "Rss=12 kB"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d: %q, want %q", i, got[i], want[i])
		}
	}
}

// FuzzFields: each field is a part of its line, and Field finds the first of a key.
func FuzzFields(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte(":\n a: b\nc :d\n\x00:\xff\nx:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		seen := map[string]bool{}
		for k, v := range Fields(text) {
			if len(k) == 0 || bytes.ContainsAny(k, ": \t\n") || bytes.ContainsAny(v, "\n") || !bytes.Contains(text, append(append([]byte{}, k...), ':')) {
				t.Fatalf("%q: %q", k, v)
			}
			if first := Field(text, string(k)); !seen[string(k)] && !bytes.Equal(first, v) {
				t.Fatalf("first %q is %q, not %q", k, first, v)
			}
			seen[string(k)] = true
			n, isNumber := v.Number()
			if size, ok := v.Size(); ok && (!isNumber || size != n && size != n<<10) {
				t.Fatalf("%q: number %d, size %d", v, n, size)
			}
			v.Hex()
		}
	})
}
