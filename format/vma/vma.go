// Package vma is the ordered interval map of a process's mappings: the only
// interval code of memtrace. A Set holds what /proc/PID/maps shows, boundaries
// included: two neighbours that look alike stay two, because the kernel keeps
// them apart (mlock and madvise split without a visible trace).
//
// A Set is not safe for concurrent use; a Clone is independent of its origin.
package vma

import (
	"strconv"
	"strings"

	"memtrace/format/addr"
)

// Dev is the device of a mapped file as /proc/PID/maps shows it.
type Dev struct{ Major, Minor uint32 }

// VMA is one mapping: a line of /proc/PID/maps (Linux fs/proc/task_mmu.c,
// show_map_vma), with the kind that memtrace derives from it.
type VMA struct {
	addr.Range
	Prot   addr.Prot
	Kind   Kind
	Offset uint64 // bytes into the file; 0 where there is none
	Dev    Dev
	Inode  uint64
	Name   string // last column, with the kernel's \012 turned back into a newline; "" for none
}

// File says whether the kernel has a file behind the mapping (also the hidden
// ones of shared memory).
func (v VMA) File() bool { return v.Inode != 0 || v.Dev != Dev{} }

// Slice returns the part of v inside r, with the offset moved along.
func (v VMA) Slice(r addr.Range) VMA {
	c := v.Intersect(r)
	if v.File() {
		v.Offset += uint64(c.Start - v.Start)
	}
	v.Range = c
	return v
}

// nameColumn is how far the kernel of a 64-bit build pads a line before the
// blank and the name: 25 + sizeof(void *) * 6 - 1 (fs/proc/task_mmu.c).
const nameColumn = 25 + 8*6 - 1

// AppendMaps appends v as a line of /proc/PID/maps, newline included, byte for
// byte as the kernel prints it.
func (v VMA) AppendMaps(b []byte) []byte {
	start := len(b)
	b = appendHex(b, uint64(v.Start), 8)
	b = append(b, '-')
	b = appendHex(b, uint64(v.End), 8)
	b = append(b, ' ')
	b = append(b, v.Prot.String()...)
	b = append(b, ' ')
	b = appendHex(b, v.Offset, 8)
	b = append(b, ' ')
	b = appendHex(b, uint64(v.Dev.Major), 2)
	b = append(b, ':')
	b = appendHex(b, uint64(v.Dev.Minor), 2)
	b = append(b, ' ')
	b = strconv.AppendUint(b, v.Inode, 10)
	b = append(b, ' ')
	if v.Name != "" {
		for len(b)-start < nameColumn {
			b = append(b, ' ')
		}
		b = append(b, ' ')
		b = append(b, strings.ReplaceAll(v.Name, "\n", `\012`)...)
	}
	return append(b, '\n')
}

func appendHex(b []byte, x uint64, width int) []byte {
	n := 1
	for y := x >> 4; y != 0; y >>= 4 {
		n++
	}
	for ; width > n; width-- {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, x, 16)
}

// Kind is what a mapping is for.
type Kind uint8

// The kinds. All but ThreadStack follow from the columns of /proc/PID/maps (see
// Classify); that a mapping is a thread's stack is known from the clone call.
const (
	Unknown Kind = iota
	Heap
	MainStack
	ThreadStack
	AnonPrivate
	AnonShared
	FilePrivate
	FileShared
	SysV
	POSIXShm
	Memfd
	VDSO
	VVAR
	Special
	NumKinds
)

var kindNames = [NumKinds]string{
	"unknown", "heap", "main stack", "thread stack", "anonymous private",
	"anonymous shared", "file private", "file shared", "System V shm",
	"POSIX shm", "memfd", "vdso", "vvar", "special",
}

func (k Kind) String() string {
	if k < NumKinds {
		return kindNames[k]
	}
	return "unknown"
}

// Anonymous says in which row of the table PRIVATE/SHARED x
// ANONYMOUS/FILE-BACKED a mapping of this kind counts; whether it is shared is
// in its Prot. Shared memory that has no file of the user's (System V, POSIX,
// memfd) counts as anonymous: it is swap-backed.
func (k Kind) Anonymous() bool { return k != FilePrivate && k != FileShared }

// Classify derives the kind from the columns of a maps line.
func Classify(v VMA) Kind {
	n := v.Name
	if !v.File() {
		switch {
		case n == "[heap]":
			return Heap
		case n == "[stack]":
			return MainStack
		case n == "" || strings.HasPrefix(n, "[anon:"):
			if v.Prot&addr.Shared != 0 {
				return AnonShared
			}
			return AnonPrivate
		case n == "[vdso]":
			return VDSO
		case strings.HasPrefix(n, "[vvar"):
			return VVAR
		}
		return Special
	}
	switch {
	case strings.HasPrefix(n, "/SYSV"):
		return SysV
	case strings.HasPrefix(n, "/memfd:"):
		return Memfd
	case n == "/dev/zero (deleted)" || strings.HasPrefix(n, "[anon_shmem:"):
		return AnonShared
	case strings.HasPrefix(n, "/dev/shm/"):
		return POSIXShm
	case v.Prot&addr.Shared != 0:
		return FileShared
	}
	return FilePrivate
}
