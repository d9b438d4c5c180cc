package analyze

import (
	"math"
	"math/rand/v2"
	"testing"
)

// series makes n points over ten seconds.
func series(n int, f func(x float64, r *rand.Rand) float64, seed uint64) []Point {
	r := rand.New(rand.NewPCG(seed, 1))
	ps := make([]Point, n)
	for i := range ps {
		x := float64(i) / float64(n-1)
		ps[i] = Point{T: 10 * x, V: max(f(x, r), 0) * (1 << 20), acts: float64(100 * i)}
	}
	return ps
}

func TestTrend(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(x float64, r *rand.Rand) float64 // MiB at a part of the run
		end  float64                               // MiB at the program's end, <0: not known
		want []trendKind
	}{
		{"flat", func(float64, *rand.Rand) float64 { return 50 }, -1, []trendKind{level}},
		{"noise", func(_ float64, r *rand.Rand) float64 { return 50 + 10*r.NormFloat64() }, -1, []trendKind{level}},
		{"line", func(x float64, _ *rand.Rand) float64 { return 5 + 20*x }, 25, []trendKind{grows}},
		{"slow", func(x float64, _ *rand.Rand) float64 { return 100 + 3*x }, -1, []trendKind{grows}},
		{"noisy line", func(x float64, r *rand.Rand) float64 { return 50 + 100*x + 5*r.NormFloat64() }, -1, []trendKind{grows}},
		{"sawtooth on a line", func(x float64, r *rand.Rand) float64 { return 100*x + 20*math.Mod(x*17, 1) + r.Float64() }, -1, []trendKind{grows}},
		{"sawtooth", func(x float64, r *rand.Rand) float64 { return 20 + 40*math.Mod(x*7, 1) + r.Float64() }, -1, []trendKind{level, settles}},
		{"plateau", func(x float64, r *rand.Rand) float64 { return 64*min(5*x, 1) + r.Float64() }, -1, []trendKind{level, settles}},
		{"logarithm", func(x float64, r *rand.Rand) float64 { return 20*math.Log(1+100*x) + r.NormFloat64() }, -1, []trendKind{settles, level}},
		{"given back", func(x float64, _ *rand.Rand) float64 { return 80 * x }, 1, []trendKind{gaveBack}},
		{"leak beside a working set", func(x float64, r *rand.Rand) float64 { return 60*x + 40 + 3*r.NormFloat64() }, 60, []trendKind{grows}},
		{"fall", func(x float64, _ *rand.Rand) float64 { return 100 - 50*x }, -1, []trendKind{falls}},
		{"spike", func(x float64, _ *rand.Rand) float64 {
			if x > 0.7 && x < 0.75 {
				return 500
			}
			return 30
		}, -1, []trendKind{level}},
	} {
		for _, n := range []int{12, 40, 300} {
			for seed := range uint64(10) {
				var final *Point
				if tt.end >= 0 {
					final = &Point{T: 10.01, V: tt.end * (1 << 20)}
				}
				tr := trendOf(series(n, tt.f, seed), final)
				if n == 12 && (tt.name == "sawtooth on a line" || tt.name == "logarithm") {
					continue // too few to tell
				}
				ok := n == 12 && tt.want[0] == level && tr.kind != grows
				for _, w := range tt.want {
					ok = ok || tr.kind == w
				}
				if !ok {
					t.Errorf("%s, %d points, seed %d: got %v, want %v (%+v)", tt.name, n, seed, tr.kind, tt.want, tr)
				}
			}
		}
	}
	if tr := trendOf(series(5, func(x float64, _ *rand.Rand) float64 { return x }, 1), nil); tr.kind != tooShort {
		t.Errorf("5 points: got %v", tr.kind)
	}
	if tr := trendOf(nil, nil); tr.kind != tooShort {
		t.Errorf("no points: got %v", tr.kind)
	}
}

// A slope is that of the line, whatever outliers and pace of samples.
func TestSlope(t *testing.T) {
	var ps []Point
	for x := 0.01; x < 100; x *= 1.1 {
		ps = append(ps, Point{T: x, V: 7 * x})
	}
	ps[10].V, ps[40].V = 1e9, -1e9
	if got := slope(ps); math.Abs(got-7) > 1e-6 {
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
