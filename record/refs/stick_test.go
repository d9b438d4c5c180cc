package refs

import (
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// TestStick has a call be given a buffer all the time of which it uses one page: the others
// stay open from the next phase on, as held, until no call is given them any more.
func TestStick(t *testing.T) {
	s := New(page, 64)
	s.Trace(at(0, 48))
	idle := func() (closed addr.Set) {
		closed = s.Hold("t", at(3, 6))
		s.Release("t", []addr.Range{at(3, 4)})
		return closed
	}
	for n := 0; !s.Churns(); n++ {
		if closed := idle(); n > 0 && !equal(closed, addr.SetOf(at(4, 6))) {
			t.Fatalf("call %d: closed %v", n, closed)
		} else if n > 1000 {
			t.Fatal("it goes on like that")
		}
	}
	if open := s.Stick(); !equal(open, addr.SetOf(at(4, 6))) {
		t.Errorf("to be opened: %v", open)
	}
	if held := s.Flush(); !slices.Equal(slices.Sorted(slices.Values(held)), []addr.Addr{4 * page, 5 * page}) {
		t.Errorf("held: %v", held)
	}
	none, _ := vma.NewSet(nil)
	if runs := s.ToClose(none); !slices.Equal(runs, []addr.Range{at(0, 4), at(6, 48)}) {
		t.Errorf("to be closed: %v", runs)
	}
	idle()
	for range 1000 {
		if closed := idle(); closed.Count() > 0 || s.Churns() {
			t.Fatalf("closed: %v", closed)
		}
	}
	s.Stick()
	if held := s.Flush(); len(held) != 2 {
		t.Errorf("held in the next phase: %v", held)
	}
	s.Stick()
	if held := s.Flush(); len(held) != 0 {
		t.Errorf("held when no call was given it: %v", held)
	}
	if s.Opened(4 * page) {
		t.Error("it stays open")
	}
	s.Forget(at(4, 5))
}
