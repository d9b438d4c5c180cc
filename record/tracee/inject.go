//go:build linux

// This file makes system calls in the name of a stopped thread.

package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Errors of an Injector. The thread is as it was before.
var (
	ErrInject    = errors.New("cannot make a system call in the program")
	ErrPreempted = errors.New("the thread reported something else first") // which waits to be served
	ErrNotNow    = errors.New("the thread stands where it could not be put back")
	ErrStray     = errors.New("a system call made in the program did not end") // it is put back when it does
)

// Injector makes system calls in the name of a stopped thread, whose registers
// it puts back when it is done.
type Injector struct {
	g     *Group
	t     *Thread
	saved ptrace.Regs
	mask  uint64    // of blocked signals
	at    addr.Addr // a system call instruction
	i386  bool
	done  bool
}

// Instructions that enter the kernel. The vdso has one of them.
var (
	insnSyscall = []byte{0x0f, 0x05}
	insnInt80   = []byte{0xcd, 0x80}
)

// Injectable reports whether a thread stands where a call can be made in its name:
// at the stop of an interrupt, or at the end of a call. Not where a signal is about
// to be served that only the call's own mask let in, nor at a stop of which a tracer may be
// told: the thread would stand there no more, and PTRACE_LISTEN would fail.
func (g *Group) Injectable(t *Thread) bool {
	if t.rest != nil || t.inside.on {
		return false
	}
	if s, waits := g.facts.of(t.TID); waits {
		return s.Kind == ptrace.Trap && t.traced == nil
	}
	c := &t.calls
	return t.state == Stopped && t.at == ptrace.Syscall && t.call == nil && c.Returned && c.Ret != -eIntr && !restarts(c.Ret)
}

// Inject prepares a thread for calls in its name. It must be Injectable, and all
// others of its address space must be held. code is the vdso, which has the
// instructions, and its address.
func (g *Group) Inject(t *Thread, code []byte, base addr.Addr) (*Injector, error) {
	in := &Injector{g: g, t: t}
	if !g.Injectable(t) || g.k.GetRegs(t.TID, &in.saved) != nil {
		return nil, ErrInject
	}
	insn := insnSyscall
	if in.i386 = imageArch(&in.saved) == arch.I386; in.i386 {
		insn = insnInt80
	}
	i := bytes.Index(code, insn)
	if i < 0 || !g.entersKernel(t, &in.saved) || !in.settle() {
		return nil, ErrInject
	}
	if g.inSequence(t, &in.saved) {
		return nil, ErrNotNow
	}
	in.at = base + addr.Addr(i)
	return in, in.block()
}

// entersKernel reports whether a system call instruction that the thread comes to makes
// a system call: not in a code segment of the program's own (modify_ldt(2)), nor where
// calls are delivered as signals, which kills a program that does not expect it.
func (g *Group) entersKernel(t *Thread, regs *ptrace.Regs) bool {
	if cs := regs[ptrace.RegCS]; cs != user64CS && cs != user32CS {
		return false
	}
	dispatches, err := g.k.Dispatches(t.TID)
	return err == nil && !dispatches
}

// inSequence reports whether a thread stands in a restartable sequence. The kernel has
// it begin anew if the thread is found there when it goes on; if it is found elsewhere
// first, the kernel forgets that (kernel/rseq.c).
func (g *Group) inSequence(t *Thread, regs *ptrace.Regs) bool {
	area, err := g.k.RSeq(t.TID)
	if err != nil || area == 0 {
		return false
	}
	word := func(at uint64) (uint64, bool) {
		var b [8]byte
		ok := g.ReadMem(t, b[:], addr.Addr(at)) == len(b)
		return binary.LittleEndian.Uint64(b[:]), ok
	}
	section, ok := word(area + 8) // struct rseq: rseq_cs
	if !ok || section == 0 {
		return !ok
	}
	start, ok1 := word(section + 8) // struct rseq_cs: start_ip, post_commit_offset
	length, ok2 := word(section + 16)
	return !ok1 || !ok2 || regs[ptrace.RegRIP]-start < length
}

// block keeps signals from coming in between: a call that has made something in
// the program is followed by one that takes it away again.
func (in *Injector) block() (err error) {
	if in.mask, err = in.g.k.SigMask(in.t.TID); err != nil {
		return ErrInject
	}
	if in.g.k.Block(in.t.TID, ^uint64(0)) != nil {
		return ErrInject
	}
	return nil
}

