//go:build linux

// This file tells tracers among the tracees of the stops of theirs.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/siginfo"
)

// tells has a thread stand, and tells its tracer.
func (g *Group) tells(t *Thread, r *report) {
	tr := t.traced
	tr.asked = tr.asked && tr.joins // any stop is an answer (kernel/signal.c, ptrace_stop)
	tr.joins = false
	g.nest.serial++
	r.serial = g.nest.serial
	tr.report = r
	_ = g.matchOptions(t)
	g.become(t, Held)
	g.childSignal(tr.by, t, siginfo.CookieChild, r.status)
	g.wakeWaiters(tr.by.Proc)
}

// made has a report carry the siginfo that the kernel makes up for a stop.
func (g *Group) made(t *Thread, r *report) *report {
	binary.LittleEndian.PutUint32(r.info[0:], uint32(unix.SIGTRAP))
	binary.LittleEndian.PutUint32(r.info[siginfo.Code:], r.status)
	binary.LittleEndian.PutUint32(r.info[siginfo.PID:], uint32(t.TID))
	binary.LittleEndian.PutUint32(r.info[siginfo.UID:], g.uid(t))
	return r
}

// event is a report of an event, after which nothing is left to be done.
func (g *Group) event(t *Thread, event int, msg uint64) *report {
	r := &report{status: uint32(unix.SIGTRAP) | uint32(event)<<8, msg: msg, let: func(int) { g.resume(t, 0) }}
	return g.made(t, r)
}

// goOn lets a thread go on after an event, or tells its tracer of it first.
func (g *Group) goOn(t *Thread, event int, msg uint64) {
	if t.wants(1 << event) {
		g.tells(t, g.event(t, event, msg))
		return
	}
	g.resume(t, 0)
}

// eventOf are the events of ptrace(2) that tell of a new thread or process.
var eventOf = map[ptrace.StopKind]int{
	ptrace.EventFork: unix.PTRACE_EVENT_FORK, ptrace.EventVfork: unix.PTRACE_EVENT_VFORK, ptrace.EventClone: unix.PTRACE_EVENT_CLONE,
}

// groupReport is the report of a stop by job control, or of what PTRACE_INTERRUPT asks for.
func (g *Group) groupReport(t *Thread, sig int, group bool) *report {
	r := &report{status: uint32(sig), noInfo: true, group: group}
	if t.traced.seized {
		r.status |= unix.PTRACE_EVENT_STOP << 8
		g.made(t, r)
		binary.LittleEndian.PutUint32(r.info[0:], uint32(sig))
		r.noInfo = false
	}
	r.let = func(int) { g.resume(t, 0) }
	return r
}

// tellTrap tells a thread's tracer of a stop that it asked for, or of the first one of a
// new thread. It reports whether it did.
func (g *Group) tellTrap(t *Thread, listened bool) bool {
	tr := t.traced
	if tr == nil {
		return false
	}
	switch {
	case tr.born && !tr.seized:
		tr.born = false
		r := &report{status: uint32(unix.SIGSTOP), let: func(sig int) {
			g.sendOwn(t, sig)
			g.resume(t, 0)
		}}
		g.made(t, r)
		binary.LittleEndian.PutUint32(r.info[0:], uint32(unix.SIGSTOP))
		binary.LittleEndian.PutUint32(r.info[siginfo.Code:], 0)
		binary.LittleEndian.PutUint32(r.info[siginfo.PID:], 0)
		g.tells(t, r)
	case tr.born, tr.asked, tr.seized && (listened || g.continues(t)):
		tr.born = false
		tr.told = g.continues(t)
		sig := int(unix.SIGTRAP)
		g.tells(t, g.groupReport(t, sig, false))
	default:
		return false
	}
	return true
}

// continues reports whether a thread has stopped because a SIGCONT is on its way, of which its
// tracer has not been told: it is told of that one twice (kernel/signal.c, prepare_signal).
func (g *Group) continues(t *Thread) bool {
	const bit = 1 << (unix.SIGCONT - 1)
	text, err := g.k.Status(t.TID)
	if err != nil || t.traced.told {
		return false
	}
	comes := proctext.Field(text, "SigPnd").Hex() | proctext.Field(text, "ShdPnd").Hex()
	return comes&^proctext.Field(text, "SigBlk").Hex()&bit != 0
}

// Messages of PTRACE_GETEVENTMSG at the entry and the exit of a call
// (include/uapi/linux/ptrace.h).
const (
	msgEntry = 1
	msgExit  = 2
)

// callReport is the report of the entry or the exit of a call.
func (g *Group) callReport(t *Thread, msg uint64, let func(int)) *report {
	r := &report{status: uint32(unix.SIGTRAP), msg: msg, let: let}
	if t.traced.opts&request.OptSysGood != 0 {
		r.status |= 0x80
		r.call = true
	}
	return g.made(t, r)
}

// leaves lets a thread go on from the end of a call, or tells its tracer of it first.
func (g *Group) leaves(t *Thread) {
	tr := t.traced
	if tr == nil {
		g.resume(t, 0)
		return
	}
	tr.inCall = false
	let := func(sig int) {
		g.sendOwn(t, sig)
		g.resume(t, 0)
	}
	switch {
	case tr.steps && tr.mode == request.ModeSysemuStep: // the step goes on (kernel/entry/common.c, report_single_step)
		tr.steps = false
		g.resume(t, 0)
	case tr.steps && tr.mode != request.ModeSyscall:
		tr.steps = false
		r := &report{status: uint32(unix.SIGTRAP), let: let}
		g.made(t, r)
		const trapBrkpt = 1
		binary.LittleEndian.PutUint32(r.info[siginfo.Code:], trapBrkpt)
		var regs ptrace.Regs
		if g.k.GetRegs(t.TID, &regs) == nil {
			binary.LittleEndian.PutUint64(r.info[siginfo.Addr:], regs[ptrace.RegRIP])
		}
		g.tells(t, r)
	case tr.mode == request.ModeSyscall:
		g.tells(t, g.callReport(t, msgExit, let))
	default:
		g.resume(t, 0)
	}
}
