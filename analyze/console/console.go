// Package console is the prompt at which a person, or a script on standard
// input, goes through a program's steps and asks what its memory looks like.
// The same words work on a log and on a living program: what differs is the
// Target, which may bring words of its own.
//
// A Session is not safe for concurrent use.
package console

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// Target is what a console looks at.
type Target interface {
	// View is the state where the target stands.
	View() *replay.View
	// Moment is the event it stands on, nil before the first.
	Moment() *replay.Moment
	// Line is that event as strace would print it.
	Line() string
	// Next goes one step on; io.EOF when there is none.
	Next(context.Context) error
	// Process is the living process with this pid, or the main one if it is 0.
	Process(ctx context.Context, pid uint32) (*replay.Process, error)
	// Registers are those of threads at their last stop.
	Registers([]format.Thread) ([]replay.Registers, error)
	// Stacks are the call stacks of threads of an address space, with names.
	Stacks(ctx context.Context, s *replay.AddressSpace, ts []format.Thread) ([]replay.ThreadStack, error)
	// Sample is the newest text that was read of a source (format.Sample), and
	// the step at which it was.
	Sample(source string, pid uint32) (text []byte, at format.Step, ok bool, err error)
	// Words are the target's own commands.
	Words() []Command
}

// Command is a word of the console.
type Command struct {
	Name    string
	Aliases []string
	Args    string // as help shows them: "[COUNT]"
	Short   string
	Long    string // said by "help WORD", after Short
	Run     func(context.Context, *Session, []string) error
	// Complete proposes arguments; may be nil.
	Complete func(s *Session, done []string) []string
}

// ErrQuit is returned by a command that ends the session.
var ErrQuit = errors.New("quit")

// Session is a console at work.
type Session struct {
	Target
	Out, Err io.Writer
	words    []Command
	pid      uint32 // the process that words are about; 0: the main one
	last     []string
	vars     map[string]uint64 // of a repeat
}

// New makes a session on a target.
func New(t Target, out, errw io.Writer) *Session {
	s := &Session{Target: t, Out: out, Err: errw}
	s.words = slices.Clone(t.Words())
	for _, w := range sharedWords() {
		if !slices.ContainsFunc(s.words, func(own Command) bool { return own.Name == w.Name }) {
			s.words = append(s.words, w)
		}
	}
	slices.SortFunc(s.words, func(a, b Command) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// input is where lines come from.
type input interface {
	// line asks for one; io.EOF at the end, errAborted for Ctrl-C.
	line(prompt string) (string, error)
	close()
}

var errAborted = errors.New("aborted")

// Run reads commands from in until the end or a quit. On a terminal it has line
// editing, history and completion; else it reads without prompts.
func (s *Session) Run(ctx context.Context, in io.Reader) error {
	src, interactive := s.open(in)
	defer src.close()
	page := &pager{w: s.Out, size: screenSize}
	if t, ok := src.(*terminal); ok {
		page.ask = t.more
		plain := s.Out
		s.Out = page
		defer func() { s.Out = plain }()
	}
	s.show()
	for {
		page.end()
		line, err := src.line(s.prompt())
		switch {
		case errors.Is(err, errAborted):
			continue
		case errors.Is(err, io.EOF):
			if interactive {
				fmt.Fprintln(s.Out)
			}
			return nil
		case err != nil:
			return err
		}
		page.begin()
		if err := s.Do(ctx, line); errors.Is(err, ErrQuit) {
			return nil
		} else if err != nil && !page.over {
			fmt.Fprintln(s.Err, "memtrace:", err)
		}
	}
}

func (s *Session) prompt() string {
	if t, ok := s.Target.(interface{ Prompt() string }); ok {
		return t.Prompt()
	}
	if m := s.Moment(); m != nil {
		return fmt.Sprintf("step %d> ", m.Event.Step)
	}
	return "start> "
}

// Do carries out one line. An empty one repeats the last.
func (s *Session) Do(ctx context.Context, line string) error {
	f, err := fields(line)
	if err != nil {
		return err
	}
	if len(f) == 0 {
		if len(s.last) == 0 {
			return nil
		}
		f = s.last
	}
	if strings.HasPrefix(f[0], "#") {
		return nil
	}
	w, err := s.find(f[0])
	if err != nil {
		return err
	}
	s.last = f
	// Ctrl-C ends the command, not the session.
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt)
	defer stop()
	err = w.Run(ctx, s, f[1:])
	if errors.Is(err, context.Canceled) {
		s.show()
		return errors.New("interrupted")
	}
	return err
}

// find is the command that a word means: its name, an alias, or the beginning
// of just one name.
func (s *Session) find(word string) (*Command, error) {
	var found []*Command
	for i := range s.words {
		w := &s.words[i]
		if w.Name == word || slices.Contains(w.Aliases, word) {
			return w, nil
		}
		if strings.HasPrefix(w.Name, word) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no word %q: help lists them", word)
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, w := range found {
		names[i] = w.Name
	}
	return nil, fmt.Errorf("%q may be %s", word, strings.Join(names, " or "))
}

// show prints where the session stands.
func (s *Session) show() {
	if t, ok := s.Target.(interface{ Show(io.Writer) }); ok {
		t.Show(s.Out)
		return
	}
	if m := s.Moment(); m != nil {
		fmt.Fprintln(s.Out, s.Line())
		for _, c := range summarize(m) {
			fmt.Fprintln(s.Out, "       "+c)
		}
	}
}

// scope is what names in expressions mean.
func (s *Session) scope(sp *replay.AddressSpace) *replay.Scope {
	return &replay.Scope{Space: sp, Symbols: s.View().Symbols, Vars: s.vars}
}

// fields splits a line at blanks; "..." and '...' keep theirs, quotes
// included.
func fields(line string) ([]string, error) {
	var out []string
	var cur strings.Builder
	in := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0:
			cur.WriteByte(c)
			if c == '\\' && i+1 < len(line) {
				i++
				cur.WriteByte(line[i])
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote, in = c, true
			cur.WriteByte(c)
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			if in {
				out = append(out, cur.String())
				cur.Reset()
				in = false
			}
		default:
			in = true
			cur.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%c without its end", quote)
	}
	if in {
		out = append(out, cur.String())
	}
	return out, nil
}

// complete proposes whole lines for the one typed so far.
func (s *Session) complete(line string) []string {
	f, err := fields(line)
	if err != nil {
		return nil
	}
	part := ""
	if len(f) > 0 && !strings.HasSuffix(line, " ") {
		part = f[len(f)-1]
		f = f[:len(f)-1]
	}
	head := line[:len(line)-len(part)]
	var words []string
	if len(f) == 0 {
		for _, w := range s.words {
			words = append(words, w.Name)
		}
	} else if w, err := s.find(f[0]); err == nil && w.Complete != nil {
		words = w.Complete(s, f[1:])
	}
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, part) {
			out = append(out, head+w)
		}
	}
	return out
}

// pipe is input that is no terminal.
type pipe struct{ r *bufio.Reader }

func (p pipe) line(string) (string, error) {
	l, err := p.r.ReadString('\n')
	if err == io.EOF && l != "" {
		err = nil
	}
	return l, err
}

func (pipe) close() {}
