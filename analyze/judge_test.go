package analyze

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const mib = 1 << 20

// made is a series of n points over ten seconds, of MiB at a part of the time.
func made(n int, f func(x float64) float64) series {
	c := make(series, n)
	for i := range c {
		x := float64(i) / float64(n-1)
		c[i] = Point{T: 10 * x, V: f(x) * mib}
	}
	return c
}

// inSteps is what an allocator takes for a series: ever another 132 KiB.
func inSteps(c series) series {
	var s stepped
	const step = 132 << 10
	for _, p := range c {
		for n := math.Ceil(p.V/step) * step; s.now != n; {
			s.add(p.T, n-s.now)
		}
	}
	return s.series()
}

func toward(tau float64) func(float64) float64 {
	return func(x float64) float64 { return 30 * (1 - math.Exp(-x/tau)) }
}

func saw(periods, height, drift float64) func(float64) float64 {
	return func(x float64) float64 { return 20 + drift*x + height*math.Mod(x*periods, 1) }
}

// TestShapes judges series whose shape is known, as samples and as steps of an allocator, in
// other times and sizes too: these change nothing.
func TestShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	for _, tt := range []struct {
		name  string
		f     func(x float64) float64
		want  []shape
		exact bool // a samples' series says something else
	}{
		{"nothing", func(float64) float64 { return 50 }, []shape{flat}, false},
		{"line", func(x float64) float64 { return 5 + 20*x }, []shape{grow}, false},
		{"slow line beside much", func(x float64) float64 { return 200 + 2*x }, []shape{grow}, false},
		{"three steps", func(x float64) float64 { return 10 * math.Min(3, 1+math.Floor(x*5)) }, []shape{flat}, false},
		{"approach 0.1", toward(0.1), []shape{flat}, false},
		{"approach 0.2", toward(0.2), []shape{flat}, false},
		{"approach 0.3", toward(0.3), []shape{flat, slowing}, false},
		{"approach 0.6", toward(0.6), []shape{slowing}, false},
		{"approach 0.9", toward(0.9), []shape{slowing}, false},
		{"line from 0.3", func(x float64) float64 { return 5 + 30*max(0, x-0.3) }, []shape{grow}, false},
		{"line from 0.6", func(x float64) float64 { return 5 + 30*max(0, x-0.6) }, []shape{grow}, false},
		{"line from 0.8", func(x float64) float64 { return 5 + 30*max(0, x-0.8) }, []shape{slowing}, false},
		{"line until 0.5", func(x float64) float64 { return 5 + 30*min(0.5, x) }, []shape{flat}, false},
		{"line until 0.8", func(x float64) float64 { return 5 + 30*min(0.8, x) }, []shape{flat, slowing}, false},
		{"saw-tooth", saw(7, 40, 0), []shape{cyclic}, false},
		{"slow saw-tooth", saw(2.5, 40, 0), []shape{cyclic}, false},
		{"saw-tooth that drifts", saw(12, 40, 20), []shape{grow}, true},
		{"small saw-tooth that drifts", saw(12, 3, 30), []shape{grow}, false},
		{"doubling", func(x float64) float64 { return math.Exp2(math.Floor(x * 5)) }, []shape{slowing, flat, grow}, true},
		{"square", func(x float64) float64 { return 5 + 30*x*x }, []shape{grow}, false},
		{"noise", func(float64) float64 { return 50 + 10*r.Float64() }, []shape{cyclic, flat}, false},
		{"a start, then a line", func(x float64) float64 { return 80*min(1, x*5) + 4*x }, []shape{slowing}, false},
		{"given back", func(x float64) float64 { return 30 - 20*x }, []shape{flat, cyclic}, false},
	} {
		c := made(400, tt.f)
		for name, c := range map[string]series{"samples": c, "steps": inSteps(c)} {
			if tt.exact && name == "samples" {
				c = made(4000, tt.f)
			}
			floor := float64(sampledFloor)
			if name == "steps" {
				floor = exactFloor
			}
			for _, by := range []struct{ time, size float64 }{{1, 1}, {100, 1}, {1, 1000}} {
				s := slices.Clone(c)
				for i := range s {
					s[i].T *= by.time
					s[i].V *= by.size
				}
				j := judge(s, window{by.time, 10 * by.time}, floor, sampledSteps)
				if !slices.Contains(tt.want, j.shape) {
					t.Errorf("%s, %s, time x %g, size x %g: %v, want %v (%+v)", tt.name, name, by.time, by.size, j.shape, tt.want, j)
				}
			}
		}
	}
}

