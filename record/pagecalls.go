//go:build linux

// This file says of each call what a page trace has to do about it.

package record

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/procfs"
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
func (w *warden) special(c *tracee.Call) bool {
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

// rangesOf are the ranges that have to be open for a call; all says that it may be
// anything.
func (w *warden) rangesOf(m *memory, t *tracee.Thread, c *tracee.Call) (rs []addr.Range, all bool) {
	touches, unknown := w.touch.Touches(&c.Call)
	for _, x := range touches {
		rs = append(rs, x.Range)
	}
	name := callName(c)
	switch name {
	case "execve", "execveat":
		return nil, true
	case "exit", "exit_group":
		rs = append(rs, w.robust(t)...)
	case "open", "openat", "openat2":
		if w.showsMappings(t, c, name) {
			return nil, true
		}
	}
	for _, a := range unknown {
		if m.trace.Traces(a) {
			return nil, true
		}
	}
	rs = append(rs, w.framesOf(m, t, c)...)
	more, all := w.about(m, c, space.EffectOf(c.Arch, c.Nr))
	return append(rs, more...), all
}

// framesOf are the parts of stacks that the kernel accesses for the frames of signals
// during a call.
func (w *warden) framesOf(m *memory, t *tracee.Thread, c *tracee.Call) []addr.Range {
	sp := addr.Addr(c.SP)
	switch name := callName(c); {
	case name == "rt_sigreturn" || name == "sigreturn":
		if c.Returned { // the stack pointer is another
			return nil
		}
		return []addr.Range{{Start: sp - 8, End: sp + 12<<10}}
	case changesMask(name) && !c.Returned:
		return []addr.Range{w.frame(t, sp, false), w.frame(t, sp, true)}
	}
	return nil
}

// about are the ranges around what a call changes of the mappings: the kernel may split
// what is there, and join it with what lies beside.
func (w *warden) about(m *memory, c *tracee.Call, effect space.Effect) (rs []addr.Range, all bool) {
	name := callName(c)
	a := &c.Args
	switch name {
	case "mprotect", "pkey_mprotect", "mlock", "mlock2", "munlock", "mbind", "mseal", "remap_file_pages", "set_mempolicy_home_node":
		return w.beside(m, withStack(m, addr.Reach(addr.Addr(a[0]), a[1]))), false
	case "madvise":
		if arch.AdviceOf(a[2]).Is(arch.Drops | arch.DropsLater) {
			return nil, false
		}
		return w.beside(m, addr.Reach(addr.Addr(a[0]), a[1])), false
	case "mremap":
		for v := range m.Mappings().Overlapping(addr.Reach(addr.Addr(a[0]), max(1, a[1]))) {
			rs = append(rs, w.beside(m, v.Range)...)
		}
		if a[3]&2 != 0 { // MREMAP_FIXED
			rs = append(rs, w.beside(m, addr.Reach(addr.Addr(a[4]), a[2]))...)
		}
		return rs, false
	case "brk":
		for v := range m.Mappings().All() {
			if v.Kind == vma.Heap {
				rs = append(rs, w.beside(m, addr.Range{Start: v.End - 1, End: v.End})...)
			}
		}
		return rs, false
	case "prctl":
		if a[0] == prSetVMA {
			return w.beside(m, addr.Reach(addr.Addr(a[2]), a[3])), false
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

// isShm says whether an operation of i386's ipc attaches or detaches System V memory.
func isShm(op uint64) bool { return op&0xffff == 21 || op&0xffff == 22 }

// endsWith says why the trace of an address space cannot go on with a call, "" where it can.
func (w *warden) endsWith(m *memory, t *tracee.Thread, c *tracee.Call) string {
	a := &c.Args
	switch callName(c) {
	case "ptrace":
		const traceMe = 0
		if a[0] == traceMe {
			return tracedByOther(t)
		}
		return fmt.Sprintf("process %d traces others (ptrace)", t.Proc.PID)
	case "seccomp":
		return "the program has a seccomp filter of its own"
	case "prctl":
		const setSeccomp, setDispatch = 22, 59
		if a[0] == setSeccomp || a[0] == setDispatch {
			return "the program has its calls filtered"
		}
	case "munmap":
		if r := addr.Reach(addr.Addr(a[0]), a[1]); r.Contains(m.trace.gate.Syscall) || r.Contains(m.trace.gate.Int80) {
			return "it has no vdso any more"
		}
	}
	return ""
}

// moveGate follows the vdso if a call has moved it.
func (w *warden) moveGate(m *memory, c *tracee.Call) {
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

// changing reports whether another thread is in a call that may be changing what is mapped
// in a block.
func (m *memory) changing(t *tracee.Thread, block addr.Range) bool {
	if len(m.Threads) == 1 {
		return false
	}
	rs := m.mayChange(t)
	return rs.Overlaps(block)
}

// mayChange is where calls of threads other than t may be changing what is mapped.
func (m *memory) mayChange(t *tracee.Thread) (rs addr.Set) {
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

// copies reports whether a call makes a process with a copy of the memory: its mappings are
// to be whole then, since pieces of them never become one again in the copy. A child that
// is not traced finds everything open.
func (w *warden) copies(t *tracee.Thread, c *tracee.Call) bool {
	switch callName(c) {
	case "fork", "vfork", "clone", "clone3":
		args := w.r.group.CloneArgs(t)
		return !args.SharesMemory() || !w.r.opts.traces(args)
	}
	return false
}

// withStack is a range with all of the main stack, if it has a part of that: the kernel
// gives the name to the piece alone that the program's arguments are in.
func withStack(m *memory, r addr.Range) addr.Range {
	for v := range m.Mappings().Overlapping(r) {
		if v.Kind == vma.MainStack {
			r = r.Union(v.Range)
		}
	}
	return r
}

// beside is a range with a block more on each side.
func (w *warden) beside(m *memory, r addr.Range) []addr.Range {
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

// changed says what a completed call has changed of the mappings: what lies beside, which
// the kernel may join with it if it is open, and what is not as the table says any more.
func (w *warden) changed(m *memory, c *tracee.Call, effect space.Effect) (beside, gone []addr.Range) {
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
			n = oldMapLength(m, a[0])
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
		gone = append(gone, withStack(m, addr.Reach(addr.Addr(a[0]), a[1])))
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

// dead is the range of an mprotect whose memory nobody may use before it.
func (w *warden) dead(m *memory, c *tracee.Call) addr.Range {
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

// unused is what nobody uses yet after a call: what it has mapped anew, or made usable.
func (w *warden) unused(m *memory, t *tracee.Thread, c *tracee.Call) addr.Range {
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
		return threadOf(t).traced.dead
	}
	return addr.Range{}
}

// oldMapLength is the length that i386's first mmap has in memory.
func oldMapLength(m *memory, at uint64) uint64 {
	var b [4]byte
	if n, err := m.fs.ReadMem(b[:], addr.Addr(uint32(at)+4)); err != nil || n != len(b) {
		return 1 << 32
	}
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

// pinsOf are the places that the kernel writes to at times of its own from a call on.
func (w *warden) pinsOf(t *tracee.Thread, c *tracee.Call) (pins []addr.Range) {
	const setTID, clearTID = 0x01000000, 0x00200000
	pin := func(a uint64, n uint64) {
		if a != 0 {
			pins = append(pins, addr.Reach(addr.Addr(a), n))
		}
	}
	a := &c.Args
	switch callName(c) {
	case "set_tid_address":
		pin(a[0], 4)
	case "set_robust_list":
		pin(a[0], a[1])
	case "rseq":
		pin(a[0], max(32, a[1]&0xffff))
	case "clone":
		if at := a[3]; a[0]&(setTID|clearTID) != 0 {
			if c.Arch == arch.I386 {
				at = a[4]
			}
			pin(at, 4)
		}
	case "clone3":
		var b [32]byte // flags, pidfd, child_tid, parent_tid
		if w.r.group.ReadMem(t, b[:], addr.Addr(a[0])) == len(b) {
			word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
			if word(0)&(setTID|clearTID) != 0 {
				pin(word(2), 4)
			}
			pin(word(3), 4)
		}
	}
	return pins
}

// learn keeps what a completed call says about signals.
func (w *warden) learn(t *tracee.Thread, c *tracee.Call) {
	if c.Failed() != 0 {
		return
	}
	a := &c.Args
	switch callName(c) {
	case "rt_sigaction":
		size := actionSize(t)
		if sig := int(a[0]); a[1] != 0 && sig > 0 && sig <= 64 {
			b := make([]byte, size)
			if w.r.group.ReadMem(t, b, addr.Addr(a[1])) == size {
				w.actionsOf(t).set[sig] = b
			}
		}
	case "sigaction", "signal": // of i386
		if sig := int(a[0]); sig > 0 && sig <= 64 {
			w.queryAction(t, sig)
		}
	case "sigaltstack":
		w.altStack(t, c)
	case "rseq":
		t.SetRSeq(addr.Addr(a[0]))
	case "prctl":
		if a[0] == prSetMM {
			memoryOf(t).pinArguments(t.Proc.PID)
		}
	}
}

// lift is the key of a file that is open and shows a process its own mappings.
type lift struct {
	proc *tracee.Process
	fd   int
}

// stays has everything open for as long as a file is that a call has opened, and that
// shows the program its own mappings.
func (w *warden) stays(t *tracee.Thread, c *tracee.Call) {
	name := callName(c)
	if c.Failed() == 0 && strings.HasPrefix(name, "open") && w.showsMappings(t, c, name) {
		memoryOf(t).trace.Lift(lift{t.Proc, int(c.Ret)})
	}
}

// closes ends what stays has begun.
func (w *warden) closes(t *tracee.Thread, c *tracee.Call) {
	p, th := &memoryOf(t).trace, &threadOf(t).traced
	switch name := callName(c); name {
	case "close", "close_range", "dup2", "dup3":
		if !p.Lifted(nil) {
			return
		}
		at := int(c.Args[0])
		if name == "dup2" || name == "dup3" {
			at = int(c.Args[1])
		}
		th.closing.AddSet(p.Unlift(lift{t.Proc, at}))
	}
}

// queryAction is for calls that set an action in another layout: it is as if the default
// was set, until the kernel is asked.
func (w *warden) queryAction(t *tracee.Thread, sig int) { w.actionsOf(t).set[sig] = nil }

// altStack keeps where a thread has its stack for signal handlers.
func (w *warden) altStack(t *tracee.Thread, c *tracee.Call) {
	if c.Args[0] == 0 {
		return
	}
	var b [24]byte
	if w.r.group.ReadMem(t, b[:], addr.Addr(c.Args[0])) == len(b) {
		threadOf(t).traced.alt = stackOf(c.Arch, b[:])
	}
}

// stackOf is the stack of a stack_t (sp, flags, size), empty for none.
func stackOf(id arch.ID, b []byte) addr.Range {
	const disable = 2
	if id == arch.I386 {
		if b[4]&disable != 0 {
			return addr.Range{}
		}
		return addr.Reach(addr.Addr(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[8:])))
	}
	if b[8]&disable != 0 {
		return addr.Range{}
	}
	return addr.Reach(addr.Addr(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[16:]))
}

// robust are the places of the mutexes that a thread holds which the kernel lets go when it
// ends (set_robust_list(2)).
func (w *warden) robust(t *tracee.Thread) (rs []addr.Range) {
	const most = 2048 // ROBUST_LIST_LIMIT
	head := procfs.RobustList(t.TID)
	word := uint64(t.Proc.Arch.PointerSize())
	read := func(a addr.Addr) (addr.Addr, bool) {
		var b [8]byte
		ok := w.r.group.ReadMem(t, b[:word], a) == int(word)
		return addr.Addr(binary.LittleEndian.Uint64(b[:])), ok
	}
	if head == 0 {
		return nil
	}
	off, ok := read(head + addr.Addr(word))
	next, ok2 := read(head)
	pending, _ := read(head + addr.Addr(2*word))
	add := func(node addr.Addr) {
		node &^= 1 // a PI mutex
		rs = append(rs, addr.Reach(node, word), addr.Reach(node+off, 4))
	}
	if pending != 0 {
		add(pending)
	}
	for n := 0; ok && ok2 && next&^1 != head && next != 0 && n < most; n++ {
		add(next)
		next, ok2 = read(next &^ 1)
	}
	return rs
}

// showsMappings reports whether a call opens a file that shows the program its own
// mappings.
func (w *warden) showsMappings(t *tracee.Thread, c *tracee.Call, name string) bool {
	at := c.Args[1]
	if name == "open" {
		at = c.Args[0]
	}
	var b [64]byte
	n := w.r.group.ReadMem(t, b[:], addr.Addr(at))
	if n <= 0 {
		return false
	}
	p, _, _ := strings.Cut(string(b[:n]), "\x00")
	if !strings.HasPrefix(p, "/proc/") {
		return false
	}
	switch path.Base(p) {
	case "maps", "smaps", "smaps_rollup", "status", "statm", "numa_maps", "pagemap": // not stat: its sizes are those of all mappings
	default:
		return false
	}
	who, _, _ := strings.Cut(strings.TrimPrefix(p, "/proc/"), "/")
	return who == "self" || who == "thread-self" || who == strconv.Itoa(t.Proc.PID)
}
