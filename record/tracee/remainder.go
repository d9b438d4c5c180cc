//go:build linux

// This file makes the rest of a call that was interrupted when it had done a part. The
// kernel makes a call again that had done nothing, but tells the program of a part: less
// was written than was asked for. Programs do not expect that who have no signal handlers.

package tracee

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// undo hides from the program that a thread was interrupted by us, or by a signal that
// does nothing: its call is made again, or its rest is.
func (g *Group) undo(t *Thread) {
	if !undoInterrupt(g.k, t.TID) {
		g.begin(t, true, 0)
	}
}

// cutShort reports whether a thread makes the rest of the call at whose exit it stands,
// because we have interrupted it or a signal that does nothing has.
func (g *Group) cutShort(t *Thread, ret int64, ours bool) bool {
	c := t.call
	if ret <= 0 || !divides(c.Arch, c.Nr) {
		return false
	}
	row, _ := c.Arch.Syscall(c.Nr)
	d := dividedCalls[row.Name] // none of socketcall
	if d.flow == flowDevice && !ours || d.size != 0 && uint64(ret) >= c.Args[d.size] || d.flow == flowAll && c.Args[d.flags]&unix.MSG_WAITALL == 0 {
		return false
	}
	return g.begin(t, ours, c.Enter)
}

// waitOn has a thread wait for the rest of its time, at the exit of a call that says EINTR
// because of us or of a signal that does nothing.
func (g *Group) waitOn(t *Thread, ret int64, ours bool) bool {
	c := t.call
	if ret != -eIntr || c.Enter == 0 {
		return false
	}
	row, _ := c.Arch.Syscall(c.Nr)
	timeout, ok := timedCalls[row.Name]
	if !ok || int32(c.Args[timeout]) <= 0 {
		return false
	}
	if matter, idle := pending(g.k, t.TID); matter || !ours && !idle && !g.idleTaken(t, c.Enter) {
		return false
	}
	r := &remainder{i386: c.Arch == arch.I386, nr: c.Nr, size: timeout, until: c.Enter + uint64(uint32(c.Args[timeout]))*uint64(time.Millisecond)}
	return g.k.GetRegs(t.TID, &r.regs) == nil && g.makePart(t, r)
}

// begin has a thread make the rest of the call that it comes back from, if it has done a
// part of it because of us, or of a signal that does nothing. The thread is at the exit of
// the call or on the way to the program. It has made the call since the time since.
func (g *Group) begin(t *Thread, ours bool, since uint64) bool {
	var regs ptrace.Regs
	if t.rest != nil || t.stray != nil || g.k.GetRegs(t.TID, &regs) != nil || int32(regs[ptrace.RegOrigRAX]) < 0 || int32(regs[ptrace.RegRAX]) <= 0 {
		return false
	}
	var info ptrace.SyscallInfo
	if g.k.GetSyscallInfo(t.TID, &info) != nil {
		return false
	}
	id := abi(info.AuditArch)
	r := &remainder{regs: regs, i386: id == arch.I386, done: regs[ptrace.RegRAX]}
	args := regs.Args(r.i386)
	row, _ := id.Syscall(uint32(regs[ptrace.RegOrigRAX]))
	name := row.Name
	if name == "socketcall" {
		name = g.socketCall(t, &args)
	}
	d, ok := dividedCalls[name]
	if !ok {
		return false
	}
	r.nr, _ = id.Number(d.by)
	r.fd, r.size, r.flow = args[0], d.size, d.flow
	if d.flags != 0 {
		r.flags = args[d.flags]
	}
	if d.size != 0 {
		r.parts = []part{{args[d.size-1], args[d.size]}}
	} else if !g.vectored(t, r, d.header, &args) {
		return false
	}
	if !r.skip(r.done) {
		return false
	}
	matter, idle := pending(g.k, t.TID)
	if matter || !g.waits(t, int32(r.fd), d.flow, r.flags) || !ours && !idle && !g.idleTaken(t, since) || g.ends(t, r, since) {
		return false
	}
	return g.makePart(t, r)
}

// ends reports whether the call that a thread comes back from, and that it has made since
// then, has come to an end without any signal.
func (g *Group) ends(t *Thread, r *remainder, since uint64) bool {
	var waited time.Duration
	if since != 0 {
		waited = time.Duration(g.Now() - since)
	}
	switch r.flow {
	case flowOut, flowSocket, flowAll:
		return procfs.Ends(t.TID, int(int32(r.fd)), r.flow == flowAll, waited)
	}
	return false
}

