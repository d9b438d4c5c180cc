//go:build linux

// This file serves signals and the stops of job control.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// signal passes a signal on to the thread, after telling of it.
func (g *Group) signal(t *Thread, sig int, ours bool) {
	info := &t.info
	if g.failed(t, g.k.SigInfo(t.TID, info)) {
		return
	}
	if t.newborn && sig == int(unix.SIGURG) && siginfo.CodeOf(info) == siginfo.Tkill {
		// The Go runtime of the launcher sent it to itself, to preempt a
		// goroutine, and the exec came first. The program has not done anything yet.
		g.resume(t, 0)
		return
	}
	if sig == int(unix.SIGSEGV) && g.opts.Warden != nil && g.segv(t, info) {
		g.soon = t.pin.on
		g.resume(t, 0)
		return
	}
	if g.nested() && g.signalTraced(t, sig, ours, info) {
		return
	}
	g.deliverTo(t, sig, ours, info)
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

// tellSignal tells a thread's tracer of a signal that is about to be delivered.
func (g *Group) tellSignal(t *Thread, sig int, ours bool, info *[128]byte) {
	tr := t.traced
	r := &report{status: uint32(sig), info: *info, real: true}
	tr.steps, tr.told = false, tr.told && sig != int(unix.SIGCONT)
	code := siginfo.CodeOf(info)
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

// deliverTo delivers a signal after telling of it.
func (g *Group) deliverTo(t *Thread, sig int, ours bool, info *[128]byte) {
	s := &Signal{No: sig, Info: info[:], Fatal: fatal(g.k, t.TID, sig)}
	for len(s.Info) > 12 && s.Info[len(s.Info)-1] == 0 {
		s.Info = s.Info[:len(s.Info)-1]
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		s.Regs = valuesOf(t.Proc.Arch, &regs)
	}
	if stops(sig) {
		for _, o := range t.Proc.Threads {
			if o.traced != nil {
				o.traced.onward = false
			}
		}
	}
	deliver := g.h.Signalled(t, s)
	idle := doesNothing(g.k, t.TID, sig)
	if idle {
		t.Proc.idleAt = g.Now()
	}
	switch {
	case t.rest != nil && !idle:
		g.cutRemainder(t)
	case interrupted(&regs) && idle:
		// Only because it is traced has the thread been woken by it at all.
		undoInterrupt(g.k, t.TID)
	case (g.filter != nil || ours) && idle:
		g.begin(t, true, 0)
	}
	switch {
	case !deliver:
		g.resume(t, 0)
	case g.opts.Warden != nil && t.traced == nil:
		g.deliver(t, s)
	default:
		g.resume(t, sig)
	}
}

// cutRemainder ends the rest of a call for a signal that has come before the thread has
// made the next part: the program gets the one with the other, as it would have.
func (g *Group) cutRemainder(t *Thread) {
	r := t.rest
	g.endRemainder(t)
	if c := t.call; c != nil {
		g.returned(t, int64(r.done), r.regs[ptrace.RegRIP], c.SP)
	}
}

// groupStop leaves a thread in the stop that job control put its process in. One that is
// past has ended for the process.
func (g *Group) groupStop(t *Thread, sig int, past bool) {
	if !t.Proc.stopped && !past {
		t.Proc.stopped = true
		g.h.Stopped(t, sig)
	}
	if t.traced != nil {
		g.tells(t, g.groupReport(t, sig, true))
		return
	}
	g.become(t, Listening)
	g.failed(t, g.k.Listen(t.TID))
}

// passStops marks stops of job control that have not been served when their end is: wait(2)
// tells of threads in an order of its own. Whoever stops for the next one is told of by
// the thread that told of the end, too.
func (g *Group) passStops(p *Process) {
	for {
		f, err := g.facts.source.Next(true)
		if err != nil || f.TID == 0 {
			break
		}
		g.later(f)
	}
	for i := range g.facts.waiting {
		f := &g.facts.waiting[i]
		if t := g.threads[f.TID]; t != nil && t.Proc == p && f.Call == nil && f.Stop.Kind == ptrace.Group {
			f.past = !f.listened
		}
	}
}

// trap serves a thread that stopped because we or a SIGCONT asked it to, or
// because it is new.
func (g *Group) trap(t *Thread, listened, ours bool) {
	if (listened || t.traced != nil && !ours) && t.Proc.stopped {
		g.passStops(t.Proc)
		t.Proc.stopped = false
		g.h.Stopped(t, 0)
	}
	if g.pausing {
		g.pausing = false
		g.h.Paused(t)
	}
	if t.call == nil {
		g.undisguise(t) // it is new
	}
	if g.tellTrap(t, listened) {
		return
	}
	if ours {
		g.undo(t)
	}
	g.resume(t, 0)
}
