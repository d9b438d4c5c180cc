package analyze

import (
	"context"
	"errors"
	"math"
	"path"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Line is a series with a name.
type Line struct {
	Name   string
	Points []Point // V in bytes
	Dashed bool    // it is what the rest is compared with; its peak is named
}

// Band is a stretch between two lines.
type Band struct {
	Name      string
	Low, High []Point // with the same T
}

// Heat is what happened where and when.
type Heat struct {
	Cells  [][]float64 // by column (time) and row (place); 0 is nothing
	Width  float64     // of a column, in units of X
	Labels []HeatLabel
	Cuts   []float64 // where to draw a line, in units of X
}

// HeatLabel names rows from one on.
type HeatLabel struct {
	Row  int
	Name string
}

// Mark is an event.
type Mark struct {
	T     float64
	Name  string // of its kind
	Grave bool
}

// Axis says what an axis is; other texts are titles of plain numbers.
type Axis string

// The axes with units of their own.
const (
	AxisTime        Axis = ""             // seconds since the start; of Y: bytes
	AxisBytes       Axis = ""             // of Y
	AxisMemory      Axis = "size"         // bytes, logarithmic
	AxisProgramTime Axis = "program time" // seconds of the program's own time
)

// Chart is a drawing of series that belong together.
type Chart struct {
	Title string
	Stack []Line // on each other, the first at the bottom; all have the same T
	Steps bool   // values of the stack stay until the next
	Lines []Line
	X, Y  Axis
	Bands []Band
	Heat  *Heat
	Marks []Mark // in order
	Small bool   // of little height
}

// End is the greatest X of the chart.
func (c *Chart) End() (end float64) {
	c.each(func(x float64) { end = max(end, x) })
	return end
}

// Begin is the smallest X of the chart, 1 of an empty one.
func (c *Chart) Begin() float64 {
	x := math.Inf(1)
	c.each(func(v float64) { x = min(x, v) })
	if math.IsInf(x, 1) {
		return 1
	}
	return x
}

func (c *Chart) each(f func(float64)) {
	ends := func(ps []Point) {
		if n := len(ps); n > 0 {
			f(ps[0].T)
			f(ps[n-1].T)
		}
	}
	for _, l := range slices.Concat(c.Stack, c.Lines) {
		ends(l.Points)
	}
	for _, b := range c.Bands {
		ends(b.High)
	}
	for _, m := range c.Marks {
		f(m.T)
	}
	if c.Heat != nil {
		f(float64(len(c.Heat.Cells)) * c.Heat.Width)
	}
}

// plots are the reports that can be drawn.
var plots = map[string]func(context.Context, *replay.Trace, Options) ([]Chart, error){
	"timeline": Charts, "memory-curve": memoryCurveCharts, "what-if": whatIfCharts, "working-set": workingSetCharts, "hot": hotCharts, "phases": behaviourCharts,
}

// CanPlot says whether a report can be drawn.
func (r *Report) CanPlot() bool { return plots[r.Name] != nil }

// Charts are what is drawn of a report.
func (r *Report) Charts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	return plots[r.Name](ctx, t, o)
}

// Charts are the series of timeline, for a plot: the program's memory with what happened, its
// address space, and the system's memory.
func Charts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	s, err := gather(ctx, t, o, nil)
	if err != nil {
		return nil, err
	}
	if len(s.list) == 0 {
		return nil, errors.New(noSamples)
	}
	use, marks := inUse{pid: o.PID}, marker{}
	end := uint64(0)
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		use.see(m)
		end = m.Event.Time
		if o.mine(m) {
			marks.see(m)
		}
	}
	ours := func(name string, get func(*usage) uint64) Line { return Line{Name: name, Points: wall(s, s.sum(get))} }
	system := func(key string) Line { return Line{Name: key, Points: wall(s, s.ofSystem(key))} }
	rss := ours("RSS", func(u *usage) uint64 { return u.rss })
	rss.Dashed = true
	main := Chart{Title: "Memory of " + pictured(s, t, o) + ", by kind", Lines: []Line{rss}, Marks: marks.list(float64(end) / 1e9)}
	if use.whole >= enoughUses {
		main.Title += " (in use, as snapshots saw it)"
		main.Stack, main.Steps = use.lines(), true
	} else {
		main.Stack = []Line{
			ours("anonymous", (*usage).own), ours("shared", func(u *usage) uint64 { return u.shmem }), ours("files", func(u *usage) uint64 { return u.file }),
		}
	}
	return []Chart{
		main,
		{Title: "Its address space", Small: true, Lines: []Line{
			ours("all of it", func(u *usage) uint64 { return u.virtual }), ours("writable", func(u *usage) uint64 { return u.data }),
		}},
		{Title: "The system's memory", Small: true, Lines: []Line{system("MemFree"), system("Cached"), system("AnonPages"), system("Committed_AS")}},
	}, nil
}

