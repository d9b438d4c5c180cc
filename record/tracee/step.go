//go:build linux

// This file makes system calls in the name of a thread at any stop, each with one stop
// more: what recording page references needs at a page fault or at a call's entry.

package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// Stepper makes calls in the name of a thread that stands at the stop which is being
// served. Done puts the thread back.
type Stepper struct {
	g     *Group
	k     steppingKernel
	t     *Thread
	saved ptrace.Regs
	made  ptrace.Regs // for the call at hand
	mask  uint64      // of blocked signals
	at    addr.Addr   // a system call instruction
	i386  bool
	entry bool         // it stands at the entry of a call, which has not been turned into another
	again bool         // it stood there: the call has to be made once more
	woken bool         // an interrupt or a stop of job control has come meanwhile
	stops []stopSignal // SIGSTOPs that have
	quiet bool         // its signals are blocked
	bare  bool         // they are not, for one call
	plain bool         // it stands in no restartable sequence
	info  *[128]byte
}

// Step prepares a thread for calls in its name. code has the program's system call
// instruction. f is the fault that it stands at, nil if it stands elsewhere: of any other
// signal that is about to be delivered the siginfo is kept.
func (g *Group) Step(t *Thread, code Gate, f *Fault) (*Stepper, error) {
	k, ok := g.k.(steppingKernel)
	if !ok || t.state != Stopped && t.state != Queued {
		return nil, ErrInject
	}
	s := &t.step
	s.g, s.k, s.t, s.mask, s.info = g, k, t, 0, nil
	s.entry, s.again, s.woken, s.stops, s.quiet, s.bare, s.plain = false, false, false, s.stops[:0], false, false, false
	if f != nil {
		s.saved = *f.Regs
	} else if err := g.k.GetRegs(t.TID, &s.saved); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInject, err)
	}
	s.i386 = s.saved[ptrace.RegCS] == user32CS
	if s.at = code.Syscall; s.i386 {
		s.at = code.Int80
	}
	if s.at == 0 || s.saved[ptrace.RegCS] != user64CS && !s.i386 {
		return nil, ErrInject
	}
	if err := s.stand(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInject, err)
	}
	return s, nil
}

// hush blocks the signals of the thread until Done, so that none comes in between. Not
// SIGTRAP: the kernel unblocks it for the step, and takes its handler away.
func (s *Stepper) hush() (err error) {
	if s.quiet {
		return nil
	}
	if s.mask, err = s.g.k.SigMask(s.t.TID); err != nil {
		return fmt.Errorf("%w: %w", ErrInject, err)
	}
	if err = s.g.k.Block(s.t.TID, ^(uint64(1) << (unix.SIGTRAP - 1))); err != nil {
		return fmt.Errorf("%w: %w", ErrInject, err)
	}
	s.quiet = true
	return nil
}

// stand looks at the stop of the thread.
func (s *Stepper) stand(f *Fault) error {
	switch t := s.t; t.at {
	case ptrace.Syscall, ptrace.Seccomp:
		var info ptrace.SyscallInfo
		if err := s.g.k.GetSyscallInfo(t.TID, &info); err != nil {
			return err
		}
		s.entry = info.Op == ptrace.OpEntry || info.Op == ptrace.OpSeccomp
	case ptrace.Signal:
		if f == nil {
			s.info = new([128]byte)
			if err := s.g.k.SigInfo(t.TID, s.info); err != nil {
				return err
			}
		}
	}
	if s.plain = f != nil && f.Plain; !s.entry && !s.plain {
		s.plain = s.leaveSequence()
	}
	return nil
}

// Plain reports whether the thread stands in no restartable sequence. An instruction that
// is in none is never in one.
func (s *Stepper) Plain() bool { return s.plain }

// Gate is where a program has instructions that enter the kernel, 0 for none.
type Gate struct{ Syscall, Int80 addr.Addr }

