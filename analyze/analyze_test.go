package analyze_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/name, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs: go test -update after a look; got\n%s", file, got)
	}
}

func TestReports(t *testing.T) {
	tr := replay.New(Open(t, Log(t)))
	for i := range analyze.Reports {
		r := &analyze.Reports[i]
		if slices.Contains(refReports, r.Name) { // the log has none
			continue
		}
		res, err := r.Make(context.Background(), tr, analyze.Options{To: 18})
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		for _, f := range analyze.Formats {
			var b bytes.Buffer
			if err := res.Write(&b, f); err != nil {
				t.Errorf("%s as %s: %v", r.Name, f, err)
			}
			golden(t, r.Name+"."+string(f), b.String())
			switch f {
			case analyze.JSON:
				var v map[string]any
				if err := json.Unmarshal(b.Bytes(), &v); err != nil || v["report"] != r.Name {
					t.Errorf("%s: %v, report %v", r.Name, err, v["report"])
				}
			case analyze.CSV:
				if rows, err := csvTables(&b); err != nil || len(rows) < 2 && r.Name != "callsites" && r.Name != "files" {
					t.Errorf("%s: %d rows of CSV, %v", r.Name, len(rows), err)
				}
			}
		}
	}
}

// TestCSVParts: the CSV of a report has all tables that its JSON has, each told by its name, and
// docs/cli.md names the reports that are several tables.
func TestCSVParts(t *testing.T) {
	rec, err := replay.Open("testdata/recorded.mtl", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	doc, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, listed, _ := strings.Cut(string(doc), "Some reports are several tables by themselves: ")
	listed, _, _ = strings.Cut(listed, "\n")
	bare := replay.New(Open(t, Log(t))) // without samples, stacks and references
	several := 0
	for i := range analyze.Reports {
		r := &analyze.Reports[i]
		var first []string
		for _, tr := range []*replay.Trace{rec, replay.New(Open(t, RefLog(t))), bare} {
			last, _ := tr.Last()
			res, err := r.Make(context.Background(), tr, analyze.Options{To: last, Memory: 4096, Stacks: 1})
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				continue
			}
			var j, c bytes.Buffer
			if err := errors.Join(res.Write(&j, analyze.JSON), res.Write(&c, analyze.CSV)); err != nil {
				t.Fatal(err)
			}
			var keys map[string]any
			if err := json.Unmarshal(j.Bytes(), &keys); err != nil {
				t.Fatal(err)
			}
			want := map[string]int{r.Name: len(res.Rows)} // rows
			for k, v := range keys {
				if list, is := v.([]any); is && k != "rows" {
					want[k] = len(list)
				}
			}
			got := map[string]int{}
			rows, err := csvTables(&c)
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
			first = append(first, rows[0][0])
			if rows[0][0] != "report" {
				got[r.Name] = len(rows) - 1
			}
			for _, row := range rows {
				if rows[0][0] == "report" && row[0] != "report" {
					got[row[0]]++
				}
			}
			maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
			maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
			if !maps.Equal(got, want) {
				t.Errorf("%s: CSV has the tables %v, JSON %v", r.Name, got, want)
			}
		}
		if len(slices.Compact(slices.Clone(first))) != 1 {
			t.Errorf("%s: the first column depends on the log: %q", r.Name, first)
		}
		if is := first[0] == "report"; is != strings.Contains(listed, "`"+r.Name+"`") {
			t.Errorf("%s is several tables: %v; docs/cli.md says of them %q", r.Name, is, listed)
		} else if is {
			several++
		}
	}
	if several < 6 {
		t.Errorf("%d reports are several tables", several)
	}
}

// csvTables reads CSV of several tables.
func csvTables(b *bytes.Buffer) ([][]string, error) {
	c := csv.NewReader(b)
	c.FieldsPerRecord = -1
	return c.ReadAll()
}

