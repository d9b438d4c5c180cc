//go:build linux

package record

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// options of every tracee (ptrace(2)).
func (r *Recorder) traceOptions() int {
	o := ptrace.OptSysGood | ptrace.OptClone | ptrace.OptExec | ptrace.OptExit
	if r.opts.Follow {
		o |= ptrace.OptFork | ptrace.OptVfork | ptrace.OptVforkDone
	}
	if r.filt {
		o |= ptrace.OptSeccomp | ptrace.OptExitKill
	}
	return o
}

// launch starts the program and writes its exec, step 0.
func (r *Recorder) launch(path string, argv, env []string) error {
	spec := launchSpec{Path: path, Dir: r.opts.Dir, User: r.opts.User, StdoutToStderr: r.opts.StdoutToStderr, NoStdin: r.opts.NoStdin, NoOutput: r.opts.NoOutput}
	spec.Ignore, spec.Mask = startSignals()
	if r.filt {
		stops := r.stops()
		spec.Filter = filter(&stops)
		spec.NoNewPrivs = !canFilter(r.opts.User)
	}
	pid, err := startLauncher(&spec, argv, env)
	if err != nil {
		return tracingError(err)
	}
	errno, err := awaitExec(pid)
	if err != nil {
		return err
	}
	switch errno {
	case 0:
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("%w: %v", ErrNotFound, errno)
	default:
		return fmt.Errorf("%w: %v", ErrNotExecutable, errno)
	}
	if err := ptrace.SetOptions(pid, r.traceOptions()); err != nil && !errors.Is(err, ptrace.ErrGone) {
		return err
	}
	r.main = pid
	if r.opts.Started != nil {
		r.opts.Started(pid)
	}
	t := r.addThread(pid, &process{pid: pid, threads: map[int]*thread{}})
	t.skipExit = true // the launcher's execve
	t.newborn = true
	r.enterImage(t, uint32(pid))
	r.resume(t, 0)
	return nil
}

// tracingError adds to a refusal what a person can do about it.
func tracingError(err error) error {
	if !errors.Is(err, ptrace.ErrPerm) {
		return err
	}
	hint := "it belongs to another user, is setuid, or is traced already"
	if b, e := procfs.ReadText("/proc/sys/kernel/yama/ptrace_scope"); e == nil && len(b) > 0 && b[0] != '0' {
		hint = fmt.Sprintf("kernel.yama.ptrace_scope is %c: run as root, or set it to 0 (sysctl kernel.yama.ptrace_scope=0)", b[0])
	} else if b, e := procfs.Status(unix.Getpid()); e == nil {
		if s, _ := procfs.Field(b, "Seccomp"); s == "2" {
			hint += "; or a container's seccomp profile forbids ptrace (docker run --cap-add=SYS_PTRACE)"
		}
	}
	return fmt.Errorf("%w (%s)", err, hint)
}

// addThread makes a thread known; the caller writes its ThreadSet.
func (r *Recorder) addThread(tid int, p *process) *thread {
	r.lastNo++
	t := &thread{tid: tid, no: r.lastNo, proc: p}
	t.collector = call.Collector{Level: call.LevelStruct, Read: func(b []byte, a addr.Addr) int {
		return r.vm.Read(t.tid, b, a)
	}}
	t.collector.MaxData, t.collector.MaxString = cmp.Or(r.opts.DataLimit, -1), cmp.Or(r.opts.StringLimit, -1)
	if r.opts.DataLimit|r.opts.StringLimit != 0 {
		t.collector.Level = call.LevelData
	}
	if p.no == 0 {
		p.no = t.no
	}
	p.threads[tid] = t
	p.live++
	r.threads[tid] = t
	return t
}

func (r *Recorder) threadSet(t *thread) *format.ThreadSet {
	return &format.ThreadSet{Thread: format.Thread{
		No: t.no, TID: uint32(t.tid), TGID: uint32(t.proc.pid), NSTID: r.nstid(t),
		Proc: t.proc.no, MM: t.mm.no, Parent: t.proc.parent, Arch: t.proc.arch,
	}}
}