// leaveSequence does what the kernel does to a thread that it has interrupted in a
// restartable sequence: the sequence begins anew. The kernel cannot, because it finds the
// thread in another place first. It reports whether there is none.
func (s *Stepper) leaveSequence() (none bool) {
	t := s.t
	if !t.rseqKnown {
		t.rseqKnown = true
		if at, err := s.g.k.RSeq(t.TID); err == nil {
			t.rseq = addr.Addr(at)
		}
	}
	if t.rseq == 0 {
		return false // until it has an area
	}
	word := func(at addr.Addr) uint64 {
		var b [8]byte
		s.g.ReadMem(t, b[:], at)
		return binary.LittleEndian.Uint64(b[:])
	}
	section := addr.Addr(word(t.rseq + 8)) // struct rseq: rseq_cs
	if section == 0 {
		return true
	}
	start, length, abort := word(section+8), word(section+16), word(section+24) // struct rseq_cs
	if s.saved[ptrace.RegRIP]-start < length {
		s.saved[ptrace.RegRIP] = abort
	}
	return false
}

// Call makes one call and returns what is in the result register.
func (s *Stepper) Call(name string, args ...uint64) (int64, error) {
	id := arch.X86_64
	if s.i386 {
		id = arch.I386
	}
	nr, ok := id.Number(name)
	if !ok {
		return 0, ErrInject
	}
	return s.call(nr, args...)
}

// Protect sets the protection of a range: mprotect(2).
func (s *Stepper) Protect(r addr.Range, prot addr.Prot) (int64, error) {
	nr := uint32(10)
	if s.i386 {
		nr = 125
	}
	return s.call(nr, uint64(r.Start), r.Len(), uint64(prot&7))
}

// ProtectOnce is Protect for a thread that stands at a fault and of which nothing else has
// been asked. Its signals are not blocked: if one comes first the thread stands where it
// stood, as if the signal had come to it there, and the error is ErrPreempted. SIGTRAP must
// be neither blocked nor ignored.
func (s *Stepper) ProtectOnce(r addr.Range, prot addr.Prot) (int64, error) {
	s.bare = !s.quiet && s.info == nil && !s.entry && !s.again
	defer func() { s.bare = false }()
	return s.Protect(r, prot)
}

func (s *Stepper) call(nr uint32, args ...uint64) (int64, error) {
	if s.t == nil {
		return 0, ErrPreempted
	}
	if !s.bare {
		if err := s.hush(); err != nil {
			return 0, err
		}
	}
	regs := &s.made
	*regs = s.saved
	regs.SetArgs(s.i386, args...)
	if s.entry { // the call at hand becomes this one
		s.entry, s.again = false, true
		regs[ptrace.RegOrigRAX] = uint64(nr)
	} else {
		regs[ptrace.RegRIP], regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(s.at), uint64(nr), ^uint64(0)
	}
	if err := s.setRegs(regs); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInject, err)
	}
	if err := s.stepTo(ptrace.Signal); err != nil {
		return 0, err
	}
	ret, err := s.k.Reg(s.t.TID, ptrace.RegRAX)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInject, err)
	}
	if s.i386 {
		return int64(int32(ret)), nil
	}
	return int64(ret), nil
}

// setRegs sets the registers that a call has, and changes.
func (s *Stepper) setRegs(regs *ptrace.Regs) error {
	if s.i386 {
		return s.g.k.SetRegs(s.t.TID, regs)
	}
	return s.k.SetCallRegs(s.t.TID, regs)
}

// stepTo lets the thread go on to the trap behind one instruction (kind Signal), or to
// the entry of the next call (kind Syscall).
func (s *Stepper) stepTo(kind ptrace.StopKind) error {
	g, t := s.g, s.t
	for {
		var err error
		if kind == ptrace.Signal {
			err = s.k.SingleStep(t.TID, 0)
		} else {
			err = g.k.ContSyscall(t.TID, 0)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInject, err)
		}
		stop, err := g.stopSoon(s.k, t.TID)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInject, err)
		}
		switch stop.Kind {
		case kind:
			if kind == ptrace.Syscall || stop.Sig == int(unix.SIGTRAP) {
				return nil
			}
			if s.bare {
				if err := s.setRegs(&s.saved); err != nil {
					return fmt.Errorf("%w: %w", ErrInject, err)
				}
				return s.preempted(stop)
			}
			if s.putOff(stop) {
				continue
			}
			return fmt.Errorf("%w: it met signal %d", ErrInject, stop.Sig)
		case ptrace.Signal:
			if s.putOff(stop) {
				continue
			}
			return s.preempted(stop)
		case ptrace.Trap, ptrace.Group:
			s.woken = true
		case ptrace.Seccomp: // a filter has seen the call
		default:
			return s.preempted(stop)
		}
	}
}

