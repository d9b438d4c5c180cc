//go:build linux

// This file hides our seccomp filter from a program that uses seccomp itself, or that
// makes children whom nobody is to trace: each call does what it does without us.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/seccomp"
)

// answered is what a listener for seccomp notifications costs: SECCOMP_RET_USER_NOTIF
// comes before our SECCOMP_RET_TRACE (seccomp(2)), so that there is no seccomp stop. From
// then on each call of the process stops at its entry. The other threads to which the
// listener's filter applies as well run without such stops until they come to one.
const answered = "a seccomp listener answers calls of all threads: -e may not see those that other threads make before their next stop"

// Operations of prctl(2) and seccomp(2).
const (
	prGetSeccomp      = 21
	prSetSeccomp      = 22
	seccompModeStrict = 1
)

// disguise changes a call at its entry where our filter would show.
func (g *Group) disguise(t *Thread, info *ptrace.SyscallInfo) {
	c := t.call
	if g.filter == nil {
		if g.nested() && g.opts.Follow && sees(c.Arch, c.Nr) == seesParent && c.Clone.Flags&unix.CLONE_UNTRACED != 0 {
			g.traceChild(t) // it may want to trace others, which only we can let it
		}
		return
	}
	if info.Op == ptrace.OpSeccomp && !g.decide(t, info) {
		return
	}
	switch {
	case sees(c.Arch, c.Nr) == seesParent && c.Clone.Flags&unix.CLONE_UNTRACED != 0:
		g.traceChild(t)
	case isCall(c, "prctl") && c.Args[0] == prSetSeccomp && c.Args[1] == seccompModeStrict,
		isCall(c, "seccomp") && uint32(c.Args[0]) == unix.SECCOMP_SET_MODE_STRICT && c.Args[1] == 0 && c.Args[2] == 0:
		g.makeStrict(t)
	}
}

// decide does at a seccomp stop what the filter that stopped the thread is for. It
// reports whether that filter is the one which tells us of the call.
func (g *Group) decide(t *Thread, info *ptrace.SyscallInfo) bool {
	switch tag := uint32(info.U[7]); tag {
	case seccomp.Tag:
		return true
	case seccomp.StrictTag:
		_ = g.k.Kill(t.Proc.PID, unix.SIGKILL) // __secure_computing_strict in kernel/seccomp.c
	default:
		g.refuse(t)
	}
	return false
}

// refuse has a call fail as the kernel has it where a filter says SECCOMP_RET_TRACE and
// there is no tracer (seccomp(2)).
func (g *Group) refuse(t *Thread) {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) != nil {
		return
	}
	const enosys = 38
	t.skipped = skipped{true, regs[ptrace.RegOrigRAX]}
	regs[ptrace.RegOrigRAX], regs[ptrace.RegRAX] = ^uint64(0), ^uint64(enosys-1)
	_ = g.k.SetRegs(t.TID, &regs)
}

// traceChild has the child of a clone traced that is not to be: it would have our
// filter, and die of it without a tracer.
func (g *Group) traceChild(t *Thread) {
	c, p := t.call, &patch{}
	if g.k.GetRegs(t.TID, &p.regs) != nil {
		return
	}
	flags := c.Args[0] &^ unix.CLONE_UNTRACED
	if isCall(c, "clone3") {
		p.at, p.bytes = addr.Addr(c.Args[0]), make([]byte, 8)
		if g.ReadMem(t, p.bytes, p.at) != len(p.bytes) {
			return
		}
		flags = binary.LittleEndian.Uint64(p.bytes) &^ unix.CLONE_UNTRACED
		if !g.k.WriteMem(t.TID, binary.LittleEndian.AppendUint64(nil, flags), p.at) {
			return
		}
	} else {
		regs := p.regs
		regs.SetArgs(c.Arch == arch.I386, flags)
		if g.k.SetRegs(t.TID, &regs) != nil {
			return
		}
	}
	c.Clone.Flags &^= unix.CLONE_UNTRACED
	t.patch = p
}

// makeStrict has a call for strict mode install a filter that does the same.
func (g *Group) makeStrict(t *Thread) {
	p := &patch{}
	if g.k.GetRegs(t.TID, &p.regs) != nil {
		return
	}
	i386 := t.call.Arch == arch.I386
	prog := seccomp.Strict()
	var b []byte
	for _, i := range prog {
		b = seccomp.Append(b, i)
	}
	size := addr.Addr(len(b) + 16)
	p.at = (addr.Addr(t.call.SP) - redZone - size) &^ 15
	p.bytes = make([]byte, size)
	if g.ReadMem(t, p.bytes, p.at) != len(p.bytes) {
		return
	}
	// struct sock_fprog: a short, and a pointer at 8, or at 4.
	head := binary.LittleEndian.AppendUint64(nil, uint64(len(prog)))
	if head = binary.LittleEndian.AppendUint64(head, uint64(p.at)+16); i386 {
		binary.LittleEndian.PutUint32(head[4:], uint32(p.at)+16)
	}
	if !g.k.WriteMem(t.TID, append(head, b...), p.at) {
		return
	}
	regs := p.regs
	nr, _ := t.call.Arch.Number("seccomp")
	regs[ptrace.RegOrigRAX] = uint64(nr)
	regs.SetArgs(i386, unix.SECCOMP_SET_MODE_FILTER, 0, uint64(p.at))
	if g.k.SetRegs(t.TID, &regs) == nil {
		t.patch = p
	}
}

// undisguise puts back what was changed for a call, at its end or in its child.
func (g *Group) undisguise(t *Thread) {
	if p := t.patch; p != nil {
		t.patch = nil
		g.putBack(t, p)
	}
	c := t.call
	if g.filter == nil || c == nil {
		return
	}
	if isCall(c, "seccomp") && c.Ret >= 0 && uint32(c.Args[0]) == unix.SECCOMP_SET_MODE_FILTER && c.Args[1]&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		t.Proc.listened = true
		if c.Args[1]&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 && t.Proc.Live() > 1 {
			g.h.Lost(t, answered)
		}
	}
	if c.Ret != unix.SECCOMP_MODE_FILTER || !isCall(c, "prctl") || c.Args[0] != prGetSeccomp {
		return
	}
	status, err := g.k.Status(t.TID)
	if n, ok := proctext.Field(status, "Seccomp_filters").Number(); err != nil || !ok || n != 1 {
		return
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		regs[ptrace.RegRAX], c.Ret = 0, 0
		_ = g.k.SetRegs(t.TID, &regs)
	}
}

// putBack restores the memory and the argument registers of a thread, which has the
// result of its call.
func (g *Group) putBack(t *Thread, p *patch) {
	if p.at != 0 {
		g.k.WriteMem(t.TID, p.bytes, p.at)
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) != nil {
		return
	}
	i386 := regs[ptrace.RegCS] == user32CS
	args := p.regs.Args(i386)
	regs.SetArgs(i386, args[:]...)
	_ = g.k.SetRegs(t.TID, &regs)
}

// filterFor is the filter for a Group that is to see some calls: it stops those
// too that would show where threads are pinned, or the filter, and those of programs that
// trace others.
func filterFor(calls arch.Set) []unix.SockFilter {
	for _, name := range append([]string{"seccomp", "prctl", "ptrace", "wait4", "waitid", "waitpid", "rt_sigaction", "signalfd", "signalfd4"}, affinityCalls...) {
		if one, err := arch.ParseSet(name); err == nil {
			calls = calls.Union(one)
		}
	}
	return seccomp.Stopping(&calls)
}
