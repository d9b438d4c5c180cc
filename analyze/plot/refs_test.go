package plot

import (
	"bytes"
	"context"
	"image/png"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// TestDrawRefs draws the reports of page references.
func TestDrawRefs(t *testing.T) {
	tr := replay.New(replaytest.Open(t, replaytest.RefLog(t)))
	last, _ := tr.Last()
	for name, want := range map[string]string{
		"memory-curve": "misses", "what-if": "faults a second", "working-set": "within 10.0 ms", "hot": "[heap]", "phases": "[heap]",
	} {
		r, err := analyze.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		charts, err := r.Charts(context.Background(), tr, analyze.Options{To: last, Memory: 12 * 4096})
		if err != nil {
			t.Fatal(err)
		}
		var svg, img bytes.Buffer
		if err := Draw(&svg, "x.svg", charts); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the SVG of %s has no %q", name, want)
		}
		if err := Draw(&img, "x.png", charts); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := png.Decode(&img); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Little to draw.
	for _, h := range []*analyze.Heat{{}, {Cells: [][]float64{{3}}, Width: 1}, {Cells: [][]float64{{}, {}}, Width: 1}} {
		if err := Draw(new(bytes.Buffer), "x.png", []analyze.Chart{{Title: "t", Heat: h}}); err != nil {
			t.Error(err)
		}
	}
}
