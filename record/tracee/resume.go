//go:build linux

// This file lets threads go on, as if nobody had stopped them.

package tracee

import (
	"errors"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/ptrace"
)

// resume lets a stopped thread go on, with a signal if sig is not 0. A thread that
// has reported something else meanwhile stands until that has been served. One in whose
// name a call was made that has not ended runs already.
func (g *Group) resume(t *Thread, sig int) {
	if _, waits := g.facts.of(t.TID); waits || t.stray != nil {
		return
	}
	if t.inside.on || sig == 0 && g.opts.Inside != nil && g.enterInside(t) {
		g.goOnInside(t)
		return
	}
	t.pace.resumed = g.Now()
	t.Space.Ran = true
	g.become(t, t.free())
	if t.traced != nil {
		if err, done := g.letTraced(t, sig); done {
			g.failed(t, err)
			return
		}
	}
	request := g.k.ContSyscall
	if g.filter != nil && t.call == nil && !t.launcher && t.rest == nil && !t.Proc.listened && !(t.Proc.signalFD && t.Proc.tracing()) {
		request = g.k.Cont // the filter stops it at the calls that matter
	}
	g.failed(t, request(t.TID, sig))
	if t.traced != nil && t.traced.asked {
		_ = g.k.Interrupt(t.TID) // the stop was not its tracer's business
	}
}

// Go lets a thread go on that waits at the entry of a call. The call begins now.
func (g *Group) Go(t *Thread) {
	t.call.Enter = g.Now()
	if g.opts.Warden != nil {
		g.opts.Warden.Enters(t, t.call)
	}
	g.resume(t, 0)
}

// failed looks at the error of a request. A thread may be killed at any moment: it
// has gone on then, and its end is reported in its own time.
func (g *Group) failed(t *Thread, err error) bool {
	if err == nil {
		return false
	}
	if !errors.Is(err, ptrace.ErrGone) {
		g.h.Lost(t, err.Error())
	}
	if t.state == Stopped {
		g.become(t, t.free())
	}
	return true
}

// become moves a thread to another state.
func (g *Group) become(t *Thread, s State) {
	if from := t.state; !t.become(s) {
		g.h.Lost(t, "a thread that was "+from.String()+" is "+s.String())
	}
}

// Results of calls that a program never sees: the kernel makes the call again, or
// says EINTR, as a signal's handler wants it (include/linux/errno.h).
const (
	eIntr           = 4
	eRestartSys     = 512
	eRestartNoIntr  = 513
	eRestartNoHand  = 514
	eRestartByBlock = 516 // by restart_syscall
)

// restarts reports whether the kernel will make a call again, or let a signal's
// handler decide that.
func restarts(ret int64) bool { return ret <= -eRestartSys && ret >= -eRestartByBlock }

// interrupted reports whether a thread is about to return EINTR from a call.
func interrupted(regs *ptrace.Regs) bool {
	return int32(regs[ptrace.RegOrigRAX]) >= 0 && int32(regs[ptrace.RegRAX]) == -eIntr
}

// undoInterrupt hides from the program that a system call of its thread was
// interrupted by us and not by a signal: the kernel restarts most calls by
// itself, but some return EINTR. It reports whether the call will be made again.
func undoInterrupt(k Kernel, tid int) bool {
	var regs ptrace.Regs
	if k.GetRegs(tid, &regs) != nil || !interrupted(&regs) || signalsPending(k, tid) {
		return false
	}
	again(&regs, regs[ptrace.RegOrigRAX])
	return k.SetRegs(tid, &regs) == nil
}

// undoEntry has a call begin anew whose entry our interrupt has met: it would find
// itself interrupted. It reports whether it will.
func undoEntry(k Kernel, tid int) bool {
	var info ptrace.SyscallInfo
	var regs ptrace.Regs
	if k.GetSyscallInfo(tid, &info) != nil || info.Op != ptrace.OpEntry || k.GetRegs(tid, &regs) != nil || signalsPending(k, tid) {
		return false
	}
	again(&regs, regs[ptrace.RegOrigRAX])
	return k.SetRegs(tid, &regs) == nil
}

// again has the call nr made once more. The instructions syscall and int 0x80 are
// both two bytes long.
func again(regs *ptrace.Regs, nr uint64) {
	regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = nr, ^uint64(0)
	regs[ptrace.RegRIP] -= 2
}

// signalsPending reports whether a signal waits to be delivered to a thread.
func signalsPending(k Kernel, tid int) bool {
	matter, idle := pending(k, tid)
	return matter || idle
}

// pending looks at the signals that wait to be delivered to a thread: whether some mean
// something to the program, or there are only such as it ignores, which would not even wake
// it if it were not traced.
func pending(k Kernel, tid int) (matter, idle bool) {
	status, err := k.Status(tid)
	if err != nil {
		return true, false
	}
	signals := func(name string) uint64 { return proctext.Field(status, name).Hex() }
	waiting := (signals("SigPnd") | signals("ShdPnd")) &^ signals("SigBlk")
	without := signals("SigIgn") | ignoredAtFirst&^signals("SigCgt")
	return waiting&^without != 0, waiting&without != 0
}

// ignoredAtFirst are the signals that do nothing by default. SIGCONT is not among them: it
// has a process that has stopped go on.
const ignoredAtFirst = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1)
