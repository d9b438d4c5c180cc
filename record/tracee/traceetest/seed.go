//go:build linux

// This file has what is done to the process that becomes a program.

package traceetest

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
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

// Argv is what the program was executed with.
func (s *Seed) Argv() []string { return s.argv }

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
