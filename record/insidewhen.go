//go:build linux

// This file says when calls are recorded inside programs, and tells the log why they are not.

package record

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/pagetrace"
	"memtrace/record/tracee"
)

// inside reports whether calls are recorded inside the programs.
func (o *Options) inside() bool { return o.InProcess != InProcessOff && o.byStops() == "" }

// byStops says why calls are recorded by stops alone although they are to be recorded inside
// the programs, "" if they need not be.
func (o *Options) byStops() string {
	switch {
	case o.Running:
		return "the programs run already (-p)"
	case !o.Trace.All() && o.InProcess != InProcessAlways:
		return "some calls only are recorded (-e), and it is not known whether it pays"
	case o.PageTrace.Engine != pagetrace.None:
		return "page references are recorded (--page-trace)"
	case o.Pause != nil:
		return "the program is stopped at its calls (--step)"
	case o.Snapshot.atEvents():
		return "memory is saved at calls (--snapshot)"
	}
	return inproc.Missing()
}

// choice says what becomes of a call that could be recorded inside.
func (in *inside) choice(nr uint32) inproc.Choice {
	switch {
	case !in.r.set.Has(arch.X86_64, nr):
		return inproc.Passes
	case in.r.opts.StackDepth > 0 && in.r.opts.Stacks.Has(arch.X86_64, nr):
		return inproc.Stops
	}
	return inproc.Records
}

// tellOutside says in the log why no call is recorded inside a program although that was
// asked for, and to the user if it was to be done always.
func tellOutside(r *Recorder) {
	if r.inside != nil || r.opts.InProcess == InProcessOff {
		return
	}
	why := r.opts.byStops()
	outside(r, 0, why, format.UntilEnd)
	if r.opts.InProcess == InProcessAlways {
		r.warn("calls are recorded by stops, not inside the program: %s", why)
	}
}

// refuse has a process not record its calls until it executes another program, and says so in the log.
func (in *inside) refuse(t *tracee.Thread, why string) { in.keep(t, why, format.UntilExec) }

// keepOut is refuse, also for the programs that the process executes, and its children.
func (in *inside) keepOut(t *tracee.Thread, why string) {
	in.keep(t, why, format.UntilEnd)
	in.processOf(t).stays = true
}

// keep has a process be recorded by stops from now on.
func (in *inside) keep(t *tracee.Thread, why string, until format.Until) {
	if p := in.processOf(t); p.refused == "" {
		p.refused = why
		outside(in.r, t.No, why, until)
	}
}

// outside writes why calls are recorded by stops; no is a thread of the process, 0 for all.
func outside(r *Recorder, no uint32, why string, until format.Until) {
	r.emit(&format.Event{Thread: no, Record: &format.Outside{Until: until, Why: why}})
}

// hindered says in the log, once for each process, why that does not record its calls now.
func (in *inside) hindered(t *tracee.Thread, why string) {
	p := in.processOf(t)
	if why == "" || p.noted[why] {
		return
	}
	if p.noted == nil {
		p.noted = map[string]bool{}
	}
	p.noted[why] = true
	outside(in.r, t.No, why, format.UntilOver)
}

// Requests after which a process records its calls no more.
const (
	prSetSeccomp  = 22
	prSetDispatch = 59
	archSetGS     = 0x1001
)

// rtSigreturn is the number of the call whose place is never patched: what unwinds stacks
// knows a signal's frame by it.
const rtSigreturn = 15

const sigsys = 1 << (unix.SIGSYS - 1)

// returned looks at a call of a thread that is recorded by stops.
func (in *inside) returned(t *tracee.Thread, c *tracee.Call) {
	if in == nil || t.Recording() {
		return
	}
	p := in.processOf(t)
	p.seen++
	p.young = max(0, p.young-1)
	p.history <<= 1
	if in.table.Records(uint64(c.Nr), c.Args[0], c.Args[1]) && c.Arch == arch.X86_64 {
		p.history |= 1
	}
	row, _ := c.Arch.Syscall(c.Nr)
	th := threadOf(t)
	th.resumes = false
	if th.apart {
		th.apart = false
		memoryOf(t).outside--
	}
	switch row.Name {
	case "rt_sigreturn":
		// The call that the signal has interrupted is recorded by stops. It would be
		// interrupted again and again where signals come faster than it is made inside.
		th.resumes = true
		if m := memoryOf(t); m.inside != nil {
			m.leaveSite(addr.Addr(c.IP))
		}
	case "rt_sigaction", "sigaction", "signal":
		p.known = false
	case "seccomp":
		in.keepOut(t, "it has a seccomp filter of its own")
	case "chroot", "pivot_root", "setns", "unshare", "mount", "umount2", "move_mount":
		in.keepOut(t, "it may see other files than the recorder")
	case "prctl":
		switch c.Args[0] {
		case prSetSeccomp:
			in.keepOut(t, "it has a seccomp filter of its own")
		case prSetDispatch:
			in.refuse(t, "it has its calls dispatched itself")
		}
	case "arch_prctl":
		if c.Args[0] == archSetGS {
			in.refuse(t, "it uses the gs base itself")
		}
	case "ptrace":
		in.refuse(t, "it traces others, or is traced")
	}
}

// Before a process is trusted to gain by it, it has made so many calls, and most of the
// last 64 are of those that are recorded inside.
const (
	insideAfter = 200
	insideShare = 58
)

// youngCalls is how many calls a copy of a process makes by stops: those that it takes to map
// a slot cost as much.
const youngCalls = 16

// pays reports whether a process is to record its calls.
func (in *inside) pays(p *insideProcess) bool {
	return in.mode == InProcessAlways || p.seen >= insideAfter && bits.OnesCount64(p.history) >= insideShare
}

// hinders says what in an address space keeps a thread from recording its calls now, "" for nothing.
func (in *inside) hinders(m *memory, t *tracee.Thread) string {
	switch {
	case len(m.Threads) != len(t.Proc.Threads):
		return "another process shares its memory"
	case m.untracedUsers:
		return "somebody who is not traced shares its memory"
	case m.Rings:
		return "it has an io_uring"
	case m.ownUffd || in.r.uffds:
		return "there is a userfaultfd"
	case m.table.Grows():
		return "memory that is no stack may grow by itself"
	}
	return ""
}

// signals says which signals keep a thread from recording its calls, "" for none: what the
// kernel sends because of our code must change nothing for the program. It forces a blocked or
// ignored one through, and takes its handler away.
func (p *insideProcess) signals(k kernel, tid int, mask uint64) string {
	if !p.known {
		status, err := k.status(tid)
		if err != nil {
			return "its signals are not known"
		}
		p.ignores, p.catches = signalSet(status, "SigIgn"), signalSet(status, "SigCgt")
		if p.handles {
			p.catches &^= sigsys
		}
		p.known = true
	}
	switch {
	case p.ignores&inproc.Watched != 0:
		return "it ignores SIGSYS, SIGSEGV or SIGBUS"
	case mask&p.catches&inproc.Watched != 0:
		return "it blocks SIGSYS, SIGSEGV or SIGBUS, and has a handler for it"
	case p.handles && mask&sigsys != 0:
		return "it blocks SIGSYS"
	}
	return ""
}
