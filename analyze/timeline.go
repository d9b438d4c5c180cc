package analyze

import (
	"context"
	"fmt"
	"math"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// timelineRows is how many rows a person sees: what is between them is in the
// sparklines, and in JSON and CSV.
const timelineRows = 24

// TimelineReport is memory over time.
type TimelineReport struct {
	Rows  []TimelineRow
	ascii bool
}

// TimelineRow is one sample: what the sampled processes have together, and the
// system.
type TimelineRow struct {
	Time        uint64      `col:"time,TIME,ns"`
	Step        format.Step `col:"step,STEP"`
	RSS         *uint64     `col:"rss,RSS,bytes"`
	Anonymous   *uint64     `col:"anonymous,ANON,bytes"`
	File        *uint64     `col:"file,FILE,bytes,drop=4"`
	Shared      *uint64     `col:"shared,SHARED,bytes,fine"`
	Swapped     *uint64     `col:"swapped,SWAPPED,bytes,fine"`
	Virtual     *uint64     `col:"virtual,VIRTUAL,bytes"`
	Writable    *uint64     `col:"writable,WRITABLE,bytes,fine"`
	Processes   *uint64     `col:"processes,PROCESSES,fine"`
	Threads     *uint64     `col:"threads,THREADS,fine"`
	CommittedAS *uint64     `col:"committed_as,COMMITTED_AS,bytes"`
	AnonPages   *uint64     `col:"anon_pages,ANONPAGES,bytes"`
	MemFree     *uint64     `col:"mem_free,MEMFREE,bytes,drop=3"`
	SwapFree    *uint64     `col:"swap_free,SWAPFREE,bytes,drop=1"`
	Cached      *uint64     `col:"cached,CACHED,bytes,drop=2"`
}

// timelineSeries are what is drawn as sparklines.
var timelineSeries = []struct {
	title string
	of    func(*TimelineRow) *uint64
}{
	{"RSS", func(r *TimelineRow) *uint64 { return r.RSS }},
	{"ANON", func(r *TimelineRow) *uint64 { return r.Anonymous }},
	{"FILE", func(r *TimelineRow) *uint64 { return r.File }},
	{"SHARED", func(r *TimelineRow) *uint64 { return r.Shared }},
	{"SWAPPED", func(r *TimelineRow) *uint64 { return r.Swapped }},
	{"VIRTUAL", func(r *TimelineRow) *uint64 { return r.Virtual }},
	{"WRITABLE", func(r *TimelineRow) *uint64 { return r.Writable }},
	{"COMMITTED_AS", func(r *TimelineRow) *uint64 { return r.CommittedAS }},
	{"ANONPAGES", func(r *TimelineRow) *uint64 { return r.AnonPages }},
	{"MEMFREE", func(r *TimelineRow) *uint64 { return r.MemFree }},
	{"SWAPFREE", func(r *TimelineRow) *uint64 { return r.SwapFree }},
	{"CACHED", func(r *TimelineRow) *uint64 { return r.Cached }},
}

// Sheet lays the report out.
func (r *TimelineReport) Sheet() *Sheet {
	s := sheet("timeline", r.Rows)
	s.Title = "Memory over time"
	if len(r.Rows) == 0 {
		s.Notes = []string{noSamples}
	} else {
		s.screen = r.screen
	}
	return s
}

// Timeline shows memory over time: a row for each sample.
func Timeline(ctx context.Context, t *replay.Trace, o Options) (*TimelineReport, error) {
	s, err := gather(ctx, t, o, nil)
	if err != nil {
		return nil, err
	}
	r := &TimelineReport{ascii: o.ASCII}
	for i := range s.list {
		r.Rows = append(r.Rows, s.list[i].row())
	}
	return r, nil
}

// row is a sample's line.
func (x *sample) row() TimelineRow {
	r := TimelineRow{
		Time: x.time, Step: x.step,
		CommittedAS: x.ofSystem("Committed_AS"), AnonPages: x.ofSystem("AnonPages"), MemFree: x.ofSystem("MemFree"),
		SwapFree: x.ofSystem("SwapFree"), Cached: x.ofSystem("Cached"),
	}
	if len(x.all) == 0 {
		return r
	}
	var sum usage
	for _, u := range x.all {
		sum.rss += u.rss
		sum.anon += u.anon
		sum.swap += u.swap
		sum.file += u.file
		sum.shmem += u.shmem
		sum.virtual += u.virtual
		sum.data += u.data
		sum.threads += u.threads
	}
	n := uint64(len(x.all))
	r.RSS, r.Anonymous, r.File, r.Shared, r.Swapped = &sum.rss, &sum.anon, &sum.file, &sum.shmem, &sum.swap
	r.Virtual, r.Writable, r.Processes, r.Threads = &sum.virtual, &sum.data, &n, &sum.threads
	return r
}

// ofSystem is a line of /proc/meminfo, nil if it has none.
func (x *sample) ofSystem(key string) *uint64 {
	if n, ok := x.system[key]; ok {
		return &n
	}
	return nil
}

// sparkWidth is how many characters a sparkline has.
const sparkWidth = 30

// screen is the timeline for a person: a line for each series, and a table with
// evenly spaced rows of s.
func (r *TimelineReport) screen(s *Sheet) []string {
	var out []string
	out = append(out, fmt.Sprintf("%-13s%11s%11s%11s  %s", "SERIES", "LOWEST", "HIGHEST", "LAST", "OVER TIME"))
	for _, x := range timelineSeries {
		bins, low, high, last, ok := r.spark(x.of)
		if !ok || high == 0 {
			continue
		}
		out = append(out, fmt.Sprintf("%-13s%11s%11s%11s  %s", x.title, Size(low), Size(high), Size(last), Sparkline(bins, r.ascii)))
	}
	begin, end := r.Rows[0].Time, r.Rows[len(r.Rows)-1].Time
	out = append(out, fmt.Sprintf("%-48s%-*s%s", "", sparkWidth-len(Span(end)), Span(begin), Span(end)), "")
	c := *s.coarse()
	c.screen, c.Notes = nil, nil
	if len(c.Rows) == len(r.Rows) && !s.sorted { // else the user has chosen rows
		c.Rows = pick(c.Rows, r.spaced())
	}
	var b strings.Builder
	if err := c.Write(&b, Table); err != nil {
		return append(out, err.Error())
	}
	out = append(out, strings.Split(strings.TrimRight(b.String(), "\n"), "\n")...)
	if len(c.Rows) < len(s.Rows) {
		out = append(out, fmt.Sprintf("%d of %d samples (--format csv has them all)", len(c.Rows), len(s.Rows)))
	}
	return out
}

// spaced are the indexes of so many rows as a person wants to see, evenly spaced
// in time.
func (r *TimelineReport) spaced() (rows []int) {
	begin, end := r.Rows[0].Time, r.Rows[len(r.Rows)-1].Time
	next, gap := begin, (end-begin)/(timelineRows-1)
	for i := range r.Rows {
		t := r.Rows[i].Time
		if len(r.Rows) > timelineRows && t < next && i < len(r.Rows)-1 {
			continue
		}
		rows = append(rows, i)
		for next <= t {
			next += max(gap, 1)
		}
	}
	return rows
}

// spark puts a series into bins of equal time; NaN where there is nothing yet.
func (r *TimelineReport) spark(of func(*TimelineRow) *uint64) (bins []float64, low, high, last uint64, ok bool) {
	begin, end := r.Rows[0].Time, r.Rows[len(r.Rows)-1].Time
	bins = make([]float64, sparkWidth)
	for i := range bins {
		bins[i] = math.NaN()
	}
	low = math.MaxUint64
	for i := range r.Rows {
		n := of(&r.Rows[i])
		if n == nil {
			continue
		}
		ok = true
		low, high, last = min(low, *n), max(high, *n), *n
		k := 0
		if end > begin {
			k = min(int(float64(r.Rows[i].Time-begin)/float64(end-begin)*sparkWidth), sparkWidth-1)
		}
		bins[k] = float64(*n)
	}
	goOn(bins)
	return bins, low, high, last, ok
}

// curveLeast is from how many values on a series is drawn as one that goes on between them.
const curveLeast = 4

// goOn lets each value stay until the next. Of very few that would be a curve nobody saw: they
// stay where they are.
func goOn(bins []float64) {
	n := 0
	for _, v := range bins {
		if !math.IsNaN(v) {
			n++
		}
	}
	if n < curveLeast {
		return
	}
	for i := 1; i < len(bins); i++ {
		if math.IsNaN(bins[i]) {
			bins[i] = bins[i-1]
		}
	}
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
