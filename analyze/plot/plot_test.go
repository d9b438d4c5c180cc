package plot

import (
	"bytes"
	"errors"
	"image/png"
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
	for _, want := range []string{"<svg", "One", "RSS", "memory (MiB)", "time since the start (s)"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the SVG has no %q", want)
		}
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
