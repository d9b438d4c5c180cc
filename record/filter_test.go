//go:build linux

package record

import (
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
)

// interpret runs a seccomp program as the kernel does, with the instructions that
// filter uses.
func interpret(t *testing.T, prog []unix.SockFilter, audit, nr uint32) uint32 {
	t.Helper()
	a := uint32(0)
	for pc := 0; pc < len(prog); pc++ {
		switch i := prog[pc]; i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch i.K {
			case seccompNr:
				a = nr
			case seccompArch:
				a = audit
			default:
				t.Fatalf("load of offset %d", i.K)
			}
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == i.K {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			if a >= i.K {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, i.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

// The filter must answer every number of both ABIs as the set does.
func TestFilter(t *testing.T) {
	for _, words := range []string{"", "memory", "write", "all", "exit,exit_group", "%file,!open", "memory,write,read"} {
		set, err := arch.ParseSet(words)
		if words == "" {
			set, err = arch.Set{}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		prog := filter(&set)
		if len(prog) > 4096 {
			t.Errorf("%q: %d instructions, the kernel takes 4096", words, len(prog))
		}
		for id, audit := range map[arch.ID]uint32{arch.X86_64: auditX86_64, arch.I386: auditI386} {
			for nr := range uint32(2 * maxSyscallNr) {
				want := uint32(unix.SECCOMP_RET_ALLOW)
				if nr >= maxSyscallNr || set.Has(id, nr) {
					want = unix.SECCOMP_RET_TRACE
				}
				if got := interpret(t, prog, audit, nr); got != want {
					t.Fatalf("%q: %v call %d: %#x, want %#x", words, id, nr, got, want)
				}
			}
			for _, nr := range []uint32{x32Bit, x32Bit | 9, 1<<32 - 1} {
				if got := interpret(t, prog, audit, nr); got != unix.SECCOMP_RET_TRACE {
					t.Errorf("%q: %v call %#x passes unseen", words, id, nr)
				}
			}
		}
		if got := interpret(t, prog, 0xc00000b7, 222); got != unix.SECCOMP_RET_TRACE {
			t.Errorf("%q: a call of an unknown ABI passes unseen", words)
		}
	}
}
