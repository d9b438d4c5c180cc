package parquet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"memtrace/record/recordtest"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// row is a row as text, by column; a column that is NULL is not there.
type row map[string]string

// reading reads the rows of a file of each table with parquet-go.
var reading = map[string]func(file string) ([]row, error){
	"runs": readAs[runRow], "processes": readAs[processRow], "events": readAs[eventRow], "calls": readAs[callRow], "mappings": readAs[mappingRow],
	"snapshots": readAs[snapshotRow], "samples": readAs[sampleRow], "stacks": readAs[stackRow], "frames": readAs[frameRow], "refs": readAs[refRow],
}

func readAs[T any](file string) ([]row, error) {
	list, err := parquet.ReadFile[T](file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var rows []row
	for i := range list {
		r := row{}
		v := reflect.ValueOf(list[i])
		for k := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(k).Tag.Get("parquet"), ",")
			f := v.Field(k)
			if f.Kind() == reflect.Pointer {
				if f.IsNil() {
					continue
				}
				f = f.Elem()
			}
			if name == "run" && f.Len() == 0 {
				continue
			}
			r[name] = said(f.Interface())
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// said is a value as text.
func said(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case nil:
		return "NULL"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if string(b) == "null" { // a nil list
		return "[]"
	}
	return string(b)
}

// exported exports a log to a lake of its own.
func exported(t *testing.T, tr *replay.Trace, o Options) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if o.Tables == nil {
		o.Tables = Tables
	}
	if err := Export(context.Background(), tr, dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// table reads a table of a run of a lake.
func tableOf(t *testing.T, dir, run, name string) []row {
	t.Helper()
	rows, err := reading[name]((&Options{Run: run}).path(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func opened(t testing.TB, log []byte) *replay.Trace {
	t.Helper()
	return replay.New(replaytest.Open(t, log))
}

// logs are those of testdata, and some with all that can be in a log. Of the leaks there are
// some only, if not all is to be tested.
func logs(t *testing.T) map[string]*replay.Trace {
	t.Helper()
	part, err := replay.Open(filepath.Join("..", "..", "..", "testdata", "traces", "v1", "stacks.mtl"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	var cut bytes.Buffer
	if _, err := replay.Cut(context.Background(), &cut, []*replay.Trace{part}, part.Steps()/2, part.Steps()-1, nil); err != nil {
		t.Fatal(err)
	}
	all := map[string]*replay.Trace{"cut": opened(t, cut.Bytes()), "every": opened(t, replaytest.Every(t)), "log": opened(t, replaytest.Log(t)), "pages": opened(t, replaytest.RefLog(t))}
	root := filepath.Join("..", "..", "..", "testdata")
	for _, pattern := range []string{"traces/v*/*.mtl", "leaks/logs/*.mtl"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for i, name := range names {
			if i%8 != 0 && strings.HasPrefix(pattern, "leaks") && os.Getenv("MEMTRACE_LONG") == "" {
				continue
			}
			tr, err := replay.Open(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tr.Close() })
			all[filepath.Base(name)] = tr
		}
	}
	return all
}

// TestValues compares the tables of each log with what replay --json says of it, as
// parquet-go reads them, and as DuckDB does.
func TestValues(t *testing.T) {
	lake := t.TempDir()
	all := logs(t)
	want := map[string]*told{}
	n := 0
	for name, tr := range all {
		n++
		run := fmt.Sprintf("%d", n) // DuckDB must not take it for a number
		if err := Export(context.Background(), tr, lake, Options{Tables: Tables, Run: run}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want[run] = tell(t, name, tr)
		got := map[string][]row{}
		for _, table := range Tables {
			got[table] = tableOf(t, lake, run, table)
		}
		want[run].compare(t, "parquet-go", got)
	}
	if left, _ := filepath.Glob(filepath.Join(lake, ".*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
	var sql strings.Builder
	sql.WriteString(Views([]string{lake}))
	for _, table := range Tables {
		fmt.Fprintf(&sql, "FROM %s ORDER BY ALL;\n", table)
	}
	answers := duck(t, sql.String())
	byRun := map[string]map[string][]row{}
	for i, table := range Tables {
		for _, r := range answers[i] {
			run := r["run"]
			delete(r, "run")
			if byRun[run] == nil {
				byRun[run] = map[string][]row{}
			}
			byRun[run][table] = append(byRun[run][table], r)
		}
	}
	if len(byRun) != len(want) {
		t.Errorf("DuckDB sees %d runs of %d", len(byRun), len(want))
	}
	for run, w := range want {
		w.compare(t, "DuckDB", byRun[run])
	}
}

// duck asks DuckDB. The answers are those of the statements that have any.
func duck(t *testing.T, sql string) [][]row {
	t.Helper()
	modules := os.Getenv("MEMTRACE_DUCKDB")
	if modules == "" {
		recordtest.Require(t, "duckdb", errors.New("$MEMTRACE_DUCKDB is no folder of node's modules with @duckdb/node-api"))
	}
	cmd := exec.Command("node", filepath.Join("..", "..", "..", "testdata", "scripts", "duckdb.js"))
	cmd.Args = append(cmd.Args, "-cmd", "")
	cmd.Stdin = strings.NewReader(sql)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "TZ=UTC")
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("DuckDB: %v\n%s", err, errs.String())
	}
	var answers [][]row
	d := json.NewDecoder(&said)
	d.UseNumber()
	for d.More() {
		var list []map[string]any
		if err := d.Decode(&list); err != nil {
			t.Fatal(err)
		}
		var rows []row
		for _, x := range list {
			r := row{}
			for k, v := range x {
				if v != nil {
					r[k] = duckSaid(v)
				}
			}
			rows = append(rows, r)
		}
		answers = append(answers, rows)
	}
	return answers
}

// duckSaid is a value of an answer as text.
func duckSaid(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return said(v)
}

// TestAgain exports a run twice, and then another log under its name.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	export := func(log []byte, o Options) {
		t.Helper()
		o.Run, o.Tables = "r", Tables
		if err := Export(context.Background(), opened(t, log), dir, o); err != nil {
			t.Fatal(err)
		}
	}
	all := func() map[string][]row {
		m := map[string][]row{}
		for _, name := range Tables {
			m[name] = tableOf(t, dir, "r", name)
		}
		return m
	}
	export(replaytest.Every(t), Options{})
	first := all()
	export(replaytest.Every(t), Options{})
	if d := cmp.Diff(first, all()); d != "" {
		t.Errorf("exported again (-first +again):\n%s", d)
	}
	export(replaytest.Log(t), Options{Labels: map[string]string{"commit": "abc", "version": "1"}})
	again := all()
	if len(again["events"]) == len(first["events"]) || again["runs"][0]["commit"] != "abc" || again["runs"][0]["labels"] != `{"commit":"abc","version":"1"}` {
		t.Errorf("another log: %d events of %d, run %v", len(again["events"]), len(first["events"]), again["runs"])
	}
	if err := Export(context.Background(), opened(t, replaytest.Log(t)), dir, Options{Tables: []string{"runs"}, Run: "s", Flat: true}); err == nil {
		t.Error("a lake of folders took a run without")
	}
}

// TestFlat has the runs in files of their own, with a column that says which they are.
func TestFlat(t *testing.T) {
	dir := t.TempDir()
	for _, run := range []string{"a", "7"} {
		if err := Export(context.Background(), opened(t, replaytest.Log(t)), dir, Options{Tables: []string{"runs", "calls"}, Run: run, Flat: true}); err != nil {
			t.Fatal(err)
		}
		rows, err := readAs[callRow](filepath.Join(dir, "calls", run+".parquet"))
		if err != nil || len(rows) == 0 || rows[0]["run"] != run {
			t.Errorf("run %s: %v, %v", run, rows, err)
		}
	}
	if err := Export(context.Background(), opened(t, replaytest.Log(t)), dir, Options{Tables: []string{"runs"}, Run: "s"}); err == nil {
		t.Error("a lake without folders took one")
	}
	got := duck(t, Views([]string{dir})+"SELECT run, count(*) AS n FROM calls JOIN runs USING (run) GROUP BY run ORDER BY run")
	if len(got) != 1 || len(got[0]) != 2 || got[0][0]["run"] != "7" || got[0][1]["run"] != "a" || got[0][0]["n"] != got[0][1]["n"] {
		t.Errorf("DuckDB says %v", got)
	}
}

// TestText has the lines of replay in events, those of calls if they are asked for.
func TestText(t *testing.T) {
	tr := opened(t, replaytest.Log(t))
	last, _ := tr.Last()
	var b bytes.Buffer
	if err := tr.List(context.Background(), &b, replay.ListOptions{To: last, AllCalls: true}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for _, text := range []bool{false, true} {
		rows := tableOf(t, exported(t, tr, Options{Run: "r", Text: text}), "r", "events")
		if len(rows) != len(lines) {
			t.Fatalf("%d rows of %d lines", len(rows), len(lines))
		}
		for i, r := range rows {
			got, there := r["text"]
			if want := text || r["type"] != "syscall"; there != want || want && !strings.HasSuffix(lines[i], got) {
				t.Errorf("%s has %q, replay %q", r["type"], got, lines[i])
			}
		}
	}
}

// TestRunNames does not let a name out of the lake, or into a query.
func TestRunNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "2026-12-01_build.7+x": true, "_": true, "": false, ".": false, "..": false, ".export-1": false, "a/b": false, "a b": false, "a'b": false,
		"a=b": false, "a*": false, "é": false, "-o": false, strings.Repeat("x", 129): false,
	} {
		if err := CheckRun(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "lake")
	err := Export(context.Background(), opened(t, replaytest.Log(t)), dir, Options{Tables: Tables, Run: "../x"})
	if _, serr := os.Stat(dir); err == nil || !errors.Is(serr, os.ErrNotExist) {
		t.Errorf("run ../x: %v; the lake: %v", err, serr)
	}
}

// TestTypes are those that all engines read alike.
func TestTypes(t *testing.T) {
	dir := exported(t, opened(t, replaytest.Every(t)), Options{Run: "r"})
	for _, name := range Tables {
		f, err := os.Open((&Options{Run: "r"}).path(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		p, err := parquet.OpenFile(f, fi.Size())
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := p.Lookup(schemaKey); !ok || v != "1" {
			t.Errorf("%s: schema %q", name, v)
		}
		for _, c := range p.Schema().Columns() {
			leaf, _ := p.Schema().Lookup(c...)
			switch k := leaf.Node.Type().String(); {
			case slices.Contains([]string{"STRING", "INT64", "INT32", "DOUBLE", "BOOLEAN", "INT(64,true)", "INT(32,true)"}, k),
				strings.HasPrefix(k, "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS"):
			default:
				t.Errorf("%s.%s is %s", name, strings.Join(c, "."), k)
			}
			if slices.Contains([]string{"at", "start", "end", "from", "to", "order", "run"}, c[0]) {
				t.Errorf("%s has a column %s", name, c[0])
			}
		}
	}
}

// TestFleetDoc compares docs/fleet.md with the program: the questions as they are asked,
// and each column.
func TestFleetDoc(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, name := range Questions {
		q, err := Ask(name)
		if err != nil {
			t.Fatal(err)
		}
		if want := "### " + name + "\n\n" + q.Asks + "\n\n```sql\n" + q.SQL + "```\n"; !strings.Contains(doc, want) {
			t.Errorf("docs/fleet.md does not have\n%s", want)
		}
		rest := doc[strings.Index(doc, "### "+name+"\n"):]
		rest, _, _ = strings.Cut(rest[4:], "\n##")
		for _, engine := range []string{"ClickHouse", "Spark", "Trino"} {
			if !strings.Contains(rest, engine) {
				t.Errorf("docs/fleet.md does not have %s for %s", name, engine)
			}
		}
	}
	for table, row := range map[string]any{
		"runs": runRow{}, "processes": processRow{}, "events": eventRow{}, "calls": callRow{}, "mappings": mappingRow{}, "snapshots": snapshotRow{},
		"samples": sampleRow{}, "stacks": stackRow{}, "frames": frameRow{}, "refs": refRow{},
	} {
		at := strings.Index(doc, "### "+table)
		if table == "frames" {
			at = strings.Index(doc, "### stacks and frames")
		}
		if at < 0 {
			t.Errorf("docs/fleet.md does not describe %s", table)
			continue
		}
		section, _, _ := strings.Cut(doc[at+4:], "\n##")
		for _, f := range reflect.VisibleFields(reflect.TypeOf(row)) {
			c, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
			if c != "run" && !strings.Contains(section, "`"+c+"`") && !(c > "a0" && c < "a5") {
				t.Errorf("docs/fleet.md does not describe %s.%s", table, c)
			}
		}
	}
}
