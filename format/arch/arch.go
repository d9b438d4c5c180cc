// Package arch describes the architectures whose programs a log can hold, as
// data: system call tables, errno and signal names, register sets. It carries no
// build tags: a log made on one machine is read on any.
//
// Everything here is read-only and safe for concurrent use.
package arch

// ID names an architecture and system call ABI. The numbers are in the log.
type ID uint8

// The architectures.
const (
	Unknown ID = iota
	X86_64
	I386
	AArch64
)

// String is the kernel's name of the architecture.
func (id ID) String() string {
	switch id {
	case X86_64:
		return "x86_64"
	case I386:
		return "i386"
	case AArch64:
		return "aarch64"
	}
	return "unknown"
}

// PointerSize is the size of a pointer and of a long in bytes.
func (id ID) PointerSize() int {
	if id == I386 {
		return 4
	}
	return 8
}
