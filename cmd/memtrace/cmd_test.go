package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay/replaytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// invoke runs a command line in this process.
func invoke(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(in), &o, &e)
	return status, o.String(), e.String()
}

// sample writes the synthetic log into an empty folder and goes there.
func sample(t *testing.T) []byte {
	t.Helper()
	t.Chdir(t.TempDir())
	log := replaytest.Log(t)
	if err := os.WriteFile(defaultLog, log, 0o600); err != nil {
		t.Fatal(err)
	}
	return log
}

// golden compares with a file of testdata, which lies at an absolute path
// because tests change the working directory.
func golden(t *testing.T, dir, name, got string) {
	t.Helper()
	file := filepath.Join(dir, name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs: go test -update after a look; got\n%s", file, got)
	}
}

func TestGolden(t *testing.T) {
	local := time.Local
	time.Local = time.UTC // golden files have times of day
	t.Cleanup(func() { time.Local = local })
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	sample(t)
	for name, line := range map[string]string{
		"replay":           "replay",
		"replay-json":      "replay --json",
		"replay-memory":    "replay -e memory --no-steps",
		"replay-pid":       "replay --pid 101 -t -T",
		"replay-absolute":  "replay --from 4 --to 6 --time=absolute",
		"replay-at":        "replay --at 5",
		"replay-maps":      "replay --at 13 --maps",
		"replay-maps-json": "replay --at 13 --maps --json",
		"replay-maps-101":  "replay --at 9 --pid 101 --maps",
		"replay-mem":       "replay --at 14 --mem heap:40",
		"replay-regs":      "replay --at 10 --pid 101 --regs",
		"replay-regs-json": "replay --at 10 --pid 101 --regs --json",
		"replay-diff":      "replay --diff 3..14",
		"replay-diff-json": "replay --diff 3..14 --json",
		"replay-mem-json":  "replay --at 15 --mem heap:16 --json",
		"replay-history":   "replay --history 0x555555558ffc:8",
		"export-jsonl":     "export --to jsonl --from 3 --until 5",
		"export-csv":       "export --to csv --from 7",
		"report-writers":   "report writers",
		"report":           "report",
		"report-list":      "report list",
		"report-two":       "report memtrace.data syscalls growth --top 2",
		"report-json":      "report syscalls growth --format json",
		"replay-failed":    "replay --failed --type syscall",
		"replay-slower":    "replay --slower 2us --tid 100 -T",
		"replay-type":      "replay --type signal,exit --pid 101",
		"report-csv":       "report slow memtrace.data threads --format csv",
		"diff":             "diff memtrace.data memtrace.data --top -1",
		"diff-errors":      "diff memtrace.data -- memtrace.data errors files",
		"info":             "info",
		"info-csv":         "info --format csv",
		"man":              "man replay",
	} {
		status, out, errs := invoke(t, "", strings.Fields(line)...)
		if status != 0 {
			t.Errorf("%s: status %d: %s", line, status, errs)
		}
		golden(t, dir, name, out)
		if strings.Contains(line, "json") {
			for l := range strings.Lines(out) {
				if !json.Valid([]byte(l)) {
					t.Errorf("%s: not JSON: %s", line, l)
				}
			}
		}
	}
}

