package replay_test

import (
	"bytes"
	"testing"

	"memtrace/replay"
)

// TestScreen: nothing that steers a terminal reaches it, however it is cut into
// writes.
func TestScreen(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                 "plain\ttext\n",
		"\x1b]0;title\a\x1b[2J":         `\033]0;title\007\033[2J`,
		"back\b\rover\x7f\x00":          `back\010\015over\177\000`,
		"né ▁█ 漢 �":                     "né ▁█ 漢 �",
		"c1 \u009b31m raw \x9b31m":      `c1 \302\23331m raw \23331m`,
		"bidi \u202e \u2066 \u200f":     `bidi \342\200\256 \342\201\246 \342\200\217`,
		"line\u2028end\u00a0\ufeff":     `line\342\200\250end\302\240\357\273\277`,
		"cut \xe2\x96":                  `cut \342\226`,
		"\xff\xfe \xc3(":                `\377\376 \303(`,
		"\xed\xa0\x80 \xf5\x80\x80\x80": `\355\240\200 \365\200\200\200`,
	} {
		for size := 1; size <= 5; size++ {
			var b bytes.Buffer
			s := replay.NewScreen(&b)
			for p := []byte(in); len(p) > 0; {
				n := min(size, len(p))
				if k, err := s.Write(p[:n]); k != n || err != nil {
					t.Fatalf("%q: %d, %v", in, k, err)
				}
				p = p[n:]
			}
			if err := s.Flush(); err != nil || b.String() != want {
				t.Errorf("%q, %d bytes at once: %q, want %q (%v)", in, size, b.String(), want, err)
			}
		}
	}
}