// pictured is what a picture is of.
func pictured(s *samples, t *replay.Trace, o Options) string {
	name := strings.Join(t.Header().Argv, " ")
	if o.PID != 0 || name == "" {
		for _, im := range s.images() {
			name = path.Base(s.name[im])
			break
		}
	}
	return cut(replay.Escape(name), 50)
}

// enoughUses is from how many snapshots on they make a picture.
const enoughUses = 16

// pictureKinds are kinds of memory as a picture tells them apart, from the bottom up.
var pictureKinds = []struct {
	name  string
	kinds []vma.Kind
}{
	{"heap", []vma.Kind{vma.Heap}},
	{"anonymous", []vma.Kind{vma.AnonPrivate}},
	{"shared", []vma.Kind{vma.AnonShared, vma.FileShared, vma.SysV, vma.POSIXShm, vma.Memfd}},
	{"stacks", []vma.Kind{vma.MainStack, vma.ThreadStack}},
	{"files", []vma.Kind{vma.FilePrivate}},
}

// lines are what was in use, for a stack.
func (u *inUse) lines() (out []Line) {
	for _, k := range pictureKinds {
		l := Line{Name: k.name}
		for _, x := range u.at {
			n := uint64(0)
			for _, kind := range k.kinds {
				n += x.bytes[kind]
			}
			l.Points = append(l.Points, Point{T: float64(x.time) / 1e9, V: float64(n)})
		}
		out = append(out, l)
	}
	return out
}

// marker gathers events for a picture.
type marker struct {
	marks []Mark
}

// The names of marks, in the order of their lanes.
var markNames = []string{"signals", "failed calls", "processes", "snapshots"}

// markSlots is how many places of time a picture has.
const markSlots = 1000

func (k *marker) see(m *replay.Moment) {
	x := Mark{T: float64(m.Event.Time) / 1e9}
	switch r := m.Event.Record.(type) {
	case *format.Signal:
		x.Name, x.Grave = markNames[0], r.Fatal
	case *format.Syscall:
		if !failed(r) || weight(replay.CallName(r.Arch, r.Nr), int(-r.Ret)) == usual {
			return
		}
		x.Name = markNames[1]
	case *format.Clone:
		if c := m.State.Threads[r.Child]; c == nil || c.Proc != c.No {
			return
		}
		x.Name = markNames[2]
	case *format.Exec:
		x.Name = markNames[2]
	case *format.Snapshot:
		if r.Reason == format.ReasonSweep {
			return
		}
		x.Name = markNames[3]
	default:
		return
	}
	k.marks = append(k.marks, x)
	if len(k.marks) > 32*markSlots {
		k.thin(x.T)
	}
}

// thin leaves one mark of a kind at each place.
func (k *marker) thin(end float64) {
	known := map[Mark]bool{}
	k.marks = slices.DeleteFunc(k.marks, func(m Mark) bool {
		m.T = math.Floor(m.T / max(end, 1e-9) * markSlots)
		was := known[m]
		known[m] = true
		return was
	})
}

// list is the marks, lane by lane.
func (k *marker) list(end float64) []Mark {
	k.thin(end)
	slices.SortStableFunc(k.marks, func(a, b Mark) int { return slices.Index(markNames, a.Name) - slices.Index(markNames, b.Name) })
	return k.marks
}

// wall is a series by the clock on the wall: without the time held back.
func wall(s *samples, ps []Point) []Point {
	held := map[float64]float64{}
	for i := range s.list {
		held[float64(s.list[i].step)] = float64(s.list[i].time) / 1e9
	}
	for i := range ps {
		ps[i].T = held[ps[i].step]
	}
	return ps
}
