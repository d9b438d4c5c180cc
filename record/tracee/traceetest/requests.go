//go:build linux

// This file has the simulated kernel as tracee.Kernel sees it: the requests.

package traceetest

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Begin is tracee.Kernel's.
func (k *Kernel) Begin() (wake func(), err error) { return k.wake, nil }

// stopped is a thread in a ptrace-stop, for a request that needs one. The kernel
// does not tell a thread that runs from one that is gone.
func (k *Kernel) stopped(what string, tid int) (*thread, error) {
	k.calls[what]++
	t := k.threads[tid]
	switch {
	case t == nil || t.dead || t.killed && t.at != ptrace.EventExit || t.killed && !t.stopped:
		return nil, ptrace.ErrGone
	case t.fresh && !t.stopped:
		return nil, ptrace.ErrGone
	case !t.traced || !t.stopped || t.listening:
		k.misuse = append(k.misuse, fmt.Sprintf("%s of thread %d, which is %s%s", what, tid, t.state(), callers()))
		return nil, ptrace.ErrGone
	case t.report != nil && !t.fresh && !t.killed:
		// The kernel allows it. But nobody can know of the stop yet, unless a kill
		// has put it in the place of another.
		k.misuse = append(k.misuse, fmt.Sprintf("%s of thread %d, whose stop has not been reported%s", what, tid, callers()))
	}
	return t, nil
}

// Seize is tracee.Kernel's.
func (k *Kernel) Seize(tid, options int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	switch {
	case t == nil || t.dead:
		return ptrace.ErrGone
	case t.worker:
		k.misuse = append(k.misuse, fmt.Sprintf("seize of thread %d, which never leaves the kernel%s", tid, callers()))
	case t.traced:
		return fmt.Errorf("ptrace seize %d: %w", tid, ptrace.ErrPerm)
	}
	t.traced, t.options = true, options
	if t.proc.stopSig != 0 { // it traps instead of the stop that it was in
		t.trap = true
	}
	return nil
}

// SetOptions is tracee.Kernel's.
func (k *Kernel) SetOptions(tid, options int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("setoptions", tid)
	if err == nil {
		t.options = options
	}
	return err
}

// Interrupt is tracee.Kernel's.
func (k *Kernel) Interrupt(tid int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls["interrupt"]++
	t := k.threads[tid]
	if t == nil || t.dead || !t.traced {
		return ptrace.ErrGone
	}
	t.trap, t.sigpending = true, true
	if t.listening {
		t.listening, t.stopped = false, false
		t.run = k.toUser
	}
	return nil
}

// Cont is tracee.Kernel's.
func (k *Kernel) Cont(tid, sig int) error { return k.goOn("cont", tid, sig, false) }

// ContSyscall is tracee.Kernel's.
func (k *Kernel) ContSyscall(tid, sig int) error { return k.goOn("contsyscall", tid, sig, true) }

func (k *Kernel) goOn(what string, tid, sig int, syscalls bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped(what, tid)
	if err != nil {
		return err
	}
	t.stopped, t.report, t.sysTrace, t.given = false, nil, syscalls, sig
	t.op = ptrace.OpNone
	return nil
}

// Listen is tracee.Kernel's.
func (k *Kernel) Listen(tid int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("listen", tid)
	if err != nil {
		return err
	}
	if t.at != ptrace.Group && t.at != ptrace.Trap {
		return errno("ptrace listen", tid, unix.EIO)
	}
	t.listening = true
	if t.trap || t.proc.stopSig == 0 { // something has happened since the stop
		t.listening, t.stopped, t.trap = false, false, true
	}
	return nil
}

// Detach is tracee.Kernel's.
func (k *Kernel) Detach(tid, sig int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("detach", tid)
	if err != nil {
		return err
	}
	t.traced, t.stopped, t.report, t.trap, t.sysTrace, t.given = false, false, nil, false, false, sig
	t.note(k, Event{What: Detached, Sig: sig})
	return nil
}

