//go:build linux

// This file has what the recorder asks of the kernel beside what its Group does, as an
// interface: tests have a fake one.

package record

import (
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/space"
)

// kernel opens address spaces, and says what it can do to find writes to them.
type kernel interface {
	// open opens the address space of a thread.
	open(tid int) (opened, error)
	// status is the text of /proc/TID/status.
	status(tid int) ([]byte, error)
	// mounts are the types of the file systems that a process has mounted, by device.
	mounts(pid int) (map[vma.Dev]string, error)

	// hasUffd says whether writes can be found with a userfaultfd, and takeUffd takes one
	// over that a thread has made.
	hasUffd() bool
	takeUffd(tid, fd int) (dirty.Registrar, error)
	// watchWrites watches the page faults of threads; see procfs.LogFaults.
	watchWrites(tids []int, wake uint64) (pagetrace.Faults, error)
	// hasSoftDirty says whether pages have soft-dirty bits, and clearSoftDirty clears
	// those of the address space of a thread.
	hasSoftDirty() bool
	clearSoftDirty(tid int) error
}

// opened is an address space that can be read; *procfs.Process is one.
type opened interface {
	space.Kernel
	dirty.Kernel
	Maps() ([]vma.VMA, error)
	ReadMem(b []byte, a addr.Addr) (int, error)
	WriteMem(b []byte, a addr.Addr) (int, error)
	Close()
}

// linux is the kernel that there is.
type linux struct{}

func (linux) open(tid int) (opened, error) {
	p, err := procfs.Open(tid)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (linux) takeUffd(tid, fd int) (dirty.Registrar, error) {
	u, err := procfs.TakeUffd(tid, fd)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (linux) watchWrites(tids []int, wake uint64) (pagetrace.Faults, error) {
	l, err := procfs.LogFaults(tids, wake)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (linux) mounts(pid int) (map[vma.Dev]string, error) { return procfs.MountTypes(pid) }

func (linux) status(tid int) ([]byte, error) { return procfs.Status(tid) }
func (linux) hasUffd() bool                  { return procfs.HasUffd() }
func (linux) hasSoftDirty() bool             { return procfs.SoftDirty() }
func (linux) clearSoftDirty(tid int) error   { return procfs.ClearSoftDirty(tid) }

// nstid is a thread's tid in its own PID namespace, if it may have one.
func nstid(k kernel, tid int, namespaced bool) uint32 {
	if !namespaced {
		return uint32(tid)
	}
	status, err := k.status(tid)
	if err != nil {
		return uint32(tid)
	}
	fields := strings.Fields(proctext.Field(status, "NSpid").String())
	if len(fields) == 0 {
		return uint32(tid)
	}
	n, err := strconv.ParseUint(fields[len(fields)-1], 10, 32)
	if err != nil {
		return uint32(tid)
	}
	return uint32(n)
}
