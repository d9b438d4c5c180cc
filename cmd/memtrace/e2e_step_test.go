//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// step runs memtrace record with commands on standard input.
func step(t *testing.T, script string, args ...string) (out string, status int) {
	t.Helper()
	require(t, "ptrace", tracing())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary(), append([]string{"record"}, args...)...)
	// Files, not pipes: a program that was detached keeps them open.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	both, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	c.Stdin, c.Stdout, c.Stderr = in, both, both
	_ = c.Run()
	b, err := os.ReadFile(both.Name())
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("record %v: not done after %v\n%s", args, patience, b)
	}
	return string(b), c.ProcessState.ExitCode()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		i := strings.Index(text, l)
		if i < 0 {
			t.Fatalf("no %q in what follows:\n%s", l, text)
		}
		text = text[i+len(l):]
	}
}

func verify(t *testing.T, log string) {
	t.Helper()
	if out, err := exec.Command(binary(), "verify", log).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
}

// A script goes through a program, and every word of the console answers.
func TestStepWords(t *testing.T) {
	t.Parallel()
	for _, build := range []string{"x86_64", "i386"} {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			prog := compile(t, "table", build)
			log := filepath.Join(t.TempDir(), "log")
			out, status := step(t, strings.Join([]string{
				"n", "n 2", "maps", "threads", "regs", "process", "system", "event", "help write", "break write", "break",
				"c", "mem data 16", "write data+4 7 -1:2", "mem data 16", "find 0x07000000ffff", "break -", "c until exit", "",
			}, "\n"), "--step", "-q", "-o", log, "--", prog)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			wants(t, out, "] after  execve(", "       map ", "] before brk(", "] after  brk(", "[stack]", "* thread ", "eflags", "KIND", "page faults: ",
				"Mappings that cost most", "MemAvailable", "type ", "ADDR is an expression", "before write", "-- break write", "] before write(1",
				"00 00 00 00 00 00 00 00", "6 bytes, 00 00 00 00 00 00 -> 07 00 00 00 ff ff", "07 00 00 00  ff ff", "as of step", "+++ exited with 0 +++")
			verify(t, log)
		})
	}
}

// The documented example: a script writes an array before the program begins,
// which prints it; the log has the bytes.
func TestExecScript(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for i := range 32 {
		fmt.Fprintf(&want, "%d%c", i, " \n"[max(i%8-6, 0)])
	}
	for _, build := range []string{"x86_64", "i386", "static"} {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			out, status := step(t, "", "-q", "-o", log, "--exec-script", "../../testdata/scripts/table.mt", "--", compile(t, "table", build))
			if !strings.Contains(out, want.String()+"I was here\n") || status != 0 {
				t.Fatalf("status %d, got\n%s", status, out)
			}
			verify(t, log)
			b, err := exec.Command(binary(), "replay", log, "--at", "33", "--mem", "data:128", "--raw").Output()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 32 {
				if b[4*i] != byte(i) {
					t.Fatalf("replayed bytes: % x", b)
				}
			}
			b, err = exec.Command(binary(), "replay", log, "--json").Output()
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(b, []byte(`"type":"write"`)); n != 33 {
				t.Errorf("%d writes in the log, want 33", n)
			}
		})
	}
}

// The end of a script and the word detach leave the program running as if
// nothing had been; quit leaves nothing.
func TestStepEnds(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	for _, w := range []struct {
		name, script string
		lives        bool
	}{{"end", "n 3\n", true}, {"detach", "n 3\ndetach\n", true}, {"quit", "c until clone\nn 5\nquit\n", false}} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			prog := compile(t, "leak", "x86_64")
			// -o with %p tells the pid.
			step(t, w.script, "--step", "-q", "-o", log+".%p", "--", prog, "clean", "1000")
			logs, err := filepath.Glob(log + ".*")
			if err != nil || len(logs) != 1 {
				t.Fatalf("logs %v, %v", logs, err)
			}
			verify(t, logs[0])
			pid, err := strconv.Atoi(strings.TrimPrefix(logs[0], log+"."))
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGKILL)
			if !w.lives {
				ends(t, pid)
				return
			}
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				t.Fatalf("it does not live: %v", err)
			}
			if !bytes.Contains(status, []byte("TracerPid:\t0\n")) || bytes.Contains(status, []byte("State:\tT")) || bytes.Contains(status, []byte("State:\tt")) {
				t.Errorf("not left as it was:\n%s", status)
			}
		})
	}
}

