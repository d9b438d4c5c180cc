package analyze

import (
	"cmp"
	"math"
	"slices"
)

// trend says how a series goes on, by robust regression: outliers, sawteeth and
// a start of its own kind do not tilt it.
type trend struct {
	n                int
	begin, end       float64 // first and last value
	low, high        float64
	all, half        float64 // slope per second over the run, over its last half
	early            float64 // slope between the start and the half, without the start itself
	pace             float64 // how the pace of the last half compares with that
	rise             float64 // by how much the troughs rose
	spread           float64 // of the values around the line
	steady           bool    // each trough is above the one before
	shrank           bool    // it ever fell by more than a hundredth of its height
	length           float64 // seconds
	returned         float64 // what the last sample had given back of the highest
	kind             trendKind
	lastHalfMonotone float64 // Kendall's tau over the last half
}

type trendKind uint8

const (
	tooShort trendKind = iota
	level
	settles // grew, and grows no more or ever more slowly
	falls
	grows
	gaveBack // grew all the time, and gave it back at its end
)

var trendNames = [...]string{"too short", "steady", "settles", "falls", "grows", "given back"}

func (k trendKind) String() string { return trendNames[k] }

// Parts of a run that are judged: what happens before settleIn is the program's
// start.
const (
	settleIn    = 0.1
	troughFrom  = 0.2
	troughParts = 4
	minPoints   = 8
	// A rise counts if it is this many times the spread of the values, and more
	// than the smallest part of the level.
	riseSpreads = 2.5
	riseLevel   = 0.01
	riseBytes   = 192 << 10
	// Growth whose pace has fallen below this part settles, and below half of it
	// even if the last half brought a good part of all there is.
	slowing = 0.5
	// A log of memory calls alone does not say what else the program did.
	minActs = 50
)

// trendOf judges a series. final, if not nil, is what was left when the program
// ended.
func trendOf(ps []Point, final *Point) trend {
	tr := trend{n: len(ps)}
	if len(ps) == 0 {
		return tr
	}
	first, last := ps[0], ps[len(ps)-1]
	tr.begin, tr.end, tr.length = first.V, last.V, last.T-first.T
	tr.low, tr.high = math.Inf(1), math.Inf(-1)
	for i, p := range ps {
		tr.low, tr.high = min(tr.low, p.V), max(tr.high, p.V)
		tr.shrank = tr.shrank || i > 0 && p.V < ps[i-1].V-0.01*tr.high
	}
	if final != nil {
		tr.end, tr.n = final.V, tr.n+1
	}
	at := func(part float64) float64 { return first.T + part*tr.length }
	tr.all = slope(ps)
	tail := lastHalf(ps)
	tr.half = slope(tail)
	tr.lastHalfMonotone = tau(tail)
	if len(ps) < minPoints || tr.length <= 0 || len(tail) < 4 {
		return tr
	}
	body := after(ps, at(troughFrom))
	tr.early = slope(before(after(ps, at(settleIn)), at(0.5)))
	tr.pace = pace(tr.half, tr.early)
	if steps := byActs(ps); tr.pace > slowing/10 && steps[len(steps)-1].T-steps[0].T >= minActs {
		// Threads that are done, and a machine that has other work, slow a leak
		// down by the clock but not by what the program did.
		mid := steps[0].T + 0.5*(steps[len(steps)-1].T-steps[0].T)
		start := steps[0].T + settleIn*(steps[len(steps)-1].T-steps[0].T)
		tr.pace = max(tr.pace, pace(slope(lastHalf(steps)), slope(before(after(steps, start), mid))))
	}
	tr.spread = spread(body, slope(body))
	tr.rise, tr.steady = troughs(body, at(troughFrom), last.T)
	tr.kind = tr.judge(final)
	return tr
}

func (tr *trend) judge(final *Point) trendKind {
	need := max(riseSpreads*tr.spread, riseLevel*tr.high, riseBytes)
	inHalf := tr.half * tr.length / 2
	switch {
	case tr.half < 0 && -inHalf > need && tr.all < 0:
		return falls
	case tr.rise < need || tr.half <= 0 || !tr.steady || tr.lastHalfMonotone < 0.2 || inHalf < need/4:
		if tr.high-tr.low > need && tr.early > 0 && tr.all > 0 && tr.early*tr.length/2 > need {
			return settles
		}
		return level
	case tr.pace < slowing && (tr.pace < slowing/2 || tr.lastHalfMonotone < 0.8 || inHalf < tr.high/5):
		return settles
	}
	if final != nil && final.V-tr.begin < tr.rise/4 {
		tr.returned = tr.high - final.V
		return gaveBack
	}
	return grows
}

