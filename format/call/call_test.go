package call

import (
	"encoding/binary"
	"strings"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

func nr(t testing.TB, id arch.ID, name string) uint32 {
	t.Helper()
	n, ok := id.Number(name)
	if !ok {
		t.Fatalf("%v has no %s", id, name)
	}
	return n
}

func words(id arch.ID, v ...uint64) (b []byte) {
	for _, x := range v {
		if id.PointerSize() == 4 {
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		} else {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
	}
	return b
}

func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func TestAppend(t *testing.T) {
	const none = uint64(0xffffffffffffffff)
	fd := func(fd int32) string {
		return map[int32]string{AtFDCWD: "/home", 3: "/etc/passwd", 4: "pipe:[12]", 5: "/odd\n<name>"}[fd]
	}
	for _, c := range []struct {
		id   arch.ID
		name string
		args []uint64
		ret  int64
		bufs []Buf
		fd   func(int32) string
		want string
	}{
		{arch.X86_64, "openat", []uint64{none - 99, 0x10, 0x80000}, 3, []Buf{{Arg: 1, Data: []byte("/etc/ld.so.cache")}}, nil,
			`openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3`},
		{arch.X86_64, "openat", []uint64{none - 99, 0x10, 0x80000}, 3,
			[]Buf{{Arg: 1, Data: []byte("p")}, {Arg: BufRetName, Out: true, Addr: 3, Data: []byte("/home/p")}}, fd,
			`openat(AT_FDCWD</home>, "p", O_RDONLY|O_CLOEXEC) = 3</home/p>`},
		{arch.X86_64, "openat", []uint64{none - 99, 0x10, 0x10000}, -2, []Buf{{Arg: 1, Data: []byte("a\"\\\x01\x80b")}}, nil,
			`openat(AT_FDCWD, "a\"\\\1\200b", O_RDONLY|O_DIRECTORY) = -1 ENOENT (No such file or directory)`},
		{arch.AArch64, "openat", []uint64{3, 0x10, 0x4000}, 5, nil, fd,
			`openat(3</etc/passwd>, 0x10, O_RDONLY|O_DIRECTORY) = 5`}, // what was 5 before is no name of what it is now
		{arch.X86_64, "close", []uint64{5}, 0, nil, fd, `close(5</odd\n\74name\76>) = 0`},
		{arch.X86_64, "close", []uint64{none - 99}, -9, nil, fd, `close(-100) = -1 EBADF (Bad file descriptor)`},
		{arch.X86_64, "close", []uint64{4}, 0, nil, fd, `close(4<pipe:[12]>) = 0`},
		{arch.X86_64, "mmap", []uint64{0, 8192, 3, 0x22, none, 0}, 0x7f0000001000, nil, nil,
			`mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000001000`},
		{arch.X86_64, "mmap", []uint64{0x1000, 4096, 0, 0x100032, none, 0}, -17, nil, nil,
			`mmap(0x1000, 4096, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0) = -1 EEXIST (File exists)`},
		{arch.I386, "mmap2", []uint64{0, 4096, 1, 2, 3, 1}, -0x1000000, nil, nil,
			`mmap2(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0x1000) = 0xff000000`},
		{arch.I386, "mmap", []uint64{0x8000}, 0x40000000, []Buf{{Arg: BufArgs, Data: u32s(0, 4096, 5, 1, 3, 0x2000)}}, nil,
			`mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_SHARED, 3, 0x2000) = 0x40000000`},
		{arch.I386, "ipc", []uint64{21, 7, 0x1000, 0x9000, 0}, 0, []Buf{{Arg: 3, Out: true, Data: u32s(0xf7000000)}}, nil,
			`shmat(7, NULL, SHM_RDONLY) = 0xf7000000`},
		{arch.I386, "socketcall", []uint64{1, 0x9000}, 3, []Buf{{Arg: BufArgs, Data: u32s(2, 2, 0)}}, nil,
			`socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3`},
		{arch.I386, "socketcall", []uint64{1, 0x9000}, 3, nil, nil, `socketcall(SYS_SOCKET, 0x9000) = 3`},
		{arch.X86_64, "brk", []uint64{0}, 0x5000, nil, nil, `brk(NULL) = 0x5000`},
		{arch.X86_64, "mremap", []uint64{0x1000, 4096, 8192, 3, 0x9000}, 0x9000, nil, nil,
			`mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x9000) = 0x9000`},
		{arch.X86_64, "munmap", []uint64{0x1000, 4096}, 0, nil, nil, `munmap(0x1000, 4096) = 0`},
		{arch.X86_64, "prctl", []uint64{prSetVMA, 0, 0x1000, 4096, 0x55}, 0, []Buf{{Arg: 4, Data: []byte("heap")}}, nil,
			`prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x1000, 4096, "heap") = 0`},
		{arch.X86_64, "pipe2", []uint64{0x100, 0x80000}, 0,
			[]Buf{{Arg: 0, Out: true, Data: u32s(3, 4)}, {Arg: BufRetName, Addr: 3, Data: []byte("pipe:[1]")}, {Arg: BufRetName, Addr: 4, Data: []byte("pipe:[1]")}}, nil,
			`pipe2([3<pipe:[1]>, 4<pipe:[1]>], O_CLOEXEC) = 0`},
		{arch.X86_64, "execve", []uint64{0x10, 0x20, 0x30}, 0,
			[]Buf{{Arg: 0, Data: []byte("/bin/ls")}, {Arg: BufArgv, Data: []byte("ls")}, {Arg: BufArgv, Data: []byte("-l")}, {Arg: 2, Data: u32s(23)}}, nil,
			`execve("/bin/ls", ["ls", "-l"], 0x30 /* 23 vars */) = 0`},
		{arch.X86_64, "wait4", []uint64{none, 0x10, 0, 0}, 77, []Buf{{Arg: 1, Out: true, Data: u32s(0x300)}}, nil,
			`wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 77`},
		{arch.X86_64, "wait4", []uint64{none, 0x10, 0, 0}, -512, nil, nil,
			`wait4(-1, 0x10, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`},
		{arch.X86_64, "exit_group", []uint64{3}, 0, nil, nil, `exit_group(3) = ?`},
		{arch.X86_64, "nanosleep", []uint64{0x10, 0x20}, -516, []Buf{{Arg: 0, Data: words(arch.X86_64, 1, 5)}, {Arg: 1, Out: true, Data: words(arch.X86_64, 0, 9)}}, nil,
			`nanosleep({tv_sec=1, tv_nsec=5}, {tv_sec=0, tv_nsec=9}) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)`},
		{arch.I386, "nanosleep", []uint64{0x10, 0}, 0, []Buf{{Arg: 0, Data: words(arch.I386, 1, 5)}}, nil,
			`nanosleep({tv_sec=1, tv_nsec=5}, NULL) = 0`},
		{arch.X86_64, "write", []uint64{1, 0x10, 3}, 3, []Buf{{Arg: 1, Data: []byte("a\n\x00")}}, nil, `write(1, "a\n\0", 3) = 3`},
		{arch.X86_64, "write", []uint64{1, 0x10, 3}, 3, nil, nil, `write(1, 0x10, 3) = 3`},
		{arch.X86_64, "getdents64", []uint64{3, 0x10, 100}, 0, nil, nil, `getdents64(3, 0x10 /* 0 entries */, 100) = 0`},
		{arch.X86_64, "clone3", []uint64{0x10, 88}, 9, []Buf{{Arg: 0, Data: words(arch.X86_64, 0x3d0f00, 0, 0x100, 0x100, 0, 0x7000, 0x1000, 0x200, 0, 0, 0)}}, nil,
			`clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID, child_tid=0x100, parent_tid=0x100, exit_signal=0, stack=0x7000, stack_size=0x1000, tls=0x200} => {parent_tid=[9]}, 88) = 9`},
		{arch.AArch64, "clone", []uint64{0x80011, 0, 0, 0x7000, 0}, 9, nil, nil, `clone(child_stack=NULL, flags=CLONE_SETTLS|SIGCHLD, tls=0x7000) = 9`},
		{arch.X86_64, "fcntl", []uint64{3, 3}, 0x8002, nil, nil, `fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)`},
		{arch.X86_64, "fcntl", []uint64{3, 1030, 0}, 4, nil, fd, `fcntl(3</etc/passwd>, F_DUPFD_CLOEXEC, 0) = 4</etc/passwd>`},
		{arch.X86_64, "dup", []uint64{9}, 4, nil, fd, `dup(9) = 4`},
		{arch.X86_64, "dup2", []uint64{3, 4}, 4, nil, fd, `dup2(3</etc/passwd>, 4<pipe:[12]>) = 4</etc/passwd>`},
		{arch.X86_64, "kill", []uint64{5, 9}, -4000, nil, nil, `kill(5, SIGKILL) = -1 (errno 4000)`},
		{arch.X86_64, "mseal", []uint64{0x1000, 4096, 0}, 0, nil, nil, `mseal(0x1000, 4096, 0) = 0`},
		{arch.Unknown, "", []uint64{1, 2, 3, 4, 5, 6}, 0, nil, nil, `syscall_0x9(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = 0`},
	} {
		call := Call{Arch: c.id, Nr: 9, Ret: c.ret, Returned: c.name != "exit_group", Bufs: c.bufs, FD: c.fd}
		if c.name != "" {
			call.Nr = nr(t, c.id, c.name)
		}
		copy(call.Args[:], c.args)
		if got := string(call.Append(nil)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if begin := call.Name() + "(" + string(call.AppendArgs(nil)) + ")"; !strings.HasPrefix(c.want, begin) {
			t.Errorf("name and arguments: %s\nof                  %s", begin, c.want)
		}
	}
}

func TestSignals(t *testing.T) {
	si := func(v ...uint32) []byte { return u32s(v...) }
	for _, c := range []struct {
		info []byte
		want string
	}{
		{si(11, 0, 1), `--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---`},
		{si(11, 0, 2, 0, 0x1000, 0x7f), `--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_ACCERR, si_addr=0x7f00001000} ---`},
		{si(11, 0, 4, 0, 0x1000, 0, 0, 0, 3), `--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_PKUERR, si_addr=0x1000, si_pkey=3} ---`},
		{si(17, 0, 1, 0, 99, 1000, 3), `--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=99, si_uid=1000, si_status=3, si_utime=0, si_stime=0} ---`},
		{si(17, 0, 2, 0, 99, 0, 9), `--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=99, si_uid=0, si_status=SIGKILL, si_utime=0, si_stime=0} ---`},
		{si(10, 0, 0, 0, 5, 6), `--- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=5, si_uid=6} ---`},
		{si(37, 0, 0xffffffff, 0, 5, 6, 7), `--- SIGRT_5 {si_signo=SIGRT_5, si_code=SI_QUEUE, si_pid=5, si_uid=6, si_int=7, si_ptr=0x7} ---`},
		{si(14, 0, 0xfffffffe, 0, 1, 2), `--- SIGALRM {si_signo=SIGALRM, si_code=SI_TIMER, si_timerid=1, si_overrun=2, si_int=0, si_ptr=NULL} ---`},
		{si(14, 0, 0x80), `--- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---`},
		{si(31, 0, 1, 0, 0x1000, 0, 59, 0xc000003e), `--- SIGSYS {si_signo=SIGSYS, si_code=SYS_SECCOMP, si_call_addr=0x1000, si_syscall=__NR_execve, si_arch=AUDIT_ARCH_X86_64} ---`},
		{nil, `--- 0 {si_signo=0, si_code=SI_USER, si_pid=0, si_uid=0} ---`},
	} {
		if got := string(AppendSignal(nil, c.info, arch.X86_64)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	s := ParseSigInfo(si(11, 0, 2, 0, 0x1000, 0x7f))
	if s.Signo != 11 || s.Addr != 0x7f00001000 || s.CodeName() != "SEGV_ACCERR" {
		t.Errorf("%+v", s)
	}
}

// memory is a program's memory for a Collector.
type memory map[addr.Addr][]byte

func (m memory) read(p []byte, a addr.Addr) (n int) {
	for n < len(p) {
		found := false
		for start, b := range m {
			if at := a + addr.Addr(n); at >= start && at < start+addr.Addr(len(b)) {
				n += copy(p[n:], b[at-start:])
				found = true
			}
		}
		if !found {
			break
		}
	}
	return n
}

func TestCollector(t *testing.T) {
	page := make([]byte, 4096)
	copy(page[4090:], "/a/b\x00")
	m := memory{
		0x1000: page,
		0x3000: words(arch.X86_64, 0x4000, 0x4010, 0),
		0x4000: append([]byte("prog\x00"), make([]byte, 100)...),
		0x4800: []byte("never ends"),
		0x5000: words(arch.X86_64, 0x4000, 4, 0x4001, 2),
		0x6000: u32s(64),
		0x7000: u32s(1, 0x9000),
		0x9000: u32s(1, 1, 0),
	}
	x, i := arch.X86_64, arch.I386
	for _, c := range []struct {
		id    arch.ID
		name  string
		args  []uint64
		level Level
		ret   int64
		want  string
	}{
		{x, "chdir", []uint64{0x1ffa}, LevelPath, 0, `chdir("/a/b") = 0`},
		{x, "chdir", []uint64{0x4800}, LevelPath, 0, `chdir("never ends"...) = 0`},
		{x, "chdir", []uint64{0x8000}, LevelPath, -14, `chdir(0x8000) = -1 EFAULT (Bad address)`},
		{x, "execve", []uint64{0x4000, 0x3000, 0}, LevelPath, 0, `execve("prog", ["prog", ""], NULL) = 0`},
		{x, "write", []uint64{1, 0x4000, 4}, LevelStruct, 4, `write(1, 0x4000, 4) = 4`},
		{x, "write", []uint64{1, 0x4000, 4}, LevelData, 4, `write(1, "prog", 4) = 4`},
		{x, "read", []uint64{1, 0x4000, 100}, LevelData, 4, `read(1, "prog", 100) = 4`},
		{x, "read", []uint64{1, 0x4000, 100}, LevelData, -11, `read(1, 0x4000, 100) = -1 EAGAIN (Resource temporarily unavailable)`},
		{x, "writev", []uint64{1, 0x5000, 2}, LevelData, 6, `writev(1, [{iov_base="prog", iov_len=4}, {iov_base="ro", iov_len=2}], 2) = 6`},
		{x, "readv", []uint64{1, 0x5000, 2}, LevelData, 5, `readv(1, [{iov_base="prog", iov_len=4}, {iov_base="r", iov_len=2}], 2) = 5`},
		{i, "socketcall", []uint64{1, 0x9000}, LevelPath, 3, `socket(AF_UNIX, SOCK_STREAM, 0) = 3`},
		{x, "write", []uint64{1, 0x4000, 1 << 60}, LevelData, 1, `write(1, "prog\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"..., 1152921504606846976) = 1`},
	} {
		k := Collector{Read: m.read, Level: c.level}
		call := Call{Arch: c.id, Nr: nr(t, c.id, c.name), Ret: c.ret}
		copy(call.Args[:], c.args)
		k.Enter(&call)
		call.Returned = true
		k.Exit(&call)
		if got := string(call.Append(nil)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestCollectorAllocs(t *testing.T) {
	k := Collector{Read: func(p []byte, _ addr.Addr) int { copy(p, "/some/path\x00"); return len(p) }, Level: LevelData}
	call := Call{Arch: arch.X86_64, Nr: nr(t, arch.X86_64, "openat"), Args: [6]uint64{0, 0x1000}, Returned: true}
	if n := testing.AllocsPerRun(100, func() { k.Enter(&call); k.Exit(&call) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	b := make([]byte, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { b = call.Append(b[:0]) }); n > 1 {
		t.Errorf("%v allocations a line", n)
	}
}

// Every signature has a call of its name and as many arguments as that takes.
func TestSignaturesFit(t *testing.T) {
	for key := range signatureLines() {
		name, at, _ := strings.Cut(key, "@")
		found := at == "sub" || name == "send" || name == "recv"
		for id := arch.X86_64; id <= arch.AArch64; id++ {
			if _, ok := id.Number(name); ok {
				found = true
			}
		}
		if !found {
			t.Errorf("no call %s", key)
		}
	}
	for id := arch.X86_64; id <= arch.AArch64; id++ {
		for nr, c := range id.Syscalls() {
			s := lookup(id, nr)
			if s == nil || s.name != c.Name {
				t.Fatalf("%v %d: no signature", id, nr)
			}
			last := 0
			for _, w := range s.words {
				last = int(w.reg) + 1
				if w.def.two || w.def.wide && id == arch.I386 {
					last++
				}
				if w.def == nil || w.def.print == nil {
					t.Errorf("%v %s: a word that shows nothing", id, c.Name)
				}
			}
			if last > 6 {
				t.Errorf("%v %s takes %d registers", id, c.Name, last)
			}
			if last != int(c.NArg) && c.Name != "sigsuspend" {
				t.Logf("%v %s: signature has %d registers, table %d", id, c.Name, last, c.NArg)
			}
			for _, cp := range s.caps {
				if int(cp.Arg) >= 6 || int(cp.N) >= 6 {
					t.Errorf("%v %s: capture %+v", id, c.Name, cp)
				}
				if cp.What == readBytes && cp.Len == 0 {
					t.Errorf("%v %s: capture of nothing %+v", id, c.Name, cp)
				}
			}
		}
	}
}

func TestFlagTables(t *testing.T) {
	for name, f := range allFlags() {
		for _, n := range f.names {
			if strings.ContainsAny(n.name, " \t") || n.name == "" {
				t.Errorf("%s: %q", name, n.name)
			}
		}
	}
}

// What each advice does, by the names of its numbers.
func TestAdvice(t *testing.T) {
	want := map[string]arch.Advice{
		"MADV_DONTNEED": arch.Drops | arch.LeavesZeros, "MADV_DONTNEED_LOCKED": arch.Drops | arch.LeavesZeros,
		"MADV_FREE": arch.DropsLater, "MADV_REMOVE": arch.Drops, "MADV_GUARD_INSTALL": arch.Drops,
		"MADV_WIPEONFORK": arch.WipesOnFork, "MADV_KEEPONFORK": arch.KeepsOnFork,
	}
	for n := range uint64(1000) {
		name := flagTable("madvise").Name(n)
		if got := arch.AdviceOf(n); got != want[name] {
			t.Errorf("%d, %s: %#x, want %#x", n, name, got, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
	if arch.AdviceOf(1<<32|8) != arch.DropsLater {
		t.Error("more than 32 bits of an advice count")
	}
}

func FuzzAppend(f *testing.F) {
	for _, s := range savedCalls(f) {
		c := s.call()
		raw := binary.LittleEndian.AppendUint32([]byte{byte(c.Arch)}, c.Nr)
		raw = binary.LittleEndian.AppendUint64(raw, uint64(c.Ret))
		raw = append(raw, words(arch.X86_64, c.Args[:]...)...)
		for _, b := range c.Bufs {
			raw = append(raw, b.Arg, byte(len(b.Data)))
			raw = append(raw, b.Data[:min(len(b.Data), 255)]...)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 61 {
			return
		}
		v := view{raw, 8}
		c := Call{Arch: arch.ID(raw[0] & 3), Nr: v.u32(1) % 520, Ret: int64(v.u64(5)), Returned: raw[0]&4 == 0}
		for i := range c.Args {
			c.Args[i] = v.u64(13 + 8*i)
		}
		c.FD = func(fd int32) string { return "\x1b[31m" }
		c.Netlink = func(fd int32) (int, bool) { return int(fd & 15), fd&16 != 0 }
		rest := raw[61:]
		for len(rest) >= 2 {
			n := min(int(rest[1]), len(rest)-2)
			a := addr.Addr(0)
			if i := int(rest[0] & 7); i < 6 {
				a = addr.Addr(c.Args[i])
			}
			c.Bufs = append(c.Bufs, Buf{Arg: rest[0] & 0x3f, Out: rest[0]&0x80 != 0, More: rest[0]&0x40 != 0, Addr: a, Data: rest[2 : 2+n]})
			rest = rest[2+n:]
		}
		out := c.Append(nil)
		for _, b := range out {
			if b < ' ' || b >= 0x7f {
				t.Fatalf("control byte %#x in %q", b, out)
			}
		}
		AppendSignal(nil, raw, c.Arch)
		var fds FDs
		fds.Apply(&c)
		k := Collector{Level: LevelData, MaxData: 1 << 12, Read: func(p []byte, a addr.Addr) int { return copy(p, raw[int(a%61):]) }}
		k.Enter(&c)
		k.Exit(&c)
		c.Append(out[:0])
	})
}
