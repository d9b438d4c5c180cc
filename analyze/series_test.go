package analyze_test

import (
	"context"
	"fmt"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// TestOneResidentMemory: the summary has the resident memory that the timeline has. Pages that
// forks share count once, and those of a process that has ended no more.
func TestOneResidentMemory(t *testing.T) {
	b := New(t)
	b.Event(1, &format.Exec{Path: "/bin/prog"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 4, 5, "/bin/prog"))
	b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, Thread(2, 101, 101, 2, 2, 1))
	sample := func(thread uint32, pids ...uint32) {
		r := &format.MemInfo{}
		for _, pid := range pids {
			r.Samples = append(r.Samples,
				format.Sample{Source: "status", PID: pid, Data: fmt.Appendf(nil, "VmRSS:\t12000 kB\nRssAnon:\t10000 kB\nRssFile:\t2000 kB\n")},
				format.Sample{Source: "smaps_rollup", PID: pid, Data: fmt.Appendf(nil, "Rss: 12000 kB\nAnonymous: 10000 kB\nPss_Anon: 5000 kB\n")})
		}
		b.Event(thread, r)
	}
	sample(0, 100, 101)
	sample(2, 101) // its end
	sample(0, 100)
	tr := replay.New(Open(t, b.Bytes()))
	last, _ := tr.Last()
	o := analyze.Options{To: last}
	sum, err := analyze.Summary(context.Background(), tr, o)
	if err != nil {
		t.Fatal(err)
	}
	line, err := analyze.Timeline(context.Background(), tr, o)
	if err != nil {
		t.Fatal(err)
	}
	var want []analyze.RSSPoint
	for _, r := range line.Rows {
		want = append(want, analyze.RSSPoint{Time: r.Time, RSS: *r.RSS})
	}
	if fmt.Sprint(sum.RSS) != fmt.Sprint(want) || want[0].RSS != 14000<<10 || want[2].RSS > 12000<<10 {
		t.Errorf("%v, want %v", sum.RSS, want)
	}
}
