//go:build linux

// This file makes new threads, processes and programs known, and takes those that
// have ended out.

package tracee

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
)

// add makes a thread known.
func (g *Group) add(tid int, p *Process) *Thread {
	g.lastNo++
	t := &Thread{TID: tid, No: g.lastNo, Proc: p}
	g.collect(t)
	if p.No == 0 {
		p.No = t.No
	}
	p.Threads[tid], g.threads[tid] = t, t
	delete(g.nest.ended, tid)
	return t
}

func newProcess(pid int) *Process { return &Process{PID: pid, Threads: map[int]*Thread{}} }

// cloned makes a new thread or process known.
func (g *Group) cloned(t *Thread, kind ptrace.StopKind) {
	msg, err := g.k.EventMsg(t.TID)
	if err == nil && g.dying(t) {
		err = ptrace.ErrGone
	}
	if g.failed(t, err) {
		return // the child is an orphan
	}
	tid := int(msg)
	if t.call == nil && !g.adoptClone(t, tid, kind) {
		return
	}
	args := t.call.Clone
	if !g.opts.Follow && !args.Thread() {
		g.release(tid)
		g.resume(t, 0)
		return
	}
	p := t.Proc
	if !args.Thread() {
		p = newProcess(tid)
		p.Parent, p.Arch, p.listened = t.Proc.No, t.Proc.Arch, t.Proc.listened
		p.maker, p.noCldStop, p.signalFD, p.readsProc = t, t.Proc.noCldStop, t.Proc.signalFD, t.Proc.readsProc
		if args.Flags&unix.CLONE_PARENT != 0 {
			p.Parent, p.maker = t.Proc.Parent, t.Proc.maker
		}
	}
	child := g.add(tid, p)
	child.suspended = t.suspended
	told := g.inheritTracer(t, child, kind, args.Flags)
	if args.SharesMemory() {
		t.Space.join(child)
	} else {
		newSpace().join(child)
		child.Space.Rings = t.Space.Rings // it has the descriptor of the ring
	}
	child.patch = t.patch
	g.h.Began(child, Birth{How: Cloned, Parent: t, Clone: args})
	g.become(child, Running)
	if _, waits := g.facts.of(tid); waits { // it has stopped while others were held
		g.become(child, Stopped)
	}
	if f, ok := g.orphans[tid]; ok {
		delete(g.orphans, tid)
		if f.Stop.Kind != ptrace.EventExit { // that was answered
			g.later(f)
		}
	}
	if told {
		g.tells(t, g.event(t, eventOf[kind], uint64(tid)))
		return
	}
	g.resume(t, 0)
}

// dying reports whether a thread was killed in the stop of an event that is being
// served, and stands before its end: then the message is not the event's, but its status.
func (g *Group) dying(t *Thread) bool {
	var info [128]byte
	err := g.k.SigInfo(t.TID, &info)
	code := binary.LittleEndian.Uint32(info[8:]) // SIGTRAP, and the event above it
	return err != nil || code>>8 == unix.PTRACE_EVENT_EXIT
}

// adoptClone makes up the entry of a call that makes a thread or process: its maker has
// been attached to just before. It may sleep in the call for long (vfork).
func (g *Group) adoptClone(t *Thread, tid int, kind ptrace.StopKind) bool {
	var info ptrace.SyscallInfo
	if g.failed(t, g.k.GetSyscallInfo(t.TID, &info)) || !g.adopt(t, &info) {
		return false
	}
	t.call.Clone = g.guessClone(tid, t, kind)
	return true
}

// guessClone says what was asked for where the beginning of the call was not seen.
func (g *Group) guessClone(tid int, t *Thread, kind ptrace.StopKind) CloneArgs {
	switch kind {
	case ptrace.EventVfork:
		return CloneArgs{Flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}
	case ptrace.EventClone:
		if status, err := g.k.Status(tid); err == nil {
			if n, _ := proctext.Field(status, "Tgid").Number(); n == uint64(t.Proc.PID) {
				return CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_FS | unix.CLONE_FILES}
			}
		}
		return CloneArgs{}
	}
	return CloneArgs{Flags: uint64(unix.SIGCHLD)}
}

// release detaches a child that is not to be followed.
func (g *Group) release(tid int) {
	for {
		if _, ok := g.orphans[tid]; ok {
			delete(g.orphans, tid)
			break
		}
		f, err := g.facts.source.Next(false)
		if errors.Is(err, ptrace.ErrInterrupted) {
			continue
		}
		if err != nil {
			return
		}
		if f.TID == tid {
			if f.Stop.Kind == ptrace.Exited || f.Stop.Kind == ptrace.Killed {
				return
			}
			break
		}
		g.later(f)
	}
	_ = g.k.Detach(tid, 0)
}

// orphanPatience is how long a new tracee's parent has to tell of it.
const orphanPatience = 200 * time.Millisecond

// orphan keeps the report of a new tracee that its parent has not told of. If the
// parent was killed it never will.
func (g *Group) orphan(f Fact) {
	_, known := g.orphans[f.TID]
	g.orphans[f.TID] = f
	if f.Stop.Kind == ptrace.EventExit {
		_ = g.k.Cont(f.TID, 0)
	}
	if !known {
		g.After(orphanPatience, func() { g.adoptOrphan(f.TID) })
	}
}

