package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// pager writes what a command says a screen at a time, and asks in between whether to go on.
type pager struct {
	w    io.Writer
	ask  func() (goOn bool)
	size func() (cols, rows int)
	used int // rows of the screen
	line []byte
	over bool // the rest is not wanted
}

// errEnough is what a command gets that writes on after the user has seen enough.
var errEnough = errors.New("the rest was not wanted")

// begin is called before each command.
func (p *pager) begin() { p.used, p.over, p.line = 0, false, p.line[:0] }

// end writes what has no newline.
func (p *pager) end() {
	if len(p.line) > 0 && !p.over {
		_, _ = p.w.Write(p.line)
	}
	p.line = p.line[:0]
}

func (p *pager) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if p.over {
			return 0, errEnough
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			p.line = append(p.line, b...)
			break
		}
		p.line = append(p.line, b[:i]...)
		b = b[i+1:]
		cols, rows := p.size()
		for _, l := range fold(string(p.line), cols) {
			if rows > 2 && p.used == rows-1 {
				if !p.ask() {
					p.over = true
					return 0, errEnough
				}
				p.used = 0
			}
			p.used++
			if _, err := io.WriteString(p.w, l+"\n"); err != nil {
				return 0, err
			}
		}
		p.line = p.line[:0]
	}
	return n, nil
}

// fold breaks a line between words where it is longer than the screen is wide. What follows is
// indented.
func fold(line string, cols int) (out []string) {
	const indent = "    "
	r := []rune(line)
	for cols > 2*len(indent) && len(r) > cols {
		at := cols
		for at > len(indent) && r[at] != ' ' {
			at--
		}
		if at <= len(indent) { // one long word
			at = cols
		}
		out = append(out, strings.TrimRight(string(r[:at]), " "))
		r = []rune(indent + strings.TrimLeft(string(r[at:]), " "))
	}
	return append(out, string(r))
}

// screenSize is that of the terminal; 0 where it is not known.
func screenSize() (cols, rows int) {
	cols, rows, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0, 0
	}
	return cols, rows
}
