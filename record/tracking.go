//go:build linux

// This file chooses how the writes of an address space are found, and begins to find
// them.

package record

import (
	"errors"
	"strconv"

	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// uffdTries is how often a thread may report something else while we try.
const uffdTries = 8

// wantTracking asks for the writes of an address space to be found from now on.
func (r *Recorder) wantTracking(m *memory) {
	if !r.opts.NoTrack && !m.track.noUffd && !m.track.never && m.track.stage == trackIdle && !dirty.Finds(m.finder) {
		m.track.stage = trackWanted
	}
}

// trackLate begins to find writes where it could not at the tick: t stands at the end
// of a call.
func (r *Recorder) trackLate(m *memory, t *tracee.Thread) {
	if m.track.stage == trackOverdue && r.group.Injectable(t) {
		r.group.Hold(m.Space)
		r.beginTracking(m, t)
	}
}

// beginTracking begins to find writes in the best way there is. t is a thread of
// the address space; the others must be held.
func (r *Recorder) beginTracking(m *memory, t *tracee.Thread) {
	if m.track.never {
		m.track.stage = trackIdle
		r.writes.Found(&m.writes, t, m.finder)
		return
	}
	if r.kernel.hasUffd() && !m.track.noUffd {
		if !r.group.Injectable(t) {
			return // later
		}
		u, err := r.makeUffd(m, t)
		switch {
		case err == nil:
			m.track.stage = trackIdle
			m.find(dirty.NewUffd(u, m.fs, m.Mappings()))
			m.table.Refresh(m) // the kernel may have merged some
			r.writes.Found(&m.writes, t, m.finder)
			return
		case errors.Is(err, errLater):
			return
		}
	}
	m.track.stage, m.track.noUffd = trackIdle, true
	m.find(m.withoutUffd())
	r.writes.Found(&m.writes, t, m.finder)
}

// find has the writes of the address space found by f from now on.
func (m *memory) find(f dirty.Finder) {
	m.writes.Stop()
	m.finder.Close()
	m.finder = f
	m.notes.Begin(f, m.Mappings())
}

// withoutUffd is the best finder that needs no userfaultfd: soft-dirty bits, where the
// kernel has them and lets us clear them, or none. All threads must be held.
func (m *memory) withoutUffd() dirty.Finder {
	if m.fs != nil && !m.track.never && m.kernel.hasSoftDirty() {
		if s, err := dirty.NewSoftDirty(m.fs, heldThreads{m}); err == nil {
			return s
		}
	}
	return dirty.NewCompare(m.fs)
}

// yieldUffd takes our userfaultfd away, because the program is about to make one of
// its own.
func (m *memory) yieldUffd() {
	m.ownUffd, m.track.noUffd = true, true
	m.readCarefully()
	if m.finder.Name() == format.DirtyWPAsync {
		f := m.withoutUffd()
		m.find(f)
		m.table.Refresh(m)
	}
}

// writtenUnseen has all of the memory read at each snapshot, and compared: the kernel
// writes to it by itself, through buffers that a ring of the program's has registered.
// Such writes need no page to be writable, so nothing finds them.
func (m *memory) writtenUnseen() {
	if m.track.never {
		return
	}
	m.track.never = true
	if dirty.Finds(m.finder) {
		m.find(dirty.NewCompare(m.fs))
	}
}

var (
	errNoUffd = errors.New("no userfaultfd can be made in the program")
	errLater  = errors.New("the thread was needed for something else")
)

// later is the error of a try that may succeed with another one.
func (k *tracking) later() error {
	if k.tries++; k.tries > uffdTries {
		return errNoUffd
	}
	return errLater
}

// makeUffd makes a userfaultfd in the program and takes it over.
func (r *Recorder) makeUffd(m *memory, t *tracee.Thread) (dirty.Registrar, error) {
	if m.fs == nil || r.foreignFilter(t.TID) {
		return nil, errNoUffd
	}
	vdso, code := m.VDSO()
	in, err := r.group.Inject(t, code, vdso.Start)
	if errors.Is(err, tracee.ErrNotNow) {
		return nil, m.track.later()
	}
	if err != nil {
		return nil, errNoUffd
	}
	defer in.Done()
	fd, err := in.Call("userfaultfd", uint64(procfs.UffdFlags))
	if errors.Is(err, tracee.ErrStray) {
		r.lost(t.No, err.Error())
		return nil, errNoUffd
	}
	if err != nil {
		return nil, m.track.later()
	}
	if fd < 0 { // EMFILE, EPERM
		return nil, errNoUffd
	}
	u, err := r.kernel.takeUffd(t.TID, int(fd))
	if _, cerr := in.Call("close", uint64(fd)); cerr != nil {
		r.lost(t.No, "a descriptor could not be closed in the program: "+strconv.FormatInt(fd, 10))
	}
	if err != nil {
		return nil, errNoUffd
	}
	return u, nil
}

// Untracked says why its writes are not found as a trace of them needs it.
func (m *memory) Untracked() string {
	switch {
	case m.ownUffd:
		return "the program has a userfaultfd of its own"
	case m.track.never:
		return "the kernel writes to it on its own, for an io_uring or aio"
	case !m.kernel.hasUffd():
		return "the kernel has no UFFD_FEATURE_WP_ASYNC (Linux 6.7)"
	}
	return errNoUffd.Error()
}

// VDSO is the mapping that has instructions which enter the kernel, and its bytes.
func (m *memory) VDSO() (vma.VMA, []byte) {
	for v := range m.Mappings().All() {
		if v.Kind == vma.VDSO {
			b := make([]byte, v.Len())
			n, _ := m.fs.ReadMem(b, v.Start)
			return v, b[:n]
		}
	}
	return vma.VMA{}, nil
}

// foreignFilter reports whether the program has a seccomp filter of its own: it may
// forbid the call, or kill for it.
func (r *Recorder) foreignFilter(tid int) bool {
	status, err := r.kernel.status(tid)
	if err != nil {
		return true
	}
	n, _ := proctext.Field(status, "Seccomp_filters").Number()
	ours := uint64(0)
	if r.group.Filtered() {
		ours = 1
	}
	mode, _ := proctext.Field(status, "Seccomp").Number()
	return n > ours || mode == 1
}

// heldThreads are the threads of an address space, for its soft-dirty bits.
type heldThreads struct{ m *memory }

// Settled reports whether no mapping is being changed, by a call that has not been
// seen to end, and nobody who is not traced writes to the memory.
func (h heldThreads) Settled() bool {
	if h.m.untracedUsers || h.m.turn.Overdue() > 0 {
		return false
	}
	for t := range h.m.Threads {
		c := t.Call()
		if t.Unseen() || c != nil && t.State() != tracee.Queued && space.EffectOf(c.Arch, c.Nr).Exclusive() {
			return false
		}
	}
	return true
}

// Asleep reports whether all threads that are in the kernel sleep there.
func (h heldThreads) Asleep() (dirty.Sleep, bool) {
	var tids []int
	for t := range h.m.Threads {
		if !t.Stands() || t.Over() { // who ends still writes to its memory
			tids = append(tids, t.TID)
		}
	}
	return dirty.Asleep(tids, h.m.kernel.status)
}

// ClearSoftDirty clears the bits through a thread that has not left the address
// space.
func (h heldThreads) ClearSoftDirty() error {
	if t := h.m.Any(); t != nil && !t.Over() {
		return h.m.kernel.clearSoftDirty(t.TID)
	}
	return procfs.ErrGone
}