// stopSignal is the siginfo of a SIGSTOP, which cannot be blocked.
type stopSignal [128]byte

// putOff has a SIGSTOP come to the thread when that is put back. It reports whether the stop
// is one for that.
func (s *Stepper) putOff(stop ptrace.Stop) bool {
	var info stopSignal
	if stop.Sig != int(unix.SIGSTOP) || s.g.k.SigInfo(s.t.TID, (*[128]byte)(&info)) != nil {
		return false
	}
	s.stops = append(s.stops, info)
	return true
}

// stopAgain sends the SIGSTOPs that were put off: the process is stopped when it goes on.
func (s *Stepper) stopAgain() {
	for i := range s.stops {
		info := (*[128]byte)(&s.stops[i])
		if siginfo.CookieOf(info) == 0 {
			again := siginfo.CookieUser
			if siginfo.CodeOf(info) == siginfo.Tkill {
				again = siginfo.CookieThread
			}
			le := binary.LittleEndian
			siginfo.PutCookie(info, again, int(le.Uint32(info[siginfo.PID:])), le.Uint32(info[siginfo.UID:]))
		}
		if s.g.nest.k == nil || s.g.nest.k.Queue(s.t.Proc.PID, s.t.TID, int(unix.SIGSTOP), info) != nil {
			_ = s.g.k.Kill(s.t.Proc.PID, unix.SIGSTOP)
		}
	}
	s.stops = s.stops[:0]
}

// preempted keeps what the thread has reported instead: its end.
func (s *Stepper) preempted(stop ptrace.Stop) error {
	t := s.t
	s.t = nil
	s.g.later(Fact{TID: t.TID, Stop: stop})
	return ErrPreempted
}

// Done puts the thread back where it was. After a call from the entry of a call that is
// the entry once more.
func (s *Stepper) Done() error {
	g, t := s.g, s.t
	if t == nil {
		return ErrPreempted
	}
	if s.again {
		regs := s.saved
		again(&regs, regs[ptrace.RegOrigRAX])
		if err := g.k.SetRegs(t.TID, &regs); err != nil {
			return err
		}
		if err := s.stepTo(ptrace.Syscall); err != nil {
			return err
		}
	} else if err := s.setRegs(&s.saved); err != nil {
		return err
	}
	if s.quiet {
		if err := g.k.Block(t.TID, s.mask); err != nil {
			return err
		}
	}
	if s.info != nil {
		if err := s.k.SetSigInfo(t.TID, s.info); err != nil {
			return err
		}
	}
	s.stopAgain()
	if s.woken && g.k.Interrupt(t.TID) == nil {
		t.asked = true
	}
	return nil
}

// SP is the stack pointer.
func (s *Stepper) SP() addr.Addr { return addr.Addr(s.saved[arch.RSP]) }

// Instruction is where the instruction lies that made the call at hand, if the thread
// stands at its entry: it has to be there when the call is made once more.
func (s *Stepper) Instruction() (r addr.Range) {
	if s.entry || s.again {
		ip := addr.Addr(s.saved[ptrace.RegRIP])
		r = addr.Range{Start: ip - 2, End: ip}
	}
	return r
}

// Mask are the signals that a thread which stands still blocks.
func (g *Group) Mask(t *Thread) (uint64, error) { return g.k.SigMask(t.TID) }

// Block has the thread block these signals, too, when Done has been called.
func (s *Stepper) Block(mask uint64) {
	if s.hush() == nil {
		s.mask |= mask
	}
}
