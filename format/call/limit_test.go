package call

import (
	"fmt"
	"strings"
	"testing"

	"memtrace/format/arch"
)

// kept runs a call through a collector and says what it keeps: "<" read by the
// call, ">" written, with "+" where there was more.
func kept(t *testing.T, k *Collector, id arch.ID, name string, ret int64, args ...uint64) string {
	t.Helper()
	c := Call{Arch: id, Nr: nr(t, id, name), Ret: ret}
	copy(c.Args[:], args)
	k.Enter(&c)
	c.Returned = true
	k.Exit(&c)
	var out []string
	for _, b := range c.Bufs {
		s := "<"
		if b.Out {
			s = ">"
		}
		s += fmt.Sprintf("%x:%d", uint64(b.Addr), len(b.Data))
		if b.More {
			s += "+"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// The limits are of a call as a whole, one for what it reads and one for what it
// writes; structures do not count.
func TestCollectorLimits(t *testing.T) {
	x, i := arch.X86_64, arch.I386
	m := memory{
		0x1000: words(x, 0x4000, 10, 0x4100, 10, 0x4200, 10, 0x4300, 10),
		0x2000: words(i, 0x4000, 10, 0x4100, 10),
		0x3000: words(x, 0, 0, 0x1000, 4, 0, 0, 0, 0), // a msghdr
		0x4000: make([]byte, 0x4000),
		0xc000: words(x, 0x1000, 0x9000, 0, 0, 17, 0, 0, 0), // clone_args with a pidfd
		0x9000: u32s(5, 0),
		0xa000: make([]byte, 100), // ends there
	}
	for _, c := range []struct {
		data, text int
		id         arch.ID
		name       string
		ret        int64
		args       []uint64
		want       string
	}{
		{100, 8, x, "read", 50, []uint64{3, 0x4000, 4096}, ">4000:50"},
		{40, 8, x, "read", 50, []uint64{3, 0x4000, 4096}, ">4000:40+"},
		{-1, 8, x, "read", 50, []uint64{3, 0x4000, 4096}, ""},
		{1000, 8, x, "read", 200, []uint64{3, 0xa000, 4096}, ">a000:100+"},
		{100, 8, x, "recvfrom", 90, []uint64{3, 0x4000, 50, 0x20}, ">4000:50"}, // MSG_TRUNC gives the length of the message
		{100, 8, x, "write", 50, []uint64{3, 0x4000, 50}, "<4000:8+"},
		{100, -1, x, "write", 50, []uint64{3, 0x4000, 50}, ""},
		{100, 8, x, "write", 5000, []uint64{2, 0x4000, 5000}, "<4000:4096+"}, // to standard error
		{100, 5000, x, "write", 5000, []uint64{2, 0x4000, 5000}, "<4000:5000"},
		{100, -1, x, "write", 50, []uint64{2, 0x4000, 50}, ""},
		{100, 8, i, "writev", 20, []uint64{2, 0x2000, 2}, "<2000:16 <4000:10 <4100:10"},
		{100, 15, x, "writev", 40, []uint64{3, 0x1000, 4}, "<1000:64 <4000:10 <4100:5+"},
		{100, 20, x, "writev", 40, []uint64{3, 0x1000, 4}, "<1000:64 <4000:10 <4100:10+"},
		{25, 8, x, "readv", 37, []uint64{3, 0x1000, 4}, "<1000:64 >4000:10 >4100:10 >4200:5+"},
		{20, 8, i, "readv", 13, []uint64{3, 0x2000, 2}, "<2000:16 >4000:10 >4100:3"},
		{-1, 8, x, "readv", 37, []uint64{3, 0x1000, 4}, "<1000:64"},
		{20, 8, x, "recvmsg", 35, []uint64{3, 0x3000, 0}, "<3000:56 >3000:56 <1000:64 >4000:10 >4100:10+"},
		{20, 8, x, "poll", 1, []uint64{0x4000, 3, 0}, "<4000:24 >4000:20+"},
		{1, 8, x, "fstat", 0, []uint64{3, 0x4000}, ">4000:144"},
		{-1, 8, x, "fstat", 0, []uint64{3, 0x4000}, ""},
		{1, 8, x, "getrlimit", 0, []uint64{3, 0x4000}, ">4000:16"},
		{100, 8, x, "read", -11, []uint64{3, 0x4000, 4096}, ""},
		{100, 8, x, "nanosleep", -4, []uint64{0x4000, 0x4010}, "<4000:16 >4010:16"},
		{100, 8, x, "futex", 0, []uint64{0x4000, 0x86, 0, 0}, ">4000:4"}, // FUTEX_LOCK_PI
		{100, 8, x, "futex", 0, []uint64{0x4000, 0x81, 1}, ""},
		{100, 8, x, "clone", 7, []uint64{0x100011, 0, 0x4000}, ">4000:4"},
		{100, 8, x, "sendmmsg", 1, []uint64{3, 0xb000, 2}, ""},
		// counts and lengths of a program are not believed
		{100, 8, x, "semop", -22, []uint64{3, 0x4000, 1 << 40}, "<4000:16384+"},
		{100, 8, x, "bpf", -22, []uint64{0, 0x4000, 1 << 60}, "<4000:128"},
		{100, 8, x, "bpf", -22, []uint64{5, 0x5000, 1 << 60}, "<5000:128"},
		{100, 8, x, "io_submit", -22, []uint64{3, 1 << 50, 0x6000}, "<6000:256"},
		{100, 8, i, "msgsnd", -22, []uint64{3, 0x4000, 0xffffffff}, "<4000:4 <4004:8+"},
		{100, 8, x, "clone3", 9, []uint64{0xc000, 64}, "<c000:64 >9000:4"},
		{200, 8, x, "ptrace", 0, []uint64{1, 7, 0, 0x4000}, ">4000:8"},
	} {
		k := Collector{Read: m.read, Level: LevelData, MaxData: c.data, MaxString: c.text}
		if got := kept(t, &k, c.id, c.name, c.ret, c.args...); got != c.want {
			t.Errorf("%s, limits %d and %d: %s, want %s", c.name, c.data, c.text, got, c.want)
		}
	}
}
