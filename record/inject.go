//go:build linux

package record

import (
	"bytes"
	"errors"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/ptrace"
)

// errInject says that a call could not be made in a thread's name. The thread is
// as it was before.
var errInject = errors.New("cannot make a system call in the program")

// injector makes system calls in the name of a stopped thread, whose registers
// it puts back when it is done.
type injector struct {
	r     *Recorder
	t     *thread
	saved ptrace.Regs
	mask  uint64    // of blocked signals
	at    addr.Addr // a system call instruction
	i386  bool
}

// Instructions that enter the kernel. The vdso has one of them.
var (
	insnSyscall = []byte{0x0f, 0x05}
	insnInt80   = []byte{0xcd, 0x80}
)

// injectorOf prepares a thread at a system call's exit, or at a stop that an
// interrupt or its birth brought about.
func (r *Recorder) injectorOf(t *thread) (*injector, error) {
	in := &injector{r: r, t: t}
	if ptrace.GetRegs(t.tid, &in.saved) != nil {
		return nil, errInject
	}
	in.i386 = in.saved[ptrace.RegCS] == user32CS
	if !in.settle() {
		return nil, errInject
	}
	insn := insnSyscall
	if in.i386 {
		insn = insnInt80
	}
	for v := range t.mm.vmas.All() {
		if v.Kind != vma.VDSO {
			continue
		}
		b := make([]byte, v.Len())
		n, _ := t.mm.fs.ReadMem(b, v.Start)
		if i := bytes.Index(b[:n], insn); i >= 0 {
			in.at = v.Start + addr.Addr(i)
			return in, in.block()
		}
	}
	return nil, errInject
}

// block keeps signals from coming in between: a call that has made something in
// the program is followed by one that takes it away again.
func (in *injector) block() (err error) {
	if in.mask, err = ptrace.SigMask(in.t.tid); err != nil {
		return errInject
	}
	if ptrace.Block(in.t.tid, ^uint64(0)) != nil {
		return errInject
	}
	return nil
}

// Results that a program never sees: the kernel makes the call again, or says
// EINTR, as a signal's handler wants it (include/linux/errno.h).
const (
	eRestartSys     = 512
	eRestartNoIntr  = 513
	eRestartNoHand  = 514
	eRestartByBlock = 516 // by restart_syscall
)

// settle does to the saved registers what the kernel would have done to those of
// a call that only we have interrupted, had we not come in between. It reports
// false where that cannot be told.
func (in *injector) settle() bool {
	s := &in.saved
	if int32(s[ptrace.RegOrigRAX]) < 0 {
		return true
	}
	again := s[ptrace.RegOrigRAX]
	switch -int32(s[ptrace.RegRAX]) {
	case eRestartSys, eRestartNoIntr, eRestartNoHand:
	case eRestartByBlock:
		again = 219 // restart_syscall
		if in.i386 {
			again = 0
		}
	default:
		return true
	}
	if signalsPending(in.t.tid) {
		return false
	}
	s[ptrace.RegRAX], s[ptrace.RegOrigRAX] = again, ^uint64(0)
	s[ptrace.RegRIP] -= 2
	return true
}

// call makes one call and returns what is in the result register.
func (in *injector) call(name string, args ...uint64) (int64, error) {
	id := arch.X86_64
	if in.i386 {
		id = arch.I386
	}
	nr, ok := id.Number(name)
	if !ok {
		return 0, errInject
	}
	regs := in.saved
	regs[ptrace.RegRIP], regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(in.at), uint64(nr), ^uint64(0)
	regs.SetArgs(in.i386, args...)
	if ptrace.SetRegs(in.t.tid, &regs) != nil {
		return 0, errInject
	}
	for _, op := range []uint8{ptrace.OpEntry, ptrace.OpExit} {
		s, info, err := in.next()
		if err == nil && s.Kind == ptrace.Seccomp && op == ptrace.OpExit {
			s, info, err = in.next() // our filter has seen the call
		}
		if err != nil {
			return 0, err
		}
		if s.Kind != ptrace.Syscall || info.Op != op {
			// SIGSTOP, or the end, came first: it is served as if it had come to
			// the thread where it was.
			in.done()
			in.r.backlog = append(slices.DeleteFunc(in.r.backlog, func(o ptrace.Stop) bool { return o.TID == s.TID }), s)
			in.t.preempted = true
			return 0, errInject
		}
		if op == ptrace.OpExit {
			return info.Ret(), nil
		}
	}
	return 0, errInject
}

// next lets the thread go on to its next stop.
func (in *injector) next() (s ptrace.Stop, info ptrace.SyscallInfo, err error) {
	if ptrace.ContSyscall(in.t.tid, 0) != nil {
		return s, info, errInject
	}
	if s, err = in.wait(); err != nil {
		return s, info, errInject
	}
	if ptrace.GetSyscallInfo(in.t.tid, &info) != nil {
		info.Op = ptrace.OpNone
	}
	return s, info, nil
}

// wait waits for the thread; what others report meanwhile is served later.
func (in *injector) wait() (ptrace.Stop, error) {
	for {
		s, err := ptrace.Wait(false)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
		case err != nil:
			return s, err
		case s.TID == in.t.tid:
			return s, nil
		default:
			in.r.later(s)
		}
	}
}

// done puts the thread back where it was.
func (in *injector) done() {
	_ = ptrace.SetRegs(in.t.tid, &in.saved)
	_ = ptrace.Block(in.t.tid, in.mask)
}
