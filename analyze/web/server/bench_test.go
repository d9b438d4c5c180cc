package server

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"memtrace/analyze/web"
	"memtrace/format"
	"memtrace/replay"
)

var seekLog = flag.String("seek.log", "", "a log that the benchmark of seeks in format left")

// BenchmarkPrompt asks prompt questions at random places of a large log: first while its
// summary is being made, then when it is there.
func BenchmarkPrompt(b *testing.B) {
	if *seekLog == "" {
		b.Skip("-seek.log names no log")
	}
	t, err := replay.Open(*seekLog, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	l := web.New(t, "")
	defer l.Close()
	s := New([]*web.Log{l}, Options{Page: fstest.MapFS{}, Hosts: func(string) bool { return true }, Log: log.New(io.Discard, "", 0)})
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	made := make(chan error, 1)
	begin := time.Now()
	go func() { made <- l.Prepare(ctx) }()
	ask(b, s, t.Steps(), "preparing")
	if err := <-made; err != nil {
		b.Fatal(err)
	}
	b.Logf("the summary took %v, with questions", time.Since(begin).Round(time.Millisecond))
	ask(b, s, t.Steps(), "ready")
	b.Logf("resident: %s", resident())
}

func resident() string {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return "not known"
}

func ask(b *testing.B, s *Server, steps format.Step, when string) {
	for _, q := range []string{
		"info", "series?by=kind", "series?by=mapped", "series?by=rss", "lanes", "series?by=mapped&from=A&to=B", "lanes?from=A&to=B", "events?at=A",
		"events?at=A&filter=failed", "maps?at=A", "mem?at=A&addr=0x550000010000&len=4096", "threads?at=A", "resolve?q=A&at=A",
	} {
		b.Run(when+"/"+q, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			var took []time.Duration
			for b.Loop() {
				from := rng.Uint64N(uint64(steps))
				to := min(from+rng.Uint64N(uint64(steps)/2), uint64(steps)-1)
				path := strings.NewReplacer("A", strconv.FormatUint(from, 10), "B", strconv.FormatUint(to, 10)).Replace(q)
				r := httptest.NewRequest("GET", "/api/"+path, nil)
				r.Header.Set("Authorization", "Bearer "+s.Token())
				w := httptest.NewRecorder()
				start := time.Now()
				s.ServeHTTP(w, r)
				took = append(took, time.Since(start))
				if w.Code != http.StatusOK {
					b.Fatal(path, w.Code, w.Body)
				}
			}
			slices.Sort(took)
			for _, p := range []int{50, 99, 100} {
				b.ReportMetric(float64(took[(len(took)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}
