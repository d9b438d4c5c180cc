//go:build linux

package dirty

import (
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
)

func watched(t *testing.T, vs ...vma.VMA) (*Uffd, *dirtytest.Memory) {
	t.Helper()
	m := memory(t, vs...)
	u := NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings())
	for _, v := range vs {
		if m.Watched(v.Range) != Trackable(v) {
			t.Fatalf("%v: watched %v", v.Kind, m.Watched(v.Range))
		}
	}
	return u, m
}

func TestUffdMapped(t *testing.T) {
	u, m := watched(t, mapping(0, 4, vma.AnonPrivate), mapping(8, 9, vma.VDSO))
	u.Mapped(addr.Range{})
	m.Map(mapping(4, 8, vma.Heap))
	u.Mapped(pages(4, 8))
	if !m.Watched(pages(0, 8)) {
		t.Error("what was mapped is not watched")
	}
	// With something among it that cannot be watched: all the others.
	m.Map(mapping(9, 12, vma.Heap))
	m.Map(mapping(14, 16, vma.Heap))
	u.Mapped(addr.Range{End: 1 << 63})
	if !m.Watched(pages(9, 12)) || !m.Watched(pages(14, 16)) || m.Watched(pages(8, 9)) {
		t.Error("some of what was mapped is not watched")
	}
}

// TestUffdMissed: what could not be watched is not covered, until it can be.
func TestUffdMissed(t *testing.T) {
	u, m := watched(t, mapping(0, 4, vma.AnonPrivate))
	strange := mapping(4, 8, vma.AnonPrivate)
	m.Foreign.Add(strange.Range)
	m.Map(strange)
	u.Mapped(strange.Range)
	if u.Covers(strange) || u.Rewatch(strange.Range) || !u.Covers(mapping(0, 4, vma.AnonPrivate)) {
		t.Error("a mapping that another userfaultfd has")
	}
	m.Foreign.Clear()
	u.Whole(pages(5, 6))
	if !u.Covers(strange) || !m.Watched(strange.Range) {
		t.Error("it is not watched when the other one is gone")
	}
	m.Foreign.Add(pages(0, 4))
	m.Unwatch(pages(0, 4))
	if u.Rewatch(pages(0, 4)) || u.Covers(mapping(0, 4, vma.AnonPrivate)) {
		t.Error("a mapping that left the watch and cannot be watched again is covered")
	}
	m.Foreign.Clear()
	for i := range 4 {
		m.Write(page(i), 1, false)
	}
	u.Whole(pages(0, 4))
	scanned(t, u, pages(0, 4), true, true)
	m.Unwatch(pages(0, 4))
	m.Write(page(1), 2, false)
	if !u.Rewatch(pages(0, 4)) || !u.Covers(mapping(0, 4, vma.AnonPrivate)) {
		t.Error("it can be watched again")
	}
	if got, _ := scanned(t, u, pages(0, 4), true, true); !slices.Equal(got, list(0, 4, 1)) {
		t.Errorf("written, perhaps: %v", got)
	}
}

// TestUffdWhole: mappings are watched whole, where the kernel tells what they are.
func TestUffdWhole(t *testing.T) {
	u, m := watched(t, mapping(0, 4, vma.AnonPrivate), mapping(6, 9, vma.Heap))
	m.Unwatch(pages(0, 9))
	u.Whole(pages(3, 7))
	if !m.Watched(pages(0, 4)) || !m.Watched(pages(6, 9)) {
		t.Error("the mappings are not watched whole")
	}
	m.Unwatch(pages(0, 9))
	m.Old = true
	u.Whole(pages(3, 7))
	if !m.Watched(pages(3, 4)) || !m.Watched(pages(6, 7)) || m.Watched(pages(0, 1)) {
		t.Error("where the kernel cannot be asked for a mapping, the range is watched")
	}
	other := memory(t, mapping(0, 9, vma.Heap))
	u.SetKernel(other)
	u.Whole(pages(3, 4))
	if !m.Watched(pages(6, 9)) {
		t.Error("the new kernel was not asked")
	}
}

