//go:build linux

// This file says of each call what it may change of the mappings, and what it has changed.

package pagetrace

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/refs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Operations of prctl(2) that change mappings.
const (
	prSetMM  = 35
	prSetVMA = 0x53564d41
)

// callName is the name of a call; "" for one that no table has.
func callName(c *tracee.Call) string {
	row, _ := c.Arch.Syscall(c.Nr)
	return row.Name
}

// special reports whether a call has come back interrupted that had other signals blocked
// than its thread has: the kernel has still to set them back.
func special(c *tracee.Call) bool {
	if c.Ret != -4 && (c.Ret > -512 || c.Ret < -516) {
		return false
	}
	return changesMask(callName(c))
}

func changesMask(name string) bool {
	switch name {
	case "rt_sigsuspend", "sigsuspend", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "epoll_pwait", "epoll_pwait2",
		"io_pgetevents", "io_pgetevents_time64", "io_uring_enter":
		return true
	}
	return false
}

// isShm says whether an operation of i386's ipc attaches or detaches System V memory.
func isShm(op uint64) bool { return op&0xffff == 21 || op&0xffff == 22 }

// withStack is a range with all of the main stack, if it has a part of that: the kernel
// gives the name to the piece alone that the program's arguments are in.
func (m *Space) withStack(r addr.Range) addr.Range {
	for v := range m.Mappings().Overlapping(r) {
		if v.Kind == vma.MainStack {
			r = r.Union(v.Range)
		}
	}
	return r
}

// beside is a range with a block more on each side.
func (m *Space) beside(r addr.Range) []addr.Range {
	if r.Empty() {
		return nil
	}
	g := addr.Addr(m.trace.Granule())
	r = m.trace.Align(r)
	r.Start -= min(g, r.Start)
	if r.End+g > r.End {
		r.End += g
	}
	return []addr.Range{r}
}

// about are the ranges around what a call changes of the mappings: the kernel may split
// what is there, and join it with what lies beside.
func (m *Space) about(c *tracee.Call, effect space.Effect) (rs []addr.Range, all bool) {
	name := callName(c)
	a := &c.Args
	switch name {
	case "mprotect", "pkey_mprotect", "mlock", "mlock2", "munlock", "mbind", "mseal", "remap_file_pages", "set_mempolicy_home_node":
		return m.beside(m.withStack(addr.Reach(addr.Addr(a[0]), a[1]))), false
	case "madvise":
		if arch.AdviceOf(a[2]).Is(arch.Drops | arch.DropsLater) {
			return nil, false
		}
		return m.beside(addr.Reach(addr.Addr(a[0]), a[1])), false
	case "mremap":
		for v := range m.Mappings().Overlapping(addr.Reach(addr.Addr(a[0]), max(1, a[1]))) {
			rs = append(rs, m.beside(v.Range)...)
		}
		if a[3]&2 != 0 { // MREMAP_FIXED
			rs = append(rs, m.beside(addr.Reach(addr.Addr(a[4]), a[2]))...)
		}
		return rs, false
	case "brk":
		for v := range m.Mappings().All() {
			if v.Kind == vma.Heap {
				rs = append(rs, m.beside(addr.Range{Start: v.End - 1, End: v.End})...)
			}
		}
		return rs, false
	case "prctl":
		if a[0] == prSetVMA {
			return m.beside(addr.Reach(addr.Addr(a[2]), a[3])), false
		}
		return nil, a[0] == prSetMM
	case "mlockall", "munlockall", "io_setup", "process_madvise":
		return nil, true
	case "ipc":
		return nil, isShm(a[0])
	case "process_vm_readv", "process_vm_writev":
		return nil, true // it may be its own memory
	}
	return nil, false
}

// changed says what a completed call has changed of the mappings: what lies beside, which
// the kernel may join with it if it is open, and what is not as the table says any more.
func (m *Space) changed(c *tracee.Call, effect space.Effect) (beside, gone []addr.Range) {
	a, ok := &c.Args, c.Failed() == 0
	ret := addr.Addr(c.Ret)
	if c.Arch == arch.I386 {
		ret = addr.Addr(uint32(c.Ret))
	}
	around := func(r addr.Range) {
		r = r.PageAlign()
		g := addr.Addr(m.trace.Granule())
		beside = append(beside, addr.Range{Start: r.Start - min(g, r.Start), End: r.Start}, addr.Range{Start: r.End, End: r.End + g})
	}
	switch callName(c) {
	case "mmap", "mmap2":
		n := a[1]
		if c.Arch == arch.I386 && callName(c) == "mmap" {
			n = m.oldMapLength(a[0])
		}
		if ok {
			around(addr.Reach(ret, n))
			gone = append(gone, addr.Reach(ret, n))
		}
	case "map_shadow_stack":
		if ok {
			gone = append(gone, addr.Reach(ret, a[1]))
		}
	case "munmap":
		gone = append(gone, addr.Reach(addr.Addr(a[0]), a[1]))
	case "mprotect", "pkey_mprotect", "mlock", "mlock2", "munlock", "mbind", "mseal", "remap_file_pages", "set_mempolicy_home_node":
		gone = append(gone, m.withStack(addr.Reach(addr.Addr(a[0]), a[1])))
	case "madvise":
		if !arch.AdviceOf(a[2]).Is(arch.Drops | arch.DropsLater) {
			gone = append(gone, addr.Reach(addr.Addr(a[0]), a[1]))
		}
	case "mremap":
		for v := range m.Mappings().Overlapping(addr.Reach(addr.Addr(a[0]), max(1, a[1]))) {
			gone = append(gone, v.Range)
		}
		if ok {
			gone = append(gone, addr.Reach(ret, a[2]))
		}
		if ok {
			around(addr.Reach(ret, a[2]))
		}
	case "brk":
		for v := range m.Mappings().All() {
			if v.Kind == vma.Heap && ret < v.End && ret > v.Start {
				gone = append(gone, addr.Range{Start: ret, End: v.End})
			}
		}
	case "shmat":
		if ok {
			around(addr.Range{Start: ret, End: ret + 1})
			gone = append(gone, addr.Range{Start: ret, End: ret + 1})
		}
	case "shmdt":
		if v, found := m.Mappings().Find(addr.Addr(a[0])); found && ok {
			gone = append(gone, v.Range)
		}
	case "prctl":
		if a[0] == prSetVMA {
			gone = append(gone, addr.Reach(addr.Addr(a[2]), a[3]))
		} else if a[0] == prSetMM {
			gone = append(gone, addr.Range{End: space.UserEnd})
		}
	case "mlockall", "munlockall", "io_setup", "process_madvise":
		gone = append(gone, addr.Range{End: space.UserEnd})
	case "ipc":
		if isShm(a[0]) {
			gone = append(gone, addr.Range{End: space.UserEnd})
		}
	case "ioctl": // a userfaultfd of the program
		if a[1]>>8&0xff == 0xaa {
			gone = append(gone, addr.Range{End: space.UserEnd})
		}
	}
	return beside, gone
}

