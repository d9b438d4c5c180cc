//go:build linux

// This file has what concerns this process itself: the thread that it traces on, the
// signals that it was started with, its terminal, its child and its end.

package tracee

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
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

// onThread runs f on an OS thread of its own, which ends with it, and returns that
// thread's tid. suits, if not nil, says which threads are wanted; it may be another.
func onThread(suits func(tid int) bool, f func()) (tid int) {
	done, quit := make(chan struct{}), make(chan struct{})
	tries := 0
	var run func()
	run = func() {
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end. It is held here, so that the next is
			// another.
			go run()
			<-quit
			runtime.UnlockOSThread()
			return
		}
		tid = unix.Gettid()
		if tries++; suits != nil && !suits(tid) && tries < mostThreads {
			go run() // this thread ends
			return
		}
		f()
		close(done)
	}
	go run()
	<-done
	close(quit)
	return tid
}

// mostThreads is how many threads are tried as the tracing thread: one in 256 has an id
// whose lowest byte is a given one, and they have one after the other.
const mostThreads = 600

var startHandlers = sync.OnceValue(ptrace.StartHandlers)

// WakeSignal is what wakes the tracing thread.
const WakeSignal = ptrace.InterruptSignal

// StartedIgnoring are the signals that this process was started with as ignored.
func StartedIgnoring() []int {
	ignore, _ := startSignals()
	return ignore
}

// unhandled are the signals for which the Go runtime has no handler, since C libraries
// use them.
var unhandled = []int{32, 33, 34}

// IgnoreUnhandled keeps those signals from ending this process. A program that it starts
// does not ignore them.
func IgnoreUnhandled() {
	for _, sig := range unhandled {
		ptrace.Ignore(sig)
	}
}

// startSignals says which signals memtrace itself was started with as ignored,
// and which blocked: the program is to start so too. The Go runtime has put its
// own handlers over the former by the time that any code of ours runs, but it
// keeps what it found.
func startSignals() (ignore []int, mask uint64) {
	for n, h := range startHandlers() {
		if n > 0 && h == 1 { // SIG_IGN
			ignore = append(ignore, n)
		}
	}
	// Every thread of the runtime has the mask that the process was started with.
	// /proc/self/status would not do: the main thread blocks all for a moment now
	// and then.
	return ignore, ptrace.OwnSigMask()
}

// WaitFor waits for the end of a program that Run started and left running.
func WaitFor(pid int) (status unix.WaitStatus, ended bool) {
	for {
		switch _, err := unix.Wait4(pid, &status, 0, nil); err {
		case nil:
			if status.Exited() || status.Signaled() {
				return status, true
			}
		case unix.EINTR:
		default:
			return 0, false
		}
	}
}

// DieBy ends this process by a signal, as the program ended, without a core of
// memtrace's own.
func DieBy(sig int) { ptrace.DieBy(sig) }
