package gdbstub

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
)

// inferior is a process of the log as gdb sees it. All inferiors stand at one step.
type inferior struct {
	pid         uint32
	life        *replay.Life
	known       bool          // gdb has attached to it, and has the symbols of one program
	first, last format.Step   // of that program
	fatal       *format.Event // the signal that ended the process; nil: none did
	surveyed    bool          // fatal is known
	now         *moment       // at which it was seen last
	arch        arch.ID       // of the program
	breaks      map[addr.Addr]bool
	told        map[addr.Addr]bool // breakpoints that were spoken of
}

func newInferior(l *replay.Life) *inferior {
	return &inferior{pid: l.PID, life: l, breaks: map[addr.Addr]bool{}, told: map[addr.Addr]bool{}}
}

// show stands at a step of a process, or at the nearest at which the place of one of its threads is known. If gdb is
// to be shown all processes, the others of lives are at that step too.
func (s *Session) show(ctx context.Context, lives []replay.Life, life *replay.Life, at format.Step) error {
	if describe(life.Arch) == nil {
		return fmt.Errorf("process %d: gdb cannot be served programs of %v yet", life.PID, life.Arch)
	}
	p := newInferior(life)
	s.inferiors = []*inferior{p}
	for i := range lives {
		if l := &lives[i]; s.all && l != life && describe(l.Arch) != nil {
			s.inferiors = append(s.inferiors, newInferior(l))
		}
	}
	s.inferior, p.known = p, true
	p.bound(at)
	m, err := s.nearest(ctx, []*inferior{p}, at, backward, p.first)
	if err == nil && m == nil {
		m, err = s.nearest(ctx, []*inferior{p}, at, forward, p.last)
	}
	switch {
	case err != nil:
		return err
	case m == nil:
		return fmt.Errorf("process %d: at no step of the log is it known where one of its threads is", p.pid)
	}
	s.stand(m, stopReason{signal: s.signalAt(m)})
	p.known = !s.all // else gdb attaches to it, as to the others
	return nil
}

// prepare reads how a process ended.
func (s *Session) prepare(p *inferior) error {
	if p.surveyed || !p.life.Killed {
		return nil
	}
	for e, err := range s.trace.Events(p.life.Fatal) {
		if err != nil {
			return err
		}
		p.fatal, p.surveyed = e.Clone(), true
		break
	}
	return nil
}

// bound finds the first and the last step of the program that the process runs at step n.
func (p *inferior) bound(n format.Step) {
	p.first, p.last = p.life.First, p.life.Last
	for i := range p.life.Execs {
		if x := p.life.Execs[i].Step; x <= n {
			p.first = max(p.first, x)
		} else {
			p.last = min(p.last, x-1)
			break
		}
	}
}

// lives reports whether gdb can be shown the process at a step: it is there, and runs the program that gdb knows.
func (p *inferior) lives(n format.Step) bool { return p.known && p.first <= n && n <= p.last }

// stand makes m the present moment.
func (s *Session) stand(m *moment, why stopReason) {
	s.inferior, s.time, s.stop = m.of, m.step, why
	s.now, s.arch = m, m.process.Arch
	s.missing, s.gone = false, nil
	if th := m.front(s.running); th != nil {
		s.running, s.general = th.TID, th.TID
	}
	clear(s.xfer)
}

// present is a process at the present step, nil if it is not there. It has no threads if it is not known where one
// of them is.
func (s *Session) present(p *inferior) (*moment, error) {
	if !p.lives(s.time) {
		return nil, nil
	}
	if p.now == nil || p.now.step != s.time {
		m, err := s.tryAt(p, s.time)
		if err != nil {
			return nil, err
		}
		p.now = m
	}
	return p.now, nil
}

// each calls f with the processes that are there.
func (s *Session) each(f func(*moment)) error {
	for _, p := range s.inferiors {
		m, err := s.present(p)
		if err != nil {
			return err
		}
		if m != nil {
			f(m)
		}
	}
	return nil
}

// rows calls f with the number of each thread that gdb is shown, and what is known of it. A process that is not
// there has one thread, of which nothing is known but that: gdb has no process without a thread.
func (s *Session) rows(f func(id, about string)) error {
	for _, p := range s.inferiors {
		if !p.known {
			continue
		}
		m, err := s.present(p)
		if err != nil {
			return err
		}
		if m == nil || len(m.threads) == 0 {
			f(p.id(p.pid), s.absent(p))
			continue
		}
		for i := range m.threads {
			th := &m.threads[i]
			about := "in " + th.call
			if th.call == "" {
				about = "running"
			}
			f(p.id(th.TID), about)
		}
	}
	return nil
}

// byPID is the process that gdb knows by a number, nil without one.
func (s *Session) byPID(pid uint32) *inferior {
	for _, p := range s.inferiors {
		if p.known && p.pid == pid {
			return p
		}
	}
	return nil
}

// owner is the process that a moment of the log is of, nil if gdb is not shown it then.
func (s *Session) owner(m *replay.Moment) *inferior {
	for _, p := range s.inferiors {
		if p.pid == m.Thread.TGID && p.lives(m.Event.Step) {
			return p
		}
	}
	return nil
}

