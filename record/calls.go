//go:build linux

package record

import (
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// syscallStop serves the entry or the exit of a system call.
func (r *Recorder) syscallStop(t *thread) {
	var info ptrace.SyscallInfo
	if r.gone(t, ptrace.GetSyscallInfo(t.tid, &info)) {
		return
	}
	switch info.Op {
	case ptrace.OpEntry, ptrace.OpSeccomp:
		r.enter(t, &info)
	case ptrace.OpExit:
		r.leaveCall(t, &info)
	default:
		r.resume(t, 0)
	}
}

// recorded says whether a call is one to be written down.
func (r *Recorder) recorded(c *format.Syscall) bool { return r.set.Has(c.Arch, c.Nr) }

// enter notes a call at its beginning and lets it go, at once or when it is its
// turn.
func (r *Recorder) enter(t *thread, info *ptrace.SyscallInfo) {
	t.inCall, t.skipExit, t.newborn = true, false, false
	id := abi(info.AuditArch)
	c := &t.call
	*c = format.Syscall{Arch: id, Nr: uint32(info.Nr()), Enter: r.now(), SP: info.SP}
	r.paced(t, c.Enter)
	row, _ := id.Syscall(c.Nr)
	if row.Name == "" {
		row.NArg = 6
	}
	copy(c.Args[:row.NArg], info.U[1:7])
	t.effect = effectOf(id, c.Nr)
	if r.recorded(c) {
		r.captureEntry(t)
		if r.pin.count > 0 && row.Flags&arch.File != 0 {
			r.hidePin(t)
		}
	}
	r.noteEntry(t)
	r.pauseBefore(t)
	if t.effect != effNone {
		r.prepare(t)
		if t.effect.exclusive() && !r.acquire(t) {
			return // another call of this address space is under way
		}
	}
	r.resume(t, 0)
}

// leaveCall writes a call at its end, with what the kernel says it changed.
func (r *Recorder) leaveCall(t *thread, info *ptrace.SyscallInfo) {
	if t.skipExit {
		t.skipExit = false
		r.resume(t, 0)
		return
	}
	now := r.now()
	if !t.inCall && !r.adopt(t, info) { // attached while it was in the call
		r.resume(t, 0)
		return
	}
	t.inCall = false
	if t.sticky {
		t.sticky = false
		if info.Ret() == -int64(unix.EINTR) && undoInterrupt(t.tid) {
			r.callDone(t)
			r.resume(t, 0) // it makes the call again
			return
		}
	}
	c := &t.call
	c.Ret, c.Returned = info.Ret(), true
	t.timeCall(now)
	c.IP, c.SP = info.IP, info.SP
	if t.effect != effNone {
		r.applyEffect(t)
	}
	if mm := t.mm; mm.shared || mm.faults != t.faults {
		r.refreshGrowth(mm)
		mm.faults = t.faults
	}
	recorded := r.recorded(c)
	if recorded {
		r.captureExit(t)
	}
	// Not where a signal is about to be served that only the call's own mask let in.
	t.injectable = c.Ret != -int64(unix.EINTR) && (c.Ret > -eRestartSys || c.Ret < -eRestartByBlock)
	s := r.capture(t.mm, t, r.due(t))
	if t.injectable && t.mm.track.wanted && t.mm.track.late {
		r.hold(t.mm)
		r.beginTracking(t) // it could not at the tick
	}
	t.injectable = false
	if recorded {
		r.emitAt(t, c, now)
		if r.opts.Check && t.effect.maps() {
			r.check(t.mm, t.no)
		}
	}
	r.endCapture(t, s)
	r.callDone(t)
	if t.preempted {
		t.preempted = false
		return // what it reported waits its turn
	}
	r.resume(t, 0)
}

// adopt makes up the entry of a call that began before the thread was traced,
// from its registers: the arguments are still there.
func (r *Recorder) adopt(t *thread, info *ptrace.SyscallInfo) bool {
	var regs ptrace.Regs
	if r.gone(t, ptrace.GetRegs(t.tid, &regs)) {
		return false
	}
	nr := int64(regs[ptrace.RegOrigRAX])
	if nr < 0 {
		return false
	}
	id := abi(info.AuditArch)
	row, ok := id.Syscall(uint32(nr))
	if !ok {
		row.NArg = 6
	}
	t.call = format.Syscall{Arch: id, Nr: uint32(nr)}
	args := regs.Args(id == arch.I386)
	copy(t.call.Args[:row.NArg], args[:])
	t.effect = effectOf(id, t.call.Nr)
	t.read = call.Call{Arch: id, Nr: t.call.Nr, Args: t.call.Args}
	return true
}

// captureEntry reads what the call's arguments point to before it.
func (r *Recorder) captureEntry(t *thread) {
	t.read = call.Call{Arch: t.call.Arch, Nr: t.call.Nr, Args: t.call.Args, SP: t.call.SP}
	t.collector.Enter(&t.read)
}

// captureExit reads what the call has written, and asks for the names of the
// descriptors that it made.
func (r *Recorder) captureExit(t *thread) {
	c := &t.call
	t.read.Ret, t.read.Returned = c.Ret, true
	t.collector.Exit(&t.read)
	c.Bufs = t.read.Bufs
	switch r.fdCall(c) {
	case fdNone, fdCopy: // a copy is called what the original is
	default:
		t.read.MadeFDs(func(fd int32, _ bool) { r.nameFD(t, fd) })
	}
}

// fdKind is what a call does to descriptors.
type fdKind uint8

const (
	fdNone fdKind = iota
	fdCopy
	fdMakes
)

// fdKinds is the table by number.
var fdKinds = sync.OnceValue(func() *[arch.I386 + 1][arch.MaxSyscall]fdKind {
	t := new([arch.I386 + 1][arch.MaxSyscall]fdKind)
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			switch {
			case c.Flags&arch.NamesFD == 0:
			case c.Name == "dup", c.Name == "dup2", c.Name == "dup3", c.Name == "fcntl", c.Name == "fcntl64":
				t[id][nr] = fdCopy
			default:
				t[id][nr] = fdMakes
			}
		}
	}
	return t
})

func (r *Recorder) fdCall(c *format.Syscall) fdKind {
	if c.Ret < 0 || c.Arch > arch.I386 || c.Nr >= arch.MaxSyscall {
		return fdNone
	}
	return fdKinds()[c.Arch][c.Nr]
}

// nameFD asks the kernel what a new descriptor refers to.
func (r *Recorder) nameFD(t *thread, fd int32) {
	n, err := procfs.FDName(t.tid, int(fd), r.fdName[:])
	if err != nil {
		return
	}
	data := append([]byte(nil), r.fdName[:n]...)
	t.call.Bufs = append(t.call.Bufs, call.Buf{Arg: call.BufRetName, Out: true, Addr: addr.Addr(fd), Data: data})
}
