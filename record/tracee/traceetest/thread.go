//go:build linux

// This file has the processes and threads of a Kernel, and where things are in their memory.

package traceetest

import (
	"fmt"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Registers, as indexes into ptrace.Regs.
const (
	regOrig = ptrace.RegOrigRAX
	regRAX  = ptrace.RegRAX
	regRSP  = arch.RSP
)

type process struct {
	pid      int
	stopSig  int // of the group-stop that it is in, 0 for none
	how      map[int]disposition
	pending  signals
	filtered bool
	faults   int64
	exec     *thread // the thread that waits for the others to be gone
	seed     bool    // it has not become a program
}

type thread struct {
	tid   int
	first int // tid that it began with
	proc  *process
	text  uint64
	prog  Program
	regs  ptrace.Regs

	// run is what the thread does in its next step.
	run  func(*thread)
	wait func(*thread) bool // not nil: whether it can make a step
	left int                // steps that its operation still takes
	busy bool               // left is of the operation at hand
	op   uint8              // as PTRACE_GET_SYSCALL_INFO has it
	// audit is the ABI of the call.
	audit uint32
	due   *Event // what the program will see of the call
	tag   uint64 // of the answer of the filter

	traced, sysTrace bool
	foreign          bool // traced by somebody else
	worker           bool // it never leaves the kernel
	options          int
	stopped          bool
	at               ptrace.StopKind // of the last stop
	report           *ptrace.Stop    // not reported yet
	msg              uint64
	info             [128]byte
	given            int  // the signal that it was let go with
	trap             bool // it is to stop (JOBCTL_TRAP_STOP)
	listening        bool

	pending    signals
	mask       uint64
	sigpending bool // calls find themselves interrupted (TIF_SIGPENDING)
	killed     bool // it is on its way out
	dead       bool
	fresh      bool // made by a tracee, and not reported yet
	status     uint32
	vfork      *thread // the child that this waits for
}

// state says what a thread is doing.
func (t *thread) state() string {
	switch {
	case t.dead:
		return "dead"
	case t.killed:
		return "dying"
	case t.listening:
		return "listening"
	case t.stopped:
		return fmt.Sprintf("stopped (%d)", t.at)
	}
	return "running"
}

func injectAt(id arch.ID) uint64 {
	if id == arch.I386 {
		return uint64(VDSO) + 4
	}
	return uint64(VDSO) + 1
}

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
