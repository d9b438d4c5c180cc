// Package top is the full-screen view of processes and mappings by growth, of a
// living program or of a log. It draws with bubbletea
// (docs/adr/0006-full-screen.md), which nothing else imports.
//
// A Feed may be fed by one goroutine while another looks at it; a History may
// not.
package top

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Proc is a process at a moment.
type Proc struct {
	PID, No           uint32
	Name              string
	Threads           int
	RSS, Anon, Mapped uint64
	Rate              float64   // bytes of RSS a second, of late
	Spark             []float64 // RSS over time
	Maps              []Mapping
}

// Mapping is the mappings of one name together.
type Mapping struct {
	Name   string
	Count  int
	Size   uint64
	Growth int64 // since the process was first seen
}

// Frame is what there is to show at a moment.
type Frame struct {
	Time       time.Duration
	Step, Last format.Step
	Procs      []Proc
	Events     []string // the last ones, oldest first
	Free, Cach uint64   // of the system: MemAvailable and Cached
	Total      uint64
}

// Source is what a view looks at.
type Source interface {
	Frame() (Frame, error)
	// Slide moves by that part of the whole, where it can.
	Slide(part float64)
	// Live says that it moves by itself.
	Live() bool
}

// keptEvents is how many events are at hand.
const keptEvents = 12

// sparkPoints is how many values a sparkline is made of.
const sparkPoints = 20

// rateOver is how far back a rate looks.
const rateOver = 5 * time.Second

type point struct {
	at        time.Duration
	rss, anon uint64
}

// past is what was seen of one process.
type past struct {
	name   string
	points []point
	base   map[string]uint64 // mapped bytes by name, when first seen
}

// book keeps the past of all processes, by process number.
type book struct {
	procs             map[uint32]*past
	free, cach, total uint64
}

func (b *book) of(no uint32) *past {
	if b.procs == nil {
		b.procs = map[uint32]*past{}
	}
	p := b.procs[no]
	if p == nil {
		p = &past{}
		b.procs[no] = p
	}
	return p
}

// see follows a moment.
func (b *book) see(m *replay.Moment) {
	switch r := m.Event.Record.(type) {
	case *format.Exec:
		b.procs[m.Thread.Proc] = &past{name: r.Path}
	case *format.Clone:
		if c := m.State.Threads[r.Child]; c != nil && c.Proc == c.No {
			b.of(c.No).name = b.of(m.Thread.Proc).name
		}
	case *format.MemInfo:
		b.sample(m, r)
	}
}

func (b *book) sample(m *replay.Moment, r *format.MemInfo) {
	byPID := map[uint32]*format.Thread{}
	for _, t := range m.State.Threads {
		if t.No == t.Proc || byPID[t.TGID] == nil {
			byPID[t.TGID] = t
		}
	}
	for _, s := range r.Samples {
		switch s.Source {
		case "meminfo":
			b.total, b.free, b.cach = field(s.Data, "MemTotal"), field(s.Data, "MemAvailable"), field(s.Data, "Cached")
		case "status":
			t := byPID[s.PID]
			if t == nil || field(s.Data, "VmRSS") == 0 {
				continue
			}
			p := b.of(t.Proc)
			if p.name == "" { // attached to: no exec was seen
				p.name = text(s.Data, "Name")
			}
			p.points = append(p.points, point{time.Duration(m.Event.Time), field(s.Data, "VmRSS"), field(s.Data, "RssAnon") + field(s.Data, "VmSwap")})
			if p.base == nil && m.State.MMs[t.MM] != nil {
				p.base = map[string]uint64{}
				for name, g := range groups(m.State.MMs[t.MM].VMAs) {
					p.base[name] = g.Size
				}
			}
		}
	}
}

