//go:build linux

// This file has the fields of a siginfo_t of x86_64, and of what a signalfd(2) makes
// of it.

package siginfo

import "encoding/binary"

// Offsets into siginfo_t (include/uapi/asm-generic/siginfo.h): si_code, si_pid, si_uid and
// si_value of a queued signal, si_status of SIGCHLD.
const (
	Code   = 8
	PID    = 16
	Addr   = 16 // of a fault
	UID    = 20
	Value  = 24
	Status = 24
)

// Errno is where si_errno is, and Stands what memtrace writes there where the kernel has stopped
// a thread before a call (SYS_USER_DISPATCH): the handler of record/inproc/blob.gas knows it.
const (
	Errno  = 4
	Stands = 0x6d74
)

// Tkill is SI_TKILL: si_code of a signal that tgkill(2) has sent.
const Tkill = -6

// CodeOf is si_code.
func CodeOf(info *[128]byte) int32 { return int32(binary.LittleEndian.Uint32(info[Code:])) }

// Codes of SIGCHLD (sigaction(2)).
const (
	cldExited  = 1
	cldKilled  = 2
	cldDumped  = 3
	cldTrapped = 4
)

// ChildCode is si_code and si_status of a wait status: of a stop without its 0x7f.
func ChildCode(status uint32, stop bool) (code, value uint32) {
	switch {
	case stop:
		return cldTrapped, status
	case status&0x7f == 0:
		return cldExited, status >> 8 & 0xff
	case status&0x80 != 0:
		return cldDumped, status & 0x7f
	}
	return cldKilled, status & 0x7f
}

// Offsets into struct signalfd_siginfo (include/uapi/linux/signalfd.h), and its size.
const (
	fdCode       = 8
	fdPID        = 12
	fdUID        = 16
	fdStatus     = 40
	fdValue      = 44 // ssi_int, and ssi_ptr behind it
	SignalFDSize = 128
)

// FromSignalFD is the siginfo that a struct signalfd_siginfo was made of, as far as a cookie
// is concerned.
func FromSignalFD(r []byte) (info [128]byte) {
	copy(info[:4], r)
	copy(info[Code:], r[fdCode:fdCode+4])
	copy(info[PID:], r[fdPID:fdUID+4])
	copy(info[Value:], r[fdValue+4:fdValue+12])
	return info
}

// ToSignalFD puts the siginfo of a SIGCHLD into a struct signalfd_siginfo.
func ToSignalFD(r []byte, info *[128]byte) {
	copy(r[fdCode:], info[Code:Code+4])
	copy(r[fdPID:], info[PID:UID+4])
	copy(r[fdStatus:], info[Status:Status+4])
	clear(r[fdValue : fdValue+12])
}
