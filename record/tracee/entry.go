//go:build linux

// This file serves the entries of system calls.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/seccomp"
)

// syscallStop serves the entry or the exit of a system call.
func (g *Group) syscallStop(t *Thread) {
	var info ptrace.SyscallInfo
	if g.failed(t, g.k.GetSyscallInfo(t.TID, &info)) {
		return
	}
	if t.rest != nil && info.Op != ptrace.OpExit {
		g.resume(t, 0) // it makes the rest of its call
		return
	}
	switch info.Op {
	case ptrace.OpEntry:
		g.enter(t, &info)
	case ptrace.OpSeccomp:
		g.filtered(t, &info)
	case ptrace.OpExit:
		g.leave(t, &info)
	default:
		g.resume(t, 0)
	}
}

// enter notes a call at its beginning and lets it go, at once or when it is its
// turn.
func (g *Group) enter(t *Thread, info *ptrace.SyscallInfo) {
	if g.nested() && g.enterTraced(t, info) {
		return
	}
	t.launcher, t.newborn = false, false
	c := &t.calls
	*c = Call{Enter: g.Now()}
	c.Arch, c.Nr, c.SP = abi(info.AuditArch), uint32(info.Nr()), info.SP
	copy(c.Args[:arity(c.Arch, c.Nr)], info.U[1:7])
	t.call = c
	g.paced(t, c.Enter)
	if g.opts.Calls.Has(c.Arch, c.Nr) {
		t.collector.Enter(&c.Call)
		g.hidePin(c)
		g.nameUsed(t)
	}
	g.noteRegisters(t)
	wait := g.h.Entered(t, c)
	switch sees(c.Arch, c.Nr) {
	case seesParent:
		c.Clone = g.readClone(t)
		g.unpin(t)
	case seesAffinity:
		g.unpinAll()
	}
	g.disguise(t, info)
	if g.opts.Warden != nil && !wait {
		g.opts.Warden.Enters(t, c) // first: answers are written into the program's memory
	}
	if g.nested() {
		g.beginRequest(t, c)
		g.beginWait(t, c)
		g.writesOther(t, c)
	}
	if wait {
		g.become(t, Queued)
		return
	}
	g.resume(t, 0)
}

// enterTraced serves the entry of a call of a thread that has a tracer among our tracees,
// or waits for one. It reports whether nothing else is to be done for now.
func (g *Group) enterTraced(t *Thread, info *ptrace.SyscallInfo) bool {
	if t.wait.pauses && t.call != nil {
		g.paused(t)
		return true
	}
	tr := t.traced
	if tr == nil {
		return false
	}
	if tr.steps && tr.mode == request.ModeStep { // by PTRACE_SYSEMU_SINGLESTEP: make the call
		var regs ptrace.Regs
		if g.k.GetRegs(t.TID, &regs) == nil {
			again(&regs, regs[ptrace.RegOrigRAX])
			_ = g.k.SetRegs(t.TID, &regs)
		}
		tr.mode = request.ModeCont
		g.failed(t, g.k.ContSyscall(t.TID, 0))
		g.become(t, Running)
		return true
	}
	emu := tr.mode == request.ModeSysemu || tr.mode == request.ModeSysemuStep && tr.steps
	if tr.mode != request.ModeSyscall && !emu || tr.inCall {
		return false
	}
	tr.inCall = true
	g.tells(t, g.callReport(t, msgEntry, func(sig int) {
		var now ptrace.SyscallInfo
		g.sendOwn(t, sig)
		if g.failed(t, g.k.GetSyscallInfo(t.TID, &now)) {
			return
		}
		if emu {
			g.skipCall(t)
			now.U[0] = ^uint64(0)
		}
		now.U = g.callNow(t, now.U)
		g.enter(t, &now)
	}))
	return true
}

// filtered serves a seccomp stop: in a call that was stopped at its entry as well, or at
// its entry.
func (g *Group) filtered(t *Thread, info *ptrace.SyscallInfo) {
	tag := uint32(info.U[7])
	ours := g.filter != nil && (tag == seccomp.Tag || tag == seccomp.StrictTag)
	fresh := t.call == nil
	switch {
	case !ours && t.wants(request.OptSeccomp):
		r := g.event(t, unix.PTRACE_EVENT_SECCOMP, uint64(tag))
		if fresh {
			r.let = func(int) {
				info.Op, info.U = ptrace.OpEntry, g.callNow(t, info.U)
				t.traced.inCall = true // a stop at the entry would have come before this one
				g.enter(t, info)
			}
		}
		g.tells(t, r)
		return
	case fresh:
		g.enter(t, info)
		return
	case g.filter != nil:
		g.decide(t, info)
	default:
		g.refuse(t)
	}
	g.resume(t, 0)
}

// paused serves the entry of a wait that is made once more.
func (g *Group) paused(t *Thread) {
	if t.wait.pauses && g.find(t) != nil {
		g.skipCall(t)
	}
	g.resume(t, 0)
}
