//go:build linux

// This file has what a process does with signals, as the kernel has it in memory.

package pagetrace

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/tracee"
)

// actions is what a process does with signals, as far as it concerns us: the kernel sets
// the action of SIGSEGV back where it has to send one that is blocked or ignored, and ours
// are among them.
type actions struct {
	set [65][]byte // struct sigaction of the kernel by signal, nil for the default
}

const (
	saOnStack = 0x08000000
	sigIgn    = 1
	segvBit   = 1 << (unix.SIGSEGV - 1)
	trapBit   = 1 << (unix.SIGTRAP - 1)
)

// flags are those of the action of a signal.
func (a *actions) flags(sig int) uint64 {
	switch b := a.set[sig]; len(b) {
	case 32:
		return binary.LittleEndian.Uint64(b[8:])
	case 20:
		return uint64(binary.LittleEndian.Uint32(b[4:]))
	}
	return 0
}

// handler is the handler of a signal: 0 for the default, sigIgn for none.
func (a *actions) handler(sig int) uint64 {
	switch b := a.set[sig]; len(b) {
	case 32:
		return binary.LittleEndian.Uint64(b)
	case 20:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// actionSize is the size of the kernel's struct sigaction.
func actionSize(t *tracee.Thread) int {
	if t.Proc.Arch == arch.I386 {
		return 20
	}
	return 32
}

// stackOf is the stack of a stack_t (sp, flags, size), empty for none.
func stackOf(id arch.ID, b []byte) addr.Range {
	const disable = 2
	if id == arch.I386 {
		if b[4]&disable != 0 {
			return addr.Range{}
		}
		return addr.Reach(addr.Addr(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[8:])))
	}
	if b[8]&disable != 0 {
		return addr.Range{}
	}
	return addr.Reach(addr.Addr(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[16:]))
}
