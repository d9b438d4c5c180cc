//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"memtrace/analyze/export"
)

// held starts the program of that name and returns the addresses that it tells,
// and what ends it and says how it fared.
func held(t *testing.T, build string) (pid int, at []string, end func()) {
	t.Helper()
	c := exec.Command(compile(t, "held", build))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid, strings.Fields(line), func() {
		t.Helper()
		in.Close()
		rest, _ := io.ReadAll(r)
		if err := c.Wait(); err != nil || string(rest) != "ok\n" {
			t.Errorf("the program noticed: %v, %q", err, rest)
		}
	}
}

// TestDumpLive saves the memory of a running program, which does not notice.
func TestDumpLive(t *testing.T) {
	for _, build := range []string{"x86_64", "i386"} {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			require(t, "ptrace", tracing())
			pid, at, end := held(t, build)
			dir := filepath.Join(t.TempDir(), "all")
			for i := range 20 { // more often than it takes to meet every thread in its call
				_, say := memtraceRun(t, "dump", "-p", fmt.Sprint(pid), "-o", filepath.Join(t.TempDir(), fmt.Sprint(i)), "--stack", "--range", at[0]+":8192")
				if !strings.Contains(say, "stood still for") {
					t.Errorf("dump said %s", say)
				}
			}
			memtraceRun(t, "dump", "-p", fmt.Sprint(pid), "-o", dir)
			core := filepath.Join(t.TempDir(), "core")
			memtraceRun(t, "dump", "-p", fmt.Sprint(pid), "-o", core, "--core")
			end()
			x := readIndex(t, dir)
			if len(x.Threads) != 6 || x.PID != uint32(pid) || x.Step != nil {
				t.Errorf("%d threads of process %d", len(x.Threads), x.PID)
			}
			for _, th := range x.Threads {
				if len(th.Registers) < 16 {
					t.Errorf("thread %d: registers %v", th.TID, th.Registers)
				}
			}
			area := rangeOf(t, x, at[0])
			if st, err := os.Stat(filepath.Join(dir, area.File)); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", area.File, st, err)
			}
			b := bytesAt(t, dir, area, at[0], 64<<12)
			for i := range b {
				want := byte(i>>12 + 1)
				if i>>12%2 == 1 {
					want = 0
				}
				if b[i] != want {
					t.Fatalf("byte %d of the pattern is %d, not %d", i, b[i], want)
				}
			}
			for _, r := range x.Ranges {
				if r.Kind == "file private" && strings.Contains(r.Path, "held") && r.Bytes == 0 {
					t.Errorf("nothing of the program itself: %+v", r)
				}
				if r.Start == at[1] && r.File != "" {
					t.Errorf("a GiB of zeros has a file: %+v", r)
				}
			}
			if _, err := exec.LookPath("gdb"); err != nil {
				return
			}
			out := gdb(t, compile(t, "held", build), core, "thread apply all bt", "x/2xb "+at[0])
			for _, f := range []string{"computes", "polls", "receives", "waits", "sleeps", "main"} {
				if !strings.Contains(out, " "+f+" (") {
					t.Errorf("no thread is in %s:\n%s", f, out)
				}
			}
			if !strings.Contains(out, "0x01\t0x01") {
				t.Errorf("the pattern is not in the core:\n%s", out)
			}
		})
	}
	if _, err := exec.Command(binary(), "dump", "-p", "999999999").CombinedOutput(); err == nil {
		t.Error("a process that does not exist was dumped")
	}
}

func readIndex(t *testing.T, dir string) (x export.Index) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	return x
}

func number(t *testing.T, s string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "0x%x", &n); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return n
}

func rangeOf(t *testing.T, x export.Index, at string) export.DumpRange {
	t.Helper()
	for _, r := range x.Ranges {
		if a := number(t, at); number(t, r.Start) <= a && a < number(t, r.End) {
			return r
		}
	}
	t.Fatalf("no range holds %s", at)
	return export.DumpRange{}
}

func bytesAt(t *testing.T, dir string, r export.DumpRange, at string, n int) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, r.File))
	if err != nil {
		t.Fatal(err)
	}
	off := number(t, at) - number(t, r.Start)
	if int64(len(b)) != number(t, r.End)-number(t, r.Start) || off+int64(n) > int64(len(b)) {
		t.Fatalf("%s has %d bytes", r.File, len(b))
	}
	return b[off:][:n]
}

// TestDumpLog saves the memory that a log knows at a step, and what of it.
func TestDumpLog(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	o := p.execute(t, patience, nil, binary(), "record", "-q", "--snapshot", "exec", "-o", p.log(), "--", compile(t, "recurse", "x86_64"))
	if o.status != 0 {
		t.Fatal(o)
	}
	for _, at := range []string{"1", "40"} {
		dir := filepath.Join(p.dir, "dump-"+at)
		_, say := memtraceRun(t, "dump", p.log(), "--at", at, "-o", dir)
		x := readIndex(t, dir)
		if x.Step == nil || fmt.Sprint(*x.Step) != at || !strings.HasSuffix(x.Path, "recurse-x86_64") {
			t.Errorf("index of %v, %s", x.Step, x.Path)
		}
		maps, _ := memtraceRun(t, "replay", p.log(), "--at", at, "--maps")
		if n := strings.Count(maps, "\n"); n != len(x.Ranges) {
			t.Errorf("%d ranges of %d mappings; dump said %s", len(x.Ranges), n, say)
		}
		for _, r := range x.Ranges {
			if r.Kind != "main stack" || at != "1" {
				continue
			}
			k := r.Known[len(r.Known)-1]
			if k.End != r.End || k.AsOf == nil || *k.AsOf != 1 {
				t.Errorf("the stack's end: %+v", k)
			}
			raw, _ := memtraceRun(t, "replay", p.log(), "--at", at, "--raw", "--mem", k.Start+"-"+strings.TrimPrefix(k.End, "0x"))
			n := number(t, k.End) - number(t, k.Start)
			if got := bytesAt(t, dir, r, k.Start, int(n)); string(got) != raw || n == 0 {
				t.Errorf("%d bytes of stack differ from those that replay gives", n)
			}
		}
	}
	if out := tell(t, 4, "dump", p.log(), "--at", "1", "--range", "0x10:16", "-o", filepath.Join(p.dir, "nothing")); len(out) != 0 {
		t.Errorf("a range that is not mapped: %s", out)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "nothing")); err == nil {
		t.Error("a directory was made for nothing")
	}
	if out, err := exec.Command(binary(), "dump", p.log(), "--at", "1", "-o", filepath.Join(p.dir, "dump-1")).CombinedOutput(); err == nil || !strings.Contains(string(out), "exists") {
		t.Errorf("an existing directory was taken: %s", out)
	}
}
