package analyze

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// TestMannWhitney: values as tables of the test have them.
func TestMannWhitney(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70},
		{[]float64{5, 6, 7, 8, 9}, []float64{0, 1, 2, 3, 4}, 2.0 / 252},
		{[]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}, 1},
		{[]float64{1, 3, 5, 7}, []float64{2, 4, 6, 8}, 48.0 / 70},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []float64{11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, 0.00018},
		{make([]float64, 10), make([]float64, 10), 1},
	} {
		if got := mannWhitney(c.a, c.b); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// TestSides: what is said of the values of two sides.
func TestSides(t *testing.T) {
	for want, s := range map[string]sides{
		"~":         {[]float64{100}, []float64{101}},
		"more":      {[]float64{100, 90, 110}, []float64{150, 140, 100}},
		"less":      {[]float64{9, 10, 9, 10}, []float64{5, 6, 5, 6}},
		"only in A": {[]float64{0, 1}, []float64{0}},
		"only in B": {[]float64{0, 0}, []float64{1}},
	} {
		if got := s.verdict(10); got != want && !(want == "less" && got == "~") {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
	noise := sides{[]float64{100, 200, 120, 180}, []float64{150, 190, 210, 110}}
	if got := noise.verdict(0); got != "~" {
		t.Errorf("noise: %q", got)
	}
	if got := (&sides{[]float64{9, 10, 9, 10}, []float64{5, 6, 5, 6}}).verdict(0); got != "less" {
		t.Errorf("apart: %q", got)
	}
}

// TestCommonMarks: phases begin at what all runs have in one order.
func TestCommonMarks(t *testing.T) {
	runs := [][]mark{}
	for _, names := range []string{"listen a b c accept", "listen b a accept c", "x listen a accept b"} {
		var ms []mark
		for _, n := range strings.Fields(names) {
			ms = append(ms, mark{name: n})
		}
		runs = append(runs, ms)
	}
	if got := commonMarks(runs); !slices.Equal(got, []string{"listen", "a", "accept"}) && !slices.Equal(got, []string{"listen", "a"}) {
		t.Errorf("%q", got)
	}
}

// TestBounds reads conditions and looks at a comparison of a run with itself.
func TestBounds(t *testing.T) {
	tr := replay.New(replaytest.Open(t, replaytest.Log(t)))
	for _, align := range Aligns {
		c, err := Compare(context.Background(), []*replay.Trace{tr}, []*replay.Trace{tr}, CompareOptions{Align: align})
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range ComparisonTables {
			for _, row := range c.Sheet(table, true).Rows {
				if slices.ContainsFunc(row, func(v any) bool { return v == "more" || v == "less" || v == "A" || v == "B" }) {
					t.Errorf("%s, %s: a run differs from itself: %v", align, table, row)
				}
			}
			if s := c.Sheet(table, false); table == "calls" && (len(s.Rows) > 0 || len(s.Notes) != 1) {
				t.Errorf("%v %q", s.Rows, s.Notes)
			}
		}
		for text, broken := range map[string]bool{
			"calls > a": false, "calls >= a": true, "calls > 1.1*a": false, "calls>0.5*a": true, "failures != 1": false, "failures == 1": true,
			"peak_mapped < 1M": true, "time > 2s": false, "peak_mapped > a + 1K": false, "peak_mapped < 2*a+1K": true, "exit_status == 3": true,
		} {
			b, err := ParseBound(text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := b.Check(c); err != nil || (got != "") != broken {
				t.Errorf("%s: %q, %v", text, got, err)
			}
		}
		b, err := ParseBound("nothing > 1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Check(c); err == nil || !strings.Contains(err.Error(), "peak_rss") {
			t.Errorf("%v", err)
		}
	}
	for _, text := range []string{"", "calls", "calls > ", "calls > x", "calls > x*a", "calls ~ 1", "> 1", "calls > a+x"} {
		if _, err := ParseBound(text); err == nil {
			t.Errorf("%q is a bound", text)
		}
	}
}
