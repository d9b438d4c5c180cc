//go:build linux

// This file turns a siginfo_t into that of i386, and back.

package siginfo

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Status32 is the offset of si_status in siginfo_t of i386.
const Status32 = 20

// To32 is siginfo_t of i386 (kernel/signal.c, copy_siginfo_to_external32).
func To32(info *[128]byte) (narrow [128]byte) {
	copy(narrow[:12], info[:12])
	for _, f := range fields(info[:]) {
		copy(narrow[f[1]:][:4], info[f[0]:][:4])
	}
	return narrow
}

// To64 is the inverse of To32.
func To64(narrow *[128]byte) (info [128]byte) {
	copy(info[:12], narrow[:12])
	for _, f := range fields(narrow[:]) {
		copy(info[f[0]:][:4], narrow[f[1]:][:4])
	}
	return info
}

// fields are the fields of a siginfo_t behind si_code: where they are on x86_64, and on
// i386 (kernel/signal.c, siginfo_layout).
func fields(info []byte) [][2]int {
	var (
		queued = [][2]int{{16, 12}, {20, 16}, {24, 20}} // pid, uid, value; of a timer too
		fault  = [][2]int{{16, 12}}
		child  = [][2]int{{16, 12}, {20, 16}, {24, 20}, {32, 24}, {40, 28}} // status, times
		poll   = [][2]int{{16, 12}, {24, 16}}
		sys    = [][2]int{{16, 12}, {24, 16}, {28, 20}}
	)
	const siSigIO, siKernel = -5, 0x80
	sig, code := unix.Signal(binary.LittleEndian.Uint32(info)), int32(binary.LittleEndian.Uint32(info[Code:]))
	if code == siSigIO {
		return poll
	}
	if code <= 0 || code >= siKernel {
		return queued
	}
	switch sig {
	case unix.SIGILL, unix.SIGFPE, unix.SIGSEGV, unix.SIGBUS, unix.SIGTRAP:
		return fault
	case unix.SIGCHLD:
		return child
	case unix.SIGPOLL:
		return poll
	case unix.SIGSYS:
		return sys
	}
	return queued
}
