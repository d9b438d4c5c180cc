//go:build linux

package record

import (
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/ptrace"
)

// Every call that format/arch says may change mappings must have an effect, and
// every name in the table must be one of a call.
func TestEffects(t *testing.T) {
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			e := effectOf(id, nr)
			switch {
			case c.Name == "execve" || c.Name == "execveat":
				if e != effNone {
					t.Errorf("%v %s: effect %d, but it is served at its event", id, c.Name, e)
				}
			case c.Flags&arch.ChangesMM != 0 && !e.maps():
				t.Errorf("%v %s changes mappings, its effect %d does not", id, c.Name, e)
			case c.Flags&arch.Renames != 0 && e != effPaths:
				t.Errorf("%v %s renames files, its effect is %d", id, c.Name, e)
			}
		}
		if e := effectOf(id, arch.MaxSyscall); e != effNone {
			t.Errorf("%v: a call beyond the table has effect %d", id, e)
		}
	}
	for name := range effectNames {
		_, on64 := arch.X86_64.Number(name)
		_, on32 := arch.I386.Number(name)
		if !on64 && !on32 && name != "old_mmap" {
			t.Errorf("no call is named %s", name)
		}
	}
	for _, name := range blocking {
		_, on64 := arch.X86_64.Number(name)
		_, on32 := arch.I386.Number(name)
		if !on64 && !on32 {
			t.Logf("no call is named %s", name)
		}
	}
	if nr, _ := arch.I386.Number("mmap"); effectOf(arch.I386, nr) != effOldMap {
		t.Error("mmap of i386 takes its arguments in memory")
	}
}

// A filter must stop every call that the recorder has to see.
func TestStops(t *testing.T) {
	set := New(nil, Options{Follow: true}).stops()
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			if e := effectOf(id, nr); e != effNone && e != effIoctl && !set.Has(id, nr) {
				t.Errorf("%v %s has effect %d and is not seen with a filter", id, c.Name, e)
			}
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

func TestShared(t *testing.T) {
	for _, c := range []struct {
		v    vma.VMA
		want bool
	}{
		{vma.VMA{Kind: vma.AnonPrivate, Prot: addr.Read | addr.Write}, false},
		{vma.VMA{Kind: vma.AnonShared, Prot: addr.Read | addr.Shared}, true},
		{vma.VMA{Kind: vma.FileShared, Prot: addr.Read | addr.Shared}, true},
		{vma.VMA{Kind: vma.FilePrivate, Prot: addr.Read}, false},
		{vma.VMA{Kind: vma.Memfd, Prot: addr.Read}, true}, // private, of memory that others write
		{vma.VMA{Kind: vma.POSIXShm, Prot: addr.Read}, true},
	} {
		if got := shared(c.v); got != c.want {
			t.Errorf("shared(%v %v) = %v", c.v.Kind, c.v.Prot, got)
		}
	}
}

// The registers of a 32-bit thread come from where ptrace has them for a 64-bit
// tracer, without what is above 32 bits.
func TestRegistersOf(t *testing.T) {
	var regs ptrace.Regs
	for i, name := range arch.X86_64.Registers() {
		regs[i] = 0xdead_0000_0000 + uint64(i)<<8 + uint64(name[0])
	}
	var buf [27]uint64
	wide := map[string]string{
		"ebx": "rbx", "ecx": "rcx", "edx": "rdx", "esi": "rsi", "edi": "rdi", "ebp": "rbp", "eax": "rax",
		"orig_eax": "orig_rax", "eip": "rip", "esp": "rsp",
	}
	at := map[string]uint64{}
	for i, name := range arch.X86_64.Registers() {
		at[name] = regs[i]
	}
	got := registersOf(arch.I386, &regs, &buf)
	for i, name := range arch.I386.Registers() {
		from, ok := wide[name]
		if !ok {
			from = name
		}
		want, ok := at[from]
		if !ok {
			t.Logf("%s has no counterpart", name)
			continue
		}
		if got[i] != uint64(uint32(want)) {
			t.Errorf("%s = %#x, want %#x", name, got[i], uint32(want))
		}
	}
}

func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		orig, rax int64
		want      bool
	}{
		{232, -4, true}, {232, 0xffff_fffc, true}, {232, 0, false}, {232, -512, false}, {-1, -4, false}, {0xffff_ffff, 0xffff_fffc, false},
	} {
		var regs ptrace.Regs
		regs[ptrace.RegOrigRAX], regs[ptrace.RegRAX] = uint64(c.orig), uint64(c.rax)
		if got := interrupted(&regs); got != c.want {
			t.Errorf("interrupted(orig_rax %d, rax %d) = %v", c.orig, c.rax, got)
		}
	}
}
