//go:build linux

package procfs

import (
	"fmt"
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
	pidfdThread          = unix.O_EXCL
	pidfdGetfd           = unix.SYS_PIDFD_GETFD
	UffdFlags            = unix.O_CLOEXEC | uffdUserModeOnly // of the userfaultfd call
)

// TakeUffd takes descriptor fd of a thread, which must be a new userfaultfd.
func TakeUffd(tid, fd int) (*Uffd, error) {
	pidfd, err := unix.PidfdOpen(tid, pidfdThread) // Linux 6.9: a thread may have descriptors of its own
	if err == unix.EINVAL {
		pidfd, err = unix.PidfdOpen(tid, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", tid, err)
	}
	defer unix.Close(pidfd)
	own, _, e := unix.Syscall(pidfdGetfd, uintptr(pidfd), uintptr(fd), 0)
	if e != 0 {
		return nil, fmt.Errorf("pidfd_getfd of %d: %w", tid, e)
	}
	unix.CloseOnExec(int(own))
	u := &Uffd{int(own)}
	api := struct{ api, features, ioctls uint64 }{api: uffdAPI, features: uffdWPAsync | uffdWPUnpopulated | uffdWPHugetlbfsShmem}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, own, uffdioAPI, uintptr(unsafe.Pointer(&api))); e != 0 {
		u.Close()
		return nil, fmt.Errorf("UFFDIO_API: %w", e)
	}
	return u, nil
}

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
