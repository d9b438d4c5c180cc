package arch

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed tables are what gen.go makes of syscalls.tbl.
func TestTablesGenerated(t *testing.T) {
	for _, f := range []string{"syscalls.tbl", "gen.go"} { // the test cache watches what is read here
		if _, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "gen.go", "-o", dir).CombinedOutput(); err != nil {
		t.Fatalf("go run gen.go: %v\n%s", err, out)
	}
	for _, name := range []string{"x86_64.go", "i386.go", "aarch64.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what gen.go writes: go generate ./format/arch", name)
		}
	}
}

func TestSyscall(t *testing.T) {
	for _, c := range []struct {
		id   ID
		nr   uint32
		name string
		narg uint8
		has  Flags
	}{
		{X86_64, 0, "read", 3, Desc},
		{X86_64, 9, "mmap", 6, Memory | Desc | ChangesMM},
		{X86_64, 59, "execve", 3, File | Process | ChangesMM | NamesFD},
		{X86_64, 231, "exit_group", 1, Process | NoReturn},
		{X86_64, 262, "newfstatat", 4, File | Desc | FStat},
		{X86_64, 316, "renameat2", 5, File | Desc | Renames},
		{X86_64, 334, "rseq", 4, 0},
		{X86_64, 335, "uretprobe", 0, 0},
		{X86_64, 424, "pidfd_send_signal", 4, Signal | Desc},
		{X86_64, 462, "mseal", 3, Memory | ChangesMM},
		{X86_64, 469, "file_setattr", 5, File | Desc},
		{I386, 90, "mmap", 1, Memory | ChangesMM},
		{I386, 117, "ipc", 6, IPC | Memory | ChangesMM},
		{I386, 192, "mmap2", 6, Memory | ChangesMM},
		{I386, 397, "shmat", 3, Memory | ChangesMM},
		{I386, 422, "futex_time64", 6, 0},
		{AArch64, 222, "mmap", 6, Memory | ChangesMM},
		{AArch64, 220, "clone", 5, Process},
		{AArch64, 63, "read", 3, Desc},
		{AArch64, 453, "map_shadow_stack", 3, Memory | ChangesMM},
	} {
		s, ok := c.id.Syscall(c.nr)
		if !ok || s.Name != c.name || s.NArg != c.narg || s.Flags&c.has != c.has {
			t.Errorf("%v %d = %+v, %v; want %s/%d with flags %#x", c.id, c.nr, s, ok, c.name, c.narg, c.has)
		}
		if nr, ok := c.id.Number(c.name); !ok || nr != c.nr {
			t.Errorf("%v Number(%s) = %d, %v; want %d", c.id, c.name, nr, ok, c.nr)
		}
	}
	for _, c := range []struct {
		id ID
		nr uint32
	}{{X86_64, 337}, {X86_64, 511}, {X86_64, 1 << 31}, {I386, 222}, {Unknown, 0}, {77, 0}} {
		if s, ok := c.id.Syscall(c.nr); ok {
			t.Errorf("%v %d = %+v; want none", c.id, c.nr, s)
		}
	}
	if nr, ok := I386.Number("old_mmap"); !ok || nr != 90 {
		t.Errorf("old_mmap = %d, %v", nr, ok)
	}
	for id := X86_64; id <= AArch64; id++ {
		for nr, s := range id.Syscalls() {
			if nr >= MaxSyscall || s.NArg > 6 {
				t.Errorf("%v %d %+v is out of bounds", id, nr, s)
			}
		}
	}
}

func TestRegisters(t *testing.T) {
	for _, c := range []struct {
		id     ID
		n      int
		pc, sp string
	}{{X86_64, 27, "rip", "rsp"}, {I386, 17, "eip", "esp"}, {AArch64, 34, "pc", "sp"}} {
		r := c.id.Registers()
		if len(r) != c.n || r[c.id.PC()].Name != c.pc || r[c.id.SP()].Name != c.sp {
			t.Errorf("%v: %d registers, pc %d, sp %d", c.id, len(r), c.id.PC(), c.id.SP())
		}
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		e          int
		name, text string
	}{
		{2, "ENOENT", "No such file or directory"},
		{11, "EAGAIN", "Resource temporarily unavailable"},
		{133, "EHWPOISON", "Memory page has hardware error"},
		{512, "ERESTARTSYS", "To be restarted if SA_RESTART is set"},
		{516, "ERESTART_RESTARTBLOCK", "Interrupted by signal"},
		{0, "", ""}, {-1, "", ""}, {41, "", ""}, {4000, "", ""},
	} {
		if n, x := ErrnoName(c.e), ErrnoText(c.e); n != c.name || x != c.text {
			t.Errorf("errno %d = %q %q, want %q %q", c.e, n, x, c.name, c.text)
		}
	}
}

