package replay_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/replay"
)

var seekLog = flag.String("seek.log", "", "a log that the benchmark of seeks in format left")

// BenchmarkCursor goes on, and back, from random steps: 10000 steps each time.
func BenchmarkCursor(b *testing.B) {
	if *seekLog == "" {
		b.Skip("-seek.log names no log")
	}
	tr, err := replay.Open(*seekLog, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	const steps = 10_000
	for _, bench := range []struct {
		name string
		move func(*replay.Cursor) (*format.Event, error)
	}{{"next", (*replay.Cursor).Next}, {"prev", (*replay.Cursor).Prev}} {
		b.Run(bench.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				c := tr.Cursor()
				if err := c.Seek(steps + format.Step(rng.Uint64N(uint64(tr.Steps())-2*steps))); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				for range steps {
					start := time.Now()
					if _, err := bench.move(c); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(start))
				}
				c.Close()
			}
			slices.Sort(took)
			q := func(per1000 int) float64 { return float64(took[(len(took)-1)*per1000/1000].Nanoseconds()) }
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(took)), "ns/step")
			b.ReportMetric(q(500), "p50-ns")
			b.ReportMetric(q(990), "p99-ns")
			b.ReportMetric(q(1000), "max-ns")
		})
	}
}
