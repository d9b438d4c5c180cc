// This file compares a table with what the kernel prints.

package space

import (
	"bytes"
	"strings"
)

// Comparison is a table beside the text of /proc/PID/maps.
type Comparison struct {
	Text []byte // what the kernel prints, valid until the Table is used again
	Same bool
	Diff string // lines that only the kernel has, after a +, and that only the table has, after a -
}

// Compare compares the table with what the kernel prints. The threads that use the
// address space must stand still. Mappings that have grown by themselves are
// brought up to date first. ok is false when the address space is gone.
func (t *Table) Compare(w Watcher) (c Comparison, ok bool) {
	if t.kernel == nil {
		return c, false
	}
	text, err := t.kernel.MapsText()
	if err != nil || len(text) == 0 {
		return c, false
	}
	t.printed = t.mappings.AppendMaps(t.printed[:0])
	if !bytes.Equal(t.printed, text) {
		text = bytes.Clone(text) // Grow may have it read again
		t.Grow(w)
		t.printed = t.mappings.AppendMaps(t.printed[:0])
	}
	c = Comparison{Text: text, Same: bytes.Equal(t.printed, text)}
	if !c.Same {
		c.Diff = lineDiff(string(t.printed), string(text))
	}
	return c, true
}

// lineDiff lists the lines that only one of two texts has.
func lineDiff(table, kernel string) string {
	count := map[string]int{}
	for l := range strings.Lines(table) {
		count[l]++
	}
	var b strings.Builder
	for l := range strings.Lines(kernel) {
		if count[l]--; count[l] < 0 {
			b.WriteString("+" + l)
		}
	}
	for l := range strings.Lines(table) {
		if count[l] > 0 {
			count[l]--
			b.WriteString("-" + l)
		}
	}
	return b.String()
}
