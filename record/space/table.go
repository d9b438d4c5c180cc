// This file is the table itself, and how it learns from the kernel.

package space

import (
	"bytes"
	"errors"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// UserEnd is above every address that a program can map.
const UserEnd addr.Addr = 1 << 63

// everywhere is all addresses, the vsyscall page above UserEnd included.
var everywhere = addr.Range{End: ^addr.Addr(0)}

// span is the pages of n bytes at a.
func span(a addr.Addr, n uint64) addr.Range {
	return addr.Reach(a, n).PageAlign()
}

// Table has the mappings of one address space as the log has them.
type Table struct {
	mm       uint32
	kernel   Kernel // nil: gone
	mappings *vma.Set

	brk    addr.Addr   // as the last brk call returned it, 0 before one
	grow   []addr.Addr // an address in each mapping that grows by itself: the main stack first
	wipe   addr.Set    // MADV_WIPEONFORK, and perhaps more
	stacks []addr.Addr // the first stack byte of threads

	text    []byte    // of /proc/PID/maps, at the last Refresh
	changed bool      // the table has changed since then
	noQuery bool      // the kernel cannot be asked for one mapping
	found   []vma.VMA // scratch
	printed []byte    // scratch
}

// New makes the table of address space mm, which has the mappings vs. It fails if
// two of them overlap: then they were read while they changed. A nil Kernel
// stands for an address space that is gone, of which nothing more is learned.
func New(mm uint32, k Kernel, vs []vma.VMA) (*Table, error) {
	set, err := vma.NewSet(vs)
	if err != nil {
		return nil, err
	}
	t := &Table{mm: mm, kernel: k, mappings: set}
	for v := range set.All() {
		if v.Kind == vma.MainStack {
			t.grow = append(t.grow, v.End-1)
		}
	}
	return t, nil
}

// MM is the number of the address space in the log.
func (t *Table) MM() uint32 { return t.mm }

// Mappings is the table as it is now. It is not to be changed.
func (t *Table) Mappings() *vma.Set { return t.mappings }

// Kernel is who is asked.
func (t *Table) Kernel() Kernel { return t.kernel }

// SetKernel has somebody else asked from now on: the files in /proc of one thread
// go with it, those of another do as well.
func (t *Table) SetKernel(k Kernel) { t.kernel = k }

// Write tells w of the whole table as if it were new.
func (t *Table) Write(w Watcher) {
	for v := range t.mappings.All() {
		w.Change(&format.VMASet{MM: t.mm, VMA: v})
	}
}

// query asks the kernel for the mapping at or above a.
func (t *Table) query(a addr.Addr) (vma.VMA, bool, error) {
	if t.kernel == nil || t.noQuery {
		return vma.VMA{}, false, errors.ErrUnsupported
	}
	v, ok, err := t.kernel.Mapping(a)
	if errors.Is(err, errors.ErrUnsupported) {
		t.noQuery = true
	}
	return v, ok, err
}

// Ask brings the table up to date around a place that may have changed.
func (t *Table) Ask(at addr.Range, w Watcher) {
	// The vsyscall page above all is not the process's own: the kernel's answers
	// leave it out, and nothing changes it.
	if at.End = min(at.End, UserEnd); at.Empty() {
		return
	}
	window := t.mappings.Widen(at)
	for {
		grown, err := t.find(window)
		if err != nil {
			t.Refresh(w)
			return
		}
		if grown == window {
			break
		}
		window = t.mappings.Widen(grown)
	}
	t.update(window, t.found, w)
}

// find puts the kernel's mappings in a window into t.found. It returns the window
// widened to the ends of those that reach beyond it.
func (t *Table) find(window addr.Range) (grown addr.Range, err error) {
	t.found = t.found[:0]
	grown = window
	for a := window.Start; a < window.End; {
		v, ok, err := t.query(a)
		if err != nil {
			return grown, err
		}
		if !ok || v.Start >= window.End {
			break
		}
		grown = grown.Union(v.Range)
		t.found = append(t.found, v)
		a = v.End
	}
	return grown, nil
}

// Refresh brings the whole table up to date.
func (t *Table) Refresh(w Watcher) {
	if t.kernel == nil {
		return
	}
	text, err := t.kernel.MapsText()
	if err != nil || len(text) == 0 {
		return // gone: its end will be told
	}
	if bytes.Equal(text, t.text) && !t.changed {
		return
	}
	t.found, err = procfs.ParseMaps(t.found[:0], text)
	if err != nil {
		return
	}
	t.update(everywhere, t.found, w)
	t.text, t.changed = append(t.text[:0], text...), false
}

// update puts what the kernel has in a window into the table, and tells w of the
// difference.
func (t *Table) update(window addr.Range, now []vma.VMA, w Watcher) {
	for i := range now {
		if now[i].Kind == vma.AnonPrivate && slices.ContainsFunc(t.stacks, now[i].Contains) {
			now[i].Kind = vma.ThreadStack
		}
	}
	if edits := t.mappings.Update(window, now); len(edits) > 0 {
		t.changed = true
		tell(t.mm, edits, w)
	}
}

// tell tells w how a table has changed.
func tell(mm uint32, edits []vma.Edit, w Watcher) {
	for _, e := range edits {
		if e.Del {
			w.Change(&format.VMADel{MM: mm, Range: e.VMA.Range})
		} else {
			w.Change(&format.VMASet{MM: mm, VMA: e.VMA})
		}
	}
}

// clear takes out of the table what a call has unmapped to make room. The
// kernel's may look as before, if the same is mapped there again.
func (t *Table) clear(at addr.Range, w Watcher) {
	t.wipe.Remove(at)
	for range t.mappings.Overlapping(at) {
		t.mappings.Remove(at)
		t.changed = true
		w.Change(&format.VMADel{MM: t.mm, Range: at})
		return
	}
}

// mapped is the part of a range that has mappings.
func (t *Table) mapped(at addr.Range) (parts addr.Set) {
	for v := range t.mappings.Overlapping(at) {
		parts.Add(v.Intersect(at))
	}
	return parts
}

// Grows reports whether there are mappings that grow by themselves beside the main stack.
func (t *Table) Grows() bool { return len(t.grow) > 1 }

// Grow looks whether a mapping has grown without a call, as stacks do: the main
// one, and those that the program has mapped with MAP_GROWSDOWN.
func (t *Table) Grow(w Watcher) {
	for i := 0; i < len(t.grow); i++ {
		a := t.grow[i]
		if _, there := t.mappings.Find(a); !there && i > 0 { // it has been unmapped
			t.grow = slices.Delete(t.grow, i, i+1)
			i--
			continue
		}
		now, ok, err := t.query(a)
		if err != nil || !ok {
			if errors.Is(err, errors.ErrUnsupported) {
				t.Refresh(w)
			}
			return
		}
		if old, ok := t.mappings.Find(a); ok && old.Start != now.Start && now.Contains(a) {
			t.Ask(now.Range, w)
		}
	}
}

// stackTop is how far below the end of its mapping a thread's stack begins at most: what the
// C library keeps of a thread is above it. Go takes stacks from the middle of its heap.
const stackTop = 64 << 10

// MarkStack notes the mapping that a new thread has its stack in: /proc does not
// tell it from others. stack is where the stack begins, 0 if the thread was not
// given one.
func (t *Table) MarkStack(stack addr.Addr, w Watcher) {
	if stack == 0 {
		return
	}
	first := stack - 1
	v, ok := t.mappings.Find(first)
	if !ok || v.Kind != vma.AnonPrivate && v.Kind != vma.ThreadStack || v.End-first > stackTop {
		return
	}
	// The addresses of stacks whose mapping is gone are of no use.
	t.stacks = slices.DeleteFunc(t.stacks, func(s addr.Addr) bool {
		o, ok := t.mappings.Find(s)
		return !ok || o.Kind != vma.ThreadStack || o.Range == v.Range
	})
	t.stacks = append(t.stacks, first)
	if v.Kind == vma.AnonPrivate {
		v.Kind = vma.ThreadStack
		t.mappings.Insert(v)
		w.Change(&format.VMASet{MM: t.mm, VMA: v})
	}
}
