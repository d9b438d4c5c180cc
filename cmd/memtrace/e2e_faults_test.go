//go:build linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const faultsDir = "../../testdata/faults"

// TestFirstFinding records programs with a fault each. The first finding of the report is that
// fault. The first line of a program says which: `finding: KIND WORDS`, a star for what differs
// between runs.
func TestFirstFinding(t *testing.T) {
	require(t, "ptrace", tracing())
	gcc := tool(t, "gcc")
	files, err := filepath.Glob(filepath.Join(faultsDir, "*.c"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d programs in %s: %v", len(files), faultsDir, err)
	}
	line := regexp.MustCompile(`^/\* finding: (\w+) (.*) \*/\n`)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".c")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			want := line.FindStringSubmatch(string(text))
			if want == nil {
				t.Fatal("the first line does not say what is to be found")
			}
			dir := t.TempDir()
			prog, log := filepath.Join(dir, name), filepath.Join(dir, "log")
			if out, err := exec.Command(gcc, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread", "-o", prog, f).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			rec := exec.Command(binary(), "record", "-q", "-o", log, "--", prog)
			rec.Dir = dir
			if out, err := rec.CombinedOutput(); rec.ProcessState == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, err := exec.Command(binary(), "report", log, "findings", "--format", "json").Output()
			if err != nil {
				t.Fatal(err)
			}
			var r struct {
				Rows []struct{ Finding, Text, Then, Also string }
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatal(err)
			}
			first := r.Rows[0]
			like := strings.ReplaceAll(regexp.QuoteMeta(want[2]), `\*`, ".*")
			if first.Finding != want[1] || !regexp.MustCompile(like).MatchString(first.Text) {
				t.Errorf("want %s %q\n%s", want[1], want[2], out)
			}
			for _, c := range []string{first.Then, first.Also} { // what to type works
				if words := strings.Fields(c); len(words) > 0 {
					if out, err := exec.Command(binary(), words[1:]...).CombinedOutput(); err != nil || len(out) == 0 {
						t.Errorf("%s: %v\n%s", c, err, out)
					}
				}
			}
		})
	}
}
