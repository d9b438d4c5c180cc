//go:build linux

// This file makes the filter that stands for strict mode.

package seccomp

import "golang.org/x/sys/unix"

// Strict lets the calls of strict mode pass (seccomp(2)), and kills for others:
// strict mode itself cannot be had by a process that has a filter.
func Strict() []unix.SockFilter {
	const (
		ld  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret = unix.BPF_RET | unix.BPF_K
	)
	prog := []unix.SockFilter{{Code: ld, K: archAt}, {Code: jeq, Jt: 5, K: unix.AUDIT_ARCH_I386}}
	allow := func(numbers ...uint32) {
		prog = append(prog, unix.SockFilter{Code: ld, K: nrAt})
		for i, nr := range numbers {
			prog = append(prog, unix.SockFilter{Code: jeq, Jt: uint8(len(numbers) - i), K: nr})
		}
		prog = append(prog,
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_TRACE | StrictTag},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	}
	prog[1].Jt = 7 // over the part for x86_64
	allow(0, 1, 60, 15)
	allow(3, 4, 1, 119)
	return prog
}
