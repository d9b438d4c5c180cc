//go:build linux

// This file follows what an io_uring does to the names of files without a call: it is
// seen in the entries that the program hands to the ring.

package record

import (
	"memtrace/format/vma"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Entries of a ring, as mapped (include/uapi/linux/io_uring.h).
const (
	ringName    = "anon_inode:[io_uring]"
	ringEntries = 0x10000000 // IORING_OFF_SQES: the offset at which they are mapped
	ringEntry   = 64         // bytes; twice that with IORING_SETUP_SQE128
	ringRename  = 35         // IORING_OP_RENAMEAT
	ringUnlink  = 36         // IORING_OP_UNLINKAT

	ringMost   = 64 << 10 // bytes that are looked at
	ringCheap  = 20_000   // ns: what may be spent at each call
	ringShare  = 16       // of the time that has passed, where it costs more
	ringSettle = 20e6     // ns after a call that submits entries: they are done by then, mostly
)

// ringPaths brings the names of mapped files up to date where a ring of the program's
// renames some. It does so after each call, not only one that submits entries: threads of
// the kernel carry them out later, or take them without a call.
func ringPaths(r *Recorder, t *tracee.Thread, m *memory, c *tracee.Call) {
	begin := r.group.Now()
	if space.EffectOf(c.Arch, c.Nr) == space.EffRingEnter {
		m.ringSettled = begin + ringSettle
	}
	if begin < m.ringNext && begin > m.ringSettled {
		return
	}
	if m.ringRenames(m.reads(t)) {
		for o := range r.memories {
			o.table.Refresh(o)
		}
	}
	now := r.group.Now()
	if cost := now - begin; cost > ringCheap {
		m.ringNext = now + ringShare*cost
	}
}

// ringRenames reports whether a ring has an entry that takes a name from a file. Those
// that are done with stay until others take their place: better too often than never.
func (m *memory) ringRenames(read space.Reader) bool {
	if !m.ringMapped {
		return true // the program gave the memory for its entries itself: IORING_SETUP_NO_MMAP
	}
	for v := range m.Mappings().All() {
		if v.Name == ringName && v.Offset == ringEntries && hasRename(v, read) {
			return true
		}
	}
	return false
}

func hasRename(v vma.VMA, read space.Reader) bool {
	b := make([]byte, min(uint64(v.End-v.Start), ringMost))
	for b = b[:read(b, v.Start)]; len(b) >= ringEntry; b = b[ringEntry:] {
		if b[0] == ringRename || b[0] == ringUnlink {
			return true
		}
	}
	return false
}

// meetRing notes a mapping of a ring.
func (m *memory) meetRing(v vma.VMA) {
	m.Rings, m.ringMapped = true, m.ringMapped || v.Offset == ringEntries
	m.writtenUnseen()
}
