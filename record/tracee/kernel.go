//go:build linux

// This file says what a Group asks of the kernel. The kernel is an interface: tests
// have a simulated one (traceetest). Package record/ptrace says what each request of
// ptrace(2) does.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

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

// steppingKernel is a Kernel that can have a thread make a single step.
type steppingKernel interface {
	SingleStep(tid, sig int) error
	WaitSoon(tid int) (ptrace.Stop, error)
	SetSigInfo(tid int, info *[128]byte) error
	SetCallRegs(tid int, r *ptrace.Regs) error
	Reg(tid, i int) (uint64, error)
	NextSoon() (Fact, bool)
}

// dispatchingKernel is a Kernel that can have a thread's calls stop it as signals.
type dispatchingKernel interface {
	SetDispatch(tid int, on bool, selector, start, length uint64) error
	PeekSigInfo(tid int, off uint64, flags uint32, infos [][128]byte) (int, unix.Errno)
	// Peek has look told of threads that have stopped with a signal, before their stops are
	// facts.
	Peek(look func(tid, sig int))
}

// emulator is a Kernel with the requests that a tracer among our tracees makes.
type emulator interface {
	SingleStep(tid, sig int) error
	SysemuStep(tid, sig int) error
	SetSigInfo(tid int, info *[128]byte) error
	Pass(req, tid int, at, number uint64, data []byte) (int64, unix.Errno)
	PassSet(req, tid int, note uint64, data []byte) (int, unix.Errno)
	PeekSigInfo(tid int, off uint64, flags uint32, infos [][128]byte) (int, unix.Errno)
	Queue(pid, tid, sig int, info *[128]byte) error
}

// zombies are the tracees whose ends another than their parent is told of first.
type zombies struct {
	coming int                // processes with such a tracer that have not ended
	kept   map[int]struct{}   // by pid: they have ended, and have not been reaped
	keeps  func(pid int) bool // says whether one that has ended is not to be reaped
	all    func() []int       // the tids of all tracees
}

// keepingKernel is a Kernel that can leave tracees alone which have ended.
type keepingKernel interface {
	// Keep has Next ask z before it reaps.
	Keep(z *zombies)
	// ReapOne reaps a tracee that has ended.
	ReapOne(pid int)
}

// on reports whether a tracee may have to be left alone.
func (z *zombies) on() bool { return z != nil && (z.coming > 0 || len(z.kept) > 0) }
