//go:build linux

// This file has the programs that a Kernel runs: what each thread does, one
// operation after the other.

package traceetest

import (
	"golang.org/x/sys/unix"

	"memtrace/format/arch"
)

// Program is what a thread does. At its end a thread makes the call exit, and the
// first thread of a process exit_group.
type Program []Op

// Op is one thing that a thread does. Its methods return a changed copy.
type Op struct {
	kind  opKind
	name  string // of the call
	id    arch.ID
	args  []uint64
	ret   int64
	steps int   // how long it takes, Forever for ever
	intr  int64 // errno of a call that a signal or an interrupt ends, 0 if nothing does
	does  func(tid int, args [6]uint64) int64
	child Program
	flags uint64 // of a clone
	sig   int
	how   disposition
	mask  uint64
	code  int
	// stalls says that the call is one that Kernel.Stall is about.
	stalls bool
}

type opKind uint8

const (
	opCall opKind = iota
	opCompute
	opClone
	opExec
	opExit
	opKill // to the process, or with flags to the thread
	opHandle
	opMask
)

// disposition is what a process does with a signal.
type disposition uint8

const (
	byDefault disposition = iota
	byIgnoring
	byHandler // which has the calls that it interrupts return EINTR,
	byRestart // or has the kernel make them again (SA_RESTART)
)

// Forever is the time that an operation takes which only a signal ends.
const Forever = -1

// Results of interrupted calls that the kernel keeps to itself.
const (
	ERestartSys     = 512
	ERestartNoIntr  = 513
	ERestartNoHand  = 514
	ERestartByBlock = 516
)

// Call is a system call of x86_64, which returns 0 at once.
func Call(name string, args ...uint64) Op {
	return Op{kind: opCall, name: name, id: arch.X86_64, args: args}
}

// Wait is a system call that takes some steps of the simulation, or Forever. If
// something interrupts it it returns errno, which may be one of the kernel's own.
func Wait(name string, steps, errno int) Op {
	o := Call(name)
	o.steps, o.intr = steps, int64(errno)
	return o
}

// Sleep is a system call that nothing interrupts: it takes some steps.
func Sleep(name string, steps int) Op { return Wait(name, steps, 0) }

// Compute is code of the program that takes some steps, or Forever.
func Compute(steps int) Op { return Op{kind: opCompute, steps: steps} }

// Spawn starts another thread of the process.
func Spawn(p Program) Op {
	return Clone(unix.CLONE_VM|unix.CLONE_FS|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_THREAD|unix.CLONE_SYSVSEM, p)
}

// Clone makes a thread or process, with a stack of its own.
func Clone(flags uint64, p Program) Op {
	return Op{kind: opClone, name: "clone", id: arch.X86_64, args: []uint64{flags, 0x7f0000100000}, flags: flags, child: p}
}

// Fork makes a process.
func Fork(p Program) Op {
	return Op{kind: opClone, name: "fork", id: arch.X86_64, flags: uint64(unix.SIGCHLD), child: p}
}

// Vfork makes a process that shares the memory, and waits until it makes an exec
// or ends.
func Vfork(p Program) Op {
	return Op{kind: opClone, name: "vfork", id: arch.X86_64, flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD), child: p}
}

// Exec is a call execve that puts p in the place of the program.
func Exec(p Program) Op { return Op{kind: opExec, name: "execve", id: arch.X86_64, child: p} }

// Exit ends the thread, ExitGroup the process.
func Exit(code int) Op {
	return Op{kind: opExit, name: "exit", id: arch.X86_64, args: []uint64{uint64(code)}, code: code}
}

// ExitGroup ends the process.
func ExitGroup(code int) Op {
	return Op{kind: opExit, name: "exit_group", id: arch.X86_64, args: []uint64{uint64(code)}, code: code}
}

// Raise sends a signal to the thread itself.
func Raise(sig unix.Signal) Op {
	return Op{kind: opKill, name: "tgkill", id: arch.X86_64, args: []uint64{0, 0, uint64(sig)}, sig: int(sig), flags: 1}
}

// Kill sends a signal to the thread's own process.
func Kill(sig unix.Signal) Op {
	return Op{kind: opKill, name: "kill", id: arch.X86_64, args: []uint64{0, uint64(sig)}, sig: int(sig)}
}

// Handle has the process handle a signal. With restart a call that it interrupts is
// made again where it can be.
func Handle(sig unix.Signal, restart bool) Op {
	o := Op{kind: opHandle, name: "rt_sigaction", id: arch.X86_64, args: []uint64{uint64(sig), 1}, sig: int(sig), how: byHandler}
	if restart {
		o.how = byRestart
	}
	return o
}

// Ignore has the process ignore a signal.
func Ignore(sig unix.Signal) Op {
	o := Handle(sig, false)
	o.how = byIgnoring
	return o
}

// Block has the thread block exactly the signals given.
func Block(sigs ...unix.Signal) Op {
	o := Op{kind: opMask, name: "rt_sigprocmask", id: arch.X86_64, args: []uint64{2}}
	for _, s := range sigs {
		o.mask |= bit(int(s))
	}
	return o
}

// Returns has the call return ret.
func (o Op) Returns(ret int64) Op {
	o.ret = ret
	return o
}

// Does has f called when the kernel makes the call; f returns its result.
func (o Op) Does(f func(tid int, args [6]uint64) int64) Op {
	o.does = f
	return o
}

// Takes has the call take some steps.
func (o Op) Takes(steps int) Op {
	o.steps = steps
	return o
}

// I386 has the call made by int 0x80.
func (o Op) I386() Op {
	o.id = arch.I386
	return o
}

// nr is the number of the call.
func (o *Op) nr() uint64 {
	n, ok := o.id.Number(o.name)
	if !ok {
		panic("traceetest: there is no call " + o.name)
	}
	return uint64(n)
}

func bit(sig int) uint64 { return 1 << (sig - 1) }

// Then is a program with more at its end.
func (p Program) Then(more ...Op) Program { return append(p[:len(p):len(p)], more...) }
