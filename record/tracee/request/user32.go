//go:build linux

// This file has the registers of a tracee as a tracer of i386 sees them.

package request

import (
	"slices"
	"strings"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Regs32 are the registers of struct user_regs_struct of i386 in order, as indexes into
// ptrace.Regs (arch/x86/include/asm/user32.h).
var Regs32 = func() (at [17]int) {
	rows := arch.I386.Registers()
	for i, name := range strings.Fields("ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss") {
		at[i] = int(rows[slices.IndexFunc(rows, func(r arch.Register) bool { return r.Name == name })].User)
	}
	return at
}()

// Offsets into struct user: of i386, and of the debug registers also of x86_64.
const (
	User32Debug = 252
	User32End   = 284
	UserDebug   = 848
)

// user32CS is the code segment of instructions of i386 (arch/x86/include/asm/segment.h).
const user32CS = 0x23

// SetReg32 sets a register to 32 bits of a tracer's.
func SetReg32(regs *ptrace.Regs, at int, v uint32) {
	regs[at] = uint64(v)
	if (at == ptrace.RegRAX || at == ptrace.RegOrigRAX) && regs[ptrace.RegCS] == user32CS {
		regs[at] = uint64(int64(int32(v))) // as the results of calls and -1 are
	}
}
