//go:build linux

// This file takes a userfaultfd from a program, and tries what the kernel can
// do.

package procfs

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
)

// Uffd is a userfaultfd of another process, used to find what it writes: a page
// of a registered range that was scanned with protection is in category
// PageWritten again once it has been written to. The kernel resolves the faults
// by itself (UFFD_FEATURE_WP_ASYNC, Linux 6.7): nobody waits for us, and nothing
// is left when the descriptor is closed.
type Uffd struct{ fd int }

// From include/uapi/linux/userfaultfd.h, Linux 6.18.
const (
	uffdAPI              = 0xaa
	uffdioAPI            = 0xc018aa3f
	uffdioRegister       = 0xc020aa00
	uffdioUnregister     = 0x8010aa01
	uffdWPAsync          = 1 << 15
	uffdWPUnpopulated    = 1 << 13
	uffdWPHugetlbfsShmem = 1 << 12
	uffdRegisterModeWP   = 2
	uffdUserModeOnly     = 1
	UffdFlags            = unix.O_CLOEXEC | uffdUserModeOnly // of the userfaultfd call
)

// TakeUffd takes descriptor fd of a thread, which must be a new userfaultfd.
func TakeUffd(tid, fd int) (*Uffd, error) {
	own, err := TakeFD(tid, fd)
	if err != nil {
		return nil, err
	}
	u := &Uffd{own}
	if err := u.negotiate(); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

func (u *Uffd) negotiate() error {
	api := struct{ api, features, ioctls uint64 }{api: uffdAPI, features: uffdWPAsync | uffdWPUnpopulated | uffdWPHugetlbfsShmem}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(u.fd), uffdioAPI, uintptr(unsafe.Pointer(&api))); e != 0 {
		return fmt.Errorf("UFFDIO_API: %w", e)
	}
	return nil
}

// HasUffd says whether the kernel has what TakeUffd needs, so that no program is
// asked in vain.
var HasUffd = sync.OnceValue(func() bool {
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, UffdFlags, 0, 0)
	if e != 0 {
		return false
	}
	u := &Uffd{int(fd)}
	defer u.Close()
	return u.negotiate() == nil
})

// SoftDirty says whether the kernel keeps soft-dirty bits: some take the request
// to clear them and have none. It is tried on a page of this process.
var SoftDirty = sync.OnceValue(func() bool {
	b, err := unix.Mmap(-1, 0, addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(b) }()
	pid := unix.Getpid()
	p, err := Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	at := addr.Addr(uintptr(unsafe.Pointer(&b[0])))
	dirty := func() (yes, ok bool) {
		next, err := p.Scan(addr.Range{Start: at, End: at + addr.PageSize}, PageSoftDirty, PageSoftDirty, false, 0, func(Region) { yes = true })
		return yes, err == nil && next == at+addr.PageSize
	}
	b[0] = 1
	if yes, ok := dirty(); !yes || !ok || ClearSoftDirty(pid) != nil {
		return false
	}
	if yes, ok := dirty(); yes || !ok {
		return false
	}
	b[0] = 2
	yes, ok := dirty()
	return yes && ok
})

// Register has writes to the mappings in r found. Some cannot be: those of the
// kernel, and those that another userfaultfd of the program has.
func (u *Uffd) Register(r addr.Range) error {
	arg := struct{ start, len, mode, ioctls uint64 }{uint64(r.Start), r.Len(), uffdRegisterModeWP, 0}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(u.fd), uffdioRegister, uintptr(unsafe.Pointer(&arg))); e != 0 {
		return fmt.Errorf("UFFDIO_REGISTER %v: %w", r, e)
	}
	return nil
}

// Unregister takes a mapping out of the watch: all its pages count as written.
func (u *Uffd) Unregister(r addr.Range) {
	arg := struct{ start, len uint64 }{uint64(r.Start), r.Len()}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(u.fd), uffdioUnregister, uintptr(unsafe.Pointer(&arg)))
}

// Close ends the watch: the kernel takes all registrations back.
func (u *Uffd) Close() { _ = unix.Close(u.fd) }
