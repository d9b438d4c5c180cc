package console

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A screen at a time, and nothing after the user has seen enough.
func TestPager(t *testing.T) {
	var out bytes.Buffer
	asked := 0
	p := &pager{w: &out, size: func() (int, int) { return 20, 5 }, ask: func() bool { asked++; return asked < 2 }}
	p.begin()
	for i := range 8 {
		if _, err := fmt.Fprintf(p, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 || strings.Count(out.String(), "\n") != 8 {
		t.Errorf("asked %d times:\n%s", asked, out.String())
	}
	if _, err := fmt.Fprintln(p, "line 8"); !errors.Is(err, errEnough) || strings.Contains(out.String(), "line 8") {
		t.Errorf("%v:\n%s", err, out.String())
	}
	p.begin()
	out.Reset()
	fmt.Fprint(p, "no newline")
	p.end()
	if out.String() != "no newline" {
		t.Errorf("%q", out.String())
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"},
		{"7f0000-7f1000 r--p 0 /usr/lib/x", "7f0000-7f1000 r--p 0|    /usr/lib/x"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaa|    aaaaa"},
		{"one two three four five", "one two three four|    five"},
		{"", ""},
	} {
		if got := strings.Join(fold(c.in, 20), "|"); got != c.want {
			t.Errorf("%q: %q", c.in, got)
		}
	}
}
