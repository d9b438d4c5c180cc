package format

import (
	"iter"
	"slices"

	"memtrace/format/addr"
)

// Written is a stretch of memory that a system call wrote. What it holds is
// known from the call's event.
type Written struct {
	Addr addr.Addr
	Len  uint64
	Step Step   // of the call: the bytes were there at its end
	Blob uint64 // where they are in the log (Reader.Blob)
}

func (x *Written) last() addr.Addr { return x.Addr + addr.Addr(x.Len-1) }

// maxWritten is how many stretches of an address space are known at a time; of
// more the older half is forgotten. It is part of the format: writers and readers
// do the same.
const maxWritten = 1024

const writtenBytes = 32

// written is what calls wrote into an address space since it was captured:
// disjoint stretches in ascending order, the newest call's where several wrote.
type written struct {
	list []Written
	// floor is a step: of what was written before it, some may be missing.
	floor  Step
	newest Step   // call, if there was one
	wrote  bool   // there was one
	cow    bool   // list is shared with a clone
	key    uint64 // 1 + number of the section of a keyframe that is equal, 0 for none
}

func (w *written) clone() written {
	w.cow = true
	return *w
}

// find is the first stretch that ends at a or later.
func (w *written) find(a addr.Addr) int {
	lo, hi := 0, len(w.list)
	for lo < hi {
		if mid := (lo + hi) / 2; w.list[mid].last() < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// hits says whether anything is known of a to last (both included).
func (w *written) hits(a, last addr.Addr) bool {
	i := w.find(a)
	return i < len(w.list) && w.list[i].Addr <= last
}

// own makes the list one that may be changed.
func (w *written) own(mem func(n int64)) {
	if w.cow {
		mem(int64(len(w.list)) * writtenBytes)
		w.list, w.cow = slices.Clone(w.list), false
	}
	w.key = 0
}

// cut forgets a to last (both included); the list is owned.
func (w *written) cut(a, last addr.Addr) { w.replace(a, last) }

// add puts x over what is there; the list is owned.
func (w *written) add(x Written) {
	w.newest, w.wrote = max(w.newest, x.Step), true
	w.replace(x.Addr, x.last(), x)
}

// replace puts with, nothing or a stretch from a to last, in place of what is
// there.
func (w *written) replace(a, last addr.Addr, with ...Written) {
	i := w.find(a)
	j := i
	for j < len(w.list) && w.list[j].Addr <= last {
		j++
	}
	var is [3]Written
	out := is[:0]
	if i < j && w.list[i].Addr < a {
		x := w.list[i]
		x.Len = uint64(a - x.Addr)
		out = append(out, x)
	}
	out = append(out, with...)
	if i < j && w.list[j-1].last() > last {
		x := w.list[j-1]
		d := uint64(last-x.Addr) + 1
		x.Addr, x.Len, x.Blob = last+1, x.Len-d, x.Blob+d
		out = append(out, x)
	}
	w.list = slices.Replace(w.list, i, j, out...)
}

// merge is add for stretches in ascending order; the list is owned.
func (w *written) merge(with []Written) {
	old := w.list
	w.list = make([]Written, 0, len(old)+2*len(with))
	for _, x := range with {
		for len(old) > 0 && old[0].last() < x.Addr {
			w.list = append(w.list, old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].Addr < x.Addr {
			left := old[0]
			left.Len = uint64(x.Addr - left.Addr)
			w.list = append(w.list, left)
		}
		w.list = append(w.list, x)
		w.newest, w.wrote = max(w.newest, x.Step), true
		for len(old) > 0 && old[0].last() <= x.last() {
			old = old[1:]
		}
		if len(old) > 0 && old[0].Addr <= x.last() {
			d := uint64(x.last()-old[0].Addr) + 1
			old[0].Addr, old[0].Len, old[0].Blob = old[0].Addr+addr.Addr(d), old[0].Len-d, old[0].Blob+d
		}
	}
	w.list = append(w.list, old...)
}

// move takes what is known of n bytes to another place; the list is owned.
func (w *written) move(from, to addr.Addr, n uint64) {
	var moved []Written
	for i := w.find(from); i < len(w.list) && w.list[i].Addr <= from+addr.Addr(n-1); i++ {
		x := w.list[i]
		if x.Addr < from {
			d := uint64(from - x.Addr)
			x.Addr, x.Len, x.Blob = from, x.Len-d, x.Blob+d
		}
		x.Len = min(x.Len, n-uint64(x.Addr-from))
		x.Addr += to - from
		moved = append(moved, x)
	}
	w.cut(from, from+addr.Addr(n-1))
	w.cut(to, to+addr.Addr(n-1))
	w.list = slices.Insert(w.list, w.find(to), moved...)
}

// forget drops what was written before a step; the list is owned.
func (w *written) forget(floor Step) {
	if floor <= w.floor {
		return
	}
	w.floor = floor
	w.list = slices.DeleteFunc(w.list, func(x Written) bool { return x.Step < floor })
}

// trim forgets the older half of a list that is too long.
func (w *written) trim(steps []Step) []Step {
	if len(w.list) <= maxWritten {
		return steps
	}
	steps = steps[:0]
	for i := range w.list {
		steps = append(steps, w.list[i].Step)
	}
	slices.Sort(steps)
	w.forget(steps[len(steps)/2])
	if len(w.list) > maxWritten { // most were written by one call
		w.forget(w.newest + 1)
	}
	return steps
}

// cutWritten forgets what calls wrote to a to last (both included).
func (m *MM) cutWritten(a, last addr.Addr) {
	if m.written.hits(a, last) {
		m.written.own(m.pages.took)
		m.written.cut(a, last)
	}
}

// Written yields what calls wrote to r and is known to be newer than any capture
// of its mapping, in ascending order.
func (m *MM) Written(r addr.Range) iter.Seq[Written] {
	return func(yield func(Written) bool) {
		for i := m.written.find(r.Start); i < len(m.written.list); i++ {
			x := m.written.list[i]
			if x.Addr >= r.End {
				return
			}
			if x.Addr < r.Start {
				d := uint64(r.Start - x.Addr)
				x.Addr, x.Len, x.Blob = r.Start, x.Len-d, x.Blob+d
			}
			x.Len = min(x.Len, uint64(r.End-x.Addr))
			if !yield(x) {
				return
			}
		}
	}
}

// InMemory says whether b is a piece of the program's memory as a call left it.
func InMemory(b *Buf) bool { return b.Out && b.Arg < MaxArgs && len(b.Data) > 0 }

// wrote notes what a call of a thread left in memory; blobs says where the log
// has the bytes of each buffer, less base.
func (s *State) wrote(thread uint32, step Step, bufs []Buf, blobs []uint64, base uint64) error {
	var m *MM
	for i := range bufs {
		b := &bufs[i]
		n := uint64(len(b.Data))
		if !InMemory(b) || uint64(b.Addr)+n < n {
			continue
		}
		if m == nil {
			t := s.Threads[thread]
			if t == nil || s.MMs[t.MM] == nil {
				return nil
			}
			m = s.MMs[t.MM]
			m.written.own(m.pages.took)
		}
		m.written.add(Written{b.Addr, n, step, base + blobs[i]})
		m.pages.took(writtenBytes)
		s.mem.work += 8 + uint64(len(m.written.list))/8
	}
	if m == nil {
		return nil
	}
	if len(m.written.list) > maxWritten {
		s.steps = m.written.trim(s.steps)
	}
	return s.room()
}

// Called notes what the event, if it is a system call of a log, left in memory.
// ApplyEvent does that; it is for those who apply an event's changes one by one.
func (s *State) Called(e *Event) error {
	if c, ok := e.Record.(*Syscall); ok && c.Blobs != nil {
		return s.wrote(e.Thread, e.Step, c.Bufs, c.Blobs, 0)
	}
	return nil
}

// wroteSet is a change that a writer makes at the end of a group: what its calls
// wrote into an address space and is still there. It spares a reader that passes
// over the group its events.
type wroteSet struct {
	mm    uint32
	floor Step
	list  []Written
	enc   []byte // floor and list on the way in
}

func (*wroteSet) code() uint8 { return recWritten }

func (w *wroteSet) fields(x *fields) {
	x.u32("address space", &w.mm)
	switch x.mode {
	case writing:
		x.b = append(x.b, w.enc...)
	case reading:
		w.floor, w.list = x.c.written(x.step)
	case describing:
		x.describe("list")
		x.seen("list", nil)
	}
}

// WrittenBefore is a change of the events that a log begins with in the middle of a run:
// what calls wrote to an address space before that.
type WrittenBefore struct{ wroteSet }

func (*WrittenBefore) code() uint8 { return recBefore }

// applyWrote takes the state over a group.
func (s *State) applyWrote(w *wroteSet) error {
	m, err := s.mm(w.mm)
	if err != nil {
		return err
	}
	m.written.own(m.pages.took)
	m.written.forget(w.floor)
	s.mem.work += uint64(len(m.written.list) + len(w.list))
	m.written.merge(w.list)
	m.pages.took(int64(len(w.list)) * writtenBytes)
	if len(m.written.list) > maxWritten {
		return overLimit("what calls wrote", uint64(len(m.written.list)), maxWritten)
	}
	return s.room()
}

// appendWritten encodes the stretches of steps from on.
func appendWritten(b []byte, w *written, from Step) []byte {
	n := 0
	for i := range w.list {
		if w.list[i].Step >= from {
			n++
		}
	}
	b = appendU(appendU(b, uint64(w.floor)), uint64(n))
	var end, blob uint64
	var step Step
	for i := range w.list {
		x := &w.list[i]
		if x.Step < from {
			continue
		}
		b = appendU(b, uint64(x.Addr)-end)
		b = appendU(b, x.Len)
		b = appendZZ(b, int64(x.Step-step))
		b = appendZZ(b, int64(x.Blob-blob))
		end, step, blob = uint64(x.Addr)+x.Len, x.Step, x.Blob+x.Len
	}
	return b
}

// written reads what appendWritten wrote, up to a step.
func (c *cursor) written(last Step) (floor Step, list []Written) {
	floor = Step(c.u())
	n := c.count(4)
	if n > maxWritten || floor > last+1 {
		c.fail()
		return 0, nil
	}
	list = make([]Written, 0, n)
	var end, blob uint64
	var step Step
	for range n {
		at := end + c.u()
		x := Written{Addr: addr.Addr(at), Len: c.u()}
		step += Step(c.zz())
		blob += uint64(c.zz())
		if at < end || x.Len == 0 || at+x.Len < at || step > last || step < floor {
			c.fail()
			return 0, nil
		}
		x.Step, x.Blob = step, blob
		end, blob = at+x.Len, blob+x.Len
		list = append(list, x)
	}
	return floor, list
}

// parseWritten decodes a section of a WRITTEN chunk.
func parseWritten(b []byte, last Step) (*written, error) {
	c := cursor{b: b}
	w := new(written)
	w.floor, w.list = c.written(last)
	if c.bad {
		return nil, corrupt("WRITTEN chunk")
	}
	for i := range w.list {
		w.newest = max(w.newest, w.list[i].Step)
	}
	return w, nil
}

// Blob reads the bytes of system calls that begin at an offset in the log's
// stream of blobs.
func (r *Reader) Blob(p []byte, off uint64) error { return r.stream(TypeBlob, p, off) }
