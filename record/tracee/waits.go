//go:build linux

// This file answers the waits of a tracer among our tracees: wait4(2) and waitid(2).

package tracee

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// news is what a wait returns of a tracee.
type news struct {
	tid    int
	status uint32 // as report has it, or that of wait(2) of a dead one
	dead   bool
	uid    uint32
	serial uint64
	seen   func() // takes it away
}

// beginWait looks at a wait that a thread enters: if it can be answered it is not made.
func (g *Group) beginWait(t *Thread, c *Call) {
	w := wait{on: true, abi: c.Arch}
	switch {
	case isCall(c, "wait4"), isCall(c, "waitpid"):
		w.status, w.opts = addr.Addr(c.Args[1]), c.Args[2]
		if isCall(c, "wait4") {
			w.usage = addr.Addr(c.Args[3])
		}
		switch pid := int(int32(c.Args[0])); {
		case pid > 0:
			w.id = selection{unix.P_PID, pid}
		case pid == 0:
			w.id = selection{unix.P_PGID, g.pgid(t.Proc.PID)}
		case pid < -1:
			w.id = selection{unix.P_PGID, -pid}
		}
	case isCall(c, "waitid"):
		w.info, w.status, w.opts, w.usage = true, addr.Addr(c.Args[2]), c.Args[3], addr.Addr(c.Args[4])
		w.id = selection{c.Args[0], int(int32(c.Args[1]))}
		switch {
		case w.id.kind == unix.P_PIDFD:
			w.id = selection{unix.P_PID, pidOf(t.TID, w.id.value)}
		case w.id.kind == unix.P_PGID && w.id.value == 0:
			w.id.value = g.pgid(t.Proc.PID)
		}
	default:
		return
	}
	if g.k.GetRegs(t.TID, &w.regs) != nil {
		return
	}
	t.wait = w
	if g.find(t) == nil {
		return
	}
	// Made with options that do not exist, it fails at once.
	t.wait.found = true
	regs, invalid := w.regs, uint64(1<<28)
	i386 := w.abi == arch.I386
	args := regs.Args(i386)
	if w.info {
		args[3] = invalid
	} else {
		args[2] = invalid
	}
	regs.SetArgs(i386, args[:]...)
	_ = g.k.SetRegs(t.TID, &regs)
}

// endWait answers a wait at its exit. It reports whether the thread goes on inside of it.
func (g *Group) endWait(t *Thread, ret int64, ours bool) (now int64, again bool) {
	w := &t.wait
	if ret > 0 && !w.info {
		delete(g.nest.ended, int(ret))
	}
	if ret > 0 && !w.info && g.hides(t, int(ret)) {
		g.remake(t, w.regs[ptrace.RegOrigRAX])
		return ret, true
	}
	none := ret == 0 && w.opts&unix.WNOHANG != 0
	if !w.found && !w.pauses && !none && ret != -int64(unix.ECHILD) && ret != -eIntr && !restarts(ret) {
		t.wait.on = false
		return ret, false
	}
	if n := g.find(t); n != nil {
		return g.answer(t, n), false
	}
	switch {
	case w.found: // somebody else was quicker
		g.remake(t, w.regs[ptrace.RegOrigRAX])
		w.found = false
		return ret, true
	case w.pauses:
		// A signal has come, or one of ours. The wait is made again, or says EINTR, as the
		// kernel has it.
		g.unpause(t)
		return -eRestartSys, false
	case ret == -int64(unix.ECHILD) && g.couldFind(t) && w.opts&unix.WNOHANG != 0:
		w.on = false
		if w.info && w.status != 0 {
			g.k.WriteMem(t.TID, make([]byte, 32), w.status)
		}
		return g.result(t, 0), false
	case ret == -int64(unix.ECHILD) && g.couldFind(t):
		nr, _ := w.abi.Number("pause")
		w.pauses = true
		g.remake(t, uint64(nr))
		return ret, true
	}
	w.on = false
	return ret, false
}

// unpause has a thread at the exit of a pause come back from its wait, as if a signal had
// ended that.
func (g *Group) unpause(t *Thread) {
	w := &t.wait
	w.on, w.pauses = false, false
	regs := w.regs
	regs[ptrace.RegRAX] = uint64(1<<64 - eRestartSys)
	_ = g.k.SetRegs(t.TID, &regs)
}

// endPauses asks the threads whose waits are made as pause to stop, before they are let go
// for good: nobody would wake them.
func (g *Group) endPauses() {
	for _, t := range g.threads {
		if t.wait.on && t.wait.pauses && t.state == InCall && !t.asked {
			t.asked = g.k.Interrupt(t.TID) == nil
		}
	}
}

// hides reports whether a wait has returned with a child's stop by job control, of which
// the kernel tells parents, and not the tracer that the child has.
func (g *Group) hides(t *Thread, pid int) bool {
	child := g.threads[pid]
	if child == nil || child.traced == nil || child.traced.by.Proc != t.Proc || t.wait.status == 0 {
		return false
	}
	var b [4]byte
	return g.ReadMem(t, b[:], t.wait.status) == len(b) && unix.WaitStatus(binary.LittleEndian.Uint32(b[:])).Stopped()
}

// remake has a thread at the exit of its wait make the call nr next.
func (g *Group) remake(t *Thread, nr uint64) {
	regs := t.wait.regs
	again(&regs, nr)
	_ = g.k.SetRegs(t.TID, &regs)
}

