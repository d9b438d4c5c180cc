//go:build linux

// This file knows which signals threads block and what their processes do with them, and
// gives back what the kernel takes from them for our faults.

package pagetrace

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/record/tracee"
)

// actionsOf is what the process of a thread does with signals.
func (w *Warden) actionsOf(t *tracee.Thread) *actions {
	if w.last.proc == t.Proc {
		return w.last.does
	}
	a := w.actions[t.Proc]
	if a == nil {
		a = w.firstActions(t)
		w.actions[t.Proc] = a
	}
	w.last.proc, w.last.does = t.Proc, a
	return a
}

// firstActions are those of a process that is met for the first time: a copy of its
// parent's, or after an exec what it ignores.
func (w *Warden) firstActions(t *tracee.Thread) *actions {
	a := new(actions)
	for p, theirs := range w.actions {
		if p.No == t.Proc.Parent {
			*a = *theirs
		}
	}
	return a
}

// learnActions learns what a process does with signals when its trace begins: after an exec
// it ignores some, and one that has been attached to is asked what it does with SIGSEGV.
func (w *Warden) learnActions(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	a := new(actions)
	w.actions[t.Proc], w.last.proc = a, nil
	status, err := w.host.Status(t.TID)
	if err != nil {
		return
	}
	for sig, bits := 1, proctext.Field(status, "SigIgn").Hex(); sig <= 64; sig++ {
		if bits>>(sig-1)&1 != 0 {
			a.set[sig] = make([]byte, actionSize(t))
			a.set[sig][0] = sigIgn
		}
	}
	const segv = int(unix.SIGSEGV)
	if proctext.Field(status, "SigCgt").Hex()&segvBit == 0 {
		return
	}
	at := s.SP().PageDown() - 256 // below the red zone, and nothing else is there
	var was, now [64]byte
	if n, _ := m.Kernel().ReadMem(was[:], at); n != len(was) {
		return
	}
	if ret, err := s.Call("rt_sigaction", uint64(segv), 0, uint64(at), 8); err == nil && ret == 0 {
		if n, _ := m.Kernel().ReadMem(now[:], at); n == len(now) {
			a.set[segv] = append([]byte(nil), now[:actionSize(t)]...)
		}
	}
	if ret, err := s.Call("sigaltstack", 0, uint64(at)); err == nil && ret == 0 {
		if n, _ := m.Kernel().ReadMem(now[:], at); n == len(now) {
			w.host.Thread(t).alt = stackOf(t.Proc.Arch, now[:])
		}
	}
	_, _ = m.Kernel().WriteMem(was[:], at)
}

// learn keeps what a completed call says about signals.
func (w *Warden) learn(t *tracee.Thread, c *tracee.Call) {
	if c.Failed() != 0 {
		return
	}
	a := &c.Args
	switch callName(c) {
	case "rt_sigaction":
		size := actionSize(t)
		if sig := int(a[0]); a[1] != 0 && sig > 0 && sig <= 64 {
			b := make([]byte, size)
			if w.group.ReadMem(t, b, addr.Addr(a[1])) == size {
				w.actionsOf(t).set[sig] = b
			}
		}
	case "sigaction", "signal": // of i386
		if sig := int(a[0]); sig > 0 && sig <= 64 {
			w.queryAction(t, sig)
		}
	case "sigaltstack":
		w.altStack(t, c)
	case "rseq":
		t.SetRSeq(addr.Addr(a[0]))
	case "prctl":
		if a[0] == prSetMM {
			w.host.Space(t).pinArguments(t.Proc.PID)
		}
	}
}

// queryAction is for calls that set an action in another layout: it is as if the default
// was set, until the kernel is asked.
func (w *Warden) queryAction(t *tracee.Thread, sig int) { w.actionsOf(t).set[sig] = nil }

// altStack keeps where a thread has its stack for signal handlers.
func (w *Warden) altStack(t *tracee.Thread, c *tracee.Call) {
	if c.Args[0] == 0 {
		return
	}
	var b [24]byte
	if w.group.ReadMem(t, b[:], addr.Addr(c.Args[0])) == len(b) {
		w.host.Thread(t).alt = stackOf(c.Arch, b[:])
	}
}

// Masked keeps which signals a thread blocks.
func (w *Warden) Masked(t *tracee.Thread, mask uint64) {
	w.host.Thread(t).blocked = mask
}

// Inherit gives a new thread what it has of its parent's signals.
func (w *Warden) Inherit(child *tracee.Thread, b tracee.Birth) {
	theirs, its := w.host.Thread(b.Parent), w.host.Thread(child)
	its.blocked = theirs.blocked
	if !b.Clone.SharesMemory() || b.Clone.Flags&unix.CLONE_VFORK != 0 {
		its.alt = theirs.alt // sigaltstack(2)
	}
}

// handles reports whether the kernel leaves the signals of a fault and of a step to the
// thread: it neither blocks nor ignores them.
func (w *Warden) handles(t *tracee.Thread) bool {
	a := w.actionsOf(t)
	return w.host.Thread(t).blocked&(segvBit|trapBit) == 0 && a.handler(int(unix.SIGSEGV)) != sigIgn && a.handler(int(unix.SIGTRAP)) != sigIgn
}

// stripped reports whether the kernel has taken a thread's action of SIGSEGV away with a fault:
// it does where that is blocked or ignored.
func (w *Warden) stripped(t *tracee.Thread) bool {
	return w.host.Thread(t).blocked&segvBit != 0 || w.actionsOf(t).handler(int(unix.SIGSEGV)) == sigIgn
}

// repair gives SIGSEGV its action and its place among the blocked signals back, which the
// kernel has taken from it because it could not be delivered.
func (w *Warden) repair(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	const segv = int(unix.SIGSEGV)
	if b := w.actionsOf(t).set[segv]; b != nil {
		if _, err := m.Kernel().WriteMem(b, m.trace.spare); err == nil {
			_, _ = s.Call("rt_sigaction", uint64(segv), uint64(m.trace.spare), 0, 8)
		}
	}
	if w.host.Thread(t).blocked&segvBit != 0 {
		s.Block(segvBit)
	}
}

// frameSize is how much the kernel writes to a stack for a signal, with the red zone of
// x86_64 and room for extended states.
const frameSize = 12<<10 + 128

// frame is where the frame of a signal goes.
func (w *Warden) frame(t *tracee.Thread, sp addr.Addr, onStack bool) addr.Range {
	alt := w.host.Thread(t).alt
	if onStack && !alt.Empty() && !alt.Contains(sp) {
		sp = alt.End
	}
	return addr.Range{Start: sp - min(sp, frameSize), End: sp}
}

// spOf is the stack pointer among registers in the order of the thread's architecture.
func spOf(t *tracee.Thread, regs []uint64) addr.Addr {
	return addr.Addr(regs[t.Proc.Arch.SP()])
}
