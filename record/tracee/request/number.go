//go:build linux

// This file has the requests of ptrace(2) by number.

package request

import "golang.org/x/sys/unix"

// Requests of ptrace(2) (include/uapi/linux/ptrace.h and, up to 33, arch/x86's).
const (
	TraceMe       = 0
	PeekText      = 1
	PeekData      = 2
	PeekUser      = 3
	PokeText      = 4
	PokeData      = 5
	PokeUser      = 6
	Cont          = 7
	Kill          = 8
	SingleStep    = 9
	GetRegs       = 12
	SetRegs       = 13
	GetFPRegs     = 14
	SetFPRegs     = 15
	Attach        = 16
	Detach        = 17
	OldOptions    = 21
	Syscall       = 24
	getThreadArea = 25
	setThreadArea = 26
	ArchPrctl     = 30
	Sysemu        = 31
	SysemuStep    = 32
	SingleBlock   = 33
	SetOptions    = 0x4200
	GetEventMsg   = 0x4201
	GetSigInfo    = 0x4202
	SetSigInfo    = 0x4203
	GetRegSet     = 0x4204
	SetRegSet     = 0x4205
	Seize         = 0x4206
	Interrupt     = 0x4207
	Listen        = 0x4208
	PeekSigInfo   = 0x4209
	getSigMask    = 0x420a
	setSigMask    = 0x420b
	GetFilter     = 0x420c
	GetFilterMeta = 0x420d
	GetCallInfo   = 0x420e
	getRSeq       = 0x420f
	setDispatch   = 0x4210
	getDispatch   = 0x4211
	setCallInfo   = 0x4212
)

// Requests that only i386 has.
const (
	GetFPXRegs = 18
	SetFPXRegs = 19
)

// Options of PTRACE_SETOPTIONS (ptrace(2)), and what there are of them.
const (
	OptSysGood  = 1
	OptFork     = 1 << unix.PTRACE_EVENT_FORK
	OptVfork    = 1 << unix.PTRACE_EVENT_VFORK
	OptClone    = 1 << unix.PTRACE_EVENT_CLONE
	OptExec     = 1 << unix.PTRACE_EVENT_EXEC
	OptExit     = 1 << unix.PTRACE_EVENT_EXIT
	OptSeccomp  = 1 << unix.PTRACE_EVENT_SECCOMP
	OptExitKill = 1 << 20
	OptSuspend  = 1 << 21 // PTRACE_O_SUSPEND_SECCOMP
	OptAll      = 0xff | OptExitKill | OptSuspend
)
