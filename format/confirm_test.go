package format

import (
	"testing"

	"memtrace/format/addr"
)

// confirmed is a log in which a page is captured, and later found not to have
// been written.
func confirmed() []Event {
	page := make([]byte, addr.PageSize)
	page[7] = 7
	return []Event{
		{Time: 1, Thread: 1, Record: &Exec{Path: "/bin/x"}, Changes: []Change{
			&MMNew{MM: 1}, &ThreadSet{Thread: Thread{No: 1, TID: 7, TGID: 7, NSTID: 7, Proc: 1, MM: 1}},
			&Pages{MM: 1, Addr: 0x1000, N: 1, What: PageData, Data: page},
			&Pages{MM: 1, Addr: 0x5000, N: 1, What: PageAbsent},
		}},
		{Time: 2, Thread: 1, Record: &Stop{What: Continued}},
		{Time: 3, Thread: 1, Record: &Snapshot{MM: 1, Reason: "interval"}, Changes: []Change{&Confirm{MM: 1}}},
		{Time: 4, Thread: 1, Record: &Stop{What: Continued}},
		{Time: 5, Thread: 1, Record: &Snapshot{MM: 1, Reason: "interval"}, Changes: []Change{
			&Pages{MM: 1, Addr: 0x2000, N: 1, What: PageZero},
		}},
	}
}

func TestConfirm(t *testing.T) {
	for _, epoch := range []Step{0, 1} { // without and with keyframes between
		r := openLog(t, writeLog(t, confirmed(), &WriterOptions{GroupSteps: 1, epoch: epoch}, 0))
		for _, want := range []struct {
			at   Step
			page addr.Addr
			asOf Step
		}{{0, 0x1000, 0}, {1, 0x1000, 0}, {2, 0x1000, 2}, {3, 0x1000, 2}, {4, 0x1000, 2}, {4, 0x2000, 4}, {4, 0x5000, 0}} {
			s, err := r.StateAt(want.at)
			if err != nil {
				t.Fatal(err)
			}
			p, ok := s.MMs[1].Page(want.page)
			if !ok || p.AsOf != want.asOf {
				t.Errorf("epoch %d: page %v at step %d is as of step %d (%v), want %d", epoch, want.page, want.at, p.AsOf, ok, want.asOf)
			}
		}
	}
}