// oldMapLength is the length that i386's first mmap has in memory.
func (m *Space) oldMapLength(at uint64) uint64 {
	var b [4]byte
	if n, err := m.Kernel().ReadMem(b[:], addr.Addr(uint32(at)+4)); err != nil || n != len(b) {
		return 1 << 32
	}
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

// changing reports whether another thread is in a call that may be changing what is mapped
// in a block.
func (m *Space) changing(t *tracee.Thread, block addr.Range) bool {
	if len(m.Threads) == 1 {
		return false
	}
	rs := m.mayChange(t)
	return rs.Overlaps(block)
}

// mayChange is where calls of threads other than t may be changing what is mapped.
func (m *Space) mayChange(t *tracee.Thread) (rs addr.Set) {
	for u := range m.Threads {
		c := u.Call()
		if u == t || c == nil || u.State() == tracee.Queued {
			continue
		}
		if e := space.EffectOf(c.Arch, c.Nr); e == space.EffClone || !e.Exclusive() {
			continue
		}
		switch callName(c) {
		case "mmap", "mmap2", "munmap", "mprotect", "pkey_mprotect", "madvise", "mlock", "mlock2", "munlock":
			rs.Add(addr.Reach(addr.Addr(c.Args[0]), max(1, c.Args[1])).PageAlign())
		case "mremap":
			rs.Add(addr.Reach(addr.Addr(c.Args[0]), max(1, c.Args[1])).PageAlign())
			if c.Args[3]&2 != 0 {
				rs.Add(addr.Reach(addr.Addr(c.Args[4]), c.Args[2]).PageAlign())
			}
		case "brk":
			for v := range m.Mappings().All() {
				if v.Kind == vma.Heap {
					rs.Add(v.Range)
				}
			}
		default:
			rs.Add(refs.Everything)
		}
	}
	return rs
}

// dead is the range of an mprotect whose memory nobody may use before it.
func (m *Space) dead(c *tracee.Call) addr.Range {
	if name := callName(c); name != "mprotect" && name != "pkey_mprotect" {
		return addr.Range{}
	}
	r := addr.Reach(addr.Addr(c.Args[0]), c.Args[1])
	for v := range m.Mappings().Overlapping(r) {
		if v.Prot&7 != 0 {
			return addr.Range{}
		}
	}
	return r
}

// unused is what nobody uses yet after a call: what it has mapped anew, or made usable; dead is
// what nobody may have used before it.
func (m *Space) unused(c *tracee.Call, dead addr.Range) addr.Range {
	const fixed = 0x10 // MAP_FIXED: somebody may know the place
	if c.Failed() != 0 {
		return addr.Range{}
	}
	switch callName(c) {
	case "mmap", "mmap2":
		if c.Args[3]&fixed != 0 && len(m.Threads) > 1 || c.Arch == arch.I386 && callName(c) == "mmap" {
			return addr.Range{}
		}
		ret := addr.Addr(c.Ret)
		if c.Arch == arch.I386 {
			ret = addr.Addr(uint32(c.Ret))
		}
		return addr.Reach(ret, c.Args[1])
	case "mprotect", "pkey_mprotect":
		return dead
	}
	return addr.Range{}
}

// moveGate follows the vdso if a call has moved it.
func (m *Space) moveGate(c *tracee.Call) {
	if callName(c) != "mremap" || c.Failed() != 0 {
		return
	}
	from, to := addr.Reach(addr.Addr(c.Args[0]), c.Args[1]), addr.Addr(c.Ret)
	if c.Arch == arch.I386 {
		to = addr.Addr(uint32(c.Ret))
	}
	g := &m.trace.gate
	for _, at := range []*addr.Addr{&g.Syscall, &g.Int80, &m.trace.spare} {
		if from.Contains(*at) {
			*at = to + (*at - from.Start)
		}
	}
}