// TestLong: output that is too long for a golden file.
func TestLong(t *testing.T) {
	sample(t)
	for _, c := range []struct {
		line, has string
		lines     int
	}{
		{"replay --diff 3..14 --bytes", "\n-555555558ff0  41 41", 8 + 2*256},
		{"replay --diff 3..14 --bytes --json", `"bytes":[{"addr":"0x555555558000","old":"414141`, 1},
		{"replay --diff 3..14 -t", "process 100 from step 3 [0.000040] to step 14 [0.000153]\n", 8},
		{"replay --diff 3..14 --top 1", "\npages 555555558000-555555559000 changed: 1 in [heap]\n", 3},
		{"replay --history heap:4 -t", "steps 3..13 [0.000040..0.000143] (at latest): 41 41 41 41 |AAAA|\n", 4},
		{"replay --history heap:4 --top 2", "steps 3..13 (at latest)", 2},
		{"replay --history heap:4 --json", `{"from":3,"to":13,"from_time":40960,"to_time":143360,"exact":false,"to_end":false,"since":3,"seen":3,"bytes":"41414141"}`, 4},
		{"replay --find AAA -t --pid 100", "0x555555558000 steps 3..13 [0.000040..0.000143] (at latest), process 100, [heap], 4094 times, at every byte |AAAAAAAAAAA|\n", 1},
		{"replay --find \"\\103C\\x43\" --top 1", "steps 14..17", 1},
		{"replay --find AAA --pid 100", "0x555555558000 steps 3..13 (at latest), process 100, [heap], 4094 times, at every byte |AAAAAAAAAAA|\n", 1},
		{"replay --find AAA --json --pid 100", `{"addr":"0x555555558000","from":3,"to":13,"from_time":40960,"to_time":143360,"exact":false,"to_end":false,"pid":100,"path":"[heap]","count":4094,"stride":1,"last":"0x555555558ffd","around_start":"0x555555558000","around":"4141414141414141414141"}`, 1},
	} {
		status, out, errs := invoke(t, "", strings.Fields(c.line)...)
		if n := strings.Count(out, "\n"); status != 0 || !strings.Contains(out, c.has) || n != c.lines {
			t.Errorf("%s: status %d, %d lines, want %d with %q; %s", c.line, status, n, c.lines, c.has, errs)
		}
	}
	console := "find AAA all\nhistory heap 4\n"
	if _, out, errs := invoke(t, console, "replay", "--step"); !strings.Contains(out, "4094 times, at every byte") || !strings.Contains(out, "steps 3..13 (at latest): 41 41 41 41 |AAAA|") {
		t.Errorf("console: %s%s", out, errs)
	}
}

