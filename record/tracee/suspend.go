//go:build linux

// This file has what a tracer among our tracees can do with the seccomp filters of its tracee:
// read them, and have it make calls as if it had none (PTRACE_O_SUSPEND_SECCOMP).

package tracee

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
)

// initUserNS is the initial user namespace (include/linux/proc_ns.h, PROC_USER_INIT_INO).
const initUserNS = "user:[4026531837]"

// userNS names the user namespace of a thread, "" if it has ended.
func userNS(tid int) string {
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", tid))
	return ns
}

// maySuspend reports whether the kernel would let a thread suspend or read the filters of another,
// and lets us (kernel/ptrace.c, check_ptrace_options; kernel/seccomp.c, seccomp_get_filter).
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
		if userNS(tid) != initUserNS {
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

// filterOf copies a seccomp filter of a tracee, or what is known of it. The first is ours if we
// have one, which the program does not see.
func (g *Group) filterOf(t, target *Thread, req, at, data uint64) int64 {
	const most, size = 4096, 8 // BPF_MAXINSNS, struct sock_filter
	if !g.maySuspend(t) {
		return -int64(unix.EACCES)
	}
	var meta [16]byte // struct seccomp_metadata: filter_off, flags
	le, which := binary.LittleEndian, at
	if req == request.GetFilterMeta {
		if at < 8 {
			return -int64(unix.EINVAL)
		}
		if g.ReadMem(t, meta[:8], addr.Addr(data)) != 8 {
			return -int64(unix.EFAULT)
		}
		which = le.Uint64(meta[:])
	}
	ours := which
	if g.filter != nil {
		text, err := g.k.Status(target.TID)
		if n, _ := proctext.Field(text, "Seccomp_filters").Number(); err != nil || n < 2 {
			return -int64(unix.EINVAL)
		}
		if ours++; ours == 0 {
			return -int64(unix.ENOENT)
		}
	}
	if req == request.GetFilterMeta {
		le.PutUint64(meta[:], ours)
		n, e := g.nest.k.Pass(request.GetFilterMeta, target.TID, min(at, uint64(len(meta))), 0, meta[:])
		if e != 0 {
			return -int64(e)
		}
		le.PutUint64(meta[:], which)
		if bad := g.fill(t, meta[:n], data); bad != 0 {
			return bad
		}
		return n
	}
	var b []byte
	if data != 0 {
		b = make([]byte, most*size)
	}
	n, e := g.nest.k.Pass(request.GetFilter, target.TID, ours, 0, b)
	if e != 0 {
		return -int64(e)
	}
	if data != 0 {
		if bad := g.fill(t, b[:n*size], data); bad != 0 {
			return bad
		}
	}
	return n
}
