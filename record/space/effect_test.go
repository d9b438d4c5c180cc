// This file compares the table of effects with the calls of format/arch.

package space

import (
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Every call that format/arch says may change mappings must have an effect, and
// every name in the table must be one of a call.
func TestEffects(t *testing.T) {
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			e := EffectOf(id, nr)
			switch {
			case c.Name == "execve" || c.Name == "execveat":
				if e != EffNone {
					t.Errorf("%v %s: effect %d, but it is served at its event", id, c.Name, e)
				}
			case c.Flags&arch.ChangesMM != 0 && !e.Maps():
				t.Errorf("%v %s changes mappings, its effect %d does not", id, c.Name, e)
			case c.Flags&arch.Renames != 0 && e != EffPaths:
				t.Errorf("%v %s renames files, its effect is %d", id, c.Name, e)
			}
		}
		if e := EffectOf(id, arch.MaxSyscall); e != EffNone {
			t.Errorf("%v: a call beyond the table has effect %d", id, e)
		}
	}
	if e := EffectOf(arch.AArch64, 222); e != EffNone {
		t.Errorf("mmap of an architecture that is not recorded has effect %d", e)
	}
	for name := range effectNames {
		_, on64 := arch.X86_64.Number(name)
		_, on32 := arch.I386.Number(name)
		if !on64 && !on32 && name != "old_mmap" {
			t.Errorf("no call is named %s", name)
		}
	}
	if nr, _ := arch.I386.Number("mmap"); EffectOf(arch.I386, nr) != effOldMap {
		t.Error("mmap of i386 takes its arguments in memory")
	}
}

func TestExclusive(t *testing.T) {
	for name, want := range map[string]struct{ exclusive, maps bool }{
		"getpid": {}, "mmap": {true, true}, "brk": {true, true}, "mlockall": {true, true}, "clone": {true, false},
		"ioctl": {false, true}, "rename": {false, true}, "process_madvise": {false, true}, "close": {}, "userfaultfd": {},
		"sched_setaffinity": {}, "execve": {},
	} {
		c := sys(name)
		e := EffectOf(c.Arch, c.Nr)
		if e.Exclusive() != want.exclusive || e.Maps() != want.maps {
			t.Errorf("%s: exclusive %v, maps %v", name, e.Exclusive(), e.Maps())
		}
	}
}

func TestSpan(t *testing.T) {
	for _, c := range []struct {
		a          addr.Addr
		n          uint64
		start, end addr.Addr
	}{
		{0x1000, 0x1000, 0x1000, 0x2000},
		{0x1000, 1, 0x1000, 0x2000},
		{0x1fff, 2, 0x1000, 0x3000},
		{0x1000, 0, 0x1000, 0x1000},
	} {
		if got := span(c.a, c.n); got.Start != c.start || got.End != c.end {
			t.Errorf("span(%v, %#x) = %v", c.a, c.n, got)
		}
	}
	if got := span(0x2000, 1<<63|1<<62|1<<61|^uint64(0)>>4); got.Start != 0x2000 || got.End < got.Start {
		t.Errorf("a span over the end is %v", got)
	}
}