// TestJudged: rates, and what is too little to say.
func TestJudged(t *testing.T) {
	line := made(100, func(x float64) float64 { return 5 + 20*x })
	w := window{1, 10}
	if j := judge(line, w, sampledFloor, sampledSteps); math.Abs(j.rate/(2*mib)-1) > 0.01 || math.Abs(j.rise/(18*mib)-1) > 0.03 || j.steps < 60 {
		t.Errorf("a line of 2 MiB/s: %+v", j)
	}
	if j := judge(made(100, func(x float64) float64 { return 5 + 0.05*x }), w, sampledFloor, sampledSteps); j.shape != flat || j.seen(sampledFloor) < 10<<10 || j.seen(sampledFloor) > 11<<10 {
		t.Errorf("less than the floor: %+v", j)
	}
	if j := judge(line, window{1, 2.9}, sampledFloor, sampledSteps); j.shape != tooShort {
		t.Errorf("less than two seconds: %+v", j)
	}
	if j := judge(nil, w, sampledFloor, sampledSteps); j.shape != tooShort {
		t.Errorf("nothing: %+v", j)
	}
	three := made(100, func(x float64) float64 { return 30 * math.Floor(x*3.99) })
	if j := judge(three, w, sampledFloor, sampledSteps); j.shape == grow {
		t.Errorf("three steps are called steady: %+v", j)
	}
}

// TestCut: what a log says of growth that ended does not become a leak because the log goes on,
// and a leak does not become flat because it began late in the log.
func TestCut(t *testing.T) {
	c := made(800, func(x float64) float64 { return 10 + 40*min(x, 0.4) })
	for to := 10.0; to > 6.5; to -= 0.25 {
		if j := judge(c, window{1, to}, sampledFloor, sampledSteps); j.shape == grow {
			t.Errorf("growth until 4 s, looked at until %g s, is called steady", to)
		}
	}
	c = made(800, func(x float64) float64 { return 10 + 40*x })
	for to := 10.0; to > 3; to -= 0.25 {
		if j := judge(c, window{1, to}, sampledFloor, sampledSteps); j.shape != grow {
			t.Errorf("a line, looked at until %g s: %v", to, j.shape)
		}
	}
}

// TestHalved: a series of any number of changes keeps its lowest and highest values.
func TestHalved(t *testing.T) {
	var s stepped
	for i := range 5*mostSteps + 3 {
		n := 1.0
		if i%10 == 9 {
			n = -8
		}
		s.add(float64(i), n)
	}
	if len(s.c) > mostSteps {
		t.Errorf("%d points", len(s.c))
	}
	if low, high := s.c.bounds(); low > 1 || high < s.now || s.c[len(s.c)-1].V != s.now {
		t.Errorf("from %g to %g, at last %g, not %g", low, high, s.c[len(s.c)-1].V, s.now)
	}
	for i := 1; i < len(s.c); i++ {
		if s.c[i].T <= s.c[i-1].T {
			t.Fatalf("point %d is not after the one before", i)
		}
	}
}

// A slope is that of the line, whatever outliers and pace of samples.
func TestSlope(t *testing.T) {
	var c series
	for x := 0.01; x < 100; x *= 1.1 {
		c = append(c, Point{T: x, V: 7 * x})
	}
	c[10].V, c[40].V = 1e9, -1e9
	if got := c.slope(); math.Abs(got-7) > 1e-6 {
		t.Errorf("got %g, want 7", got)
	}
}

func TestSparkline(t *testing.T) {
	if got := Sparkline([]float64{math.NaN(), 0, 50, 100}, false); got != " ▁▅█" {
		t.Errorf("got %q", got)
	}
	if got := Sparkline([]float64{1000, 1001, 1000}, true); got != "___" {
		t.Errorf("a series that hardly moves: got %q", got)
	}
	if got := Sparkline([]float64{0, 0}, true); got != "__" {
		t.Errorf("zeros: got %q", got)
	}
}

func TestStalled(t *testing.T) {
	text := []byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=45\n")
	for kind, want := range map[string]uint64{"some": 123, "full": 45} {
		if got, ok := stalled(text, kind); !ok || got != want {
			t.Errorf("%s: got %d, %v", kind, got, ok)
		}
	}
	if _, ok := stalled(nil, "some"); ok {
		t.Error("nothing says something")
	}
}
