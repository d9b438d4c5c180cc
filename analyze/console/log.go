package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/replay"
)

// Log is the Target of a log.
type Log struct {
	t *replay.Trace
	c *replay.Cursor
}

// NewLog makes a target that stands on the first step of a log.
func NewLog(t *replay.Trace) (*Log, error) {
	c := t.Cursor()
	p, err := t.Printer(0, replay.PrintOptions{Steps: true, Clock: replay.Relative})
	if err != nil {
		return nil, err
	}
	c.Printer = p
	if _, err := c.Next(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &Log{t, c}, nil
}

// Close ends the target's reading.
func (l *Log) Close() { l.c.Close() }

func (l *Log) View() *replay.View     { return l.c.View() }
func (l *Log) Moment() *replay.Moment { return l.c.Moment() }
func (l *Log) Line() string           { return l.c.Line() }

func (l *Log) Next(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := l.c.Next()
	return err
}

func (l *Log) Process(ctx context.Context, pid uint32) (*replay.Process, error) {
	return l.t.Find(ctx, l.View(), pid)
}

func (l *Log) Registers(ts []format.Thread) ([]replay.Registers, error) {
	n, _ := l.c.Step()
	return l.t.Registers(n, ts)
}

func (l *Log) Stacks(ctx context.Context, s *replay.AddressSpace, ts []format.Thread) ([]replay.ThreadStack, error) {
	return l.t.Stacks(ctx, s, ts, false)
}

func (l *Log) Sample(source string, pid uint32) ([]byte, format.Step, bool, error) {
	n, _ := l.c.Step()
	return l.t.Sample(n, source, pid)
}

// Words of a log: it can be gone through in both directions.
func (l *Log) Words() []Command {
	steps := func(*Session, []string) []string { return []string{"first", "last"} }
	return []Command{
		{Name: "prev", Aliases: []string{"back", "b"}, Args: "[COUNT]", Short: "one step back, or COUNT", Run: l.prev},
		{
			Name: "goto", Args: "STEP", Short: "go to a step: a number, last, -1, 50%, 1.25s", Complete: steps,
			Run: func(_ context.Context, s *Session, args []string) error {
				if len(args) != 1 {
					return errors.New("goto where? goto STEP")
				}
				return l.seek(s, args[0])
			},
		},
		{
			Name: "first", Short: "go to the first step",
			Run: func(_ context.Context, s *Session, _ []string) error { return l.seek(s, "first") },
		},
		{
			Name: "last", Short: "go to the last step",
			Run: func(_ context.Context, s *Session, _ []string) error { return l.seek(s, "last") },
		},
		{
			Name: "continue", Aliases: []string{"cont", "c"}, Args: "[until] [COND]",
			Short:    "go on to the next event that meets COND, or to the end",
			Long:     "Conditions are:\n" + CondHelp,
			Complete: func(*Session, []string) []string { return condWords() },
			Run:      l.cont,
		},
		{
			Name: "history", Args: "ADDR [LEN]", Short: "what these bytes were over the whole log, and from when to when",
			Complete: places, Run: l.history,
		},
		{Name: "diff", Args: "STEP | N..M", Short: "what differs between the present step and another, or between two", Complete: steps, Run: l.diff},
	}
}

func condWords() []string {
	words := []string{"until", "change", "fatal", "error", "memory", "file", "process", "network", "desc", "size>", "rss>", "addr=", "pid="}
	for w, ok := range eventTypes {
		if ok {
			words = append(words, w)
		}
	}
	for w := range changeOps {
		words = append(words, w)
	}
	return words
}

func (l *Log) seek(s *Session, to string) error {
	n, err := l.t.StepOf(to)
	if err != nil {
		return err
	}
	if err := l.c.Seek(n); err != nil {
		return err
	}
	s.show()
	return nil
}

func (l *Log) prev(ctx context.Context, s *Session, args []string) error {
	n, err := countArg(args)
	if err != nil {
		return err
	}
	// A long way is one seek.
	if at, ok := l.c.Step(); ok && n > 1000 {
		return l.seek(s, strconv.FormatUint(uint64(at)-min(uint64(at), n), 10))
	}
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := l.c.Prev(); errors.Is(err, io.EOF) {
			return errors.New("this is the first step")
		} else if err != nil {
			return err
		}
		s.show()
	}
	return nil
}

func (l *Log) cont(ctx context.Context, s *Session, args []string) error {
	if len(args) > 0 && args[0] == "until" {
		args = args[1:]
	}
	if len(args) == 0 {
		return l.seek(s, "last")
	}
	cond, err := ParseCond(args)
	if err != nil {
		return err
	}
	at, ok := l.c.Step()
	from := at + 1
	if !ok {
		from = l.t.First()
	}
	last, _ := l.t.Last()
	for m, err := range l.t.Walk(from, last) {
		if err == nil && m.Event.Step%256 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if cond(m) {
			if err := l.c.Seek(m.Event.Step); err != nil {
				return err
			}
			s.show()
			return nil
		}
	}
	return fmt.Errorf("no step after this one meets %s", strings.Join(args, " "))
}

func (l *Log) diff(ctx context.Context, s *Session, args []string) error {
	if len(args) != 1 {
		return errors.New("diff with what? diff STEP, or diff N..M")
	}
	a, b, two := strings.Cut(args[0], "..")
	from, err := l.t.StepOf(a)
	if err != nil {
		return err
	}
	to, _ := l.c.Step()
	if two {
		if to, err = l.t.StepOf(b); err != nil {
			return err
		}
	}
	d, err := l.t.Compare(ctx, min(from, to), max(from, to), s.pid, nil)
	if err != nil {
		return err
	}
	return d.Write(s.Out, replay.NoClock, time.Time{})
}

func (l *Log) history(ctx context.Context, s *Session, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("history of which bytes? history ADDR [LEN]")
	}
	p, err := s.target(ctx, nil)
	if err != nil {
		return err
	}
	sp, err := p.Space()
	if err != nil {
		return err
	}
	spec := strings.Join(args, ":")
	if !strings.Contains(spec, ":") {
		spec += ":1"
	}
	r, err := replay.ParseRange(spec, sp)
	if err != nil {
		return err
	}
	eras, err := l.t.History(ctx, r, p.PID)
	if err != nil {
		return err
	}
	return replay.WriteHistory(s.Out, r, eras)
}

// FindAll lists where bytes were at any step.
func (l *Log) FindAll(ctx context.Context, s *Session, want []byte) error {
	found, err := l.t.FindBytes(ctx, want, s.pid)
	if err != nil {
		return err
	}
	for i := range found {
		if i == maxFound {
			fmt.Fprintf(s.Out, "and %d more\n", len(found)-i)
			break
		}
		fmt.Fprintf(s.Out, "%s\n", found[i].Append(nil, replay.NoClock, time.Time{}))
	}
	if len(found) == 0 {
		return errors.New("nowhere in the memory that the log holds")
	}
	return nil
}

func countArg(args []string) (uint64, error) {
	if len(args) == 0 {
		return 1, nil
	}
	n, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil || n == 0 || len(args) > 1 {
		return 0, fmt.Errorf("%q is not a number of steps", strings.Join(args, " "))
	}
	return n, nil
}
