//go:build linux

// This file runs seccomp filters.

package traceetest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Interpret runs a seccomp program as the kernel does (Documentation/networking/
// filter.rst), as far as it only looks at a call's number, ABI and arguments, and returns
// its answer. It panics where the kernel would not have taken the program.
func Interpret(prog []unix.SockFilter, audit, nr uint32, args [6]uint64) uint32 {
	a := uint32(0)
	jump := func(yes bool, i unix.SockFilter) int {
		if yes {
			return int(i.Jt)
		}
		return int(i.Jf)
	}
	for pc := 0; pc < len(prog); pc++ {
		switch i := prog[pc]; i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch at := i.K; {
			case at == 0:
				a = nr
			case at == 4:
				a = audit
			case at >= 16 && at < 64 && at%4 == 0:
				a = uint32(args[(at-16)/8] >> (8 * (at % 8)))
			default:
				panic(fmt.Sprintf("load of offset %d", at))
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			pc += jump(a == i.K, i)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			pc += jump(a >= i.K, i)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			panic(fmt.Sprintf("instruction %d: code %#x", pc, i.Code))
		}
	}
	panic("the filter has no end")
}
