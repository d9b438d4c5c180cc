//go:build linux

// This file has the seeds of a Kernel: processes that become a program.

package traceetest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Seed is what has been done to the process that becomes the program of Launch.
type Seed struct {
	// Calls are those that were made in its name, in order, with execve.
	Calls []string
	// Refused has the call of a name fail.
	Refused map[string]unix.Errno

	memory []byte // at seedRoom
	argv   []string
}

const seedRoom addr.Addr = 0x10000

// Seed is what has been done to the process that becomes a program.
func (k *Kernel) Seed() *Seed { return &k.seed }

// Argv is what the program was executed with.
func (s *Seed) Argv() []string { return s.argv }

// Start is tracee.Kernel's. What it starts has the tid FirstTID.
func (k *Kernel) Start() (pid int, at addr.Addr, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.launched == nil {
		return 0, 0, fmt.Errorf("start: %w", unix.ENOENT)
	}
	last := k.lastTID
	k.lastTID = FirstTID - 1
	t := k.start(Program{Compute(Forever)})
	k.lastTID = max(last, FirstTID)
	t.proc.seed, t.proc.stopSig = true, int(unix.SIGSTOP)
	return t.tid, addr.Addr(injectAt(arch.X86_64)), nil
}

// WriteMem is tracee.Kernel's.
func (k *Kernel) WriteMem(tid int, b []byte, at addr.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.threads[tid]
	switch {
	case t == nil || t.dead:
		return false
	case t.proc.seed:
		return at >= seedRoom && at-seedRoom <= addr.Addr(len(k.seed.memory)) && copy(k.seed.memory[at-seedRoom:], b) == len(b)
	}
	return k.Written == nil || k.Written(tid, b, at)
}

// seedCall is the call that a seed makes.
func (k *Kernel) seedCall(t *thread, name string) Op {
	op := Op{kind: opCall, name: name, id: arch.X86_64}
	k.seed.Calls = append(k.seed.Calls, name)
	if errno := k.seed.Refused[name]; errno != 0 {
		return op.Returns(-int64(errno))
	}
	args := t.regs.Args(false)
	switch name {
	case "clone":
		op.kind, op.flags, op.child = opClone, args[0], Program{Compute(Forever)}
	case "execve":
		op.kind, op.child = opExec, k.launched
		k.seed.argv = k.seed.vector(args[1])
	case "mmap":
		op.ret = int64(seedRoom) + int64(len(k.seed.memory))
		k.seed.memory = append(k.seed.memory, make([]byte, args[1])...)
	case "rt_sigaction":
		op.kind, op.sig, op.how = opHandle, int(args[0]), byIgnoring
	case "seccomp":
		prog := k.seed.filter(args[2])
		t.proc.filtered = true
		k.Filter = func(audit, nr uint32, args [6]uint64) uint32 { return Interpret(prog, audit, nr, args) }
	}
	return op
}

// word is 8 bytes of the memory.
func (s *Seed) word(at uint64) uint64 {
	return binary.LittleEndian.Uint64(s.memory[at-uint64(seedRoom):])
}

// vector are the strings that an argument vector of C points to.
func (s *Seed) vector(at uint64) (texts []string) {
	for ; s.word(at) != 0; at += 8 {
		b := s.memory[s.word(at)-uint64(seedRoom):]
		texts = append(texts, string(b[:slices.Index(b, 0)]))
	}
	return texts
}

// filter is the program that a struct sock_fprog points to.
func (s *Seed) filter(at uint64) (prog []unix.SockFilter) {
	n, b := s.word(at)&0xffff, s.memory[s.word(at+8)-uint64(seedRoom):]
	for i := range n {
		b := b[8*i:]
		prog = append(prog, unix.SockFilter{Code: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])})
	}
	return prog
}
