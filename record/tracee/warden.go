//go:build linux

// This file serves what meets the protections of a Warden.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/ptrace"
)

// segv tells the warden of a SIGSEGV that the kernel sends for an access to memory.
func (g *Group) segv(t *Thread, info *[128]byte) (ours bool) {
	f := &t.fault
	if !f.read(info) {
		return false
	}
	g.paced(t, g.Now())
	if f.Regs == nil {
		f.Regs = new(ptrace.Regs)
	}
	return g.k.GetRegs(t.TID, f.Regs) == nil && g.opts.Warden.Faulted(t, f)
}

// deliver lets a thread go on with a signal that it may have a handler for. The warden
// learns which signals that blocks.
func (g *Group) deliver(t *Thread, s *Signal) {
	w := g.opts.Warden
	w.Delivers(t, s)
	k, ok := g.k.(steppingKernel)
	caught, _, known := dispositions(g.k, t.TID, s.No)
	if _, waits := g.facts.of(t.TID); !ok || !known || !caught || waits {
		g.resume(t, s.No)
		return
	}
	if g.failed(t, k.SingleStep(t.TID, s.No)) {
		return
	}
	stop, err := g.stopSoon(k, t.TID)
	switch {
	case err != nil:
		g.failed(t, err)
		return
	case stop.Kind != ptrace.Signal || stop.Sig != int(unix.SIGTRAP):
		g.later(Fact{TID: t.TID, Stop: stop})
		return
	}
	if mask, err := g.k.SigMask(t.TID); err == nil {
		w.Masked(t, mask)
	}
	g.resume(t, 0)
}

// yields has the warden leave the memory of a thread that has a tracer and stands at the stop
// of f. It reports whether the thread still does.
func (g *Group) yields(t *Thread, f *Fact) bool {
	if f.Stop.Kind >= ptrace.EventFork || !g.opts.Warden.Yields(t) {
		return true
	}
	if f.Stop.Kind != ptrace.Trap && f.Stop.Kind != ptrace.Group {
		return true
	}
	if _, waits := g.facts.of(t.TID); waits { // its end
		return false
	}
	// It has made a step from there, and stands at that one's trap: it is brought back, or
	// PTRACE_LISTEN would fail.
	k := g.k.(steppingKernel)
	if g.k.Interrupt(t.TID) != nil || g.k.ContSyscall(t.TID, 0) != nil {
		return true // it was killed
	}
	stop, err := g.stopSoon(k, t.TID)
	if err != nil {
		return true
	}
	if stop.Kind != ptrace.Trap && stop.Kind != ptrace.Group {
		g.later(Fact{TID: t.TID, Stop: stop})
		return false
	}
	f.Stop, t.at = stop, stop.Kind
	return true
}

// Complete has a thread that is held, and still stands at an instruction which it was let
// go to execute, execute that. serve serves the faults that it meets meanwhile, and reports
// whether it has. What the thread comes to instead is served when its turn comes: so is the
// entry of the call, where the instruction makes one.
func (g *Group) Complete(t *Thread, ip addr.Addr, serve func(*Fault) bool) {
	k, ok := g.k.(steppingKernel)
	waits := g.facts.waitingOf(t.TID)
	var code [2]byte
	if !ok || waits == nil || g.ReadMem(t, code[:], ip) != len(code) {
		return
	}
	step := k.SingleStep
	if makesCall(code) { // stepped over it would have no stops
		step = g.k.ContSyscall
	}
	for range mostPages {
		f := &t.fault
		if f.Regs == nil {
			f.Regs = new(ptrace.Regs)
		}
		if g.k.GetRegs(t.TID, f.Regs) != nil || f.IP() != ip {
			return
		}
		switch stop := waits.Stop; {
		case stop.Kind == ptrace.Trap:
		case stop.Kind == ptrace.Signal && stop.Sig == int(unix.SIGSEGV):
			var info [128]byte
			if g.k.SigInfo(t.TID, &info) != nil || !f.read(&info) || !serve(f) {
				return
			}
		default:
			return
		}
		if step(t.TID, 0) != nil {
			return
		}
		stop, err := g.stopSoon(k, t.TID)
		if err != nil {
			return
		}
		if waits = g.facts.waitingOf(t.TID); waits == nil { // serve has seen to it
			g.later(Fact{TID: t.TID, Stop: stop})
			return
		}
		if stop.Kind == ptrace.Signal && stop.Sig == int(unix.SIGTRAP) {
			waits.Stop.Kind = ptrace.Trap // it stands, and that is all
			return
		}
		waits.Stop = stop
	}
}

// mostPages is more than any instruction needs: of its own, of operands and of a stack.
const mostPages = 16

// makesCall reports whether an instruction makes a system call: syscall, int 0x80 or
// sysenter.
func makesCall(code [2]byte) bool {
	return code == [2]byte{0x0f, 0x05} || code == [2]byte{0xcd, 0x80} || code == [2]byte{0x0f, 0x34}
}

// freeWarded stops all threads, has the warden take its protections away, and lets the
// kernel leave the program alive when this process ends.
func (g *Group) freeWarded() {
	w := g.opts.Warden
	if w == nil {
		return
	}
	g.stopAll()
	freed := map[*Space]bool{}
	for _, signals := range []bool{false, true} { // rather not where a signal is about to come
		for _, t := range g.threads {
			stop, waits := g.facts.of(t.TID)
			if t.over() || freed[t.Space] || !waits || (stop.Kind == ptrace.Signal) != signals || stop.Kind >= ptrace.EventFork {
				continue
			}
			t.at = stop.Kind
			w.Frees(t)
			freed[t.Space] = true
		}
	}
	for _, t := range g.threads {
		_ = g.k.SetOptions(t.TID, g.traceOptions()&^ptrace.OptExitKill)
	}
}
