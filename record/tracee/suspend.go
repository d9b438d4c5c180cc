//go:build linux

// This file has PTRACE_O_SUSPEND_SECCOMP of a tracer among our tracees: its tracee makes calls
// as if it had no seccomp filters.

package tracee

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
)

// initUserNS is the initial user namespace (include/linux/proc_ns.h, PROC_USER_INIT_INO).
const initUserNS = "user:[4026531837]"

// maySuspend reports whether the kernel would let a thread suspend the filters of another, and
// lets us (kernel/ptrace.c, check_ptrace_options).
func (g *Group) maySuspend(t *Thread) bool {
	if t.wants(request.OptSuspend) {
		return false
	}
	for _, tid := range []int{t.TID, unix.Gettid()} {
		text, err := g.k.Status(tid)
		if err != nil || proctext.Field(text, "CapEff").Hex()>>unix.CAP_SYS_ADMIN&1 == 0 {
			return false
		}
		ours := uint64(0)
		if g.filter != nil && tid == t.TID {
			ours = 1
		}
		if n, _ := proctext.Field(text, "Seccomp_filters").Number(); n > ours {
			return false
		}
		if mode, _ := proctext.Field(text, "Seccomp").Number(); mode == seccompModeStrict || ours == 0 && mode != 0 {
			return false
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", tid)); err != nil || ns != initUserNS {
			return false
		}
	}
	return true
}

// matchOptions has the kernel do with a thread that stands what its tracer wants.
func (g *Group) matchOptions(t *Thread) error {
	suspend := t.wants(request.OptSuspend)
	seccomp := t.wants(request.OptSeccomp) && g.filter == nil
	if suspend == t.suspended && (!seccomp || t.traced.filters) {
		return nil
	}
	o := g.traceOptions()
	if suspend {
		o |= request.OptSuspend
	}
	if seccomp {
		o |= ptrace.OptSeccomp
	}
	if err := g.k.SetOptions(t.TID, o); err != nil {
		return err
	}
	t.suspended = suspend
	if t.traced != nil {
		t.traced.filters = seccomp
	}
	return nil
}

// unsuspend has the filters of a thread work again, whose tracer is gone.
func (g *Group) unsuspend(t *Thread) {
	switch {
	case !t.suspended || t.over():
	case !t.on():
		_ = g.matchOptions(t)
	case !t.asked:
		t.asked = g.k.Interrupt(t.TID) == nil
	}
}
