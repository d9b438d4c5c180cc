package parquet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/replay/replaytest"
)

// stringsLog is a log all of whose texts are s.
func stringsLog(t testing.TB, s string) []byte {
	t.Helper()
	b := replaytest.New(t)
	open, _ := arch.X86_64.Number("openat")
	b.Event(1, &format.Exec{Path: s, Argv: []string{s, "", s}}, &format.MMNew{MM: 1}, replaytest.Thread(1, 100, 100, 1, 1, 0),
		replaytest.Map(1, replaytest.Heap, 1, addr.Read|addr.Write, s))
	b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: open, Args: [6]uint64{1<<64 - 100}, Ret: 3, Returned: true, Bufs: []format.Buf{
		{Arg: 1, Data: []byte(s)}, {Arg: call.BufRetName, Out: true, Addr: 3, Data: []byte(s)},
	}})
	b.Event(0, &format.MemInfo{Samples: []format.Sample{{Source: s, Data: []byte(s + " 1\n" + s)}, {Source: "status", PID: 100, Data: []byte(s)}, {Source: "pressure", Data: []byte(s)}}})
	b.Event(0, &format.Snapshot{MM: 1, Reason: s})
	b.Event(0, &format.Lost{What: s})
	b.Event(0, &format.Detach{Reason: s})
	return b.Bytes()
}

// oddTexts are hard for somebody: JSON, SQL, UTF-8, terminals, Parquet's statistics.
var oddTexts = []string{
	"", "plain", "a'b\"c\\;--", "\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\u2028\u2029\ufeff", "\U0001f600", "\x1b[2J\r\n\t",
	strings.Repeat("\xf0\x9f", 700), strings.Repeat("x", 70000), strings.Repeat("\uffff", 17), "[1, 2]", "NULL", "NaN",
}

// checkStrings exports a log all of whose texts are s, and reads them back.
func checkStrings(t *testing.T, s, lake, run string) {
	t.Helper()
	if err := Export(context.Background(), opened(t, stringsLog(t, s)), lake, Options{Tables: Tables, Run: run, Labels: map[string]string{"k" + s: s, "commit": s}}); err != nil {
		t.Fatal(err)
	}
	want := string([]rune(s))
	same := func(table, column string) {
		t.Helper()
		rows := tableOf(t, lake, run, table)
		if len(rows) == 0 {
			t.Fatalf("%q: %s is empty", s, table)
		}
		if got, ok := rows[0][column]; got != want || ok != (s != "") {
			t.Errorf("%q: %s.%s is %q", s, table, column, got)
		}
	}
	same("processes", "program")
	same("runs", "program")
	same("runs", "commit")
	if len(s) < format.MaxName && !strings.ContainsAny(s, "\x00") {
		same("mappings", "path")
	}
}

// TestStrings reads odd texts back, with parquet-go and with DuckDB.
func TestStrings(t *testing.T) {
	lake := t.TempDir()
	for i, s := range oddTexts {
		checkStrings(t, s, lake, "r"+string(rune('a'+i)))
	}
	got := duck(t, Views([]string{lake})+"SELECT p.program, p.argv, r.commit FROM runs r JOIN processes p USING (run) ORDER BY run")
	if len(got) != 1 || len(got[0]) != len(oddTexts) {
		t.Fatalf("DuckDB has %v", got)
	}
	for i, s := range oddTexts {
		want := string([]rune(s))
		if r := got[0][i]; r["program"] != want || r["commit"] != want || r["argv"] != said([]any{want, "", want}) {
			t.Errorf("%q: DuckDB has %q", s, r)
		}
	}
}

// FuzzStrings has texts of a log be anything.
func FuzzStrings(f *testing.F) {
	for _, s := range oddTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkStrings(t, s, t.TempDir(), "r") })
}

// TestFailing has each write of an export fail: nothing is in the lake then, or what was
// there before.
func TestFailing(t *testing.T) {
	lake := t.TempDir()
	if err := Export(context.Background(), opened(t, replaytest.Log(t)), lake, Options{Tables: Tables, Run: "r"}); err != nil {
		t.Fatal(err)
	}
	before := files(t, lake)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Export(ctx, opened(t, stringsLog(t, "x")), lake, Options{Tables: Tables, Run: "s"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := files(t, lake); len(after) != len(before) {
		t.Errorf("the lake has %v", after)
	}
}

// files are those of a lake, which have to be whole.
func files(t *testing.T, lake string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(lake, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if _, err := parquet.OpenFile(f, fi.Size()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
