//go:build linux

// This file looks at what programs do by stops that concerns those of their threads which
// record their calls: calls, births and ends.

package inside

import (
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Requests after which a process records its calls no more.
const (
	prSetSeccomp  = 22
	prSetDispatch = 59
	archSetGS     = 0x1001
)

// Entered takes patches away that a call is about to see, and has other threads leave the
// code before what they could not bear there.
func (in *Programs) Entered(t *tracee.Thread, c *tracee.Call) {
	if in == nil {
		return
	}
	m := in.host.Space(t)
	row, _ := c.Arch.Syscall(c.Nr)
	if len(m.Threads) > 1 {
		in.part(t, c, row.Name)
	}
	if row.Name == "rt_sigaction" && c.Args[0] == uint64(unix.SIGSYS) {
		in.unhandle(m, t)
	}
	if m.placed == nil {
		return
	}
	switch row.Name {
	case "munmap", "mprotect", "pkey_mprotect", "madvise", "mremap", "mmap":
		r := addr.Reach(addr.Addr(c.Args[0]), c.Args[1])
		own := m.ours(r) && (row.Name != "mmap" || c.Args[3]&unix.MAP_FIXED != 0)
		if own {
			r = addr.Range{End: space.UserEnd}
		}
		m.unpatchHeld(r)
		if own {
			in.group.Outside(m.Space)
			in.refuse(t, "it has changed the mappings of the code")
		}
	}
}

// part has all threads of a process but one be recorded by stops, if that makes a call which
// changes what the others rely on.
func (in *Programs) part(t *tracee.Thread, c *tracee.Call, name string) {
	switch name {
	case "rt_sigaction":
		if c.Args[0]-1 < 64 && inproc.Watched>>(c.Args[0]-1)&1 != 0 {
			in.apart(t)
		}
	case "prctl":
		if c.Args[0] == prSetSeccomp {
			in.apart(t)
		}
	case "seccomp", "chroot", "pivot_root", "setns", "unshare", "mount", "umount2", "move_mount", "userfaultfd", "io_uring_setup", "ptrace":
		in.apart(t)
	}
}

// apart has all threads of a process be recorded by stops while a call is made that changes
// what the others rely on.
func (in *Programs) apart(t *tracee.Thread) {
	if th := in.host.Thread(t); !th.apart {
		th.apart = true
		in.host.Space(t).outside++
	}
	in.group.Outside(t.Space)
}

// Returned looks at a call of a thread that is recorded by stops.
func (in *Programs) Returned(t *tracee.Thread, c *tracee.Call) {
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
	th := in.host.Thread(t)
	th.resumes = false
	if th.apart {
		th.apart = false
		in.host.Space(t).outside--
	}
	switch row.Name {
	case "rt_sigreturn":
		// The call that the signal has interrupted is recorded by stops. It would be
		// interrupted again and again where signals come faster than it is made inside.
		th.resumes = true
		if m := in.host.Space(t); m.placed != nil {
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

// Settle sees to it that what other threads have read or written in calls that are over is in
// the log before a change of the mappings that has just been made.
func (in *Programs) Settle(m *Space) {
	if in == nil || m.placed == nil || len(m.Threads) < 2 {
		return
	}
	for begin := time.Now(); in.writing(m); time.Sleep(settleSleep) {
		if time.Since(begin) > settleMost {
			in.group.Outside(m.Space)
			break
		}
	}
	in.Drain()
}

// How long settle waits for records, and how long it sleeps between two looks.
const (
	settleMost  = 500 * time.Microsecond
	settleSleep = 10 * time.Microsecond
)

// writing reports whether a thread is about to finish the record of a call that has
// returned.
func (in *Programs) writing(m *Space) bool {
	for _, s := range m.placed.slots {
		if s != nil && s.thread != nil && s.thread.Recording() && s.Writing() {
			return true
		}
	}
	return false
}

// Forked has a child know what its parent does.
func (in *Programs) Forked(child, parent *tracee.Thread) {
	if in == nil {
		return
	}
	if child.Proc != parent.Proc {
		in.procs[child.Proc] = in.processOf(parent).fork()
	}
	if m, of := in.host.Space(child), in.host.Space(parent); m != of && of.placed != nil {
		of.placed.fork(m)
	}
}

// Executed has a process that executes another program begin anew, unless what forbids it
// to record its calls stays.
func (in *Programs) Executed(t *tracee.Thread) {
	if in == nil {
		return
	}
	if p := in.processOf(t); p.stays {
		p.known, p.handles, p.left = false, false, false
	} else {
		delete(in.procs, t.Proc)
	}
}

// Removed takes a thread out that has ended.
func (in *Programs) Removed(t *tracee.Thread) {
	if in == nil {
		return
	}
	in.Drain()
	if th := in.host.Thread(t); th.apart {
		th.apart = false
		in.host.Space(t).outside--
	}
	in.free(t)
}

// Ended forgets a process.
func (in *Programs) Ended(p *tracee.Process) {
	if in != nil {
		delete(in.procs, p)
	}
}

// Discard forgets the code of an address space that is gone.
func (in *Programs) Discard(m *Space) {
	if in == nil || m.placed == nil {
		return
	}
	in.Drain()
	for _, s := range m.placed.slots {
		if s == nil {
			continue
		}
		if s.thread != nil {
			in.free(s.thread)
		}
		if in.robust != nil {
			in.robust.Remove(s.shared)
		}
		_ = unix.Munmap(s.shared)
	}
	m.placed = nil
}
