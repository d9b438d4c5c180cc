//go:build linux

// This file has the simulated kernel as tracee.Kernel sees it: the requests.

package traceetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
	"memtrace/record/tracee"
)

// FirstTID is the first tid that a Kernel gives away. No process of Linux has one
// as high, so there is nothing of it in /proc.
const FirstTID = 1 << 23

// Where things are in the memory of every program.
const (
	VDSO      = addr.Addr(0x7fff00000000) // has the code of VDSOCode
	firstText = 0x400000
	textStep  = 0x100000
	stackTop  = 0x7ffe00000000
)

// VDSOCode is the vdso of every program: it has the instructions syscall and int
// 0x80.
var VDSOCode = []byte{0x90, 0x0f, 0x05, 0xc3, 0xcd, 0x80, 0xc3}

// Kernel is a simulated kernel. Its methods that tracee.Kernel does not have may be
// called from any goroutine, but not from the functions given to Op.Does.
type Kernel struct {
	// Filter is the answer of the seccomp filter of a process that was launched with
	// one. Its launch fills it in from the filter itself.
	Filter func(audit, nr uint32, args [6]uint64) uint32
	// Memory reads the memory of a thread; nil has none.
	Memory func(tid int, b []byte, a addr.Addr) int
	// Injected makes the calls that are made in the name of a thread; nil has them
	// return 0.
	Injected func(tid int, name string, args [6]uint64) int64
	// Written writes memory of a thread that has become a program; nil has it all
	// written. The memory of one that has not is kept: see Seed.
	Written func(tid int, b []byte, a addr.Addr) bool
	// Dispatched says that calls are delivered as signals (Syscall User Dispatch),
	// Sequences where threads have their area for restartable sequences.
	Dispatched bool
	Sequences  uint64
	// Stall says that the calls made in the name of a thread do not end yet; nil has
	// them end.
	Stall func() bool
	// Disturb, if not nil, is called before each step.
	Disturb func(k *Kernel, r *rand.Rand)

	mu       sync.Mutex
	cond     sync.Cond
	rng      *rand.Rand
	inNext   bool
	woken    bool
	stuck    bool
	threads  map[int]*thread
	lastTID  int
	texts    int
	launched Program
	seed     Seed
	facts    []tracee.Fact // of Complete
	log      []Event
	misuse   []string
	calls    map[string]int // requests by name
	cpus     map[int]unix.CPUSet
	status   []byte
}

var _ tracee.Kernel = (*Kernel)(nil)

// New makes a Kernel without processes.
func New(seed uint64) *Kernel {
	k := &Kernel{rng: rand.New(rand.NewPCG(seed, 1)), threads: map[int]*thread{}, lastTID: FirstTID, calls: map[string]int{}, cpus: map[int]unix.CPUSet{}}
	k.cond.L = &k.mu
	return k
}

// Run starts a process that nobody traces yet and returns its pid.
func (k *Kernel) Run(p Program) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.start(p).tid
}

// Launch says what the program is that the next execve of a seed executes.
func (k *Kernel) Launch(p Program) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.launched = p
}

// Complete has Next tell that a thread has completed a call without a stop.
func (k *Kernel) Complete(tid int, c *tracee.Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.facts = append(k.facts, tracee.Fact{TID: tid, Call: c})
	k.cond.Broadcast()
}

// Begin is tracee.Kernel's.
func (k *Kernel) Begin() (wake func(), err error) { return k.wake, nil }

// wake ends a Next that is under way; there may be none.
func (k *Kernel) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls["wake"]++
	k.woken = k.inNext
	k.cond.Broadcast()
}

// errno is an error as package ptrace returns it.
func errno(what string, tid int, e unix.Errno) error { return fmt.Errorf("%s %d: %w", what, tid, e) }

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

// callers are the functions of package tracee on the stack.
func callers() (names string) {
	pcs := make([]uintptr, 32)
	for frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)]); ; {
		f, more := frames.Next()
		if name, ours := strings.CutPrefix(f.Function, "memtrace/record/tracee."); ours {
			names += fmt.Sprintf(" < %s:%d", name, f.Line)
		}
		if !more {
			return names
		}
	}
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
		args := t.regs.Args(t.audit == auditI386)
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