func TestExits(t *testing.T) {
	log := sample(t)
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newer := bytes.Clone(log)
	newer[8] = 9
	write("text", []byte("#!/bin/sh\necho this is no log, however long it may be, and it is long\n"))
	write("empty", nil)
	write("newer", newer)
	write("cut", log[:len(log)-40])
	header := int(log[12]) | int(log[13])<<8 // its length
	write("headless", log[:header-9])
	write("unbegun", log[:header+20])
	flipped := bytes.Clone(log)
	flipped[header-1] ^= 1
	write("badheader", flipped)
	write("eventless", replaytest.New(t).Bytes()) // and whole
	for _, c := range []struct {
		line   string
		status int
		err    string // part of the one line on stderr
	}{
		{"export", 2, "--to FORMAT"},
		{"export --to pdf", 2, "want core, jsonl, csv"},
		{"export --to csv --at 3", 2, "list of events"},
		{"export --to core --from 3", 2, "about one step"},
		{"export --to core --at 3 --pid 7 -o core", 1, "no such process"},
		{"replay --find nowhere", 1, "is nowhere"},
		{"replay --find 0x1", 2, "even number"},
		{"replay --find=", 2, "no bytes"},
		{"replay --history=", 2, "no address"},
		{"replay --history nothing", 2, "neither an address"},
		{"replay --bytes", 2, "goes with --diff"},
		{"replay --history 0x1000 --at 3", 2, "--at does not go with --history"},
		{"replay --at 3 --maps -t", 2, "--time does not go with --maps"},
		{"replay --at 3 --regs -e memory", 2, "--trace does not go with --regs"},
		{"replay --find x -t=delta", 2, "in the list of events"},
		{"replay --tid 7", 1, "no such thread"},
		{"replay --type call", 2, "want one or more of unknown, syscall"},
		{"replay --slower 0s", 2, "want a time as 10ms"},
		{"replay --slower 10", 2, "a time needs its unit: 10s or 10ms"},
		{"replay -t absolute", 2, "-t=absolute"},
		{"replay --slower x", 2, "want a time as 10ms"},
		{"replay nofolder/x", 1, "there is no folder nofolder"},
		{"--version", 0, ""},
		{"replay --path=", 2, "want a path"},
		{"replay --at 3 --maps --failed", 2, "--failed does not go with --maps"},
		{"report memtrace.data cut", 2, "are two logs"},
		{"report syscalls nosuchtable", 2, "no report"},
		{"diff", 2, "memtrace diff A B"},
		{"diff memtrace.data", 2, "memtrace diff A B"},
		{"diff a b c", 2, "diff A1 A2 -- B1 B2"},
		{"diff -- memtrace.data", 2, "before -- and behind it"},
		{"diff memtrace.data nosuch", 1, "open nosuch"},
		{"diff memtrace.data memtrace.data --fail-if calls", 2, "is no bound"},
		{"diff memtrace.data memtrace.data --fail-if call>1", 2, "no figure"},
		{"diff memtrace.data memtrace.data --fail-if calls>=a", 1, "calls>=a: A has 9, B has 9"},
		{"diff memtrace.data memtrace.data --fail-if calls>a", 0, ""},
		{"diff memtrace.data memtrace.data --align x", 2, "want markers"},
		{"replay --top 3", 2, "--top goes with --find"},
		{"replay --step -t", 2, "--step goes with no other"},
		{`replay --find "\8"`, 2, "no such escape"},
		{"replay nosuch", 1, "open nosuch: no such file or directory"},
		{"replay .", 1, "is a directory"},
		{"replay text", 1, "read text: not a memtrace log; name a log"},
		{"replay empty", 1, "not a memtrace log"},
		{"replay newer", 1, "read it with the memtrace that wrote it"},
		{"info cut", 0, "truncated at step 18; memtrace recover cut -o OUT"},
		{"report cut", 0, "truncated at step 18"},
		{"bogus", 2, `unknown command "bogus"`},
		{"replay --bogus", 2, "unknown flag: --bogus (memtrace replay --help)"},
		{"replay a b", 2, "accepts at most 1 arg"},
		{"record --keep-on signal ls", 2, "--keep-on goes with --ring"},
		{"record --ring-memory 1M ls", 2, "--ring-memory goes with --ring"},
		{"record -p 1 ls", 2, "not both"},
		{"replay --at nope", 2, `"nope" is not a step`},
		{"replay --at 99 --maps", 1, "step 99 lies after the last"},
		{"replay --at 3 --from 1", 2, "--at is one step"},
		{"replay --raw", 2, "--raw goes with --mem"},
		{"replay --from 9 --to 3", 2, "run backwards"},
		{"replay --diff 3", 2, "want two steps as N..M"},
		{"replay --step --json", 2, "--step goes with no other"},
		{"replay --diff 1..2 --maps", 2, "--maps does not go with --diff"},
		{"replay -e nosuchcall", 2, "nosuchcall"},
		{"replay --time=never", 2, "want relative, absolute or delta"},
		{"replay --at 3 --mem heap", 2, "is not a range"},
		{"replay --at 2 --mem heap:8", 4, "0x555555558000 at step 2: not in the log"},
		{"replay --at 14 --mem heap:8192 --raw", 4, "0x555555559000 at step 14: not in the log"},
		{"replay --at 3 --mem 0x1000:1", 4, "0x1000 at step 3: not mapped"},
		{"replay --at 13 --mem heap:8", 0, "0x555555558000-0x555555558008: as of step 3"},
		{"replay --at last --maps", 0, "this is step 17, the last with its memory"},
		{"replay --at -1 --maps", 1, "has ended at step 18 (exited with 3)"},
		{"replay --pid 7", 1, "no such process"},
		{"ls", 2, "memtrace record ls records that program"},
		{"help nosuch", 2, `no command "nosuch"`},
		{"completion nosuch", 2, `no shell "nosuch"`},
		{"report --top x", 2, `invalid argument "x" for "--top" flag: invalid syntax`},
		{"replay --at 3 --pid 5 --maps", 1, "memtrace report processes"},
		{"report nosuchtable", 2, "there is no file of that name"},
		{"report memtrace.data nosuchtable", 2, "no report"},
		{"report --format yaml", 2, `no format "yaml"`},
		{"report syscalls --sort x", 2, "no column"},
		{"recover cut", 2, "required flag(s)"},
		{"recover cut -o cut", 1, "exists already"},
		{"recover cut -o whole", 0, "recovered 19 events, up to step 18 of cut"},
		{"recover text -o x", 1, "not a memtrace log"},
		{"report headless", 3, "cut short: in its header; nothing of it can be read\n"},
		{"info headless", 3, "cut short: in its header; nothing of it can be read\n"},
		{"replay --follow headless", 3, "cut short: in its header; nothing of it can be read\n"},
		{"report badheader", 3, "checksum of the file header; nothing of it can be read\n"},
		{"recover badheader -o x", 3, "checksum of the file header; memtrace verify says what is wrong\n"},
		{"verify headless", 3, "in its header\n"},
		{"report unbegun", 3, "cut short: before its first step; memtrace info shows"},
		{"report unbegun leaks --format csv", 3, "before its first step"},
		{"report unbegun --follow", 3, "before its first step"},
		{"report unbegun --html x", 3, "before its first step"},
		{"replay unbegun", 3, "before its first step"},
		{"replay unbegun --follow", 3, "before its first step"},
		{"replay unbegun --at 3 --maps", 3, "before its first step"},
		{"replay unbegun --find x", 3, "before its first step"},
		{"replay unbegun --step", 3, "before its first step"},
		{"diff unbegun memtrace.data", 3, "before its first step"},
		{"view unbegun --no-open", 3, "before its first step"},
		{"gdb unbegun", 3, "before its first step"},
		{"dump unbegun", 3, "before its first step"},
		{"export unbegun --to jsonl", 3, "before its first step"},
		{"export unbegun --to parquet -o x", 3, "before its first step"},
		{"pack unbegun -o x", 3, "before its first step"},
		{"redact unbegun -o x", 3, "before its first step"},
		{"redact headless -o x", 3, "in its header"},
		{"cut unbegun -o x", 3, "before its first step"},
		{"recover unbegun -o x", 3, "before its first step; memtrace info"},
		{"recover headless -o x", 3, "in its header; memtrace verify says what is wrong\n"},
		{"info unbegun", 0, "before its first step"},
		{"verify unbegun", 3, "in a chunk header\n"},
		{"recover eventless -o still-eventless", 0, "recovered no event"},
		{"report eventless", 1, "the log holds no events\n"},
		{"info whole", 0, ""}, {"info --files", 0, ""},
		{"pack -o whole", 1, "whole exists already"},
		{"pack", 2, "required flag(s)"},
		{"pack -o x --files some", 2, `--files: "some" is none of code, all, none and stacks`},
		{"pack text -o x", 1, "not a memtrace log"},
		{"pack -o nosuch/x", 1, "no such file or directory; there is no folder nosuch"},
		{"verify", 0, ""},
		{"verify whole", 0, ""},
		{"verify cut", 3, "verify cut"},
		{"version extra", 2, "unknown command"},
		{"man nosuch", 2, "no command"},
		{"version", 0, ""}, {"help replay", 0, ""}, {"completion bash", 0, ""},
	} {
		status, out, errs := invoke(t, "", strings.Fields(c.line)...)
		if status != c.status || !strings.Contains(errs, c.err) {
			t.Errorf("%s: status %d, want %d; stderr %q, want %q", c.line, status, c.status, errs, c.err)
		}
		if n := strings.Count(errs, "\n"); status != 3 && n > 1 || errs != "" && !strings.HasPrefix(errs, "memtrace: ") {
			t.Errorf("%s: not one line: %q", c.line, errs)
		}
		if c.status == 0 && !strings.HasPrefix(c.line, "recover") && out == "" {
			t.Errorf("%s: no output", c.line)
		}
	}
	if _, out, _ := invoke(t, "", "replay", "--at", "14", "--mem", "heap:8192", "--raw"); out != strings.Repeat("C", 4096) {
		t.Errorf("what is known before the unknown: %d bytes", len(out))
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a failed recover left a file")
	}
}

