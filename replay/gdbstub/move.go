package gdbstub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// way is a direction of time.
type way bool

const (
	forward  way = true
	backward way = false
)

// run is what Ctrl-C interrupts.
type run struct {
	ctx    context.Context
	mu     sync.Mutex
	cancel context.CancelFunc // of the move at hand, nil without one
}

func newRun(ctx context.Context) *run { return &run{ctx: ctx} }

// begin is the context of a move.
func (r *run) begin() (ctx context.Context, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, r.cancel = context.WithCancel(r.ctx)
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cancel()
		r.cancel = nil
	}
}

func (r *run) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
	}
}

// moves are the packets after which gdb waits for a stop.
var moves = map[string]func(*Session, context.Context, string) error{
	"vCont": (*Session).vCont,
	"s":     func(s *Session, ctx context.Context, _ string) error { return s.step(ctx, forward) },
	"c":     func(s *Session, ctx context.Context, _ string) error { return s.run(ctx, forward) },
	"bs":    func(s *Session, ctx context.Context, _ string) error { return s.step(ctx, backward) },
	"bc":    func(s *Session, ctx context.Context, _ string) error { return s.run(ctx, backward) },
}

// move goes elsewhere and tells gdb where it stands then.
func (s *Session) move(run *run, f func(*Session, context.Context, string) error, p string) error {
	ctx, end := run.begin()
	err := f(s, ctx, p)
	interrupted := ctx.Err() != nil && run.ctx.Err() == nil
	end()
	switch {
	case interrupted:
		s.stop = stopReason{signal: 2} // SIGINT
	case err != nil:
		if err := s.note("%v", err); err != nil {
			return err
		}
		s.stop = stopReason{signal: gdbTrap}
	}
	if err := s.noteStep(); err != nil {
		return err
	}
	absent, err := s.absentees()
	if err != nil {
		return err
	}
	for _, line := range absent {
		if err := s.note("%s", line); err != nil {
			return err
		}
	}
	answer, err := s.reason(run.ctx, "")
	if err != nil {
		return err
	}
	return s.conn.write(answer)
}

// noteStep says where gdb stands.
func (s *Session) noteStep() error { return s.note("%s", s.age()) }

// age is the step, and how old the memory is of the present process that is not of a stack.
func (s *Session) age() string {
	of := ""
	if s.all {
		of = fmt.Sprintf(" of process %d", s.pid)
	}
	n, mm := s.now.step, s.now.space.No()
	var last *image
	for i := range s.images {
		if x := &s.images[i]; x.step <= n && x.mm == mm && !x.sweep {
			last = x
		}
	}
	switch {
	case s.fatal != nil && n >= s.fatal.Step || last != nil && last.step == n:
		return fmt.Sprintf("step %d", n)
	case last == nil && s.life.Parent != 0:
		return fmt.Sprintf("step %d: of memory%s only what calls wrote, what files have and what was known of the parent at the fork is known (monitor asof ADDR)", n, of)
	case last == nil:
		return fmt.Sprintf("step %d: of memory%s only what calls wrote and what files have is known", n, of)
	}
	return fmt.Sprintf("step %d: memory%s is as of step %d, but for what calls wrote since (monitor asof ADDR)", n, of, last.step)
}

// vCont moves one thread by an event, or all of them on.
func (s *Session) vCont(ctx context.Context, p string) error {
	s.alone = false
	move := s.run
	for i, action := range strings.Split(strings.TrimPrefix(p, ";"), ";") {
		what, id, _ := strings.Cut(action, ":")
		pid, tid, ok := parseID(id)
		if i == 0 && strings.HasPrefix(strings.ToLower(what), "s") {
			move = s.step
			if ok && tid != 0 {
				s.running = tid
			}
		}
		s.alone = ok && pid != 0
	}
	return move(ctx, forward)
}

// edge is the last step in a direction at which gdb can be shown a process.
func (s *Session) edge(w way) format.Step {
	edge := s.time
	for _, p := range s.inferiors {
		switch {
		case !p.known:
		case w == forward:
			edge = max(edge, p.last)
		default:
			edge = min(edge, p.first)
		}
	}
	return edge
}

