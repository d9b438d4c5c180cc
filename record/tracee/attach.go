//go:build linux

// This file begins to trace processes that run already.

package tracee

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Attach begins to trace a running process, named by the id of any of its threads, and
// tells of it when its threads stand still. One that is traced already is left as it
// is.
func (g *Group) Attach(id int) error {
	pid, err := processOf(g.k, id)
	switch {
	case err != nil || g.traces(pid):
		return err
	case pid == unix.Getpid():
		return fmt.Errorf("attach %d: that is memtrace itself", id)
	}
	p := newProcess(pid)
	if err := g.seizeAll(p); err != nil {
		return err
	}
	if tracedBy(g.k, pid) {
		return fmt.Errorf("attach %d: it traces this process", pid)
	}
	leader := p.Threads[pid]
	s := newSpace()
	for _, t := range p.Threads {
		s.join(t)
		if leader == nil {
			leader = t // the first thread of the process has ended
		}
		if g.k.Interrupt(t.TID) == nil {
			t.asked = true
		}
	}
	g.Hold(s)
	for _, t := range p.Threads {
		t.unseen = t.on()
	}
	at := leader
	for _, t := range p.Threads { // the leader may be asleep where nothing wakes it
		if !at.Stands() {
			at = t
		}
	}
	g.setArch(at)
	g.h.Began(leader, Birth{How: Attached})
	return nil
}

// processOf is the process that a thread belongs to.
func processOf(k Kernel, tid int) (pid int, err error) {
	status, err := k.Status(tid)
	n, ok := proctext.Field(status, "Tgid").Number()
	switch {
	case err != nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)):
		return 0, fmt.Errorf("attach %d: no such process", tid)
	case err != nil:
		return 0, fmt.Errorf("attach %d: %w", tid, err)
	case !ok:
		return 0, fmt.Errorf("attach %d: /proc does not say which process it is", tid)
	}
	return int(n), nil
}

// traces reports whether a process is traced already, by us.
func (g *Group) traces(pid int) bool {
	for _, t := range g.threads {
		if t.Proc.PID == pid {
			return true
		}
	}
	return false
}

// tracedBy reports whether a process traces this one: the two would stop each other for
// ever.
func tracedBy(k Kernel, pid int) bool {
	tids, err := k.Threads(unix.Getpid())
	if err != nil {
		return false
	}
	for _, tid := range tids {
		status, err := k.Status(tid)
		if err != nil {
			continue
		}
		tracer, _ := proctext.Field(status, "TracerPid").Number()
		if tracer == 0 {
			continue
		}
		if of, err := processOf(k, int(tracer)); int(tracer) == pid || err == nil && of == pid {
			return true
		}
	}
	return false
}

// seizeAll begins to trace all threads of a process, also those that appear
// meanwhile. Those that only run in the kernel are left alone: they never come back
// from there.
func (g *Group) seizeAll(p *Process) error {
	for fresh := true; fresh; {
		fresh = false
		tids, err := g.k.Threads(p.PID)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("attach %d: no such process", p.PID)
			}
			return fmt.Errorf("attach %d: %w", p.PID, err)
		}
		for _, tid := range tids {
			if g.threads[tid] != nil {
				continue
			}
			if task, err := g.k.Task(tid); err != nil || task.Worker || task.Ended() {
				continue
			}
			switch err := g.k.Seize(tid, g.traceOptions()); {
			case err == nil:
				g.become(g.add(tid, p), Running)
				fresh = true
			case errors.Is(err, ptrace.ErrGone), endedOrOurs(g.k, tid):
			default:
				return refusal(fmt.Errorf("attach %d: %w", p.PID, err))
			}
		}
	}
	if len(p.Threads) == 0 {
		return fmt.Errorf("attach %d: it has ended, and its parent has not asked how (a zombie)", p.PID)
	}
	return nil
}

// endedOrOurs reports whether a thread that we may not trace has ended meanwhile, or is
// traced by this process already.
func endedOrOurs(k Kernel, tid int) bool {
	if task, err := k.Task(tid); err != nil || task.Ended() {
		return true
	}
	status, err := k.Status(tid)
	if err != nil {
		return true
	}
	tracer, _ := proctext.Field(status, "TracerPid").Number()
	if tracer == 0 {
		return false
	}
	of, err := processOf(k, int(tracer))
	return int(tracer) == unix.Getpid() || err == nil && of == unix.Getpid()
}

// refusal adds to an error what a person can do about it.
func refusal(err error) error {
	if !errors.Is(err, ptrace.ErrPerm) {
		return err
	}
	hint := "it belongs to another user, is setuid, or is traced already"
	if b, e := procfs.ReadText("/proc/sys/kernel/yama/ptrace_scope"); e == nil && len(b) > 0 && b[0] != '0' {
		hint = fmt.Sprintf("kernel.yama.ptrace_scope is %c: run as root, or set it to 0 (sysctl kernel.yama.ptrace_scope=0)", b[0])
	} else if b, e := procfs.Status(unix.Getpid()); e == nil {
		if n, _ := proctext.Field(b, "Seccomp").Number(); n == 2 {
			hint += "; or a container's seccomp profile forbids ptrace (docker run --cap-add=SYS_PTRACE)"
		}
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
