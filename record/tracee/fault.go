//go:build linux

// This file has accesses to memory that the kernel refused.

package tracee

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// Fault is an access to memory that the kernel refused with SIGSEGV.
type Fault struct {
	Addr   addr.Addr
	Mapped bool // there is a mapping, whose protection forbids it (SEGV_ACCERR)
	Regs   *ptrace.Regs
	Info   *[128]byte
	// Plain says that the instruction is in no restartable sequence: the Warden may set
	// it where Stepper.Plain has said so.
	Plain bool
}

// IP is the address of the instruction.
func (f *Fault) IP() addr.Addr { return addr.Addr(f.Regs[ptrace.RegRIP]) }

// SP is the stack pointer.
func (f *Fault) SP() addr.Addr { return addr.Addr(f.Regs[arch.RSP]) }

// DI is where string instructions write to.
func (f *Fault) DI() addr.Addr { return addr.Addr(f.Regs[arch.RDI]) }

// I386 reports whether the thread runs 32-bit code.
func (f *Fault) I386() bool { return f.Regs[ptrace.RegCS] == user32CS }

// read takes from the siginfo of a SIGSEGV what access it is for, if it is for one.
func (f *Fault) read(info *[128]byte) bool {
	const mapErr, accErr = 1, 2 // SEGV_MAPERR, SEGV_ACCERR
	code := siginfo.CodeOf(info)
	f.Plain = false
	f.Addr, f.Mapped, f.Info = addr.Addr(binary.LittleEndian.Uint64(info[16:])), code == accErr, info
	return code == mapErr || code == accErr
}
