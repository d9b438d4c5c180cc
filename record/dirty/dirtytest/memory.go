//go:build linux

// Package dirtytest simulates an address space, page by page, as the kernel shows it to
// those who look for written pages: a test of them needs no program.
package dirtytest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// Memory is an address space. A page holds one number, at its beginning.
type Memory struct {
	// Step, if not nil, is called wherever the program may run while it is looked at.
	Step func()
	// Ended: there is nothing to read any more. Old: the kernel has neither PAGEMAP_SCAN
	// nor PROCMAP_QUERY.
	Ended, Old bool
	// Unreadable are pages that cannot be read, Foreign those that cannot be watched.
	Unreadable, Foreign addr.Set
	// Reads counts the pages that were read.
	Reads int

	mappings *vma.Set
	pages    map[addr.Addr]page
	objects  map[object]uint64 // files and shared memory
	watched  addr.Set
	faults   []addr.Addr
}

type object struct{ inode, offset uint64 }

// page is an entry of the page table.
type page struct {
	there, swapped  bool
	own             bool // not the file's or the shared memory's
	value           uint64
	zero            bool // it is the zero page
	protected, soft bool
	freed           bool // with MADV_FREE, and not written to since
}

// New makes an address space with some mappings.
func New(mappings *vma.Set) *Memory {
	return &Memory{mappings: mappings, pages: map[addr.Addr]page{}, objects: map[object]uint64{}}
}

// Mappings are the mappings that there are.
func (m *Memory) Mappings() *vma.Set { return m.mappings }

func (m *Memory) step() {
	if m.Step != nil {
		m.Step()
	}
}

func objectOf(v vma.VMA, a addr.Addr) object { return object{v.Inode, v.Offset + uint64(a-v.Start)} }

// anonymous says whether pages of a mapping are nobody else's from the beginning.
func anonymous(v vma.VMA) bool { return v.Inode == 0 }

// Truth is what the page at a holds.
func (m *Memory) Truth(a addr.Addr) uint64 {
	v, _ := m.mappings.Find(a)
	if p := m.pages[a]; p.own || anonymous(v) {
		return p.value
	}
	return m.objects[objectOf(v, a)]
}

// File is what the file or the shared memory of the page at a holds.
func (m *Memory) File(a addr.Addr) uint64 {
	v, _ := m.mappings.Find(a)
	return m.objects[objectOf(v, a)]
}

// There says whether the page at a is in the page table.
func (m *Memory) There(a addr.Addr) bool { return m.pages[a].there }

// Write is a write of the program. quiet has no page fault seen, as a write of the
// kernel's.
func (m *Memory) Write(a addr.Addr, value uint64, quiet bool) {
	v, ok := m.mappings.Find(a)
	if !ok {
		return
	}
	p := m.pages[a]
	if !quiet && (!p.there || p.zero || p.protected || !p.own) {
		m.faults = append(m.faults, a)
	}
	if m.watched.Overlaps(addr.Reach(a, 1)) {
		p.protected = false
	}
	p.there, p.swapped, p.zero, p.freed, p.soft = true, false, false, false, true
	if v.Prot&addr.Shared != 0 && !anonymous(v) {
		m.objects[objectOf(v, a)] = value
	} else {
		p.own, p.value = true, value
	}
	m.pages[a] = p
}

// Faults says whether an access to the page at a has a fault.
func (m *Memory) Faults(a addr.Addr, write bool) bool {
	v, _ := m.mappings.Find(a)
	p := m.pages[a]
	return !p.there || write && (p.zero || p.protected || !p.own && v.Prot&addr.Shared == 0)
}

// WriteObject is a write to the file or shared memory of a page by somebody else.
func (m *Memory) WriteObject(a addr.Addr, value uint64) {
	v, _ := m.mappings.Find(a)
	m.objects[objectOf(v, a)] = value
}

// Touch is a read by the program: it maps the zero page, or the file's.
func (m *Memory) Touch(a addr.Addr) {
	v, ok := m.mappings.Find(a)
	if p := m.pages[a]; ok && !p.there {
		p.there, p.zero = true, anonymous(v)
		m.pages[a] = p
	}
}

