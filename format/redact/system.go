package redact

import (
	"bytes"
	"regexp"
)

// numberLine is a line of /proc or /sys that has a key and numbers, and nothing that a
// program or a person has named.
var numberLine = regexp.MustCompile(`^([A-Za-z0-9_()]+:?[ \t]+\d+( kB)?|(some|full) avg10=[\d.]+ avg60=[\d.]+ avg300=[\d.]+ total=\d+|\d+( \d+)*|max|State:\t[A-Z] \([a-z -]+\))$`)

// numberLines are the lines of text that are a key and numbers. Of an address range that
// /proc/PID/smaps_rollup begins with nothing is left.
func numberLines(text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		if numberLine.Match(bytes.TrimSuffix(line, []byte("\n"))) {
			out = append(out, line...)
		}
	}
	return out
}
