//go:build linux

// This file sends the signals that a tracer among our tracees, or its tracee, would get
// from the kernel.

package tracee

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/record/tracee/siginfo"
)

// childSignal sends a tracer the SIGCHLD that the kernel would: where it would be seen.
func (g *Group) childSignal(by, tracee *Thread, c siginfo.Cookie, status uint32) {
	if by.Proc.noCldStop && c == siginfo.CookieChild || by.over() {
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
	siginfo.PutCookie(&info, c, tracee.TID, status)
	_ = g.nest.k.Queue(by.Proc.PID, 0, int(unix.SIGCHLD), &info)
}

// ownSignal puts the siginfo into a signal of ours that the kernel would have put there. It
// reports which signal of ours it is.
func (g *Group) ownSignal(t *Thread, info *[128]byte) siginfo.Cookie {
	c := g.madeInfo(t, info)
	if c != 0 {
		_ = g.nest.k.SetSigInfo(t.TID, info)
	}
	return c
}

// madeInfo makes the siginfo of a signal of ours what the kernel would have made it.
func (g *Group) madeInfo(t *Thread, info *[128]byte) siginfo.Cookie {
	c := siginfo.CookieOf(info)
	if c == 0 {
		return 0
	}
	le := binary.LittleEndian
	sig, pid, status := le.Uint32(info[0:]), le.Uint32(info[siginfo.PID:]), le.Uint32(info[siginfo.UID:])
	*info = [128]byte{}
	le.PutUint32(info[0:], sig)
	switch c {
	case siginfo.CookieChild, siginfo.CookieEnd:
		code, value := siginfo.ChildCode(status, c == siginfo.CookieChild)
		le.PutUint32(info[siginfo.Code:], code)
		le.PutUint32(info[siginfo.PID:], pid)
		le.PutUint32(info[siginfo.UID:], g.uid(t))
		le.PutUint32(info[siginfo.Status:], value&0x7f)
	case siginfo.CookieExec:
		le.PutUint32(info[siginfo.PID:], uint32(t.Proc.PID))
		le.PutUint32(info[siginfo.UID:], g.uid(t))
	case siginfo.CookieUser, siginfo.CookieThread:
		if c == siginfo.CookieThread {
			code := int32(siginfo.Tkill)
			le.PutUint32(info[siginfo.Code:], uint32(code))
		}
		le.PutUint32(info[siginfo.PID:], pid)
		le.PutUint32(info[siginfo.UID:], status)
	default:
		const siKernel = 0x80
		le.PutUint32(info[siginfo.Code:], siKernel)
	}
	return c
}

// stopFor sends the SIGSTOP of PTRACE_ATTACH.
func (g *Group) stopFor(t *Thread) {
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGSTOP))
	siginfo.PutCookie(&info, siginfo.CookieStop, t.TID, 0)
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
	siginfo.PutCookie(&info, siginfo.CookieExec, t.TID, 0)
	_ = g.nest.k.Queue(t.Proc.PID, t.TID, int(unix.SIGTRAP), &info)
}

// sendOwn sends a signal that a tracer has its tracee go on with from a stop at which none
// can be delivered.
func (g *Group) sendOwn(t *Thread, sig int) {
	if sig == 0 {
		return
	}
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(sig))
	siginfo.PutCookie(&info, siginfo.CookieSignal, t.TID, 0)
	_ = g.nest.k.Queue(t.Proc.PID, t.TID, sig, &info)
}

// taken puts the siginfo right of a SIGCHLD of ours that a thread has waited for itself, by
// rt_sigtimedwait(2) or from a signalfd(2).
func (g *Group) taken(t *Thread, c *Call) {
	switch {
	case isCall(c, "signalfd4"), isCall(c, "signalfd"):
		t.Proc.signalFD = t.Proc.signalFD || c.Failed() == 0
		return
	case c.Ret > 0 && c.Ret%siginfo.SignalFDSize == 0 && isCall(c, "read"):
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

// takenFromFD looks for SIGCHLDs of ours in what a thread has read, and puts them right.
func (g *Group) takenFromFD(t *Thread, c *Call) {
	const most = 64 // a read of more is none of a signalfd
	if c.Ret > most*siginfo.SignalFDSize || string(g.fdNameOf(t, int32(c.Args[0]))) != "anon_inode:[signalfd]" {
		return
	}
	b := make([]byte, c.Ret)
	if g.ReadMem(t, b, addr.Addr(c.Args[1])) != len(b) {
		return
	}
	changed := false
	for r := range slices.Chunk(b, siginfo.SignalFDSize) {
		info := siginfo.FromSignalFD(r)
		if g.madeInfo(t, &info) == 0 {
			continue
		}
		siginfo.ToSignalFD(r, &info)
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
