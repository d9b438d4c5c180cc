// This file makes short what /proc/PID/smaps says.

package procfs

import (
	"bytes"

	"memtrace/format/proctext"
)

// LargeMappings keeps of a text of /proc/PID/smaps (proc_pid_smaps(5)) the mappings that have
// at least so much anonymous memory, resident or swapped out, in bytes: a line of their range and
// permissions, and those of the lines after it that begin with one of the prefixes. In place.
func LargeMappings(text []byte, least uint64, prefixes []string) []byte {
	kept, begin, own := text[:0], 0, uint64(0)
	for line := range bytes.Lines(text) {
		key, value, ok := proctext.Line(line)
		if !ok {
			if own < least {
				kept = kept[:begin]
			}
			begin, own = len(kept), 0
			end := bytes.IndexByte(line, ' ')
			if end < 0 || len(line) < end+len(" rw-p") {
				continue
			}
			kept = append(append(kept, line[:end+len(" rw-p")]...), '\n')
			continue
		}
		if k := string(key); k == "Anonymous" || k == "Swap" {
			n, _ := value.Size()
			own += n
		}
		kept = append(kept, Lines(line, prefixes)...)
	}
	if own < least {
		kept = kept[:begin]
	}
	return kept
}