// EventMsg is tracee.Kernel's.
func (k *Kernel) EventMsg(tid int) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("eventmsg", tid)
	if err != nil {
		return 0, err
	}
	return t.msg, nil
}

// SigInfo is tracee.Kernel's.
func (k *Kernel) SigInfo(tid int, info *[128]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("siginfo", tid)
	if err != nil {
		return err
	}
	switch t.at {
	case ptrace.Signal:
		*info = t.info
	case ptrace.Group:
		return errno("ptrace getsiginfo", tid, unix.EINVAL)
	case ptrace.EventExit:
		*info = queued{int(unix.SIGTRAP), unix.PTRACE_EVENT_EXIT<<8 | int32(unix.SIGTRAP)}.info()
	default:
		*info = queued{int(unix.SIGTRAP), int32(unix.SIGTRAP)}.info() // and another event
	}
	return nil
}

// GetSyscallInfo is tracee.Kernel's.
func (k *Kernel) GetSyscallInfo(tid int, info *ptrace.SyscallInfo) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("syscallinfo", tid)
	if err != nil {
		return err
	}
	*info = ptrace.SyscallInfo{Op: t.op, AuditArch: t.audit, IP: t.regs[ptrace.RegRIP], SP: t.regs[regRSP]}
	switch t.op {
	case ptrace.OpEntry, ptrace.OpSeccomp:
		info.U[0] = t.regs[ptrace.RegOrigRAX]
		args := t.regs.Args(t.audit == unix.AUDIT_ARCH_I386)
		copy(info.U[1:7], args[:])
		if t.op == ptrace.OpSeccomp {
			info.U[7] = t.tag
		}
	case ptrace.OpExit:
		info.U[0] = t.regs[ptrace.RegRAX]
	}
	return nil
}

// GetRegs is tracee.Kernel's.
func (k *Kernel) GetRegs(tid int, r *ptrace.Regs) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("getregs", tid)
	if err == nil {
		*r = t.regs
	}
	return err
}

// SetRegs is tracee.Kernel's.
func (k *Kernel) SetRegs(tid int, r *ptrace.Regs) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("setregs", tid)
	if err == nil {
		t.regs = *r
	}
	return err
}

// XState is what GetRegSet gives of every thread.
const XState = 576

// GetRegSet is tracee.Kernel's.
func (k *Kernel) GetRegSet(tid, note int, b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.stopped("getregset", tid); err != nil {
		return 0, err
	}
	if note != ptrace.NTX86XState {
		return 0, errno("ptrace getregset", tid, unix.EINVAL)
	}
	n := min(len(b), XState)
	clear(b[:n])
	if n >= 8 {
		binary.LittleEndian.PutUint64(b, uint64(tid))
	}
	return n, nil
}

// SigMask is tracee.Kernel's.
func (k *Kernel) SigMask(tid int) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("sigmask", tid)
	if err != nil {
		return 0, err
	}
	return t.mask, nil
}

// Block is tracee.Kernel's.
func (k *Kernel) Block(tid int, mask uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.stopped("setsigmask", tid)
	if err == nil {
		t.mask = mask &^ (bit(int(unix.SIGKILL)) | bit(int(unix.SIGSTOP)))
	}
	return err
}

// RSeq is tracee.Kernel's.
func (k *Kernel) RSeq(tid int) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.stopped("rseq", tid); err != nil {
		return 0, err
	}
	return k.Sequences, nil
}

// Dispatches is tracee.Kernel's.
func (k *Kernel) Dispatches(tid int) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.stopped("dispatches", tid)
	return k.Dispatched, err
}

