package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"memtrace/replay"
)

// errEnough ends a search that has told as much as was asked for.
var errEnough = errors.New("enough")

// enough says on stderr that a search ended where --top says, and is nil then.
func enough(cmd *cobra.Command, err error, top int, what string) error {
	if !errors.Is(err, errEnough) {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: stopped after %s (--top)\n", what)
	return nil
}

// runDiff compares two steps.
func runDiff(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	a, b, ok := strings.Cut(o.diff, "..")
	if !ok || a == "" || b == "" {
		return usagef("--diff %s: want two steps as N..M", o.diff)
	}
	from, to, err := span(t, a, b)
	if err != nil {
		return replaying(name, err)
	}
	if b == "last" {
		if alive, aerr := t.LastAlive(cmd.Context(), o.pid); aerr == nil && from <= alive && alive < to {
			to = alive // as with --at
		}
	}
	bar := newProgress(cmd, "comparing pages")
	d, err := t.Compare(cmd.Context(), from, to, o.pid, bar.update)
	bar.done()
	if err != nil {
		return replaying(name, err)
	}
	if o.top > 0 {
		d.Cut(o.top)
	}
	if err := writeDiff(cmd, t, d, o); err != nil {
		return replaying(name, err)
	}
	if d.More > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %d more mappings and runs of pages (--top)\n", d.More)
	}
	return nil
}

func writeDiff(cmd *cobra.Command, t *replay.Trace, d *replay.Difference, o *replayOptions) error {
	out := cmd.OutOrStdout()
	if o.json {
		var runs []replay.ByteRun
		if o.bytes {
			var err error
			if runs, err = t.ByteRuns(cmd.Context(), d); err != nil {
				return err
			}
		}
		_, err := out.Write(append(d.AppendJSON(nil, runs), '\n'))
		return err
	}
	clock, err := o.clocked()
	if err != nil {
		return err
	}
	if err := d.Write(out, clock, t.Header().Start); err != nil || !o.bytes {
		return err
	}
	return t.WriteBytes(cmd.Context(), out, d)
}

// runHistory tells what some bytes were over the whole log.
func runHistory(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	r, err := t.ParseHistory(cmd.Context(), o.history, o.pid)
	if err != nil {
		return usageError{fmt.Errorf("--history: %w", err)}
	}
	clock, err := o.clocked()
	if err != nil {
		return err
	}
	w := replay.EraWriter{Range: r, Clock: clock, Start: t.Header().Start}
	s := newStream(cmd, "reading", o.top)
	err = t.EachEra(cmd.Context(), r, o.pid, s.progress.update, func(e *replay.Era) error {
		if o.json {
			return s.line(e.AppendJSON(nil))
		}
		return s.line(w.Append(nil, e))
	})
	s.progress.done()
	return replaying(name, enough(cmd, err, o.top, count(uint64(o.top), "value")))
}

// runFind tells where and when some bytes were in memory.
func runFind(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	want, err := replay.ParseBytes(o.find)
	if err != nil {
		return usageError{fmt.Errorf("--find: %w", err)}
	}
	clock, err := o.clocked()
	if err != nil {
		return err
	}
	s := newStream(cmd, "searching", o.top)
	fo := replay.FindOptions{PID: o.pid, Progress: s.progress.update}
	err = t.EachFound(cmd.Context(), want, fo, func(f *replay.Found) error {
		if o.json {
			return s.line(f.AppendJSON(nil))
		}
		return s.line(f.Append(nil, clock, t.Header().Start))
	})
	s.progress.done()
	if err = enough(cmd, err, o.top, count(uint64(o.top), "line")); err != nil {
		return replaying(name, err)
	}
	if s.lines > 0 {
		return nil
	}
	n, err := t.WithoutMappings(cmd.Context())
	switch {
	case err != nil:
		return replaying(name, err)
	case n > 0:
		return &exitError{statusUnknown, fmt.Errorf("replay %s: %q is nowhere in the memory that the log holds, but %s", name, o.find, replay.NotMapped(n))}
	}
	return &exitError{statusFailed, fmt.Errorf("replay %s: %q is nowhere in the memory that the log holds", name, o.find)}
}

// stream writes lines as they are found: the first at once, the others before anybody
// has waited for them.
type stream struct {
	out      io.Writer
	top      int // 0: no limit
	lines    int
	flushed  time.Time
	progress *progress
}

func newStream(cmd *cobra.Command, what string, top int) *stream {
	s := &stream{out: cmd.OutOrStdout(), top: top, progress: newProgress(cmd, what)}
	s.progress.before = s.flush
	return s
}

// line writes a line, or says that there were enough.
func (s *stream) line(b []byte) error {
	if s.top > 0 && s.lines == s.top {
		return errEnough
	}
	if _, err := s.out.Write(append(b, '\n')); err != nil {
		return err
	}
	if s.lines++; s.lines == 1 || s.lines%64 == 0 && time.Since(s.flushed) > 100*time.Millisecond {
		s.progress.clear()
		s.flush()
	}
	return nil
}

func (s *stream) flush() {
	s.flushed = time.Now()
	if f, ok := s.out.(interface{ Flush() error }); ok {
		_ = f.Flush() // the next write says what went wrong
	}
}

// progress shows on a terminal how far a command is that takes more than a second.
type progress struct {
	what   string
	on     bool
	begun  time.Time
	last   time.Time
	shown  bool
	before func() // is called before something is shown; nil: nothing
}

func newProgress(cmd *cobra.Command, what string) *progress {
	_, mine := cmd.ErrOrStderr().(*after)
	return &progress{what: what, on: mine && term.IsTerminal(int(os.Stderr.Fd())), begun: time.Now()}
}

// update shows that a part is done, 0 to 1.
func (p *progress) update(part float64) {
	if !p.on || time.Since(p.begun) < time.Second || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	if p.before != nil {
		p.clear()
		p.before()
	}
	p.last, p.shown = time.Now(), true
	// Not through the command's stderr, which has no control characters.
	fmt.Fprintf(os.Stderr, "\r\x1b[Kmemtrace: %s, %.0f %%", p.what, 100*part)
}

// clear takes away what is shown.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
		p.shown = false
	}
}

// done takes away what is shown, and shows no more.
func (p *progress) done() {
	p.clear()
	p.on = false
}
