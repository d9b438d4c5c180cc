// This file takes descriptors out of programs.

package procfs

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// TakeFD takes a copy of descriptor fd of a thread that is traced. It is closed when this
// process executes another program.
func TakeFD(tid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(tid, unix.O_EXCL) // PIDFD_THREAD, Linux 6.9: a thread may have descriptors of its own
	if err == unix.EINVAL {
		pidfd, err = unix.PidfdOpen(tid, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd of %d: %w", tid, err)
	}
	defer unix.Close(pidfd)
	own, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_getfd of %d: %w", tid, err)
	}
	unix.CloseOnExec(own)
	return own, nil
}

// Ends reports whether a call of a thread that writes to a pipe, socket or terminal until
// all is written, or reads until all is there, comes to an end before: the other end is
// gone, or the socket has a limit of time, and the call has waited for that long.
func Ends(tid, fd int, reads bool, waited time.Duration) bool {
	own, err := TakeFD(tid, fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	limit := unix.SO_SNDTIMEO
	poll := []unix.PollFd{{Fd: int32(own)}}
	if reads {
		limit, poll[0].Events = unix.SO_RCVTIMEO, unix.POLLRDHUP
	}
	if tv, err := unix.GetsockoptTimeval(own, unix.SOL_SOCKET, limit); err == nil && tv.Nano() > 0 && waited >= time.Duration(tv.Nano()) {
		return true
	}
	if n, err := unix.Poll(poll, 0); n != 1 || err != nil {
		return false
	}
	if !reads {
		return true
	}
	left, err := unix.IoctlGetInt(own, unix.SIOCINQ)
	return err == nil && left == 0
}
