//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/replay"
)

// requests records testdata/progs/requests.c n times, and returns the logs.
func requests(t *testing.T, n int, args ...string) (logs []string) {
	t.Helper()
	require(t, "ptrace", tracing())
	prog, dir := compile(t, "requests", "x86_64"), t.TempDir()
	for i := range n {
		log := filepath.Join(dir, fmt.Sprint("log", i))
		cmd := append([]string{"record", "-q", "-k", "-o", log, "--", prog}, args...)
		if out, err := exec.Command(binary(), cmd...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		logs = append(logs, log)
	}
	return logs
}

// TestDiffPlanted compares a program with one that keeps 1 KiB a request and has a slower call:
// these are the first rows of each table.
func TestDiffPlanted(t *testing.T) {
	t.Parallel()
	a, b := requests(t, 1, "300", "0", "1")[0], requests(t, 1, "300", "1024", "6")[0]
	out, err := exec.Command(binary(), "diff", "--format", "json", a, b, "memory", "mappings", "sites", "calls").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for _, want := range []string{"kind heap", "name [heap]", "site keep", "call poll"} {
		var table struct {
			Report string
			Rows   []map[string]any
		}
		if err := dec.Decode(&table); err != nil {
			t.Fatal(err)
		}
		key, value, _ := strings.Cut(want, " ")
		if len(table.Rows) == 0 || table.Rows[0][key] != value {
			t.Fatalf("%s: want %s first\n%v", table.Report, want, table.Rows)
		}
		row := table.Rows[0]
		switch key {
		case "kind":
			if row["verdict"] != "more" || row["phase"] != "loaded..exit" || row["b_rate"].(float64) <= 0 {
				t.Error(row)
			}
		case "site":
			if live := row["delta_live"].(float64); row["only_in"] != "B" || live < 250<<10 {
				t.Error(row)
			}
		case "call":
			if row["verdict"] != "more" || row["b_p50"].(float64) < 6e6 || row["b_p99"].(float64) < row["b_p50"].(float64) {
				t.Error(row)
			}
		}
	}
}

// TestDiffSame records one program 40 times, and compares 5 of these runs with 5 others, 100
// times over: at most 5 of the comparisons find a difference.
func TestDiffSame(t *testing.T) {
	long(t)
	t.Parallel()
	var runs []*replay.Trace
	for _, log := range requests(t, 40, "300", "0", "1") {
		tr, err := replay.Open(log, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Close() })
		runs = append(runs, tr)
	}
	found := map[int]string{}
	for trial := range 100 {
		rng := rand.New(rand.NewPCG(uint64(trial), 1))
		rng.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		o := analyze.CompareOptions{Align: "markers", Tables: analyze.ComparisonTables}
		c, err := analyze.Compare(t.Context(), runs[:5], runs[5:10], o)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"summary", "memory", "mappings", "sites", "calls"} {
			for _, row := range c.Sheet(table, false).Rows {
				if text := fmt.Sprintln(row...); table != "summary" || strings.Contains(text, " more ") || strings.Contains(text, " less ") {
					found[trial] += table + ": " + text
				}
			}
		}
	}
	t.Logf("%d of 100 comparisons found a difference: %v", len(found), found)
	if len(found) > 5 {
		t.Error("these are too many")
	}
}
