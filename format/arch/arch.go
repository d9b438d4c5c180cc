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

// Parse is the inverse of String.
func Parse(s string) (id ID, ok bool) {
	for id = X86_64; id <= AArch64; id++ {
		if id.String() == s {
			return id, true
		}
	}
	return Unknown, false
}

// PointerSize is the size of a pointer and of a long in bytes.
func (id ID) PointerSize() int {
	if id == I386 {
		return 4
	}
	return 8
}

// Registers names the general registers in the order of the kernel's
// NT_PRSTATUS set (struct user_regs_struct). The caller must not change it.
func (id ID) Registers() []string {
	switch id {
	case X86_64:
		return x86Registers
	case I386:
		return i386Registers
	case AArch64:
		return aarch64Registers
	}
	return nil
}

// PC is the index of the program counter in Registers, -1 where id is unknown.
func (id ID) PC() int {
	switch id {
	case X86_64:
		return 16
	case I386:
		return 12
	case AArch64:
		return 32
	}
	return -1
}

// SP is the index of the stack pointer in Registers, -1 where id is unknown.
func (id ID) SP() int {
	switch id {
	case X86_64:
		return 19
	case I386:
		return 15
	case AArch64:
		return 31
	}
	return -1
}

var x86Registers = []string{
	"r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8",
	"rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags",
	"rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
}

var i386Registers = []string{
	"ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs",
	"orig_eax", "eip", "cs", "eflags", "esp", "ss",
}

var aarch64Registers = []string{
	"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10",
	"x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20",
	"x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
	"sp", "pc", "pstate",
}
