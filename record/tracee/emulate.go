//go:build linux

// This file lets tracees trace each other, as if nobody traced them: who traces whom,
// which of our stops a tracer of theirs is told of, and how its tracees go on.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/siginfo"
)

// traced is what a thread is to the tracer that it has among our tracees.
type traced struct {
	by      *Thread
	seized  bool
	opts    uint32
	mode    request.Mode
	report  *report // what it stands in, and its tracer is or was told; nil while it runs
	asked   bool    // its tracer has asked it to stop, and no stop has answered yet
	joins   bool    // it was stopped by job control when its tracer came, which is to be reported
	born    bool    // it is new, and its first stop is to be reported
	stops   int     // SIGSTOPs on their way that an attach has caused
	filters bool    // the kernel tells us of its seccomp stops
	inCall  bool    // its tracer was told of the entry of the call in progress
	steps   bool    // it makes a step, or the call that it came to with one
}

// report is a stop that an emulated tracer is told of.
type report struct {
	status uint32 // of wait(2), without the 0x7f: a signal, and the event above it
	info   [128]byte
	noInfo bool // PTRACE_GETSIGINFO is EINVAL
	real   bool // info is the kernel's: of a signal that is about to be delivered
	call   bool // PTRACE_GET_SYSCALL_INFO tells of a call
	group  bool // PTRACE_LISTEN is possible
	msg    uint64
	waited bool
	serial uint64        // in the order of the stops
	let    func(sig int) // lets the thread go on
}

// death is the end of a tracee of which the kernel does not tell its emulated tracer.
type death struct {
	by     *Thread
	tid    int
	status uint32 // of wait(2)
	uid    uint32
	serial uint64
}

// nest is what a Group knows of tracers among its tracees.
type nest struct {
	k      emulator
	dead   []death
	serial uint64 // of reports and deaths
}

// Traced reports whether the thread has a tracer among our tracees.
func (t *Thread) Traced() bool { return t.traced != nil }

// attach makes a thread the tracee of another.
func (g *Group) attach(t, by *Thread, seized bool, opts uint32) *traced {
	if t.inside.on {
		g.Outside(t.Space)
	}
	t.traced = &traced{by: by, seized: seized, opts: opts}
	by.tracees++
	return t.traced
}

// part ends that.
func (g *Group) part(t *Thread) {
	if t.traced != nil {
		by := t.traced.by
		by.tracees--
		t.traced = nil
		g.wakeWaiters(by.Proc) // it may be the last one they can wait for
	}
}

// tracedBy are the tracees of a thread.
func (g *Group) tracedBy(by *Thread) (all []*Thread) {
	if by.tracees == 0 {
		return nil
	}
	for _, t := range g.threads {
		if t.traced != nil && t.traced.by == by {
			all = append(all, t)
		}
	}
	return all
}

// tells has a thread stand, and tells its tracer.
func (g *Group) tells(t *Thread, r *report) {
	tr := t.traced
	tr.asked = tr.asked && (!r.answers() || tr.joins)
	tr.joins = false
	g.nest.serial++
	r.serial = g.nest.serial
	tr.report = r
	g.wantSeccomp(t)
	g.become(t, Held)
	g.childSignal(tr.by, t, siginfo.CookieChild, r.status)
	g.wakeWaiters(tr.by.Proc)
}

// wantSeccomp has the kernel tell of seccomp stops for which a thread's tracer has asked.
func (g *Group) wantSeccomp(t *Thread) {
	if tr := t.traced; tr.opts&request.OptSeccomp != 0 && !tr.filters && g.filter == nil {
		tr.filters = g.k.SetOptions(t.TID, g.traceOptions()|ptrace.OptSeccomp) == nil
	}
}

// answers reports whether a stop is what PTRACE_INTERRUPT asks for.
func (r *report) answers() bool { return r.status>>8 == unix.PTRACE_EVENT_STOP }

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

// wants reports whether a thread has a tracer that asked for an event.
func (t *Thread) wants(opt uint32) bool { return t.traced != nil && t.traced.opts&opt != 0 }

// goOn lets a thread go on after an event, or tells its tracer of it first.
func (g *Group) goOn(t *Thread, event int, msg uint64) {
	if t.wants(1 << event) {
		g.tells(t, g.event(t, event, msg))
		return
	}
	g.resume(t, 0)
}

