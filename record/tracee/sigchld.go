//go:build linux

// This file sends the signals that a tracer among our tracees, or its tracee, would get
// from the kernel.

package tracee

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
)

// A signal of ours says so in the value that it carries, and what its siginfo is to be.
type cookie uint32

const (
	cookieChild  cookie = iota + 1 // SIGCHLD: the state of a tracee has changed
	cookieEnd                      // SIGCHLD: a tracee has ended
	cookieStop                     // SIGSTOP of PTRACE_ATTACH
	cookieExec                     // SIGTRAP of an exec
	cookieSignal                   // a signal that a tracer sent its tracee
)

// ownMark tells our signals from the program's: it cannot know it.
var ownMark = rand.Uint32()

// Offsets into siginfo_t (include/uapi/asm-generic/siginfo.h): si_code, si_pid, si_uid and
// si_value of a queued signal, si_status of SIGCHLD.
const (
	infoCode   = 8
	infoPID    = 16
	infoAddr   = 16 // of a fault
	infoUID    = 20
	infoValue  = 24
	infoStatus = 24
)

const siQueue = -1

// putCookie makes a siginfo one of ours. pid and status are what the program is to see.
func putCookie(info *[128]byte, c cookie, pid int, status uint32) {
	minus := int32(siQueue)
	binary.LittleEndian.PutUint32(info[infoCode:], uint32(minus))
	binary.LittleEndian.PutUint32(info[infoPID:], uint32(pid))
	binary.LittleEndian.PutUint32(info[infoUID:], status)
	binary.LittleEndian.PutUint32(info[infoValue:], ownMark)
	binary.LittleEndian.PutUint32(info[infoValue+4:], uint32(c))
}

// cookieOf says which of our signals a siginfo is of, 0 for none.
func cookieOf(info *[128]byte) cookie {
	le := binary.LittleEndian
	if int32(le.Uint32(info[infoCode:])) != siQueue || le.Uint32(info[infoValue:]) != ownMark {
		return 0
	}
	return cookie(le.Uint32(info[infoValue+4:]))
}

// childSignal sends a tracer the SIGCHLD that the kernel would: where it would be seen.
func (g *Group) childSignal(by, tracee *Thread, c cookie, status uint32) {
	if by.Proc.noCldStop && c == cookieChild || by.over() {
		return
	}
	text, err := g.k.Status(by.TID)
	if err != nil {
		return
	}
	seen := proctext.Field(text, "SigCgt").Hex() | proctext.Field(text, "SigBlk").Hex()
	if seen>>(unix.SIGCHLD-1)&1 == 0 || proctext.Field(text, "SigIgn").Hex()>>(unix.SIGCHLD-1)&1 != 0 {
		return
	}
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGCHLD))
	putCookie(&info, c, tracee.TID, status)
	_ = g.nest.k.Queue(by.Proc.PID, 0, int(unix.SIGCHLD), &info)
}

// Codes of SIGCHLD (sigaction(2)).
const (
	cldExited  = 1
	cldKilled  = 2
	cldDumped  = 3
	cldTrapped = 4
)

// childCode is si_code and si_status of a wait status: of a stop without its 0x7f.
func childCode(status uint32, stop bool) (code, value uint32) {
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

// ownSignal puts the siginfo into a signal of ours that the kernel would have put there. It
// reports which signal of ours it is.
func (g *Group) ownSignal(t *Thread, info *[128]byte) cookie {
	c := g.madeInfo(t, info)
	if c != 0 {
		_ = g.nest.k.SetSigInfo(t.TID, info)
	}
	return c
}

// madeInfo makes the siginfo of a signal of ours what the kernel would have made it.
func (g *Group) madeInfo(t *Thread, info *[128]byte) cookie {
	c := cookieOf(info)
	if c == 0 {
		return 0
	}
	le := binary.LittleEndian
	sig, pid, status := le.Uint32(info[0:]), le.Uint32(info[infoPID:]), le.Uint32(info[infoUID:])
	*info = [128]byte{}
	le.PutUint32(info[0:], sig)
	switch c {
	case cookieChild, cookieEnd:
		code, value := childCode(status, c == cookieChild)
		le.PutUint32(info[infoCode:], code)
		le.PutUint32(info[infoPID:], pid)
		le.PutUint32(info[infoUID:], g.uid(t))
		le.PutUint32(info[infoStatus:], value&0x7f)
	case cookieExec:
		le.PutUint32(info[infoPID:], uint32(t.Proc.PID))
		le.PutUint32(info[infoUID:], g.uid(t))
	default:
		const siKernel = 0x80
		le.PutUint32(info[infoCode:], siKernel)
	}
	return c
}

// stopFor sends the SIGSTOP of PTRACE_ATTACH.
func (g *Group) stopFor(t *Thread) {
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGSTOP))
	putCookie(&info, cookieStop, t.TID, 0)
	if g.nest.k.Queue(t.Proc.PID, t.TID, int(unix.SIGSTOP), &info) == nil {
		t.traced.stops++
	}
	if t.state == Listening {
		t.asked = t.asked || g.k.Interrupt(t.TID) == nil
	}
}