// loop serves the tracees until the last one has ended or the recording is over.
func (r *Recorder) loop() error {
	for len(r.threads) > 0 && !r.stop {
		if r.pending.Load() {
			r.answer()
			continue
		}
		s, err := r.next()
		switch {
		case err == nil:
			r.handle(s)
		case errors.Is(err, ptrace.ErrInterrupted):
		case errors.Is(err, ptrace.ErrNone):
			return nil
		default:
			return err
		}
	}
	return nil
}

func (r *Recorder) next() (ptrace.Stop, error) {
	if len(r.backlog) > 0 {
		s := r.backlog[0]
		r.backlog = r.backlog[1:]
		return s, nil
	}
	return ptrace.Wait(false)
}

// handle turns one report into events.
func (r *Recorder) handle(s ptrace.Stop) {
	t := r.threads[s.TID]
	if t == nil {
		r.orphan(s)
		return
	}
	t.running, t.faults = false, s.Faults
	if t.unseen { // it may have been in the middle of changing the mappings
		t.unseen = false
		r.refresh(t.mm)
	}
	ours := t.asked
	if ours {
		// Whatever stop came first has used up our interrupt. If it was the entry
		// of a call, the call finds itself interrupted all the same.
		t.asked = false
		t.sticky = s.Kind == ptrace.Syscall || s.Kind == ptrace.Seccomp
	}
	switch s.Kind {
	case ptrace.Syscall:
		r.syscallStop(t)
	case ptrace.Seccomp:
		r.syscallStop(t)
	case ptrace.Signal:
		r.signal(t, s.Sig)
	case ptrace.Group:
		r.groupStop(t, s.Sig)
	case ptrace.Trap:
		r.trap(t, ours)
	case ptrace.EventFork, ptrace.EventVfork, ptrace.EventClone:
		r.cloned(t, s.Kind)
	case ptrace.EventExec:
		r.execed(t)
	case ptrace.EventExit:
		r.exiting(t)
	case ptrace.Exited, ptrace.Killed:
		r.exited(t, s.Status)
	default:
		r.resume(t, 0)
	}
}

// resume lets a stopped thread go on, with a signal if sig is not 0.
func (r *Recorder) resume(t *thread, sig int) {
	t.running, t.listening = true, false
	t.resumed = r.now()
	t.mm.ran = true
	var err error
	if r.filt && !t.inCall && !t.skipExit {
		err = ptrace.Cont(t.tid, sig)
	} else {
		err = ptrace.ContSyscall(t.tid, sig)
	}
	r.gone(t, err)
}

// gone looks at the error of a request: a thread may be killed at any moment,
// and its end is reported in its own time.
func (r *Recorder) gone(t *thread, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ptrace.ErrGone):
		t.running = true
		return true
	}
	r.lost(t, err.Error())
	return true
}

func (r *Recorder) lost(t *thread, what string) {
	r.emit(t, &format.Lost{What: what})
}

// emit writes an event with the changes collected since the last one.
func (r *Recorder) emit(t *thread, rec format.Record) {
	r.emitAt(t, rec, r.now())
}

func (r *Recorder) emitAt(t *thread, rec format.Record, now uint64) {
	e := &r.event
	*e = format.Event{Time: now, Record: rec, Changes: r.changes, Regs: nil}
	if t != nil {
		e.Thread = t.no
	}
	r.write(e)
}

// emitAs is emit for a thread known by its number.
func (r *Recorder) emitAs(no uint32, rec format.Record) {
	e := &r.event
	*e = format.Event{Time: r.now(), Thread: no, Record: rec, Changes: r.changes}
	r.write(e)
}

func (r *Recorder) write(e *format.Event) {
	var step format.Step
	if r.result.Err == nil {
		var err error
		all := e.Changes
		e.Changes = all[r.given:]
		step, err = r.w.Event(e)
		e.Changes = all
		r.failed(err)
	}
	r.given = 0
	e.Step = step
	touched := r.touched(e.Record)
	if r.opts.Observe != nil && r.result.Err == nil {
		r.opts.Observe(e)
	}
	clear(r.changes)
	r.changes = r.changes[:0]
	if r.result.Err != nil {
		return
	}
	r.afterEvent(e)
	r.pauseAfter(e)
	for _, mm := range touched {
		r.check(mm, e.Thread)
	}
}