// field is a line of "Key: 123 kB" in bytes.
func field(b []byte, key string) uint64 {
	f := strings.Fields(text(b, key))
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// text is what follows "Key:" in its line.
func text(b []byte, key string) string {
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// groups sums up mappings by name.
func groups(set *vma.Set) map[string]Mapping {
	gs := map[string]Mapping{}
	for v := range set.All() {
		name := v.Name
		if name == "" || v.Kind == vma.ThreadStack {
			name = v.Kind.String()
		}
		g := gs[name]
		g.Name = name
		g.Count++
		g.Size += v.Len()
		gs[name] = g
	}
	return gs
}

// frame is the processes of a state, with their past up to now.
func (b *book) frame(s *format.State, now time.Duration) Frame {
	f := Frame{Time: now, Free: b.free, Cach: b.cach, Total: b.total}
	v := replay.View{State: s}
	for _, q := range v.Processes() {
		p := Proc{PID: q.PID, No: q.No, Threads: len(q.Threads)}
		old := b.of(q.No)
		p.Name = replay.Escape(path.Base(cmp.Or(old.name, fmt.Sprint("process ", q.PID))))
		n := 0
		for n < len(old.points) && old.points[n].at <= now {
			n++
		}
		if ps := old.points[:n]; n > 0 {
			last := ps[n-1]
			p.RSS, p.Anon = last.rss, last.anon
			from := ps[0]
			for _, x := range ps {
				if x.at < last.at-rateOver {
					from = x
				}
			}
			if dt := (last.at - from.at).Seconds(); dt > 0 {
				p.Rate = (float64(last.rss) - float64(from.rss)) / dt
			}
			p.Spark = bins(ps)
		}
		if mm := s.MMs[q.MM]; mm != nil {
			for _, g := range groups(mm.VMAs) {
				p.Mapped += g.Size
				if old.base != nil {
					g.Growth = int64(g.Size) - int64(old.base[g.Name])
				}
				g.Name = replay.Escape(g.Name)
				p.Maps = append(p.Maps, g)
			}
		}
		f.Procs = append(f.Procs, p)
	}
	return f
}

// bins puts a past into evenly spaced values.
func bins(ps []point) []float64 {
	begin, end := ps[0].at, ps[len(ps)-1].at
	out := make([]float64, sparkPoints)
	i := 0
	for k := range out {
		t := begin + (end-begin)*time.Duration(k)/(sparkPoints-1)
		for i+1 < len(ps) && ps[i+1].at <= t {
			i++
		}
		out[k] = float64(ps[i].rss)
	}
	return out
}

// Feed is the Source of a living program.
type Feed struct {
	mu    sync.Mutex
	f     *replay.Follower
	book  book
	lines []string
	err   error
	now   time.Duration
}

// NewFeed makes a Feed for a recording that began at start.
func NewFeed(start time.Time) *Feed {
	return &Feed{f: replay.NewFollower(start, replay.PrintOptions{PIDs: true}), book: book{procs: map[uint32]*past{}}}
}

// See follows an event.
func (f *Feed) See(e *format.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, err := f.f.See(e)
	if err != nil {
		f.err = err
		return
	}
	f.now = time.Duration(e.Time)
	f.book.see(m)
	if _, sampled := e.Record.(*format.MemInfo); !sampled {
		if len(f.lines) == keptEvents {
			f.lines = append(f.lines[:0], f.lines[1:]...)
		}
		f.lines = append(f.lines, f.f.Line())
	}
}

func (f *Feed) Frame() (Frame, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fr := f.book.frame(f.f.State(), f.now)
	if m := f.f.Moment(); m != nil {
		fr.Step = m.Event.Step
	}
	fr.Last = fr.Step
	fr.Events = slices.Clone(f.lines)
	return fr, f.err
}

func (f *Feed) Slide(float64) {}

func (f *Feed) Live() bool { return true }

// History is the Source of a log.
type History struct {
	t    *replay.Trace
	c    *replay.Cursor
	book book
	at   format.Step
	last format.Step
}

// NewHistory reads the samples of a log. It stands on the last step at which a
// process lives.
func NewHistory(ctx context.Context, t *replay.Trace) (*History, error) {
	last, ok := t.Last()
	if !ok {
		return nil, replay.ErrEmpty
	}
	h := &History{t: t, c: t.Cursor(), last: last, book: book{procs: map[uint32]*past{}}}
	p, err := t.Printer(0, replay.PrintOptions{PIDs: true})
	if err != nil {
		return nil, err
	}
	h.c.Printer = p
	for m, err := range t.Walk(0, last) {
		if err == nil && m.Event.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if len(m.State.Threads) > 0 {
			h.at = m.Event.Step
		}
		h.book.see(m)
	}
	return h, nil
}

// Close ends the reading.
func (h *History) Close() { h.c.Close() }

func (h *History) Live() bool { return false }

// Slide moves by a part of the log, at least a step.
func (h *History) Slide(part float64) {
	d := int64(part * float64(h.last+1))
	switch {
	case d == 0 && part > 0:
		d = 1
	case d == 0 && part < 0:
		d = -1
	}
	h.at = format.Step(min(max(int64(h.at)+d, 0), int64(h.last)))
}

func (h *History) Frame() (Frame, error) {
	from := format.Step(0)
	if h.at >= keptEvents {
		from = h.at - keptEvents + 1
	}
	if err := h.c.Seek(from); err != nil {
		return Frame{}, err
	}
	lines := []string{h.c.Line()}
	for n := from; n < h.at; n++ {
		if _, err := h.c.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Frame{}, err
		}
		lines = append(lines, h.c.Line())
	}
	m := h.c.Moment()
	f := h.book.frame(m.State, time.Duration(m.Event.Time))
	f.Step, f.Last, f.Events = h.at, h.last, lines
	return f, nil
}