// adoptOrphan takes in a tracee whose parent was killed in the middle of making
// it: as if it had been attached to.
func (g *Group) adoptOrphan(tid int) {
	f, ok := g.orphans[tid]
	if !ok || g.threads[tid] != nil {
		return
	}
	for _, t := range g.threads {
		if t.call != nil && sees(t.call.Arch, t.call.Nr) == seesParent && !t.over() {
			g.After(orphanPatience, func() { g.adoptOrphan(tid) }) // this may be the parent, on a busy machine
			return
		}
	}
	delete(g.orphans, tid)
	if k := f.Stop.Kind; k == ptrace.EventExit || k == ptrace.Exited || k == ptrace.Killed {
		return
	}
	status, err := g.k.Status(tid)
	if err != nil {
		return
	}
	pid := tid
	if n, ok := proctext.Field(status, "Tgid").Number(); ok {
		pid = int(n)
	}
	leader := g.threads[pid]
	var t *Thread
	if leader != nil {
		t = g.add(tid, leader.Proc)
		leader.Space.join(t)
	} else {
		t = g.add(tid, newProcess(pid))
		newSpace().join(t)
		g.setArch(t)
	}
	g.h.Began(t, Birth{How: Adopted})
	g.later(f)
}

// execed moves a process into its new image. Its other threads are gone, and the
// caller has the leader's tid, whichever thread it was.
func (g *Group) execed(t *Thread) {
	msg, err := g.k.EventMsg(t.TID)
	if g.failed(t, err) {
		return
	}
	old, p := int(msg), t.Proc
	if g.dying(t) {
		old = t.TID
	}
	caller := g.threads[old]
	if caller == nil {
		caller = t
	}
	g.takeOver(caller, t.TID)
	p.stopped = false
	left := caller.Space
	p.noCldStop = false
	g.image(caller, Birth{How: Executed, OldTID: uint32(old), Left: left})
	if caller.traced != nil && g.raised(caller) {
		g.part(caller)
	}
	if tr := caller.traced; tr != nil && !tr.seized && tr.opts&request.OptExec == 0 {
		g.trapFor(caller)
		tr.steps = false // a step ends with the same signal
	}
	g.goOn(caller, unix.PTRACE_EVENT_EXEC, uint64(old))
}

// takeOver has a thread that has stopped be the only one of its process, with the tid
// of the leader.
func (g *Group) takeOver(t *Thread, tid int) {
	p := t.Proc
	for _, o := range p.Threads {
		if o != t {
			g.remove(o)
		}
	}
	if t.TID != tid {
		delete(g.threads, t.TID)
		delete(p.Threads, t.TID)
		t.TID = tid
		g.threads[tid], p.Threads[tid] = t, t
		g.unpin(t) // the guard knows it by its old tid
	}
	t.asked, t.interrupted = false, false
	if t.state != Stopped {
		g.become(t, Stopped)
	}
}

// successor is the thread that has the leader's tid since an exec, and was killed before
// the kernel told of that. The leader's end is not reported before that of all others:
// if one is left it is the caller of an exec, and so it is if the leader ends twice.
func (g *Group) successor(leader *Thread, k ptrace.StopKind) *Thread {
	if leader.TID != leader.Proc.PID || k == ptrace.EventExit && leader.state != Ending {
		return leader
	}
	for _, t := range leader.Proc.Threads {
		if _, waits := g.facts.of(t.TID); t != leader && t.on() && !waits {
			g.takeOver(t, leader.TID)
			return t
		}
	}
	return leader
}

// image tells of a thread that stands at the first instruction of a new program,
// in an address space of its own.
func (g *Group) image(t *Thread, b Birth) {
	if b.Left != nil {
		delete(b.Left.Threads, t)
	}
	newSpace().join(t)
	g.setArch(t)
	g.h.Began(t, b)
	g.pinThread(t) // a new program begins with many calls
}

// exiting tells that a thread is about to end.
func (g *Group) exiting(t *Thread) {
	msg, err := g.k.EventMsg(t.TID)
	if g.failed(t, err) {
		return
	}
	if t.wants(request.OptExit) && t.state == Stopped {
		r := g.event(t, unix.PTRACE_EVENT_EXIT, msg)
		r.let = func(int) { g.ending(t, uint32(msg)) }
		g.tells(t, r)
		return
	}
	g.ending(t, uint32(msg))
}

// ending tells that a thread ends now.
func (g *Group) ending(t *Thread, status uint32) {
	g.become(t, Ending)
	g.h.Ending(t, status)
	t.call = nil
	if err := g.k.Cont(t.TID, 0); err != nil && !errors.Is(err, ptrace.ErrGone) {
		g.h.Lost(t, err.Error())
	}
}

// exited takes a thread that has ended out of the tables.
func (g *Group) exited(t *Thread, status uint32) {
	if c := t.call; c != nil && !t.launcher {
		t.call = nil
		g.h.Abandoned(t, c)
	}
	last := t.TID == t.Proc.PID || len(t.Proc.Threads) == 1
	if last {
		g.noteEnd(t.TID, status)
	}
	g.remove(t)
	g.h.Ended(t, status, last)
	g.isGone(t, status)
}

// noteEnd keeps how the program that was launched has ended.
func (g *Group) noteEnd(tid int, status uint32) {
	if tid == g.main {
		g.status, g.ended = unix.WaitStatus(status), true
	}
}

// remove takes a thread out of the tables.
func (g *Group) remove(t *Thread) {
	g.become(t, Ended)
	g.forgetPin(t)
	delete(g.threads, t.TID)
	delete(t.Proc.Threads, t.TID)
	delete(t.Space.Threads, t)
	g.h.Removed(t)
}
