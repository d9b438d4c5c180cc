package analyze

import (
	"cmp"
	"math"
	"slices"
)

// This file says how one series goes on, whatever it is a series of: it is flat, it comes and
// goes, it grows ever more slowly, or it grows to its end. docs/verdicts.md has the reasons and
// the measurements.

// Point is a value at a time.
type Point struct {
	T    float64 // seconds that the program ran since the start of the recording
	V    float64
	step float64
}

// series is a series as a line through points in the order of time. Steps are vertical.
type series []Point

// shape is what a series does.
type shape uint8

const (
	tooShort shape = iota // for a judgement
	flat
	cyclic  // comes and goes
	slowing // grew, and grows ever more slowly
	grow    // grew to the end, at a pace that held
)

var shapeNames = [...]string{"too short", "flat", "comes and goes", "slows down", "grows"}

func (s shape) String() string { return shapeNames[s] }

// window is the time that is judged, in seconds.
type window struct{ from, to float64 }

func (w window) length() float64 { return w.to - w.from }

// at is a part of the way through the window.
func (w window) at(part float64) float64 { return w.from + part*w.length() }

// Limits of what is judged.
const (
	leastLength  = 2.0 // seconds
	leastSamples = 12
	cells        = 64 // of an envelope
)

// judgement is what a series does in a window.
type judgement struct {
	shape     shape
	window    window
	begin     float64 // values at the window's ends
	end       float64
	low, high float64 // of all values
	rate      float64 // per second, in the last half of what grew
	rise      float64 // of the envelope: what was never given back later
	pace      float64 // growth of the last half against that of the first
	lately    float64 // growth of the last eighth against that of all
	steps     float64 // how many equal steps the growth amounts to
	noise     float64 // of the values above the envelope
	falls     int
	amplitude float64 // of the falls, in the middle
	started   bool    // what is said is of the time after a large start
	troughs   bool    // the shape is that of the troughs between them
	still     float64 // seconds at the end without growth
}

// seen is the slowest growth per second that would have been told from none.
func (j *judgement) seen(floor float64) float64 {
	return max(floor, 4*j.noise) / max(j.window.length(), leastLength)
}

// judge says what a series does in a window. A rise below floor is none, and growth in fewer
// than least steps is not called steady.
func judge(c series, w window, floor, least float64) judgement {
	j := judgement{window: w}
	c = c.clip(w)
	if len(c) == 0 || w.length() < leastLength {
		return j
	}
	j.begin, j.end = c[0].V, c[len(c)-1].V
	j.low, j.high = c.bounds()
	env := c.envelope(w)
	j.rise, j.noise = env.rise(), env.noise
	j.shape = flat
	if j.high-j.low < floor {
		j.still = w.length()
		return j
	}
	j.part(c, w, floor, least, 2)
	return j
}

// part judges a part of the series, which is divided further that many times at most.
func (j *judgement) part(c series, w window, floor, least float64, divide int) {
	low, high := c.bounds()
	falls := c.falls(max(0.15*(high-low), floor/2))
	if j.falls < len(falls) {
		j.falls = len(falls)
		j.amplitude = middle(falls, fall.depth)
	}
	if n := len(falls); n > 0 {
		last := falls[n-1].trough
		switch {
		case n >= 4 && last.T-falls[0].trough.T >= 0.4*w.length():
			j.byTroughs(falls, w, floor)
			return
		case n < 4 && divide > 0 && w.to-last.T >= 0.55*w.length():
			rest := window{last.T, w.to}
			j.part(c.clip(rest), rest, floor, least, divide-1)
			if j.shape == grow && j.end < j.high {
				j.shape = slowing
			}
			return
		case n < 4 && falls[0].trough.T > w.at(0.75) && falls[0].depth() < (high-low)/2:
			// A late dip: what it left is judged.
		case n < 4 && slices.MaxFunc(falls, func(a, b fall) int { return cmp.Compare(a.depth(), b.depth()) }).depth() < 0.4*(high-low):
			// They are small beside what grew.
			j.byEnvelope(c.envelope(w), floor, least)
			if j.shape == grow && j.end < j.high {
				j.shape = slowing
			}
			return
		default:
			j.shape = cyclic
			return
		}
	}
	j.byEnvelope(c.envelope(w), floor, least)
}

// byTroughs judges what comes and goes by what is left between.
func (j *judgement) byTroughs(falls []fall, w window, floor float64) {
	j.shape, j.troughs = cyclic, true
	var ts series
	for _, f := range falls {
		if f.trough.T >= w.at(0.2) {
			ts = append(ts, f.trough)
		}
	}
	if len(ts) < 4 {
		return
	}
	span := ts[len(ts)-1].T - ts[0].T
	slope := ts.slope()
	noise := ts.spread(slope)
	up := 0
	for i := 1; i < len(ts); i++ {
		if ts[i].V > ts[i-1].V {
			up++
		}
	}
	rise := slope * span
	if rise <= max(floor, 4*noise, 0.03*j.amplitude) || float64(up) < 0.7*float64(len(ts)-1) {
		return
	}
	j.rise, j.noise, j.rate, j.steps = rise, noise, slope, float64(len(ts)-1)
	mid := len(ts) / 2
	j.pace = ratio(ts[mid:].slope(), ts[:mid+1].slope())
	switch {
	case j.pace >= steadyPace && len(ts) >= 5:
		j.shape = grow
	case j.pace >= donePace:
		j.shape = slowing
	default:
		j.shape = flat
	}
}

