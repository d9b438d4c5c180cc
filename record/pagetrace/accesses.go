//go:build linux

// This file says what the kernel accesses for a call, and for how long it has to be open.

package pagetrace

import (
	"encoding/binary"
	"path"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/procfs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// rangesOf are the ranges that have to be open for a call; all says that it may be
// anything.
func (w *Warden) rangesOf(m *Space, t *tracee.Thread, c *tracee.Call) (rs []addr.Range, all bool) {
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
	more, all := m.about(c, space.EffectOf(c.Arch, c.Nr))
	return append(rs, more...), all
}

// framesOf are the parts of stacks that the kernel accesses for the frames of signals
// during a call.
func (w *Warden) framesOf(m *Space, t *tracee.Thread, c *tracee.Call) []addr.Range {
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

// copies reports whether a call makes a process with a copy of the memory: its mappings are
// to be whole then, since pieces of them never become one again in the copy. A child that
// is not traced finds everything open.
func (w *Warden) copies(t *tracee.Thread, c *tracee.Call) bool {
	switch callName(c) {
	case "fork", "vfork", "clone", "clone3":
		args := w.group.CloneArgs(t)
		return !args.SharesMemory() || !w.host.Traces(args)
	}
	return false
}

// pinsOf are the places that the kernel writes to at times of its own from a call on.
func (w *Warden) pinsOf(t *tracee.Thread, c *tracee.Call) (pins []addr.Range) {
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
		if w.group.ReadMem(t, b[:], addr.Addr(a[0])) == len(b) {
			word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
			if word(0)&(setTID|clearTID) != 0 {
				pin(word(2), 4)
			}
			pin(word(3), 4)
		}
	}
	return pins
}

// robust are the places of the mutexes that a thread holds which the kernel lets go when it
// ends (set_robust_list(2)).
func (w *Warden) robust(t *tracee.Thread) (rs []addr.Range) {
	const most = 2048 // ROBUST_LIST_LIMIT
	head := procfs.RobustList(t.TID)
	word := uint64(t.Proc.Arch.PointerSize())
	read := func(a addr.Addr) (addr.Addr, bool) {
		var b [8]byte
		ok := w.group.ReadMem(t, b[:word], a) == int(word)
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
func (w *Warden) showsMappings(t *tracee.Thread, c *tracee.Call, name string) bool {
	at := c.Args[1]
	if name == "open" {
		at = c.Args[0]
	}
	var b [64]byte
	n := w.group.ReadMem(t, b[:], addr.Addr(at))
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

// lift is the key of a file that is open and shows a process its own mappings.
type lift struct {
	proc *tracee.Process
	fd   int
}

// stays has everything open for as long as a file is that a call has opened, and that
// shows the program its own mappings.
func (w *Warden) stays(t *tracee.Thread, c *tracee.Call) {
	name := callName(c)
	if c.Failed() == 0 && strings.HasPrefix(name, "open") && w.showsMappings(t, c, name) {
		w.host.Space(t).trace.Lift(lift{t.Proc, int(c.Ret)})
	}
}

// closes ends what stays has begun.
func (w *Warden) closes(t *tracee.Thread, c *tracee.Call) {
	p, th := &w.host.Space(t).trace, w.host.Thread(t)
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

// release ends what the call of a thread holds, and records what the call has accessed; nil
// is a call of which that is not known.
func (w *Warden) release(m *Space, t *tracee.Thread, c *tracee.Call) {
	p, th := &m.trace, w.host.Thread(t)
	th.linger = false
	if c != nil {
		w.closes(t, c)
	}
	if p.Lifted(t) {
		if c != nil {
			w.stays(t, c)
		}
		closed := p.Unlift(t)
		if c == nil {
			p.late.AddSet(closed)
		} else {
			th.closing.AddSet(closed)
		}
	}
	if !p.Holds(t) {
		return
	}
	var touched []addr.Range
	if c != nil {
		for _, x := range w.touch.Touched(&c.Call) {
			touched = append(touched, x.Range)
		}
		touched = append(touched, w.framesOf(m, t, c)...)
	}
	first, closed := p.Release(t, touched)
	for _, a := range first {
		w.ref(m, t, a, 0, format.RefCall)
	}
	if c == nil {
		p.late.AddSet(closed)
	} else {
		th.closing.AddSet(closed)
	}
}

// Leaves is for a thread that leaves an address space in the middle of a call: by an exec,
// or for ever.
func (w *Warden) Leaves(m *Space, t *tracee.Thread) {
	p := &m.trace
	if p.state != traceOn {
		return
	}
	p.late.AddSet(p.Unlift(t))
	_, closed := p.Release(t, nil)
	p.late.AddSet(closed)
}