// TestNoLogIsReplaced: what can be made again replaces a file, but no log, neither the one that is read
// nor another, also by another name of it. New logs replace nothing.
func TestNoLogIsReplaced(t *testing.T) {
	log := sample(t)
	for name, b := range map[string][]byte{"other.svg": log, "cut.svg": log[:len(log)-40], "headless.svg": log[:20], "text.svg": []byte("memtrace\n"), "empty.svg": nil} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(defaultLog, "soft.svg"), os.Link(defaultLog, "hard.svg"), os.Mkdir("d", 0o700), os.Symlink("../other.svg", "d/soft.svg")); err != nil {
		t.Fatal(err)
	}
	replacing := []string{"export --to csv -o", "export --to core --at 14 --pid 100 -o", "dump --core --at 14 --pid 100 -o", "report --html", "report --plot"}
	making := []string{"recover memtrace.data -o", "pack -o", "redact -o", "cut --to 9 -o", "dump --at 14 --pid 100 -o"}
	for _, out := range []string{"other.svg", "cut.svg", "headless.svg", "soft.svg", "hard.svg", "./d/../hard.svg", "d/soft.svg", "memtrace.data", "text.svg", "empty.svg"} {
		was, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		isLog := len(was) > 10
		for _, line := range slices.Concat(making, replacing) {
			if strings.HasSuffix(line, "--plot") && !strings.HasSuffix(out, ".svg") {
				continue
			}
			status, _, errs := invoke(t, "", append(strings.Fields(line), out)...)
			is, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			replaced := !bytes.Equal(was, is)
			if want := !isLog && slices.Contains(replacing, line); replaced != want || replaced != (status == 0) {
				t.Errorf("%s %s: status %d, replaced: %v, want %v; %s", line, out, status, replaced, want, errs)
			}
			if isLog && slices.Contains(replacing, line) && !strings.Contains(errs, "is a log, which nothing is written over: name another file\n") {
				t.Errorf("%s %s: %s", line, out, errs)
			}
			if replaced {
				if err := os.WriteFile(out, was, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if left, _ := filepath.Glob(".*.part"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A log named like a table, and a table named like a log.
func TestReportArguments(t *testing.T) {
	log := sample(t)
	if err := os.WriteFile("growth", log, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"report growth": "Mapped memory by kind\n", "report ./growth syscalls": "System calls\n",
		"report ./growth": "CRASH: ", "report sysc": "System calls\n", "report syscalls ./growth": "System calls\n", "report sysc growth": "System calls\n",
	} {
		if status, out, errs := invoke(t, "", strings.Fields(line)...); status != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %d %s\n%s", line, status, errs, out)
		}
	}
}

func TestConsole(t *testing.T) {
	sample(t)
	status, out, errs := invoke(t, "next 2\nbogus\nmaps\nq\n", "replay", "--step")
	if status != 0 || !strings.Contains(out, "[heap]") || !strings.Contains(errs, `no word "bogus"`) {
		t.Errorf("%d %q\n%s", status, errs, out)
	}
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "man1")
	if status, _, errs := invoke(t, "", "man", "-o", dir); status != 0 {
		t.Fatal(errs)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 8 {
		t.Errorf("%q, %v", pages, err)
	}
}

// TestCompletion: what the shell offers for arguments and the values of flags.
func TestCompletion(t *testing.T) {
	sample(t)
	for line, want := range map[string]string{
		"replay -e open":            "openat\n",
		"replay -e read,%st":        "read,%stat\n",
		"record --snapshot exec,si": "exec,signal\n",
		"replay --pid ":             "101\t",
		"report growth --sort pe":   "peak\tPEAK\n",
		"report memtrace.data sys":  "syscalls\tcalls by name",
		"replay --type sig":         "signal\n",
		"man rep":                   "replay\tShow",
		"diff --align ti":           "time\n",
		"replay --fin":              "--find\twhere and when BYTES were",
		"replay --his":              "--history\twhat the bytes of ADDR[:LEN] were",
	} {
		_, out, errs := invoke(t, "", append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if !strings.Contains(out, want) || strings.Contains(out, "`") {
			t.Errorf("%s: %s%s, want %q", line, out, errs, want)
		}
	}
}

// A log cut or damaged anywhere gives an answer or an error, never a crash, and
// recover makes a log of it that verifies.
func TestDamage(t *testing.T) {
	t.Chdir(t.TempDir())
	b := replaytest.New(t)
	b.Event(1, &format.Exec{Path: "/p", Argv: []string{"p"}}, &format.MMNew{MM: 1}, replaytest.Thread(1, 7, 7, 1, 1, 0),
		replaytest.Map(1, replaytest.Heap, 400, 3, "[heap]"))
	for i := range 400 {
		a := replaytest.Heap + addr.Addr(i)<<addr.PageShift
		b.Call(1, "mprotect", 0, []uint64{uint64(a), 4096, 1}, replaytest.Map(1, a, 1, 1, "[heap]"), replaytest.Page(1, a, byte(i)))
	}
	log := b.Bytes()
	rng := rand.New(rand.NewPCG(3, 4))
	lines := []string{"replay damaged", "report damaged", "report damaged maps growth", "info damaged", "verify damaged",
		"replay damaged --at 50% --maps", "replay damaged --at 99% --mem heap:65536 --raw", "replay damaged --json"}
	for i := range 40 {
		bad := bytes.Clone(log[:1+rng.IntN(len(log)-1)])
		if i%2 == 1 {
			bad = bytes.Clone(log)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile("damaged", bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if status, _, errs := invoke(t, "", strings.Fields(line)...); status > 4 || status != 0 && errs == "" {
				t.Errorf("%s: status %d, %q", line, status, errs)
			}
		}
		_ = os.Remove("saved")
		if status, _, _ := invoke(t, "", "recover", "damaged", "-o", "saved"); status != 0 {
			continue // the header itself
		}
		if status, _, errs := invoke(t, "", "verify", "saved"); status != 0 {
			t.Errorf("recovered log %d: %s", i, errs)
		}
	}
}
