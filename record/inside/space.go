//go:build linux

// This file has what is ours in an address space: the code, and the slots of its threads.

package inside

import (
	"slices"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// Raw is the memory of a program, with our patches in it.
type Raw interface {
	ReadMem(b []byte, a addr.Addr) (int, error)
	WriteMem(b []byte, a addr.Addr) (int, error)
}

// Memory is an address space as the recorder has it.
type Memory interface {
	// Mappings are those that the log has.
	Mappings() *vma.Set
	// VDSO is the mapping that has instructions which enter the kernel, and its bytes.
	VDSO() (vma.VMA, []byte)
	// Raw is nil where it cannot be read. It was opened by thread Via.
	Raw() Raw
	Via() int
	// Grow brings up to date what the kernel may have changed without a call.
	Grow()
	// Waits reports whether something else is to be done first with a thread that stands.
	Waits() bool
}

// Space is an address space in which calls may be recorded.
type Space struct {
	*tracee.Space
	Memory
	group   *tracee.Group
	placed  *placed // our code in it, nil for none
	outside int     // why its threads are not to record their calls now: so many reasons
	tries   int     // how often no place was found for the code
}

// NewSpace makes one without our code.
func NewSpace(g *tracee.Group, s *tracee.Space, m Memory) Space {
	return Space{Space: s, Memory: m, group: g}
}

// Outside has the threads of an address space be recorded by stops, until release, so
// that its memory can be read: what calls write is in the log before the next thing that
// the program does.
func (m *Space) Outside() (release func()) {
	m.outside++
	m.group.Outside(m.Space)
	return func() { m.outside-- }
}

// placed is our code in an address space.
type placed struct {
	m     *Space
	code  inproc.Code
	sites *sites
	slots []*slot // that are mapped; nil: shared with the process that it was copied from
}

// place notes that our code is in an address space that had none.
func (m *Space) place(code inproc.Code) { m.placed = &placed{m: m, code: code, sites: newSites()} }

// fork notes that an address space is a copy, with what is ours in it. The slots are those of
// the original still.
func (s *placed) fork(to *Space) {
	to.placed = &placed{m: to, code: s.code, sites: s.sites.fork(), slots: make([]*slot, len(s.slots))}
}

// full reports whether there is no slot left, and none can be mapped.
func (s *placed) full() bool {
	return s != nil && len(s.slots) == inproc.MaxSlots && !slices.Contains(s.slots, nil)
}

// slot is what a thread shares with the recorder.
type slot struct {
	*inproc.Slot
	space  *placed
	shared []byte         // as it is mapped here
	thread *tracee.Thread // nil for none
	proc   *process       // of thread
	stack  addr.Range     // the mapping that its stack pointer was in last
	stop   bool           // it is to stop at its next call
	record inproc.Record
	// The last call that was sent into the code, and how much had been recorded then.
	sent     addr.Addr
	sentWith uint64
	before   func([]byte, addr.Addr) int
	after    func([]byte, addr.Addr) int
}

// grow looks at the stack of a thread that has made a call with a stack pointer below it.
func (s *slot) grow(sp addr.Addr) {
	if s.stack.Contains(sp) {
		return
	}
	m := s.space.m
	v, there := m.Mappings().Find(sp)
	if !there {
		m.Grow()
		v, _ = m.Mappings().Find(sp)
	}
	s.stack = v.Range
}

// ours reports whether something of ours is mapped in a range.
func (m *Space) ours(r addr.Range) bool {
	if m.placed == nil {
		return false
	}
	if r.Overlaps(m.placed.code.Range()) {
		return true
	}
	for _, w := range m.placed.sites.windows {
		if r.Overlaps(addr.Reach(w.Base, inproc.WindowLen)) {
			return true
		}
	}
	return false
}

// besideShadows is a place that the sanitizers of compilers leave to programs. ThreadSanitizer
// ends a program that has something else in between.
const besideShadows addr.Addr = 0x7e90_0000_0000

// room is where in an address space so many bytes go: beside the shadows of sanitizers, or in
// the middle of the largest hole, out of everybody's way. 0 is nowhere.
func (m *Space) room(n uint64) addr.Addr {
	const highest = 1<<47 - 1<<16
	const guard = 64 << 30 // what is mapped above comes down
	free := true
	for range m.Mappings().Overlapping(addr.Range{Start: besideShadows - guard, End: besideShadows + addr.Addr(n) + guard}) {
		free = false
	}
	if free {
		return besideShadows
	}
	var at addr.Addr
	most := n + 2<<20
	last := addr.Addr(lowest)
	for v := range m.Mappings().All() {
		if v.Start > highest {
			break
		}
		if v.Start > last {
			if hole := uint64(v.Start - last); hole > most {
				most, at = hole, (last + addr.Addr(hole/2)).PageDown()
			}
		}
		last = max(last, v.End)
	}
	return at
}

// lowest is where our code goes at the lowest: java and others want what is below.
const lowest = 4 << 30

// Original puts what the program has into bytes that were read at an address.
func (m *Space) Original(b []byte, a addr.Addr) {
	if m.placed == nil {
		return
	}
	r := addr.Reach(a, uint64(len(b)))
	for _, p := range m.placed.sites.patched {
		if p.Overlaps(r) {
			p.Original(b, a)
		}
	}
}
