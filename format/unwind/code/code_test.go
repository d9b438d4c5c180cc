package code

import (
	"encoding/hex"
	"strings"
	"testing"
)

func reader(b []byte, at uint64) Read {
	return func(pc uint64) []byte {
		if pc < at || pc-at >= uint64(len(b)) {
			return nil
		}
		return b[pc-at:]
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, code string
		ptr        int
		fp         bool
		ra         int64
		saved      map[int]int64
		ok         bool
	}{
		{"a leaf", "c3", 8, false, 0, nil, true},
		{"after a call", "4883c418 5b 415c c3", 8, false, 40, map[int]int64{3: 24, 12: 32}, true}, // add $24,%rsp; pop %rbx; pop %r12
		{"leave", "31c0 c9 c3", 8, true, 8, map[int]int64{6: 0}, true},
		{"lea -16(%rbp),%rsp; pop; pop %rbp", "488d65f0 5b 415c 5d c3", 8, true, 8, map[int]int64{3: -16, 12: -8, 6: 0}, true},
		{"a branch", "85c0 7402 0f0b 5b c3", 8, false, 8, map[int]int64{3: 0}, true}, // je over ud2
		{"a loop", "ebfe", 8, false, 0, nil, false},
		{"no return", "0f0b", 8, false, 0, nil, false},
		{"a jump", "eb01 cc 5d c3", 8, false, 8, map[int]int64{6: 0}, true},
		{"a push and a call", "50 e800000000 58 59 c3", 8, false, 8, nil, true},
		{"jump through memory", "ff20", 8, false, 0, nil, false},
		{"a stub of a PLT", "f30f1efa f2ff2500100000", 8, false, 0, nil, true}, // endbr64; bnd jmp *0x1000(%rip)
		{"a stub of a PLT of i386", "ff2500100000", 4, false, 0, nil, true},
		{"a call instead of a return", "5b ff2500100000", 8, false, 8, map[int]int64{3: 0}, true},
		{"a switch", "ff24c500100000", 8, false, 0, nil, false},
		{"the stack pointer aligned", "4883e4f0 c3", 8, false, 0, nil, false},
		{"below the return address", "50 c3", 8, false, 0, nil, false},
		{"i386", "83c40c 5b 5e 5f 5d c3", 4, false, 28, map[int]int64{3: 12, 6: 16, 7: 20, 5: 24}, true},
		{"i386 leave", "c9 c3", 4, true, 4, map[int]int64{5: 0}, true},
		{"a system call", "0f05 483d01f0ffff c3", 8, false, 0, nil, true},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		f, ok := Find(reader(b, 0x1000), 0x1000, c.ptr)
		if ok != c.ok {
			t.Errorf("%s: %v, %+v", c.name, ok, f)
			continue
		}
		if !ok {
			continue
		}
		if f.ByFP != c.fp || f.RA != c.ra {
			t.Errorf("%s: %+v", c.name, f)
		}
		for n := range 17 {
			want, is := c.saved[n]
			if is != (f.Has>>n&1 != 0) || is && f.Saved[n] != want {
				t.Errorf("%s: register %d: %+v", c.name, n, f)
			}
		}
	}
}

func TestEnds(t *testing.T) {
	b, _ := hex.DecodeString("89c731c0b03c0f05f4") // exit(the result); hlt
	if f, ok := Find(reader(b, 0x1000), 0x1000, 8); ok || !f.Ends {
		t.Errorf("%v, %+v", ok, f)
	}
	b, _ = hex.DecodeString("85c07402ff2089c731c0b03c0f05f4") // or a jump to anywhere
	if f, ok := Find(reader(b, 0x1000), 0x1000, 8); ok || f.Ends {
		t.Errorf("%v, %+v", ok, f)
	}
}

func TestHalts(t *testing.T) {
	for code, want := range map[string]bool{
		"4889dc 488b3c24 4885ff 7408 e800000000 4889c7 e800000000 f4": true, // what glibc's makecontext has its functions return to
		"31ff e800000000 f4":            true,
		"31ff eb01 c3 f4":               true, // over a return
		"31ff e800000000 c3":            false,
		"85c0 7401 f4 c3":               false,
		"85c0 7401 f4 ebfe":             true, // or never ends
		"ebfe":                          false,
		"ff20":                          false,
		"0fff":                          false,
		strings.Repeat("90", 40) + "f4": false, // too far away
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := Halts(reader(b, 0x1000), 0x1000, 8); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
}

func TestThrough(t *testing.T) {
	if !Through([]byte("\x31\xed\x50\x90"), 8) || Through([]byte("\x31\xed\xc3\x90"), 8) || Through([]byte("\x31"), 8) || !Through(nil, 8) {
		t.Error("a return is seen where there is none, or not seen")
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte("\x48\x83\xc4\x18\x5b\xc3"), true)
	f.Fuzz(func(t *testing.T, b []byte, small bool) {
		ptr := 8
		if small {
			ptr = 4
		}
		if f, ok := Find(reader(b, 0), 0, ptr); ok && f.RA < 0 {
			t.Errorf("%+v", f)
		}
		AccessAt(reader(b, 0), 0, uint64(len(b)/2), ptr, func(n int) (uint64, bool) { return uint64(n), n < 9 })
	})
}

// TestAccessAt: what an instruction refers to, and where its register was loaded from.
func TestAccessAt(t *testing.T) {
	regs := map[int]uint64{0: 0x41, 1: 2, 3: 0x5000, 4: 0x7000, 5: 0x7100, 7: 0x6000}
	reg := func(n int) (uint64, bool) { v, ok := regs[n]; return v, ok }
	for _, c := range []struct {
		name, code string // the last instruction is the one
		at         uint64 // of it
		ptr        int
		want       Access
		ok         bool
	}{
		{"mov 8(%rbx),%rax; mov (%rax),%edx", "488b4308 8b10", 4, 8, Access{0x41, false, 0x5008}, true},
		{"mov -8(%rbp),%rax; mov %edx,4(%rax)", "488b45f8 895004", 4, 8, Access{0x41, true, 0x70f8}, true},
		{"mov 0x10(%rip),%rax; cmp (%rax),%edx", "488b0510000000 3910", 7, 8, Access{0x41, false, 0x1017}, true},
		{"mov (%rbx,%rcx,8),%rdi; mov %rdi,%rax; movzbl (%rax),%eax", "488b3ccb 4889f8 0fb600", 7, 8, Access{0x41, false, 0x5010}, true},
		{"the base was overwritten: mov 8(%rax),%rax; mov (%rax),%edx", "488b4008 8b10", 4, 8, Access{0x41, false, 0}, true},
		{"after a call: mov 8(%rbx),%rax; call; mov (%rax),%edx", "488b4308 e800000000 8b10", 9, 8, Access{0x41, false, 0}, true},
		{"lea: lea 8(%rbx),%rax; mov (%rax),%edx", "488d4308 8b10", 4, 8, Access{0x41, false, 0}, true},
		{"i386: mov 4(%ebx),%eax; mov (%eax),%edx", "8b4304 8b10", 3, 4, Access{0x41, false, 0x5004}, true},
		{"no memory", "89d0", 0, 8, Access{}, false},
		{"of a global", "8b1425 00100000", 0, 8, Access{}, false},
		{"no such instruction", "488b4308 8b10", 3, 8, Access{}, false},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		a, ok := AccessAt(reader(b, 0x1000), 0x1000, 0x1000+c.at, c.ptr, reg)
		if ok != c.ok || ok && a != c.want {
			t.Errorf("%s: %+v %v, want %+v %v", c.name, a, ok, c.want, c.ok)
		}
	}
}
