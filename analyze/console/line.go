package console

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/peterh/liner"
)

// terminal is input with line editing.
type terminal struct {
	l       *liner.State
	history string // file; "" for none
	// The terminal is as others left it, but while a line is typed.
	calm, typing, theirs liner.ModeApplier
}

// open chooses the kind of input: line editing needs the process's own
// terminal.
func (s *Session) open(in io.Reader) (src input, interactive bool) {
	if f, ok := in.(*os.File); !ok || f != os.Stdin || !isTerminal(os.Stdin) || !isTerminal(os.Stdout) {
		return pipe{bufio.NewReader(in)}, false
	}
	calm, _ := liner.TerminalMode()
	l := liner.NewLiner()
	typing, _ := liner.TerminalMode()
	l.SetCtrlCAborts(true)
	l.SetTabCompletionStyle(liner.TabPrints)
	l.SetCompleter(func(line string) []string {
		c := s.complete(line)
		if len(c) == 1 { // what is certain needs no second Tab
			c[0] += " "
		}
		return c
	})
	t := &terminal{l: l, history: historyFile(), calm: calm, typing: typing}
	t.mode(calm)
	if f, err := os.Open(t.history); err == nil {
		_, _ = l.ReadHistory(f) // a damaged history is no reason not to start
		_ = f.Close()
	}
	return t, true
}

func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

func (t *terminal) line(prompt string) (string, error) {
	t.mode(t.typing)
	s, err := t.l.Prompt(prompt)
	t.mode(t.calm)
	if errors.Is(err, liner.ErrPromptAborted) {
		return "", errAborted
	}
	if err == nil && s != "" {
		t.l.AppendHistory(s)
	}
	return s, err
}

// more asks whether the rest of a long answer is wanted.
func (t *terminal) more() bool {
	t.mode(t.typing)
	s, err := t.l.Prompt("-- more: Enter; q leaves the rest out -- ")
	t.mode(t.calm)
	return err == nil && s == ""
}

// enter and leave are around a time in which the terminal is ours: a program
// that was using it finds it as it left it.
func (t *terminal) enter() {
	t.theirs, _ = liner.TerminalMode()
	t.mode(t.calm)
}

func (t *terminal) leave() { t.mode(t.theirs) }

func (t *terminal) mode(m liner.ModeApplier) {
	if m != nil {
		_ = m.ApplyMode() // a terminal that has gone needs none
	}
}

func (t *terminal) close() {
	if t.history != "" && os.MkdirAll(filepath.Dir(t.history), 0o700) == nil {
		if f, err := os.OpenFile(t.history, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
			_, _ = t.l.WriteHistory(f)
			_ = f.Close()
		}
	}
	_ = t.l.Close()
}

// historyFile lies in the state directory of the XDG base directory
// specification.
func historyFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "memtrace", "history")
}