// The summary must fit a terminal of 80x24, whatever the program did.
func TestSummaryFits(t *testing.T) {
	b := New(t)
	long := strings.Repeat("a long name ", 20)
	b.Event(1, &format.Exec{Path: "/" + long, Argv: []string{long}}, &format.MMNew{MM: 1}, Thread(1, 1, 1, 1, 1, 0),
		Map(1, Text, 1, 5, "/bin/x"), Map(1, Heap, 1, 3, "[heap]"), Map(1, Stack, 1, 3, "[stack]"), Map(1, Anon, 1, 3, ""),
		Map(1, Moved, 1, 1, "[vvar]"), Map(1, Moved+4096, 1, 5, "[vdso]"), Map(1, Moved+8192, 1, 8, "/memfd:"+long),
		Map(1, Moved+3*4096, 1, 8, "/SYSV00000000"), Map(1, Moved+4*4096, 1, 8, "/dev/shm/x"), Map(1, Moved+5*4096, 1, 8, "/data"))
	for i := range 30 {
		b.Call(1, "openat", -int64(i+1), nil)
		b.Event(1, &format.Signal{Signo: int32(i + 1), Info: []byte{byte(i), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}})
	}
	b.Event(0, &format.Snapshot{MM: 1, Pages: 1 << 40, PauseNS: 1 << 40})
	b.Event(0, &format.Lost{What: "much"})
	b.Event(0, &format.Check{MM: 1})
	log := b.Bytes()
	tr := replay.New(Open(t, log[:len(log)-10]))
	res, err := analyze.Summary(context.Background(), tr, analyze.Options{To: tr.Steps() - 1})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := res.Sheet().Write(&out, analyze.Table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if len(l) > 80 {
			t.Errorf("%d columns: %s", len(l), l)
		}
	}
	if !tr.Truncated() || !strings.Contains(out.String(), "memtrace recover") {
		t.Errorf("truncated log is not told of:\n%s", out.String())
	}
}