// settle does to the saved registers what the kernel would have done to those of
// a call that only we have interrupted, had we not come in between. It reports
// false where that cannot be told.
func (in *Injector) settle() bool {
	s := &in.saved
	if int32(s[ptrace.RegOrigRAX]) < 0 {
		return true
	}
	nr := s[ptrace.RegOrigRAX]
	switch -int32(s[ptrace.RegRAX]) {
	case eRestartSys, eRestartNoIntr, eRestartNoHand:
	case eRestartByBlock:
		nr = 219 // restart_syscall
		if in.i386 {
			nr = 0
		}
	default:
		return true
	}
	if signalsPending(in.g.k, in.t.TID) {
		return false
	}
	again(s, nr)
	return true
}

// Call makes one call and returns what is in the result register.
func (in *Injector) Call(name string, args ...uint64) (int64, error) {
	id := arch.X86_64
	if in.i386 {
		id = arch.I386
	}
	nr, ok := id.Number(name)
	if !ok || in.done {
		return 0, ErrInject
	}
	regs := in.saved
	regs[ptrace.RegRIP], regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(in.at), uint64(nr), ^uint64(0)
	regs.SetArgs(in.i386, args...)
	if in.g.k.SetRegs(in.t.TID, &regs) != nil {
		return 0, ErrInject
	}
	if _, err := in.reach(ptrace.OpEntry); err != nil {
		return 0, err
	}
	return in.reach(ptrace.OpExit)
}

// reach lets the thread go on to the entry or the exit of the call, and returns
// the result.
func (in *Injector) reach(op uint8) (ret int64, err error) {
	f, info, err := in.next()
	if err == nil && f.Stop.Kind == ptrace.Seccomp && op == ptrace.OpExit {
		f, info, err = in.next() // our filter has seen the call
	}
	if err != nil {
		return 0, err
	}
	if f.TID == 0 {
		s := &stray{regs: in.saved, mask: in.mask}
		in.t.stray, in.done = s, true
		in.g.facts.drop(func(o Fact) bool {
			mine := o.TID == in.t.TID && o.Call == nil
			if mine {
				s.waits = append(s.waits, o)
			}
			return mine
		})
		in.g.become(in.t, in.t.free())
		return 0, ErrStray
	}
	if f.Stop.Kind != ptrace.Syscall || info.Op != op {
		// SIGSTOP, or the end, came first: it is served as if it had come to
		// the thread where it was.
		in.Done()
		in.g.facts.drop(func(o Fact) bool { return o.TID == f.TID })
		in.g.facts.keep(f)
		return 0, ErrPreempted
	}
	return info.Ret(), nil
}

// next lets the thread go on to its next stop.
func (in *Injector) next() (f Fact, info ptrace.SyscallInfo, err error) {
	if in.g.k.ContSyscall(in.t.TID, 0) != nil {
		return f, info, ErrInject
	}
	if f, err = in.wait(); err != nil {
		return f, info, ErrInject
	}
	if f.TID == 0 {
		return f, info, nil
	}
	if in.g.k.GetSyscallInfo(in.t.TID, &info) != nil {
		info.Op = ptrace.OpNone
	}
	return f, info, nil
}

// injectPatience is how long a call may take. None of those that are made waits for
// anything.
const injectPatience = time.Second

// wait waits for the thread; what others report meanwhile is served later. If the
// thread does not come back, there is no fact.
func (in *Injector) wait() (Fact, error) {
	wake := time.AfterFunc(injectPatience, func() { _ = in.g.Ask(func() {}) })
	defer wake.Stop()
	for begin := time.Now(); ; {
		f, err := in.g.facts.source.Next(false)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
			if time.Since(begin) >= injectPatience {
				return Fact{}, nil
			}
		case err != nil:
			return f, err
		case f.TID == in.t.TID && f.Call == nil:
			return f, nil
		default:
			in.g.later(f)
		}
	}
}

// Done puts the thread back where it was. A call that has not ended is left alone.
func (in *Injector) Done() {
	if in.done {
		return
	}
	in.done = true
	in.g.setBack(in.t, &in.saved, in.mask)
}

// setBack puts the registers of a thread back in whose name calls were made, and the
// signals that it blocks.
func (g *Group) setBack(t *Thread, regs *ptrace.Regs, mask uint64) {
	_ = g.k.SetRegs(t.TID, regs)
	_ = g.k.Block(t.TID, mask)
}