// How the growth of the last half compares with that of the first: an exponential approach
// with a time constant of 0.9 windows has 0.61, one of 0.3 windows 0.22, a line 1.
const (
	steadyPace = 0.75
	donePace   = 0.2
)

// byEnvelope judges what is never given back.
func (j *judgement) byEnvelope(e envelope, floor, least float64) {
	j.shape = flat
	total := e.rise()
	j.noise = e.noise
	if total < max(floor, 4*e.noise) {
		j.still = float64(len(e.v)-1) * e.cell
		return
	}
	late := false
	for i := range e.v {
		if e.v[i]-e.v[0] < 0.02*total {
			continue
		}
		if i > len(e.v)/8 { // nothing happened before
			length := float64(len(e.v)-i) * e.cell
			late = length < 0.35*j.window.length() || length < 1.5
			e = envelope{e.from + float64(i-1)*e.cell, e.cell, e.v[i-1:], e.noise}
		}
		break
	}
	j.grown(e, least)
	switch {
	case late && j.shape == grow:
		j.shape = slowing
	case j.shape == flat || j.shape == slowing:
		j.afterStart(e, max(floor, 0.005*total), least)
	}
}

// afterStart looks for steady growth beside which a large start hides it: most of what grew came
// in the first third. The rest of an exponential approach that begins so has no steady pace.
func (j *judgement) afterStart(e envelope, floor, least float64) {
	k := slices.IndexFunc(e.v, func(v float64) bool { return v-e.v[0] >= 0.8*e.rise() })
	if n := len(e.v); k == 0 || k > n/3 || float64(n-k)*e.cell < leastLength {
		return
	}
	for k < len(e.v)-1 && e.v[k+1]-e.v[k] > 0.01*e.rise() {
		k++ // to where the start is over
	}
	rest := envelope{e.from + float64(k)*e.cell, e.cell, e.v[k:], e.noise}
	if len(rest.v) < cells/2 || rest.rise() < max(floor, 4*e.noise) {
		return
	}
	later := *j
	if later.grown(rest, least); later.shape == grow { // a full cache whose memory fragments does so too
		*j = later
		j.shape, j.started, j.rise = slowing, true, rest.rise()
	}
}

// grown judges an envelope that has grown.
func (j *judgement) grown(e envelope, least float64) {
	n := len(e.v) - 1
	d := make([]float64, n)
	sum, squares := 0.0, 0.0
	for i := range d {
		d[i] = e.v[i+1] - e.v[i]
		sum += d[i]
		squares += d[i] * d[i]
	}
	of := func(from, to float64) (s float64) {
		for _, x := range d[int(math.Round(from*float64(n))):int(math.Round(to*float64(n)))] {
			s += x
		}
		return s
	}
	j.steps = sum * sum / squares
	j.pace = ratio(of(0.5, 1), of(0, 0.5))
	if later := ratio(of(2.0/3, 1), of(1.0/3, 2.0/3)); j.steps >= 16 && j.pace > 0.5 && later > 0.85 {
		j.pace = max(j.pace, later) // a restless start is no slowing down
	}
	j.lately = 8 * of(0.875, 1) / sum
	last := 4 * of(0.75, 1) / sum
	quiet, usual, longest := gaps(d, sum)
	j.still = quiet * e.cell
	half := e.points()[len(e.v)/2:]
	if j.rate = half.slope(); j.rate <= 0 {
		j.rate = (half[len(half)-1].V - half[0].V) / max(half[len(half)-1].T-half[0].T, e.cell)
	}
	few := j.steps < 12
	stopped := quiet > max(2*usual, 1.3*longest, float64(n)/12)
	switch {
	case stopped && quiet > float64(n)/4, j.pace < donePace, last < 0.08 && !few:
		j.shape = flat
	case stopped && quiet > float64(n)/8, j.steps < least:
		j.shape = slowing
	case few && j.pace >= 0.55 && last >= 0.5: // halves are not exact
		j.shape = grow
	case j.pace < steadyPace || last < 0.5:
		j.shape = slowing
	default:
		j.shape = grow
	}
}

// gaps are the cells since the last growth, and between two of them in the middle and at
// most.
func gaps(d []float64, sum float64) (quiet, usual, longest float64) {
	var between []float64
	last := -1
	for i, x := range d {
		if x > 0.02*sum/float64(len(d)) {
			if last >= 0 {
				between = append(between, float64(i-last))
			}
			last = i
		}
	}
	if len(between) > 0 {
		longest = slices.Max(between)
		usual = median(between)
	}
	return float64(len(d) - 1 - last), usual, longest
}

