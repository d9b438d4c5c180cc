// Package top is the full-screen view of processes and mappings by growth, of a
// living program or of a log. It draws with bubbletea
// (docs/adr/0006-full-screen.md), which nothing else imports.
//
// A Feed may be fed by one goroutine while another looks at it; a History may
// not.
package top

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/proctext"
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
	Growth int64   // since the process was first seen
	RSS    *uint64 // resident, or of a log what snapshots saw in use; nil: not known
	Rate   float64 // bytes a second of RSS of late, or of Size where RSS is not known

	ranges []addr.Range
	shown  string // Name as the log has it
}

// Frame is what there is to show at a moment.
type Frame struct {
	Time       time.Duration
	Step, Last format.Step
	Procs      []Proc
	Events     []Event // the last ones, oldest first
	Free, Cach uint64  // of the system: MemAvailable and Cached
	Total      uint64
}

// Event is a line of events that are alike, one after the other.
type Event struct {
	Text  string // the last of them
	Count int
}

// Source is what a view looks at.
type Source interface {
	// Frame is what there is to show; in is the process that is looked into, 0 for none.
	Frame(in uint32) (Frame, error)
	// Memory reads bytes of a process at the frame's moment. known says which of them are known,
	// and why has the reasons why others are not, each once.
	Memory(no uint32, at addr.Addr, b []byte) (known []bool, why []string)
	// Data is the first address in r at or after from that has data, false if none is known.
	Data(no uint32, r addr.Range) (addr.Addr, bool)
	// Slide moves by that part of the whole, where it can.
	Slide(part float64)
	// Live says that it moves by itself.
	Live() bool
}

// keptEvents is how many events are at hand, and keptLines how many lines of alike ones.
const (
	keptEvents = 200
	keptLines  = 24
)

// sparkPoints is how many values a sparkline is made of.
const sparkPoints = 60

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
				p.name = proctext.Field(s.Data, "Name").String()
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

// field is the size that a text of /proc has under a key, 0 for none.
func field(text []byte, key string) uint64 {
	n, _ := proctext.Field(text, key).Size()
	return n
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
		g.Name, g.shown = name, name
		g.Count++
		g.Size += v.Len()
		g.ranges = append(g.ranges, v.Range)
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
	lines []Event
	err   error
	now   time.Duration
	rss   map[uint32]*resident // of the processes that were looked into
	// Smaps reads /proc/PID/smaps, ReadMem a process's memory; either may be nil.
	Smaps   func(pid uint32) ([]byte, error)
	ReadMem func(pid uint32, b []byte, at addr.Addr) (int, error)
}

// resident is the resident memory of a process's mappings over time, by name.
type resident struct {
	at    []time.Time
	sizes []map[string]uint64
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
		f.lines = collect(f.lines, f.f.Line())
	}
}

// collect adds a line to others. One that is like the last takes its place.
func collect(lines []Event, text string) []Event {
	if n := len(lines); n > 0 && alike(lines[n-1].Text) == alike(text) {
		lines[n-1] = Event{text, lines[n-1].Count + 1}
		return lines
	}
	if len(lines) == keptLines {
		lines = append(lines[:0], lines[1:]...)
	}
	return append(lines, Event{text, 1})
}

var numbers = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)

// alike is what events that are told as one have in common: all but their numbers.
func alike(text string) string { return numbers.ReplaceAllString(strings.TrimLeft(text, " "), "#") }

func (f *Feed) Frame(in uint32) (Frame, error) {
	f.mu.Lock()
	fr := f.book.frame(f.f.State(), f.now)
	if m := f.f.Moment(); m != nil {
		fr.Step = m.Event.Step
	}
	fr.Last = fr.Step
	fr.Events = slices.Clone(f.lines)
	err := f.err
	f.mu.Unlock()
	if in != 0 && f.Smaps != nil {
		for i := range fr.Procs {
			if p := &fr.Procs[i]; p.No == in {
				if text, err := f.Smaps(p.PID); err == nil {
					f.resident(p, text, time.Now())
				}
			}
		}
	}
	return fr, err
}

// resident adds what /proc/PID/smaps says to the mappings of a process.
func (f *Feed) resident(p *Proc, text []byte, now time.Time) {
	sizes := map[string]uint64{}
	name := ""
	for line := range bytes.Lines(text) {
		key, value, ok := proctext.Line(line)
		if !ok {
			from, _, _ := strings.Cut(string(line), "-")
			a, err := strconv.ParseUint(from, 16, 64)
			name = ""
			for i := range p.Maps {
				if err == nil && slices.ContainsFunc(p.Maps[i].ranges, func(r addr.Range) bool { return r.Contains(addr.Addr(a)) }) {
					name = p.Maps[i].Name
				}
			}
			continue
		}
		if string(key) == "Rss" && name != "" {
			n, _ := value.Size()
			sizes[name] += n
		}
	}
	if f.rss == nil {
		f.rss = map[uint32]*resident{}
	}
	past := f.rss[p.No]
	if past == nil {
		past = &resident{}
		f.rss[p.No] = past
	}
	past.at, past.sizes = append(past.at, now), append(past.sizes, sizes)
	for len(past.at) > 2 && now.Sub(past.at[1]) > rateOver {
		past.at, past.sizes = past.at[1:], past.sizes[1:]
	}
	dt := now.Sub(past.at[0]).Seconds()
	for i := range p.Maps {
		g := &p.Maps[i]
		n := sizes[g.Name]
		g.RSS = &n
		if dt > 0 {
			g.Rate = (float64(n) - float64(past.sizes[0][g.Name])) / dt
		}
	}
}