// letHeld lets a thread go on as its tracer wants it to.
func (g *Group) letHeld(t *Thread, m request.Mode, sig int) {
	tr := t.traced
	r := tr.report
	tr.report, tr.mode, tr.steps = nil, m, false
	g.become(t, Stopped)
	r.let(sig)
}

// letDetached lets a thread go on that has no tracer any more.
func (g *Group) letDetached(t *Thread, sig int) {
	r := t.traced.report
	stops := t.traced.stops
	g.part(t)
	if r != nil {
		g.become(t, Stopped)
		if r.group && t.Proc.stopped && sig == 0 { // job control has it
			g.become(t, Listening)
			g.failed(t, g.k.Listen(t.TID))
			return
		}
		r.let(sig)
	} else if stops > 0 {
		t.strays += stops // they are not the program's
	}
}

// letHeldGo lets the threads go for good that stand at a stop of which their tracer was told,
// as if that one had ended.
func (g *Group) letHeldGo() {
	for _, t := range g.threads {
		if t.state != Held || g.filter != nil {
			continue
		}
		sig := 0
		if r := t.traced.report; r != nil && r.real && !r.waited {
			sig = int(r.status)
		}
		_ = g.k.Detach(t.TID, sig)
	}
}

// abandonTracees ends the relation of a tracer that ends, or becomes another program, to its
// tracees.
func (g *Group) abandonTracees(by *Thread) {
	for _, t := range g.tracedBy(by) {
		switch r := t.traced.report; {
		case t.traced.opts&request.OptExitKill != 0:
			g.part(t)
			_ = g.k.Kill(t.Proc.PID, unix.SIGKILL)
		case r == nil || r.waited || !r.real:
			g.letDetached(t, 0)
		default:
			g.letDetached(t, int(r.status&0x7f))
		}
	}
	kept := g.nest.dead[:0]
	for _, d := range g.nest.dead {
		if d.by != by {
			kept = append(kept, d)
		}
	}
	g.nest.dead = kept
}

// isGone ends what a thread that has ended was to others.
func (g *Group) isGone(t *Thread, status uint32) {
	if t.tracees > 0 || len(g.nest.dead) > 0 {
		g.abandonTracees(t)
	}
	tr := t.traced
	if tr == nil {
		return
	}
	g.part(t)
	if t.TID == t.Proc.PID && t.Proc.maker != nil && t.Proc.maker.Proc == tr.by.Proc {
		return // a child: the kernel tells of it
	}
	g.nest.serial++
	g.nest.dead = append(g.nest.dead, death{tr.by, t.TID, status, g.uid(t), g.nest.serial})
	g.childSignal(tr.by, t, siginfo.CookieEnd, status)
	g.wakeWaiters(tr.by.Proc)
}

// callNow is the call at whose entry a thread stands, with what its tracer has changed.
func (g *Group) callNow(t *Thread, u [8]uint64) [8]uint64 {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		args := regs.Args(imageArch(&regs) != t.Proc.Arch || regs[ptrace.RegCS] == user32CS)
		u[0] = uint64(uint32(regs[ptrace.RegOrigRAX]))
		copy(u[1:], args[:])
	}
	return u
}

// skipCall has the call at whose entry a thread stands not be made.
func (g *Group) skipCall(t *Thread) {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		regs[ptrace.RegOrigRAX] = ^uint64(0)
		_ = g.k.SetRegs(t.TID, &regs)
	}
}

// callReport is the report of the entry or the exit of a call.
func (g *Group) callReport(t *Thread, let func(int)) *report {
	r := &report{status: uint32(unix.SIGTRAP), call: true, let: let}
	if t.traced.opts&request.OptSysGood != 0 {
		r.status |= 0x80
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
		g.tells(t, g.callReport(t, let))
	default:
		g.resume(t, 0)
	}
}

// sendOwn sends a signal that a tracer has its tracee go on with from a stop at which none
// can be delivered.
func (g *Group) sendOwn(t *Thread, sig int) {
	if sig == 0 {
		return
	}
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(sig))
	siginfo.PutCookie(&info, siginfo.CookieSignal, t.TID, 0)
	_ = g.nest.k.Queue(t.Proc.PID, t.TID, sig, &info)
}

