package analyze

import (
	"context"
	"slices"
	"strings"
	"time"

	"memtrace/replay"
)

// LeaksReport is how memory grew, and what that means.
type LeaksReport struct {
	Rows []LeakRow
	// Verdicts are those of each program, the worst first, and one for all that lived too
	// shortly. Verdict is the first of them, which is the log's.
	Verdicts []Verdict
	Verdict  Verdict
	// Sites are the call sites of a leak, of a log with call stacks.
	Sites   []LeakSite
	sampled bool
	rss     []RSSPoint // of all processes together
}

// LeakRow is one series of a program or of the system, in bytes.
type LeakRow struct {
	Who     string  `col:"who,PROGRAM,max=24,cut=begin"`
	PID     *uint32 `col:"pid,PID,drop=3"`
	Series  string  `col:"series,SERIES"`
	Begin   int64   `col:"begin,BEGIN,bytes,drop=2"`
	High    int64   `col:"high,HIGHEST,bytes,drop=1"`
	End     int64   `col:"end,END,bytes"`
	Rise    int64   `col:"rise,KEPT,bytes"`             // what grew and was not given back later, without the start
	Half    int64   `col:"slope_half,PER SECOND,bytes"` // in the last half of what grew
	Trend   string  `col:"trend,TREND"`
	Noise   int64   `col:"noise,NOISE,bytes,fine"`
	Samples *uint64 `col:"samples,SAMPLES,fine"` // nil: known at each change
}

// Sheet lays the report out.
func (r *LeaksReport) Sheet() *Sheet {
	s := sheet("leaks", r.Rows)
	s.Title = "How memory grew"
	v := sheet("verdicts", r.Verdicts)
	v.screen = func(*Sheet) []string { return nil } // the notes say it
	s.Parts = []*Sheet{v}
	if len(r.Sites) > 0 {
		s.Parts = append(s.Parts, sitesSheet(r.Sites))
	}
	if !r.sampled {
		s.Notes = []string{noSamples}
	}
	for i := range r.Verdicts {
		if i == shownVerdicts {
			s.Notes = append(s.Notes, plural(uint64(len(r.Verdicts)-i), "more verdict", "more verdicts")+" (--format json)")
			break
		}
		s.Notes = append(s.Notes, wrap(replay.Escape(r.Verdicts[i].Text), screenCols)...)
	}
	return s
}

// How many programs a person sees.
const (
	shownPrograms = 8
	shownVerdicts = 6
	leastRow      = 4 // samples of a program that is too short for a verdict
)

// Leaks judges whether memory grows without end, and whose: docs/verdicts.md says how.
func Leaks(ctx context.Context, t *replay.Trace, o Options) (*LeaksReport, error) {
	before, err := t.Before(o.From)
	if err != nil {
		return nil, err
	}
	c := newCensus(before)
	s, err := gather(ctx, t, o, c)
	if err != nil {
		return nil, err
	}
	r := &LeaksReport{sampled: len(s.list) > 0, rss: s.rss()}
	programs := map[*Verdict]*program{}
	var all []*Verdict
	for i, l := range c.list {
		if l.collector == noCollector && l.isGo(t) {
			l.collector = goCollector
		}
		p := s.judged(l)
		p.stalled = c.stalled(l)
		if i < shownPrograms {
			r.Rows = append(r.Rows, p.rows()...)
		}
		for _, f := range p.found() {
			v := p.verdict(f)
			all = append(all, v)
			programs[v] = p
		}
	}
	for _, l := range c.first[:min(len(c.first), max(0, shownPrograms-len(c.list)))] {
		if p := s.judged(l); len(p.sampled[0]) >= leastRow {
			r.Rows = append(r.Rows, p.rows()...)
		}
	}
	if v := c.many(); v != nil {
		all = append(all, v)
	}
	slices.SortStableFunc(all, worst)
	if v := c.tooShort(); v != nil {
		all = append(all, v)
	}
	r.Rows = append(r.Rows, s.systemRows()...)
	for _, v := range all {
		if p := programs[v]; v.Word == wordLeak && p != nil && t.HasCallStacks() && len(r.Sites) == 0 && v.Rate != nil {
			if r.Sites, err = leakSites(ctx, t, o, span{p.pid, c.clock(p.window.from), time.Duration(c.clock(p.window.to))}); err != nil {
				return nil, err
			}
			if len(r.Sites) > 0 && strings.HasPrefix(r.Sites[0].Site, bareSite) {
				r.Sites = nil // of these calls no stacks were taken
			}
			v.sited(r.Sites)
		}
		r.Verdicts = append(r.Verdicts, *v)
	}
	if len(r.Verdicts) == 0 {
		r.Verdicts = []Verdict{{Word: wordShort, Kind: kindMemory, Text: "No verdict: the log has no program."}}
	}
	r.Verdict = r.Verdicts[0]
	return r, nil
}

