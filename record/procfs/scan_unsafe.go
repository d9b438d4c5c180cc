//go:build linux

// This file scans the pages of a process by ioctls of /proc/PID/pagemap.

package procfs

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
)

// pmScanArg is struct pm_scan_arg.
type pmScanArg struct {
	size, flags, start, end, walkEnd  uint64
	vec, vecLen, maxPages             uint64
	inverted, mask, anyOf, returnMask uint64
}

const (
	pagemapScanIoctl = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	scanWPMatching   = 1
	scanCheckWPAsync = 2
)

// ErrUnwatched says that a range cannot be scanned with protection, because no
// userfaultfd watches all of it: some calls take mappings out of the watch.
var ErrUnwatched = errors.New("writes to the range are not found")

// Scan says which pages of r are in one of the categories anyOf, and for each
// run which of the categories in report it has. With protect, pages that were
// written are write-protected again for the next scan. It stops after maxPages
// such pages (0: no limit) or when it has no more room, and returns where to go on,
// r.End when it is done. yield is called for each run in ascending order. To
// protect, or to find what was written, needs Linux 6.7: errors.ErrUnsupported
// otherwise.
//
// Of pages that were written only those are found that are there or swapped out. The
// kernel counts a hole as written, too (UFFD_FEATURE_WP_UNPOPULATED), and protecting it
// would put a marker into each entry of page tables that it has to make for that: 2 GiB
// of them for each TiB of a reservation. A page that comes there later counts as written
// anyway.
//
// Which pages were written is a question that the kernel answers without looking at the
// pages themselves, ten times as fast (fs/proc/task_mmu.c, pagemap_page_category): it is
// asked that first, and about what it names the rest, with protection in the same call.
func (p *Process) Scan(r addr.Range, anyOf, report uint64, protect bool, maxPages uint64, yield func(Region)) (next addr.Addr, err error) {
	if err := p.openPagemap(); err != nil {
		return r.End, err
	}
	if p.noScan {
		return p.scanEntries(r, anyOf, report, protect, maxPages, yield)
	}
	arg := pmScanArg{start: uint64(r.Start), end: uint64(r.End), maxPages: maxPages, anyOf: anyOf, returnMask: report}
	flags := uint64(0)
	if protect {
		flags = scanWPMatching | scanCheckWPAsync // without the latter it passes over what is not watched
	}
	const there = PagePresent | PageSwapped
	twice := anyOf == PageWritten && report != PageWritten
	if twice {
		arg.mask, arg.anyOf, arg.returnMask = PageWritten, there, PageWritten
	} else {
		arg.flags = flags
	}
	fail := func(err error) (addr.Addr, error) {
		if err == ErrUnwatched {
			return r.Start, err
		}
		return r.End, err
	}
	n, err := p.scan(&arg, 0)
	switch {
	case err != nil && p.noScan:
		return p.scanEntries(r, anyOf, report, protect, maxPages, yield)
	case err != nil:
		return fail(err)
	}
	for _, v := range p.regions[0][:n] {
		if !twice {
			yield(Region{addr.Range{Start: addr.Addr(v.start), End: addr.Addr(v.end)}, v.categories})
			continue
		}
		for a := v.start; a < v.end; {
			more := pmScanArg{start: a, end: v.end, mask: PageWritten, anyOf: there, returnMask: report, flags: flags}
			k, err := p.scan(&more, 1)
			if err != nil {
				return fail(err)
			}
			for _, w := range p.regions[1][:k] {
				yield(Region{addr.Range{Start: addr.Addr(w.start), End: addr.Addr(w.end)}, w.categories})
			}
			if a = more.walkEnd; a <= more.start {
				break
			}
		}
	}
	if arg.walkEnd <= arg.start {
		return r.End, nil
	}
	return addr.Addr(arg.walkEnd), nil
}

// ScanWritten says which pages of r were written, of those that are there or swapped out,
// as Scan does, and with protect has them write-protected in the same step. It asks for
// all pages one by one, which is faster than Scan where many were written between others
// that were not. Mappings that no userfaultfd watches are passed over with protect, and
// count as written without.
func (p *Process) ScanWritten(r addr.Range, report uint64, protect bool, yield func(Region)) error {
	if err := p.openPagemap(); err != nil {
		return err
	}
	arg := pmScanArg{start: uint64(r.Start), end: uint64(r.End), mask: PageWritten, anyOf: PagePresent | PageSwapped, returnMask: report}
	for arg.start < arg.end {
		arg.flags = 0
		if protect {
			arg.flags = scanWPMatching
		}
		n, err := p.scan(&arg, 0)
		if err != nil {
			return err
		}
		for _, v := range p.regions[0][:n] {
			yield(Region{addr.Range{Start: addr.Addr(v.start), End: addr.Addr(v.end)}, v.categories})
		}
		if arg.walkEnd <= arg.start {
			return nil
		}
		arg.start = arg.walkEnd
	}
	return nil
}

// scan makes one call and returns how many regions it found and put into p.regions[i].
func (p *Process) scan(arg *pmScanArg, i int) (n int, err error) {
	if p.regions == nil {
		p.regions = new([2][512]pageRegion) // on the heap: the kernel is given its address as a number
	}
	vec := &p.regions[i]
	arg.size = uint64(unsafe.Sizeof(*arg))
	arg.vec, arg.vecLen = uint64(uintptr(unsafe.Pointer(&vec[0]))), uint64(len(vec))
	for {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(p.pagemap), pagemapScanIoctl, uintptr(unsafe.Pointer(arg)))
		switch e {
		case 0:
			if n == 0 && arg.walkEnd <= arg.start && arg.flags != 0 {
				arg.flags = 0 // part of a page of hugetlbfs: it counts as written again
				continue
			}
			return int(n), nil
		case unix.EINTR:
		case unix.ENOTTY, unix.EINVAL:
			p.noScan = e == unix.ENOTTY
			return 0, fmt.Errorf("PAGEMAP_SCAN: %w", errors.ErrUnsupported)
		case unix.ESRCH:
			return 0, ErrGone
		case unix.EPERM:
			return 0, ErrUnwatched
		default:
			return 0, fmt.Errorf("PAGEMAP_SCAN of %d: %w", p.pid, e)
		}
	}
}
