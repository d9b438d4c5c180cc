//go:build linux

// This file says where facts about threads come from: the kernel, or another Source.
// It keeps those that have come and have not been served. The kernel is an interface:
// tests have a simulated one (traceetest). Package record/ptrace says what each request
// of ptrace(2) does.

package tracee

import (
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Fact is one thing that a Source tells of a thread: a stop, in which the thread
// stands until it has been served, or a call that it has completed without one.
type Fact struct {
	TID  int // 0: nothing has happened
	Stop ptrace.Stop
	Call *Call // not nil: the call that was completed; there is no Stop

	listened bool // the thread was Listening before
	past     bool // a stop of job control that has ended for the process meanwhile
}

// Source tells what happens to the threads of a Group, in order.
type Source interface {
	// Next waits for the next fact. With poll it returns at once. Its errors are
	// those of ptrace.Wait.
	Next(poll bool) (Fact, error)
}

// facts are a Source and what has come from it before its time: a thread whose
// stop waits here stands still.
type facts struct {
	source  Source
	waiting []Fact
}

// next is the next fact to be served.
func (q *facts) next() (Fact, error) {
	if len(q.waiting) > 0 {
		f := q.waiting[0]
		q.waiting = q.waiting[1:]
		return f, nil
	}
	return q.source.Next(false)
}

// keep has a fact wait to be served.
func (q *facts) keep(f Fact) { q.waiting = append(q.waiting, f) }

// of is the stop of a thread that waits to be served.
func (q *facts) of(tid int) (ptrace.Stop, bool) {
	if f := q.waitingOf(tid); f != nil {
		return f.Stop, true
	}
	return ptrace.Stop{}, false
}

// waitingOf is the first fact of a thread's own that waits, nil for none. It is valid
// until another comes or goes.
func (q *facts) waitingOf(tid int) *Fact {
	for i := range q.waiting {
		if f := &q.waiting[i]; f.TID == tid && f.Call == nil {
			return f
		}
	}
	return nil
}

// drop takes the facts out for which which says so.
func (q *facts) drop(which func(Fact) bool) { q.waiting = slices.DeleteFunc(q.waiting, which) }

// Kernel is what a Group uses of the kernel: ptrace(2), wait(2), and what can be
// learnt of a thread and done to it without them. A Kernel is the Source of the stops
// of its tracees.
type Kernel interface {
	Source
	// Begin prepares the calling OS thread to trace; wake ends its Next, from any
	// goroutine.
	Begin() (wake func(), err error)

	Seize(tid, options int) error
	SetOptions(tid, options int) error
	Interrupt(tid int) error
	Cont(tid, sig int) error
	ContSyscall(tid, sig int) error
	Listen(tid int) error
	Detach(tid, sig int) error

	EventMsg(tid int) (uint64, error)
	SigInfo(tid int, info *[128]byte) error
	GetSyscallInfo(tid int, info *ptrace.SyscallInfo) error
	GetRegs(tid int, r *ptrace.Regs) error
	SetRegs(tid int, r *ptrace.Regs) error
	GetRegSet(tid, note int, b []byte) (int, error)
	SigMask(tid int) (uint64, error)
	Block(tid int, mask uint64) error
	RSeq(tid int) (uint64, error)
	Dispatches(tid int) (bool, error)

	// Start starts a seed, which is to become a program, and returns when it has
	// stopped itself. at is where it has a system call instruction.
	Start() (pid int, at addr.Addr, err error)
	// Kill sends a signal to a process.
	Kill(pid int, sig unix.Signal) error
	// Threads are the tids of a process.
	Threads(pid int) ([]int, error)
	// Status is /proc/TID/status, valid until the next call.
	Status(tid int) ([]byte, error)
	// Task says what a thread is doing.
	Task(tid int) (procfs.Task, error)
	// ReadMem reads memory of a thread and returns how many bytes could be read.
	ReadMem(tid int, b []byte, at addr.Addr) int
	// WriteMem writes memory of a thread that it can write itself, all or nothing.
	WriteMem(tid int, b []byte, at addr.Addr) bool
	// Affinity and SetAffinity are about the CPUs that a thread may run on; tid 0
	// is the calling thread.
	Affinity(tid int, cpus *unix.CPUSet) error
	SetAffinity(tid int, cpus *unix.CPUSet) error
}

// linux is the Kernel that there is.
type linux struct {
	vm   *procfs.VMReader
	look *func(tid, sig int) // of Peek
}

func newLinux() linux { return linux{new(procfs.VMReader), new(func(tid, sig int))} }

func (linux) Begin() (wake func(), err error) {
	if err := ptrace.Quiet(); err != nil {
		return nil, err
	}
	i, err := ptrace.NewInterrupter()
	if err != nil {
		return nil, err
	}
	return i.Interrupt, nil
}

func (k linux) Next(poll bool) (Fact, error) {
	if look := *k.look; look != nil {
		s, err := ptrace.WaitPeeked(poll, look)
		return Fact{TID: s.TID, Stop: s}, err
	}
	s, err := ptrace.Wait(poll)
	return Fact{TID: s.TID, Stop: s}, err
}

func (linux) Seize(tid, options int) error                { return ptrace.Seize(tid, options) }
func (linux) SetOptions(tid, options int) error           { return ptrace.SetOptions(tid, options) }
func (linux) Interrupt(tid int) error                     { return ptrace.Interrupt(tid) }
func (linux) Cont(tid, sig int) error                     { return ptrace.Cont(tid, sig) }
func (linux) ContSyscall(tid, sig int) error              { return ptrace.ContSyscall(tid, sig) }
func (linux) Listen(tid int) error                        { return ptrace.Listen(tid) }
func (linux) Detach(tid, sig int) error                   { return ptrace.Detach(tid, sig) }
func (linux) EventMsg(tid int) (uint64, error)            { return ptrace.EventMsg(tid) }
func (linux) SigInfo(tid int, info *[128]byte) error      { return ptrace.SigInfo(tid, info) }
func (linux) GetRegs(tid int, r *ptrace.Regs) error       { return ptrace.GetRegs(tid, r) }
func (linux) SetRegs(tid int, r *ptrace.Regs) error       { return ptrace.SetRegs(tid, r) }
func (linux) GetRegSet(tid, n int, b []byte) (int, error) { return ptrace.GetRegSet(tid, n, b) }
func (linux) SigMask(tid int) (uint64, error)             { return ptrace.SigMask(tid) }
func (linux) Block(tid int, mask uint64) error            { return ptrace.Block(tid, mask) }
func (linux) RSeq(tid int) (uint64, error)                { return ptrace.RSeq(tid) }
func (linux) Dispatches(tid int) (bool, error)            { return ptrace.Dispatches(tid) }
func (linux) GetSyscallInfo(tid int, i *ptrace.SyscallInfo) error {
	return ptrace.GetSyscallInfo(tid, i)
}

func (linux) Start() (pid int, at addr.Addr, err error) {
	pid, err = startSeed()
	return pid, seedSyscall, err
}

func (linux) Kill(pid int, sig unix.Signal) error          { return unix.Kill(pid, sig) }
func (linux) Threads(pid int) ([]int, error)               { return procfs.Threads(pid) }
func (linux) Status(tid int) ([]byte, error)               { return procfs.Status(tid) }
func (linux) Task(tid int) (procfs.Task, error)            { return procfs.ReadTask(tid) }
func (k linux) ReadMem(tid int, b []byte, a addr.Addr) int { return k.vm.Read(tid, b, a) }
func (linux) Affinity(tid int, cpus *unix.CPUSet) error    { return unix.SchedGetaffinity(tid, cpus) }
func (linux) SetAffinity(tid int, cpus *unix.CPUSet) error { return unix.SchedSetaffinity(tid, cpus) }

func (linux) WriteMem(tid int, b []byte, at addr.Addr) bool {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMWritev(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	return err == nil && n == len(b)
}
