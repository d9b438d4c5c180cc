package parquet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// askAll asks a lake all questions.
func askAll(t *testing.T, lake string) map[string][]row {
	t.Helper()
	sql := Views([]string{lake})
	for _, name := range Questions {
		q, err := Ask(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(q.Asks, "?") {
			t.Errorf("%s asks %q", name, q.Asks)
		}
		sql += q.SQL
	}
	answers := duck(t, sql)
	if len(answers) != len(Questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(Questions))
	}
	by := map[string][]row{}
	for i, name := range Questions {
		by[name] = answers[i]
	}
	return by
}

// TestQuestions asks them of logs whose answers are known: of testdata, and of small ones
// that differ in what is asked for.
func TestQuestions(t *testing.T) {
	lake := t.TempDir()
	export := func(run string, tr *replay.Trace, labels map[string]string) {
		t.Helper()
		if err := Export(context.Background(), tr, lake, Options{Tables: Tables, Run: run, Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := replay.Open(filepath.Join("..", "..", "..", "testdata", "leaks", "logs", "heap-fast.mtl"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	export("heap-fast", tr, nil)
	older, newer := map[string]string{"commit": "a", "version": "1"}, map[string]string{"commit": "b", "version": "2"}
	export("old", opened(t, callsLog(t, time.Hour, time.Microsecond, "/etc/old")), older)
	export("new", opened(t, callsLog(t, 2*time.Hour, time.Millisecond, "/etc/new")), newer)
	got := askAll(t, lake)
	has := func(question string, want ...string) {
		t.Helper()
		for _, r := range got[question] {
			if slices.IndexFunc(want, func(w string) bool { k, v, _ := strings.Cut(w, "="); return r[k] != v }) < 0 {
				return
			}
		}
		t.Errorf("%s has no row with %v: %v", question, want, got[question])
	}
	has("growth", "run=new", "kind=heap", "program=/bin/db", "snapshots=30", "r2=1")
	has("slower", "name=fsync", "old_calls=30", "new_calls=30", "old_p99_us=1.024", "new_p99_us=1000.064")
	has("failures", "name=openat", "errno=ENOENT", "file=/etc/new", "calls=30", "runs=1")
	for _, one := range []string{"growth", "slower", "failures"} {
		if len(got[one]) != 1 {
			t.Errorf("%s: %v", one, got[one])
		}
	}
	has("crashes", "exit_signal=SIGSEGV", "name=openat", "file=/etc/new", "calls=30", "runs=1")
	has("files", "file=/data/table.#", "calls=120", "runs=2")
	has("pressure", "run=heap-fast")
	if len(got["peak"]) != 0 {
		t.Errorf("peak: %v", got["peak"])
	}
}

// callsLog is the log of a program that began at a time, calls fsync, which takes so long,
// looks in vain for a file, and crashes. If fsync takes a millisecond, its heap grows.
func callsLog(t *testing.T, begun, slow time.Duration, missing string) []byte {
	t.Helper()
	b := replaytest.NewAt(t, time.Unix(1e9, 0).Add(begun))
	b.Event(1, &format.Exec{Path: "/bin/db", Argv: []string{"db"}}, &format.MMNew{MM: 1}, replaytest.Thread(1, 100, 100, 1, 1, 0),
		replaytest.Map(1, replaytest.Heap, 1000, addr.Read|addr.Write, "[heap]"))
	does := func(name string, ret int64, path string, took time.Duration) {
		nr, ok := arch.X86_64.Number(name)
		if !ok {
			t.Fatalf("no call %s", name)
		}
		b.Wait(took)
		s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Args: [6]uint64{3}, Ret: ret, Returned: true, Enter: b.Now() + 10240 - uint64(took)}
		if path != "" {
			s.Args[0] = uint64(1<<64 - 100) // AT_FDCWD
			s.Bufs = append(s.Bufs, format.Buf{Arg: 1, Data: []byte(path)})
		}
		if ret == 3 {
			s.Bufs = append(s.Bufs, format.Buf{Arg: call.BufRetName, Out: true, Addr: 3, Data: []byte(path)})
		}
		b.Event(1, s)
	}
	for i := range 30 {
		does("openat", 3, fmt.Sprintf("/data/table.%d", i), 1024)
		does("fsync", 0, "", slow)
		does("openat", -2, missing, 1024)
		if slow == time.Millisecond {
			b.Event(0, &format.Snapshot{MM: 1, Reason: "interval", Pages: 1}, replaytest.Page(1, replaytest.Heap+addr.Addr(i)*addr.PageSize, byte(i)))
		}
	}
	b.Event(1, &format.Signal{Signo: 11, Fatal: true})
	b.Event(1, &format.Exit{Status: 11, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return b.Bytes()
}

// fleetCalls is how many calls a run of the fleet has.
const fleetCalls = 300

// TestFleet asks the questions of 5,000 runs in which one answer to each is planted.
func TestFleet(t *testing.T) {
	if os.Getenv("MEMTRACE_LONG") == "" {
		t.Skip("takes long: MEMTRACE_LONG=1 runs it")
	}
	lake := t.TempDir()
	begin := time.Now()
	makeFleet(t, lake, 5000, 100)
	made := time.Now()
	got := askAll(t, lake)
	t.Logf("made in %v, all questions answered in %v", made.Sub(begin), time.Since(made))
	first := func(question string, want map[string]string) {
		t.Helper()
		rows := got[question]
		if len(rows) == 0 {
			t.Errorf("%s has no answer", question)
			return
		}
		for k, v := range want {
			if rows[0][k] != v {
				t.Errorf("%s: %v, want %v", question, rows[0], want)
				return
			}
		}
	}
	first("peak", map[string]string{"run": "r4242", "rss_times": "3", "program": "/bin/p2"})
	first("sites", map[string]string{"function": "leaky", "file": "app.c", "line": "41", "runs": "500"})
	first("growth", map[string]string{"run": "r1234", "kind": "heap", "bytes_per_s": "1000000", "r2": "1"})
	first("slower", map[string]string{"name": "fsync"})
	first("failures", map[string]string{"name": "openat", "errno": "ENOENT", "file": "/etc/new.conf", "runs": "2500"})
	first("crashes", map[string]string{"name": "write", "runs": "10", "last_ms": "500"})
	first("pressure", map[string]string{"run": "r777", "some_percent": "75.5", "major_faults": "500"})
	first("files", map[string]string{"file": "/data/table.#", "runs": "5000"})
	for _, one := range []string{"peak", "growth", "slower", "failures"} {
		if len(got[one]) != 1 {
			t.Errorf("%s has %d answers: %v", one, len(got[one]), got[one])
		}
	}
}

// makeFleet makes a lake of runs, so many in a file, that have run in the last 14 days.
func makeFleet(t testing.TB, lake string, runs, each int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	newest := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC).UnixMicro()
	const fortnight = 14 * 24 * 3600 * 1_000_000
	for from := 0; from < runs; from += each {
		dir := t.TempDir()
		others := slices.DeleteFunc(slices.Clone(Tables), func(name string) bool { return name == "calls" })
		x := &exporter{o: &Options{Tables: others, Run: fmt.Sprint("f", from), Flat: true}}
		if err := x.open(dir); err != nil {
			t.Fatal(err)
		}
		calls, err := newTable[callRow](dir, "calls", x.o) // which exporter writes by columns, of one run
		if err != nil {
			t.Fatal(err)
		}
		for n := from; n < from+each; n++ {
			x.fleetRun(n, newest-int64(runs-1-n)*fortnight/int64(runs), n >= runs/2, rng, calls)
		}
		calls.finish()
		if err := errors.Join(calls.done(), x.close()); err != nil {
			t.Fatal(err)
		}
		for _, table := range Tables {
			final := x.o.path(lake, table)
			if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, table), final); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// fleetRun adds run n, which began at a time in microseconds. Later runs are of another
// commit.
func (x *exporter) fleetRun(n int, started int64, later bool, rng *rand.Rand, calls *table[callRow]) {
	run, program, commit, version := fmt.Sprint("r", n), fmt.Sprint("/bin/p", n%10), "aaa", "2.0"
	if later {
		commit, version = "bbb", "2.1"
	}
	const second = 1_000_000_000
	rss, signal := int64(100<<20+n%7), ""
	if n == 4242 {
		rss = 300 << 20
	}
	if n%500 == 0 {
		signal = "SIGSEGV"
	}
	*x.runs.row() = runRow{
		Run: run, Schema: Schema, Started: x.runs.int(started), DurationNS: 10 * second, Program: x.runs.text(program), Argv: []string{program}, Commit: x.runs.text(commit),
		Labels: map[string]string{"commit": commit, "version": version}, Steps: fleetCalls, ExitSignal: x.runs.text(signal), PeakRSS: x.runs.int(rss), PeakMapped: x.runs.int(1 << 30), Whole: true,
	}
	*x.processes.row() = processRow{Run: run, Proc: 1, PID: 100, Program: x.processes.text(program), LastStep: 1000, EndNS: 10 * second, ExitSignal: x.processes.text(signal), Threads: 1, Calls: fleetCalls}
	names := []string{"read", "openat", "fsync", "futex"}
	for i := range fleetCalls {
		c := calls.row()
		name := names[rng.IntN(len(names))]
		at := int64(i) * 9 * second / fleetCalls
		dur := int64(1000 + rng.IntN(9000))
		if name == "fsync" && later {
			dur *= 3
		}
		*c = callRow{
			Run: run, Step: int64(i), TNS: at, DurNS: calls.int(dur), Proc: calls.int(1), TID: calls.int(100), Arch: "x86_64", Name: name, Class: "file",
			Ret: calls.int(0), FDPath: calls.text("/data/table." + strconv.Itoa(rng.IntN(20))), Bytes: calls.int(4096), A0: calls.int(3),
		}
		if name == "futex" {
			c.Class, c.FDPath = "other", nil
		}
		switch i {
		case 10: // a failure that all have
			c.Name, c.Errno, c.Path, c.FDPath = "openat", calls.text("ENOENT"), calls.text("/etc/old.conf"), nil
		case 11:
			if later {
				c.Name, c.Errno, c.Path, c.FDPath = "openat", calls.text("ENOENT"), calls.text("/etc/new.conf"), nil
			}
		case fleetCalls - 1:
			c.TNS, c.DurNS, c.Name, c.FDPath = 9*second+second/2, calls.int(1000), "write", calls.text("/data/table.0")
		}
	}
	grows := int64(0)
	if n == 1234 {
		grows = 1000000
	}
	for i := range int64(10) {
		*x.snapshots.row() = snapshotRow{Run: run, Step: i * 100, TNS: i * second, Proc: x.snapshots.int(1), Reason: "interval", Kind: "heap", InUse: 5<<20 + i*grows + rng.Int64N(1+100*max(0, 1-grows))<<12}
		*x.samples.row() = sampleRow{Run: run, Step: i * 100, TNS: i * second, Name: "vmstat.pgmajfault", Value: float64(1000 + i*50/9*int64(1-min(1, (n-777)*(n-777)))*10)}
		psi := 0.25
		if n == 777 && i == 5 {
			psi = 75.5
		}
		*x.samples.row() = sampleRow{Run: run, Step: i * 100, TNS: i * second, Name: "psi_some_avg10", Value: psi}
	}
	for i := range int64(4) {
		m := mappingRow{
			Run: run, Proc: x.mappings.int(1), Addr: 1<<46 + i<<21, Bytes: 1 << 20, Perms: "rw-p", Kind: "anonymous private", MappedStep: i, ByCall: "mmap",
			Stack: x.mappings.int(1), UnmappedStep: x.mappings.int(900), PeakWritten: x.mappings.int(1 << 19),
		}
		if i == 3 && n%10 == 3 {
			m.UnmappedStep, m.LeftStep, m.Stack = nil, x.mappings.int(1000), x.mappings.int(2)
		}
		*x.mappings.row() = m
	}
	for stack := range int64(2) {
		for depth := range int64(2) {
			*x.stacks.rows.row() = stackRow{Run: run, Stack: stack + 1, Depth: depth, Frame: 1 + depth*(1+stack), Site: depth == 1, How: "cfi", Ends: "complete"}
		}
	}
	for i, f := range []string{"mmap", "load", "leaky"} {
		*x.stacks.frames.row() = frameRow{Run: run, Frame: int64(i) + 1, Module: program, Function: x.stacks.frames.text(f), File: x.stacks.frames.text("app.c"), Line: x.stacks.frames.int(int64(21 + i*10))}
	}
}
