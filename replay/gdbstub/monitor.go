package gdbstub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// word is a command of "monitor".
type word struct {
	name, args, help string
	run              func(*Session, context.Context, []string) (string, error)
}

var words []word

func init() {
	words = []word{
		{"step?", "", "where gdb stands: the step, its time and its event", (*Session).sayStep},
		{"goto", "STEP", "stand at STEP (a number, a time, crash, a mark), or at the last step before it at which a thread's place is known", (*Session).goTo},
		{"events", "[N]", "the N events before and after (5)", (*Session).events},
		{"history", "ADDR[:LEN]", "what these bytes were, and from when to when", (*Session).history},
		{"asof", "ADDR[:LEN]", "as of which step these bytes are", (*Session).asOf},
		{"threads", "", "all threads of the process, and why some are not there", (*Session).sayThreads},
		{"processes", "", "the processes of the log, and which of them are there at this step", (*Session).sayProcesses},
		{"process", "PID [STEP]", "show process PID at this step, or at STEP, from the next connection on (memtrace gdb connects anew at: process PID [STEP])", (*Session).chooseProcess},
		{"stale", "on|off", "show bytes of stacks that may be older than the step too", (*Session).setStale},
		{"mark", "NAME", "call this step NAME, for goto", (*Session).mark},
		{"help", "", "this list", (*Session).help},
	}
}

// monitor is qRcmd: a command that gdb does not know, and its text.
func (s *Session) monitor(ctx context.Context, p string) (string, error) {
	line, err := hex.DecodeString(p)
	if err != nil {
		return "E16", nil
	}
	args := strings.Fields(string(line))
	if len(args) == 0 {
		args = []string{"help"}
	}
	for _, w := range words {
		if w.name == args[0] {
			text, err := w.run(s, ctx, args[1:])
			if r := new(refusal); errors.As(err, &r) {
				return "E01", s.note("%v", r.err)
			}
			if err != nil {
				text = replay.Escape(err.Error()) + "\n"
			}
			return hexLimited(text), nil
		}
	}
	return hexLimited(fmt.Sprintf("no command %q: monitor help lists them\n", args[0])), nil
}

// hexLimited is a text as an answer, cut to a packet.
func hexLimited(text string) string {
	if most := maxPacket/2 - 64; len(text) > most {
		text = text[:most] + "\n... (more than fits)\n"
	}
	return hex.EncodeToString([]byte(text))
}

func (s *Session) help(context.Context, []string) (string, error) {
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintf(&b, "monitor %-22s %s\n", strings.TrimSpace(w.name+" "+w.args), w.help)
	}
	return b.String(), nil
}

// list writes the events of some steps, with what stands before each line.
func (s *Session) list(ctx context.Context, from, to format.Step) (string, error) {
	var b strings.Builder
	err := s.trace.List(ctx, &b, replay.ListOptions{PrintOptions: replay.PrintOptions{Steps: true}, From: from, To: to, AllCalls: true})
	return b.String(), err
}

func (s *Session) sayStep(ctx context.Context, _ []string) (string, error) {
	text, err := s.list(ctx, s.now.step, s.now.step)
	return fmt.Sprintf("step %d of %d, %v after the start\n%s", s.now.step, s.trace.Steps()-1, duration(s.now.event.Time), text), err
}

func (s *Session) goTo(ctx context.Context, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("monitor goto STEP")
	}
	n, err := s.stepOf(args[0])
	if err != nil {
		return "", err
	}
	if !s.all && (n < s.first || n > s.last) {
		return "", fmt.Errorf("steps %d to %d are of the program that gdb shows: process PID %d shows another", s.first, s.last, n)
	}
	m, err := s.exactly(n)
	if err == nil && m == nil {
		m, err = s.nearest(ctx, s.candidates(), n, backward, s.edge(backward))
	}
	if err == nil && m == nil {
		m, err = s.nearest(ctx, s.candidates(), n, forward, s.edge(forward))
	}
	if err != nil || m == nil {
		return "", fmt.Errorf("at no step near %d is it known where a thread is: %w", n, replay.ErrUnknown)
	}
	s.stand(m, stopReason{signal: gdbTrap})
	if _, err := s.choose(ctx, "g"+s.chosen); err != nil { // gdb goes on with its thread, and does not choose it again
		return "", err
	}
	text, err := s.sayStep(ctx, nil)
	if err != nil {
		return "", err
	}
	absent, err := s.absentees()
	return text + s.age() + "\n" + strings.Join(append(absent, ""), "\n") + "(goto-step of memtrace gdb refreshes gdb as well; elsewhere type: maintenance flush register-cache)\n", err
}

func (s *Session) events(ctx context.Context, args []string) (string, error) {
	n := uint64(5)
	if len(args) > 0 {
		var err error
		if n, err = strconv.ParseUint(args[0], 10, 16); err != nil {
			return "", fmt.Errorf("monitor events N: %q is no number", args[0])
		}
	}
	at := uint64(s.now.step)
	return s.list(ctx, format.Step(at-min(at, n)), format.Step(min(at+n, uint64(s.trace.Steps())-1)))
}

// where reads ADDR or ADDR:LEN.
func (s *Session) where(args []string) (addr.Range, error) {
	if len(args) == 2 && !strings.Contains(args[0], ":") {
		args = []string{args[0] + ":" + args[1]}
	}
	if len(args) != 1 {
		return addr.Range{}, fmt.Errorf("want ADDR or ADDR:LEN")
	}
	if !strings.Contains(args[0], ":") {
		args[0] += ":1"
	}
	return replay.ParseRange(args[0], s.now.space)
}

func (s *Session) history(ctx context.Context, args []string) (string, error) {
	r, err := s.where(args)
	if err != nil {
		return "", err
	}
	eras, err := s.trace.History(ctx, r, s.pid)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = replay.WriteHistory(&b, r, eras)
	return b.String(), err
}

