//go:build linux

// This file makes the filter behind which calls that are not recorded run at full
// speed.

package seccomp

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
)

// maxSyscallNr is above all numbers that the filter tells apart.
const maxSyscallNr = 1024

// waitingCalls are those that say EINTR when they are interrupted, with the argument that
// has them end in time, if it is not 0 or -1. A call whose beginning was seen is not
// interrupted; else it would have to be made again, and would wait for as long once more.
var waitingCalls = map[string]int{"epoll_wait": 3, "epoll_pwait": 3, "epoll_pwait2": 3, "semtimedop": 3, "rt_sigtimedwait": 2, "io_getevents": 4}

// Stopping makes the seccomp program that stops the calls of set in both ABIs and
// lets all others run at full speed. Calls of an ABI it does not know (x32) are
// stopped: better slow than unseen.
//
// The numbers are told apart by a linear list of ranges: the kernel caches which
// numbers are always allowed (Linux 5.11, kernel/seccomp.c), so that the length
// of the program does not matter to them.
func Stopping(set *arch.Set) []unix.SockFilter {
	const (
		ld   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
		ja   = unix.BPF_JMP | unix.BPF_JA
		pass = unix.SECCOMP_RET_ALLOW
	)
	stop := unix.SECCOMP_RET_TRACE | Tag
	body := func(id arch.ID) []unix.SockFilter {
		p := []unix.SockFilter{{Code: ld, K: nrAt}}
		if ioctl, ok := id.Number("ioctl"); ok && !set.Has(id, ioctl) {
			// Those of userfaultfds are told by the type in the second byte of the request.
			p = append(p,
				unix.SockFilter{Code: jeq, Jf: 5, K: ioctl},
				unix.SockFilter{Code: ld, K: arg1At},
				unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xff00},
				unix.SockFilter{Code: jeq, Jf: 1, K: 0xaa00},
				unix.SockFilter{Code: ret, K: stop},
				unix.SockFilter{Code: ret, K: pass})
		}
		for _, name := range slices.Sorted(maps.Keys(waitingCalls)) {
			arg := waitingCalls[name]
			if nr, ok := id.Number(name); ok && !set.Has(id, nr) {
				p = append(p,
					unix.SockFilter{Code: jeq, Jf: 5, K: nr},
					unix.SockFilter{Code: ld, K: uint32(argsAt + 8*arg)},
					unix.SockFilter{Code: jeq, Jt: 2, K: 0},
					unix.SockFilter{Code: jeq, Jt: 1, K: 0xffffffff},
					unix.SockFilter{Code: ret, K: stop},
					unix.SockFilter{Code: ret, K: pass})
			}
		}
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
		{Code: ld, K: archAt},
		{Code: jeq, Jt: 1, K: unix.AUDIT_ARCH_X86_64},
		{Code: ja, K: uint32(len(x64))},
	}
	prog = append(prog, x64...)
	prog = append(prog, unix.SockFilter{Code: jeq, Jt: 1, K: unix.AUDIT_ARCH_I386}, unix.SockFilter{Code: ret, K: stop})
	return append(prog, x86...)
}
