package web

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// mostText is how many bytes of a text are given: names in a log may have megabytes.
const mostText = 4096

// shown is a text of the log for a page. It is cut if it is too long, and what steers a
// screen, or the direction of the text around it, is written as an escape.
func shown(s string) string {
	if len(s) > mostText {
		n := mostText
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	if clean(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			writeEscape(&b, 'x', uint32(s[i]), 2)
		case steers(r) && r < 0x80:
			writeEscape(&b, 'x', uint32(r), 2)
		case steers(r) && r < 0x10000:
			writeEscape(&b, 'u', uint32(r), 4)
		case steers(r):
			writeEscape(&b, 'U', uint32(r), 8)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// clean says whether a text is of printable ASCII characters only.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// steers says whether a character is none that is seen: a control character, or one that
// turns the direction of text, joins or hides characters.
func steers(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Co, r)
}

func writeEscape(b *strings.Builder, c byte, n uint32, digits int) {
	const hex = "0123456789abcdef"
	b.WriteByte('\\')
	b.WriteByte(c)
	for i := digits - 1; i >= 0; i-- {
		b.WriteByte(hex[n>>(4*i)&15])
	}
}

// shownAll are the texts of a list, as many as there is room for.
func shownAll(list []string) []string {
	const most = 1000
	out := make([]string, 0, min(len(list), most))
	for i, s := range list {
		if i == most {
			return append(out, "…")
		}
		out = append(out, shown(s))
	}
	return out
}
