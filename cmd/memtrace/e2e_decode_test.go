//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// acceptedDifferences are what strace says otherwise, and what is right here.
var acceptedDifferences = []struct {
	strace *regexp.Regexp
	here   string
	why    string
}{
	{regexp.MustCompile(`^(msgrcv\(ID, \{mtype=7, mtext="a m)(\\0)+"\.\.\.`), `${1}"`,
		"strace shows as many bytes as the buffer has, not as the message had"},
	{regexp.MustCompile(`\{iov_base="a text that is longer than what "\.\.\., iov_len=64\}\], msg_iovlen=3`), `{iov_base="a t"..., iov_len=64}], msg_iovlen=3`,
		"--string-limit counts all pieces of a call together"},
	{regexp.MustCompile(`>\(deleted\)\) = 0$`), `>) = 0`,
		"strace asks for the name at the call, here it is what the descriptor was opened as"},
	{regexp.MustCompile(`^(sched_setattr\(.*\}) => \{size=\d+\}`), `$1`,
		"what the kernel writes when it refuses a call is not kept"},
	{regexp.MustCompile(`^(membarrier\(MEMBARRIER_CMD_QUERY, .*_RSEQ\|)0x200\)$`), `${1}MEMBARRIER_CMD_GET_REGISTRATIONS)`,
		"the bit is newer than strace 6.1"},
	{regexp.MustCompile(` /\* op: (0|0x[0-9a-f]+) \*/`), ``,
		"a comment of strace's on an operation that it does not know either"},
}

// Whatever the kernel chooses is called by a name of its own.
var chosen = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`^(\[(pid +\d+|recorder)\] |\d+ +)`), ``},
	{regexp.MustCompile(`(socket|pipe|pidfd):\[\d+\]`), `$1:[N]`},
	{regexp.MustCompile(`left \{[^}]*\}`), `left {T}`},
	{regexp.MustCompile(`^((sem|msg|shm)\w+)\(\d+,`), `$1(ID,`},
	{regexp.MustCompile(`^((sem|msg|shm)get.*) = \d+$`), `$1 = ID`},
}

// TestDecode compares how calls are shown with strace, line by line.
func TestDecode(t *testing.T) {
	for _, build := range []string{"x86_64", "i386"} {
		t.Run(build, func(t *testing.T) {
			require(t, "ptrace", tracing())
			dir := t.TempDir()
			if err := os.Symlink(compile(t, "decode", build), filepath.Join(dir, "prog")); err != nil {
				t.Fatal(err)
			}
			prog := "./prog" // as it is called, not what it is
			strace := tool(t, "strace")
			require(t, "strace", straceIs(strace, "6.1"))
			log := filepath.Join(dir, "log")
			out := runIn(t, dir, strace, "-f", "-y", "-a1", "-o", log, prog)
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			whole := named(string(text), out)
			want := between(t, joined(whole))
			out = runIn(t, dir, binary(), "record", "-q", "-o", log, prog)
			lines := named(string(tell(t, 0, "replay", "--no-steps", log)), out)
			got := between(t, lines)
			// The environment is in memory that is gone when the program begins.
			environment := regexp.MustCompile(`, 0x[0-9a-f]+ /\* \d+ vars \*/`)
			if first := environment.ReplaceAllString(whole[0], ""); lines[0] != first {
				t.Errorf("begins with %s\nstrace      %s", lines[0], first)
			}
			if len(want) < 350 {
				t.Errorf("strace shows %d calls only", len(want))
			}
			compareLines(t, want, got)
			tell(t, 0, "verify", log)
		})
	}
}

// straceIs says why a strace is not the one that is compared with.
func straceIs(path, version string) error {
	out, err := exec.Command(path, "-V").Output()
	if err != nil {
		return err
	}
	if first, _, _ := strings.Cut(string(out), "\n"); !strings.HasSuffix(first, " "+version) {
		return fmt.Errorf("%s, not version %s", first, version)
	}
	return nil
}

// runIn runs a command in a directory and returns its standard output.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = dir, &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, brief(stderr.Bytes()))
	}
	return stdout.String()
}

// named splits a trace into lines, with names for what the program said it got
// from the kernel: it prints "NAME VALUE".
func named(trace, out string) []string {
	var values []*regexp.Regexp
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			values, names = append(values, regexp.MustCompile(`\b`+regexp.QuoteMeta(f[1])+`\b`)), append(names, f[0])
		}
	}
	lines := strings.Split(strings.TrimSuffix(trace, "\n"), "\n")
	for i := range lines {
		for _, c := range chosen {
			lines[i] = c.re.ReplaceAllString(lines[i], c.by)
		}
		for j, v := range values {
			lines[i] = v.ReplaceAllLiteralString(lines[i], names[j])
		}
	}
	return lines
}

// joined puts calls together that strace shows in two lines.
func joined(lines []string) (whole []string) {
	resumed := regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)`)
	begun := map[string]string{} // by name: no two threads are in the same call
	for _, l := range lines {
		if head, ok := strings.CutSuffix(l, " <unfinished ...>"); ok {
			name, _, _ := strings.Cut(head, "(")
			begun[name] = head
			continue
		}
		if m := resumed.FindStringSubmatch(l); m != nil {
			l = begun[m[1]]
			if strings.HasSuffix(l, ",") {
				l += " "
			}
			l += m[2]
		}
		whole = append(whole, l)
	}
	return whole
}

// between are the calls between the program's two marks, but for those of its
// child, which run beside it.
func between(t *testing.T, lines []string) (calls []string) {
	t.Helper()
	in := false
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, `write(-1, "begin"`):
			in = true
		case strings.HasPrefix(l, `write(-1, "end"`):
			return calls
		case in && !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "+++") && !strings.HasPrefix(l, "exit_group"):
			calls = append(calls, l)
		}
	}
	t.Fatalf("no end among %d lines", len(lines))
	return nil
}

// compareLines tells of the first lines that differ, more than is accepted.
func compareLines(t *testing.T, want, got []string) {
	t.Helper()
	bad := 0
	for i := range min(len(want), len(got)) {
		w := want[i]
		for _, d := range acceptedDifferences {
			if w == got[i] {
				break
			}
			w = d.strace.ReplaceAllString(w, d.here)
		}
		if w == got[i] {
			continue
		}
		t.Errorf("call %d\nstrace   %s\nmemtrace %s", i, want[i], got[i])
		if bad++; bad == 20 {
			t.Fatal("and more")
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d calls, strace shows %d", len(got), len(want))
	}
}
