//go:build linux

// This file asks the kernel by what takes and fills structs: the ioctl of /proc/PID/maps,
// process_vm_readv(2) and get_robust_list(2), and says what pages are.

package procfs

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// procmapQuery is struct procmap_query (include/uapi/linux/fs.h, Linux 6.11).
type procmapQuery struct {
	size, flags, addr       uint64
	start, end, vmaFlags    uint64
	pageSize, offset, inode uint64
	devMajor, devMinor      uint32
	nameSize, buildIDSize   uint32
	nameAddr, buildIDAddr   uint64
}

const (
	procmapQueryIoctl   = 0xc0686611 // _IOWR('f', 17, struct procmap_query)
	queryCoveringOrNext = 0x10
)

// queryBuf holds one PROCMAP_QUERY and room for the name, so that asking
// allocates nothing but a name that was not seen just before.
type queryBuf struct {
	q    procmapQuery
	name [4200]byte
	last string
}

func (b *queryBuf) run(fd int, a addr.Addr) error {
	b.q = procmapQuery{
		size: uint64(unsafe.Sizeof(b.q)), flags: queryCoveringOrNext, addr: uint64(a),
		nameSize: uint32(len(b.name)), nameAddr: uint64(uintptr(unsafe.Pointer(&b.name[0]))),
	}
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), procmapQueryIoctl, uintptr(unsafe.Pointer(&b.q)))
	if e != 0 {
		return e
	}
	return nil
}

func (b *queryBuf) vma() vma.VMA {
	v := vma.VMA{
		Range:  addr.Range{Start: addr.Addr(b.q.start), End: addr.Addr(b.q.end)},
		Prot:   addr.Prot(b.q.vmaFlags & 0xf), // same bits: readable, writable, executable, shared
		Offset: b.q.offset,
		Dev:    vma.Dev{Major: b.q.devMajor, Minor: b.q.devMinor},
		Inode:  b.q.inode,
	}
	if n := b.q.nameSize; n > 1 {
		name := bytes.TrimRight(b.name[:n], "\x00")
		if b.last != string(name) {
			b.last = string(name)
		}
		v.Name = b.last
	}
	v.Kind = vma.Classify(v)
	return v
}

// Page categories of PAGEMAP_SCAN (include/uapi/linux/fs.h, Linux 6.7).
const (
	_ = 1 << iota // PAGE_IS_WPALLOWED
	PageWritten
	PageIsFile
	PagePresent
	PageSwapped
	PageIsZero // maps the zero page
	pageHuge
	PageSoftDirty
)

// Region is a run of pages of the same categories.
type Region struct {
	addr.Range
	Categories uint64
}

// pageRegion is struct page_region.
type pageRegion struct{ start, end, categories uint64 }

// VMReader reads the memory of many processes by process_vm_readv, without a
// descriptor each.
type VMReader struct {
	local  [1]unix.Iovec
	remote [1]unix.RemoteIovec
}

// Read reads up to len(b) bytes of pid's memory at a and returns how many could
// be read; it stops at the first unreadable page.
func (r *VMReader) Read(pid int, b []byte, a addr.Addr) int {
	done := 0
	for done < len(b) {
		// One page at most before the first boundary, then the rest: the call
		// transfers nothing of a remote piece that is not readable whole.
		n := min(len(b)-done, addr.PageSize-int((uint64(a)+uint64(done))%addr.PageSize))
		got := r.read(pid, b[done:done+n], a+addr.Addr(done))
		done += got
		if got < n {
			break
		}
	}
	return done
}

func (r *VMReader) read(pid int, b []byte, a addr.Addr) int {
	r.local[0] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	r.remote[0] = unix.RemoteIovec{Base: uintptr(a), Len: len(b)}
	n, _, e := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid),
		uintptr(unsafe.Pointer(&r.local[0])), 1, uintptr(unsafe.Pointer(&r.remote[0])), 1, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// RobustList is the head of the list of robust mutexes that a thread has told the kernel
// of, 0 for none (get_robust_list(2)).
func RobustList(tid int) addr.Addr {
	var head, size uint64
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0
	}
	return addr.Addr(head)
}
