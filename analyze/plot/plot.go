// Package plot draws the series of a log as a picture, SVG or PNG. It is a
// package of its own because a PNG needs a library that nothing else does
// (docs/adr/0005-plots.md).
package plot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"memtrace/analyze"
)

// ErrFormat says that a file's name does not end in .svg or .png.
var ErrFormat = errors.New("want a file name that ends in .svg or .png")

// Check says whether a picture can be drawn into a file of that name.
func Check(name string) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".svg", ".png":
		return nil
	}
	return fmt.Errorf("%q: %w", name, ErrFormat)
}

// Sizes in pixels. All panels have the same margins: their axes of time are above each other.
const (
	width   = 1100
	left    = 92 // of it: numbers
	right   = 190
	title   = 34 // above a panel
	tall    = 270
	small   = 130
	lane    = 16 // of events
	axis    = 26
	padding = 12
)

// Draw writes the charts to w in the format that name ends in.
func Draw(w io.Writer, name string, charts []analyze.Chart) error {
	if err := Check(name); err != nil {
		return err
	}
	height := float64(2 * padding)
	for i := range charts {
		height += panelHeight(charts, i)
	}
	var s surface
	if strings.EqualFold(filepath.Ext(name), ".svg") {
		s = newSVG(width, height)
	} else {
		s = newRaster(width, height)
	}
	ends := map[analyze.Axis]float64{}
	for i := range charts {
		c := &charts[i]
		ends[c.X] = max(ends[c.X], c.End())
	}
	top := float64(padding)
	for i := range charts {
		p := panel{c: &charts[i], s: s, top: top + title, x0: left, x1: width - right, last: lastOf(charts, i)}
		p.height = small
		if !p.c.Small {
			p.height = tall
		}
		if err := p.draw(ends[p.c.X]); err != nil {
			return fmt.Errorf("plot %s: %w", p.c.Title, err)
		}
		top += panelHeight(charts, i)
	}
	return s.write(w)
}

// lastOf reports whether a panel is the last of those with its axis, the one that has numbers.
func lastOf(charts []analyze.Chart, i int) bool {
	return i == len(charts)-1 || charts[i+1].X != charts[i].X
}

func panelHeight(charts []analyze.Chart, i int) float64 {
	h := float64(title + tall)
	if charts[i].Small {
		h = title + small
	}
	if n := len(lanes(&charts[i])); n > 0 {
		h += float64(n*lane) + 6
	}
	if lastOf(charts, i) {
		h += axis
	}
	return h
}

// panel is a chart in its place.
type panel struct {
	c           *analyze.Chart
	s           surface
	x0, x1      float64
	top, height float64
	low, high   float64 // of the X axis
	most        float64 // of the Y axis
	last        bool
	labels      []label
}

// label is a name at the right of a panel.
type label struct {
	y           float64
	name, value string
	look        string
}

// x is where a value of the X axis is.
func (p *panel) x(v float64) float64 {
	f := 0.0
	switch {
	case p.c.X == analyze.AxisMemory && p.high > p.low:
		f = math.Log(max(v, p.low)/p.low) / math.Log(p.high/p.low)
	case p.high > p.low:
		f = (v - p.low) / (p.high - p.low)
	}
	return p.x0 + min(max(f, 0), 1)*(p.x1-p.x0)
}

func (p *panel) y(v float64) float64 { return p.top + p.height*(1-v/p.most) }

func (p *panel) draw(end float64) error {
	p.low, p.high = 0, max(end, 1e-3)
	if p.c.X == analyze.AxisMemory {
		p.low = p.c.Begin()
		p.high = max(end, 1.01*p.low)
	}
	p.s.text(p.x0, p.top-14, "title", p.c.Title, begin)
	bottom := p.top + p.height
	if p.c.Heat != nil {
		p.heat()
	} else {
		stack := p.stack()
		p.scale(stack)
		p.gridY()
		p.gridX(bottom)
		p.bands()
		p.drawStack(stack)
		p.lines()
		p.peak()
		p.drawLabels()
	}
	p.s.line([]pt{{p.x0, bottom}, {p.x1, bottom}}, "axis")
	bottom = p.marks(bottom)
	if p.last {
		p.ticksX(bottom)
	}
	return nil
}

// scale finds how high the axis goes.
func (p *panel) scale(stack []stacked) {
	for _, l := range p.c.Lines {
		for _, v := range l.Points {
			p.most = max(p.most, v.V)
		}
	}
	for _, b := range p.c.Bands {
		for _, v := range b.High {
			p.most = max(p.most, v.V)
		}
	}
	for _, b := range stack {
		for _, v := range b.high {
			p.most = max(p.most, v.V)
		}
	}
	p.most = max(p.most, 1e-9) * 1.08
}

