package analyze

import (
	"context"
	"fmt"
	"math"
	"strings"

	"memtrace/replay"
)

// timelineRows is how many rows a person sees: what is between them is in the
// sparklines, and in JSON and CSV.
const timelineRows = 24

// Line is a series with a name.
type Line struct {
	Name   string
	Points []Point // V in bytes
}

// Chart is a drawing of lines that belong together.
type Chart struct {
	Title string
	Lines []Line
}

// Charts are the series of timeline, for a plot.
func Charts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	s, err := gather(ctx, t, o)
	if err != nil {
		return nil, err
	}
	if len(s.list) == 0 {
		return nil, fmt.Errorf("%s", noSamples)
	}
	name := strings.Join(t.Header().Argv, " ")
	if o.PID != 0 || name == "" {
		for _, im := range s.images() {
			name = s.name[im]
			break
		}
	}
	ours := func(name string, get func(*usage) uint64) Line { return Line{name, wall(s, s.sum(get))} }
	system := func(key string) Line { return Line{key, wall(s, s.ofSystem(key))} }
	charts := []Chart{
		{"Resident memory of " + cut(replay.Escape(name), 60), []Line{
			ours("RSS", func(u *usage) uint64 { return u.rss }), ours("anonymous", (*usage).own),
			ours("file", func(u *usage) uint64 { return u.file }), ours("shared", func(u *usage) uint64 { return u.shmem }),
		}},
		{"Promised memory", []Line{
			ours("virtual", func(u *usage) uint64 { return u.virtual }), ours("writable", func(u *usage) uint64 { return u.data }), system("Committed_AS"),
		}},
		{"The system's memory", []Line{system("MemFree"), system("Cached"), system("AnonPages"), system("SwapFree")}},
	}
	return charts, nil
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

