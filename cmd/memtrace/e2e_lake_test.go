//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/analyze/export/parquet"
	"memtrace/replay/replaytest"
)

// lakeFiles are the files of a lake and what is in them.
func lakeFiles(t *testing.T, lake string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(lake, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		m[strings.TrimPrefix(name, lake)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLakeFaults kills an export at calls of each kind, and has them fail as on a full disk.
// Under its final name each file is the old one or the new one, and what failed leaves all as
// it was.
func TestLakeFaults(t *testing.T) {
	t.Parallel()
	strace := tool(t, "strace")
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	old, new := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	for name, log := range map[string][]byte{old: replaytest.Log(t), new: replaytest.Every(t)} {
		if err := os.WriteFile(name, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	export := func(lake, log string) []string {
		return []string{"export", "--to", "parquet", "-o", lake, "--run", "r", log}
	}
	tell(t, 0, export(filepath.Join(dir, "a"), old)...)
	tell(t, 0, export(filepath.Join(dir, "b"), new)...)
	before, after := lakeFiles(t, filepath.Join(dir, "a")), lakeFiles(t, filepath.Join(dir, "b"))
	if len(before) != len(parquet.Tables) || !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Fatalf("%d and %d files of %d tables", len(before), len(after), len(parquet.Tables))
	}
	faults := []string{
		"write:signal=KILL:when=1", "fsync:signal=KILL:when=1", "renameat:signal=KILL:when=1", "renameat:signal=KILL:when=6",
		"write:error=ENOSPC:when=1", "fsync:error=EIO:when=1", "renameat:error=ENOSPC:when=1",
	}
	if longRun {
		faults = append(faults, "write:signal=KILL:when=2", "write:signal=KILL:when=3", "mkdirat:signal=KILL:when=1", "renameat:signal=KILL:when=2",
			"renameat:signal=KILL:when=10", "unlinkat:signal=KILL:when=1", "write:error=ENOSPC:when=2+", "mkdirat:error=ENOSPC:when=1")
	}
	counts := map[string]int{}
	for i, inject := range faults {
		lake := filepath.Join(dir, fmt.Sprint("lake", i))
		tell(t, 0, export(lake, old)...)
		cmd := exec.Command(strace, append([]string{"-f", "-qq", "-o", filepath.Join(dir, "strace"), "-e", "inject=" + inject, binary()}, export(lake, new)...)...)
		out, err := cmd.CombinedOutput()
		got := lakeFiles(t, lake)
		stage := ""
		for name, data := range got {
			switch {
			case strings.HasPrefix(name, "/.export-"):
				stage = name
			case data == before[name]:
				counts["old"]++
			case data == after[name]:
				counts["new"]++
			default:
				t.Errorf("%s: %s is neither the old nor the new one", inject, name)
			}
		}
		for name := range before {
			if _, there := got[name]; !there {
				t.Errorf("%s: %s is gone", inject, name)
			}
		}
		if !strings.Contains(inject, "error") {
			continue
		}
		// strace counts the calls of each thread: a second call of one may never come.
		if err == nil && strings.HasSuffix(inject, "=1") {
			t.Errorf("%s: the export succeeded", inject)
		}
		if err != nil && (stage != "" || !maps.Equal(got, before)) {
			t.Errorf("%s: %v, left %q\n%s", inject, err, stage, out)
		}
	}
	if counts["new"] == 0 || counts["old"] == 0 {
		t.Errorf("files: %v", counts)
	}
}

// TestQuery asks real logs by the program that users have, for which DuckDB's library
// stands here.
func TestQuery(t *testing.T) {
	t.Parallel()
	modules := os.Getenv("MEMTRACE_DUCKDB")
	if modules == "" {
		require(t, "duckdb", fmt.Errorf("$MEMTRACE_DUCKDB is no folder of node's modules with @duckdb/node-api"))
	}
	require(t, "ptrace", tracing())
	script, err := filepath.Abs(filepath.Join("..", "..", "testdata", "scripts", "duckdb.js"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	engine := filepath.Join(dir, "duckdb")
	if err := os.WriteFile(engine, fmt.Appendf(nil, "#!/bin/sh\nNODE_PATH=%s exec %s %s \"$@\"\n", modules, tool(t, "node"), script), 0o700); err != nil {
		t.Fatal(err)
	}
	log, lake := filepath.Join(dir, "it's a log"), filepath.Join(dir, "it's a lake")
	if out, err := exec.Command(binary(), "record", "-q", "-k", "-o", log, "--", "sh", "-c", "cat /nowhere; exit 3").CombinedOutput(); err == nil {
		t.Fatalf("the program succeeded: %s", out)
	}
	tell(t, 0, "export", "--to", "parquet", "-o", lake, "--run", "there", "--label", "version=1", log)
	query := func(args ...string) (rows []map[string]any) {
		t.Helper()
		out := tell(t, 0, append([]string{"query", "--duckdb", engine, "--format", "json"}, args...)...)
		if err := json.Unmarshal(out, &rows); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return rows
	}
	calls := float64(bytes.Count(tell(t, 0, "replay", "--json", "--type", "syscall", log), []byte("\n")))
	const count = "SELECT count(*) AS n, count(DISTINCT run) AS runs, count(stack) AS stacks FROM calls"
	for _, from := range []string{log, lake} {
		rows := query(from, count)
		if len(rows) != 1 || rows[0]["n"] != calls || rows[0]["runs"] != 1.0 || rows[0]["stacks"] == 0.0 {
			t.Errorf("%s: %v, but %v calls", from, rows, calls)
		}
	}
	if rows := query(log, lake, count); rows[0]["n"] != 2*calls || rows[0]["runs"] != 2.0 {
		t.Errorf("both: %v", rows)
	}
	rows := query(lake, "--named", "failures")
	if !slices.ContainsFunc(rows, func(r map[string]any) bool { return r["file"] == "/nowhere" && r["errno"] == "ENOENT" }) {
		t.Errorf("failures: %v", rows)
	}
	if rows := query(lake, "FROM runs;"); len(rows) != 1 || rows[0]["exit_code"] != 3.0 || rows[0]["program"] == nil || rows[0]["log"] != "it's a log" {
		t.Errorf("runs: %v", rows)
	}
	cmd := exec.Command(binary(), "query", "--duckdb", engine, lake)
	cmd.Stdin = strings.NewReader("SELECT 1 AS one FROM runs;")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "[{\"one\":1}]\n" {
		t.Errorf("from standard input: %v\n%s", err, out)
	}
	if out, err := exec.Command(binary(), "query", "--duckdb", engine, lake, "SELECT nothing").CombinedOutput(); err == nil {
		t.Errorf("a mistake: %s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "memtrace-lake-*")); len(left) > 1 { // one of another run of the tests
		t.Errorf("left behind: %v", left)
	}
}