// trapFor sends the SIGTRAP that a tracee gets after an exec if its tracer has not asked for
// the event (ptrace(2), PTRACE_O_TRACEEXEC).
func (g *Group) trapFor(t *Thread) {
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGTRAP))
	putCookie(&info, cookieExec, t.TID, 0)
	_ = g.nest.k.Queue(t.Proc.PID, t.TID, int(unix.SIGTRAP), &info)
}

// taken puts the siginfo right of a SIGCHLD of ours that a thread has waited for itself, by
// rt_sigtimedwait(2) or from a signalfd(2).
func (g *Group) taken(t *Thread, c *Call) {
	switch {
	case isCall(c, "signalfd4"), isCall(c, "signalfd"):
		t.Proc.signalFD = t.Proc.signalFD || c.Failed() == 0
		return
	case c.Ret > 0 && c.Ret%signalfdSize == 0 && isCall(c, "read"):
		if t.Proc.tracing() || len(g.nest.dead) > 0 {
			g.takenFromFD(t, c)
		}
		return
	case c.Ret != int64(unix.SIGCHLD), c.Args[1] == 0, c.Arch != arch.X86_64, !isCall(c, "rt_sigtimedwait"):
		return
	}
	var info [128]byte
	if g.ReadMem(t, info[:], addr.Addr(c.Args[1])) == len(info) && g.madeInfo(t, &info) != 0 {
		g.k.WriteMem(t.TID, info[:], addr.Addr(c.Args[1]))
	}
}

// Offsets into struct signalfd_siginfo (include/uapi/linux/signalfd.h), and its size.
const (
	signalfdCode   = 8
	signalfdPID    = 12
	signalfdUID    = 16
	signalfdStatus = 40
	signalfdValue  = 44 // ssi_int, and ssi_ptr behind it
	signalfdSize   = 128
)

// takenFromFD looks for SIGCHLDs of ours in what a thread has read, and puts them right.
func (g *Group) takenFromFD(t *Thread, c *Call) {
	const most = 64 // a read of more is none of a signalfd
	if c.Ret > most*signalfdSize || string(g.fdNameOf(t, int32(c.Args[0]))) != "anon_inode:[signalfd]" {
		return
	}
	b := make([]byte, c.Ret)
	if g.ReadMem(t, b, addr.Addr(c.Args[1])) != len(b) {
		return
	}
	changed := false
	for r := range slices.Chunk(b, signalfdSize) {
		var info [128]byte
		copy(info[:4], r)
		copy(info[infoCode:], r[signalfdCode:signalfdCode+4])
		copy(info[infoPID:], r[signalfdPID:signalfdUID+4])
		copy(info[infoValue:], r[signalfdValue+4:signalfdValue+12])
		if g.madeInfo(t, &info) == 0 {
			continue
		}
		copy(r[signalfdCode:], info[infoCode:infoCode+4])
		copy(r[signalfdPID:], info[infoPID:infoUID+4])
		copy(r[signalfdStatus:], info[infoStatus:infoStatus+4])
		clear(r[signalfdValue : signalfdValue+12])
		changed = true
	}
	if changed {
		g.k.WriteMem(t.TID, b, addr.Addr(c.Args[1]))
	}
}

// noteAction keeps up whether a process wants no SIGCHLD when a child stops.
func (g *Group) noteAction(t *Thread, c *Call) {
	if c.Failed() != 0 || c.Args[0] != uint64(unix.SIGCHLD) || c.Args[1] == 0 || !isCall(c, "rt_sigaction") {
		return
	}
	b := make([]byte, 2*wordSize(c.Arch)) // struct kernel_sigaction: handler, flags
	if g.ReadMem(t, b, addr.Addr(c.Args[1])) == len(b) {
		t.Proc.noCldStop = wordOf(b[wordSize(c.Arch):], c.Arch)&saNoCldStop != 0
	}
}

// saNoCldStop is a flag of struct sigaction.
const saNoCldStop = 1

// uid is the real user id of a thread, as the initial user namespace has it.
func (g *Group) uid(t *Thread) uint32 {
	text, err := g.k.Status(t.TID)
	if err != nil {
		return 0
	}
	n, _ := proctext.Field(text, "Uid").Number()
	return uint32(n)
}
