//go:build linux

package dirty

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
)

var worth = Cost{Hold: time.Millisecond}

func TestFaultsBegin(t *testing.T) {
	tids := func() []int { return []int{1, 2} }
	for _, c := range []struct {
		name  string
		cost  Cost
		err   error
		begun bool
		again bool // is tried
	}{
		{"worth it", worth, nil, true, true},
		{"holds are short", Cost{Hold: 10 * time.Microsecond}, nil, false, true},
		{"much is written", Cost{Hold: time.Millisecond, Found: faultsFound + 1}, nil, false, true},
		{"threads waited", Cost{Hold: time.Millisecond, Waited: time.Millisecond}, nil, false, true},
		{"not allowed", worth, unix.EACCES, false, false},
		{"too many threads", worth, errors.New("too many"), false, true},
	} {
		w := &FaultWatch{Source: func(tids []int) (FaultSource, error) {
			if len(tids) != 2 {
				t.Errorf("watches %v", tids)
			}
			if c.err != nil {
				return nil, c.err
			}
			return new(dirtytest.Faults), nil
		}}
		if f := w.Begin(c.cost, tids); (f != nil) != c.begun {
			t.Errorf("%s: %v", c.name, f)
		}
		c.err = nil
		if f := w.Begin(worth, tids); (f != nil) != c.again {
			t.Errorf("%s, again: %v", c.name, f)
		}
	}
	notReady := &FaultWatch{Source: func([]int) (FaultSource, error) { return nil, nil }}
	if f := notReady.Begin(worth, tids); f != nil {
		t.Error("watched before the kernel was ready")
	}
}

// begun is a memory whose pages are armed, and its faults from then on.
func begun(t *testing.T) (*Uffd, *dirtytest.Memory, *dirtytest.Faults, *Faults) {
	t.Helper()
	u, m := watched(t, mapping(0, 100, vma.AnonPrivate))
	for i := range 100 {
		m.Write(page(i), 1, false)
	}
	source := &dirtytest.Faults{Memory: m}
	source.Take(nil)
	f := (&FaultWatch{Source: func([]int) (FaultSource, error) { return source, nil }}).Begin(worth, func() []int { return nil })
	scanned(t, u, pages(0, 100), true, true)
	return u, m, source, f
}

func TestFaultPages(t *testing.T) {
	none := func() []addr.Addr { return nil }
	_, m, _, f := begun(t)
	for _, i := range []int{3, 4, 9, 3} {
		m.Write(page(i), 2, false)
	}
	got, ok := f.Pages(func() []addr.Addr { return []addr.Addr{page(20) + 8} })
	if rs := slices.Collect(got.All()); !ok || !slices.Equal(rs, []addr.Range{pages(3, 5), pages(9, 10), pages(20, 21)}) {
		t.Errorf("%v %v", rs, ok)
	}

	_, m, _, f = begun(t)
	for i := range faultsMost + 1 {
		m.Write(page(i), 2, false)
	}
	if _, ok := f.Pages(none); ok {
		t.Error("so many that a walk is as fast")
	}
	_, _, source, f := begun(t)
	source.Lost = true
	if _, ok := f.Pages(none); ok {
		t.Error("some are missing")
	}
	_, _, source, f = begun(t)
	f.Forked()
	if _, ok := f.Pages(none); ok {
		t.Error("after a fork")
	}
	(*Faults)(nil).Forked()
	if f.Close(); !source.Closed {
		t.Error("not closed")
	}
}

// TestFaultsExplain: a page that was written without a fault is noticed, and after some
// times faults are not watched any more.
func TestFaultsExplain(t *testing.T) {
	u, m, _, f := begun(t)
	all := maps.Keys(map[vma.VMA]bool{mapping(0, 100, vma.AnonPrivate): true})
	hold := func() {
		if _, ok := f.Pages(func() []addr.Addr { return []addr.Addr{page(50)} }); !ok {
			t.Fatal("no pages")
		}
		scanned(t, u, pages(0, 100), true, true)
	}
	hold()
	m.Write(page(7), 3, false)
	m.Write(page(50), 3, true) // rseq
	if !f.Explain(u, all) {
		t.Error("all had a fault")
	}
	for i := range faultsDoubt {
		hold()
		m.Write(page(8), 3, false)
		m.Write(page(60), uint64(i), true)
		if f.watch.Begin(worth, func() []int { return nil }) == nil {
			t.Errorf("given up after %d times", i)
		}
		if f.Explain(u, all) {
			t.Error("a write without a fault was not noticed")
		}
	}
	if f.watch.Begin(worth, func() []int { return nil }) != nil {
		t.Error("not given up")
	}
	scanned(t, u, pages(0, 100), true, true)
	if !f.Explain(u, all) || f.watch.doubts != 0 {
		t.Error("nothing was written")
	}
	m.Ended = true
	if f.Explain(u, all) || f.watch.doubts != 0 {
		t.Error("a process that has ended")
	}
}
