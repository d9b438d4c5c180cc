//go:build linux

// This file waits for what tracees come to: wait4(2), and waitid(2) where the end of one is to
// be seen and left.

package ptrace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Wait blocks until a tracee of this thread stops or ends. With poll it returns
// at once, with TID 0 where there is nothing.
func Wait(poll bool) (Stop, error) {
	flags := unix.WALL | unix.WNOTHREAD
	if poll {
		flags |= unix.WNOHANG
	}
	var ws unix.WaitStatus
	var usage unix.Rusage
	tid, err := unix.Wait4(-1, &ws, flags, &usage)
	switch err {
	case nil:
	case unix.EINTR:
		return Stop{}, ErrInterrupted
	case unix.ECHILD:
		return Stop{}, ErrNone
	default:
		return Stop{}, fmt.Errorf("wait4: %w", err)
	}
	if tid == 0 {
		return Stop{}, nil
	}
	s := decode(tid, ws)
	s.Faults = usage.Minflt + usage.Majflt
	return s, nil
}

// WaitPeeked is Wait. look is told of a tracee that has stopped with a signal before the stop
// is taken: if this thread dies until then the tracee gets the signal, and if it dies later
// the tracee does not.
func WaitPeeked(poll bool, look func(tid, sig int)) (Stop, error) {
	for {
		p, err := peekAt(unix.P_ALL, 0, unix.WEXITED|unix.WSTOPPED, poll)
		if err != nil || p.tid == 0 {
			return Stop{}, err
		}
		if s, ok := p.take(look, func(int) bool { return false }); ok {
			return s, nil
		}
	}
}

// WaitKeeping is WaitPeeked, but a tracee that has ended and for which keeps says so is not
// reaped: each wait for all finds it again.
func WaitKeeping(poll bool, look func(tid, sig int), keeps func(tid int) bool) (Stop, error) {
	for {
		p, err := peekAt(unix.P_ALL, 0, unix.WEXITED|unix.WSTOPPED, poll)
		if err != nil || p.tid == 0 {
			return Stop{}, err
		}
		if s, ok := p.take(look, keeps); ok {
			return s, nil
		}
	}
}

// WaitPast is WaitKeeping where some that have been kept are in the way: it looks for ends of
// the others first, which are tids, and then waits for stops only.
func WaitPast(poll bool, look func(tid, sig int), keeps func(tid int) bool, tids []int) (Stop, error) {
	for _, tid := range tids {
		p, err := peekAt(unix.P_PID, tid, unix.WEXITED, true)
		if err != nil || p.tid == 0 {
			continue
		}
		if s, ok := p.take(look, keeps); ok {
			return s, nil
		}
	}
	for {
		p, err := peekAt(unix.P_ALL, 0, unix.WSTOPPED, poll)
		if err != nil || p.tid == 0 {
			return Stop{}, err
		}
		if s, ok := p.take(look, keeps); ok {
			return s, nil
		}
	}
}

// take takes what was peeked at, or leaves it if it is to be kept. It reports false where the
// tracee was killed meanwhile: it reports something else.
func (p peeked) take(look func(tid, sig int), keeps func(tid int) bool) (Stop, bool) {
	if status, ended := p.ended(); ended && keeps(p.tid) {
		return decode(p.tid, status), true
	}
	if sig := p.signal(); sig != 0 {
		look(p.tid, sig)
	}
	var ws unix.WaitStatus
	var usage unix.Rusage
	if n, e := wait4Raw(p.tid, &ws, &usage); e != 0 || n != p.tid {
		return Stop{}, false
	}
	s := decode(p.tid, ws)
	s.Faults = usage.Minflt + usage.Majflt
	return s, true
}

// Reap reaps a tracee that was kept.
func Reap(tid int) {
	var ws unix.WaitStatus
	_, _ = wait4Raw(tid, &ws, nil)
}

// WaitSoon waits for one tracee, which is about to stop: its CPU is given up to it and
// the Go scheduler is not told. TID is 0 where that takes long: to wait longer is for the
// caller, since the first thread of a process ends without a word as long as there are others.
func WaitSoon(tid int) (Stop, error) {
	var ws unix.WaitStatus
	for range spins {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, err := wait4Raw(tid, &ws, nil)
		switch {
		case err == unix.ECHILD:
			return Stop{}, ErrNone
		case err != 0 && err != unix.EINTR:
			return Stop{}, fmt.Errorf("wait4: %w", err)
		case n == tid:
			return decode(tid, ws), nil
		}
	}
	return Stop{}, nil
}

// WaitAnySoon is Wait for tracees that share the CPU of the caller: it is given up to them,
// a few times, and the Go scheduler is not told. It reports whether one has stopped or
// ended.
func WaitAnySoon() (Stop, bool) {
	var ws unix.WaitStatus
	var usage unix.Rusage
	for range soon {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, err := wait4Raw(-1, &ws, &usage)
		if err != 0 {
			break
		}
		if n > 0 {
			s := decode(n, ws)
			s.Faults = usage.Minflt + usage.Majflt
			return s, true
		}
	}
	return Stop{}, false
}
