//go:build linux

// This file waits for page faults beside the thread that traces.

package pagetrace

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// faultWaiter waits until one of some descriptors is readable. Its zero value waits for
// none.
type faultWaiter struct {
	epoll, quit int // descriptors; both 0 before the first is added
	asked       atomic.Bool
	ask         func(func()) error
}

// add waits for descriptors, until they are closed: then f is called, by ask. It is called
// once for all that have become readable until then.
func (w *faultWaiter) add(fds []int, f func()) {
	if w.epoll == 0 && !w.begin(f) {
		return
	}
	for _, fd := range fds {
		_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)})
	}
}

func (w *faultWaiter) begin(f func()) bool {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	quit, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, quit, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(quit)})
	}
	if err != nil {
		_ = unix.Close(epoll)
		return false
	}
	w.epoll, w.quit = epoll, quit
	go w.wait(epoll, quit, f)
	return true
}

func (w *faultWaiter) wait(epoll, quit int, f func()) {
	defer func() { _, _ = unix.Close(epoll), unix.Close(quit) }()
	for events := make([]unix.EpollEvent, 16); ; {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == quit {
				return
			}
		}
		if n > 0 && w.asked.CompareAndSwap(false, true) {
			_ = w.ask(func() { w.asked.Store(false); f() })
		}
	}
}

// close ends the waiting.
func (w *faultWaiter) close() {
	if w.epoll != 0 {
		var one = [8]byte{1}
		_, _ = unix.Write(w.quit, one[:])
		w.epoll, w.quit = 0, 0
	}
}