// TestUffdMoved: where mremap makes one of what it moves and what is there, nothing that
// was written in between is missed.
func TestUffdMoved(t *testing.T) {
	u, m := watched(t, mapping(0, 4, vma.AnonPrivate), mapping(8, 12, vma.AnonPrivate))
	for i := range 12 {
		m.Write(page(i), 1, false)
	}
	scanned(t, u, pages(0, 4), true, true)
	scanned(t, u, pages(8, 12), true, true)
	m.Move(pages(0, 4), page(4))
	one := mapping(4, 12, vma.AnonPrivate)
	m.Mappings().Insert(one)
	m.Unwatch(one.Range)
	m.Write(page(9), 2, false)
	u.Moved(pages(4, 8))
	if !m.Watched(one.Range) || !u.Covers(one) {
		t.Fatal("it is not watched")
	}
	if got, _ := scanned(t, u, one.Range, true, true); !slices.Equal(got, list(4, 12, 1)) {
		t.Errorf("written: %v", got)
	}
	// A mapping that is as large as what was moved needs no more than to be watched.
	m.Move(one.Range, page(20))
	m.Write(page(21), 3, false)
	u.Moved(pages(20, 28))
	if got, _ := scanned(t, u, pages(20, 28), true, true); !slices.Equal(got, list(20, 28, 1)) {
		t.Errorf("written: %v", got)
	}
	if got, _ := scanned(t, u, pages(20, 28), true, true); len(got) > 0 {
		t.Errorf("written again: %v", got)
	}
}

func TestUffdApart(t *testing.T) {
	for _, c := range []struct {
		name string
		at   addr.Range
		vs   []vma.VMA
		free bool
	}{
		{"one", pages(0, 4), []vma.VMA{mapping(0, 4, vma.AnonPrivate)}, false},
		{"part of one", pages(1, 2), []vma.VMA{mapping(0, 4, vma.AnonPrivate)}, false},
		{"two", pages(0, 6), []vma.VMA{mapping(0, 4, vma.AnonPrivate), mapping(4, 8, vma.Heap)}, true},
		{"with a hole behind it", pages(0, 6), []vma.VMA{mapping(0, 4, vma.AnonPrivate)}, true},
	} {
		u, m := watched(t, c.vs...)
		u.Apart(c.at, m.Mappings())
		for _, v := range c.vs {
			if m.Watched(v.Range) == c.free {
				t.Errorf("%s: %v is watched: %v", c.name, v.Range, !c.free)
			}
		}
	}
}

func TestUffdRewritten(t *testing.T) {
	u, m := watched(t, mapping(0, 8, vma.AnonPrivate))
	for i := range 8 {
		m.Write(page(i), 1, false)
	}
	scanned(t, u, pages(0, 8), true, true)
	m.Write(page(2), 2, false)
	m.Write(page(3), 2, false)
	m.Write(page(6), 2, false)
	for range 2 {
		var got addr.Set
		if err := u.Rewritten(pages(0, 7), got.Add); err != nil {
			t.Fatal(err)
		}
		if rs := slices.Collect(got.All()); !slices.Equal(rs, []addr.Range{pages(2, 4), pages(6, 7)}) {
			t.Errorf("written again: %v", rs)
		}
	}
	m.Ended = true
	if u.Rewritten(pages(0, 7), func(addr.Range) {}) == nil {
		t.Error("no error of a process that has ended")
	}
	u.Close()
	if m.Watched(pages(0, 1)) {
		t.Error("it is still watched")
	}
	var got addr.Set
	for _, f := range []Finder{NewCompare(m), new(SoftDirty)} {
		if err := f.Rewritten(pages(0, 7), got.Add); err != nil || got.Len() != pages(0, 7).Len() || f.Live() {
			t.Errorf("%v: %v %v", f.Name(), got, err)
		}
		got.Clear()
	}
}
