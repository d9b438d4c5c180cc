package gdbstub

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

func hexText(n uint64) string { return strconv.FormatUint(n, 16) }

// watch is bytes whose changes are stopped at.
type watch struct {
	addr.Range
	of   *inferior
	kind string       // the packet's: 2, 3 or 4
	eras []replay.Era // those whose value is known
}

// change is how the value of a watch changed.
type change struct {
	watch *watch
	old   *replay.Era
	new   *replay.Era
	since format.Step // it changed after this step
	seen  format.Step // and not later than this one
	from  format.Step // the first step with the old value
}

// insert is Z: a breakpoint, which is never written, or a watchpoint.
func (s *Session) insert(ctx context.Context, p string) (string, error) {
	kind, rest, _ := strings.Cut(p, ",")
	rest, _, _ = strings.Cut(rest, ";")
	a, n, ok := span(rest)
	if !ok {
		return "E16", nil
	}
	of := s.addressed()
	switch kind {
	case "0", "1":
		of.breaks[a] = true
		return "OK", nil
	case "2", "3", "4":
	default:
		return "", nil
	}
	r, ok := addr.Span(a, max(n, 1))
	if !ok || r.Len() > addr.PageSize {
		return "E16", nil
	}
	w := watch{Range: r, of: of, kind: kind}
	eras, err := s.trace.History(ctx, r, of.pid)
	if err != nil {
		return "", err
	}
	for _, e := range eras {
		if e.Err == nil {
			w.eras = append(w.eras, e)
		}
	}
	s.watches = append(s.watches, w)
	return "OK", nil
}

// addressed is the process that gdb chose, whether or not it is there.
func (s *Session) addressed() *inferior {
	if s.gone != nil {
		return s.gone
	}
	return s.inferior
}

// remove is z.
func (s *Session) remove(_ context.Context, p string) (string, error) {
	kind, rest, _ := strings.Cut(p, ",")
	a, n, ok := span(rest)
	if !ok {
		return "E16", nil
	}
	if kind == "0" || kind == "1" {
		delete(s.addressed().breaks, a)
		return "OK", nil
	}
	for i := range s.watches {
		if w := &s.watches[i]; w.of == s.addressed() && w.kind == kind && w.Start == a && w.Len() == max(n, 1) {
			s.watches = append(s.watches[:i], s.watches[i+1:]...)
			break
		}
	}
	return "OK", nil
}

// nextChange is the next change of a watch from step n on, nil if the programs that gdb knows have none.
func (s *Session) nextChange(n format.Step, w way) (c *change) {
	for i := range s.watches {
		x := s.watches[i].change(n, w)
		if x == nil || !x.watch.of.known {
			continue
		}
		if p := x.watch.of; x.seen > p.last || x.since < p.first && x.seen <= p.first {
			continue
		}
		if c == nil || w == forward && x.seen < c.seen || w == backward && x.since > c.since {
			c = x
		}
	}
	return c
}

// change is the next one of a watch from step n on.
func (x *watch) change(n format.Step, w way) *change {
	at := -1 // the era that n is in, or the last before it
	for i := range x.eras {
		if x.eras[i].From <= n {
			at = i
		}
	}
	if w == forward {
		for i := at + 1; i < len(x.eras) && at >= 0; i++ {
			if string(x.eras[i].Value) != string(x.eras[at].Value) {
				return x.between(i-1, i)
			}
		}
		return nil
	}
	for i := at - 1; i >= 0; i-- {
		if string(x.eras[i].Value) != string(x.eras[at].Value) {
			return x.between(i, i+1)
		}
	}
	return nil
}

// between is the change from one era to another.
func (x *watch) between(i, j int) *change {
	c := &change{watch: x, old: &x.eras[i], new: &x.eras[j], from: x.eras[i].From, seen: x.eras[j].From}
	if c.since = x.eras[i].Seen; x.eras[i].To+1 == x.eras[j].From {
		c.since = max(c.since, min(x.eras[j].Since, x.eras[i].To))
	}
	return c
}

// goChange goes to a change: forwards to where the new value was seen first, backwards to
// the last stop at which the old one was there. It reports whether there is such a step.
func (s *Session) goChange(ctx context.Context, c *change, w way) (done bool, err error) {
	if err := s.note("%s", c); err != nil {
		return false, err
	}
	var m *moment
	p := c.watch.of
	if w == forward {
		m, err = s.nearest(ctx, []*inferior{p}, c.seen, forward, min(c.new.To, p.last))
	} else {
		m, err = s.whole(ctx, p, max(c.since, p.first), max(c.from, p.first))
	}
	if err != nil {
		return false, err
	}
	if m == nil {
		return false, s.note("at no step with that value is it known where a thread is")
	}
	tid := s.running // a change of memory has no thread
	s.stand(m, watched(c.watch.Start))
	if m.thread(tid) != nil {
		s.running, s.general = tid, tid
	}
	return true, nil
}

// whole is the last moment from n back to lo at which registers were read; without one the
// last at which a thread's place is known.
func (s *Session) whole(ctx context.Context, p *inferior, n, lo format.Step) (*moment, error) {
	var first *moment
	for tries := 0; tries < 64; tries++ {
		m, err := s.nearest(ctx, []*inferior{p}, n, backward, lo)
		if err != nil || m == nil {
			return first, err
		}
		if first == nil {
			first = m
		}
		for i := range m.threads {
			if th := &m.threads[i]; th.whole && (th.TID == s.running || m.thread(s.running) == nil) {
				return m, nil
			}
		}
		if m.step <= lo || m.step == 0 {
			break
		}
		n = m.step - 1
	}
	return first, nil
}

// String says when a change was, and which call made it.
func (c *change) String() string {
	if c.new.Call != "" && c.new.Exact() {
		return fmt.Sprintf("%v was written by %s at step %d", c.watch.Range, c.new.Call, c.seen)
	}
	if c.new.Exact() {
		return fmt.Sprintf("%v changed at step %d", c.watch.Range, c.seen)
	}
	return fmt.Sprintf("%v changed between steps %d and %d", c.watch.Range, c.since, c.seen)
}

// catch is QCatchSyscalls.
func (s *Session) catch(_ context.Context, p string) (string, error) {
	on, list, _ := strings.Cut(p, ";")
	s.catches = nil
	if on != "1" {
		return "OK", nil
	}
	s.catches = map[uint32]bool{}
	for nr := range strings.SplitSeq(list, ";") {
		if n, err := strconv.ParseUint(nr, 16, 32); err == nil {
			s.catches[uint32(n)] = true
		}
	}
	return "OK", nil
}

// passSignals is QPassSignals: those that do not stop.
func (s *Session) passSignals(_ context.Context, p string) (string, error) {
	clear(s.pass)
	for sig := range strings.SplitSeq(p, ";") {
		if n, err := strconv.ParseUint(sig, 16, 16); err == nil {
			s.pass[int(n)] = true
		}
	}
	return "OK", nil
}

// hints says which breakpoints are never hit. gdb has some of its own in the dynamic linker.
func (s *Session) hints() error {
	var err error
	failed := s.each(func(m *moment) {
		for a := range m.of.breaks {
			v, ok := m.space.Set().Find(a)
			if !ok || strings.Contains(v.Name, "/ld-") || m.of.told[a] || err != nil {
				continue
			}
			m.of.told[a] = true
			err = s.note("a breakpoint at %#x is hit only if a recorded call returns there: between calls nothing of the CPU is recorded (catch syscall stops at calls)", uint64(a))
		}
	})
	return cmp.Or(failed, err)
}