// atEdge stops where there is nothing further.
func (s *Session) atEdge(w way) error {
	s.stop = stopReason{gdbTrap, "replaylog:end;"}
	if w == backward {
		s.stop.more = "replaylog:begin;"
	}
	switch {
	case s.all: // absentees says it
	case w == forward && s.last < s.life.Last:
		return s.note("at step %d the process goes on to another program (process %d %d shows it)", s.last+1, s.pid, s.last+1)
	case w == backward && s.first > s.life.First:
		return s.note("before step %d the process ran another program (process %d %d shows it)", s.first, s.pid, s.first-1)
	}
	return nil
}

// step goes to the next event of the thread at which its instruction pointer is known.
func (s *Session) step(ctx context.Context, w way) error {
	tid := s.running
	if w == backward && s.all && !s.alone {
		tid = s.general // gdb says which thread it is about by no other packet
	}
	p, _, _, err := s.find(0, tid)
	if err != nil {
		return err
	}
	from, edge := s.time, p.last
	if w == backward {
		edge = p.first
	}
	for {
		n, ok, err := s.scan(ctx, from, edge, w, func(m *replay.Moment) bool { return m.Thread.TID == tid && m.Thread.TGID == p.pid })
		if err != nil {
			return err
		}
		if !ok {
			return s.atEdge(w)
		}
		m, err := s.tryAt(p, n)
		if err != nil {
			return err
		}
		if m != nil && m.thread(tid) != nil {
			s.stand(m, stopReason{signal: gdbTrap})
			return nil
		}
		from = n
	}
}

// errAlone is the error of a gdb that moves one of several processes. It would keep what it has read of the others.
var errAlone = errors.New("all processes stand at one step: type set schedule-multiple on, set stack-cache off and set code-cache off")

// run goes on to the next signal, watchpoint, breakpoint or caught call, else to the end. A
// change without a step to stop at is told and passed.
func (s *Session) run(ctx context.Context, w way) error {
	if s.all && s.alone {
		n := 0
		if err := s.each(func(*moment) { n++ }); err != nil {
			return err
		}
		if n > 1 {
			return errAlone
		}
	}
	if err := s.hints(); err != nil {
		return err
	}
	for from, changed := s.time, s.time; ; {
		c := s.nextChange(changed, w)
		edge := s.edge(w) // no event beyond the change is looked at
		switch {
		case c != nil && w == forward:
			edge = min(edge, c.seen)
		case c != nil:
			edge = max(edge, c.since)
		}
		hit, err := s.nextHit(ctx, from, edge, w)
		if err != nil {
			return err
		}
		if hit != nil && (c == nil || w == forward && c.seen > hit.step || w == backward && c.since < hit.step) {
			s.stand(hit, s.hitReason(hit))
			return nil
		}
		if c == nil {
			break
		}
		if done, err := s.goChange(ctx, c, w); done || err != nil {
			return err
		}
		if w == forward { // the event at the edge may be a stop
			from, changed = edge-1, c.seen
		} else {
			from, changed = edge+1, c.from
		}
	}
	m, err := s.nearest(ctx, s.candidates(), s.edge(w), !w, s.time)
	if err != nil {
		return err
	}
	if m != nil {
		s.stand(m, stopReason{})
	}
	return s.atEdge(w)
}

// nextHit is the next moment after from, up to edge, at which gdb wants to stop, nil if there is none.
func (s *Session) nextHit(ctx context.Context, from, edge format.Step, w way) (*moment, error) {
	for {
		var p *inferior
		n, ok, err := s.scan(ctx, from, edge, w, func(m *replay.Moment) bool {
			x := s.owner(m)
			hit := x != nil && s.hits(x, m)
			if hit {
				p = x
			}
			return hit
		})
		if err != nil || !ok {
			return nil, err
		}
		m, err := s.tryAt(p, n)
		if err != nil {
			return nil, err
		}
		if m != nil && slices.ContainsFunc(m.threads, func(t thread) bool { return t.No == m.event.Thread }) {
			return m, nil
		}
		from = n
	}
}