// ends waits for the end of a process that is not a child of this one.
func ends(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !bytes.Contains(status, []byte("Z (zombie)")) {
			return fmt.Errorf("it lives:\n%s", status)
		}
		return nil
	})
}

// Verdicts of programs that leak and programs that do not.
func TestLeakVerdicts(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "leak", "x86_64")
	runs := 1
	if n, err := strconv.Atoi(os.Getenv("MEMTRACE_LEAK_RUNS")); err == nil {
		runs = n
	}
	leaks := []string{"leak", "small", "untouched", "child", "build"} // build gives all back as it ends
	for _, mode := range append(slices.Clone(leaks), "clean", "cache", "mapped", "plateau", "saw") {
		for i := range runs {
			t.Run(fmt.Sprint(mode, "-", i), func(t *testing.T) {
				if mode != "leak" && mode != "clean" {
					long(t)
				}
				t.Parallel()
				log := filepath.Join(t.TempDir(), "log")
				if out, err := exec.Command(binary(), "record", "-q", "-o", log, "--", prog, mode, "3").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				verify(t, log)
				b, err := exec.Command(binary(), "report", log, "leaks", "--format", "json").Output()
				if err != nil {
					t.Fatal(err)
				}
				var r struct {
					Verdicts []struct{ Verdict, Text string }
				}
				if err := json.Unmarshal(b, &r); err != nil || len(r.Verdicts) == 0 {
					t.Fatalf("%v in %s", err, b)
				}
				wrong := "leak" // on a machine that is busy elsewhere the honest word is often the one between
				if slices.Contains(leaks, mode) {
					wrong = "none"
				}
				if v := &r.Verdicts[0]; v.Verdict == wrong {
					t.Errorf("got %s: %s", v.Verdict, v.Text)
				}
			})
		}
	}
}

// TestSamplesOutOfTurn: a fork is sampled at once, and so is what is left where much memory was
// given back, unless a sample was taken just before.
func TestSamplesOutOfTurn(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog, log := compile(t, "sampled", "x86_64"), filepath.Join(t.TempDir(), "log")
	var sampled map[string]int
	for range 5 { // where a sample takes long there are few of them
		if out, err := exec.Command(binary(), "record", "-q", "--snapshot=none", "-o", log, "--", prog, "8").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		verify(t, log)
		sampled = sampledAfter(t, log)
		few := func(what string) bool { return sampled[what] < 2 } // one may be by chance
		if !slices.ContainsFunc([]string{"clone ", "syscall madvise", "syscall brk", "syscall munmap"}, few) {
			return
		}
	}
	t.Errorf("samples came right after: %v", sampled)
}

// sampledAfter is how many samples of a log came right after each kind of event.
func sampledAfter(t *testing.T, log string) map[string]int {
	t.Helper()
	b, err := exec.Command(binary(), "replay", log, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	sampled, before := map[string]int{}, ""
	for line := range bytes.Lines(b) {
		var e struct{ Type, Name string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Type == "meminfo" {
			sampled[before]++
		}
		before = e.Type + " " + e.Name
	}
	return sampled
}

// A short program has two samples, and what is sampled can be asked for.
func TestSamples(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	log := filepath.Join(t.TempDir(), "log")
	for _, w := range []struct {
		flags []string
		least int
	}{{nil, 2}, {[]string{"--meminfo=20ms"}, 2}, {[]string{"--meminfo=off"}, 0}} {
		args := append(append([]string{"record", "-q", "-o", log}, w.flags...), "--", "/bin/true")
		if out, err := exec.Command(binary(), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := exec.Command(binary(), "replay", log, "--json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte(`"type":"meminfo"`)); n < w.least || w.least == 0 && n > 0 {
			t.Errorf("%v: %d samples", w.flags, n)
		}
		if w.least > 0 {
			for _, source := range []string{"meminfo", "vmstat", "smaps_rollup", "status", "statm"} {
				if !bytes.Contains(b, []byte(`"source":"`+source+`"`)) {
					t.Errorf("%v: no %s", w.flags, source)
				}
			}
		}
	}
	svg := log + ".svg"
	if out, err := exec.Command(binary(), "record", "-q", "-o", log, "--", "/bin/true").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(binary(), "report", log, "timeline", "--plot", svg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(svg); err != nil || !bytes.Contains(b, []byte("Committed_AS")) {
		t.Errorf("the plot: %v, %d bytes", err, len(b))
	}
}
