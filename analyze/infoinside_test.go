package analyze

import (
	"context"
	"strings"
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

// TestSummaryInside looks at the line of the first screen on calls that were recorded inside the programs, of
// the whole log, of a part and of a process.
func TestSummaryInside(t *testing.T) {
	log := func(f func(call func(thread uint32, inside bool), b *rt.Builder)) *replay.Trace {
		b := rt.New(t)
		b.Event(1, &format.Exec{Path: "/bin/one"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0))
		f(func(thread uint32, inside bool) {
			b.Event(thread, &format.Syscall{Arch: arch.X86_64, Nr: 39, Returned: true, Inside: inside, Enter: b.Now()})
		}, b)
		return replay.New(rt.Open(t, b.Bytes()))
	}
	type calls = func(thread uint32, inside bool)
	two := log(func(call calls, b *rt.Builder) {
		b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, rt.Thread(2, 101, 101, 2, 2, 1))
		b.Event(2, &format.Outside{Until: format.UntilEnd, Why: "it has a filter"})
		b.Event(1, &format.Outside{Until: format.UntilOver, Why: "a snapshot"})
		for range 30 {
			call(2, false)
			call(1, true)
			call(1, true)
		}
		call(1, false)
	})
	for _, c := range []struct {
		tr   *replay.Trace
		o    Options
		want string
	}{
		{replay.New(rt.Open(t, rt.Log(t))), Options{}, ""},
		{log(func(call calls, b *rt.Builder) { call(1, true); call(1, true) }), Options{}, "all calls"},
		{log(func(call calls, b *rt.Builder) { call(1, true); call(1, false) }), Options{}, "50 % of the calls, the others by stops (memtrace info)"},
		{log(func(call calls, b *rt.Builder) {
			for range 200 {
				call(1, false)
			}
			call(1, true)
		}), Options{}, "less than 1 % of the calls, the others by stops (memtrace info)"},
		{log(func(call calls, b *rt.Builder) {
			b.Event(0, &format.Outside{Until: format.UntilOver, Why: "of --snapshot"})
			call(1, false)
		}), Options{}, "no call (memtrace info); by stops: of --snapshot"},
		{two, Options{}, "65 % of the calls (memtrace info); by stops: it has a filter, and 1 more"},
		{two, Options{PID: 101}, "no call (memtrace info); by stops: it has a filter"},
		{two, Options{From: 10}, "65 % of the calls, the others by stops (memtrace info)"}, // the reasons came before
	} {
		c.o.To, _ = c.tr.Last()
		r, err := Summary(context.Background(), c.tr, c.o)
		if err != nil {
			t.Fatal(err)
		}
		shown := "" // on one line, or two
		for _, l := range r.screen() {
			if strings.HasPrefix(l, "inside    ") || shown != "" && strings.HasPrefix(l, "          ") {
				shown += l[9:]
			} else if shown != "" {
				break
			}
		}
		shown = strings.TrimPrefix(shown, " ")
		if r.Inside != c.want || shown != c.want {
			t.Errorf("%+v: %q, %q on the screen, want %q", c.o, r.Inside, shown, c.want)
		}
	}
}