// seriesInUse is what the series of memory in use is called.
const seriesInUse = "in use"

// rows are the series of a program that say something.
func (p *program) rows() []LeakRow {
	row := func(name string, j *judgement, high float64) LeakRow {
		return LeakRow{
			Who: p.who(), PID: &p.pid, Series: name, Begin: int64(j.begin), High: int64(high), End: int64(j.end), Rise: int64(j.rise), Half: int64(j.rate),
			Trend: j.shape.String(), Noise: int64(j.noise),
		}
	}
	var list []LeakRow
	samples := uint64(p.samples)
	add := func(name string, j *judgement, c series) {
		if len(c) == 0 {
			return
		}
		_, high := c.bounds()
		if high == 0 {
			return
		}
		x := row(name, j, high)
		if j.shape == tooShort {
			x.Begin = int64(c[0].V)
		}
		x.End, x.Samples = int64(c[len(c)-1].V), &samples
		list = append(list, x)
	}
	add(seriesInUse, &p.inUse, p.sampled[0])
	add("shared", &p.sharedUse, p.sampled[1])
	add("page tables", &p.tables, p.sampled[3])
	for _, u := range []use{useHeap, useAnon, useStacks, useReserved, useShared} {
		if j, c := &p.by[u], p.extent.by[u].series(); len(c) > 0 && j.high > 0 {
			_, high := c.bounds()
			x := row(u.mapped(), j, high)
			list = append(list, x)
		}
	}
	return list
}

// mapped is what a series of mapped memory is called.
func (u use) mapped() string {
	return [numUses]string{"[heap]", "mapped", "reserved", "thread stacks", "shared mapped"}[u]
}

// systemKeys are the lines of /proc/meminfo that a leak or a cache shows in.
var systemKeys = []string{"AnonPages", "Committed_AS", "Cached", "Shmem", "SUnreclaim", "MemFree"}

// systemFloor: the system moves by itself.
const systemFloor = 4 << 20

func (s *samples) systemRows() (list []LeakRow) {
	for _, k := range systemKeys {
		c := series(s.ofSystem(k))
		if len(c) == 0 {
			continue
		}
		w := window{c[0].T, c[len(c)-1].T}
		j := judgement{window: w}
		if len(c) >= leastSamples {
			j = judge(c, window{w.at(0.1), w.to}, systemFloor, sampledSteps)
		}
		_, high := c.bounds()
		n := uint64(len(c))
		list = append(list, LeakRow{
			Who: "system", Series: k, Begin: int64(c[0].V), High: int64(high), End: int64(c[len(c)-1].V), Rise: int64(j.rise), Half: int64(j.rate),
			Trend: j.shape.String(), Noise: int64(j.noise), Samples: &n,
		})
	}
	return list
}

// span is a stretch of a log.
type span struct {
	pid  uint32
	from uint64        // ns since the start
	to   time.Duration // likewise
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
