package analyze

import (
	"context"
	"testing"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// TestInfoInside looks whether info counts the calls that were recorded inside, and gives each
// process its reasons for stops. A log that never had to do with it says nothing of it.
func TestInfoInside(t *testing.T) {
	none, err := Info(context.Background(), replay.New(rt.Open(t, rt.Log(t))), "log", false)
	if err != nil {
		t.Fatal(err)
	}
	if none.InsideShare != nil || none.Inside != nil {
		t.Errorf("a log by stops has %+v", none.Inside)
	}
	b := rt.New(t)
	b.Event(1, &format.Exec{Path: "/bin/one"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0))
	call := func(thread uint32, inside bool) {
		b.Event(thread, &format.Syscall{Arch: arch.X86_64, Nr: 39, Returned: true, Inside: inside, Enter: b.Now()})
	}
	for range 3 {
		call(1, true)
	}
	for no := uint32(2); no <= 4; no++ {
		b.Event(1, &format.Clone{Child: no, Flags: 17}, &format.MMNew{MM: no, From: 1}, rt.Thread(no, 99+no, 99+no, no, no, 1))
		call(no, no == 4)
	}
	b.Event(2, &format.Outside{Until: format.UntilEnd, Why: "because"})
	b.Event(3, &format.Outside{Until: format.UntilOver, Why: "because"})
	b.Event(3, &format.Outside{Until: format.UntilOver, Why: "because"})
	call(1, false)
	r, err := Info(context.Background(), replay.New(rt.Open(t, b.Bytes())), "log", false)
	if err != nil {
		t.Fatal(err)
	}
	want := []InsideRow{
		{Process: "100 and 1 more", Program: "one", Calls: 5, Inside: 4, Share: 80},
		{Process: "101 and 1 more", Program: "one", Calls: 2, Why: "because"},
	}
	if len(r.Inside) != len(want) || r.Inside[0] != want[0] || r.Inside[1] != want[1] {
		t.Errorf("%+v, not %+v", r.Inside, want)
	}
	if r.InsideShare == nil || *r.InsideShare < 57 || *r.InsideShare > 58 {
		t.Errorf("share %v", r.InsideShare)
	}
}