// hits reports whether an event of a process is one to stop at.
func (s *Session) hits(p *inferior, m *replay.Moment) bool {
	switch r := m.Event.Record.(type) {
	case *format.Signal:
		return r.Fatal || !s.pass[gdbSignal(int(r.Signo))]
	case *format.Syscall:
		return r.IP != 0 && (p.breaks[addr.Addr(r.IP)] || s.catches != nil && (len(s.catches) == 0 || s.catches[r.Nr]))
	}
	return false
}

// hitReason tells gdb what it stopped for.
func (s *Session) hitReason(m *moment) stopReason {
	r, ok := m.event.Record.(*format.Syscall)
	switch {
	case !ok:
		return stopReason{signal: s.signalAt(m)}
	case m.of.breaks[addr.Addr(r.IP)]:
		return stopReason{gdbTrap, "swbreak:;"}
	}
	return stopReason{gdbTrap, "syscall_return:" + hexText(uint64(r.Nr)) + ";"}
}

// window is how many steps are gone through at a time.
const window = 4096

// scan is the next step after from, or before it, up to edge, whose event matches.
func (s *Session) scan(ctx context.Context, from, edge format.Step, w way, match func(*replay.Moment) bool) (n format.Step, found bool, err error) {
	for size := format.Step(window); ; size = min(2*size, 1<<18) {
		lo, hi := from+1, edge
		if w == backward {
			if from == 0 || from <= edge {
				return 0, false, nil
			}
			lo, hi = max(edge, from-min(from, size)), from-1
		} else {
			hi = min(edge, from+size)
		}
		if lo > hi {
			return 0, false, nil
		}
		for m, err := range s.trace.Walk(lo, hi) {
			if err != nil {
				return 0, false, err
			}
			if err := ctx.Err(); err != nil {
				return 0, false, err
			}
			if match(m) {
				n, found = m.Event.Step, true
				if w == forward {
					return n, true, nil
				}
			}
		}
		if found {
			return n, true, nil
		}
		if from = hi; w == backward {
			from = lo
		}
	}
}

// tryAt is the moment of a process at a step, nil if it has no memory or no thread then.
func (s *Session) tryAt(p *inferior, n format.Step) (*moment, error) {
	m, err := s.at(p, n)
	if errors.Is(err, errGone) {
		return nil, nil
	}
	return m, err
}

// candidates are the processes that gdb has, the present one first.
func (s *Session) candidates() []*inferior {
	var out []*inferior
	for _, p := range s.inferiors {
		switch {
		case p == s.inferior:
			out = slices.Insert(out, 0, p)
		case p.known:
			out = append(out, p)
		}
	}
	return out
}

// nearest is the first moment from n on, in a direction up to edge, at which the place of a thread of one of some
// processes is known; nil if there is none.
func (s *Session) nearest(ctx context.Context, ps []*inferior, n format.Step, w way, edge format.Step) (*moment, error) {
	for {
		for _, p := range ps {
			if !p.lives(n) {
				continue
			}
			m, err := s.tryAt(p, n)
			if err != nil {
				return nil, err
			}
			if m != nil && len(m.threads) > 0 {
				return m, nil
			}
		}
		next, ok, err := s.scan(ctx, n, edge, w, func(m *replay.Moment) bool { return placed(ps, m) })
		if err != nil || !ok {
			return nil, err
		}
		n = next
	}
}

// placed reports whether an event may say where a thread of one of some processes is.
func placed(ps []*inferior, m *replay.Moment) bool {
	if slices.ContainsFunc(m.Event.Changes, func(c format.Change) bool { _, ok := c.(*format.RegsSet); return ok }) {
		return true
	}
	c, ok := m.Event.Record.(*format.Syscall)
	return (m.Event.Regs != nil || ok && c.IP != 0) && slices.ContainsFunc(ps, func(p *inferior) bool { return p.pid == m.Thread.TGID })
}
