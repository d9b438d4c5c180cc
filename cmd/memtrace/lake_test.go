package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"memtrace/analyze/export/parquet"
)

// TestLakeFlags says of what does not go together what to type.
func TestLakeFlags(t *testing.T) {
	sample(t)
	for _, c := range []struct {
		args, says string
		status     int
	}{
		{"export --to parquet", "name it with -o DIR", 2},
		{"export --to parquet -o lake --at 3", "--at does not go with it", 2},
		{"export --to parquet -o lake -e memory", "--trace does not go with it", 2},
		{"export --to parquet -o lake --tables calls,foo", `no table "foo": want processes`, 2},
		{"export --to parquet -o lake --label x", "want KEY=VALUE", 2},
		{"export --to parquet -o lake --run ../x", "a run cannot be called", 2},
		{"export --to parquet -o lake --run x memtrace.data memtrace.data", "--run names one run, and there are 2 logs", 2},
		{"export --to csv --flat", "--flat is for --to parquet", 2},
		{"export --to csv memtrace.data memtrace.data", "only --to parquet takes more than one", 2},
		{"export --to parquet -o lake nothing memtrace.data", "open nothing: no such file", 1},
		{"export --to parquet -o memtrace.data", "not a directory", 1},
		{"export --to nothing", "lackey, parquet", 2},
		{"query --named nothing", `no question "nothing": want peak`, 2},
		{"query --format nothing", "want table, json, csv or markdown", 2},
		{"query nothing", "stat nothing: no such file", 1},
		{"query - --named files", "does not read a log from standard input", 2},
	} {
		status, _, errs := invoke(t, "", strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(errs, c.says) {
			t.Errorf("%s: status %d, %q; want %d, %q", c.args, status, errs, c.status, c.says)
		}
	}
	// The log that could be read is there all the same.
	if runs, _ := filepath.Glob("lake/runs/run=*/part-0.parquet"); len(runs) != 1 {
		t.Errorf("the lake has runs %v", runs)
	}
	if fi, err := os.Stat("lake"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the lake is %v, %v", fi.Mode(), err)
	}
}

// TestQueryWithout has no DuckDB: what it would have been asked is printed.
func TestQueryWithout(t *testing.T) {
	sample(t)
	t.Setenv("PATH", "")
	if status, _, errs := invoke(t, "", "export", "--to", "parquet", "-o", "a lake's"); status != 0 {
		t.Fatal(errs)
	}
	status, out, errs := invoke(t, "", "query", "a lake's", "SELECT 1")
	if status != 127 || !strings.Contains(errs, "duckdb.org") || strings.Count(errs, "\n") != 1 {
		t.Errorf("status %d: %s", status, errs)
	}
	for _, table := range parquet.Tables {
		if !strings.Contains(out, "CREATE VIEW "+table+" AS FROM read_parquet(['a lake''s/"+table+"/**/*.parquet']") {
			t.Errorf("no view of %s in\n%s", table, out)
		}
	}
	if !strings.HasSuffix(out, "\nSELECT 1\n") {
		t.Errorf("no question in\n%s", out)
	}
	status, out, _ = invoke(t, "", "query", "--named", "files")
	if status != 127 || !strings.HasPrefix(out, "-- memtrace export --to parquet -o LAKE memtrace.data\n-- Which files") {
		t.Errorf("of a log: status %d\n%s", status, out)
	}
}
