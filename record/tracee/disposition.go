//go:build linux

// This file says what signals would do to a process: those that wait, and those that
// come.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
)

// dispositions says what a process does with a signal.
func dispositions(k Kernel, tid, sig int) (caught, isIgnored, known bool) {
	status, err := k.Status(tid)
	if err != nil {
		return false, false, false
	}
	bit := uint64(1) << (sig - 1)
	return proctext.Field(status, "SigCgt").Hex()&bit != 0, proctext.Field(status, "SigIgn").Hex()&bit != 0, true
}

// fatal reports whether delivering sig will end the process: its default action
// does (signal(7)) and the process neither handles nor ignores it.
func fatal(k Kernel, tid, sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGKILL:
		return true
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	caught, isIgnored, known := dispositions(k, tid, sig)
	return known && !caught && !isIgnored
}

// ignored reports whether a signal does nothing to the process.
func ignored(k Kernel, tid, sig int) bool {
	caught, isIgnored, known := dispositions(k, tid, sig)
	switch {
	case !known || caught && !isIgnored:
		return false
	case isIgnored:
		return true
	}
	switch unix.Signal(sig) {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT:
		return true
	}
	return false
}

// stops reports whether a signal is one of job control that stops processes.
func stops(sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}

// doesNothing reports whether a signal does nothing at all to a process: it would not even
// wake a thread that is not traced.
func doesNothing(k Kernel, tid, sig int) bool {
	return sig != int(unix.SIGCONT) && ignored(k, tid, sig)
}

// signalsPending reports whether a signal waits to be delivered to a thread.
func signalsPending(k Kernel, tid int) bool {
	matter, idle := pending(k, tid)
	return matter || idle
}

// pending looks at the signals that wait to be delivered to a thread: whether some mean
// something to the program, or there are only such as it ignores, which would not even wake
// it if it were not traced.
func pending(k Kernel, tid int) (matter, idle bool) {
	status, err := k.Status(tid)
	if err != nil {
		return true, false
	}
	signals := func(name string) uint64 { return proctext.Field(status, name).Hex() }
	waiting := (signals("SigPnd") | signals("ShdPnd")) &^ signals("SigBlk")
	without := signals("SigIgn") | ignoredAtFirst&^signals("SigCgt")
	return waiting&^without != 0, waiting&without != 0
}

// ignoredAtFirst are the signals that do nothing by default. SIGCONT is not among them: it
// has a process that has stopped go on.
const ignoredAtFirst = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1)
