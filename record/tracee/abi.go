//go:build linux

// This file has what differs between programs of x86_64 and i386.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// abi is the architecture of a call as the kernel names it.
func abi(audit uint32) arch.ID {
	switch audit {
	case unix.AUDIT_ARCH_X86_64:
		return arch.X86_64
	case unix.AUDIT_ARCH_I386:
		return arch.I386
	}
	return arch.Unknown
}

// Code segments of user code (arch/x86/include/asm/segment.h, __USER_CS and
// __USER32_CS).
const (
	user64CS = 0x33
	user32CS = 0x23
)

// imageArch tells 32-bit code by the segment that it is in.
func imageArch(regs *ptrace.Regs) arch.ID {
	if regs[ptrace.RegCS] == user32CS {
		return arch.I386
	}
	return arch.X86_64
}

// MaxRegisters is how many registers a thread has at most.
const MaxRegisters = len(ptrace.Regs{})

// valuesOf turns what ptrace shows into the registers of an architecture, in the
// order of its table.
func valuesOf(id arch.ID, regs *ptrace.Regs) []uint64 {
	if id != arch.I386 {
		return regs[:]
	}
	rows := id.Registers()
	values := make([]uint64, len(rows))
	for i := range rows {
		values[i] = uint64(uint32(regs[rows[i].User]))
	}
	return values
}

// wordSize is the size of a long, in bytes.
func wordSize(id arch.ID) int {
	if id == arch.I386 {
		return 4
	}
	return 8
}

// wordOf is the long at the beginning of b.
func wordOf(b []byte, id arch.ID) uint64 {
	if id == arch.I386 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// appendWord appends a long.
func appendWord(b []byte, id arch.ID, w uint64) []byte {
	if id == arch.I386 {
		return binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	return binary.LittleEndian.AppendUint64(b, w)
}

// redZone is how much below the stack pointer belongs to the program (the psABI of
// x86_64).
const redZone = 128
