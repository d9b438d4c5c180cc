package web

import (
	"context"
	"fmt"
	"sort"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Series are memory over time, by "kind" (in use, as snapshots saw it), "mapped", "rss" or
// "system", in n buckets.
func (l *Log) Series(ctx context.Context, by string, q Query, n int) (*Series, error) {
	b, err := l.buckets(q, n)
	if err != nil {
		return nil, err
	}
	r := &Series{By: by, From: b.from, To: b.to, N: n, Ready: b.ready, Series: []OneSeries{}}
	procs, err := l.procs(q.PID)
	if err != nil {
		return nil, err
	}
	switch by {
	case "kind":
		l.inUse(r, b, procs)
	case "mapped":
		err = l.mapped(r, b, procs)
	case "rss", "system":
		err = l.sampled(ctx, r, b, by)
	default:
		return nil, fmt.Errorf("by=%s: want kind, mapped, rss or system", by)
	}
	r.Step = b.steps()
	return r, err
}

// line is a series that is being made: values come in order of time.
type line struct {
	OneSeries
	at    int // the bucket of the last value, -1: none yet
	value int64
	any   bool // it ever had bytes
}

func newLine(id string, n int) *line {
	return &line{OneSeries: OneSeries{ID: id, Min: unknown(n), Max: unknown(n), Last: unknown(n)}, at: -1}
}

// stay has the last value stay until bucket i.
func (x *line) stay(i int) {
	if x.at < 0 {
		return
	}
	for x.at++; x.at <= i; x.at++ {
		x.Min[x.at], x.Max[x.at], x.Last[x.at] = x.value, x.value, x.value
	}
	x.at = i
}

// put is what a series was in bucket i, and at its end.
func (x *line) put(i int, least, most, last int64) {
	if i > x.at {
		x.stay(i)
		x.at = i
	}
	if x.Min[i] < 0 {
		x.Min[i], x.Max[i] = least, most
	}
	x.Min[i], x.Max[i], x.Last[i] = min(x.Min[i], least), max(x.Max[i], most), last
	x.value = last
	x.any = x.any || most > 0
}

// before is what a series was before the first bucket.
func (x *line) before(n int64) {
	x.at, x.value = max(x.at, 0), n
	x.Min[0], x.Max[0], x.Last[0] = n, n, n
	x.any = x.any || n > 0
}

// kindLines are lines by kind.
func kindLines(n int) (lines [vma.NumKinds]*line) {
	for k := range lines {
		lines[k] = newLine(vma.Kind(k).String(), n)
	}
	return lines
}

// add adds the lines that ever had bytes.
func (r *Series) add(lines [vma.NumKinds]*line, n int) {
	for _, k := range kindOrder {
		if x := lines[k]; x.any {
			x.stay(n - 1)
			r.Series = append(r.Series, x.OneSeries)
		}
	}
}

// inUse are the bytes that snapshots found written.
func (l *Log) inUse(r *Series, b *buckets, procs map[uint32]bool) {
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	lines := kindLines(b.n)
	sampled := make([]bool, b.n)
	uses := l.sum.uses
	first := sort.Search(len(uses), func(i int) bool { return uses[i].step >= uint64(b.q.From) })
	sum := func(p *usePoint) (by analyze.KindBytes) {
		if procs == nil {
			return p.by[everyProc]
		}
		for proc := range procs {
			for k, n := range p.by[proc] {
				by[k] += n
			}
		}
		return by
	}
	if first > 0 {
		for k, n := range sum(&uses[first-1]) {
			lines[k].before(int64(n))
		}
	}
	for i := first; i < len(uses) && uses[i].step <= uint64(b.q.To); i++ {
		at := b.of(uses[i].time)
		sampled[at] = true
		b.saw(at, uses[i].step)
		for k, n := range sum(&uses[i]) {
			lines[k].put(at, int64(n), int64(n), int64(n))
		}
	}
	r.add(lines, b.n)
	r.Sampled = indexes(sampled)
	from, to := l.sum.leavesOf(b.q)
	for i := from; i < to; i++ {
		if x := l.sum.leaves[i]; x.step <= uint64(b.q.To) {
			b.saw(b.of(x.time), x.step)
		}
	}
}

// mapped are the bytes that were mapped.
func (l *Log) mapped(r *Series, b *buckets, procs map[uint32]bool) error {
	m := newMapped(b, procs)
	if b.exact {
		var y *tally
		bucket := 0
		cut := func() {
			mem, _ := y.cut()
			for i := range mem {
				m.cell(bucket, bucket, &mem[i])
			}
		}
		err := l.walk(b.q, func(s *format.State) {
			y = newTally(s)
			for key, n := range y.now {
				m.before(key, n)
			}
		}, func(x *replay.Moment) {
			if at := b.of(x.Event.Time); at != bucket {
				cut()
				bucket = at
			}
			y.see(x)
			b.saw(bucket, uint64(x.Event.Step))
		})
		if err != nil {
			return err
		}
		cut()
	} else {
		l.sum.mu.RLock()
		defer l.sum.mu.RUnlock()
		from, to := l.sum.leavesOf(b.q)
		for i := range l.sum.mem {
			x := &l.sum.mem[i]
			switch leaf := int(x.leaf); {
			case leaf < from:
				m.before(x.memKey, x.last)
			case leaf < to:
				m.cell(b.of(l.sum.leafBegin(leaf)), b.of(l.sum.leaves[leaf].time), &x.memCell)
			}
		}
		for i := from; i < to; i++ {
			b.saw(b.of(l.sum.leaves[i].time), min(l.sum.leaves[i].step, uint64(b.q.To)))
		}
	}
	r.add(m.done(), b.n)
	return nil
}

// mappedLines adds up processes.
type mappedLines struct {
	b     *buckets
	procs map[uint32]bool
	lines [vma.NumKinds]*line
	now   map[memKey]int64
}

func newMapped(b *buckets, procs map[uint32]bool) *mappedLines {
	if procs == nil {
		procs = map[uint32]bool{everyProc: true}
	}
	return &mappedLines{b: b, procs: procs, lines: kindLines(b.n), now: map[memKey]int64{}}
}

func (m *mappedLines) before(key memKey, n int64) {
	if m.procs[key.proc] {
		m.lines[key.kind].before(m.lines[key.kind].value + n - m.now[key])
		m.now[key] = n
	}
}

// cell is what a process had in buckets from..to. With several processes of one pid, which
// do not live at once, all others have nothing.
func (m *mappedLines) cell(from, to int, c *memCell) {
	if !m.procs[c.proc] {
		return
	}
	x := m.lines[c.kind]
	if x.at < 0 {
		x.before(0) // there was nothing of this kind
	}
	others := x.value - m.now[c.memKey]
	for i := from; i < to; i++ { // it may have been anything of this there
		x.put(i, others+min(c.min, m.now[c.memKey]), others+c.max, others+m.now[c.memKey])
	}
	x.put(to, others+c.min, others+c.max, others+c.last)
	m.now[c.memKey] = c.last
}

func (m *mappedLines) done() [vma.NumKinds]*line { return m.lines }

// almost is the Ready of what is still being made when all else is there.
const almost = 0.99

// sampleLines are the columns of the timeline.
var sampleLines = map[string][]struct {
	id string
	of func(*analyze.TimelineRow) *uint64
}{
	"rss": {
		{"rss", func(r *analyze.TimelineRow) *uint64 { return r.RSS }},
		{"anonymous", func(r *analyze.TimelineRow) *uint64 { return r.Anonymous }},
		{"file", func(r *analyze.TimelineRow) *uint64 { return r.File }},
		{"shared", func(r *analyze.TimelineRow) *uint64 { return r.Shared }},
		{"swapped", func(r *analyze.TimelineRow) *uint64 { return r.Swapped }},
		{"virtual", func(r *analyze.TimelineRow) *uint64 { return r.Virtual }},
	},
	"system": {
		{"committed_as", func(r *analyze.TimelineRow) *uint64 { return r.CommittedAS }},
		{"anon_pages", func(r *analyze.TimelineRow) *uint64 { return r.AnonPages }},
		{"mem_free", func(r *analyze.TimelineRow) *uint64 { return r.MemFree }},
		{"swap_free", func(r *analyze.TimelineRow) *uint64 { return r.SwapFree }},
		{"cached", func(r *analyze.TimelineRow) *uint64 { return r.Cached }},
	},
}

// timeline are the samples of the whole log: waited for, or as far as they are there.
func (l *Log) timeline(ctx context.Context, pid uint32, wait bool) ([]analyze.TimelineRow, bool, error) {
	all := l.All()
	all.PID = pid
	v, ok, err := l.soon(ctx, fmt.Sprintf("timeline %d", pid), wait, func(ctx context.Context, _ func(float64)) (any, error) {
		r, err := analyze.Timeline(ctx, l.t, l.options(all))
		if err != nil {
			return nil, err
		}
		return r.Rows, nil
	})
	if !ok {
		return nil, false, err
	}
	return v.([]analyze.TimelineRow), true, nil
}

// sampled are series of samples.
func (l *Log) sampled(ctx context.Context, r *Series, b *buckets, by string) error {
	rows, ok, err := l.timeline(ctx, b.q.PID, false)
	if !ok {
		r.Ready = min(r.Ready, almost)
		return err
	}
	r.Ready = 1
	sampled := make([]bool, b.n)
	for _, s := range sampleLines[by] {
		x := newLine(s.id, b.n)
		for i := range rows {
			n := s.of(&rows[i])
			switch step := uint64(rows[i].Step); {
			case n == nil || step > uint64(b.q.To):
			case step < uint64(b.q.From):
				x.before(int64(*n))
			default:
				at := b.of(rows[i].Time)
				sampled[at] = true
				b.saw(at, step)
				x.put(at, int64(*n), int64(*n), int64(*n))
			}
		}
		if x.any {
			x.stay(b.n - 1)
			r.Series = append(r.Series, x.OneSeries)
		}
	}
	r.Sampled = indexes(sampled)
	return nil
}

// indexes are where a list has true.
func indexes(list []bool) []int {
	is := []int{}
	for i, x := range list {
		if x {
			is = append(is, i)
		}
	}
	return is
}
