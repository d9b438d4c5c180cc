//go:build linux

// This file turns what happens to threads into events: births, signals, stops and
// ends. Calls are in call.go.

package record

import (
	"bytes"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/call"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// Began writes the birth of a thread, or the exec of one.
func (r *Recorder) Began(t *tracee.Thread, b tracee.Birth) {
	switch b.How {
	case tracee.Cloned:
		r.cloned(t, b)
	case tracee.Executed:
		r.executed(t, b)
	case tracee.Attached:
		r.attached(t)
	case tracee.Adopted:
		r.adopted(t)
	}
}

// introduce makes a thread known to the log.
func (r *Recorder) introduce(t *tracee.Thread) {
	t.Local = &thread{}
	r.setThread(t)
}

// setThread writes what a thread is.
func (r *Recorder) setThread(t *tracee.Thread) {
	r.log.change(&format.ThreadSet{Thread: format.Thread{
		No: t.No, TID: uint32(t.TID), TGID: uint32(t.Proc.PID), NSTID: nstid(r.kernel, t.TID, r.pidns),
		Proc: t.Proc.No, MM: memoryOf(t).MM(), Parent: t.Proc.Parent, Arch: t.Proc.Arch,
	}})
}

// cloned writes the birth of a child, and lets others of its parent's address space
// make their calls: the copy is made. A vfork goes on for as long as the child likes,
// which may itself want the turn.
func (r *Recorder) cloned(child *tracee.Thread, b tracee.Birth) {
	t := b.Parent
	m := memoryOf(t)
	s := r.capture(m, t, r.when.event())
	r.pidns = r.pidns || b.Clone.Flags&unix.CLONE_NEWPID != 0
	switch {
	case !b.Clone.SharesMemory():
		r.forkMemory(child, m)
	case b.Clone.Thread():
		m.table.MarkStack(addr.Addr(b.Clone.Stack), m)
	}
	r.introduce(child)
	r.inside.Forked(child, t)
	if r.warden != nil {
		r.warden.Inherit(child, b)
	}
	if b.Clone.SharesMemory() {
		r.writes.Joined(child, b.Clone.Thread())
	}
	r.emit(&format.Event{Thread: t.No, Record: &format.Clone{Child: child.No, Flags: b.Clone.Flags, Stack: b.Clone.Stack}})
	r.tellUnread(child, memoryOf(child))
	r.endCapture(t, s)
	m.turnDone(t)
	if !b.Clone.SharesMemory() {
		r.sampler.forked(t.Proc)
		sampleOutOfTurn(r)
	}
}

// executed writes the exec of a thread that stands at the first instruction of a
// new program.
func (r *Recorder) executed(t *tracee.Thread, b tracee.Birth) {
	if b.First && r.opts.Started != nil {
		r.opts.Started(t.TID)
	}
	if b.Left != nil {
		m := b.Left.Local.(*memory)
		if !m.alive() {
			r.stacks.leaving(t, m)
		}
		m.noTurn(t)
		r.leave(m, t)
	}
	r.inside.Executed(t)
	m := r.openMemory(t)
	if losesPrivileges(t.TID, r.files.ForeignDev) {
		r.warn("%s runs without its setuid, setgid or file capabilities: the kernel takes them from a traced program (record it as root)", procfs.Exe(t.TID))
	}
	m.write()
	if t.Local == nil {
		t.Local = &thread{}
	}
	r.setThread(t)
	s := r.capture(m, t, r.when.own(r.opts.Snapshot.Exec, ReasonExec))
	x := &format.Exec{Path: procfs.Exe(t.TID), Argv: procfs.Cmdline(t.TID), OldTID: b.OldTID, Auxv: procfs.Auxv(t.TID)}
	x.Called = calledPath(r.group, t, x.Auxv)
	if b.First { // what later programs have follows from the calls
		x.FDs = openFDs(t.TID)
	}
	e := &format.Event{Thread: t.No, Record: x, Regs: r.group.Registers(t)}
	r.emit(e)
	if b.First {
		tellOutside(r)
	}
	r.tellUnread(t, m)
	r.endCapture(t, s)
}

// calledPath is the path that the program of t was called with, as the kernel put
// it on its stack; "" if it cannot be read.
func calledPath(g *tracee.Group, t *tracee.Thread, auxv []byte) string {
	const atExecFn = 31
	a, ok := call.AuxValue(auxv, t.Proc.Arch, atExecFn)
	if !ok {
		return ""
	}
	var path []byte
	for len(path) < call.MaxPath { // the page behind the last string may not be there
		var b [256]byte
		part := b[:min(len(b), addr.PageSize-int(a%addr.PageSize))]
		part = part[:max(0, g.ReadMem(t, part, addr.Addr(a)))]
		if i := bytes.IndexByte(part, 0); i >= 0 {
			return string(append(path, part[:i]...))
		}
		if len(part) == 0 {
			return ""
		}
		path, a = append(path, part...), a+uint64(len(part))
	}
	return ""
}

// attached writes the state that a running process is found in.
func (r *Recorder) attached(leader *tracee.Thread) {
	r.pidns = true // it may have been so before
	m := r.openMemory(leader)
	fds := openFDs(leader.TID)
	if slices.ContainsFunc(fds, func(fd format.FD) bool { return fd.Name == "anon_inode:[userfaultfd]" }) {
		m.yieldUffd()
		r.uffds = true
	}
	m.write()
	for t := range m.Threads {
		r.introduce(t)
	}
	s := r.capture(m, leader, r.when.attach())
	tid := leader.TID // a first thread that has ended tells nothing
	r.emit(&format.Event{Thread: leader.No, Record: &format.Attach{
		PID: uint32(leader.Proc.PID), Auxv: procfs.Auxv(tid), Path: procfs.Exe(tid), Argv: procfs.Cmdline(tid), FDs: fds,
	}})
	r.tellUnread(leader, m)
	r.endCapture(leader, s)
	if r.writes != nil { // it may make no call
		_ = r.Ask(func() {
			if m.alive() && m.track.stage != trackIdle {
				r.trackAtTick(m)
			}
		})
	}
}

// adopted writes that a thread is there whose parent never told of it.
func (r *Recorder) adopted(t *tracee.Thread) {
	if t.Space.Local == nil {
		r.openMemory(t).write()
	}
	r.introduce(t)
	r.writes.Joined(t, false)
	r.emit(&format.Event{Thread: t.No, Record: &format.Attach{PID: uint32(t.Proc.PID)}})
}

// Seen brings the mappings up to date that a thread may have been changing when it
// was attached to.
func (r *Recorder) Seen(t *tracee.Thread) {
	m := memoryOf(t)
	m.table.Refresh(m)
}

// Signalled writes a signal, with the memory of a program that it ends.
func (r *Recorder) Signalled(t *tracee.Thread, s *tracee.Signal) (deliver bool) {
	if r.opts.Delivered != nil && t.Proc.PID == r.group.Main() {
		r.opts.Delivered(s.No, s.Info)
	}
	r.writes.Stopped(t)
	m := memoryOf(t)
	m.table.Grow(m)
	c := r.capture(m, t, r.when.signal(r.log.log.State().Threads[t.No], s, r.group.Now()))
	e := &format.Event{Thread: t.No, Record: &format.Signal{Signo: int32(s.No), Fatal: s.Fatal, Info: s.Info}, Regs: s.Regs}
	if s.Fatal {
		e.Stack = r.stacks.take(t, m)
	}
	keep := r.emit(e)
	r.endCapture(t, c)
	return !keep
}

// Stopped writes that job control has stopped a process, or that it goes on.
func (r *Recorder) Stopped(t *tracee.Thread, sig int) {
	rec := &format.Stop{What: format.Continued}
	if sig != 0 {
		rec = &format.Stop{What: format.GroupStop, Signo: int32(sig)}
	}
	r.emit(&format.Event{Thread: t.No, Record: rec})
	if r.opts.Stopped != nil && t.Proc.PID == r.group.Main() {
		r.opts.Stopped(sig)
	}
}

// Ending writes what a thread was in the middle of, and its memory if it is the
// last of its process.
func (r *Recorder) Ending(t *tracee.Thread, status uint32) {
	m := memoryOf(t)
	r.writes.Stopped(t)
	r.writes.Ending(&m.writes)
	var s *captured
	live := t.Proc.Live()
	last := live == 0 && len(m.Threads) == len(t.Proc.Threads)
	if last && r.opts.Snapshot.Exit {
		r.tellLeftOut(m)
	}
	why := r.when.event()
	if last {
		why = r.when.exit(r.log.log.State().Threads[t.No], status)
	}
	if why != ReasonNone {
		m.table.Refresh(m)
		s = r.capture(m, t, why)
	}
	if c := t.Call(); c != nil {
		r.abandon(t, c)
	}
	if last {
		r.stacks.leaving(t, m)
	}
	if live == 0 {
		r.sampleLast(t)
	}
	r.endCapture(t, s)
	m.noTurn(t)
}

// Removed takes a thread out of the state, and its address space if it was the last
// there.
func (r *Recorder) Removed(t *tracee.Thread) {
	m := memoryOf(t)
	m.noTurn(t)
	r.inside.Removed(t)
	if len(t.Proc.Threads) == 0 {
		r.sampler.forget(t.Proc)
		r.inside.Ended(t.Proc)
	}
	r.log.change(&format.ThreadEnd{No: t.No})
	r.leave(m, t)
}

// Ended writes the end of a thread.
func (r *Recorder) Ended(t *tracee.Thread, status uint32, process bool) {
	r.emit(&format.Event{Thread: t.No, Record: &format.Exit{Status: status, Process: process}})
}

// Lost writes that something about a thread is not known.
func (r *Recorder) Lost(t *tracee.Thread, what string) {
	r.lost(t.No, what)
}

// maxFDs bounds how many descriptors of a program are named at its beginning.
const maxFDs = 4096

// openFDs are the descriptors and the working directory of a process.
func openFDs(pid int) []format.FD {
	nums, err := procfs.FDs(pid)
	if err != nil {
		return nil
	}
	slices.Sort(nums)
	var fds []format.FD
	if dir, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd"); err == nil {
		fds = append(fds, format.FD{Num: unix.AT_FDCWD, Name: dir})
	}
	var name [4096]byte
	for _, fd := range nums[:min(len(nums), maxFDs)] {
		if n, err := procfs.FDName(pid, fd, name[:]); err == nil {
			fds = append(fds, format.FD{Num: int32(fd), CloExec: procfs.CloExec(pid, fd), Name: string(name[:n])})
		}
	}
	return fds
}

// losesPrivileges reports whether a program that would have run with another user's
// privileges does not: the kernel takes them from it under a tracer without
// CAP_SYS_PTRACE (execve(2)).
func losesPrivileges(tid int, foreign func(vma.Dev) bool) bool {
	if unix.Geteuid() == 0 {
		return false
	}
	exe := "/proc/" + strconv.Itoa(tid) + "/exe"
	var st unix.Statx_t
	// No server of the file's is asked: it may be one that is traced.
	if unix.Statx(unix.AT_FDCWD, exe, unix.AT_STATX_DONT_SYNC, unix.STATX_MODE, &st) != nil || foreign(vma.Dev{Major: st.Dev_major, Minor: st.Dev_minor}) {
		return false
	}
	var caps [64]byte
	_, err := unix.Getxattr(exe, "security.capability", caps[:])
	return err == nil || st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
}
