package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"math"
	"regexp"
	"strings"
	"testing"

	"memtrace/analyze"
)

func TestDraw(t *testing.T) {
	charts := []analyze.Chart{
		{Title: "One", Lines: []analyze.Line{
			{Name: "RSS", Points: []analyze.Point{{T: 0, V: 1 << 20}, {T: 1, V: 9 << 20}}},
			{Name: "swap", Points: []analyze.Point{{T: 0}, {T: 1}}},
			{Name: "nothing"},
		}},
		{Title: "Empty"},
		{Title: "A point", Lines: []analyze.Line{{Name: "x", Points: []analyze.Point{{T: 0, V: 3}}}}},
	}
	var svg bytes.Buffer
	if err := Draw(&svg, "x.SVG", charts); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", ">One<", ">RSS<", ">8 MiB<", "prefers-color-scheme:dark", "sans-serif"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the SVG has no %q", want)
		}
	}
	if err := xml.Unmarshal(svg.Bytes(), new(struct{})); err != nil {
		t.Error(err)
	}
	var p bytes.Buffer
	if err := Draw(&p, "x.png", charts); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&p)
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() < 800 || b.Dy() < 900 {
		t.Errorf("the picture is %v", b)
	}
	if err := Draw(&p, "x.jpg", charts); !errors.Is(err, ErrFormat) {
		t.Errorf("x.jpg: got %v", err)
	}
}

// TestAligned: panels that share an axis have its lines above each other, to the pixel, and
// one row of numbers.
func TestAligned(t *testing.T) {
	line := func(v float64) []analyze.Line {
		return []analyze.Line{{Name: "x", Points: []analyze.Point{{T: 0, V: v}, {T: 3, V: v / 2}, {T: 4, V: v}}}}
	}
	charts := []analyze.Chart{
		{Title: "<b>&", Stack: line(1 << 20), Lines: line(1), Marks: []analyze.Mark{{T: 2, Name: "signals", Grave: true}, {T: 9, Name: "signals"}}},
		{Title: "Two", Small: true, Lines: line(900 << 30)},
	}
	var svg bytes.Buffer
	if err := Draw(&svg, "x.svg", charts); err != nil {
		t.Fatal(err)
	}
	columns := map[string]int{}
	for _, m := range regexp.MustCompile(`class="grid" points="([0-9.]+),[0-9.]+ ([0-9.]+),`).FindAllStringSubmatch(svg.String(), -1) {
		if m[1] == m[2] {
			columns[m[1]]++
		}
	}
	if len(columns) < 3 {
		t.Errorf("lines at %v", columns)
	}
	for x, n := range columns {
		if n != 2 {
			t.Errorf("%d lines at %s, want one in each panel", n, x)
		}
	}
	if n := strings.Count(svg.String(), ">2 s<"); n != 1 {
		t.Errorf("2 s is named %d times", n)
	}
	if !strings.Contains(svg.String(), "&lt;b&gt;&amp;") || strings.Contains(svg.String(), "<b>") {
		t.Error("a title is taken for XML")
	}
}

func TestNice(t *testing.T) {
	for _, c := range []struct {
		v     float64
		bytes bool
		want  float64
	}{{3, false, 5}, {0.11, false, 0.2}, {7e6, true, 10 << 20}, {600 << 20, true, 1 << 30}, {1023 << 10, true, 1 << 20}, {0.2, true, 1}, {1, true, 1}} {
		if got := nice(c.v, c.bytes); math.Abs(got-c.want) > c.want/1e9 {
			t.Errorf("nice(%v, %v) = %v, want %v", c.v, c.bytes, got, c.want)
		}
	}
}
