package parquet

import (
	"context"
	"flag"
	"strings"
	"testing"

	"memtrace/replay"
)

var benchLog = flag.String("lake.log", "", "the log that BenchmarkExport exports; format's BenchmarkSeek makes a long one (-seek.log)")

// BenchmarkExport exports a log, all of its tables or some.
func BenchmarkExport(b *testing.B) {
	if *benchLog == "" {
		b.Skip("no -lake.log")
	}
	for name, tables := range map[string][]string{
		"all": Tables, "calls": {"calls"}, "withoutEvents": strings.Split("processes,calls,mappings,snapshots,samples,stacks,frames,refs,runs", ","), "events": {"events"},
	} {
		b.Run(name, func(b *testing.B) {
			steps := 0.0
			for b.Loop() {
				t, err := replay.Open(*benchLog, nil)
				if err != nil {
					b.Fatal(err)
				}
				if err := Export(context.Background(), t, b.TempDir(), Options{Tables: tables, Run: "r"}); err != nil {
					b.Fatal(err)
				}
				steps += float64(t.Steps())
				t.Close()
			}
			b.ReportMetric(steps/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}