func TestRanges(t *testing.T) {
	tr := replay.New(Open(t, Log(t)))
	get := func(name string, o analyze.Options) string {
		t.Helper()
		r, err := analyze.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Make(context.Background(), tr, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var b bytes.Buffer
		if err := res.Write(&b, analyze.CSV); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	at := format.Step(5)
	for _, c := range []struct {
		name string
		o    analyze.Options
		want []string
		not  string
	}{
		{"growth", analyze.Options{From: 1, To: 2}, []string{"heap,8192,0,8192,0,0,8192,16384,16384,1,20480", "anonymous private,65536,0"}, "memfd"},
		{"growth", analyze.Options{To: 18, PID: 101}, []string{"main stack,16384,4096,12288,16384,28672,0,0,", "heap,0,0,0,16384,16384,0,0,16384,7,"}, "data"},
		{"growth", analyze.Options{From: 9, To: 9, PID: 101}, []string{"main stack,0,4096,-4096,0,0,16384,12288,16384"}, "heap"},
		{"syscalls", analyze.Options{To: 18, PID: 101}, []string{"munmap,x86_64,1,0"}, "mmap,"},
		{"maps", analyze.Options{To: 18, At: &at}, []string{"16384,0,0x7ffff7c00000,0x7ffff7c04000,r--p"}, "/memfd"},
		{"maps", analyze.Options{To: 8, PID: 101}, []string{"/bin/child"}, "[heap]"},
		{"processes", analyze.Options{To: 18, Sort: "-pid", Top: 1}, []string{"100,,0,18"}, "101,"},
		{"syscalls", analyze.Options{To: 18, Sort: "name", Top: 1}, []string{"brk"}, "mmap"},
		{"shm", analyze.Options{To: 18, PID: 101}, []string{"memfd,120,8192,101,inherited,7,81920,8"}, ",100,"},
	} {
		got := get(c.name, c.o)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s %+v: no %q in\n%s", c.name, c.o, w, got)
			}
		}
		if strings.Contains(got, c.not) {
			t.Errorf("%s %+v: %q in\n%s", c.name, c.o, c.not, got)
		}
	}
	if _, err := analyze.Reports[1].Make(context.Background(), tr, analyze.Options{To: 18, Sort: "nope"}); err == nil {
		t.Error("sorted by a column that is not there")
	}
	empty := replay.New(Open(t, New(t).Bytes()))
	for i := range analyze.Reports {
		if _, err := analyze.Reports[i].Make(context.Background(), empty, analyze.Options{}); err == nil {
			t.Errorf("%s of an empty log: no error", analyze.Reports[i].Name)
		}
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1 MiB", 1 << 30: "1 GiB", ^uint64(0): "16 EiB",
	} {
		if got := analyze.Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{
		0: "0 ns", 999: "999 ns", 1234: "1.23 us", 12345: "12.3 us", 123456: "123 us", 1234567: "1.23 ms", 61e9: "61.0 s", 200e9: "3m20s",
	} {
		if got := analyze.Span(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := analyze.Human("a\x1b[2J\n", analyze.Text); got != `a\033[2J\n` {
		t.Errorf("escape: %q", got)
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{"maps": "maps", "grow": "growth", "su": "summary"} {
		if r, err := analyze.Find(name); err != nil || r.Name != want {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for _, name := range []string{"", "s", "nope"} {
		if r, err := analyze.Find(name); err == nil {
			t.Errorf("%q: %s", name, r.Name)
		}
	}
}

// TestParents: a parent is one that was born before its child; a log that names them in
// a circle, or a process as its own, is shown all the same.
func TestParents(t *testing.T) {
	b := New(t)
	b.Event(1, &format.Exec{Path: "/bin/first", Argv: []string{"first", "a"}}, &format.MMNew{MM: 1}, Map(1, Text, 1, 5, "/bin/first"), Thread(1, 100, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 2}, &format.MMNew{MM: 2, From: 1}, Thread(2, 200, 200, 2, 2, 1))
	b.Event(2, &format.Clone{Child: 3}, &format.MMNew{MM: 3, From: 1}, Thread(3, 300, 300, 3, 3, 2))
	b.Event(1, &format.Exec{Path: "/bin/second"}, &format.MMNew{MM: 4}, Map(4, Text, 1, 5, "/bin/second"), Thread(1, 100, 100, 1, 4, 0), &format.MMDrop{MM: 1})
	b.Event(1, &format.Clone{Child: 4}, &format.MMNew{MM: 5, From: 4}, Thread(4, 400, 400, 4, 5, 6))
	b.Event(1, &format.Clone{Child: 5}, &format.MMNew{MM: 6, From: 4}, Thread(5, 500, 500, 5, 6, 5))
	b.Event(1, &format.Clone{Child: 6}, &format.MMNew{MM: 7, From: 4}, Thread(6, 600, 600, 6, 7, 4))
	r, err := analyze.Processes(context.Background(), replay.New(Open(t, b.Bytes())), analyze.Options{To: 6})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		parent  uint32
		program string
	}{{0, "/bin/second"}, {100, "(fork of) first a"}, {200, "(fork of) first a"}, {0, "(unknown)"}, {0, "(unknown)"}, {400, "(unknown)"}}
	for i, row := range r.Rows {
		parent := uint32(0)
		if row.Parent != nil {
			parent = *row.Parent
		}
		if parent != want[i].parent || row.Program != want[i].program {
			t.Errorf("%d: child of %d, ran %q; want %+v", row.PID, parent, row.Program, want[i])
		}
	}
	if len(r.Rows) != len(want) {
		t.Errorf("%d processes", len(r.Rows))
	}
}

// TestTextOfOthers: what a log says comes alive neither in Markdown nor in a spreadsheet.
func TestTextOfOthers(t *testing.T) {
	for name, want := range map[string][2]string{ // of a mapping: in Markdown, in CSV
		"/<script>alert(1)</script>": {"/&lt;script&gt;alert(1)&lt;/script&gt;", "/<script>alert(1)</script>"},
		"/[a](http://x.org)":         {`/\[a\](http:\//x.org)`, "/[a](http://x.org)"},
		"/![](//x/y.png)":            {`/\!\[\](//x/y.png)`, "/![](//x/y.png)"},
		"https://x.org/a_b_":         {`https:\//x.org/a_b\_`, "https://x.org/a_b_"},
		"www.x.org a@b.org":          {`www\.x.org a\@b.org`, "www.x.org a@b.org"},
		"a|b`c`*d*~e~&amp;\\":        {"a\\|b\\`c\\`\\*d\\*\\~e\\~&amp;amp;\\\\", "a|b`c`*d*~e~&amp;\\"},
		"=HYPERLINK(1)":              {"=HYPERLINK(1)", "'=HYPERLINK(1)"},
		"+1":                         {"+1", "'+1"},
		"-1":                         {"-1", "'-1"},
		"@SUM(1)":                    {`\@SUM(1)`, "'@SUM(1)"},
		"\t=1":                       {`\\t=1`, "'\t=1"},
		"'a":                         {"'a", "''a"},
	} {
		b := New(t)
		b.Event(1, &format.Exec{Path: "/bin/a"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 1, 5, name))
		r, err := analyze.Reports[slices.IndexFunc(analyze.Reports, func(r analyze.Report) bool { return r.Name == "maps" })].Make(context.Background(), replay.New(Open(t, b.Bytes())), analyze.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var md, table bytes.Buffer
		if err := errors.Join(r.Write(&md, analyze.Markdown), r.Write(&table, analyze.CSV)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(md.String(), " "+want[0]+" ") {
			t.Errorf("%q in Markdown: no %s in\n%s", name, want[0], md.String())
		}
		rows, err := csvTables(&table)
		if err != nil || !slices.Contains(rows[1], want[1]) {
			t.Errorf("%q in CSV: no %q in %q (%v)", name, want[1], rows, err)
		}
	}
}