// Start is tracee.Kernel's. What it starts has the tid FirstTID.
func (k *Kernel) Start() (pid int, at addr.Addr, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.launched == nil {
		return 0, 0, fmt.Errorf("start: %w", unix.ENOENT)
	}
	last := k.lastTID
	k.lastTID = FirstTID - 1
	t := k.start(Program{Compute(Forever)})
	k.lastTID = max(last, FirstTID)
	t.proc.seed, t.proc.stopSig = true, int(unix.SIGSTOP)
	return t.tid, addr.Addr(injectAt(arch.X86_64)), nil
}

// Kill is tracee.Kernel's.
func (k *Kernel) Kill(pid int, sig unix.Signal) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.threads {
		if t.proc.pid == pid {
			k.send(t.proc, nil, int(sig), 0)
			k.cond.Broadcast()
			return nil
		}
	}
	return unix.ESRCH
}

// Tgkill sends a signal to one thread.
func (k *Kernel) Tgkill(tid int, sig unix.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.threads[tid]; t != nil && !t.dead {
		k.send(t.proc, t, int(sig), siTkill)
		k.cond.Broadcast()
	}
}

// Threads is tracee.Kernel's.
func (k *Kernel) Threads(pid int) (tids []int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.sorted() {
		if t.proc.pid == pid {
			tids = append(tids, t.tid)
		}
	}
	if tids == nil {
		return nil, unix.ENOENT
	}
	return tids, nil
}

// Status is tracee.Kernel's.
func (k *Kernel) Status(tid int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	if t == nil {
		return nil, unix.ENOENT
	}
	tracer := 0
	if t.traced {
		tracer = unix.Getpid()
	}
	if t.foreign {
		tracer = 1
	}
	var caught, ignored uint64
	for sig, how := range t.proc.how {
		switch how {
		case byHandler, byRestart:
			caught |= bit(sig)
		case byIgnoring:
			ignored |= bit(sig)
		}
	}
	k.status = fmt.Appendf(k.status[:0], "Name:\ttest\nTgid:\t%d\nPid:\t%d\nTracerPid:\t%d\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n",
		t.proc.pid, tid, tracer, t.pending.set(), t.proc.pending.set(), t.mask, ignored, caught)
	return k.status, nil
}

// Task is tracee.Kernel's.
func (k *Kernel) Task(tid int) (procfs.Task, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	switch {
	case t == nil:
		return procfs.Task{}, unix.ENOENT
	case t.dead:
		return procfs.Task{State: 'Z'}, nil
	case t.stopped:
		return procfs.Task{State: 't'}, nil
	}
	return procfs.Task{State: 'S', Worker: t.worker}, nil
}

// ReadMem is tracee.Kernel's.
func (k *Kernel) ReadMem(tid int, b []byte, a addr.Addr) int {
	if k.Memory == nil {
		return 0
	}
	return k.Memory(tid, b, a)
}

// WriteMem is tracee.Kernel's.
func (k *Kernel) WriteMem(tid int, b []byte, at addr.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	switch {
	case t == nil || t.dead:
		return false
	case t.proc.seed:
		return at >= seedRoom && at-seedRoom <= addr.Addr(len(k.seed.memory)) && copy(k.seed.memory[at-seedRoom:], b) == len(b)
	}
	return k.Written == nil || k.Written(tid, b, at)
}

// Affinity is tracee.Kernel's: all threads may run on all CPUs until it is set,
// and so may the recorder, tid 0.
func (k *Kernel) Affinity(tid int, cpus *unix.CPUSet) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if tid != 0 && k.threads[tid] == nil {
		return unix.ESRCH
	}
	set, ok := k.cpus[tid]
	if !ok {
		for i := range len(set) * 64 {
			set.Set(i)
		}
	}
	*cpus = set
	return nil
}

// SetAffinity is tracee.Kernel's.
func (k *Kernel) SetAffinity(tid int, cpus *unix.CPUSet) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if tid != 0 && k.threads[tid] == nil {
		return unix.ESRCH
	}
	k.calls["setaffinity"]++
	k.cpus[tid] = *cpus
	return nil
}
