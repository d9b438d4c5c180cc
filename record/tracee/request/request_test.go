//go:build linux && amd64

package request

import (
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

// The numbers are the kernel's.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"TRACEME", TraceMe, unix.PTRACE_TRACEME}, {"PEEKTEXT", PeekText, unix.PTRACE_PEEKTEXT}, {"PEEKDATA", PeekData, unix.PTRACE_PEEKDATA},
		{"PEEKUSR", PeekUser, unix.PTRACE_PEEKUSR}, {"POKETEXT", PokeText, unix.PTRACE_POKETEXT}, {"POKEDATA", PokeData, unix.PTRACE_POKEDATA},
		{"POKEUSR", PokeUser, unix.PTRACE_POKEUSR}, {"CONT", Cont, unix.PTRACE_CONT}, {"KILL", Kill, unix.PTRACE_KILL},
		{"SINGLESTEP", SingleStep, unix.PTRACE_SINGLESTEP}, {"GETREGS", GetRegs, unix.PTRACE_GETREGS}, {"SETREGS", SetRegs, unix.PTRACE_SETREGS},
		{"GETFPREGS", GetFPRegs, unix.PTRACE_GETFPREGS}, {"SETFPREGS", SetFPRegs, unix.PTRACE_SETFPREGS}, {"ATTACH", Attach, unix.PTRACE_ATTACH},
		{"DETACH", Detach, unix.PTRACE_DETACH}, {"SYSCALL", Syscall, unix.PTRACE_SYSCALL}, {"SYSEMU", Sysemu, unix.PTRACE_SYSEMU},
		{"SYSEMU_SINGLESTEP", SysemuStep, unix.PTRACE_SYSEMU_SINGLESTEP}, {"ARCH_PRCTL", ArchPrctl, unix.PTRACE_ARCH_PRCTL},
		{"SETOPTIONS", SetOptions, unix.PTRACE_SETOPTIONS}, {"GETEVENTMSG", GetEventMsg, unix.PTRACE_GETEVENTMSG},
		{"GETSIGINFO", GetSigInfo, unix.PTRACE_GETSIGINFO}, {"SETSIGINFO", SetSigInfo, unix.PTRACE_SETSIGINFO},
		{"GETREGSET", GetRegSet, unix.PTRACE_GETREGSET}, {"SETREGSET", SetRegSet, unix.PTRACE_SETREGSET}, {"SEIZE", Seize, unix.PTRACE_SEIZE},
		{"INTERRUPT", Interrupt, unix.PTRACE_INTERRUPT}, {"LISTEN", Listen, unix.PTRACE_LISTEN}, {"PEEKSIGINFO", PeekSigInfo, unix.PTRACE_PEEKSIGINFO},
		{"GETSIGMASK", getSigMask, unix.PTRACE_GETSIGMASK}, {"SETSIGMASK", setSigMask, unix.PTRACE_SETSIGMASK},
		{"GET_SYSCALL_INFO", GetCallInfo, unix.PTRACE_GET_SYSCALL_INFO}, {"O_EXITKILL", OptExitKill, unix.PTRACE_O_EXITKILL},
		{"O_SUSPEND_SECCOMP", OptSuspend, unix.PTRACE_O_SUSPEND_SECCOMP}, {"O_MASK", OptAll, unix.PTRACE_O_MASK},
	} {
		if c.got != c.want {
			t.Errorf("PTRACE_%s = %#x, want %#x", c.name, c.got, c.want)
		}
	}
}

// Each register of struct user_regs_struct of i386 is another one of x86_64.
func TestRegs32(t *testing.T) {
	seen := map[int]bool{}
	for _, at := range Regs32 {
		if seen[at] || at >= len(ptrace.Regs{}) {
			t.Errorf("register %d is there twice, or not at all", at)
		}
		seen[at] = true
	}
	var regs ptrace.Regs
	SetReg32(&regs, ptrace.RegOrigRAX, 1<<32-1)
	SetReg32(&regs, ptrace.RegRIP, 1<<32-1)
	if regs[ptrace.RegOrigRAX] != 1<<32-1 {
		t.Errorf("of x86_64: %#x", regs[ptrace.RegOrigRAX])
	}
	regs[ptrace.RegCS] = user32CS
	SetReg32(&regs, ptrace.RegOrigRAX, 1<<32-1)
	if regs[ptrace.RegOrigRAX] != 1<<64-1 || regs[ptrace.RegRIP] != 1<<32-1 {
		t.Errorf("%#x %#x", regs[ptrace.RegOrigRAX], regs[ptrace.RegRIP])
	}
}

// A tracer of i386 that writes what it has read changes nothing that it can name.
func TestFPRegs32(t *testing.T) {
	var all [FPRegsSize]byte
	all[0], all[1] = 0x7f, 3                    // control word
	all[3], all[4] = 5<<3, 0xe0                 // the last three registers are full
	all[fpStack+9], all[fpStack+7] = 0x40, 0x80 // st(0), a number
	all[fpStack+2*fpWide+9] = 0x7f              // st(2), none
	all[fpStack+2*fpWide+8] = 0xff
	var regs ptrace.Regs
	regs[ptrace.RegCS] = 0x33
	b := FPRegs32(&all, &regs)
	if got := b[:20]; string(got) != "\x7f\x03\xff\xff\x00\x28\xff\xff\xff\x93\xff\xff\x00\x00\x00\x00\x33\x00\x00\x00" {
		t.Errorf("% x", got)
	}
	back := all
	if SetFPRegs32(&back, &b); back != all {
		t.Errorf("% x, not % x", back, all)
	}
}
