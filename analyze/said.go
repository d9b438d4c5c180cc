package analyze

import (
	"fmt"
	"regexp"
	"strings"

	"memtrace/format"
	"memtrace/format/call"
	"memtrace/replay"
)

// words are what a process wrote to its standard error last, without a pause.
type words struct {
	text []byte      // the last of it, as far as the log has it
	more bool        // some of it is not in the log, or no longer in text
	time uint64      // ns, when it wrote last
	step format.Step // when it began
}

const (
	mostSaid  = 4 << 10       // bytes that are kept of it
	mostLine  = 200           // of the line that a finding has
	mostLines = 6             // that a person sees below a finding
	pause     = 1_000_000_000 // ns after which words are others
)

// listen keeps what a process writes to its standard error.
func (f *findings) listen(m *replay.Moment, s *format.Syscall) {
	c := call.Call{Arch: s.Arch, Nr: s.Nr, Args: s.Args, Ret: s.Ret, Returned: s.Returned, Bufs: s.Bufs}
	if !c.ToStandardError() || s.Ret <= 0 {
		return
	}
	b := c.Written()
	w := f.said[m.Thread.TGID]
	if w == nil || s.Enter > w.time+pause {
		w = &words{step: m.Event.Step}
	}
	w.text, w.more, w.time = append(w.text, b...), w.more || int64(len(b)) < s.Ret, m.Event.Time
	if n := len(w.text) - mostSaid; n > 0 {
		w.text, w.more = w.text[n:], true
	}
	if f.said == nil {
		f.said = map[uint32]*words{}
	}
	f.said[m.Thread.TGID] = w
}

// wrote is what a process wrote to its standard error last; "" if nothing.
func (f *findings) wrote(pid uint32) string {
	if w := f.said[pid]; w != nil {
		return strings.ToValidUTF8(strings.Trim(string(w.text), "\n"), "\uFFFD")
	}
	return ""
}

// Lines that say what is wrong, the surest first.
var complaints = []*regexp.Regexp{
	regexp.MustCompile(`^(\S+ ){0,4}\S*(?i:error|exception|panic|fatal)\S*:`),
	regexp.MustCompile(`(?i)\b(error|exception|panic(ked)?|fatal|failed|failure|assertion|abort(ed)?|cannot|denied)\b`),
}

// saying is the line that tells most of what a process said last, as a part of a sentence; ""
// if it said nothing.
func (f *findings) saying(pid uint32) string {
	lines := saidLines(f.wrote(pid))
	if lines == nil {
		return ""
	}
	text := lines[len(lines)-1]
search:
	for _, like := range complaints {
		for _, l := range lines {
			if like.MatchString(l) {
				text = l
				break search
			}
		}
	}
	more := len(lines) == 1 && f.said[pid].more
	if text = strings.TrimSpace(text); len(text) > mostLine {
		text, more = strings.ToValidUTF8(text[:mostLine], ""), true
	}
	text = fmt.Sprintf("%q", text)
	if more {
		text = text[:len(text)-1] + `..."`
	}
	return "; it said " + text
}

// saidLines are the lines of a text that are not empty.
func saidLines(text string) (lines []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(l, " \t\r\n"); l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// excerpt is what a process said, for a person: some lines of it, none if the finding's sentence
// has all of it.
func excerpt(said string) (out []string) {
	lines := saidLines(said)
	if len(lines) < 2 {
		return nil
	}
	if n := len(lines); n > mostLines {
		left := plural(uint64(n-mostLines+1), "more line", "more lines")
		lines = append(append(lines[:mostLines/2-1:mostLines/2-1], "("+left+")"), lines[n-mostLines/2:]...)
	}
	for _, l := range lines {
		out = append(out, cut("  | "+replay.Escape(l), screenCols))
	}
	return out
}