func (f *Feed) Memory(no uint32, at addr.Addr, b []byte) (known []bool, why []string) {
	known = make([]bool, len(b))
	if f.ReadMem == nil {
		return known, []string{"this memory cannot be read"}
	}
	f.mu.Lock()
	pid := uint32(0)
	for _, t := range f.f.State().Threads {
		if t.Proc == no {
			pid = t.TGID
		}
	}
	f.mu.Unlock()
	if pid == 0 {
		return known, []string{"the process has ended"}
	}
	for i := 0; i < len(b); {
		n, err := f.ReadMem(pid, b[i:], at+addr.Addr(i)) // what comes before an error counts
		for k := range n {
			known[i+k] = true
		}
		i += n
		if err == nil && n > 0 {
			continue
		}
		if text := "the kernel does not let them be read"; !slices.Contains(why, text) {
			why = append(why, text)
		}
		i += int(addr.PageSize - (at+addr.Addr(i))%addr.PageSize) // the rest of the page
	}
	return known, why
}

func (f *Feed) Data(_ uint32, r addr.Range) (addr.Addr, bool) { return r.Start, true }

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
	d := int64(part * float64(h.t.Count()))
	switch {
	case d == 0 && part > 0:
		d = 1
	case d == 0 && part < 0:
		d = -1
	}
	h.at = format.Step(min(max(int64(h.at)+d, int64(h.t.First())), int64(h.last)))
}

func (h *History) Frame(in uint32) (Frame, error) {
	from := h.t.First()
	if h.at >= from+keptEvents {
		from = h.at - keptEvents + 1
	}
	if err := h.c.Seek(from); err != nil {
		return Frame{}, err
	}
	lines := collect(nil, h.c.Line())
	for n := from; n < h.at; n++ {
		if _, err := h.c.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Frame{}, err
		}
		lines = collect(lines, h.c.Line())
	}
	m := h.c.Moment()
	f := h.book.frame(m.State, time.Duration(m.Event.Time))
	f.Step, f.Last, f.Events = h.at, h.last, lines
	for i := range f.Procs {
		if p := &f.Procs[i]; p.No == in {
			if err := h.inUse(p, f.Time); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// inUse adds to the mappings of a process what snapshots saw in use, and how fast it grew.
func (h *History) inUse(p *Proc, now time.Duration) error {
	sizes, err := h.used(p.No, h.at)
	if err != nil || sizes == nil {
		return err
	}
	before, err := h.t.StepAt(max(now-rateOver, 0))
	if err != nil {
		return err
	}
	old, err := h.used(p.No, before)
	if err != nil {
		return err
	}
	dt := min(now, rateOver).Seconds()
	for i := range p.Maps {
		g := &p.Maps[i]
		n := sizes[g.shown]
		g.RSS = &n
		if dt > 0 && old != nil {
			g.Rate = (float64(n) - float64(old[g.shown])) / dt
		}
	}
	return nil
}

// used is what is in use at a step, by the names of mappings; nil if the process has none.
func (h *History) used(no uint32, at format.Step) (map[string]uint64, error) {
	space, err := h.space(no, at)
	if space == nil || err != nil {
		return nil, err
	}
	sizes := map[string]uint64{}
	for name, g := range groups(space.Set()) {
		for _, r := range g.ranges {
			for run, err := range space.Pages(r) {
				if err != nil {
					return nil, err
				}
				if run.What == format.PageData || run.Mixed {
					sizes[name] += run.N << addr.PageShift
				}
			}
		}
	}
	return sizes, nil
}

// space is the address space of a process at a step, nil if it has none.
func (h *History) space(no uint32, at format.Step) (*replay.AddressSpace, error) {
	v, err := h.t.At(at)
	if err != nil {
		return nil, err
	}
	p, err := v.ByNo(no)
	if errors.Is(err, replay.ErrNoProcess) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	space, err := p.Space()
	if err != nil { // it has just ended
		return nil, nil
	}
	return space, nil
}

func (h *History) Memory(no uint32, at addr.Addr, b []byte) (known []bool, why []string) {
	known = make([]bool, len(b))
	not := func(err error) {
		text := err.Error()
		if u := new(replay.UnknownError); errors.As(err, &u) {
			if text = u.Err.Error(); u.Why != "" {
				text += " (" + u.Why + ")"
			}
		}
		if !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	space, err := h.space(no, h.at)
	if err == nil && space == nil {
		err = errors.New("the process does not live at this step")
	}
	if err != nil {
		not(err)
		return known, why
	}
	want := addr.Range{Start: at, End: at + addr.Addr(len(b))}
	var page [addr.PageSize]byte
	for a := at.PageDown(); a < want.End; a += addr.PageSize {
		parts, err := space.Stretches(a, &page)
		if err != nil {
			not(err)
			continue
		}
		for _, x := range parts {
			r := x.Range.Intersect(want)
			switch {
			case r.Empty():
			case x.Err != nil:
				not(x.Err)
			default:
				copy(b[r.Start-at:r.End-at], page[r.Start-a:])
				for i := r.Start; i < r.End; i++ {
					known[i-at] = true
				}
			}
		}
	}
	return known, why
}

func (h *History) Data(no uint32, r addr.Range) (addr.Addr, bool) {
	space, err := h.space(no, h.at)
	if err != nil || space == nil {
		return 0, false
	}
	for run, err := range space.Pages(r) {
		if err == nil && (run.What == format.PageData || run.Mixed) {
			return max(run.Addr, r.Start), true
		}
	}
	return 0, false
}