// failed notes that the log can no longer be written. A program that depends on
// its tracer is served on, without a log; any other is let go.
func (r *Recorder) failed(err error) {
	if err == nil || r.result.Err != nil {
		return
	}
	r.result.Err = err
	r.result.Reason = "write error"
	if !r.filt {
		r.finish("write error")
	}
}

// afterEvent applies the limits.
func (r *Recorder) afterEvent(e *format.Event) {
	if n := r.opts.MaxEvents; n > 0 && uint64(e.Step)+1 >= n {
		r.finish("max-events")
	}
	if n := r.opts.MaxBytes; n > 0 && e.Step%1024 == 0 {
		r.failed(r.w.Flush()) // what waits to be written counts too
		if r.w.Bytes() >= n {
			r.finish("max-size")
		}
	}
}

func (r *Recorder) change(c format.Change) { r.changes = append(r.changes, c) }

const siTkill = -6 // SI_TKILL

// signal passes a signal on to the thread, after writing it down.
func (r *Recorder) signal(t *thread, sig int) {
	var info [128]byte
	if r.gone(t, ptrace.SigInfo(t.tid, &info)) {
		return
	}
	if t.newborn && sig == int(unix.SIGURG) && int32(binary.LittleEndian.Uint32(info[8:])) == siTkill {
		// The Go runtime of the launcher sent it to itself, to preempt a
		// goroutine, and the exec came first. The program has not done anything yet.
		r.resume(t, 0)
		return
	}
	raw := info[:]
	for len(raw) > 12 && raw[len(raw)-1] == 0 {
		raw = raw[:len(raw)-1]
	}
	r.refreshGrowth(t.mm)
	fatal := r.fatal(t, sig)
	s := r.capture(t.mm, t, r.dueAt(fatal && r.opts.Snapshot.Signal, "signal"))
	rec := &format.Signal{Signo: int32(sig), Fatal: fatal, Info: raw}
	e := &r.event
	*e = format.Event{Time: r.now(), Record: rec, Changes: r.changes, Thread: t.no}
	var regs ptrace.Regs
	if ptrace.GetRegs(t.tid, &regs) == nil {
		e.Regs = r.registers(t, &regs)
	}
	if sig != int(unix.SIGCONT) && interrupted(&regs) && ignored(t.tid, sig) {
		// Only because it is traced has the thread been woken by it at all.
		undoInterrupt(t.tid)
	}
	r.keep = false
	r.write(e)
	if r.keep {
		sig = 0
	}
	r.keep = false
	r.endCapture(t, s)
	r.resume(t, sig)
}

// fatal says whether delivering sig will end the process: its default action
// does (signal(7)) and the process neither handles nor ignores it.
func (r *Recorder) fatal(t *thread, sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGKILL:
		return true
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	status, err := procfs.Status(t.tid)
	if err != nil {
		return false
	}
	bit := uint64(1) << (sig - 1)
	return hexField(status, "SigCgt")&bit == 0 && hexField(status, "SigIgn")&bit == 0
}

// ignored says whether a signal does nothing to the process.
func ignored(tid, sig int) bool {
	status, err := procfs.Status(tid)
	if err != nil {
		return false
	}
	bit := uint64(1) << (sig - 1)
	switch {
	case hexField(status, "SigIgn")&bit != 0:
		return true
	case hexField(status, "SigCgt")&bit != 0:
		return false
	}
	switch unix.Signal(sig) {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT:
		return true
	}
	return false
}

// groupStop leaves a thread in the stop that job control put its process in.
func (r *Recorder) groupStop(t *thread, sig int) {
	if !t.proc.stopped {
		t.proc.stopped = true
		r.emit(t, &format.Stop{What: format.GroupStop, Signo: int32(sig)})
		if r.opts.Stopped != nil && t.proc.pid == r.main {
			r.opts.Stopped(sig)
		}
	}
	t.listening, t.running = true, true
	r.gone(t, ptrace.Listen(t.tid))
}

