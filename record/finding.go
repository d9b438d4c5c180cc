//go:build linux

// This file has the ways in which the writes of an address space are found, and its memory is
// read because of them.

package record

import (
	"errors"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

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

// errNoUffd is why writes are not found by a userfaultfd, where nothing more is known.
var errNoUffd = errors.New("no userfaultfd can be made in the program")

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

// readCarefully has the memory around calls read in a way that waits for nobody. A
// userfaultfd of the program's has its pages filled by one of its threads, which may
// stand still: /proc/PID/mem fails there (mm/memory.c, access_remote_vm). Pages of
// files that somebody serves are read only if they are there.
func (m *memory) readCarefully() {
	m.Space.Read = func(b []byte, a addr.Addr) (done int) {
		for done < len(b) && m.fs != nil {
			at := a + addr.Addr(done)
			v, ok := m.Mappings().Find(at)
			if !ok {
				return done
			}
			n := min(len(b)-done, int(v.End-at))
			if m.files.Foreign(v) {
				if n = min(n, int(at.PageDown()+addr.PageSize-at)); !m.there(at.PageDown()) {
					return done
				}
			}
			got, err := m.fs.ReadMem(b[done:done+n], at)
			done += got
			if err != nil || got < n {
				return done
			}
		}
		return done
	}
}

// there reports whether a page is in memory.
func (m *memory) there(page addr.Addr) (yes bool) {
	_, _ = m.fs.Scan(addr.Range{Start: page, End: page + addr.PageSize}, procfs.PagePresent, procfs.PagePresent, false, 1, func(procfs.Region) { yes = true })
	return yes
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
