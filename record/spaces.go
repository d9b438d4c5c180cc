//go:build linux

// This file makes address spaces known to the recording, and takes them out of it.

package record

import (
	"errors"
	"fmt"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/snapshot"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// openMemory opens the address space of a stopped thread and reads its mappings. One
// that is gone by then has none.
func (r *Recorder) openMemory(t *tracee.Thread) *memory {
	fs, mappings, err := readMappings(r.kernel, t.TID)
	m := r.addMemory(t, fs, func(mm uint32) (*space.Table, error) { return space.New(mm, fs, mappings) })
	m.believe()
	m.unread = err
	return m
}

// readMappings opens the address space of a thread. It returns nil if that is gone, or
// cannot be read: then the error says why.
func readMappings(k kernel, tid int) (opened, []vma.VMA, error) {
	fs, err := k.open(tid)
	if errors.Is(err, procfs.ErrGone) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	// A thread that is still in a call may change what is being read in pieces.
	for range 8 {
		vs, err := fs.Maps()
		if err != nil {
			break
		}
		if _, err := vma.NewSet(vs); err == nil {
			return fs, vs, nil
		}
	}
	fs.Close()
	return nil, nil, nil
}

// addMemory makes an address space known, with the table that table makes.
func (r *Recorder) addMemory(t *tracee.Thread, fs opened, table func(mm uint32) (*space.Table, error)) *memory {
	r.lastMM++
	m := &memory{
		Space: t.Space, group: r.group, kernel: r.kernel, log: &r.log, files: r.files, fs: fs, via: t.TID, notes: &snapshot.State{},
	}
	var err error
	if m.table, err = table(r.lastMM); err != nil { // two mappings overlap: readMappings has excluded it
		m.table, _ = space.New(r.lastMM, nil, nil)
	}
	m.finder = dirty.NewCompare(fs)
	known := func() *format.MM { return r.log.log.State().MMs[m.MM()] }
	m.sink = snapshot.NewCopies(snapshot.NewDirect(m.MM(), known, r.log.pages))
	m.inside = inside.NewSpace(m.group, m.Space, m)
	m.pages, m.writes = pagetrace.NewSpace(m.Space, m, r.warden != nil), pagetrace.NewWriteSpace(m.Space, m)
	t.Space.Local = m
	r.memories[m] = struct{}{}
	for v := range m.Mappings().All() {
		m.meet(v)
	}
	p := &r.opts.Snapshot
	if p.any() {
		m.notes = snapshot.NewState()
	}
	if p.atEvents() || r.writes != nil {
		r.wantTracking(m)
	}
	if r.writes != nil && m.track.stage == trackWanted {
		m.track.stage = trackOverdue // it begins at the end of the next call
	}
	return m
}

// tellUnread writes down that an address space cannot be read, if that is so.
func (r *Recorder) tellUnread(t *tracee.Thread, m *memory) {
	err := m.unread
	if err == nil {
		return
	}
	m.unread = nil
	r.warn("the mappings and the memory of process %d cannot be read, and are not in the log: %v (record as root, or a program that its user may read)", t.Proc.PID, err)
	r.lost(t.No, fmt.Sprintf("mappings and memory of address space %d: %v", m.MM(), err))
}

// forkMemory gives child a copy of an address space, as the kernel has made it.
func (r *Recorder) forkMemory(child *tracee.Thread, parent *memory) {
	parent.sweeps.watch.Forked()
	fs, mappings, err := readMappings(r.kernel, child.TID)
	m := r.addMemory(child, fs, func(mm uint32) (*space.Table, error) {
		r.log.change(&format.MMNew{MM: mm, From: parent.MM()})
		return parent.table.Fork(mm, fs, parent.pages.Believed(mappings), changes{&r.log})
	})
	m.pages.Fork(&parent.pages)
	m.believe()
	m.notes, m.ownUffd, m.unread = parent.notes.Fork(), parent.ownUffd, err
}

// leave takes a thread out of its address space, and the address space out of the
// state if it was the last.
func (r *Recorder) leave(m *memory, t *tracee.Thread) {
	if len(m.Threads) > 0 {
		if r.warden != nil {
			r.warden.Leaves(&m.pages, t)
		}
		if m.via == t.TID && m.fs != nil { // its files in /proc went with it
			m.reopen()
		}
		return
	}
	r.inside.Discard(&m.inside)
	m.close()
	delete(r.memories, m)
	r.log.change(&format.MMDrop{MM: m.MM()})
}