func (s *Session) asOf(_ context.Context, args []string) (string, error) {
	r, err := s.where(args)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	var page [addr.PageSize]byte
	for at := r.Start; at < r.End && b.Len() < maxPacket; at = at.PageDown() + addr.PageSize {
		parts, err := s.now.space.Stretches(at.PageDown(), &page)
		if err != nil {
			return "", err
		}
		for i := range parts {
			x := &parts[i]
			part := x.Range.Intersect(r)
			if part.Empty() {
				continue
			}
			switch {
			case x.Err != nil:
				fmt.Fprintf(&b, "%v: %v\n", part, x.Err)
			case x.AsOf == s.now.step:
				fmt.Fprintf(&b, "%v: as of this step\n", part)
			case !s.fresh(s.now, x):
				fmt.Fprintf(&b, "%v: as of step %d, older than the thread whose stack it is: not shown\n", part, x.AsOf)
			default:
				fmt.Fprintf(&b, "%v: as of step %d\n", part, x.AsOf)
			}
		}
	}
	return b.String(), nil
}

func (s *Session) sayThreads(context.Context, []string) (string, error) {
	var b strings.Builder
	for _, x := range s.now.process.Threads {
		th := s.now.thread(x.TID)
		switch {
		case th == nil:
			fmt.Fprintf(&b, "thread %d: it is not known where it is at step %d\n", x.TID, s.now.step)
		case th.call != "":
			fmt.Fprintf(&b, "thread %d: in %s\n", x.TID, th.call)
		default:
			fmt.Fprintf(&b, "thread %d: registers as of step %d\n", x.TID, th.asOf)
		}
	}
	return b.String(), nil
}

func (s *Session) sayProcesses(ctx context.Context, _ []string) (string, error) {
	lives, err := s.trace.Lives(ctx)
	var b strings.Builder
	for i := range lives {
		l := &lives[i]
		here := ""
		switch {
		case l == s.life && s.known:
			here = " (this one)"
		case l.First <= s.now.step && s.now.step <= l.Last:
			here = " (there now)"
		}
		fmt.Fprintf(&b, "process %d: %s, steps %d to %d%s\n", l.PID, replay.Escape(l.Name()), l.First, l.Last, here)
	}
	if s.all {
		b.WriteString("add-inferior, inferior N and attach PID show another, at a step at which it is there\n")
	} else {
		b.WriteString("process PID [STEP] shows another\n")
	}
	return b.String(), err
}

// stepOf is the step that a mark or a word means.
func (s *Session) stepOf(word string) (format.Step, error) {
	if n, ok := s.marks[word]; ok {
		return n, nil
	}
	return s.trace.StepOf(word)
}

// refusal is why a command did nothing. gdb is told of an error then, so that it leaves the commands that a script has
// after this one.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// chooseProcess prepares the session of the next connection. This one goes on with its process: gdb has its threads,
// its libraries and its symbols, and would show the memory of another one with them.
func (s *Session) chooseProcess(ctx context.Context, args []string) (string, error) {
	next, asked, err := s.ofProcess(ctx, args)
	if err != nil {
		return "", &refusal{err}
	}
	s.next = next
	text := fmt.Sprintf("the next connection shows process %d: %s\n%s\n", next.pid, replay.Escape(next.life.Name()), next.age())
	if next.now.step != asked {
		text += fmt.Sprintf("(at step %d it is not known where one of its threads is)\n", asked)
	}
	return text, nil
}

// ofProcess is a session of the process and the step that args name, and that step.
func (s *Session) ofProcess(ctx context.Context, args []string) (next *Session, n format.Step, err error) {
	if len(args) < 1 || len(args) > 2 {
		return nil, 0, errors.New("process PID [STEP]: monitor processes lists them")
	}
	pid, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return nil, 0, fmt.Errorf("process PID [STEP]: %q is no number", args[0])
	}
	if s.all {
		return nil, 0, fmt.Errorf("gdb can be shown all processes at once: attach %d in an inferior of its own, at a step at which it is there", pid)
	}
	if s.once {
		return nil, 0, fmt.Errorf("gdb cannot connect to this memtrace again: start it with --gdb=- --pid %d", pid)
	}
	n = s.now.step
	if len(args) == 2 {
		if n, err = s.stepOf(args[1]); err != nil {
			return nil, 0, err
		}
	}
	lives, err := s.trace.Lives(ctx)
	if err != nil {
		return nil, 0, err
	}
	err = fmt.Errorf("process %d: %w", pid, replay.ErrNoProcess)
	for i := range lives {
		l := &lives[i]
		if l.PID != uint32(pid) {
			continue
		}
		if n < l.First || n > l.Last {
			err = fmt.Errorf("process %d is not there at step %d, but from step %d to %d: process %d STEP", pid, n, l.First, l.Last, pid)
			continue
		}
		next = newSession(s.trace)
		next.stale, next.local, next.images, next.marks = s.stale, s.local, s.images, s.marks
		return next, n, next.show(ctx, lives, l, n)
	}
	return nil, 0, err
}

func (s *Session) setStale(_ context.Context, args []string) (string, error) {
	if len(args) != 1 || args[0] != "on" && args[0] != "off" {
		return "", fmt.Errorf("monitor stale on|off")
	}
	if s.stale = args[0] == "on"; s.stale {
		return "bytes of stacks that may be older than the step are shown: frames may be wrong\n", nil
	}
	return "", nil
}

func (s *Session) mark(_ context.Context, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("monitor mark NAME")
	}
	s.marks[args[0]] = s.now.step
	return fmt.Sprintf("step %d is %s\n", s.now.step, args[0]), nil
}