// Swap has the kernel take the page at a from the page table, to swap if nothing else
// has what it holds.
func (m *Memory) Swap(a addr.Addr) {
	v, _ := m.mappings.Find(a)
	switch p := m.pages[a]; {
	case !p.there || p.freed || p.zero:
	case p.own || anonymous(v):
		p.swapped = true
		m.pages[a] = p
	default:
		p.there = false
		m.pages[a] = p
	}
}

// Free is MADV_FREE, Reclaim that the kernel takes such a page.
func (m *Memory) Free(at addr.Range) {
	m.each(at, func(_ vma.VMA, a addr.Addr) {
		if p := m.pages[a]; p.own {
			p.freed = true
			m.pages[a] = p
		}
	})
}

// Reclaim takes the page at a, if it was given back with Free and not written to since.
func (m *Memory) Reclaim(a addr.Addr) {
	if m.pages[a].freed {
		delete(m.pages, a)
	}
}

// Drop is MADV_DONTNEED.
func (m *Memory) Drop(at addr.Range) {
	m.each(at, func(_ vma.VMA, a addr.Addr) { delete(m.pages, a) })
}

// Map puts a new mapping in place of what is there.
func (m *Memory) Map(v vma.VMA) {
	m.Unmap(v.Range)
	m.mappings.Insert(v)
}

// Unmap takes away what is mapped in a range.
func (m *Memory) Unmap(at addr.Range) {
	m.Drop(at)
	m.watched.Remove(at)
	m.mappings.Remove(at)
}

// Move is mremap of a mapping or a part of it. The mapping at the new place is not
// watched.
func (m *Memory) Move(from addr.Range, to addr.Addr) {
	v, _ := m.mappings.Find(from.Start)
	v = v.Slice(from)
	moved := map[addr.Addr]page{}
	m.each(from, func(_ vma.VMA, a addr.Addr) {
		if p, ok := m.pages[a]; ok {
			p.protected = false
			moved[a-from.Start+to] = p
		}
	})
	m.Unmap(from)
	v.Range = addr.Reach(to, from.Len())
	m.Map(v)
	for a, p := range moved {
		m.pages[a] = p
	}
}

// Fork is the copy that a child gets: nothing of it is watched.
func (m *Memory) Fork() *Memory {
	child := &Memory{mappings: m.mappings.Clone(), pages: map[addr.Addr]page{}, objects: m.objects}
	for a, p := range m.pages {
		p.protected = false
		child.pages[a] = p
	}
	return child
}

// Unwatch takes a range out of the watch. What is protected stays so.
func (m *Memory) Unwatch(at addr.Range) { m.watched.Remove(at) }

// Watched says whether all of a range is watched.
func (m *Memory) Watched(at addr.Range) bool {
	for range m.watched.Gaps(at) {
		return false
	}
	return true
}

// each calls f for the mapped pages of a range, in order.
func (m *Memory) each(at addr.Range, f func(vma.VMA, addr.Addr)) {
	for _, v := range m.mappings.Cut(at) {
		for a := v.Start; a < v.End; a += addr.PageSize {
			f(v, a)
		}
	}
}

// Mapping is that of a Kernel.
func (m *Memory) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	if m.Old {
		return vma.VMA{}, false, errors.ErrUnsupported
	}
	if m.Ended {
		return vma.VMA{}, false, procfs.ErrGone
	}
	for v := range m.mappings.Overlapping(addr.Range{Start: a, End: ^addr.Addr(0)}) {
		return v, true, nil
	}
	return vma.VMA{}, false, nil
}

// ReadMem reads pages.
func (m *Memory) ReadMem(b []byte, a addr.Addr) (int, error) {
	for n := 0; n < len(b); n += addr.PageSize {
		m.step()
		if m.Ended {
			return n, procfs.ErrGone
		}
		at := a + addr.Addr(n)
		if _, ok := m.mappings.Find(at); !ok || m.Unreadable.Overlaps(addr.Reach(at, 1)) {
			return n, fmt.Errorf("read memory at %v: input/output error", at)
		}
		m.Reads++
		p := b[n:][:addr.PageSize]
		clear(p)
		binary.LittleEndian.PutUint64(p, m.Truth(at))
	}
	return len(b), nil
}
