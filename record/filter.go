//go:build linux

package record

import (
	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/procfs"
)

// Offsets into struct seccomp_data and the audit names of the two ABIs
// (include/uapi/linux/{seccomp,audit}.h).
const (
	seccompNr    = 0
	seccompArch  = 4
	auditX86_64  = 0xc000003e
	auditI386    = 0x40000003
	x32Bit       = 0x40000000
	maxSyscallNr = 1024
)

// abi is the architecture of a call as the kernel names it.
func abi(audit uint32) arch.ID {
	switch audit {
	case auditX86_64:
		return arch.X86_64
	case auditI386:
		return arch.I386
	}
	return arch.Unknown
}

// filter makes the seccomp program that stops the calls of set in both ABIs and
// lets all others run at full speed. Calls of an ABI it does not know (x32) are
// stopped: better slow than unseen.
//
// The numbers are told apart by a linear list of ranges: the kernel caches which
// numbers are always allowed (Linux 5.11, kernel/seccomp.c), so that the length
// of the program does not matter to them.
func filter(set *arch.Set) []unix.SockFilter {
	const (
		ld   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
		ja   = unix.BPF_JMP | unix.BPF_JA
		stop = unix.SECCOMP_RET_TRACE
		pass = unix.SECCOMP_RET_ALLOW
	)
	body := func(id arch.ID) []unix.SockFilter {
		p := []unix.SockFilter{{Code: ld, K: seccompNr}}
		for nr := uint32(0); nr < maxSyscallNr; {
			in := set.Has(id, nr)
			end := nr + 1
			for end < maxSyscallNr && set.Has(id, end) == in {
				end++
			}
			// nr >= end: go on to the next range; else this range's answer.
			answer := uint32(pass)
			if in {
				answer = stop
			}
			p = append(p,
				unix.SockFilter{Code: jge, Jt: 1, K: end},
				unix.SockFilter{Code: ret, K: answer})
			nr = end
		}
		return append(p, unix.SockFilter{Code: ret, K: stop}) // beyond the tables, x32
	}
	x64, x86 := body(arch.X86_64), body(arch.I386)
	prog := []unix.SockFilter{
		{Code: ld, K: seccompArch},
		{Code: jeq, Jt: 1, K: auditX86_64},
		{Code: ja, K: uint32(len(x64))},
	}
	prog = append(prog, x64...)
	prog = append(prog, unix.SockFilter{Code: jeq, Jt: 1, K: auditI386}, unix.SockFilter{Code: ret, K: stop})
	return append(prog, x86...)
}

// stops are the calls that a filter must stop: those that are recorded, and those
// that would see where threads have been pinned.
func (r *Recorder) stops() arch.Set {
	s := r.set
	for _, name := range []string{"sched_getaffinity", "sched_setaffinity"} {
		if one, err := arch.ParseSet(name); err == nil {
			s = s.Union(one)
		}
	}
	return s
}

// canFilter says whether a program started as user may install a filter without
// giving up new privileges: that takes CAP_SYS_ADMIN.
func canFilter(user *User) bool {
	if user != nil && user.UID != 0 {
		return false
	}
	const sysAdmin = 21
	status, err := procfs.Status(unix.Getpid())
	return err == nil && hexField(status, "CapEff")>>sysAdmin&1 != 0
}
