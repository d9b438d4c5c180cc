//go:build linux

package record

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

func (r *Recorder) attach(pids []int) error {
	for _, pid := range pids {
		if err := r.attachOne(pid); err != nil {
			return err
		}
	}
	return nil
}

// attachOne seizes all threads of a process, also those that appear meanwhile,
// and writes the full state.
func (r *Recorder) attachOne(pid int) error {
	p := &process{pid: pid, threads: map[int]*thread{}}
	for again := true; again; {
		again = false
		tids, err := procfs.Threads(pid)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("attach %d: no such process", pid)
			}
			return fmt.Errorf("attach %d: %w", pid, err)
		}
		for _, tid := range tids {
			if r.threads[tid] != nil {
				continue
			}
			switch err := ptrace.Seize(tid, r.traceOptions()); {
			case err == nil:
				r.addThread(tid, p).running = true
				again = true
			case errors.Is(err, ptrace.ErrGone):
			case len(p.threads) == 0 || !r.seized(tid):
				return tracingError(fmt.Errorf("attach %d: %w", pid, err))
			}
		}
	}
	if len(p.threads) == 0 {
		return fmt.Errorf("attach %d: no such process", pid)
	}
	for _, t := range p.threads {
		if ptrace.Interrupt(t.tid) == nil {
			t.asked, t.unseen = true, true
		}
	}
	return r.firstState(p)
}

// firstState waits until all threads of p stand still and writes the state that
// the log begins with.
func (r *Recorder) firstState(p *process) error {
	leader := p.threads[p.pid]
	if leader == nil {
		return fmt.Errorf("attach %d: its main thread has ended", p.pid)
	}
	mm, err := r.newSpace(p.pid)
	if err != nil {
		return fmt.Errorf("attach %d: %w", p.pid, err)
	}
	for _, t := range p.threads {
		r.join(t, mm)
	}
	r.hold(mm)
	for _, t := range p.threads {
		t.unseen = t.running
	}
	r.refresh(mm)
	p.arch = r.imageArch(leader)
	r.changes = r.changes[:0]
	r.writeSpace(mm)
	for _, t := range p.threads {
		r.change(r.threadSet(t))
	}
	s := r.capture(mm, leader, "attach")
	r.emit(leader, &format.Attach{PID: uint32(p.pid), Auxv: procfs.Auxv(p.pid), Path: procfs.Exe(p.pid), Argv: procfs.Cmdline(p.pid), FDs: openFDs(p.pid)})
	r.endCapture(leader, s)
	return nil
}

// seized says whether a thread is traced by this process already.
func (r *Recorder) seized(tid int) bool {
	status, err := procfs.Status(tid)
	if err != nil {
		return true // gone
	}
	s, _ := procfs.Field(status, "TracerPid")
	return s == fmt.Sprint(unix.Getpid())
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
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil {
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

// release ends the recording: what belongs to the program is put back as it
// was. The kernel lets the tracees go when this thread ends.
func (r *Recorder) release() {
	r.serveStops()
	r.unpinAll()
	r.pin.guard.stop()
	for mm := range r.mms {
		if mm.fs != nil {
			mm.fs.Close()
		}
		if mm.track.uffd != nil {
			mm.track.uffd.Close()
		}
	}
	for _, t := range r.threads {
		r.emitDetach(t)
	}
}

// serveStops does for the threads whose reports will not be served any more what
// they would have had: a signal is passed on, a call that we have interrupted is
// made again.
func (r *Recorder) serveStops() {
	for begin := time.Now(); time.Since(begin) < holdPatience; {
		waiting := false
		for _, t := range r.threads {
			waiting = waiting || t.running && t.asked && !t.exiting
		}
		if !waiting {
			break
		}
		switch s, err := ptrace.Wait(true); {
		case err != nil && !errors.Is(err, ptrace.ErrInterrupted):
			return
		case err == nil && s.TID != 0:
			r.later(s)
		default:
			time.Sleep(100 * time.Microsecond)
		}
	}
	for _, s := range r.backlog {
		t := r.threads[s.TID]
		switch {
		case t == nil || r.filt:
		case s.Kind == ptrace.Exited, s.Kind == ptrace.Killed:
			if s.TID == r.main {
				r.result.Status, r.result.Ended = unix.WaitStatus(s.Status), true
			}
		case s.Kind == ptrace.Signal:
			_ = ptrace.Detach(s.TID, s.Sig)
		case t.asked && s.Kind == ptrace.Trap, (t.asked || t.sticky) && s.Kind == ptrace.Syscall:
			undoInterrupt(s.TID)
		}
	}
	r.backlog = nil
}

func (r *Recorder) emitDetach(t *thread) {
	if r.result.Err == nil {
		_, _ = r.w.Event(&format.Event{Time: r.now(), Thread: t.no, Record: &format.Detach{Reason: r.result.Reason}})
	}
}

// undoInterrupt hides from the program that a system call of its thread was
// interrupted by us and not by a signal: the kernel restarts most calls by
// itself, but some return EINTR.
func undoInterrupt(tid int) bool {
	var regs ptrace.Regs
	if ptrace.GetRegs(tid, &regs) != nil || !interrupted(&regs) {
		return false
	}
	if signalsPending(tid) {
		return false
	}
	regs[ptrace.RegRAX] = regs[ptrace.RegOrigRAX]
	regs[ptrace.RegOrigRAX] = ^uint64(0)
	regs[ptrace.RegRIP] -= 2 // syscall and int 0x80 are two bytes long
	return ptrace.SetRegs(tid, &regs) == nil
}

// interrupted says whether a thread is about to return EINTR from a call.
func interrupted(regs *ptrace.Regs) bool {
	return int32(regs[ptrace.RegOrigRAX]) >= 0 && int32(regs[ptrace.RegRAX]) == -int32(unix.EINTR)
}

// signalsPending says whether a signal waits to be delivered to a thread.
func signalsPending(tid int) bool {
	status, err := procfs.Status(tid)
	return err != nil || (hexField(status, "SigPnd")|hexField(status, "ShdPnd"))&^hexField(status, "SigBlk") != 0
}

// guessClone tells a new thread from a process where the call was not seen.
func (r *Recorder) guessClone(tid int, t *thread) cloneArgs {
	if status, err := procfs.Status(tid); err == nil {
		if s, _ := procfs.Field(status, "Tgid"); s == fmt.Sprint(t.proc.pid) {
			return cloneArgs{flags: unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_FS | unix.CLONE_FILES}
		}
	}
	return cloneArgs{}
}
