package analyze

import (
	"strings"
	"testing"
)

// TestFit shows tables on screens of several widths: they never are wider, say
// as much as fits, and keep the end of a path.
func TestFit(t *testing.T) {
	r := &Sheet{Columns: []Column{
		{Key: "a", Title: "FIRST", Unit: Count, Drop: 2},
		{Key: "b", Title: "SECOND", Unit: Count, Drop: 1},
		{Key: "path", Title: "PATH", Unit: Text, Cut: keepEnd},
	}, Rows: [][]any{{uint64(1), uint64(2), "/usr/lib/x86_64-linux-gnu/libc.so.6"}}, Notes: []string{"a note of more than thirty characters"}}
	for _, test := range []struct {
		width int
		want  string
	}{
		{0, "FIRST  SECOND  PATH\n    1       2  /usr/lib/x86_64-linux-gnu/libc.so.6\na note of more than thirty characters\n"},
		{40, "FIRST  SECOND  PATH\n    1       2  ...64-linux-gnu/libc.so.6\na note of more than thirty characters\n"},
		{30, "FIRST  PATH\n    1  ...-linux-gnu/libc.so.6\na note of more than thirty\ncharacters\n"},
		{20, "PATH\n...nux-gnu/libc.so.6\na note of more than\nthirty characters\n"},
	} {
		r.Width = test.width
		var b strings.Builder
		if err := r.Write(&b, Table); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.want {
			t.Errorf("width %d:\n%s\nwant\n%s", test.width, b.String(), test.want)
		}
	}
}
