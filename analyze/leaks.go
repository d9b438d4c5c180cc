package analyze

import (
	"context"
	"fmt"
	"path"
	"strings"

	"memtrace/format/vma"
	"memtrace/replay"
)

// Leaks judges whether memory grows without end, and whose: it compares the
// program's own anonymous memory with its file-backed memory, the system's and
// the page cache.
func Leaks(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	s, err := gather(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r := &Result{Report: "leaks", Title: "How memory grew", Columns: []Column{
		{Key: "who", Title: "WHOSE", Unit: Text, Max: 24, Cut: keepBegin}, {Key: "pid", Title: "PID", Unit: Text, Fine: true}, {Key: "series", Title: "SERIES", Unit: Text},
		{Key: "begin", Title: "BEGIN", Unit: Bytes, Drop: 2}, {Key: "high", Title: "HIGHEST", Unit: Bytes, Drop: 1}, {Key: "end", Title: "END", Unit: Bytes},
		{Key: "slope", Title: "PER SECOND", Unit: Bytes}, {Key: "slope_half", Title: "LAST HALF", Unit: Bytes}, {Key: "trend", Title: "TREND", Unit: Text},
		{Key: "spread", Title: "SPREAD", Unit: Bytes, Fine: true}, {Key: "rise", Title: "TROUGHS ROSE", Unit: Bytes, Fine: true}, {Key: "samples", Title: "SAMPLES", Unit: Count, Fine: true},
	}}
	if len(s.list) == 0 {
		r.Notes = []string{noSamples}
		r.Parts = []*Result{verdictPart(&verdict{Word: "unknown", Text: noSamples})}
		return r, nil
	}
	found := s.verdict(r)
	r.Notes = append(r.Notes, wrap(found.Text, screenCols)...)
	p := verdictPart(found)
	p.screen = func() []string { return nil }
	r.Parts = []*Result{p}
	return r, nil
}

// verdict is what the series come to.
type verdict struct {
	Word string // leak, none, unknown
	Who  string
	PID  uint32
	What string // anonymous, shared, reserved
	Rate float64
	Text string
}

func verdictPart(v *verdict) *Result {
	var pid any
	if v.PID != 0 {
		pid = uint64(v.PID)
	}
	return &Result{Report: "verdict", Columns: []Column{
		{Key: "verdict", Unit: Text}, {Key: "who", Unit: Text}, {Key: "pid", Unit: Count}, {Key: "what", Unit: Text}, {Key: "bytes_per_second", Unit: Bytes}, {Key: "text", Unit: Text},
	}, Rows: [][]any{{v.Word, v.Who, pid, v.What, int64(v.Rate), v.Text}}}
}

// shownImages is how many processes have rows of their own.
const shownImages = 8

// own are the series of a process that may be a leak, worst first.
var ownSeries = []struct {
	name string
	get  func(*usage) uint64
}{
	{"anonymous", (*usage).own},
	{"shared", func(u *usage) uint64 { return u.shmem }},
	{"reserved", func(u *usage) uint64 { return u.data }},
}

// verdict adds the rows to r and says what they mean.
func (s *samples) verdict(r *Result) *verdict {
	ims := s.images()
	var worst *suspect
	var main *suspect
	for i, im := range ims {
		c := s.suspect(im)
		if main == nil || c.trends[0].length > main.trends[0].length {
			main = c
		}
		if worst == nil || c.badness() > worst.badness() {
			worst = c
		}
		if i < shownImages {
			s.rows(r, c)
		}
	}
	sys := s.systemRows(r)
	if main == nil {
		return &verdict{Word: "unknown", Text: noSamples}
	}
	if all := s.together(len(ims)); all != nil && worst.badness() == 0 && all.badness() > worst.badness() {
		worst = all
	}
	switch {
	case worst.badness() > 0:
		return worst.leak(sys)
	case main.trends[0].kind == tooShort:
		return &verdict{Word: "unknown", Who: main.who(), Text: fmt.Sprintf(
			"No verdict: %d samples in %s are too few. Let the program run longer, or sample more often (record --meminfo=20ms).",
			main.trends[0].n, Span(uint64(max(main.trends[0].length, 0)*1e9)))}
	}
	return main.none(sys)
}

// suspect is a program with the trends of its series.
type suspect struct {
	im     image
	name   string
	trends []trend // of ownSeries
	file   trend
	grown  [vma.NumKinds]float64 // what it mapped more of between start and end, by kind
	many   int                   // it stands for that many processes
}

func (c *suspect) who() string {
	if c.many > 0 {
		return fmt.Sprintf("%d processes together", c.many)
	}
	return fmt.Sprintf("%s (process %d)", path.Base(c.name), c.im.pid)
}

// reservedLeast is how much address space must have been lost to be called a
// leak of it.
const reservedLeast = 64 << 20

// badness orders suspects: 0 is no leak.
func (c *suspect) badness() float64 {
	for i := range c.trends {
		t := &c.trends[i]
		if ownSeries[i].name == "reserved" && (t.rise < reservedLeast || t.rise < t.high/4 || t.lastHalfMonotone < 0.8) {
			continue // an allocator's arenas grow so for quite a while
		}
		if t.kind == grows {
			return c.trends[i].half / float64(1+i*1000)
		}
	}
	return 0
}

func (s *samples) suspect(im image) *suspect {
	c := &suspect{im: im, name: s.name[im]}
	final := -1
	var from, to *usage
	for i := range s.list {
		if u, ok := s.list[i].procs[im]; ok {
			if s.list[i].last {
				final = i
			} else {
				if from == nil && u.rss > 0 {
					from = &u
				}
				to = &u
			}
		}
	}
	if from != nil {
		for k := range c.grown {
			c.grown[k] = float64(to.kinds[k]) - float64(from.kinds[k])
		}
	}
	cut := func(get func(*usage) uint64) trend {
		ps := s.of(im, get)
		if final < 0 || len(ps) == 0 {
			return trendOf(ps, nil)
		}
		last := ps[len(ps)-1]
		return trendOf(ps[:len(ps)-1], &last)
	}
	for _, x := range ownSeries {
		c.trends = append(c.trends, cut(x.get))
	}
	c.file = cut(func(u *usage) uint64 { return u.file })
	return c
}

// together is all processes as one: a program may grow by having ever more of
// them.
func (s *samples) together(n int) *suspect {
	if n < 3 {
		return nil
	}
	c := &suspect{many: n}
	for _, x := range ownSeries {
		c.trends = append(c.trends, trendOf(s.sum(x.get), nil))
	}
	return c
}

func (s *samples) rows(r *Result, c *suspect) {
	for i, x := range ownSeries {
		if c.trends[i].high > 0 {
			r.Rows = append(r.Rows, c.trends[i].row(path.Base(c.name), c.im.pid, x.name))
		}
	}
	if c.file.high > 0 {
		r.Rows = append(r.Rows, c.file.row(path.Base(c.name), c.im.pid, "file"))
	}
}

// systemKeys are the lines of /proc/meminfo that a leak or a cache shows in.
var systemKeys = []string{"AnonPages", "Committed_AS", "Cached", "Shmem", "SUnreclaim", "MemFree"}

func (s *samples) systemRows(r *Result) map[string]trend {
	m := map[string]trend{}
	for _, k := range systemKeys {
		if ps := s.ofSystem(k); len(ps) > 0 {
			m[k] = trendOf(ps, nil)
			x := m[k]
			r.Rows = append(r.Rows, x.row("system", 0, k))
		}
	}
	return m
}

func (t *trend) row(who string, pid uint32, series string) []any {
	var p any
	if pid != 0 {
		p = fmt.Sprint(pid)
	}
	return []any{who, p, series, int64(t.begin), int64(t.high), int64(t.end), int64(t.all), int64(t.half), t.kind.String(),
		int64(t.spread), int64(t.rise), uint64(t.n)}
}

// moved says which way a series went, and how fast.
func moved(v float64) string {
	if v < 0 {
		return "fell by " + rate(-v)
	}
	return "grew by " + rate(v)
}

func rate(v float64) string {
	if v < 0 {
		return "-" + Size(uint64(-v)) + "/s"
	}
	return Size(uint64(v)) + "/s"
}

func bytesOf(v float64) string {
	if v < 0 {
		return "-" + Size(uint64(-v))
	}
	return Size(uint64(v))
}

// leak puts the verdict on a suspect into words.
func (c *suspect) leak(sys map[string]trend) *verdict {
	v := &verdict{Word: "leak", Who: c.who(), PID: c.im.pid}
	var b strings.Builder
	for i := range c.trends {
		t := &c.trends[i]
		if t.kind != grows {
			continue
		}
		v.What, v.Rate = ownSeries[i].name, t.half
		span := Span(uint64(t.length * 1e9))
		switch v.What {
		case "anonymous":
			fmt.Fprintf(&b, "LEAK in %s: its anonymous memory grew by %s for the whole run of %s (%s in the last half)", c.who(), rate(t.all), span, rate(t.half))
		case "shared":
			fmt.Fprintf(&b, "LEAK of shared memory in %s: it grew by %s for the whole run of %s (%s in the last half)", c.who(), rate(t.all), span, rate(t.half))
		case "reserved":
			fmt.Fprintf(&b, "LEAK of address space in %s: what it mapped to write grew by %s for the whole run of %s (%s in the last half), though it is hardly touched",
				c.who(), rate(t.all), span, rate(t.half))
		}
		if t.shrank {
			fmt.Fprintf(&b, "; it comes and goes, but its troughs rose by %s", bytesOf(t.rise))
		} else {
			b.WriteString(" and never shrank")
		}
		fmt.Fprintf(&b, ": %s at first, %s at the end.", bytesOf(t.begin), bytesOf(t.end))
		break
	}
	if extra := c.trends[2].half - v.Rate; v.What == "anonymous" && c.trends[2].kind == grows && extra > 3*v.Rate {
		fmt.Fprintf(&b, " It maps far more than it touches: what it could write to grew by %s.", rate(c.trends[2].all))
	}
	if kind, share := c.where(); share > 0 {
		fmt.Fprintf(&b, " %.0f %% of what it mapped meanwhile is %s.", 100*share, kind)
	}
	if a, ok := sys["AnonPages"]; ok && v.What == "anonymous" && a.half > 0 {
		fmt.Fprintf(&b, " AnonPages of the whole system %s, Committed_AS %s.", moved(a.all), moved(sys["Committed_AS"].all))
	}
	v.Text = b.String()
	return v
}

// where is the kind of mapping that most of the growth is in.
func (c *suspect) where() (kind string, share float64) {
	sum, best := 0.0, vma.Kind(0)
	for k, n := range c.grown {
		if n > 0 {
			sum += n
			if n > c.grown[best] {
				best = vma.Kind(k)
			}
		}
	}
	if sum == 0 || c.grown[best] <= 0 {
		return "", 0
	}
	switch best {
	case vma.Heap:
		kind = "in [heap]"
	case vma.AnonPrivate:
		kind = "in anonymous mappings (malloc of large blocks, arenas of threads, mmap)"
	case vma.ThreadStack:
		kind = "in stacks of threads"
	default:
		kind = "in mappings of kind " + best.String()
	}
	return kind, c.grown[best] / sum
}

// none says that there is no leak in the program, and what grew instead.
func (c *suspect) none(sys map[string]trend) *verdict {
	v := &verdict{Word: "none", Who: c.who(), PID: c.im.pid}
	t := &c.trends[0]
	var b strings.Builder
	fmt.Fprintf(&b, "No leak seen in %s: its anonymous memory ", c.who())
	span := Span(uint64(t.length * 1e9))
	switch t.kind {
	case settles:
		fmt.Fprintf(&b, "grew at first, by %s before the half, and then by %s", rate(t.early), rate(t.half))
	case gaveBack:
		fmt.Fprintf(&b, "grew by %s, and it gave back %s before it ended", rate(t.all), bytesOf(t.returned))
	case falls:
		fmt.Fprintf(&b, "fell by %s", rate(-t.all))
	default:
		fmt.Fprintf(&b, "stays between %s and %s (%s in the last half)", bytesOf(t.low), bytesOf(t.high), rate(t.half))
	}
	fmt.Fprintf(&b, ", over %s.", span)
	if c.file.kind == grows || c.file.kind == settles {
		fmt.Fprintf(&b, " Its file-backed memory grew by %s: pages of mapped files, which the kernel takes back when memory is short.", bytesOf(c.file.high-c.file.begin))
	}
	cached, shmem := sys["Cached"], sys["Shmem"]
	if grew := cached.end - cached.begin; grew > 16<<20 && grew > cached.begin/100 {
		if of := shmem.end - shmem.begin; of > grew/2 {
			fmt.Fprintf(&b, " The system's Cached grew by %s, of which %s are shared memory or tmpfs files: these are NOT given back.", bytesOf(grew), bytesOf(of))
		} else {
			fmt.Fprintf(&b, " The system's page cache grew by %s: that is no leak, it is given back when memory is short.", bytesOf(grew))
		}
	}
	anon := sys["AnonPages"]
	if grew := anon.end - anon.begin; anon.kind == grows && grew > 16<<20 && grew > 4*max(t.end-t.begin, 0) {
		fmt.Fprintf(&b, " AnonPages of the whole system grew by %s (%s), which is not this program's: look for another one.", bytesOf(grew), rate(anon.all))
	}
	if k := sys["SUnreclaim"]; k.kind == grows && k.end-k.begin > 16<<20 {
		fmt.Fprintf(&b, " The kernel's own memory (SUnreclaim) grew by %s.", bytesOf(k.end-k.begin))
	}
	v.Text = b.String()
	return v
}

// wrap breaks a text into lines of at most n columns.
func wrap(s string, n int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		switch {
		case line == "":
			line = w
		case len(line)+1+len(w) <= n:
			line += " " + w
		default:
			lines = append(lines, line)
			line = w
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
