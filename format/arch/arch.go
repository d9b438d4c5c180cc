// Package arch describes the architectures whose programs a log can hold, as
// data: system call tables, errno and signal names, register sets. It carries no
// build tags: a log made on one machine is read on any.
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
