package console

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/replay"
	"memtrace/replay/replaytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func session(t *testing.T) (*Session, *bytes.Buffer) {
	t.Helper()
	l, err := NewLog(replay.New(replaytest.Open(t, replaytest.Log(t))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	var b bytes.Buffer
	return New(l, &b, &b), &b
}

// Each script is run as piped input; what it says is kept beside it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		in, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s, b := session(t)
		// Run line by line, with the line before its answer: a transcript.
		for line := range strings.Lines(string(in)) {
			b.WriteString("> " + line)
			if err := s.Do(context.Background(), line); err != nil {
				b.WriteString("error: " + err.Error() + "\n")
			}
		}
		golden := strings.TrimSuffix(f, ".in") + ".out"
		if *update {
			if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s differs: go test -update after a look; got\n%s", golden, b)
		}
	}
}

func TestPiped(t *testing.T) {
	s, b := session(t)
	if err := s.Run(context.Background(), strings.NewReader("next\n# a comment\n\nquit\nnext\n")); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), " mmap("); n != 1 {
		t.Errorf("Enter did not repeat next, or quit did not quit: %d\n%s", n, b)
	}
	if strings.Contains(b.String(), "> ") {
		t.Errorf("prompts on a pipe:\n%s", b)
	}
	// An end without a newline, and without a quit.
	s, b = session(t)
	if err := s.Run(context.Background(), strings.NewReader("goto 5")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "mprotect(") {
		t.Errorf("last line is lost:\n%s", b)
	}
}

func TestPrefixes(t *testing.T) {
	s, _ := session(t)
	for in, want := range map[string]string{
		"n": "next", "ne": "next", "sys": "system", "s": "system", "p": "process", "proc": "process", "c": "continue",
		"cont": "continue", "q": "quit", "h": "help", "g": "goto", "ev": "event", "di": "diff", "la": "last",
	} {
		if w, err := s.find(in); err != nil || w.Name != want {
			t.Errorf("%s: got %v, %v, want %s", in, w, err, want)
		}
	}
	for _, in := range []string{"m", "nope", "fi"} {
		if w, err := s.find(in); err == nil {
			t.Errorf("%s: got %s", in, w.Name)
		}
	}
}

func TestComplete(t *testing.T) {
	s, _ := session(t)
	for in, want := range map[string]string{
		"ne": "next", "mem hea": "mem heap", "mem [he": "mem [heap]", "maps 1": "maps 100", "help con": "help continue",
		"continue fat": "continue fatal", "goto l": "goto last",
	} {
		got := s.complete(in)
		if !slices.Contains(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := s.complete(`find "open`); got != nil {
		t.Errorf("in a quote: %q", got)
	}
}

func TestCond(t *testing.T) {
	tr := replay.New(replaytest.Open(t, replaytest.Log(t)))
	for in, want := range map[string][]uint64{
		"mmap": {2, 6}, "memory": {1, 2, 5, 6, 9, 13, 15}, "signal": {10, 12}, "SIGCHLD": {12}, "fatal": {10},
		"error": {4}, "error=ENOENT": {4}, "error=EPERM": nil, "exec": {0, 8}, "protect": {5}, "unmap": {9, 15}, "remap": {13},
		"mmap and map": {2, 6}, "change pid=101": {8, 9}, "addr=0x7ffff7c00000": {2, 5}, "size>150K": {13}, "exit": {11, 18},
	} {
		c, err := ParseCond(strings.Fields(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var got []uint64
		for m, err := range tr.Walk(0, 18) {
			if err != nil {
				t.Fatal(err)
			}
			if c(m) {
				got = append(got, uint64(m.Event.Step))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
	for _, in := range []string{"", "and", "nosuchcall", "size=3", "size>x", "pid>3", "addr<2"} {
		if _, err := ParseCond(strings.Fields(in)); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestFields(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  a  b ": {"a", "b"}, `find "a b"`: {"find", `"a b"`}, `x "\"" y`: {"x", `"\""`, "y"}, "'a b'c": {"'a b'c"},
	} {
		if got, err := fields(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	if _, err := fields(`"open`); err == nil {
		t.Error("an open quote is no error")
	}
}
