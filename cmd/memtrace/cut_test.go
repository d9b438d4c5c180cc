package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"memtrace/analyze"
)

// TestCutLog: a part of a log says of its steps what the log says.
func TestCutLog(t *testing.T) {
	sample(t)
	invokeOK := func(args ...string) string {
		t.Helper()
		status, out, errs := invoke(t, "", args...)
		if status != 0 {
			t.Fatalf("%q: status %d: %s", args, status, errs)
		}
		return out
	}
	for from := 1; from < 12; from++ {
		part, last := fmt.Sprintf("part%d", from), fmt.Sprint(from+6)
		_, _, errs := invoke(t, "", "cut", "--from", fmt.Sprint(from), "--to", last, "-o", part)
		if !strings.Contains(errs, fmt.Sprintf("7 events, steps %d to %s", from, last)) {
			t.Errorf("cut --from %d: %s", from, errs)
		}
		invokeOK("verify", part)
		list := []string{"replay", "-t", "--from", fmt.Sprint(from), "--to", last}
		if got, want := invokeOK(append(list, part)...), invokeOK(list...); got != want {
			t.Errorf("cut --from %d:\n%s\nwant\n%s", from, got, want)
		}
		for step := from; step <= from+6; step++ {
			for _, what := range [][]string{{"--maps"}, {"--maps", "--pid", "101"}, {"--mem", "heap:40", "--json"}, {"--mem", "0x555555558000:32", "--json"}} {
				look := append([]string{"replay", "--at", fmt.Sprint(step)}, what...)
				gotStatus, got, _ := invoke(t, "", append(look, part)...)
				status, want, _ := invoke(t, "", look...)
				if gotStatus != status || got != want {
					t.Errorf("cut --from %d: %q: status %d\n%s\nwant %d\n%s", from, look, gotStatus, got, status, want)
				}
			}
		}
		for _, r := range analyze.Reports {
			if status, _, errs := invoke(t, "", "report", part, r.Name); status > 1 {
				t.Errorf("cut --from %d: report %s: status %d: %s", from, r.Name, status, errs)
			}
		}
		for _, step := range []string{"first", "50%", "-2", "last-1"} {
			invokeOK("replay", "--at", step, part)
		}
		if status, _, errs := invoke(t, "", "replay", "--at", "0", part); from > 2 && (status == 0 || !strings.Contains(errs, "lies before the first")) {
			t.Errorf("--at 0: status %d: %s", status, errs)
		}
	}
	if status, _, errs := invoke(t, "", "cut", "--from", "3", "-o", "part1"); status != 1 || !strings.Contains(errs, "exists already") {
		t.Errorf("over a file: status %d: %s", status, errs)
	}
	if status, _, _ := invoke(t, "", "cut", "--from", "5", "--to", "4", "-o", "none"); status != statusUsage {
		t.Errorf("backwards: status %d", status)
	}
	// Parts are joined again, in whatever order they are named.
	invokeOK("cut", "--to", "6", "-o", "head")
	invokeOK("cut", "--from", "7", "-o", "tail")
	invokeOK("cut", "tail", "head", "-o", "both")
	invokeOK("verify", "both")
	if got, want := invokeOK("replay", "-t", "both"), invokeOK("replay", "-t"); got != want {
		t.Errorf("joined:\n%s\nwant\n%s", got, want)
	}
	invokeOK("cut", "--from", "9", "-o", "last")
	if status, _, errs := invoke(t, "", "cut", "head", "last", "-o", "gap"); status != 1 || !strings.Contains(errs, "steps 7 to 8 are in none") {
		t.Errorf("a gap: status %d: %s", status, errs)
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() == "gap" || f.Name() == "none" || strings.HasPrefix(f.Name(), ".") {
			t.Errorf("%s is left", f.Name())
		}
	}
}
