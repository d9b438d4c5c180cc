package replay

import (
	"io"
	"unicode"
	"unicode/utf8"
)

// Screen is what a terminal may be given: text that a log has, as a name of a file, a
// thread or a reason, may hold characters that steer it. All but printable ones, line
// ends and tabs are written as Escape writes them.
type Screen struct {
	w    io.Writer
	part []byte // the begin of a character whose rest was not written yet
}

// NewScreen writes to w, a terminal.
func NewScreen(w io.Writer) *Screen { return &Screen{w: w} }

func (s *Screen) Write(p []byte) (int, error) {
	in := append(s.part, p...)
	out := make([]byte, 0, len(in)+16)
	for len(in) > 0 && utf8.FullRune(in) {
		r, n := utf8.DecodeRune(in)
		out = appendShown(out, r, in[:n])
		in = in[n:]
	}
	s.part = append([]byte(nil), in...)
	if _, err := s.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what may be the begin of a character.
func (s *Screen) Flush() error {
	var out []byte
	for _, c := range s.part {
		out = appendShown(out, utf8.RuneError, []byte{c})
	}
	s.part = nil
	_, err := s.w.Write(out)
	return err
}

// appendShown appends a character, which is b.
func appendShown(out []byte, r rune, b []byte) []byte {
	if r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || len(b) > 1) {
		return append(out, b...)
	}
	for _, c := range b {
		out = append(out, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
	}
	return out
}
