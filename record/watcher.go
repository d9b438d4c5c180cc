//go:build linux

// This file tells what finds writes, and what is noted of contents, what becomes of mappings: an
// address space is a space.Watcher.

package record

import (
	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Change writes a change of the table.
func (m *memory) Change(c format.Change) {
	m.log.change(c)
	m.code.changed(c)
	switch c := c.(type) {
	case *format.VMASet:
		m.meet(c.VMA)
	case *format.VMADel:
		m.gaveBack += c.Range.Len()
	}
}

// meet looks at a mapping that is new, for what it says of the whole address space.
func (m *memory) meet(v vma.VMA) {
	if m.files.Served(v, func() (map[vma.Dev]string, error) { return m.kernel.mounts(m.via) }) {
		m.readCarefully()
	}
	switch v.Name {
	case ringName:
		m.meetRing(v)
	case "/[aio] (deleted)":
		m.writtenUnseen()
	}
}

// Mapped has writes to new mappings found.
func (m *memory) Mapped(at addr.Range) {
	m.finder.Mapped(at)
	m.writes.Mapped(at)
}

// Whole has writes to mappings found that may have left the watch.
func (m *memory) Whole(at addr.Range) {
	m.finder.Whole(at)
	m.writes.Mapped(at)
}

// Moved follows pages to where they are now.
func (m *memory) Moved(from, to addr.Range) {
	m.finder.Moved(to)
	m.writes.Mapped(to)
	m.notes.Gone(to)
	m.notes.Moved(from, to.Start)
}

// Unsettled has writes found at a place to which pages may have moved.
func (m *memory) Unsettled(at addr.Range) {
	m.finder.Moved(at)
	m.writes.Mapped(at)
	m.notes.Unproved()
}

// Gone drops what is noted of contents.
func (m *memory) Gone(at addr.Range) {
	m.notes.Gone(at)
	m.writes.Gone(at)
}

// Fresh notes contents that nobody has written to.
func (m *memory) Fresh(at addr.Range) { m.notes.Fresh(at, m.finder, m.table.Mappings(), m.given) }

// Dropped notes contents that were given back.
func (m *memory) Dropped(at addr.Range, advice arch.Advice, done bool) {
	m.gaveBack += at.Len()
	m.notes.Dropped(at, advice, done, len(m.Threads) == 1, m.finder, m.table.Mappings(), m.given)
}

// Apart lets go of mappings that are about to move together.
func (m *memory) Apart(at addr.Range) {
	m.finder.Apart(at, m.table.Mappings())
	m.notes.Unproved()
}

// Rewatch has writes found again to a mapping that a call took out of the watch, as
// mremap does. Not while such a call is under way: what that has made of it is told
// when it is over.
func (m *memory) Rewatch(v vma.VMA) bool {
	if m.Moving() {
		return false
	}
	if whole, ok := m.table.Mappings().Find(v.Start); ok {
		v = whole // to register a part would split it
	}
	if !m.finder.Rewatch(v.Range) {
		return false
	}
	m.writes.Mapped(v.Range)
	m.table.Ask(v.Range, m) // it may have become one with those beside it
	return true
}

// sharedUntraced notes that a child which is not traced shares the address space.
func (m *memory) sharedUntraced(c tracee.CloneArgs) {
	m.untracedUsers = m.untracedUsers || c.Flags&unix.CLONE_VFORK == 0
	m.Mapped(addr.Range{End: space.UserEnd})
	m.table.Refresh(m) // what the child has mapped before its exec stays
}

// changes is a space.Watcher for a table that nobody has read yet: it writes down
// what changes, and nothing else.
type changes struct{ log *journal }

func (c changes) Change(x format.Change)              { c.log.change(x) }
func (changes) Mapped(addr.Range)                     {}
func (changes) Whole(addr.Range)                      {}
func (changes) Moved(_, _ addr.Range)                 {}
func (changes) Unsettled(addr.Range)                  {}
func (changes) Gone(addr.Range)                       {}
func (changes) Fresh(addr.Range)                      {}
func (changes) Dropped(addr.Range, arch.Advice, bool) {}
func (changes) Apart(addr.Range)                      {}