// trap serves a thread that stopped because we or a SIGCONT asked it to, or
// because it is new.
func (r *Recorder) trap(t *thread, ours bool) {
	if t.listening && t.proc.stopped {
		t.proc.stopped = false
		r.emit(t, &format.Stop{What: format.Continued})
		if r.opts.Stopped != nil && t.proc.pid == r.main {
			r.opts.Stopped(0)
		}
	}
	r.pauseInterrupted(t)
	if ours {
		undoInterrupt(t.tid)
	}
	r.resume(t, 0)
}

// exiting writes what the thread was in the middle of, and its memory if it is
// the last of its process.
func (r *Recorder) exiting(t *thread) {
	msg, err := ptrace.EventMsg(t.tid)
	if r.gone(t, err) {
		return
	}
	t.status = uint32(msg)
	if !t.exiting {
		t.exiting = true
		t.proc.live--
	}
	var s *captured
	last := t.proc.live == 0 && len(t.mm.users) == len(t.proc.threads)
	if last && r.opts.Snapshot.Exit {
		r.tellLeftOut(t.mm)
	}
	if reason := r.dueAt(last && r.opts.Snapshot.Exit, "exit"); reason != "" {
		r.refresh(t.mm)
		s = r.capture(t.mm, t, reason)
	}
	r.abandonCall(t)
	if t.proc.live == 0 {
		r.sampleLast(t)
	}
	r.endCapture(t, s)
	r.callDone(t)
	t.running = true
	r.gone(t, ptrace.Cont(t.tid, 0))
}

// abandonCall writes the call that the thread will never return from.
func (r *Recorder) abandonCall(t *thread) {
	if !t.inCall {
		return
	}
	t.inCall = false
	t.call.Returned = false
	r.refreshGrowth(t.mm)
	if t.effect.maps() && len(t.mm.users) > 1 {
		r.refresh(t.mm) // it may have done its work before it was killed
	}
	if r.recorded(&t.call) {
		t.call.Bufs = t.read.Bufs
		r.emit(t, &t.call)
	}
}

// exited takes a thread that has ended out of the tables.
func (r *Recorder) exited(t *thread, status uint32) {
	r.abandonCall(t)
	r.unqueue(t)
	last := t.tid == t.proc.pid || len(t.proc.threads) == 1
	if last && t.tid == r.main {
		r.result.Status, r.result.Ended = unix.WaitStatus(status), true
	}
	r.removeThread(t)
	r.emit(t, &format.Exit{Status: status, Process: last})
}

func (r *Recorder) removeThread(t *thread) {
	if !t.exiting {
		t.exiting = true
		t.proc.live--
	}
	r.callDone(t)
	r.forgetPin(t)
	delete(r.threads, t.tid)
	delete(t.proc.threads, t.tid)
	if len(t.proc.threads) == 0 {
		t.proc.closeTexts()
	}
	r.change(&format.ThreadEnd{No: t.no})
	r.leave(t)
}

// cloned makes a new thread or process known.
func (r *Recorder) cloned(t *thread, kind ptrace.StopKind) {
	msg, err := ptrace.EventMsg(t.tid)
	if r.gone(t, err) {
		return
	}
	tid := int(msg)
	c := t.clone
	if !t.inCall { // attached in the middle of the call
		c = cloneArgs{flags: uint64(unix.SIGCHLD)}
		switch kind {
		case ptrace.EventVfork:
			c.flags |= unix.CLONE_VFORK | unix.CLONE_VM
		case ptrace.EventClone:
			c = r.guessClone(tid, t)
		}
	}
	if !r.opts.Follow && c.flags&unix.CLONE_THREAD == 0 {
		r.letGo(tid)
		r.resume(t, 0)
		return
	}
	p := t.proc
	if c.flags&unix.CLONE_THREAD == 0 {
		p = &process{pid: tid, parent: t.proc.no, arch: t.proc.arch, threads: map[int]*thread{}}
		if c.flags&unix.CLONE_PARENT != 0 {
			p.parent = t.proc.parent
		}
	}
	s := r.capture(t.mm, t, r.dueAt(false, ""))
	child := r.addThread(tid, p)
	if c.flags&unix.CLONE_NEWPID != 0 {
		r.pidns = true
	}
	if c.flags&unix.CLONE_VM != 0 {
		r.join(child, t.mm)
		r.markStack(t.mm, c)
	} else {
		r.fork(child, t.mm)
	}
	r.change(r.threadSet(child))
	r.emit(t, &format.Clone{Child: child.no, Flags: c.flags, Stack: c.stack})
	r.endCapture(t, s)
	child.running = true
	// The copy is made. A vfork goes on for as long as the child likes, which may
	// itself want the turn.
	r.callDone(t)
	if s, ok := r.orphans[tid]; ok {
		delete(r.orphans, tid)
		if s.Kind != ptrace.EventExit { // that was answered
			r.handle(s)
		}
	}
	r.resume(t, 0)
}

