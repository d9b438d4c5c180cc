//go:build linux

// This file serves the exits of system calls.

package tracee

import (
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// leave tells of a call at its end.
func (g *Group) leave(t *Thread, info *ptrace.SyscallInfo) {
	if t.launcher {
		t.launcher = false
		g.resume(t, 0)
		return
	}
	ret := info.Ret()
	if t.skipped.on {
		g.unskip(t)
	}
	if g.opts.Inside != nil {
		g.passMiddle(t, info.IP)
	}
	whole := t.rest != nil
	if whole {
		var over bool
		if ret, over = g.partDone(t, ret); !over || t.call == nil {
			g.resume(t, 0)
			return
		}
	}
	if t.call == nil && !g.adopt(t, info) { // attached while it was in the call
		return
	}
	if t.emulated.on {
		ret = g.endRequest(t, ret)
	}
	ours := t.interrupted
	if t.wait.on {
		var again bool
		if ret, again = g.endWait(t, ret, ours); again {
			t.interrupted = false
			g.resume(t, 0)
			return
		}
	}
	if t.interrupted = false; !whole && (g.cutShort(t, ret, ours) || g.waitOn(t, ret, ours)) {
		g.resume(t, 0)
		return
	}
	if ours && ret == -eIntr && undoInterrupt(g.k, t.TID) {
		c := t.call
		t.call = nil
		g.h.Restarted(t, c)
		g.resume(t, 0)
		return
	}
	g.returned(t, ret, info.IP, info.SP)
	g.leaves(t)
}

// returned tells of the call of a thread, which has returned.
func (g *Group) returned(t *Thread, ret int64, ip, sp uint64) {
	c := t.call
	c.Ret, c.Returned, c.Leave = ret, true, g.Now()
	g.undisguise(t)
	t.learn(c.Leave)
	if g.nested() {
		g.noteAction(t, c)
		g.taken(t, c)
		g.wroteOther(t, c)
		g.correctStatus(t, c)
	}
	if g.opts.Calls.Has(c.Arch, c.Nr) {
		t.collector.Exit(&c.Call)
		g.nameFDs(t)
	}
	c.IP, c.SP = g.siteOf(t, ip), sp
	t.call = nil
	g.complete(t, c)
}

// complete tells of a completed call.
func (g *Group) complete(t *Thread, c *Call) {
	w := g.opts.Warden
	if w == nil {
		g.h.Returned(t, c)
		return
	}
	if setsMask(c.Arch, c.Nr) {
		if mask, err := g.k.SigMask(t.TID); err == nil {
			w.Masked(t, mask)
		}
	}
	w.Returns(t, c)
	g.h.Returned(t, c)
	w.Returned(t, c)
}

// adopt makes up the entry of a call that began before the thread was traced,
// from its registers: the arguments are still there. If it cannot, the thread goes on.
func (g *Group) adopt(t *Thread, info *ptrace.SyscallInfo) bool {
	var regs ptrace.Regs
	if g.failed(t, g.k.GetRegs(t.TID, &regs)) {
		return false
	}
	nr := int64(regs[ptrace.RegOrigRAX])
	if nr < 0 {
		g.resume(t, 0)
		return false
	}
	c := &t.calls
	*c = Call{}
	t.entry.read, t.entry.told = false, true // nothing of it can be told before its next call
	c.Arch, c.Nr = abi(info.AuditArch), uint32(nr)
	args := regs.Args(c.Arch == arch.I386)
	copy(c.Args[:arity(c.Arch, c.Nr)], args[:])
	t.call = c
	return true
}
