//go:build linux

package ring

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
)

func TestParseConds(t *testing.T) {
	for _, c := range []struct {
		text string
		want cond
	}{
		{"signal", cond{kind: onFatal}},
		{"exit", cond{kind: onExit}},
		{"exit!=0", cond{kind: onStatus}},
		{"sigusr2", cond{kind: onUser}},
		{"signal=USR2", cond{kind: onSignal, signo: 12}},
		{"signal=sigterm", cond{kind: onSignal, signo: 15}},
		{"signal=34", cond{kind: onSignal, signo: 34}},
		{"errno=ENOMEM", cond{kind: onErrno, errno: 12}},
		{"mark=a b", cond{kind: onMark, name: "a b"}},
		{"rss>2G", cond{kind: onRSS, bytes: 2 << 30}},
		{"rss>4096", cond{kind: onRSS, bytes: 4096}},
		{"rss+500M/min", cond{kind: onGrowth, bytes: 500 << 20, limit: time.Minute}},
		{"rss+1k/s", cond{kind: onGrowth, bytes: 1024, limit: time.Second}},
		{"slow=fsync>1s", cond{kind: onSlow, limit: time.Second}},
	} {
		got, err := parseConds(" " + c.text)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		g := got[0]
		if c.want.kind == onSlow && (!g.calls.Has(arch.X86_64, 74) || g.calls.Has(arch.X86_64, 1)) {
			t.Errorf("%s: not fsync alone", c.text)
		}
		g.calls = arch.Set{}
		c.want.text = c.text
		if fmt.Sprint(g) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.text, g, c.want)
		}
	}
	for _, text := range []string{"", "signal,", "signal=", "signal=0", "signal=65", "signal=NOSUCH", "errno=", "errno=2", "errno=ENOSUCH", "mark=", "mark", "exit=1", "rss", "rss>", "rss>0",
		"rss>-1", "rss>2X", "rss>99999999999G", "rss+1M", "rss+1M/day", "slow=", "slow=fsync", "slow=fsync>", "slow=fsync>5", "slow=nosuchcall>1s", "sigusr1"} {
		if got, err := parseConds(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if list, err := parseConds(DefaultConds); err != nil || len(list) != 3 {
		t.Errorf("%v %v", list, err)
	}
}

func TestConds(t *testing.T) {
	one := func(text string) *cond {
		t.Helper()
		c, err := parseCond(text)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	write := func(fd int32, text string) *format.Syscall {
		return &format.Syscall{Arch: arch.X86_64, Nr: 1, Returned: true, Args: [6]uint64{uint64(uint32(fd))}, Bufs: []format.Buf{{Data: []byte(text)}}}
	}
	for i, c := range []struct {
		cond string
		call format.Syscall
		want bool
	}{
		{"mark=x", *write(-1, "memtrace: x"), true},
		{"mark=x", *write(-1, "memtrace: x\n"), true},
		{"mark=x", *write(-1, "memtrace: xy"), false},
		{"mark=x", *write(2, "memtrace: x"), false},
		{"mark=x", *write(-1, "x"), false},
		{"errno=ENOENT", format.Syscall{Returned: true, Ret: -2}, true},
		{"errno=ENOENT", format.Syscall{Ret: -2}, false},
		{"errno=ENOENT", format.Syscall{Returned: true, Ret: 2}, false},
		{"slow=fsync>1s", format.Syscall{Arch: arch.X86_64, Nr: 74, Returned: true, Enter: 1e9}, true}, // at 3 s
		{"slow=fsync>2s", format.Syscall{Arch: arch.X86_64, Nr: 74, Returned: true, Enter: 1e9}, false},
		{"slow=fsync>1s", format.Syscall{Arch: arch.X86_64, Nr: 75, Returned: true, Enter: 1e9}, false},
		{"slow=fsync>1s", format.Syscall{Arch: arch.X86_64, Nr: 74, Enter: 1e9}, false},
		{"slow=fsync>1s", format.Syscall{Arch: arch.X86_64, Nr: 74, Returned: true}, false}, // nobody knows when it began
		{"exit", format.Syscall{Arch: arch.X86_64, Nr: 231}, false},
	} {
		if got := one(c.cond).call(&c.call, 3e9); got != c.want {
			t.Errorf("%d: %s: %v", i, c.cond, got)
		}
	}
	for _, c := range []struct {
		cond       string
		status     unix.WaitStatus
		main, want bool
	}{
		{"signal", 11, false, true}, {"signal", 11, true, true}, {"signal", 1 << 8, true, false},
		{"exit", 0, true, true}, {"exit", 0, false, false}, {"exit", 11, true, true},
		{"exit!=0", 0, true, false}, {"exit!=0", 3 << 8, true, true}, {"exit!=0", 9, true, true}, {"exit!=0", 3 << 8, false, false},
		{"sigusr2", 0, true, false},
	} {
		if got := one(c.cond).end(c.status, c.main); got != c.want {
			t.Errorf("%s at the end with %x, main %v: %v", c.cond, int(c.status), c.main, got)
		}
	}
	if s := one("signal=USR2"); !s.signal(12, false) || !s.signal(12, true) || s.signal(10, true) {
		t.Error("signal=USR2")
	}
	if s := one("signal"); s.signal(12, false) || !s.signal(12, true) {
		t.Error("signal")
	}
}

// TestSampled: memory above a limit is one sample's matter, growth that of ten seconds.
func TestSampled(t *testing.T) {
	conds, err := parseConds("rss>64M,rss+60M/min")
	if err != nil {
		t.Fatal(err)
	}
	z := sized{}
	sample := func(seconds float64, pid uint32, mib int) string {
		m := &format.MemInfo{Samples: []format.Sample{{Source: "meminfo", Data: []byte("VmRSS: 1 kB\n")},
			{Source: "status", PID: pid, Data: fmt.Appendf(nil, "Name:\tx\nVmRSS:\t%8d kB\n", mib<<10)}, {Source: "status", PID: 9, Data: []byte("Name:\tx\n")}}}
		if c := z.sample(conds, m, uint64(seconds*1e9)); c != nil {
			return c.text
		}
		return ""
	}
	for i, c := range []struct {
		seconds float64
		pid     uint32
		mib     int
		want    string
	}{
		{0, 1, 10, ""}, {5, 1, 30, ""}, // fast, but for five seconds only
		{10, 1, 15, ""}, {12, 1, 40, "rss+60M/min"}, // 30 MiB in 12 s, where 12 are allowed
		{15.5, 1, 25, ""}, {20, 1, 40, ""}, // 10 MiB since 5 s
		{21, 2, 60, ""}, {22, 2, 65, "rss>64M"}, {23, 2, 30, ""},
	} {
		if got := sample(c.seconds, c.pid, c.mib); got != c.want {
			t.Errorf("sample %d: %q, want %q", i, got, c.want)
		}
	}
	sample(2*3600, 3, 1)
	if len(z) != 1 {
		t.Errorf("%d processes are remembered", len(z))
	}
}