// ratio is a part of what was before; what was nothing before is no slowing down.
func ratio(now, before float64) float64 {
	if before <= 0 {
		return 1
	}
	return now / before
}

// clip is the part of the series in the window, with points at its ends.
func (c series) clip(w window) series {
	if len(c) == 0 {
		return nil
	}
	i, _ := slices.BinarySearchFunc(c, w.from, func(p Point, t float64) int { return cmp.Compare(p.T, t) })
	out := series{{T: w.from, V: c.value(i, w.from)}}
	for ; i < len(c) && c[i].T <= w.to; i++ {
		out = append(out, c[i])
	}
	return append(out, Point{T: w.to, V: c.value(i, w.to)})
}

// value is that at t, which comes after c[i-1] and not after c[i].
func (c series) value(i int, t float64) float64 {
	switch {
	case i == 0:
		return c[0].V
	case i == len(c):
		return c[i-1].V
	}
	a, b := c[i-1], c[i]
	if b.T <= a.T {
		return b.V
	}
	return a.V + (b.V-a.V)*(t-a.T)/(b.T-a.T)
}

func (c series) bounds() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, p := range c {
		low, high = min(low, p.V), max(high, p.V)
	}
	return low, high
}

// fall is a way down from the highest value so far to the lowest before it comes up again.
type fall struct {
	top    float64
	trough Point
}

func (f fall) depth() float64 { return f.top - f.trough.V }

// falls are those by more than theta. One ends when half of it has come back.
func (c series) falls(theta float64) []fall {
	var out []fall
	high, falling := math.Inf(-1), false
	for _, p := range c {
		if !falling {
			high = max(high, p.V)
			if p.V < high-theta {
				falling = true
				out = append(out, fall{high, p})
			}
			continue
		}
		f := &out[len(out)-1]
		switch {
		case p.V <= f.trough.V:
			f.trough = p
		case p.V > f.trough.V+(f.top-f.trough.V)/2:
			high, falling = p.V, false
		}
	}
	return out
}

// envelope is what was never given back later, in cells of equal length.
type envelope struct {
	from, cell float64 // seconds
	v          []float64
	noise      float64 // of the lowest values of the cells above it
}

func (e *envelope) rise() float64 { return e.v[len(e.v)-1] - e.v[0] }

func (e *envelope) points() series {
	c := make(series, len(e.v))
	for i, v := range e.v {
		c[i] = Point{T: e.from + (float64(i)+0.5)*e.cell, V: v}
	}
	return c
}

// envelope is that of a series that was clipped to w.
func (c series) envelope(w window) envelope {
	e := envelope{from: w.from, cell: w.length() / cells, v: make([]float64, cells)}
	i := 0
	for k := range e.v {
		from, to := w.at(float64(k)/cells), w.at(float64(k+1)/cells)
		for i < len(c) && c[i].T < from {
			i++
		}
		low := c.value(i, from)
		n := i
		for ; n < len(c) && c[n].T <= to; n++ {
			low = min(low, c[n].V)
		}
		e.v[k] = min(low, c.value(n, to))
	}
	above := slices.Clone(e.v)
	for k := cells - 2; k >= 0; k-- {
		e.v[k] = min(e.v[k], e.v[k+1])
	}
	for k := range above {
		above[k] -= e.v[k]
	}
	e.noise = 1.4826 * median(above)
	return e
}

// slope is the Theil-Sen estimate: the median of the slopes between all pairs of points, each
// counted by its length in time (Sievers, JASA 73, 1978).
func (c series) slope() float64 {
	c = c.thin(400)
	type pair struct{ slope, weight float64 }
	var pairs []pair
	total := 0.0
	for i := range c {
		for j := i + 1; j < len(c); j++ {
			if dt := c[j].T - c[i].T; dt > 0 {
				pairs = append(pairs, pair{(c[j].V - c[i].V) / dt, dt})
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

// spread is how far the values lie from a line of that slope: the median distance, scaled to a
// standard deviation.
func (c series) spread(slope float64) float64 {
	if len(c) == 0 {
		return 0
	}
	rest := make([]float64, len(c))
	for i, p := range c {
		rest[i] = p.V - slope*p.T
	}
	m := median(slices.Clone(rest))
	for i := range rest {
		rest[i] = math.Abs(rest[i] - m)
	}
	return 1.4826 * median(rest)
}

// thin keeps at most n points, evenly: the number of pairs is its square.
func (c series) thin(n int) series {
	if len(c) <= n {
		return c
	}
	out := make(series, n)
	for i := range out {
		out[i] = c[i*(len(c)-1)/(n-1)]
	}
	return out
}

// median sorts vs.
func median(vs []float64) float64 {
	slices.Sort(vs)
	n := len(vs)
	if n%2 == 1 {
		return vs[n/2]
	}
	return (vs[n/2-1] + vs[n/2]) / 2
}

func middle[T any](list []T, of func(T) float64) float64 {
	vs := make([]float64, len(list))
	for i := range list {
		vs[i] = of(list[i])
	}
	return median(vs)
}