// orphan keeps the report of a new tracee that its parent has not told of. If the
// parent was killed it never will.
func (r *Recorder) orphan(s ptrace.Stop) {
	_, known := r.orphans[s.TID]
	r.orphans[s.TID] = s
	if s.Kind == ptrace.EventExit {
		_ = ptrace.Cont(s.TID, 0)
	}
	if !known {
		r.awaitParent(s.TID)
	}
}

func (r *Recorder) awaitParent(tid int) {
	time.AfterFunc(orphanPatience, func() { r.Ask(func() { r.adoptOrphan(tid) }) })
}

// orphanPatience is how long a new tracee's parent has to tell of it.
const orphanPatience = 200 * time.Millisecond

// adoptOrphan takes in a tracee whose parent was killed in the middle of making
// it: as if it had been attached to.
func (r *Recorder) adoptOrphan(tid int) {
	s, ok := r.orphans[tid]
	if !ok || r.threads[tid] != nil {
		return
	}
	for _, t := range r.threads {
		if t.inCall && t.effect == effFork && !t.exiting {
			r.awaitParent(tid) // this may be the parent, on a busy machine
			return
		}
	}
	delete(r.orphans, tid)
	if s.Kind == ptrace.EventExit || s.Kind == ptrace.Exited || s.Kind == ptrace.Killed {
		return
	}
	status, err := procfs.Status(tid)
	if err != nil {
		return
	}
	pid := tid
	if v, ok := procfs.Field(status, "Tgid"); ok {
		pid, _ = strconv.Atoi(v)
	}
	if leader := r.threads[pid]; leader != nil {
		t := r.addThread(tid, leader.proc)
		r.join(t, leader.mm)
		r.change(r.threadSet(t))
		r.emit(t, &format.Attach{PID: uint32(pid)})
		r.handle(s)
		return
	}
	t := r.addThread(tid, &process{pid: pid, threads: map[int]*thread{}})
	mm, err := r.newSpace(tid)
	if err != nil {
		mm = r.emptySpace(tid)
	}
	r.join(t, mm)
	t.proc.arch = r.imageArch(t)
	r.writeSpace(mm)
	r.change(r.threadSet(t))
	r.emit(t, &format.Attach{PID: uint32(pid)})
	r.handle(s)
}

// writeSpace writes a whole address space as new.
func (r *Recorder) writeSpace(mm *space) {
	r.change(&format.MMNew{MM: mm.no})
	for v := range mm.vmas.All() {
		r.change(&format.VMASet{MM: mm.no, VMA: v})
	}
}

// execed moves a process into its new image. Its other threads are gone, and the
// caller has the leader's tid, whichever thread it was.
func (r *Recorder) execed(t *thread) {
	msg, err := ptrace.EventMsg(t.tid)
	if r.gone(t, err) {
		return
	}
	old := uint32(msg)
	p := t.proc
	caller := r.threads[int(old)]
	if caller == nil {
		caller = t
	}
	for _, o := range p.threads {
		if o != caller {
			r.unqueue(o)
			r.removeThread(o)
		}
	}
	if int(old) != t.tid {
		delete(r.threads, caller.tid)
		delete(p.threads, caller.tid)
		caller.tid = t.tid
		r.threads[t.tid], p.threads[t.tid] = caller, caller
		r.unpin(caller) // the guard knows it by its old tid
	}
	p.live, p.stopped = 1, false
	caller.exiting, caller.running, caller.asked, caller.sticky = false, false, false, false
	r.unqueue(caller)
	r.callDone(caller)
	r.leave(caller)
	r.enterImage(caller, old)
	r.resume(caller, 0)
}

