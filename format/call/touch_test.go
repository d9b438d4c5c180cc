package call

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// touchMemory is a program's memory with structures in it, from 0x10000 on.
func touchMemory(id arch.ID) func(p []byte, a addr.Addr) int {
	const base = 0x10000
	m := make([]byte, 0x10000)
	w := id.PointerSize()
	word := func(at int, v uint64) {
		if w == 4 {
			binary.LittleEndian.PutUint32(m[at-base:], uint32(v))
		} else {
			binary.LittleEndian.PutUint64(m[at-base:], v)
		}
	}
	copy(m[0x10ffc-base:], "/etc/passwd\x00") // crosses a page
	word(0x12000, 0x13000)                    // two struct iovec
	word(0x12000+w, 100)
	word(0x12000+2*w, 0x14000)
	word(0x12000+3*w, 50)
	binary.LittleEndian.PutUint32(m[0x15000-base:], 128) // a length
	word(0x16000, 0x17000)                               // struct msghdr: name, namelen, iov, iovlen, control, controllen
	word(0x16000+w, 16)
	word(0x16000+2*w, 0x12000)
	word(0x16000+3*w, 2)
	word(0x16000+4*w, 0x18000)
	word(0x16000+5*w, 64)
	for i, v := range []uint64{3, 0x12000, 77, 0} { // arguments of send
		binary.LittleEndian.PutUint32(m[0x19000-base+4*i:], uint32(v))
	}
	return func(p []byte, a addr.Addr) int {
		if a < base || a >= base+addr.Addr(len(m)) {
			return 0
		}
		return copy(p, m[a-base:])
	}
}

// TestTouches has calls with what the kernel accesses for them, before and after, by the
// man page of each: START-END, with a w where it writes.
func TestTouches(t *testing.T) {
	for _, c := range []struct {
		id      arch.ID
		name    string
		args    [6]uint64
		before  string
		unknown int
		ret     int64
		after   string
	}{
		{arch.X86_64, "read", [6]uint64{3, 0x13000, 8192}, "13000-15000w", 0, 10, "13000-1300aw"},
		{arch.X86_64, "read", [6]uint64{3, 0x13000, 8192}, "13000-15000w", 0, -4, ""},
		{arch.X86_64, "write", [6]uint64{3, 0x13000, 10}, "13000-1300a", 0, 10, "13000-1300a"},
		{arch.X86_64, "openat", [6]uint64{0xffffff9c, 0x10ffc}, "10ffc-11008", 0, 3, "10ffc-11008"},
		{arch.X86_64, "writev", [6]uint64{1, 0x12000, 2}, "12000-12020 13000-13064 14000-14032", 0, 150, "12000-12020 13000-13064 14000-14032"},
		{arch.X86_64, "readv", [6]uint64{1, 0x12000, 2}, "12000-12020 12000-12020 13000-13064w 14000-14032w", 0, 120, "12000-12020 12000-12020 13000-13064w 14000-14014w"},
		{arch.X86_64, "sendmsg", [6]uint64{3, 0x16000, 0}, "16000-16038w 17000-17010 18000-18040 12000-12020 13000-13064 14000-14032", 0, 150,
			"16000-16038w 17000-17010 18000-18040 12000-12020 13000-13064 14000-14032"},
		{arch.X86_64, "accept", [6]uint64{3, 0x17000, 0x15000}, "17000-17080w 15000-15004 15000-15004w", 0, 4, "17000-17080w 15000-15004 15000-15004w"},
		{arch.X86_64, "epoll_wait", [6]uint64{3, 0x13000, 10, 0}, "13000-13078w", 0, 2, "13000-13018w"},
		{arch.X86_64, "futex", [6]uint64{0x13000, 0, 1, 0x14000, 0x9999000}, "14000-14010 13000-13004w", 0, 0, "14000-14010 13000-13004w"},
		{arch.X86_64, "futex", [6]uint64{0x13000, 4, 1, 1, 0x14000}, "14000-14004w 13000-13004w", 0, 0, "14000-14004w 13000-13004w"},
		{arch.X86_64, "ioctl", [6]uint64{1, 0x5413, 0x13000}, "13000-13008 13000-13008w", 0, 0, "13000-13008 13000-13008w"},
		{arch.X86_64, "ioctl", [6]uint64{1, 0xc0de0001, 0x13000}, "13000-130de 13000-130dew", 2, 0, "13000-130de 13000-130dew"},
		{arch.X86_64, "mmap", [6]uint64{0x13000, 4096, 3, 0x32, ^uint64(0), 0}, "", 0, 0x13000, ""},
		{arch.X86_64, "sched_getaffinity", [6]uint64{0, 128, 0x13000}, "13000-13080w", 0, 32, "13000-13020w"},
		{arch.X86_64, "io_pgetevents", [6]uint64{7, 1, 4, 0x13000}, "13000-13080w", 0, 1, "13000-13020w"},
		{arch.I386, "io_pgetevents_time64", [6]uint64{7, 1, 4, 0x13000}, "13000-13080w", 0, 1, "13000-13020w"},
		{arch.I386, "getgroups", [6]uint64{10, 0x13000}, "13000-13014w", 0, 3, "13000-13006w"},
		{arch.X86_64, "getpid", [6]uint64{}, "", 0, 1, ""},
		{arch.X86_64, "mount", [6]uint64{0x10ffc, 0x10ffc, 0, 0, 0x13000}, "10ffc-11008 10ffc-11008 13000-13001", 3, -1, "10ffc-11008 10ffc-11008 13000-13001"},
		{arch.I386, "socketcall", [6]uint64{9, 0x19000}, "19000-19018 12000-1204d", 0, 77, "19000-19018 12000-1204d"},
		{arch.I386, "readv", [6]uint64{1, 0x12000, 2}, "12000-12010 12000-12010 13000-13064w 14000-14032w", 0, 100, "12000-12010 12000-12010 13000-13064w"},
	} {
		nr, ok := c.id.Number(c.name)
		if !ok {
			t.Fatalf("no call %s", c.name)
		}
		k := Toucher{Read: touchMemory(c.id)}
		x := Call{Arch: c.id, Nr: nr, Args: c.args}
		all, unknown := k.Touches(&x)
		if got := touchText(all); got != c.before || len(unknown) != c.unknown {
			t.Errorf("%v %s: before %q and %d unknown, want %q and %d", c.id, c.name, got, len(unknown), c.before, c.unknown)
		}
		x.Returned, x.Ret = true, c.ret
		if got := touchText(k.Touched(&x)); got != c.after {
			t.Errorf("%v %s = %d: after %q, want %q", c.id, c.name, c.ret, got, c.after)
		}
	}
	k := Toucher{Read: touchMemory(arch.X86_64)}
	if _, unknown := k.Touches(&Call{Arch: arch.X86_64, Nr: 9999, Args: [6]uint64{1, 2, 3, 4, 5, 6}}); len(unknown) != 6 {
		t.Errorf("a call that nobody knows has %d unknown arguments, want 6", len(unknown))
	}
}

func touchText(all []Touch) string {
	var parts []string
	for _, x := range all {
		s := fmt.Sprintf("%x-%x", uint64(x.Start), uint64(x.End))
		if x.Out {
			s += "w"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}
