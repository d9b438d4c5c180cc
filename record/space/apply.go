// This file serves a call: which questions its effect asks, and what it means for
// the contents of memory.

package space

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Pending is what is known of a call only at its entry.
type Pending struct{ block mapArgs }

// mapArgs are the arguments of an mmap.
type mapArgs struct {
	at     addr.Addr
	length uint64
	flags  uint64
}

// Before looks at a call that is about to begin. Its result is for Apply.
func (t *Table) Before(c *call.Call, read Reader, w Watcher) (p Pending) {
	switch EffectOf(c.Arch, c.Nr) {
	case effOldMap:
		var b [24]byte
		if read(b[:], addr.Addr(c.Args[0])) == len(b) {
			word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[4*i:])) }
			p.block = mapArgs{at: addr.Addr(word(0)), length: word(1), flags: word(3)}
		}
	case effRemap:
		t.beforeRemap(remapArgsOf(c), w)
	}
	return p
}

// Apply asks the kernel what became of the mappings that a call may have changed,
// and tells w of it. It asks also after a failed call: some fail half way. Where
// somebody else may have changed the mappings since, an overdue call or a process
// that is not traced, the caller refreshes the table after it.
func (t *Table) Apply(c *call.Call, p Pending, read Reader, w Watcher) {
	a := &c.Args
	ret, ok := result(c)
	place := span(addr.Addr(a[0]), a[1])
	switch EffectOf(c.Arch, c.Nr) {
	case effBrk:
		t.applyBrk(ret, w)
	case effMap:
		t.applyMap(mapArgs{at: addr.Addr(a[0]), length: a[1], flags: a[3]}, ret, ok, w)
	case effOldMap:
		t.applyMap(p.block, ret, ok, w)
	case effShadow:
		if ok {
			t.replaced(span(ret, a[1]), w)
		}
	case effUnmap:
		if !place.Empty() {
			w.Gone(place)
		}
		t.Ask(place, w)
	case effRemap:
		t.applyRemap(remapArgsOf(c), ret, ok, w)
	case effRange:
		t.Ask(place, w)
	case effAdvise:
		t.applyAdvice(place, arch.AdviceOf(a[2]), ok || c.Ret == -enomem, w)
	case effShmat:
		if ok {
			t.attached(ret, w)
		}
	case effIPC:
		t.applyIPC(a, ok, read, w)
	case effPrctl:
		t.applyPrctl(a, w)
	case effAll:
		w.Mapped(addr.Range{End: UserEnd})
		if !registersOnly(c) {
			t.Refresh(w)
		}
	case effIoctl:
		if a[1]>>8&0xff == uffdIoctl {
			t.Refresh(w)
		}
	case EffEverybody:
		if ok {
			processAdvised(c, read, w)
		}
	}
}

// result is what a call returned, and whether it did not fail.
func result(c *call.Call) (ret addr.Addr, ok bool) {
	ok = c.Ret < -arch.MaxErrno || c.Ret >= 0
	if c.Arch == arch.I386 {
		return addr.Addr(uint32(c.Ret)), ok
	}
	return addr.Addr(c.Ret), ok
}

// Numbers of the kernel's interface (include/uapi): the same on x86_64 and i386.
const (
	enomem           = 12
	mapGrowsDown     = 0x100      // MAP_GROWSDOWN
	uffdIoctl        = 0xaa       // the type of UFFDIO_*
	prSetMM          = 35         // PR_SET_MM
	prSetMemoryMerge = 67         // PR_SET_MEMORY_MERGE
	prSetVMA         = 0x53564d41 // PR_SET_VMA
	archGetGS        = 0x1004     // ARCH_GET_GS, the last of those that are about registers
	ipcShmat         = 21
	ipcShmdt         = 22
)

// registersOnly reports whether a call is an arch_prctl that changes or reads
// registers.
func registersOnly(c *call.Call) bool {
	const archPrctl = 158 // of x86_64
	return c.Arch == arch.X86_64 && c.Nr == archPrctl && c.Args[0] <= archGetGS
}

func (t *Table) applyBrk(brk addr.Addr, w Watcher) {
	old := t.brk
	t.brk = brk
	switch old {
	case 0:
		t.Refresh(w)
		return
	case brk:
		return
	}
	if at := (addr.Range{Start: min(old, brk), End: max(old, brk)}).PageAlign(); !at.Empty() {
		w.Mapped(at)
		t.Ask(at, w)
	}
	from, _ := old.PageUp() // the rest of the last page was there before
	to, _ := brk.PageUp()
	if from < to {
		w.Fresh(addr.Range{Start: from, End: to})
	}
}

func (t *Table) applyMap(m mapArgs, ret addr.Addr, ok bool, w Watcher) {
	if !ok { // what was at a fixed place may be gone
		t.Ask(span(m.at, m.length), w)
		return
	}
	at := span(ret, m.length)
	t.replaced(at, w)
	if m.flags&mapGrowsDown != 0 {
		t.grow = append(t.grow, at.End-1)
	}
}

// replaced asks about a place where a call has put something new: what was known
// of the contents there is void.
func (t *Table) replaced(at addr.Range, w Watcher) {
	if at.Empty() {
		return
	}
	t.clear(at, w)
	w.Mapped(at)
	t.Ask(at, w)
	w.Gone(at)
	w.Fresh(at)
}

// attached asks about a System V segment, whose size only the kernel knows.
func (t *Table) attached(at addr.Addr, w Watcher) {
	if v, ok, err := t.query(at); err == nil && ok && v.Start == at {
		t.replaced(v.Range, w)
		return
	}
	t.Refresh(w)
}

// applyIPC serves what i386 multiplexes through ipc (include/uapi/linux/ipc.h).
func (t *Table) applyIPC(a *[6]uint64, ok bool, read Reader, w Watcher) {
	switch a[0] & 0xffff {
	case ipcShmat:
		var b [4]byte
		if ok && read(b[:], addr.Addr(a[3])) == len(b) {
			t.attached(addr.Addr(binary.LittleEndian.Uint32(b[:])), w)
		}
	case ipcShmdt:
		t.Refresh(w)
	}
}

func (t *Table) applyPrctl(a *[6]uint64, w Watcher) {
	switch a[0] {
	case prSetVMA:
		t.Ask(span(addr.Addr(a[2]), a[3]), w)
	case prSetMM, prSetMemoryMerge:
		t.Refresh(w)
	}
}