// absent says why a process is not there at the present step.
func (s *Session) absent(p *inferior) string {
	switch {
	case s.time < p.life.First || s.time > p.life.Last:
		return fmt.Sprintf("not there at step %d, but from %d to %d", s.time, p.life.First, p.life.Last)
	case s.time < p.first || s.time > p.last:
		return fmt.Sprintf("runs another program at step %d: detach, attach %d", s.time, p.pid)
	}
	return fmt.Sprintf("it is not known where it is at step %d", s.time)
}

// mostAbsent is how many processes that are not there are named at a stop.
const mostAbsent = 8

// absentees says of the processes that gdb knows, and that are not there, why.
func (s *Session) absentees() (lines []string, err error) {
	for _, p := range s.inferiors {
		if !p.known {
			continue
		}
		m, err := s.present(p)
		if err != nil {
			return nil, err
		}
		if m != nil && len(m.threads) > 0 {
			continue
		}
		if len(lines) == mostAbsent {
			return append(lines, "and more processes are not there (monitor processes)"), nil
		}
		lines = append(lines, fmt.Sprintf("process %d: %s", p.pid, s.absent(p)))
	}
	return lines, nil
}

// exactly is the moment of a step at which it is known where a process is: one that gdb has, else one that it can
// attach to then; nil if there is none.
func (s *Session) exactly(n format.Step) (*moment, error) {
	ps := s.candidates()
	for _, p := range s.inferiors {
		if s.all && !p.known {
			ps = append(ps, p)
		}
	}
	for _, p := range ps {
		if p.known && !p.lives(n) || n < p.life.First || n > p.life.Last {
			continue
		}
		if m, err := s.tryAt(p, n); err != nil || m != nil && len(m.threads) > 0 {
			return m, err
		}
	}
	return nil, nil
}

// Place is a process, and a step at which it is known where it is.
type Place struct {
	PID  uint32
	Step format.Step
}

// Places are the processes of the log that gdb can attach to: the one that the session begins with, where it begins,
// then those that are there at that step too, then others. It returns most at most, and how many it left out.
func (s *Session) Places(ctx context.Context, most int) (places []Place, more int, err error) {
	places = append(places, Place{s.pid, s.time})
	taken := map[uint32]bool{s.pid: true}
	for _, here := range []bool{true, false} {
		for _, p := range s.inferiors {
			if taken[p.pid] || here != (p.life.First <= s.time && s.time <= p.life.Last) {
				continue
			}
			if len(places) == most {
				more++
				continue
			}
			n := s.time
			if !here {
				if n = p.life.Last; p.life.Killed {
					n = p.life.Fatal
				}
			}
			m, err := s.placeOf(ctx, p, n)
			if err != nil {
				return nil, 0, err
			}
			if m != nil {
				taken[p.pid] = true
				places = append(places, Place{p.pid, m.step})
			}
		}
	}
	return places, more, nil
}

// placeOf is the moment at which it is known where a process is that gdb does not have: the nearest to a step.
func (s *Session) placeOf(ctx context.Context, p *inferior, n format.Step) (*moment, error) {
	p.bound(n)
	p.known = true
	defer func() { p.known = false }()
	m, err := s.nearest(ctx, []*inferior{p}, n, backward, p.first)
	if err == nil && m == nil {
		m, err = s.nearest(ctx, []*inferior{p}, n, forward, p.last)
	}
	return m, err
}

// attach is vAttach;PID: it shows a process of the log beside the others.
func (s *Session) attach(ctx context.Context, p string) (string, error) {
	pid, err := strconv.ParseUint(p, 16, 32)
	if err != nil {
		return "E16", nil
	}
	if !s.all {
		return refuse("memtrace shows one process: start it with --all, or type monitor process %d", pid), nil
	}
	if s.byPID(uint32(pid)) != nil {
		return refuse("process %d is shown already (info inferiors)", pid), nil
	}
	why := ""
	for _, x := range s.inferiors {
		if x.pid != uint32(pid) {
			continue
		}
		x.bound(s.time)
		x.known = true
		m, err := s.present(x)
		if err != nil {
			return "", err
		}
		if m == nil || len(m.threads) == 0 {
			x.known = false
			why = fmt.Sprintf("process %d: %s", pid, s.absent(x))
			continue
		}
		s.stand(m, stopReason{})
		return s.reason(ctx, "")
	}
	if why == "" {
		why = fmt.Sprintf("process %d: %v", pid, replay.ErrNoProcess)
	}
	return refuse("%s", why), nil
}

// detach is D;PID: it leaves a process out. end says that gdb has none left, and goes.
func (s *Session) detach(p string) (end bool, err error) {
	pid, err := strconv.ParseUint(p, 16, 32)
	x := s.byPID(uint32(pid))
	if !s.all || err != nil || x == nil {
		s.next = nil
		return true, s.conn.write("OK")
	}
	x.known = false
	return false, s.conn.write("OK")
}

// refuse is an error of which gdb shows the text.
func refuse(format string, a ...any) string {
	return "E." + strings.NewReplacer("#", "", "$", "", "\n", " ").Replace(replay.Escape(fmt.Sprintf(format, a...)))
}
