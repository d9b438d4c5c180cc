//go:build linux

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"memtrace/replay"
)

var seekLog = flag.String("seek.log", "", "a log that the benchmark of seeks in format left")

// BenchmarkReplayAt runs the whole command at random steps.
func BenchmarkReplayAt(b *testing.B) {
	if *seekLog == "" {
		b.Skip("-seek.log names no log")
	}
	tr, err := replay.Open(*seekLog, nil)
	if err != nil {
		b.Fatal(err)
	}
	last, _ := tr.Last()
	tr.Close()
	bin := filepath.Join(lab(), "memtrace")
	for _, args := range [][]string{{"version"}, {"--maps"}, {"--mem"}} {
		b.Run(args[0], func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			var took, cpu []time.Duration
			for b.Loop() {
				argv := args
				if args[0] != "version" {
					// The generated log has the first pages of its heaps from early on.
					at := 0x550000000000 + rng.Uint64N(512)<<12
					argv = []string{"replay", "--at", fmt.Sprint(uint64(last)/10 + rng.Uint64N(uint64(last)/10*9)), args[0], *seekLog}
					if args[0] == "--mem" {
						argv = slices.Insert(argv, 4, fmt.Sprintf("%#x:64", at))
					}
				}
				cmd := exec.Command(bin, argv...)
				start := time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatalf("memtrace %q: %v", argv, err)
				}
				took = append(took, time.Since(start))
				cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			}
			slices.Sort(took)
			slices.Sort(cpu)
			ms := func(d []time.Duration, q int) float64 { return float64(d[(len(d)-1)*q/100].Microseconds()) / 1000 }
			b.ReportMetric(ms(took, 50), "p50-ms")
			b.ReportMetric(ms(took, 99), "p99-ms")
			b.ReportMetric(ms(took, 100), "max-ms")
			b.ReportMetric(ms(cpu, 50), "p50-cpu-ms")
			b.ReportMetric(ms(cpu, 99), "p99-cpu-ms")
		})
	}
}