// enterImage writes the exec of a thread that stands at the first instruction of
// a new program.
func (r *Recorder) enterImage(t *thread, old uint32) {
	mm, err := r.newSpace(t.tid)
	if err != nil {
		mm = r.emptySpace(t.tid)
	}
	r.join(t, mm)
	t.proc.arch = r.imageArch(t)
	r.warnSetuid(t)
	r.writeSpace(mm)
	r.change(r.threadSet(t))
	s := r.capture(mm, t, r.dueAt(r.opts.Snapshot.Exec, "exec"))
	e := &r.event
	*e = format.Event{Time: r.now(), Thread: t.no, Changes: r.changes,
		Record: &format.Exec{Path: procfs.Exe(t.tid), Argv: procfs.Cmdline(t.tid), OldTID: old, Auxv: procfs.Auxv(t.tid), FDs: r.firstFDs(t)}}
	var regs ptrace.Regs
	if ptrace.GetRegs(t.tid, &regs) == nil {
		e.Regs = r.registers(t, &regs)
	}
	r.write(e)
	r.endCapture(t, s)
	r.pinThread(t) // a new program begins with many calls
}

// firstFDs names what the program was started with; what later ones have follows
// from the calls.
func (r *Recorder) firstFDs(t *thread) []format.FD {
	if !t.newborn {
		return nil
	}
	return openFDs(t.tid)
}

// warnSetuid says once that a program which would have run with another user's
// privileges does not: the kernel takes them from it under a tracer without
// CAP_SYS_PTRACE (execve(2)).
func (r *Recorder) warnSetuid(t *thread) {
	if unix.Geteuid() == 0 {
		return
	}
	exe := "/proc/" + strconv.Itoa(t.tid) + "/exe"
	var st unix.Stat_t
	if unix.Stat(exe, &st) != nil {
		return
	}
	var caps [64]byte
	_, err := unix.Getxattr(exe, "security.capability", caps[:])
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || err == nil {
		r.warn("%s runs without its setuid, setgid or file capabilities: the kernel takes them from a traced program (record it as root)", procfs.Exe(t.tid))
	}
}

// imageArch tells a 32-bit program by the code segment it starts in.
func (r *Recorder) imageArch(t *thread) arch.ID {
	var regs ptrace.Regs
	if ptrace.GetRegs(t.tid, &regs) == nil && regs[ptrace.RegCS] == user32CS {
		return arch.I386
	}
	return arch.X86_64
}

// user32CS is the code segment of 32-bit user code (arch/x86/include/asm/segment.h,
// __USER32_CS).
const user32CS = 0x23

// letGo detaches a child that is not to be followed.
func (r *Recorder) letGo(tid int) {
	for {
		if _, ok := r.orphans[tid]; ok {
			delete(r.orphans, tid)
			break
		}
		s, err := ptrace.Wait(false)
		if errors.Is(err, ptrace.ErrInterrupted) {
			continue
		}
		if err != nil {
			return
		}
		if s.TID == tid {
			if s.Kind == ptrace.Exited || s.Kind == ptrace.Killed {
				return
			}
			break
		}
		r.later(s)
	}
	_ = ptrace.Detach(tid, 0)
}

// i386Order is where the registers of struct user_regs_struct of i386 stand in
// that of x86_64.
var i386Order = [17]int{5, 11, 12, 13, 14, 4, 10, 23, 24, 25, 26, 15, 16, 17, 18, 19, 20}

// registers turns what ptrace gives into the registers of the thread's
// architecture. The slice is valid until the next call.
func (r *Recorder) registers(t *thread, regs *ptrace.Regs) []uint64 {
	return registersOf(t.proc.arch, regs, &r.regs)
}

func registersOf(id arch.ID, regs *ptrace.Regs, buf *[27]uint64) []uint64 {
	if id == arch.I386 {
		for i, from := range i386Order {
			buf[i] = uint64(uint32(regs[from]))
		}
		return buf[:len(i386Order)]
	}
	*buf = *regs
	return buf[:]
}