// result has a wait return a number.
func (g *Group) result(t *Thread, ret int64) int64 {
	regs := t.wait.regs
	regs[ptrace.RegRAX] = uint64(ret)
	_ = g.k.SetRegs(t.TID, &regs)
	return ret
}

// answer has a wait return what it found.
func (g *Group) answer(t *Thread, n *news) int64 {
	w := &t.wait
	w.on = false
	if w.opts&unix.WNOWAIT == 0 {
		n.seen()
	}
	status, ret := n.status, int64(n.tid)
	if !n.dead {
		status = n.status<<8 | 0x7f
	}
	var b []byte
	if w.info {
		ret = 0
		var info [128]byte
		b = info[:]
		if o := g.threads[n.tid]; o != nil && !n.dead {
			n.uid = g.uid(o)
		}
		code, value := siginfo.ChildCode(n.status, !n.dead)
		binary.LittleEndian.PutUint32(b[0:], uint32(unix.SIGCHLD))
		binary.LittleEndian.PutUint32(b[siginfo.Code:], code)
		binary.LittleEndian.PutUint32(b[siginfo.PID:], uint32(n.tid))
		binary.LittleEndian.PutUint32(b[siginfo.UID:], n.uid)
		binary.LittleEndian.PutUint32(b[siginfo.Status:], value)
		if b = b[:siginfo.Status+4]; w.abi == arch.I386 {
			narrow := siginfo.To32(&info)
			b = narrow[:siginfo.Status32+4]
		}
	} else {
		b = binary.LittleEndian.AppendUint32(nil, status)
	}
	if w.status != 0 && !g.k.WriteMem(t.TID, b, w.status) {
		ret = -int64(unix.EFAULT)
	}
	if w.usage != 0 && !g.k.WriteMem(t.TID, usageOf(n.tid, w.abi), w.usage) {
		ret = -int64(unix.EFAULT)
	}
	return g.result(t, ret)
}

// usageOf is struct rusage of a process, as far as /proc tells.
func usageOf(pid int, id arch.ID) (b []byte) {
	u, err := procfs.ReadUsage(pid)
	if err != nil { // it has ended
		u = procfs.Usage{}
	}
	const unknown = 0
	for _, w := range []uint64{
		u.User / 100, u.User % 100 * 10000, u.System / 100, u.System % 100 * 10000, u.MostResident,
		unknown, unknown, unknown, u.Minor, u.Major, unknown, u.Read / 512, u.Written / 512,
		unknown, unknown, unknown, u.Waited, u.Preempted,
	} {
		b = appendWord(b, id, w)
	}
	return b
}

// mine reports whether a wait of t is for the tracees of a thread.
func (t *Thread) mine(by *Thread) bool {
	return by == t || by.Proc == t.Proc && t.wait.opts&unix.WNOTHREAD == 0
}

// find is the oldest news that a thread's wait is for, nil for none.
func (g *Group) find(t *Thread) (first *news) {
	if t.Proc.tracing() || len(g.nest.dead) > 0 {
		for _, o := range g.threads {
			tr := o.traced
			if tr == nil || tr.report == nil || tr.report.waited || !t.mine(tr.by) || !g.selects(t, o.TID) || first != nil && first.serial < tr.report.serial {
				continue
			}
			r := tr.report
			first = &news{tid: o.TID, status: r.status, serial: r.serial, seen: func() { r.waited = true }}
		}
	}
	if t.wait.info && t.wait.opts&unix.WEXITED == 0 {
		return first
	}
	for i, d := range g.nest.dead {
		if !t.mine(d.by) || !g.selects(t, d.tid) || first != nil && first.serial < d.serial {
			continue
		}
		first = &news{tid: d.tid, status: d.status, dead: true, uid: d.uid, serial: d.serial, seen: func() {
			g.nest.dead = append(g.nest.dead[:i:i], g.nest.dead[i+1:]...)
			g.letParentKnow(d.tid)
		}}
	}
	return first
}

// couldFind reports whether there is a tracee that a thread's wait is for.
func (g *Group) couldFind(t *Thread) bool {
	for _, o := range g.threads {
		if o.traced != nil && t.mine(o.traced.by) && g.selects(t, o.TID) {
			return true
		}
	}
	return false
}

// selects reports whether a wait is for a tracee. __WCLONE and its like do not matter: a
// tracee is always waited for (kernel/exit.c, eligible_child).
func (g *Group) selects(t *Thread, tid int) bool {
	switch t.wait.id.kind {
	case unix.P_PID:
		return tid == t.wait.id.value
	case unix.P_PGID:
		return g.pgid(tid) == t.wait.id.value
	}
	return true
}

func (g *Group) pgid(pid int) int {
	n, err := unix.Getpgid(pid)
	if err != nil {
		return -1
	}
	return n
}

// pidOf is the process that a descriptor of a thread stands for, -1 for none.
func pidOf(tid, fd int) int {
	text, err := procfs.FDInfo(tid, fd)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(proctext.Field(text, "Pid").String())
	if err != nil {
		return -1
	}
	return n
}

// wakeWaiters has the threads of a process that wait look for news.
func (g *Group) wakeWaiters(p *Process) {
	for _, t := range p.Threads {
		if t.wait.on && t.state == InCall && !t.asked && (g.find(t) != nil || t.wait.pauses && !g.couldFind(t)) {
			t.asked = g.k.Interrupt(t.TID) == nil
		}
	}
}
