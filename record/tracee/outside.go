//go:build linux

// This file ends that a thread records its calls itself, when it has stopped or is to
// stop.

package tracee

import (
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// serveStopInside serves a stop where threads may record their calls. It reports whether
// there is nothing else to serve.
func (g *Group) serveStopInside(t *Thread, f *Fact) bool {
	if t.inside.on {
		return g.serveInside(t, f)
	}
	g.drainInside()
	if !g.standsInside(t, f) {
		return false
	}
	g.resume(t, 0)
	return true
}

// serveInside serves a stop of a thread that records its calls. It reports whether there is
// nothing else to serve.
func (g *Group) serveInside(t *Thread, f *Fact) bool {
	if arch := g.dispatched(t, f); arch == unix.AUDIT_ARCH_X86_64 {
		var regs ptrace.Regs
		if g.regsInside(t, &regs) == nil && g.opts.Inside.Dispatched(t, (*[MaxRegisters]uint64)(&regs)) {
			t.asked, t.inside.back = false, false
			g.unblocked(t, f.Stop.Sig)
			if !g.failed(t, g.k.SetRegs(t.TID, &regs)) {
				g.goOnInside(t)
			}
			g.drainInside()
			return true
		}
	}
	if k, ok := g.k.(dispatchingKernel); ok && f.Stop.Kind == ptrace.Group && forced(k, t.TID) {
		return false // it leaves when it goes on
	}
	if !g.leaveInside(t, f) && !g.standsInside(t, f) {
		return false
	}
	t.asked = false
	g.resume(t, 0)
	return true
}

// standsInside has a thread that does not record its calls, and has stopped for anything but
// a call, stand where the program believes it to be. It reports whether the stop was because
// of us.
func (g *Group) standsInside(t *Thread, f *Fact) (ours bool) {
	const kernelCode = 0x80 // SI_KERNEL
	k := f.Stop.Kind
	if k != ptrace.Signal && k != ptrace.Trap && k != ptrace.Group || t.Local == nil {
		return false
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) != nil {
		return false
	}
	all := (*[MaxRegisters]uint64)(&regs)
	ours = k == ptrace.Signal && f.Stop.Sig == int(unix.SIGTRAP) && g.signalCode(t) == kernelCode && g.opts.Inside.Broken(t, all)
	if ours || g.opts.Inside.Stands(t, all) {
		if k != ptrace.Signal {
			g.outOfMiddle(t, &regs)
		}
		_ = g.k.SetRegs(t.TID, &regs)
	}
	return ours
}

// outOfMiddle has a thread that stands behind a call, in the middle of what leads to the code,
// go on elsewhere: nobody would serve the breakpoint that is there if this process died. It
// is not for a thread that gets a signal, whose frame has what the program knows.
func (g *Group) outOfMiddle(t *Thread, regs *ptrace.Regs) {
	if to, ok := g.opts.Inside.Past(t, regs[ptrace.RegRIP]); ok {
		regs[ptrace.RegRIP] = to
	}
}

// standsFor has the handler of the signal at which the kernel has stopped a thread before a
// call, which runs only if this process dies, go on where the thread is to go on now. By
// itself it goes back to that call.
func (g *Group) standsFor(t *Thread, rip uint64) {
	const callAddr = 16 // si_call_addr, behind the instruction
	var info [128]byte
	if k, ok := g.k.(steppingKernel); ok && g.k.SigInfo(t.TID, &info) == nil {
		binary.LittleEndian.PutUint32(info[siginfo.Errno:], siginfo.Stands)
		binary.LittleEndian.PutUint64(info[callAddr:], rip+syscallLen)
		_ = k.SetSigInfo(t.TID, &info)
	}
}

// leaveInside ends that a thread records its calls. It reports whether the signal that the
// thread stands at is because of us: the program must not get it.
func (g *Group) leaveInside(t *Thread, f *Fact) (ours bool) {
	in := g.opts.Inside
	g.takeForced(t, f)
	t.inside.on, t.inside.late, t.call = false, false, nil
	in.Drain()
	var regs ptrace.Regs
	how := LeaveStopped
	switch k := f.Stop.Kind; {
	case k == ptrace.Exited || k == ptrace.Killed || g.regsInside(t, &regs) != nil:
		t.call, _ = in.Leaves(t, nil, LeaveEnded)
		return false
	case k == ptrace.EventExit:
		how = LeaveDying
	case g.dispatched(t, f) != 0:
		how, ours = LeaveDispatched, true
	}
	found := regs[ptrace.RegRIP]
	t.inside.back = false
	c, returned := in.Leaves(t, (*[MaxRegisters]uint64)(&regs), how)
	if f.Stop.Kind == ptrace.Signal && (f.Stop.Sig == int(unix.SIGSEGV) || f.Stop.Sig == int(unix.SIGBUS)) && regs[ptrace.RegRIP] != found && g.signalCode(t) > 0 {
		ours = true // the code has met memory that cannot be read
	}
	if ours {
		g.unblocked(t, f.Stop.Sig)
	}
	ret := int64(regs[ptrace.RegRAX])
	if c != nil && returned && t.asked && !ours && interruptedByUs(g, t, f, ret) {
		again(&regs, uint64(c.Nr))
		c = nil
	}
	regs[arch.GSBase] = 0
	if k, ok := g.k.(dispatchingKernel); ok {
		_ = k.SetDispatch(t.TID, false, 0, 0, 0)
	}
	if ours || f.Stop.Kind != ptrace.Signal {
		g.outOfMiddle(t, &regs)
	}
	if how == LeaveDispatched {
		g.standsFor(t, regs[ptrace.RegRIP])
	}
	_ = g.k.SetRegs(t.TID, &regs)
	switch {
	case c == nil:
	case returned:
		g.returnedInside(t, f, c, ret, &regs)
	default:
		t.call = c
	}
	return ours
}

// returnedInside tells of a call that has returned in the code, unless the thread makes the
// rest of it.
func (g *Group) returnedInside(t *Thread, f *Fact, c *Call, ret int64, regs *ptrace.Regs) {
	t.call, t.entry.read, t.entry.told = c, false, true
	nothing := f.Stop.Kind == ptrace.Trap || f.Stop.Kind == ptrace.Signal && doesNothing(g.k, t.TID, f.Stop.Sig)
	if !g.cutShort(t, ret, nothing) && !g.waitOn(t, ret, nothing) {
		g.returned(t, ret, regs[ptrace.RegRIP], regs[arch.RSP])
	}
}

// interruptedByUs reports whether a call has come back only because we have stopped the
// thread, and can be made once more as it was.
func interruptedByUs(g *Group, t *Thread, f *Fact, ret int64) bool {
	return f.Stop.Kind == ptrace.Trap && (ret == -eIntr || restarts(ret) && ret != -eRestartByBlock) && !signalsPending(g.k, t.TID)
}

// takeForced has a thread that an interrupt or job control has stopped come to the signal
// that the kernel sends because of what the thread was about to do, if there is one. It
// would be delivered later, where nobody knows any more what it was for.
func (g *Group) takeForced(t *Thread, f *Fact) {
	k, ok := g.k.(dispatchingKernel)
	soon, canWait := g.k.(steppingKernel)
	if f.Stop.Kind != ptrace.Trap || !ok || !canWait || !forced(k, t.TID) || g.k.Cont(t.TID, 0) != nil {
		return
	}
	if stop, err := g.stopSoon(soon, t.TID); err == nil {
		f.Stop, t.at = stop, stop.Kind
	}
}

// forced reports whether a signal waits for a thread that the kernel sends for something
// that the thread has done, and that it gets next.
func forced(k dispatchingKernel, tid int) bool {
	var infos [8][128]byte
	n, errno := k.PeekSigInfo(tid, 0, 0, infos[:])
	if errno != 0 {
		return false
	}
	return slices.ContainsFunc(infos[:n], func(info [128]byte) bool {
		sig := unix.Signal(binary.LittleEndian.Uint32(info[:]))
		return (sig == unix.SIGSYS || sig == unix.SIGSEGV || sig == unix.SIGBUS) && siginfo.CodeOf(&info) > 0
	})
}

// regsInside are the registers of a thread as it has stopped.
func (g *Group) regsInside(t *Thread, regs *ptrace.Regs) error {
	err := g.k.GetRegs(t.TID, regs)
	if t.inside.back {
		regs[ptrace.RegRIP] += syscallLen
	}
	return err
}

// unblocked puts back what the kernel has done to have a signal of ours get through: it
// takes it out of the mask (kernel/signal.c, force_sig_info_to_task).
func (g *Group) unblocked(t *Thread, sig int) {
	if t.inside.mask>>(sig-1)&1 != 0 {
		_ = g.k.Block(t.TID, t.inside.mask)
	}
}

// peeked puts a thread back before the call at which the kernel has stopped it, while the
// signal is still its own: if this process died, the thread would go on behind a call that
// it has not made.
func (g *Group) peeked(tid, sig int) {
	t := g.threads[tid]
	if t == nil || !t.inside.on || sig != int(unix.SIGSYS) {
		return
	}
	f := Fact{TID: tid, Stop: ptrace.Stop{TID: tid, Kind: ptrace.Signal, Sig: sig}}
	var regs ptrace.Regs
	if g.dispatched(t, &f) != unix.AUDIT_ARCH_X86_64 || g.k.GetRegs(tid, &regs) != nil {
		return
	}
	regs[ptrace.RegRIP] -= syscallLen
	regs[ptrace.RegOrigRAX] = ^uint64(0)
	t.inside.back = g.k.SetRegs(tid, &regs) == nil
}

// syscallLen is the length of a syscall instruction.
const syscallLen = 2

// insideSettle is how long it takes until what a thread has written is seen by all.
const insideSettle = 20 * time.Microsecond

// Outside has the threads of an address space stop recording their calls themselves. Those
// that are in a call do so when it returns, as any thread stops there.
func (g *Group) Outside(s *Space) {
	in := g.opts.Inside
	if in == nil {
		return
	}
	waiting, told := 0, false
	for t := range s.Threads {
		if t.inside.on && !t.inside.late {
			in.Stop(t)
			told = true
		}
	}
	if told {
		time.Sleep(insideSettle)
	}
	for t := range s.Threads {
		if !t.inside.on || t.inside.late {
			continue
		}
		if t.state == Running && in.InCall(t) != nil {
			t.call, t.inside.late, t.entry.read, t.entry.told = in.InCall(t), true, false, true
			g.become(t, InCall)
			continue
		}
		if t.state == Running && (t.asked || g.k.Interrupt(t.TID) == nil) {
			t.asked = true
			waiting++
		}
	}
	if waiting > 0 {
		g.awaitHeld(s, waiting)
	}
	g.leaveStopped(s)
}

// leaveStopped ends that those threads of an address space record their calls which have
// stopped and wait to be served.
func (g *Group) leaveStopped(s *Space) {
	if g.opts.Inside == nil {
		return
	}
	for t := range s.Threads {
		f := g.facts.waitingOf(t.TID)
		switch {
		case f == nil:
		case t.inside.on:
			if g.leaveInside(t, f) { // f may be another by now
				g.facts.waitingOf(t.TID).Stop.Kind = ptrace.Trap // it stands, and that is all
			}
		case f.Stop.Kind == ptrace.Trap:
			g.standsInside(t, f)
		}
	}
}

// leaveAllInside has all threads stop recording their calls, because the recording is over.
func (g *Group) leaveAllInside() {
	in := g.opts.Inside
	if in == nil {
		return
	}
	g.stopAll()
	for _, t := range g.threads {
		g.leaveStopped(t.Space)
	}
	for _, t := range g.threads {
		if f := g.facts.waitingOf(t.TID); f != nil && !t.over() {
			g.standsInside(t, f)
			in.Frees(t)
		}
		_ = g.k.SetOptions(t.TID, g.traceOptions()&^ptrace.OptExitKill)
	}
}
