package arch

// Register is a general register as debuggers know it. In the log and in the
// kernel's sets each takes a whole word.
type Register struct {
	Name string
	Size uint8 // bytes, in the target descriptions of gdb
	// DWARF is its number in the architecture's ABI, GDB that in the target
	// descriptions of gdb; -1 for none. The number of a program counter is that of
	// the return address.
	DWARF, GDB int8
	// User is where the register is in struct user_regs_struct of the kernel that
	// runs it: that of x86_64 has also the registers of i386.
	User uint8
}

// Registers are the general registers in the log's order, which is that of the
// kernel's NT_PRSTATUS set (struct user_regs_struct). The caller must not change it.
func (id ID) Registers() []Register {
	switch id {
	case X86_64:
		return x86Registers[:]
	case I386:
		return i386Registers[:]
	case AArch64:
		return aarch64Registers
	}
	return nil
}

// PC is the index of the program counter in Registers, -1 where id is unknown.
func (id ID) PC() int {
	switch id {
	case X86_64:
		return RIP
	case I386:
		return eip
	case AArch64:
		return pc
	}
	return -1
}

// SP is the index of the stack pointer in Registers, -1 where id is unknown.
func (id ID) SP() int {
	switch id {
	case X86_64:
		return RSP
	case I386:
		return esp
	case AArch64:
		return sp
	}
	return -1
}

// CallArgs are the indexes in Registers of the arguments of a system call
// (syscall(2)). For i386 they are those of int 0x80.
func (id ID) CallArgs() [6]int {
	switch id {
	case X86_64:
		return [6]int{RDI, RSI, RDX, R10, R8, R9}
	case I386:
		return [6]int{ebx, ecx, edx, esi, edi, ebp}
	}
	return [6]int{0, 1, 2, 3, 4, 5}
}

// Indexes of the registers of x86_64.
const (
	R15 = iota
	R14
	R13
	R12
	RBP
	RBX
	R11
	R10
	R9
	R8
	RAX
	RCX
	RDX
	RSI
	RDI
	OrigRAX
	RIP
	CS
	EFlags
	RSP
	SS
	FSBase
	GSBase
	DS
	ES
	FS
	GS
)

var x86Registers = [...]Register{
	R15:     {"r15", 8, 15, 15, R15},
	R14:     {"r14", 8, 14, 14, R14},
	R13:     {"r13", 8, 13, 13, R13},
	R12:     {"r12", 8, 12, 12, R12},
	RBP:     {"rbp", 8, 6, 6, RBP},
	RBX:     {"rbx", 8, 3, 1, RBX},
	R11:     {"r11", 8, 11, 11, R11},
	R10:     {"r10", 8, 10, 10, R10},
	R9:      {"r9", 8, 9, 9, R9},
	R8:      {"r8", 8, 8, 8, R8},
	RAX:     {"rax", 8, 0, 0, RAX},
	RCX:     {"rcx", 8, 2, 2, RCX},
	RDX:     {"rdx", 8, 1, 3, RDX},
	RSI:     {"rsi", 8, 4, 4, RSI},
	RDI:     {"rdi", 8, 5, 5, RDI},
	OrigRAX: {"orig_rax", 8, -1, 57, OrigRAX},
	RIP:     {"rip", 8, 16, 16, RIP},
	CS:      {"cs", 4, 51, 18, CS},
	EFlags:  {"eflags", 4, 49, 17, EFlags},
	RSP:     {"rsp", 8, 7, 7, RSP},
	SS:      {"ss", 4, 52, 19, SS},
	FSBase:  {"fs_base", 8, 58, 58, FSBase},
	GSBase:  {"gs_base", 8, 59, 59, GSBase},
	DS:      {"ds", 4, 53, 20, DS},
	ES:      {"es", 4, 50, 21, ES},
	FS:      {"fs", 4, 54, 22, FS},
	GS:      {"gs", 4, 55, 23, GS},
}

// Indexes of the registers of i386.
const (
	ebx = iota
	ecx
	edx
	esi
	edi
	ebp
	eax
	ds
	es
	fs
	gs
	origEAX
	eip
	cs
	eflags
	esp
	ss
)

var i386Registers = [...]Register{
	ebx:     {"ebx", 4, 3, 3, RBX},
	ecx:     {"ecx", 4, 1, 1, RCX},
	edx:     {"edx", 4, 2, 2, RDX},
	esi:     {"esi", 4, 6, 6, RSI},
	edi:     {"edi", 4, 7, 7, RDI},
	ebp:     {"ebp", 4, 5, 5, RBP},
	eax:     {"eax", 4, 0, 0, RAX},
	ds:      {"ds", 4, 43, 12, DS},
	es:      {"es", 4, 40, 13, ES},
	fs:      {"fs", 4, 44, 14, FS},
	gs:      {"gs", 4, 45, 15, GS},
	origEAX: {"orig_eax", 4, -1, 41, OrigRAX},
	eip:     {"eip", 4, 8, 8, RIP},
	cs:      {"cs", 4, 41, 10, CS},
	eflags:  {"eflags", 4, 9, 9, EFlags},
	esp:     {"esp", 4, 4, 4, RSP},
	ss:      {"ss", 4, 42, 11, SS},
}

// Indexes of the registers of aarch64 after x0 to x30.
const (
	sp = 31
	pc = 32
)

var aarch64Registers = []Register{
	{"x0", 8, 0, 0, 0},
	{"x1", 8, 1, 1, 1},
	{"x2", 8, 2, 2, 2},
	{"x3", 8, 3, 3, 3},
	{"x4", 8, 4, 4, 4},
	{"x5", 8, 5, 5, 5},
	{"x6", 8, 6, 6, 6},
	{"x7", 8, 7, 7, 7},
	{"x8", 8, 8, 8, 8},
	{"x9", 8, 9, 9, 9},
	{"x10", 8, 10, 10, 10},
	{"x11", 8, 11, 11, 11},
	{"x12", 8, 12, 12, 12},
	{"x13", 8, 13, 13, 13},
	{"x14", 8, 14, 14, 14},
	{"x15", 8, 15, 15, 15},
	{"x16", 8, 16, 16, 16},
	{"x17", 8, 17, 17, 17},
	{"x18", 8, 18, 18, 18},
	{"x19", 8, 19, 19, 19},
	{"x20", 8, 20, 20, 20},
	{"x21", 8, 21, 21, 21},
	{"x22", 8, 22, 22, 22},
	{"x23", 8, 23, 23, 23},
	{"x24", 8, 24, 24, 24},
	{"x25", 8, 25, 25, 25},
	{"x26", 8, 26, 26, 26},
	{"x27", 8, 27, 27, 27},
	{"x28", 8, 28, 28, 28},
	{"x29", 8, 29, 29, 29},
	{"x30", 8, 30, 30, 30},
	sp:                        {"sp", 8, 31, 31, 31},
	pc:                        {"pc", 8, 32, 32, 32},
	{"pstate", 4, -1, 33, 33}, // cpsr in gdb
}
