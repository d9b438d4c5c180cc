//go:build linux

// This file serves the entries and exits of system calls.

package tracee

import (
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// syscallStop serves the entry or the exit of a system call.
func (g *Group) syscallStop(t *Thread) {
	var info ptrace.SyscallInfo
	if g.failed(t, g.k.GetSyscallInfo(t.TID, &info)) {
		return
	}
	if t.rest != nil && info.Op != ptrace.OpExit {
		g.resume(t, 0) // it makes the rest of its call
		return
	}
	switch info.Op {
	case ptrace.OpEntry:
		g.enter(t, &info)
	case ptrace.OpSeccomp:
		g.filtered(t, &info)
	case ptrace.OpExit:
		g.leave(t, &info)
	default:
		g.resume(t, 0)
	}
}

// enter notes a call at its beginning and lets it go, at once or when it is its
// turn.
func (g *Group) enter(t *Thread, info *ptrace.SyscallInfo) {
	if g.nested() && g.enterTraced(t, info) {
		return
	}
	t.launcher, t.newborn = false, false
	c := &t.calls
	*c = Call{Enter: g.Now()}
	c.Arch, c.Nr, c.SP = abi(info.AuditArch), uint32(info.Nr()), info.SP
	copy(c.Args[:arity(c.Arch, c.Nr)], info.U[1:7])
	t.call = c
	g.paced(t, c.Enter)
	if g.opts.Calls.Has(c.Arch, c.Nr) {
		t.collector.Enter(&c.Call)
		g.hidePin(c)
		g.nameUsed(t)
	}
	g.noteRegisters(t)
	wait := g.h.Entered(t, c)
	switch sees(c.Arch, c.Nr) {
	case seesParent:
		c.Clone = g.readClone(t)
		g.unpin(t)
	case seesAffinity:
		g.unpinAll()
	}
	g.disguise(t, info)
	if g.opts.Warden != nil && !wait {
		g.opts.Warden.Enters(t, c) // first: answers are written into the program's memory
	}
	if g.nested() {
		g.beginRequest(t, c)
		g.beginWait(t, c)
		g.writesOther(t, c)
	}
	if wait {
		g.become(t, Queued)
		return
	}
	g.resume(t, 0)
}

// leave tells of a call at its end.
func (g *Group) leave(t *Thread, info *ptrace.SyscallInfo) {
	if t.launcher {
		t.launcher = false
		g.resume(t, 0)
		return
	}
	ret := info.Ret()
	if g.opts.Inside != nil {
		g.passMiddle(t, info.IP)
	}
	whole := t.rest != nil
	if whole {
		var over bool
		if ret, over = g.partDone(t, ret); !over || t.call == nil {
			g.resume(t, 0)
			return
		}
	}
	if t.call == nil && !g.adopt(t, info) { // attached while it was in the call
		return
	}
	if t.emulated.on {
		ret = g.endRequest(t, ret)
	}
	ours := t.interrupted
	if t.wait.on {
		var again bool
		if ret, again = g.endWait(t, ret, ours); again {
			t.interrupted = false
			g.resume(t, 0)
			return
		}
	}
	if t.interrupted = false; !whole && (g.cutShort(t, ret, ours) || g.waitOn(t, ret, ours)) {
		g.resume(t, 0)
		return
	}
	if ours && ret == -eIntr && undoInterrupt(g.k, t.TID) {
		c := t.call
		t.call = nil
		g.h.Restarted(t, c)
		g.resume(t, 0)
		return
	}
	g.returned(t, ret, info.IP, info.SP)
	g.leaves(t)
}

// returned tells of the call of a thread, which has returned.
func (g *Group) returned(t *Thread, ret int64, ip, sp uint64) {
	c := t.call
	c.Ret, c.Returned, c.Leave = ret, true, g.Now()
	g.undisguise(t)
	t.learn(c.Leave)
	if g.nested() {
		g.noteAction(t, c)
		g.taken(t, c)
		g.wroteOther(t, c)
	}
	if g.opts.Calls.Has(c.Arch, c.Nr) {
		t.collector.Exit(&c.Call)
		g.nameFDs(t)
	}
	c.IP, c.SP = g.siteOf(t, ip), sp
	t.call = nil
	g.complete(t, c)
}

// complete tells of a completed call.
func (g *Group) complete(t *Thread, c *Call) {
	w := g.opts.Warden
	if w == nil {
		g.h.Returned(t, c)
		return
	}
	if setsMask(c.Arch, c.Nr) {
		if mask, err := g.k.SigMask(t.TID); err == nil {
			w.Masked(t, mask)
		}
	}
	w.Returns(t, c)
	g.h.Returned(t, c)
	w.Returned(t, c)
}

// adopt makes up the entry of a call that began before the thread was traced,
// from its registers: the arguments are still there. If it cannot, the thread goes on.
func (g *Group) adopt(t *Thread, info *ptrace.SyscallInfo) bool {
	var regs ptrace.Regs
	if g.failed(t, g.k.GetRegs(t.TID, &regs)) {
		return false
	}
	nr := int64(regs[ptrace.RegOrigRAX])
	if nr < 0 {
		g.resume(t, 0)
		return false
	}
	c := &t.calls
	*c = Call{}
	t.entry.read, t.entry.told = false, true // nothing of it can be told before its next call
	c.Arch, c.Nr = abi(info.AuditArch), uint32(nr)
	args := regs.Args(c.Arch == arch.I386)
	copy(c.Args[:arity(c.Arch, c.Nr)], args[:])
	t.call = c
	return true
}

// arity is how many arguments a call takes; of one that no table has, all there
// may be.
func arity(id arch.ID, nr uint32) uint8 {
	row, ok := id.Syscall(nr)
	if !ok {
		return 6
	}
	return row.NArg
}

// collect has the memory around the calls of a thread read as the options say.
func (g *Group) collect(t *Thread) {
	t.collector = call.Collector{
		Level:   call.LevelStruct,
		Read:    func(b []byte, a addr.Addr) int { return g.ReadMem(t, b, a) },
		MaxData: cmp.Or(g.opts.DataLimit, -1), MaxString: cmp.Or(g.opts.StringLimit, -1),
	}
	if g.opts.DataLimit|g.opts.StringLimit != 0 {
		t.collector.Level = call.LevelData
	}
}

// ReadMem reads memory of a thread, without a descriptor of it, and returns how
// many bytes could be read.
func (g *Group) ReadMem(t *Thread, b []byte, a addr.Addr) int {
	if t.Space != nil && t.Space.Read != nil {
		return t.Space.Read(b, a)
	}
	return g.k.ReadMem(t.TID, b, a)
}

// nameFDs adds to a call the names of the descriptors that it made. A copy is
// called what the original is.
func (g *Group) nameFDs(t *Thread) {
	c := t.call
	if c.Ret < 0 || !makesFDs(c.Arch, c.Nr) {
		return
	}
	c.MadeFDs(func(fd int32, _ bool) {
		if name := g.fdNameOf(t, fd); name != nil {
			t.collector.Add(&c.Call, call.Buf{Arg: call.BufRetName, Out: true, Addr: addr.Addr(fd), Data: name})
		}
	})
}

// fdNameOf is what a descriptor refers to, nil if it is not open.
func (g *Group) fdNameOf(t *Thread, fd int32) []byte {
	n, err := procfs.FDName(t.TID, int(fd), g.fdName[:])
	if err != nil {
		return nil
	}
	return append([]byte(nil), g.fdName[:n]...)
}

// maxUsed is how many descriptors of a call are asked for.
const maxUsed = 64

// nameUsed adds to a call that begins the names of the descriptors that it uses, where
// an io_uring may have opened and closed some without a call.
func (g *Group) nameUsed(t *Thread) {
	if !t.Space.Rings {
		return
	}
	var used []int32
	t.call.UsedFDs(func(fd int32) {
		if len(used) < maxUsed && !slices.Contains(used, fd) {
			used = append(used, fd)
		}
	})
	for _, fd := range used {
		t.collector.Add(&t.call.Call, call.Buf{Arg: call.BufFDName, Addr: addr.Addr(fd), Data: g.fdNameOf(t, fd)})
	}
}

// CloneArgs is what the call at whose entry a thread stands asks for, if it makes a thread
// or process.
func (g *Group) CloneArgs(t *Thread) CloneArgs { return g.readClone(t) }

// readClone says what the call that a thread enters asks for: one that makes a
// thread or process.
func (g *Group) readClone(t *Thread) CloneArgs {
	c := t.call
	row, _ := c.Arch.Syscall(c.Nr)
	switch row.Name {
	case "vfork":
		return CloneArgs{Flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}
	case "clone":
		return CloneArgs{Flags: c.Args[0], Stack: c.Args[1]}
	case "clone3":
		// struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
		// stack, stack_size
		var b [56]byte
		g.ReadMem(t, b[:], addr.Addr(c.Args[0]))
		w := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		a := CloneArgs{Flags: w(0) | w(4)&0xff}
		if w(5) != 0 {
			a.Stack = w(5) + w(6)
		}
		return a
	}
	return CloneArgs{Flags: uint64(unix.SIGCHLD)}
}
