package export

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"memtrace/format/arch"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// streams are the formats that are lists of events.
var streams = []string{"jsonl", "csv"}

func stream(t testing.TB, tr *replay.Trace, name string, w io.Writer) {
	t.Helper()
	form, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	last, _ := tr.Last()
	if _, err := form.Write(context.Background(), tr, w, Options{To: last, Set: arch.AllCalls(), AllCalls: true}); err != nil {
		t.Fatal(err)
	}
}

// TestStreams writes logs with every kind of record as JSON lines and as CSV.
func TestStreams(t *testing.T) {
	traces := map[string]*replay.Trace{"every": open(t, replaytest.Every(t))}
	for _, name := range []string{"everything", "keyframes", "written", "confirm"} {
		tr, err := replay.Open(filepath.Join("..", "..", "testdata", "traces", "v1", name+".mtl"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		traces[name] = tr
	}
	for name, tr := range traces {
		for _, s := range streams {
			var b bytes.Buffer
			stream(t, tr, s, &b)
			file := filepath.Join("testdata", name+"."+s)
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s differs: go test -update after a look; got\n%s", file, b.Bytes())
			}
		}
	}
}

// BenchmarkStreams writes a log of calls as JSON lines and as CSV.
func BenchmarkStreams(b *testing.B) {
	log := replaytest.New(b)
	for range 20_000 {
		log.Call(1, "openat", -2, []uint64{0xffffff9c, 0x1000, 0, 0})
		log.Call(1, "read", 100, []uint64{3, 0x2000, 100})
		log.Call(1, "mmap", 0x7f0000000000, []uint64{0, 4096, 3, 0x22, ^uint64(0), 0})
	}
	tr := replay.New(replaytest.Open(b, log.Bytes()))
	for _, s := range streams {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				stream(b, tr, s, io.Discard)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(tr.Steps()), "ns/event")
		})
	}
}