// number is a value of the Y axis in words.
func (p *panel) number(v float64) string {
	if p.c.Y == analyze.AxisBytes {
		return analyze.Size(uint64(v))
	}
	return plain(v)
}

// plain is a number without a unit.
func plain(v float64) string {
	if v >= 1000 && v < 1e9 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

func (p *panel) gridY() {
	lines := 5.0
	if p.c.Small {
		lines = 3
	}
	step := nice(p.most/lines, p.c.Y == analyze.AxisBytes)
	for v := 0.0; v <= p.most; v += step {
		if v > 0 {
			p.s.line([]pt{{p.x0, p.y(v)}, {p.x1, p.y(v)}}, "grid")
		}
		text := p.number(v)
		if v == 0 {
			text = "0"
		}
		p.s.text(p.x0-8, p.y(v)+4, "small", text, finish)
	}
	if p.c.Y != analyze.AxisBytes {
		p.s.text(p.x1, p.top-14, "small", string(p.c.Y), finish)
	}
}

// nice is a round number that is not below v; of bytes one of 1024 and a power of two or ten.
func nice(v float64, bytes bool) float64 {
	unit := 1.0
	if bytes {
		if v < 1 {
			return 1
		}
		for v/unit >= 1024 {
			unit *= 1024
		}
	}
	f := math.Pow(10, math.Floor(math.Log10(v/unit)))
	for _, k := range []float64{1, 2, 5, 10} {
		if n := k * f * unit; n >= v*0.999 {
			if bytes && k*f >= 1000 {
				return 1024 * unit
			}
			return n
		}
	}
	return 10 * f * unit
}

// tick is a place on the X axis.
type tick struct {
	v    float64
	name string
}

func (p *panel) ticks() (out []tick) {
	switch p.c.X {
	case analyze.AxisMemory:
		return sizes(p.low, p.high)
	case analyze.AxisTime, analyze.AxisProgramTime:
		step := seconds(p.high / 7)
		for v := 0.0; v <= p.high*1.0001; v += step {
			out = append(out, tick{v, clock(v, step)})
		}
		return out
	}
	step := nice(p.high/7, false)
	for v := 0.0; v <= p.high*1.0001; v += step {
		out = append(out, tick{v, plain(v)})
	}
	return out
}

// sizes are round sizes of memory between two, not too many.
func sizes(low, high float64) (out []tick) {
	parts, every := []float64{1}, 1.0 // of a power of two; the logarithm between two powers
	switch ratio := high / low; {
	case ratio < 4:
		parts = []float64{1, 1.25, 1.5, 1.75}
	case ratio < 16:
		parts = []float64{1, 1.5}
	default:
		every = math.Ceil(math.Log2(ratio) / 9)
	}
	for v := math.Pow(2, math.Floor(math.Log2(low))); v <= high; v *= math.Pow(2, every) {
		for _, k := range parts {
			if n := k * v; n >= low && n <= high {
				out = append(out, tick{n, analyze.Size(uint64(n))})
			}
		}
	}
	if len(out) == 0 {
		out = append(out, tick{low, analyze.Size(uint64(low))})
	}
	return out
}

// seconds is a round time that is not below v.
func seconds(v float64) float64 {
	if v < 10 {
		return nice(v, false)
	}
	for _, s := range []float64{10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200} {
		if s >= v {
			return s
		}
	}
	return nice(v/86400, false) * 86400
}

// clock is a time as people read it.
func clock(v, step float64) string {
	switch {
	case step < 1e-3:
		return fmt.Sprintf("%.4g us", v*1e6)
	case step < 0.1:
		return fmt.Sprintf("%.4g ms", v*1e3)
	case step < 30:
		return fmt.Sprintf("%.4g s", v)
	case step < 3600:
		return fmt.Sprintf("%d:%02d min", int(v)/60, int(v)%60)
	}
	return fmt.Sprintf("%d:%02d h", int(v)/3600, int(v)/60%60)
}

func (p *panel) gridX(bottom float64) {
	for _, t := range p.ticks() {
		if x := p.x(t.v); t.v > p.low {
			p.s.line([]pt{{x, p.top}, {x, bottom}}, "grid")
		}
	}
}

func (p *panel) ticksX(bottom float64) {
	for _, t := range p.ticks() {
		p.s.text(p.x(t.v), bottom+18, "small", t.name, middle)
	}
	name := ""
	switch p.c.X {
	case analyze.AxisTime, analyze.AxisMemory:
	case analyze.AxisProgramTime:
		name = "of the program's own time"
	default:
		name = string(p.c.X)
	}
	if name != "" {
		p.s.text(p.x1+12, bottom+18, "small", name, begin)
	}
}

// stacked is a series that stands on others.
type stacked struct {
	name      string
	low, high []analyze.Point
}

// stack puts the series of the stack on each other. They have the same T. Those that are
// never a hundredth of the whole are one series together.
func (p *panel) stack() (out []stacked) {
	high := func(ps []analyze.Point) (most float64) {
		for _, v := range ps {
			most = max(most, v.V)
		}
		return most
	}
	add := func(sum, ps []analyze.Point) []analyze.Point {
		ps = slices.Clone(ps)
		for i := range min(len(ps), len(sum)) {
			ps[i].V += sum[i].V
		}
		return ps
	}
	var whole []analyze.Point
	for _, l := range p.c.Stack {
		whole = add(whole, l.Points)
	}
	least := high(whole) / 100
	var shown []analyze.Line
	other := analyze.Line{Name: "other"}
	for _, l := range p.c.Stack {
		if high(l.Points) >= least {
			shown = append(shown, l)
		} else {
			other.Points = add(other.Points, l.Points)
		}
	}
	var base []analyze.Point
	for _, l := range append(shown, other) {
		if high(l.Points) > 0 {
			top := add(base, l.Points)
			out = append(out, stacked{l.Name, base, top})
			base = top
		}
	}
	return out
}

// place is a line of the picture through points.
func (p *panel) place(ps []analyze.Point, steps bool) (out []pt) {
	for i, v := range ps {
		if steps && i > 0 {
			out = append(out, pt{p.x(v.T), p.y(ps[i-1].V)})
		}
		out = append(out, pt{p.x(v.T), p.y(v.V)})
	}
	return thin(out)
}

// thin leaves out what falls on the same pixel: of each column the first, the lowest, the
// highest and the last point stay.
func thin(ps []pt) []pt {
	if len(ps) < 2*width {
		return ps
	}
	var out []pt
	for i := 0; i < len(ps); {
		j, low, high := i, i, i
		for ; j < len(ps) && math.Floor(ps[j].x) == math.Floor(ps[i].x); j++ {
			if ps[j].y < ps[low].y {
				low = j
			}
			if ps[j].y > ps[high].y {
				high = j
			}
		}
		keep := []int{i, low, high, j - 1}
		slices.Sort(keep)
		for _, k := range slices.Compact(keep) {
			out = append(out, ps[k])
		}
		i = j
	}
	return out
}

func (p *panel) drawStack(stack []stacked) {
	for _, b := range stack {
		look := lookOf(b.name)
		ring := p.place(b.high, p.c.Steps)
		if len(ring) == 0 {
			continue
		}
		if len(b.high) < curve {
			for _, v := range b.high {
				p.s.dot(pt{p.x(v.T), p.y(v.V)}, 3, "dot-"+look)
			}
			p.nameTop(b, look)
			continue
		}
		edge := ring
		low := []pt{{ring[len(ring)-1].x, p.y(0)}, {ring[0].x, p.y(0)}}
		if b.low != nil {
			low = p.place(b.low, p.c.Steps)
			slices.Reverse(low)
		}
		p.s.area(slices.Concat(ring, low), "fill-"+look)
		p.s.line(edge, "edge-"+look)
		p.nameTop(b, look)
	}
}

// nameTop names a series of the stack.
func (p *panel) nameTop(b stacked, look string) {
	n := len(b.high) - 1
	under := 0.0
	if b.low != nil {
		under = b.low[n].V
	}
	p.labels = append(p.labels, label{p.y((b.high[n].V + under) / 2), b.name, p.number(b.high[n].V - under), "fill-" + look})
}

// curve is how many points there must be for a line between them: fewer would be a curve that
// nobody saw.
const curve = 3

// cycle are the looks of lines that have none of their own.
var cycle = []string{"blue", "orange", "green", "purple"}

func (p *panel) lines() {
	n := 0
	for _, l := range p.c.Lines {
		if len(l.Points) == 0 || !slices.ContainsFunc(l.Points, func(v analyze.Point) bool { return v.V != 0 }) {
			continue // a machine without swap
		}
		look := "line-" + cycle[n%len(cycle)]
		if l.Dashed {
			look = "rss"
		} else {
			n++
		}
		ps := p.place(l.Points, false)
		if len(l.Points) >= curve {
			p.s.line(ps, look)
		}
		if len(ps) <= 12 { // the line between them is a guess
			for _, v := range ps {
				p.s.dot(v, 2.5, "dot-"+strings.TrimPrefix(look, "line-"))
			}
		}
		at := l.Points[len(l.Points)-1]
		p.labels = append(p.labels, label{p.y(at.V), l.Name, p.number(at.V), look})
	}
}

// bands draws what lies between two lines.
func (p *panel) bands() {
	for i, b := range p.c.Bands {
		if len(b.High) == 0 {
			continue
		}
		look := cycle[(i+1)%len(cycle)]
		high, low := p.place(b.High, false), p.place(b.Low, false)
		p.s.line(high, "edge-"+look)
		p.s.line(low, "edge-"+look)
		back := slices.Clone(low)
		slices.Reverse(back)
		p.s.area(slices.Concat(high, back), "band-"+look)
		at := b.High[len(b.High)-1]
		p.labels = append(p.labels, label{p.y(at.V), b.Name, "", "band-" + look})
	}
}

// peak names the highest point of what is dashed.
func (p *panel) peak() {
	for _, l := range p.c.Lines {
		if !l.Dashed || len(l.Points) == 0 {
			continue
		}
		top := slices.MaxFunc(l.Points, func(a, b analyze.Point) int { return cmp.Compare(a.V, b.V) })
		at := pt{p.x(top.T), p.y(top.V)}
		p.s.line([]pt{at, {at.x, p.top + p.height}}, "peak")
		p.s.dot(at, 3, "dot-rss")
		text := fmt.Sprintf("peak %s at %s", p.number(top.V), clock(round(top.T), top.T/10))
		if at.x > p.x1-170 {
			p.s.text(at.x-7, at.y-5, "note", text, finish)
		} else {
			p.s.text(at.x+7, at.y-5, "note", text, begin)
		}
	}
}

// round leaves three digits.
func round(v float64) float64 {
	if v <= 0 {
		return 0
	}
	f := math.Pow(10, 2-math.Floor(math.Log10(v)))
	return math.Round(v*f) / f
}

// labelHeight is how far labels are apart.
const labelHeight = 16

// drawLabels names the series at the right, each as near to its end as there is room.
func (p *panel) drawLabels() {
	slices.SortStableFunc(p.labels, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	y := p.top
	room := p.height - labelHeight*float64(len(p.labels))
	for i := range p.labels {
		l := &p.labels[i]
		below := labelHeight * float64(len(p.labels)-i-1)
		l.y = min(max(l.y, y), p.top+p.height-below)
		if room < 0 {
			l.y = p.top + float64(i)*labelHeight
		}
		y = l.y + labelHeight
		x := p.x1 + 12
		switch {
		case strings.HasPrefix(l.look, "fill-") || strings.HasPrefix(l.look, "band-"):
			p.s.area([]pt{{x, l.y - 5}, {x + 12, l.y - 5}, {x + 12, l.y + 5}, {x, l.y + 5}}, l.look)
		default:
			p.s.line([]pt{{x, l.y}, {x + 12, l.y}}, l.look)
		}
		p.s.text(x+18, l.y+4, "small", l.name, begin)
		p.s.text(width-padding, l.y+4, "value", l.value, finish)
	}
}

// lanes are the names of a chart's marks.
func lanes(c *analyze.Chart) (names []string) {
	for _, m := range c.Marks {
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// marks draws the lanes of events and returns where they end.
func (p *panel) marks(bottom float64) float64 {
	names := lanes(p.c)
	if len(names) == 0 {
		return bottom
	}
	bottom += 6
	for i, name := range names {
		y := bottom + float64(i*lane) + lane/2
		p.s.text(p.x0-8, y+4, "small", name, finish)
		last := -1.0
		for _, m := range p.c.Marks {
			x := math.Round(p.x(m.T)) + 0.5
			if m.Name != name || x == last {
				continue
			}
			last = x
			if m.Grave {
				p.s.area([]pt{{x, y - 5}, {x + 4.5, y + 4}, {x - 4.5, y + 4}}, "mark-grave")
				continue
			}
			p.s.line([]pt{{x, y - 4}, {x, y + 4}}, "mark-"+markLook(name))
		}
	}
	return bottom + float64(len(names)*lane)
}
