//go:build linux

// This file has what a Group keeps of tracers among its tracees.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// report is a stop that an emulated tracer is told of.
type report struct {
	status uint32 // of wait(2), without the 0x7f: a signal, and the event above it
	info   [128]byte
	noInfo bool // PTRACE_GETSIGINFO is EINVAL
	real   bool // info is the kernel's: of a signal that is about to be delivered
	call   bool // PTRACE_GET_SYSCALL_INFO tells of a call: not without PTRACE_O_TRACESYSGOOD
	group  bool // PTRACE_LISTEN is possible
	msg    uint64
	waited bool
	serial uint64        // in the order of the stops
	let    func(sig int) // lets the thread go on
}

// answers reports whether a stop is what PTRACE_INTERRUPT asks for.
func (r *report) answers() bool { return r.status>>8 == unix.PTRACE_EVENT_STOP }

// wait is the wait of a thread for children and tracees: the call in progress.
type wait struct {
	on     bool
	pauses bool        // it is made as pause(2): there is no child to wait for
	regs   ptrace.Regs // as the program made it, behind the instruction
	found  bool        // it is answered, and not made
	id     selection
	info   bool    // waitid
	abi    arch.ID // of the call
	opts   uint64
	status addr.Addr // where the status, or siginfo_t, is to be written, 0 for nowhere
	usage  addr.Addr // where struct rusage is
}

// selection is which children and tracees a wait is for.
type selection struct {
	kind  uint64 // P_ALL, P_PID or P_PGID
	value int
}

// skipped is a call that was not made, because its tracer emulates it or because of a
// seccomp filter of the program's: the kernel leaves its number alone.
type skipped struct {
	on bool
	nr uint64
}

// emulated is a request whose result a thread gets at the exit of its call.
type emulated struct {
	on  bool
	ret int64
	// then, if not nil, makes the result of what the call was made into.
	then func(ret int64) int64
	nr   uint64 // of the program's call
}
