package arch

//go:generate go run gen.go

import (
	"iter"
	"sync"
)

// Syscall is one row of an architecture's system call table.
type Syscall struct {
	Name  string // as strace spells it
	NArg  uint8  // registers it takes, 0 to 6
	Flags Flags
}

// Flags is a set of properties of a system call.
type Flags uint32

// strace's classes (its -e %NAME).
const (
	Memory Flags = 1 << iota
	File
	Process
	Signal
	Network
	Desc
	IPC
	Creds
	Clock
	Pure
	Stat
	LStat
	FStat
	StatFS
	FStatFS
)

// What a recorder has to know of a call.
const (
	ChangesMM Flags = 1 << (iota + 16) // may change the mappings of the caller's address space
	NamesFD                            // may make, close or change a descriptor
	NoReturn                           // does not come back
	Renames                            // may change the path of a file that is mapped
)

// MaxSyscall is above every number of every table.
const MaxSyscall = 512

func (id ID) table() []Syscall {
	switch id {
	case X86_64:
		return x86Syscalls[:]
	case I386:
		return i386Syscalls[:]
	case AArch64:
		return aarch64Syscalls[:]
	}
	return nil
}

// Syscall returns the call with the number nr; ok is false where the table has
// none.
func (id ID) Syscall(nr uint32) (s Syscall, ok bool) {
	t := id.table()
	if uint64(nr) >= uint64(len(t)) {
		return Syscall{}, false
	}
	s = t[nr]
	return s, s.Name != ""
}

// Syscalls goes through the table of id by number.
func (id ID) Syscalls() iter.Seq2[uint32, Syscall] {
	return func(yield func(uint32, Syscall) bool) {
		for nr, s := range id.table() {
			if s.Name != "" && !yield(uint32(nr), s) {
				return
			}
		}
	}
}

var numbers = sync.OnceValue(func() (m [AArch64 + 1]map[string]uint32) {
	for id := X86_64; id <= AArch64; id++ {
		m[id] = make(map[string]uint32)
		for nr, s := range id.Syscalls() {
			m[id][s.Name] = nr
		}
	}
	// The kernel's names of what strace calls by the libc's.
	m[I386]["old_mmap"] = m[I386]["mmap"]
	m[I386]["old_select"] = m[I386]["select"]
	return m
})

// Number returns the number of the call name; ok is false where id has none of
// that name.
func (id ID) Number(name string) (nr uint32, ok bool) {
	if id > AArch64 {
		return 0, false
	}
	nr, ok = numbers()[id][name]
	return nr, ok
}