// letTraced lets a stopped thread go on that has a tracer, as that one wants it to. It
// reports false where it goes on as any other.
func (g *Group) letTraced(t *Thread, sig int) (err error, done bool) {
	tr := t.traced
	steps := tr.mode == request.ModeStep || tr.mode == request.ModeSysemuStep
	if steps && t.call == nil && t.rest == nil {
		tr.steps = true
		return g.nest.k.SysemuStep(t.TID, sig), true
	}
	if steps {
		tr.steps = true
	}
	if tr.mode != request.ModeCont || tr.steps {
		return g.k.ContSyscall(t.TID, sig), true
	}
	return nil, false
}

// tellSignal tells a thread's tracer of a signal that is about to be delivered.
func (g *Group) tellSignal(t *Thread, sig int, ours bool, info *[128]byte) {
	tr := t.traced
	r := &report{status: uint32(sig), info: *info, real: true}
	tr.steps = false
	code := int32(binary.LittleEndian.Uint32(info[siginfo.Code:]))
	if sig == int(unix.SIGTRAP) && code == int32(unix.SIGTRAP) { // the first instruction of a handler
		r.real = false
		r.let = func(sig int) {
			g.sendOwn(t, sig)
			g.resume(t, 0)
		}
		g.tells(t, r)
		return
	}
	r.let = func(with int) {
		if with == 0 {
			g.undo(t) // nothing has come, as far as the program knows
			g.resume(t, 0)
			return
		}
		if with != sig { // as if the tracer had sent it (kernel/signal.c, ptrace_signal)
			r.info = [128]byte{}
			binary.LittleEndian.PutUint32(r.info[0:], uint32(with))
			binary.LittleEndian.PutUint32(r.info[siginfo.PID:], uint32(tr.by.Proc.PID))
			binary.LittleEndian.PutUint32(r.info[siginfo.UID:], g.uid(tr.by))
			_ = g.nest.k.SetSigInfo(t.TID, &r.info)
		}
		g.deliverTo(t, with, ours, &r.info)
	}
	g.tells(t, r)
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
	case tr.born, tr.asked, listened && tr.seized:
		tr.born = false
		sig := int(unix.SIGTRAP)
		g.tells(t, g.groupReport(t, sig, false))
	default:
		return false
	}
	return true
}

// eventOf are the events of ptrace(2) that tell of a new thread or process.
var eventOf = map[ptrace.StopKind]int{
	ptrace.EventFork: unix.PTRACE_EVENT_FORK, ptrace.EventVfork: unix.PTRACE_EVENT_VFORK, ptrace.EventClone: unix.PTRACE_EVENT_CLONE,
}

// inheritTracer gives a new thread its parent's tracer, where that one asked for it or the
// parent did (CLONE_PTRACE). It reports whether the tracer is to be told of the event.
func (g *Group) inheritTracer(parent, child *Thread, kind ptrace.StopKind, flags uint64) (told bool) {
	tr := parent.traced
	if tr == nil || !g.nested() || parent.patch != nil { // CLONE_UNTRACED
		return false
	}
	told = tr.opts&(1<<eventOf[kind]) != 0
	if told || flags&unix.CLONE_PTRACE != 0 {
		c := g.attach(child, tr.by, tr.seized, tr.opts)
		c.born, c.mode = true, request.ModeCont
	}
	return told
}

// signalTraced serves a signal that is ours, or of which a thread's tracer is told first. It
// reports whether it has.
func (g *Group) signalTraced(t *Thread, sig int, ours bool, info *[128]byte) bool {
	own := g.ownSignal(t, info)
	switch tr := t.traced; {
	case own == siginfo.CookieStop && t.strays > 0:
		t.strays--
		g.resume(t, 0)
	case own == siginfo.CookieStop && tr == nil, own == siginfo.CookieExec && tr == nil:
		g.resume(t, 0)
	case tr != nil:
		if own == siginfo.CookieStop {
			tr.stops--
		}
		g.tellSignal(t, sig, ours, info)
	default:
		return false
	}
	return true
}