func TestSignals(t *testing.T) {
	for n := 1; n <= 64; n++ {
		if back, ok := SignalNumber(SignalName(n)); !ok || back != n {
			t.Errorf("%d -> %s -> %d, %v", n, SignalName(n), back, ok)
		}
	}
	for name, want := range map[string]int{
		"segv": 11, "SIGIO": 29, "POLL": 29, "9": 9, "SIGRTMIN": 32, "RTMIN+3": 37, "RTMAX-1": 63, "SIGRT_2": 34,
	} {
		if n, ok := SignalNumber(name); !ok || n != want {
			t.Errorf("%s = %d, %v; want %d", name, n, ok, want)
		}
	}
	for _, name := range []string{"", "SIG", "65", "-1", "0", "RTMIN+99", "NOPE"} {
		if n, ok := SignalNumber(name); ok {
			t.Errorf("%q = %d; want none", name, n)
		}
	}
	if s := SignalName(99); s != "99" {
		t.Errorf("99 = %q", s)
	}
}

func TestParseSet(t *testing.T) {
	for _, c := range []struct {
		set     string
		in, out string // calls of x86_64
	}{
		{"all", "read mmap uprobe", ""},
		{"none", "", "read mmap"},
		{"memory", "mmap brk mseal", "read openat"},
		{"trace=%file", "openat stat", "read"},
		{"%memory,file", "mmap openat", "read kill"},
		{"!file", "read mmap", "openat stat"},
		{"!!file", "openat", "read"},
		{"open,close", "open close", "openat"},
		{"/^open", "open openat open_by_handle_at", "close reopen"},
		{"all,!futex", "read", "futex"},
		{"?nosuchcall,read", "read", "write"},
		{"stat", "stat", "lstat fstat"},
		{"%%stat", "stat lstat fstat statx", "open"},
		{"9", "mmap", "read"},
		{"read@32", "", "read"},
		{"read@64", "read", "write"},
		{"mmap2", "", "mmap"},
		{"old_mmap", "", "mmap"},
		{"all@64", "read mmap", ""},
	} {
		s, err := ParseSet(c.set)
		if err != nil {
			t.Errorf("%q: %v", c.set, err)
			continue
		}
		for names, want := range map[string]bool{c.in: true, c.out: false} {
			for _, name := range bytes.Fields([]byte(names)) {
				nr, ok := X86_64.Number(string(name))
				if ok && s.Has(X86_64, nr) != want {
					t.Errorf("%q has %s: want %v", c.set, name, want)
				}
			}
		}
	}
	for _, bad := range []string{"", "!", "nosuchcall", "%nosuch", "/(", "read@77", "read,,write", "9999", "@64"} {
		if _, err := ParseSet(bad); !errors.Is(err, errSet) {
			t.Errorf("%q: error %v, want errSet", bad, err)
		}
	}
	all, _ := ParseSet("all")
	if !all.All() || !all.Has(X86_64, 5000) || !all.Has(Unknown, 1) {
		t.Error("all is not all")
	}
	if s, _ := ParseSet("!none"); !s.All() {
		t.Error("!none is not all")
	}
	if s, _ := ParseSet("!read"); s.All() || !s.Has(I386, 5000) || s.Has(I386, 3) {
		t.Error("!read: unknown calls must be in it")
	}
	if s, _ := ParseSet("mmap@32"); s.Has(X86_64, 9) || !s.Has(I386, 90) || s.Has(AArch64, 222) {
		t.Error("mmap@32 is i386's alone")
	}
	var s Set
	s.Add(ChangesMM)
	if nr, _ := X86_64.Number("mremap"); !s.Has(X86_64, nr) || s.Has(X86_64, 0) || s.Empty() {
		t.Error("Add(ChangesMM)")
	}
}

func TestSyscallAllocs(t *testing.T) {
	s := AllCalls()
	if n := testing.AllocsPerRun(100, func() {
		X86_64.Syscall(9)
		s.Has(X86_64, 9)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
