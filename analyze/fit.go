package analyze

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// leastText is how far a text is cut at most to make a table fit, unless its column says
// otherwise.
const leastText = 16

func (c *Column) least() int { return cmp.Or(c.Least, leastText) }

// fit is s as it fits a screen of s.Width characters: columns that may be left
// out go in their order, and texts that may be cut are cut. It is s itself
// without a width, or if there is nothing to do.
func (s *Sheet) fit() *Sheet {
	if s.Width <= 0 || s.Units != nil {
		return s
	}
	c := *s
	for {
		widths := c.widths()
		over := -2 // no gap after the last
		for _, w := range widths {
			over += w + 2
		}
		over -= s.Width
		if over <= 0 {
			return &c
		}
		spare := 0
		for i, col := range c.Columns {
			if col.Cut != whole {
				spare += max(widths[i]-col.least(), 0)
			}
		}
		out := ""
		for i, least := 0, uint8(255); i < len(c.Columns); i++ {
			if d := c.Columns[i].Drop; d > 0 && d < least {
				out, least = c.Columns[i].Key, d
			}
		}
		if spare < over && out != "" {
			c.drop(out)
			continue
		}
		c.Columns = slices.Clone(c.Columns)
		for over > 0 && spare > 0 { // the longest first
			long := -1
			for i, col := range c.Columns {
				if col.Cut != whole && widths[i] > col.least() && (long < 0 || widths[i] > widths[long]) {
					long = i
				}
			}
			widths[long]--
			c.Columns[long].Max = widths[long]
			over--
			spare--
		}
		return &c
	}
}

// widths are how many characters the columns need.
func (s *Sheet) widths() []int {
	w := make([]int, len(s.Columns))
	for i, c := range s.Columns {
		w[i] = len(c.Title)
	}
	rows := s.Rows
	if s.Total != nil {
		rows = append(slices.Clone(rows), s.Total)
	}
	for _, row := range rows {
		for i, v := range row {
			n := utf8.RuneCountInString(Human(v, s.Columns[i].Unit))
			if m := s.Columns[i].Max; m > 0 {
				n = min(n, m)
			}
			w[i] = max(w[i], n)
		}
	}
	return w
}

// shorten cuts s to n characters, at the side that says less.
func (c *Column) shorten(s string) string {
	if c.Max == 0 || len(s) <= c.Max {
		return s
	}
	if c.Cut == keepEnd {
		return "..." + s[len(s)-c.Max+3:]
	}
	return cut(s, c.Max)
}

// foldLines breaks a text into lines of at most n characters; no n leaves it as it
// is.
func foldLines(s string, n int) string {
	if n <= 0 || len(s) <= n {
		return s
	}
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		used := 0
		for i, word := range strings.Fields(line) {
			switch {
			case i == 0:
			case used+1+len(word) > n:
				b.WriteByte('\n')
				used = 0
			default:
				b.WriteByte(' ')
				used++
			}
			b.WriteString(word)
			used += len(word)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}
