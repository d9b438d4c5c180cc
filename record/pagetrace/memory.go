//go:build linux

// This file says what an address space is to a page trace, and where one is written to.

package pagetrace

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Kernel is what the kernel has of an address space, and says of it.
type Kernel interface {
	space.Kernel
	Scan(r addr.Range, anyOf, report uint64, protect bool, maxPages uint64, yield func(procfs.Region)) (next addr.Addr, err error)
	ReadMem(b []byte, a addr.Addr) (int, error)
	WriteMem(b []byte, a addr.Addr) (int, error)
}

// Memory is an address space as the recorder has it.
type Memory interface {
	// MM is its number in the log, Mappings what the log has of it.
	MM() uint32
	Mappings() *vma.Set
	// Kernel is nil where it cannot be read.
	Kernel() Kernel
	// Grow brings up to date what the kernel may have changed without a call.
	Grow()
}

// Log is what references and phases are written to.
type Log interface {
	Ref(*format.Ref)
	Phase(*format.Phase)
}

// reads reads memory for the calls of a thread.
func reads(g *tracee.Group, t *tracee.Thread) func([]byte, addr.Addr) int {
	return func(b []byte, a addr.Addr) int { return g.ReadMem(t, b, a) }
}
