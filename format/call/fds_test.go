package call

import (
	"strings"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

func TestFDs(t *testing.T) {
	x := arch.X86_64
	var f FDs
	do := func(name string, ret int64, bufs []Buf, args ...uint64) {
		t.Helper()
		c := Call{Arch: x, Nr: nr(t, x, name), Ret: ret, Returned: true, Bufs: bufs}
		copy(c.Args[:], args)
		f.Apply(&c)
	}
	path := func(arg uint8, s string) []Buf { return []Buf{{Arg: arg, Data: []byte(s)}} }
	named := func(b []Buf, fd int32, s string) []Buf {
		return append(b, Buf{Arg: BufRetName, Out: true, Addr: addr.Addr(fd), Data: []byte(s)})
	}
	want := func(fd int32, name string) {
		t.Helper()
		got, ok := f.Name(fd)
		if got != name || ok != (name != "") {
			t.Errorf("fd %d = %q, %v; want %q", fd, got, ok, name)
		}
	}
	const cwd = ^uint64(99)
	do("chdir", 0, path(0, "/home//./user"), 1)
	want(AtFDCWD, "/home/user")
	do("openat", 3, path(1, "a/b"), cwd, 1, 0x80000)
	want(3, "/home/user/a/b")
	do("openat", 4, named(path(1, "b"), 4, "/real/b"), 3, 1, 0)
	want(4, "/real/b")
	do("openat", -2, path(1, "c"), cwd, 1, 0)
	do("dup2", 9, nil, 4, 9)
	want(9, "/real/b")
	do("dup2", 3, nil, 3, 3)
	do("fcntl", 10, nil, 3, 1030, 0)
	want(10, "/home/user/a/b")
	do("fcntl", 0, nil, 9, 2, 1) // F_SETFD
	do("pipe2", 0, named(named([]Buf{{Arg: 0, Out: true, Data: u32s(20, 21)}}, 20, "pipe:[7]"), 21, "pipe:[7]"), 1, 0)
	want(20, "pipe:[7]")
	want(21, "pipe:[7]")
	do("memfd_create", 30, path(0, "x"), 1, 0)
	want(30, "/memfd:x (deleted)")
	do("socket", 31, nil, 1, 1|oCloexec, 0)
	want(31, "socket")
	do("epoll_create1", 32, nil, 0)
	want(32, "anon_inode:[eventpoll]")

	control := append(words(x, 24), u32s(1, 1, 40, 41)...)
	header := words(x, 0, 0, 0, 0, 0x900, 24, 0)
	do("recvmsg", 1, named([]Buf{
		{Arg: 1, Out: true, Addr: 0x800, Data: header},
		{Arg: 1, Out: true, Addr: 0x900, Data: control},
	}, 41, "/passed"), 31, 0x800, 0)
	want(41, "/passed")

	child := f.Clone()
	do("close", 0, nil, 4)
	want(4, "")
	if name, ok := child.Name(4); !ok || name != "/real/b" {
		t.Errorf("the child lost fd 4: %q", name)
	}
	do("close_range", 0, nil, 20, 29, 4) // CLOEXEC
	want(20, "pipe:[7]")
	do("ioctl", 0, nil, 30, 0x5451)
	f.Exec()
	for _, fd := range []int32{3, 9, 10, 20, 21, 30, 31} {
		want(fd, "")
	}
	want(32, "anon_inode:[eventpoll]")
	do("close_range", 0, nil, 3, 0xffffffff, 0)
	for fd, e := range f.m {
		if fd >= 0 {
			t.Errorf("%d %s is left", fd, e.name)
		}
	}
	want(AtFDCWD, "/home/user")
}

func TestMadeFDs(t *testing.T) {
	x := arch.X86_64
	made := func(c Call) (out []int32) {
		c.Returned = true
		c.MadeFDs(func(fd int32, _ bool) { out = append(out, fd) })
		return out
	}
	if got := made(Call{Arch: x, Nr: nr(t, x, "openat"), Ret: 5}); len(got) != 1 || got[0] != 5 {
		t.Errorf("openat made %v", got)
	}
	if got := made(Call{Arch: x, Nr: nr(t, x, "fcntl"), Args: [6]uint64{3, 3}, Ret: 5}); got != nil {
		t.Errorf("F_GETFL made %v", got)
	}
	if got := made(Call{Arch: x, Nr: nr(t, x, "close"), Ret: 0}); got != nil {
		t.Errorf("close made %v", got)
	}
	i := arch.I386
	c := Call{Arch: i, Nr: nr(t, i, "socketcall"), Args: [6]uint64{5, 0x1000}, Ret: 6, Bufs: []Buf{{Arg: BufArgs, Data: u32s(3, 0, 0)}}}
	if got := made(c); len(got) != 1 || got[0] != 6 {
		t.Errorf("accept in socketcall made %v", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	calls := savedCalls(b)
	var buf []byte
	list := make([]*Call, len(calls))
	for i := range calls {
		list[i] = calls[i].call()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = list[i%len(list)].Append(buf[:0])
	}
}

func BenchmarkCollector(b *testing.B) {
	page := []byte("/usr/include/x86_64-linux-gnu\x00")
	k := Collector{Read: func(p []byte, _ addr.Addr) int { return copy(p, page) }}
	n, _ := arch.X86_64.Number("newfstatat")
	c := Call{Arch: arch.X86_64, Nr: n, Args: [6]uint64{5, 0x1000, 0x2000, 0}, Returned: true}
	b.ReportAllocs()
	for b.Loop() {
		k.Enter(&c)
		k.Exit(&c)
	}
}

// TestSignatures parses the signature of each call of each architecture.
func TestSignatures(t *testing.T) {
	for id := arch.X86_64; id <= arch.AArch64; id++ {
		for nr, c := range id.Syscalls() {
			if s := lookup(id, nr); s == nil || s.name != c.Name || s != lookup(id, nr) {
				t.Errorf("%v: call %d, %s: %+v", id, nr, c.Name, s)
			}
		}
	}
}

func BenchmarkSignatures(b *testing.B) {
	for b.Loop() {
		for _, c := range arch.X86_64.Syscalls() {
			newSig(arch.X86_64, c, signatureLines())
		}
	}
}

// TestFiles: which files a call names, by paths and by descriptors.
func TestFiles(t *testing.T) {
	names := map[int32]string{AtFDCWD: "/home", 3: "/etc/passwd", 4: "/srv", 5: "socket"}
	path := func(arg uint8, s string) Buf { return Buf{Arg: arg, Data: []byte(s)} }
	cwd := uint64(1<<64 - 100)
	for _, c := range []struct {
		name string
		args [6]uint64
		bufs []Buf
		want string
	}{
		{"openat", [6]uint64{cwd, 1}, []Buf{path(1, "a/./b")}, "/home/a/b"},
		{"openat", [6]uint64{4, 1}, []Buf{path(1, "x")}, "/srv/x"},
		{"openat", [6]uint64{4, 1}, []Buf{path(1, "/x")}, "/x"},
		{"openat", [6]uint64{9, 1}, []Buf{path(1, "x")}, "x"},
		{"open", [6]uint64{1}, []Buf{path(0, "x")}, "/home/x"},
		{"renameat", [6]uint64{4, 1, cwd, 2}, []Buf{path(1, "x"), path(3, "y")}, "/srv/x /home/y"},
		{"newfstatat", [6]uint64{3, 1}, []Buf{path(1, "")}, "/etc/passwd"},
		{"read", [6]uint64{3}, nil, "/etc/passwd"},
		{"read", [6]uint64{9}, nil, ""},
		{"sendfile", [6]uint64{5, 3}, nil, "socket /etc/passwd"},
		{"mmap", [6]uint64{0, 4096, 3, 2, 3}, nil, "/etc/passwd"},
		{"getpid", [6]uint64{}, nil, ""},
	} {
		nr, ok := arch.X86_64.Number(c.name)
		if !ok {
			t.Fatal(c.name)
		}
		call := Call{Arch: arch.X86_64, Nr: nr, Args: c.args, Bufs: c.bufs, FD: func(fd int32) string { return names[fd] }}
		var got []string
		call.Files(func(name string, _ bool) { got = append(got, name) })
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
