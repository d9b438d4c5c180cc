//go:build linux

// This file has calls made again that the kernel has ended early, as if they had not
// been.

package tracee

import "memtrace/record/ptrace"

// Results of calls that a program never sees: the kernel makes the call again, or
// says EINTR, as a signal's handler wants it (include/linux/errno.h).
const (
	eIntr           = 4
	eRestartSys     = 512
	eRestartNoIntr  = 513
	eRestartNoHand  = 514
	eRestartByBlock = 516 // by restart_syscall
)

// restarts reports whether the kernel will make a call again, or let a signal's
// handler decide that.
func restarts(ret int64) bool { return ret <= -eRestartSys && ret >= -eRestartByBlock }

// interrupted reports whether a thread is about to return EINTR from a call.
func interrupted(regs *ptrace.Regs) bool {
	return int32(regs[ptrace.RegOrigRAX]) >= 0 && int32(regs[ptrace.RegRAX]) == -eIntr
}

// again has the call nr made once more. The instructions syscall and int 0x80 are
// both two bytes long.
func again(regs *ptrace.Regs, nr uint64) {
	regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = nr, ^uint64(0)
	regs[ptrace.RegRIP] -= 2
}

// undoInterrupt hides from the program that a system call of its thread was
// interrupted by us and not by a signal: the kernel restarts most calls by
// itself, but some return EINTR. It reports whether the call will be made again.
func undoInterrupt(k Kernel, tid int) bool {
	var regs ptrace.Regs
	if k.GetRegs(tid, &regs) != nil || !interrupted(&regs) || signalsPending(k, tid) {
		return false
	}
	again(&regs, regs[ptrace.RegOrigRAX])
	return k.SetRegs(tid, &regs) == nil
}

// undoEntry has a call begin anew whose entry our interrupt has met: it would find
// itself interrupted. It reports whether it will.
func undoEntry(k Kernel, tid int) bool {
	var info ptrace.SyscallInfo
	var regs ptrace.Regs
	if k.GetSyscallInfo(tid, &info) != nil || info.Op != ptrace.OpEntry || k.GetRegs(tid, &regs) != nil || signalsPending(k, tid) {
		return false
	}
	again(&regs, regs[ptrace.RegOrigRAX])
	return k.SetRegs(tid, &regs) == nil
}
