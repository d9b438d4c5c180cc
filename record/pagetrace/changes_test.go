//go:build linux

package pagetrace

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
	"memtrace/record/refs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

func pages(from, to addr.Addr) addr.Range {
	return addr.Range{Start: from << addr.PageShift, End: to << addr.PageShift}
}

// memoryOf is a RefMemory that has mappings and nothing else: who asks for more fails.
type memoryOf struct {
	RefMemory
	set *vma.Set
}

func (m memoryOf) Mappings() *vma.Set { return m.set }

// newSpace has a mapping of data, one that nobody may use, a heap, and a main stack in two pieces.
func newSpace(t *testing.T) *Space {
	t.Helper()
	const rw = addr.Read | addr.Write
	set, err := vma.NewSet([]vma.VMA{
		{Range: pages(0x10, 0x20), Prot: rw, Kind: vma.AnonPrivate},
		{Range: pages(0x30, 0x40), Kind: vma.AnonPrivate},
		{Range: pages(0x50, 0x60), Prot: rw, Kind: vma.Heap, Name: "[heap]"},
		{Range: pages(0x70, 0x74), Prot: addr.Read, Kind: vma.MainStack, Name: "[stack]"},
		{Range: pages(0x74, 0x80), Prot: rw, Kind: vma.MainStack, Name: "[stack]"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := NewSpace(&tracee.Space{Threads: map[*tracee.Thread]struct{}{nil: {}}}, memoryOf{set: set}, true)
	m.trace.Space = refs.New(addr.PageSize, 64)
	return &m
}

func callOf(t *testing.T, name string, ret int64, args ...uint64) *tracee.Call {
	t.Helper()
	nr, ok := arch.X86_64.Number(name)
	if !ok {
		t.Fatalf("no call %s", name)
	}
	c := &tracee.Call{Call: call.Call{Arch: arch.X86_64, Nr: nr, Ret: ret, Returned: true}}
	copy(c.Args[:], args)
	return c
}

const page = addr.PageSize

// TestChanged: what is not as the table says after a call, and what the kernel may join with it.
func TestChanged(t *testing.T) {
	all := addr.Range{End: space.UserEnd}
	around := func(from, to addr.Addr) []addr.Range { return []addr.Range{pages(from-1, from), pages(to, to+1)} }
	for _, x := range []struct {
		c            *tracee.Call
		beside, gone []addr.Range
	}{
		{callOf(t, "munmap", 0, 0x12*page, 2*page), nil, []addr.Range{pages(0x12, 0x14)}},
		{callOf(t, "munmap", -int64(unix.EINVAL), 0x12*page, 2*page), nil, []addr.Range{pages(0x12, 0x14)}},
		{callOf(t, "mmap", 0x22*page, 0, 2*page), around(0x22, 0x24), []addr.Range{pages(0x22, 0x24)}},
		{callOf(t, "mmap", -int64(unix.ENOMEM), 0, 2*page), nil, nil},
		{callOf(t, "mprotect", 0, 0x12*page, page, 1), nil, []addr.Range{pages(0x12, 0x13)}},
		{callOf(t, "mprotect", 0, 0x72*page, page, 1), nil, []addr.Range{pages(0x70, 0x74)}},
		{callOf(t, "mprotect", 0, 0x73*page, 2*page, 1), nil, []addr.Range{pages(0x70, 0x80)}},
		{callOf(t, "madvise", 0, 0x12*page, page, unix.MADV_DONTNEED), nil, nil},
		{callOf(t, "madvise", 0, 0x12*page, page, unix.MADV_FREE), nil, nil},
		{callOf(t, "madvise", 0, 0x12*page, page, unix.MADV_HUGEPAGE), nil, []addr.Range{pages(0x12, 0x13)}},
		{callOf(t, "mremap", 0x22*page, 0x12*page, page, 2*page, 1), around(0x22, 0x24), []addr.Range{pages(0x10, 0x20), pages(0x22, 0x24)}},
		{callOf(t, "mremap", -int64(unix.ENOMEM), 0x12*page, page, 2*page), nil, []addr.Range{pages(0x10, 0x20)}},
		{callOf(t, "brk", 0x58*page, 0x58*page), nil, []addr.Range{pages(0x58, 0x60)}},
		{callOf(t, "brk", 0x62*page, 0x62*page), nil, nil},
		{callOf(t, "shmdt", 0, 0x10*page), nil, []addr.Range{pages(0x10, 0x20)}},
		{callOf(t, "mlockall", 0, 1), nil, []addr.Range{all}},
		{callOf(t, "read", 8, 3, 0x12*page, 8), nil, nil},
	} {
		m := newSpace(t)
		beside, gone := m.changed(x.c, space.EffectOf(x.c.Arch, x.c.Nr))
		if !slices.Equal(beside, x.beside) || !slices.Equal(gone, x.gone) {
			t.Errorf("%s(%#x) = %d: beside %v, gone %v; want %v, %v", callName(x.c), x.c.Args, x.c.Ret, beside, gone, x.beside, x.gone)
		}
	}
}

// TestAbout: what has to be open before a call for the kernel to join and split.
func TestAbout(t *testing.T) {
	for _, x := range []struct {
		c    *tracee.Call
		want []addr.Range
		all  bool
	}{
		{callOf(t, "mprotect", 0, 0x12*page, page, 1), []addr.Range{pages(0x11, 0x14)}, false},
		{callOf(t, "mprotect", 0, 0x72*page, page, 1), []addr.Range{pages(0x6f, 0x75)}, false},
		{callOf(t, "madvise", 0, 0x12*page, page, unix.MADV_DONTNEED), nil, false},
		{callOf(t, "madvise", 0, 0x12*page, page, unix.MADV_HUGEPAGE), []addr.Range{pages(0x11, 0x14)}, false},
		{callOf(t, "mremap", 0, 0x12*page, page, 2*page, 3, 0x22*page), []addr.Range{pages(0xf, 0x21), pages(0x21, 0x25)}, false},
		{callOf(t, "brk", 0, 0x62*page), []addr.Range{pages(0x5e, 0x61)}, false},
		{callOf(t, "mlockall", 0, 1), nil, true},
		{callOf(t, "process_vm_readv", 0, 1), nil, true},
		{callOf(t, "prctl", 0, prSetMM, 1), nil, true},
		{callOf(t, "prctl", 0, 15), nil, false},
		{callOf(t, "getpid", 0), nil, false},
	} {
		m := newSpace(t)
		got, all := m.about(x.c, space.EffectOf(x.c.Arch, x.c.Nr))
		if !slices.Equal(got, x.want) || all != x.all {
			t.Errorf("%s(%#x): %v, all %v; want %v, %v", callName(x.c), x.c.Args, got, all, x.want, x.all)
		}
	}
}

// TestUnused: what nobody uses yet after a call, so that it can be written to.
func TestUnused(t *testing.T) {
	m := newSpace(t)
	if got := m.unused(callOf(t, "mmap", 0x22*page, 0, page), addr.Range{}); got != pages(0x22, 0x23) {
		t.Errorf("mmap: %v", got)
	}
	if got := m.unused(callOf(t, "mmap", -int64(unix.ENOMEM), 0, page), addr.Range{}); !got.Empty() {
		t.Errorf("mmap that failed: %v", got)
	}
	if got := m.dead(callOf(t, "mprotect", 0, 0x30*page, page, 3)); got != pages(0x30, 0x31) {
		t.Errorf("memory that nobody may use: %v", got)
	}
	if got := m.dead(callOf(t, "mprotect", 0, 0x10*page, page, 3)); !got.Empty() {
		t.Errorf("memory that somebody may use: %v", got)
	}
	if got := m.unused(callOf(t, "mprotect", 0, 0x30*page, page, 3), pages(0x30, 0x31)); got != pages(0x30, 0x31) {
		t.Errorf("mprotect of it: %v", got)
	}
	m.Threads[new(tracee.Thread)] = struct{}{}
	const fixed = unix.MAP_FIXED
	if got := m.unused(callOf(t, "mmap", 0x22*page, 0x22*page, page, 3, fixed), addr.Range{}); !got.Empty() {
		t.Errorf("mmap at a place that another thread may know: %v", got)
	}
}

// TestSpecial: which calls come back with a mask that is not the thread's.
func TestSpecial(t *testing.T) {
	for _, x := range []struct {
		name string
		ret  int64
		want bool
	}{
		{"ppoll", -int64(unix.EINTR), true}, {"ppoll", -514, true}, {"ppoll", 1, false}, {"ppoll", -int64(unix.EINVAL), false},
		{"poll", -int64(unix.EINTR), false}, {"rt_sigsuspend", -514, true},
	} {
		if got := special(callOf(t, x.name, x.ret)); got != x.want {
			t.Errorf("%s = %d: %v", x.name, x.ret, got)
		}
	}
}