// idleTaken reports whether another thread of the process may have taken a signal since
// then that does nothing, and that has woken this thread.
func (g *Group) idleTaken(t *Thread, since uint64) bool {
	if at := t.Proc.idleAt; at != 0 && at >= since {
		return true
	}
	for tid, u := range t.Proc.Threads { // it may stand at the signal, and we do not know yet
		var info [128]byte
		if u == t || u.over() || g.k.SigInfo(tid, &info) != nil {
			continue
		}
		if sig := int(binary.LittleEndian.Uint32(info[:])); sig != int(unix.SIGTRAP) && doesNothing(g.k, tid, sig) {
			return true
		}
	}
	return false
}

// socketCall takes the arguments of i386's socketcall from memory, and returns the name of
// the call that it makes.
func (g *Group) socketCall(t *Thread, args *[6]uint64) string {
	names := map[uint64]string{9: "sendto", 10: "recvfrom", 11: "sendto", 12: "recvfrom", 16: "sendmsg", 17: "recvmsg"} // include/uapi/linux/net.h
	name, n := names[args[0]], 4
	if strings.HasSuffix(name, "msg") {
		n = 3
	}
	b := make([]byte, 4*n)
	if name == "" || g.ReadMem(t, b, addr.Addr(args[1])) != len(b) {
		return ""
	}
	for i := range n {
		args[i] = uint64(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return name
}

// vectored finds the buffers of a call that has several.
func (g *Group) vectored(t *Thread, r *remainder, header bool, args *[6]uint64) bool {
	word := 8
	if r.i386 {
		word = 4
	}
	read := func(at uint64, words int) (values []uint64) {
		b := make([]byte, words*word)
		for b = b[:g.ReadMem(t, b, addr.Addr(at))]; len(b) >= word; b = b[word:] {
			if word == 4 {
				values = append(values, uint64(binary.LittleEndian.Uint32(b)))
			} else {
				values = append(values, binary.LittleEndian.Uint64(b))
			}
		}
		return values
	}
	at, n := args[1], args[2]
	if r.size = 2; header { // struct msghdr: name, its length, the iovec and its length
		head := read(args[1], 4)
		if len(head) < 4 {
			return false
		}
		at, n = head[2], head[3]
	}
	if n > maxParts {
		return false
	}
	pairs := read(at, int(2*n))
	for i := 0; i+1 < len(pairs); i += 2 {
		r.parts = append(r.parts, part{pairs[i], pairs[i+1]})
	}
	return len(pairs) == int(2*n)
}

// waits reports whether a call on a descriptor waits until it has moved all, so that only
// an interrupt has it come back before.
func (g *Group) waits(t *Thread, fd int32, f flow, flags uint64) bool {
	switch {
	case f == flowNone:
		return true
	case f == flowDevice:
		name := string(g.fdNameOf(t, fd))
		return name == "/dev/zero" || name == "/dev/urandom" || name == "/dev/random"
	case f == flowAll && flags&unix.MSG_WAITALL == 0, flags&unix.MSG_DONTWAIT != 0:
		return false
	}
	return procfs.Waits(t.TID, int(fd), f == flowSocket)
}

// makePart has a thread make a call for the first part that is left.
func (g *Group) makePart(t *Thread, r *remainder) bool {
	regs := r.regs
	args := regs.Args(r.i386)
	switch minusEIntr := int64(-eIntr); {
	case r.until != 0:
		left := max(r.until, g.Now()) - g.Now()
		args[r.size] = (left + uint64(time.Millisecond) - 1) / uint64(time.Millisecond)
		r.done = uint64(minusEIntr) // should a signal come first
	case r.regs[ptrace.RegOrigRAX] != uint64(r.nr):
		args = [6]uint64{r.fd, r.parts[0].at, r.parts[0].n, r.flags}
	default:
		if args[r.size] = r.parts[0].n; r.size != 3 { // not sendfile
			args[r.size-1] = r.parts[0].at
		}
	}
	regs.SetArgs(r.i386, args[:]...)
	again(&regs, uint64(r.nr))
	if g.k.SetRegs(t.TID, &regs) != nil {
		return false
	}
	t.rest, r.began = r, g.Now()
	return true
}

// partDone serves the exit of a call for a part. It reports whether the whole call is over:
// then the thread has its result.
func (g *Group) partDone(t *Thread, ret int64) (result int64, over bool) {
	r := t.rest
	ours := t.interrupted
	t.interrupted = false
	if r.until != 0 {
		if matter, _ := pending(g.k, t.TID); !matter && (restarts(ret) || ret == -eIntr) && g.makePart(t, r) {
			return 0, false
		}
		r.done = uint64(ret)
	} else if ret > 0 {
		r.done += uint64(ret)
		if more := r.skip(uint64(ret)); more && g.goesOn(t, r, ret, ours) {
			return 0, false
		}
	} else if matter, _ := pending(g.k, t.TID); !matter && (restarts(ret) || ret == -eIntr) && g.makePart(t, r) {
		return 0, false
	}
	g.endRemainder(t)
	return int64(r.done), true
}

// goesOn has the thread make another call, if the one before has moved all of its part, or
// was interrupted by nothing that the program would know.
func (g *Group) goesOn(t *Thread, r *remainder, ret int64, ours bool) bool {
	matter, idle := pending(g.k, t.TID)
	goes := !matter && (ours || idle || r.asked(g, t) == uint64(ret) || g.idleTaken(t, r.began))
	return goes && !g.ends(t, r, r.began) && g.makePart(t, r)
}

// asked is how many bytes the call moves that the thread comes back from.
func (r *remainder) asked(g *Group, t *Thread) uint64 {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) != nil {
		return 0
	}
	args := regs.Args(r.i386)
	return args[r.size]
}

// endRemainder gives a thread the result of what has been done, as if the program's call
// had come back with it.
func (g *Group) endRemainder(t *Thread) {
	r := t.rest
	t.rest = nil
	regs := r.regs
	regs[ptrace.RegRAX] = r.done
	_ = g.k.SetRegs(t.TID, &regs)
}

// leaveRemainder ends the rest of a call as far as it is made, for a thread that is let go.
// A wait that is not over begins anew.
func (g *Group) leaveRemainder(t *Thread) {
	var info ptrace.SyscallInfo
	r, exit := t.rest, false
	if g.k.GetSyscallInfo(t.TID, &info) == nil {
		switch ret := info.Ret(); {
		case info.Op == ptrace.OpExit && r.until != 0:
			r.done, exit = uint64(ret), ret != -eIntr && !restarts(ret)
		case info.Op == ptrace.OpExit:
			r.done += uint64(max(0, ret))
		case info.Op == ptrace.OpEntry: // of a call that is not made then
			r.regs[ptrace.RegOrigRAX] = ^uint64(0)
		}
	}
	if r.until != 0 && !exit {
		again(&r.regs, uint64(r.nr))
		r.done = r.regs[ptrace.RegRAX]
	}
	g.endRemainder(t)
}

// restPatience is how long threads are waited for that make the rest of a call when they
// are to be let go.
const restPatience = 250 * time.Millisecond

// awaitRemainders has threads that are let go make the rest of their calls, and has those
// stop that take too long: their calls come back with a part.
func (g *Group) awaitRemainders() {
	if g.filter != nil {
		return // all die with their tracer
	}
	g.facts.drop(g.finish)
	for begin := time.Now(); time.Since(begin) < 2*restPatience; {
		waiting := false
		for _, t := range g.threads {
			if t.rest == nil || !t.on() {
				continue
			}
			waiting = true
			if (time.Since(begin) > restPatience || t.rest.until != 0) && !t.asked {
				t.asked = g.k.Interrupt(t.TID) == nil
			}
		}
		if !waiting {
			return
		}
		f, err := g.facts.source.Next(true)
		switch {
		case err != nil && !errors.Is(err, ptrace.ErrInterrupted):
			return
		case err != nil || f.TID == 0:
			time.Sleep(100 * time.Microsecond)
		case !g.finish(f):
			g.later(f)
		}
	}
}

// finish serves a stop of a thread that is to be let go, if it has the rest of a call to
// make, or has made it. It reports whether it has served it.
func (g *Group) finish(f Fact) bool {
	t := g.threads[f.TID]
	if t == nil || t.over() || f.Call != nil {
		return false
	}
	ours, sig := t.asked, 0
	switch f.Stop.Kind {
	case ptrace.Syscall:
		var info ptrace.SyscallInfo
		switch {
		case g.k.GetSyscallInfo(t.TID, &info) != nil:
			return false
		case info.Op != ptrace.OpExit:
			if t.rest == nil || ours {
				return false
			}
		case t.rest == nil:
			if t.call == nil || !g.cutShort(t, info.Ret(), ours || t.interrupted) {
				return false
			}
		case ours:
			return false
		default:
			if _, over := g.partDone(t, info.Ret()); over {
				g.become(t, Stopped) // with the result of the whole
				return true
			}
		}
	case ptrace.Trap:
		if !ours || t.rest == nil && !g.begin(t, true, 0) {
			return false
		}
	case ptrace.Signal:
		if sig = f.Stop.Sig; t.rest == nil || !ignored(g.k, t.TID, sig) {
			return false
		}
	default:
		return false
	}
	t.asked = false
	g.become(t, t.free())
	g.failed(t, g.k.ContSyscall(t.TID, sig))
	return true
}
