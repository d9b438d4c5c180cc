package arch

import (
	"strings"
	"testing"
)

// numbering is a list of registers in the order of their numbers, from a number on;
// "-" stands for a number of no general register.
type numbering struct {
	from  int
	names string
}

// The numbers of the ABIs: "DWARF Register Number Mapping" of the x86_64 and i386
// psABI, and of DWARF for the Arm 64-bit Architecture.
var dwarfNumbers = map[ID][]numbering{
	X86_64: {
		{0, "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"},
		{49, "eflags es cs ss ds fs gs - - fs_base gs_base"},
	},
	I386: {
		{0, "eax ecx edx ebx esp ebp esi edi eip eflags"},
		{40, "es cs ss ds fs gs"},
	},
	AArch64: {
		{0, "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc"},
	},
}

// The numbers of gdb ("maint print remote-registers").
var gdbNumbers = map[ID][]numbering{
	X86_64: {
		{0, "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags cs ss ds es fs gs"},
		{57, "orig_rax fs_base gs_base"},
	},
	I386: {
		{0, "eax ecx edx ebx esp ebp esi edi eip eflags cs ss ds es fs gs"},
		{41, "orig_eax"},
	},
	AArch64: {
		{0, "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc pstate"},
	},
}

func TestRegisterNumbers(t *testing.T) {
	for what, c := range map[string]struct {
		want map[ID][]numbering
		get  func(*Register) int8
	}{
		"DWARF": {dwarfNumbers, func(r *Register) int8 { return r.DWARF }},
		"gdb":   {gdbNumbers, func(r *Register) int8 { return r.GDB }},
	} {
		for id, lists := range c.want {
			want := map[string]int8{}
			for _, l := range lists {
				for i, name := range strings.Fields(l.names) {
					want[name] = int8(l.from + i)
				}
			}
			delete(want, "-")
			for i := range id.Registers() {
				r := &id.Registers()[i]
				n, ok := want[r.Name]
				if !ok {
					n = -1
				}
				if got := c.get(r); got != n {
					t.Errorf("%s number of %v's %s is %d, want %d", what, id, r.Name, got, n)
				}
				delete(want, r.Name)
			}
			for name := range want {
				t.Errorf("%v has no %s", id, name)
			}
		}
	}
}

// Which register of x86_64 shows one of i386, and where arguments are.
func TestRegisterViews(t *testing.T) {
	x86 := X86_64.Registers()
	for _, r := range I386.Registers() {
		want := r.Name
		switch {
		case r.Name == "orig_eax":
			want = "orig_rax"
		case r.Name[0] == 'e' && len(r.Name) == 3:
			want = "r" + r.Name[1:]
		}
		if got := x86[r.User].Name; got != want {
			t.Errorf("%s is in %s, want %s", r.Name, got, want)
		}
	}
	for _, id := range []ID{X86_64, AArch64} {
		for i, r := range id.Registers() {
			if int(r.User) != i {
				t.Errorf("%v: %s is at %d, not %d", id, r.Name, r.User, i)
			}
		}
	}
	for id, want := range map[ID]string{X86_64: "rdi rsi rdx r10 r8 r9", I386: "ebx ecx edx esi edi ebp", AArch64: "x0 x1 x2 x3 x4 x5"} {
		var got []string
		for _, i := range id.CallArgs() {
			got = append(got, id.Registers()[i].Name)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("arguments of %v are in %s, want %s", id, s, want)
		}
	}
}
