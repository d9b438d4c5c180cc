//go:build linux

package record

import (
	"errors"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/arch"
)

func absent(mm uint32, from, n int) *format.Pages {
	return &format.Pages{MM: mm, Addr: page(from), N: uint64(n), What: format.PageAbsent}
}

// TestJournal: the log has all changes in the order in which they were collected, and
// those before pages as soon as the pages.
func TestJournal(t *testing.T) {
	l := newTape(t)
	j := journal{log: l}
	v := anon(1, 9)
	j.change(&format.MMNew{MM: 1})
	j.change(&format.VMASet{MM: 1, VMA: v})
	if len(l.told) != 0 {
		t.Fatalf("the log has %v before there is an event", l.told)
	}
	j.pages(absent(1, 1, 2))
	j.change(&format.ThreadSet{Thread: format.Thread{No: 1, TID: 5, TGID: 5, Proc: 1, MM: 1, Arch: arch.X86_64}})
	j.pages(absent(1, 4, 1))
	j.change(&format.Confirm{MM: 1})
	e := &format.Event{Thread: 1, Record: &format.Lost{What: "x"}}
	if !j.write(e) {
		t.Fatal(j.err)
	}
	want := []string{"MMNew", "VMASet", "Pages", "ThreadSet", "Pages", "Lost"}
	if !slices.Equal(l.told, want) {
		t.Errorf("the log was told %v, not %v", l.told, want)
	}
	if got := names(l.events[0].Changes); !slices.Equal(got, []string{"Confirm"}) {
		t.Errorf("with the event came %v", got)
	}
	// Who observes the event sees what was collected, given or not.
	if got := names(e.Changes); !slices.Equal(got, []string{"MMNew", "VMASet", "ThreadSet", "Confirm"}) {
		t.Errorf("the event has %v", got)
	}
	if j.next != 1 || j.events() != 1 {
		t.Errorf("next is %d, of %d events", j.next, j.events())
	}
	j.change(&format.ThreadEnd{No: 1})
	j.write(&format.Event{Record: &format.Lost{What: "y"}})
	if got := names(l.events[1].Changes); !slices.Equal(got, []string{"ThreadEnd"}) || j.next != 2 {
		t.Errorf("the second event has %v", got)
	}
	r := l.verified(t)
	s, err := r.StateAt(0)
	if err != nil {
		t.Fatal(err)
	}
	if m := s.MMs[1]; m == nil || s.Threads[1] == nil || len(slices.Collect(m.VMAs.All())) != 1 {
		t.Errorf("state: %+v", s)
	}
}

// TestJournalError: nothing is written after an error, and the error is the first.
func TestJournalError(t *testing.T) {
	full, other := errors.New("disk full"), errors.New("other")
	for name, first := range map[string]func(*journal) bool{
		"pages": func(j *journal) bool { j.pages(absent(1, 1, 1)); return false },
		"event": func(j *journal) bool { return j.write(&format.Event{Record: &format.Lost{}}) },
		"flush": func(j *journal) bool { return j.flush() == nil },
	} {
		l := newTape(t)
		j := journal{log: l}
		l.fail = full
		if first(&j) {
			t.Errorf("%s: no error", name)
		}
		l.fail, l.told = other, nil
		j.change(&format.MMNew{MM: 1})
		j.pages(absent(1, 1, 1))
		if j.write(&format.Event{Record: &format.Lost{}}) || !errors.Is(j.flush(), full) || !errors.Is(j.err, full) {
			t.Errorf("%s: the error is %v", name, j.err)
		}
		if len(l.told) > 0 {
			t.Errorf("%s: the log was told %v", name, l.told)
		}
		if len(j.changes) > 0 || j.given != 0 {
			t.Errorf("%s: %d changes are kept, %d of them given", name, len(j.changes), j.given)
		}
	}
}

// TestJournalDrop: changes to which no event has come are forgotten, also where pages
// after them have made the log take some.
func TestJournalDrop(t *testing.T) {
	l := newTape(t)
	j := journal{log: l}
	j.change(&format.MMNew{MM: 1})
	j.write(&format.Event{Record: &format.Lost{}})
	j.change(&format.VMASet{MM: 1, VMA: anon(1, 9)})
	j.pages(absent(1, 1, 1))
	j.change(&format.MMNew{MM: 2})
	j.drop()
	if !j.write(&format.Event{Record: &format.Lost{}}) || len(l.events[1].Changes) != 0 {
		t.Errorf("%v, %v", j.err, l.events[1].Changes)
	}
	r := l.verified(t)
	if s, err := r.StateAt(1); err != nil || s.MMs[2] != nil {
		t.Errorf("%v, %v", s, err)
	}
}

func TestAgo(t *testing.T) {
	if ago(5, 7) != 0 || ago(7, 5) != 2 || ago(0, 0) != 0 {
		t.Error(ago(5, 7), ago(7, 5), ago(0, 0))
	}
}
