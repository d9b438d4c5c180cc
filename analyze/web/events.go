package web

import (
	"context"
	"errors"
	"fmt"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// Limits of lists.
const (
	MostRows  = 1000     // events given at once
	mostScan  = 16 << 10 // events looked at for them, in each direction
	firstScan = 1 << 10  // and at first, backwards
	nearNames = 8 << 10  // events that names of descriptors come from while the others are looked for
	mostHops  = 24       // places looked at where hits are known to be
	countLeaf = 256      // events of a number of Count
	countPart = 256 << 10
)

var errEnough = errors.New("enough")

// Events are lines around a step: as many as before and after say, and the step itself.
func (l *Log) Events(ctx context.Context, at format.Step, before, after int, filter string, pid uint32) (*Events, error) {
	if before < 0 || after < 0 || before+after > MostRows {
		return nil, fmt.Errorf("%d rows: want at most %d", before+after, MostRows)
	}
	f, err := parseFilter(filter, pid)
	if err != nil {
		return nil, err
	}
	last, ok := l.t.Last()
	if !ok {
		return nil, replay.ErrEmpty
	}
	first := l.t.First()
	if at > last || at < first {
		return nil, fmt.Errorf("no step %d: the log has steps %d to %d", at, first, last)
	}
	r := &Events{At: uint64(at), Rows: []EventRow{}}
	s := scan{l: l, ctx: ctx, f: f, first: first, hits: l.hits(f)}
	if f.all {
		return r, s.around(r, at, last, before, after)
	}
	earlier, prev, err := s.back(at, before)
	if err != nil {
		return nil, err
	}
	self, _, err := s.rows(at, at, 1)
	if err != nil {
		return nil, err
	}
	later, next, err := s.on(at+1, last, after)
	if err != nil {
		return nil, err
	}
	r.Rows = append(append(append(r.Rows, earlier...), self...), later...)
	r.Prev, r.Next = prev, next
	return r, nil
}

// around are rows of all events.
func (s *scan) around(r *Events, at, last format.Step, before, after int) (err error) {
	from, to := at-min(at-s.first, format.Step(before)), min(last, at+format.Step(after))
	if r.Rows, _, err = s.rows(from, to, MostRows+1); err != nil {
		return err
	}
	if from > s.first {
		r.Prev = ptr(uint64(from))
	}
	if to < last {
		r.Next = ptr(uint64(to + 1))
	}
	return nil
}

// scan looks for rows.
type scan struct {
	l   *Log
	ctx context.Context
	f   *filter
	// first is the log's first step.
	first format.Step
	hits  []uint32 // of each leaf, nil: not known
}

// rows are the first n rows of from..to that are shown; more says that there are others.
func (s *scan) rows(from, to format.Step, n int) (rows []EventRow, more bool, err error) {
	o := s.f.list
	o.From, o.To, o.Near = from, to, nearNames
	err = s.l.t.Each(s.ctx, o, func(p *replay.Printer, m *replay.Moment) error {
		if !s.f.mine(m) {
			p.Skip(m)
			return nil
		}
		if len(rows) == n {
			more = true
			return errEnough
		}
		rows = append(rows, eventRow(p, m))
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return rows, more, err
}

// on are n rows from a step on, and where to look on.
func (s *scan) on(at, last format.Step, n int) (rows []EventRow, next *uint64, err error) {
	if n == 0 && at <= last {
		next = ptr(uint64(at))
	}
	if n == 0 {
		return nil, next, nil
	}
	hops := 0
	for from := at; from <= last; {
		to := min(last, from+mostScan-1)
		if s.hits != nil {
			leaf := int(from / countLeaf)
			for leaf < len(s.hits) && s.hits[leaf] == 0 {
				leaf++
			}
			if leaf == len(s.hits) {
				return rows, nil, nil
			}
			from = max(from, format.Step(leaf)*countLeaf)
			to = min(last, format.Step(leaf)*countLeaf+countLeaf-1)
		}
		some, more, err := s.rows(from, to, n-len(rows))
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, some...)
		hops++
		from = to + 1
		switch {
		case more || len(rows) == n:
			if len(some) > 0 && (more || from <= last) {
				return rows, ptr(some[len(some)-1].Step + 1), nil
			}
			return rows, nil, nil
		case s.hits == nil || hops == mostHops:
			if from > last {
				return rows, nil, nil
			}
			return rows, ptr(uint64(from)), nil
		}
	}
	return rows, nil, nil
}

// back are n rows before a step, and from where to look further back.
func (s *scan) back(at format.Step, n int) (rows []EventRow, prev *uint64, err error) {
	part := format.Step(max(n, firstScan))
	looked, hops := format.Step(0), 0
	to := at // not included
	for to > s.l.t.First() && len(rows) < n && looked < mostScan && hops < mostHops {
		from := to - min(part, to-s.first)
		if s.hits != nil {
			leaf := int((to - 1) / countLeaf)
			for leaf >= 0 && (leaf >= len(s.hits) || s.hits[leaf] == 0) {
				leaf--
			}
			if leaf < 0 {
				return rows, nil, nil
			}
			from, to = max(format.Step(leaf)*countLeaf, s.first), min(to, format.Step(leaf+1)*countLeaf)
		}
		some, _, err := s.rows(from, to-1, MostRows+int(part))
		if err != nil {
			return nil, nil, err
		}
		if left := n - len(rows); len(some) > left {
			some = some[len(some)-left:]
			from = format.Step(some[0].Step)
		}
		rows = append(some, rows...)
		looked += to - from
		to, part = from, min(4*part, mostScan)
		hops++
	}
	if to > s.l.t.First() {
		prev = ptr(uint64(to))
	}
	return rows, prev, nil
}

// eventRow is the row of an event.
func eventRow(p *replay.Printer, m *replay.Moment) EventRow {
	ev := m.Event
	r := EventRow{
		Step: uint64(ev.Step), T: ev.Time, PID: m.Thread.TGID, TID: m.Thread.TID, Type: replay.TypeName(ev.Record), Stack: ev.Stack != 0,
	}
	switch x := ev.Record.(type) {
	case *format.Syscall:
		r.Name, r.Class = replay.CallName(x.Arch, x.Nr), classNames[classOf(x)]
		if x.Returned {
			r.Dur = ptr(replay.Elapsed(ev, x))
		}
		if replay.Failed(x) {
			r.Err, r.Bad = arch.ErrnoName(int(-x.Ret)), true
		}
	case *format.Signal:
		r.Name, r.Bad = arch.SignalName(int(x.Signo)), x.Fatal
	case *format.Exit:
		r.Bad = x.Process && x.Status != 0
	case *format.Lost:
		r.Bad = true
	case *format.Check:
		r.Bad = !x.OK
	}
	r.Text = shown(string(p.AppendEvent(nil, m)))
	return r
}

// countKey is where a count is kept.
func countKey(f *filter) string { return fmt.Sprintf("count %d %s", f.pid, f.text) }

// hits are those of a filter, if they were counted.
func (l *Log) hits(f *filter) []uint32 {
	if v, ok := l.peek(countKey(f)); ok {
		return v.(*Count).Hits
	}
	return nil
}

// Count counts the events that a filter shows.
func (l *Log) Count(ctx context.Context, filter string, pid uint32, progress func(float64)) (*Count, error) {
	f, err := parseFilter(filter, pid)
	if err != nil {
		return nil, err
	}
	v, err := l.once(ctx, countKey(f), progress, func(ctx context.Context, progress func(float64)) (any, error) {
		return l.count(ctx, f, progress)
	})
	if err != nil {
		return nil, err
	}
	return v.(*Count), nil
}

// mostCounted bounds the memory of a count: steps of a part of a run may be large numbers.
const mostCounted format.Step = 1 << 32

func (l *Log) count(ctx context.Context, f *filter, progress func(float64)) (*Count, error) {
	steps := l.t.Steps()
	if steps > mostCounted {
		return nil, fmt.Errorf("steps up to %d cannot be counted, only up to %d", steps, mostCounted)
	}
	c := &Count{Leaf: countLeaf, Hits: make([]uint32, (steps+countLeaf-1)/countLeaf)}
	for from := l.t.First() / countPart * countPart; from < steps; from += countPart {
		o := f.list
		o.From, o.To = from, min(from+countPart, steps)-1
		err := l.t.Each(ctx, o, func(p *replay.Printer, m *replay.Moment) error {
			p.Skip(m)
			if f.mine(m) {
				c.Hits[m.Event.Step/countLeaf]++
				c.Total++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		progress(float64(o.To+1) / float64(steps))
	}
	return c, nil
}