// Timeline shows memory over time: a row for each sample.
func Timeline(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	s, err := gather(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r := &Result{Report: "timeline", Title: "Memory over time", Columns: []Column{
		{Key: "time", Title: "TIME", Unit: Duration}, {Key: "step", Title: "STEP", Unit: Count},
		{Key: "rss", Title: "RSS", Unit: Bytes}, {Key: "anonymous", Title: "ANON", Unit: Bytes}, {Key: "file", Title: "FILE", Unit: Bytes, Drop: 4},
		{Key: "shared", Title: "SHARED", Unit: Bytes, Fine: true}, {Key: "swapped", Title: "SWAPPED", Unit: Bytes, Fine: true},
		{Key: "virtual", Title: "VIRTUAL", Unit: Bytes}, {Key: "writable", Title: "WRITABLE", Unit: Bytes, Fine: true},
		{Key: "processes", Title: "PROCESSES", Unit: Count, Fine: true}, {Key: "threads", Title: "THREADS", Unit: Count, Fine: true},
		{Key: "committed_as", Title: "COMMITTED_AS", Unit: Bytes}, {Key: "anon_pages", Title: "ANONPAGES", Unit: Bytes},
		{Key: "mem_free", Title: "MEMFREE", Unit: Bytes, Drop: 3}, {Key: "swap_free", Title: "SWAPFREE", Unit: Bytes, Drop: 1}, {Key: "cached", Title: "CACHED", Unit: Bytes, Drop: 2},
	}}
	alone := len(s.images()) <= 1
	for i := range s.list {
		if x := &s.list[i]; alone || !x.last { // a process's last sample says nothing of the others
			r.Rows = append(r.Rows, x.row())
		}
	}
	if len(r.Rows) == 0 {
		r.Notes = []string{noSamples}
		return r, nil
	}
	all := r.Rows
	r.screen = func() []string { return timelineScreen(r, all, o.ASCII) }
	return r, nil
}

// row is a sample's line: what the sampled processes have together.
func (x *sample) row() []any {
	var sum usage
	for _, u := range x.procs {
		sum.rss += u.rss
		sum.anon += u.anon
		sum.swap += u.swap
		sum.file += u.file
		sum.shmem += u.shmem
		sum.virtual += u.virtual
		sum.data += u.data
		sum.threads += u.threads
	}
	ours := func(n uint64) any {
		if len(x.procs) == 0 {
			return nil
		}
		return n
	}
	system := func(key string) any {
		if n, ok := x.system[key]; ok {
			return n
		}
		return nil
	}
	return []any{
		x.time, uint64(x.step), ours(sum.rss), ours(sum.anon), ours(sum.file), ours(sum.shmem), ours(sum.swap), ours(sum.virtual), ours(sum.data),
		ours(uint64(len(x.procs))), ours(sum.threads),
		system("Committed_AS"), system("AnonPages"), system("MemFree"), system("SwapFree"), system("Cached"),
	}
}

// sparkWidth is how many characters a sparkline has.
const sparkWidth = 30

// timelineScreen is the timeline for a person: a line for each series, and a
// table with evenly spaced rows.
func timelineScreen(r *Result, all [][]any, ascii bool) []string {
	c := *r.coarse()
	c.screen, c.Notes = nil, nil
	var out []string
	out = append(out, fmt.Sprintf("%-13s%11s%11s%11s  %s", "SERIES", "LOWEST", "HIGHEST", "LAST", "OVER TIME"))
	begin, end := all[0][0].(uint64), all[len(all)-1][0].(uint64)
	for j, col := range r.Columns {
		if j < 2 || col.Unit != Bytes {
			continue
		}
		bins, low, high, last, ok := spark(all, j, begin, end)
		if !ok || high == 0 {
			continue
		}
		out = append(out, fmt.Sprintf("%-13s%11s%11s%11s  %s", col.Title, Size(low), Size(high), Size(last), Sparkline(bins, ascii)))
	}
	out = append(out, fmt.Sprintf("%-48s%-*s%s", "", sparkWidth-len(Span(end)), Span(begin), Span(end)), "")
	rows := c.Rows
	if len(rows) > timelineRows {
		c.Rows = nil
		next := begin
		gap := (end - begin) / (timelineRows - 1)
		for i, row := range rows {
			if t := row[0].(uint64); t >= next || i == len(rows)-1 {
				c.Rows = append(c.Rows, row)
				for next <= t {
					next += max(gap, 1)
				}
			}
		}
	}
	var b strings.Builder
	if err := c.Write(&b, Table); err != nil {
		return append(out, err.Error())
	}
	out = append(out, strings.Split(strings.TrimRight(b.String(), "\n"), "\n")...)
	if len(c.Rows) < len(rows) {
		out = append(out, fmt.Sprintf("%d of %d samples (--format csv has them all)", len(c.Rows), len(rows)))
	}
	return out
}

// spark puts a column into bins of equal time; NaN where there is nothing yet.
func spark(rows [][]any, col int, begin, end uint64) (bins []float64, low, high, last uint64, ok bool) {
	bins = make([]float64, sparkWidth)
	for i := range bins {
		bins[i] = math.NaN()
	}
	low = math.MaxUint64
	for _, row := range rows {
		n, is := row[col].(uint64)
		if !is {
			continue
		}
		ok = true
		low, high, last = min(low, n), max(high, n), n
		k := 0
		if end > begin {
			k = min(int(float64(row[0].(uint64)-begin)/float64(end-begin)*sparkWidth), sparkWidth-1)
		}
		bins[k] = float64(n)
	}
	for i := 1; i < len(bins); i++ {
		if math.IsNaN(bins[i]) {
			bins[i] = bins[i-1]
		}
	}
	return bins, low, high, last, ok
}

// Sparkline draws from the lowest value to the highest. A series that hardly
// moves is flat: the scale is at least a fiftieth of its height.
func Sparkline(bins []float64, ascii bool) string {
	marks := []rune("▁▂▃▄▅▆▇█")
	if ascii {
		marks = []rune("_.-~=+*#")
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range bins {
		if !math.IsNaN(v) {
			low, high = min(low, v), max(high, v)
		}
	}
	scale := max(high-low, high/50)
	var b strings.Builder
	for _, v := range bins {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case scale == 0:
			b.WriteRune(marks[0])
		default:
			b.WriteRune(marks[min(int((v-low)/scale*float64(len(marks))), len(marks)-1)])
		}
	}
	return strings.TrimRight(b.String(), " ")
}