// pace is how one slope compares with an earlier one.
func pace(half, early float64) float64 {
	if early <= 0 {
		return 1
	}
	return half / early
}

// byActs has what the program did for time.
func byActs(ps []Point) []Point {
	out := make([]Point, len(ps))
	for i, p := range ps {
		out[i] = Point{T: p.acts, V: p.V}
	}
	return out
}

// lastHalf is the last half in time, or in samples if they are too few.
func lastHalf(ps []Point) []Point {
	first, last := ps[0].T, ps[len(ps)-1].T
	tail := after(ps, first+(last-first)/2)
	if len(tail) < 4 {
		tail = ps[len(ps)/2:]
	}
	return tail
}

// slope is the Theil-Sen estimate: the median of the slopes between all pairs of
// points, each counted by its length in time, because samples are closer
// together at the start (Sievers, JASA 73, 1978).
func slope(ps []Point) float64 {
	ps = thin(ps, 400)
	type pair struct{ slope, weight float64 }
	var pairs []pair
	total := 0.0
	for i := range ps {
		for j := i + 1; j < len(ps); j++ {
			if dt := ps[j].T - ps[i].T; dt > 0 {
				pairs = append(pairs, pair{(ps[j].V - ps[i].V) / dt, dt})
				total += dt
			}
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(a.slope, b.slope) })
	sum := 0.0
	for _, p := range pairs {
		if sum += p.weight; sum >= total/2 {
			return p.slope
		}
	}
	return 0
}

// tau is Kendall's rank correlation with time: 1 for values that only rise.
func tau(ps []Point) float64 {
	ps = thin(ps, 400)
	score, n := 0, 0
	for i := range ps {
		for j := i + 1; j < len(ps); j++ {
			n++
			switch {
			case ps[j].V > ps[i].V:
				score++
			case ps[j].V < ps[i].V:
				score--
			}
		}
	}
	if n == 0 {
		return 0
	}
	return float64(score) / float64(n)
}

// spread is how far the values lie from a line of that slope: the median
// distance, scaled to a standard deviation.
func spread(ps []Point, slope float64) float64 {
	if len(ps) == 0 {
		return 0
	}
	rest := make([]float64, len(ps))
	for i, p := range ps {
		rest[i] = p.V - slope*p.T
	}
	m := median(rest)
	for i := range rest {
		rest[i] = math.Abs(rest[i] - m)
	}
	return 1.4826 * median(rest)
}

func median(vs []float64) float64 {
	slices.Sort(vs)
	n := len(vs)
	if n%2 == 1 {
		return vs[n/2]
	}
	return (vs[n/2-1] + vs[n/2]) / 2
}

// troughs cuts the time into parts and compares the lowest values of each: what
// comes and goes leaves them where they are.
func troughs(ps []Point, from, to float64) (rise float64, steady bool) {
	var lows []float64
	part := 0
	for _, p := range ps {
		k := min(int((p.T-from)/(to-from)*troughParts), troughParts-1)
		if len(lows) == 0 || k > part {
			part = k
			lows = append(lows, p.V)
		} else {
			lows[len(lows)-1] = min(lows[len(lows)-1], p.V)
		}
	}
	if len(lows) < 3 {
		return 0, false
	}
	rise = lows[len(lows)-1] - lows[0]
	steady = true
	for i := 1; i < len(lows); i++ {
		steady = steady && lows[i] > lows[i-1]-rise/10
	}
	return rise, steady && rise > 0
}

// after and before cut a series at a time.
func after(ps []Point, t float64) []Point {
	i, _ := slices.BinarySearchFunc(ps, t, func(p Point, t float64) int { return cmp.Compare(p.T, t) })
	return ps[i:]
}

func before(ps []Point, t float64) []Point { return ps[:len(ps)-len(after(ps, t))] }

// thin keeps at most n points, evenly: the number of pairs is its square.
func thin(ps []Point, n int) []Point {
	if len(ps) <= n {
		return ps
	}
	out := make([]Point, n)
	for i := range out {
		out[i] = ps[i*(len(ps)-1)/(n-1)]
	}
	return out
}
