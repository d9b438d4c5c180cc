//go:build linux

// This file chooses how the writes of an address space are found, and begins to find
// them.

package record

import (
	"errors"
	"strconv"

	"memtrace/format/proctext"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
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

// trackAtTick begins to find writes. It reports whether the address space is still
// there.
func (r *Recorder) trackAtTick(m *memory) bool {
	r.group.Hold(m.Space)
	m.track.stage = trackOverdue
	if t := r.group.Standing(m.Space); t != nil {
		r.beginTracking(m, t)
	}
	r.group.ServeWaiting()
	return !r.group.Over() && m.alive() // else what they stopped with was an exec, or the end
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

// errLater is why a userfaultfd could not be made this time.
var errLater = errors.New("the thread was needed for something else")

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
