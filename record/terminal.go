//go:build linux

package record

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// TakeTerminal makes this process the one that the terminal on standard input
// speaks to, as a shell does when its job has stopped: the program may have put
// itself there. The function that it returns gives the terminal back.
func TakeTerminal() (back func()) {
	fd := int(os.Stdin.Fd())
	theirs, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	ours := unix.Getpgrp()
	if err != nil || theirs == ours {
		return func() {}
	}
	setForeground(fd, ours)
	return func() { setForeground(fd, theirs) }
}

// setForeground is tcsetpgrp(3). From the background it needs SIGTTOU blocked.
func setForeground(fd, pgrp int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	// A group that has ended cannot have it: it stays where it is.
	_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, pgrp)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}
