//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/proctext"
)

// openKept opens a log that a ring was kept in, which must be whole.
func openKept(t *testing.T, name string) *format.Reader {
	t.Helper()
	tell(t, 0, "verify", name)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// overlap compares the lines of a kept log with those that -v wrote of the whole run.
func (p *place) overlap(t *testing.T, log string) {
	t.Helper()
	r := openKept(t, log)
	from := r.Header().Begin.First()
	part := string(tell(t, 0, "replay", "--from", fmt.Sprint(from), "--no-steps", log))
	b, err := os.ReadFile(filepath.Join(p.dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.SplitAfter(string(b), "\n")
	if n := int(r.Steps() - from); n != strings.Count(part, "\n") || len(whole) < int(r.Steps()) {
		t.Fatalf("%d lines of %d events, %d in all", strings.Count(part, "\n"), n, len(whole))
	}
	if want := strings.Join(whole[from:r.Steps()], ""); part != want {
		t.Errorf("steps %d to %d: -the whole run +what was kept\n%s", from, r.Steps(), lineDiff([]byte(want), []byte(part)))
	}
}

// TestKeep: what is kept when a program crashes is the end of the run: its events, its
// mappings at each mark, its memory.
func TestKeep(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	record := func(flags []string, args ...string) *outcome {
		t.Helper()
		argv := append([]string{binary(), "record", "--ring", "64K", "-o", p.log(), "-v=" + filepath.Join(p.dir, "full")}, flags...)
		return p.execute(t, patience, nil, append(append(argv, "--", prog), args...)...)
	}
	t.Run("crash", func(t *testing.T) {
		for i, dir := range []string{"", p.dir} {
			flags := []string{"--ring-dir", dir}
			out := record(flags, "15000", "crash")
			if !out.status.Signaled() || out.status.Signal() != 11 {
				t.Fatalf("%v", out)
			}
			r := openKept(t, p.log())
			if r.Header().Begin.Step == 0 || r.Header().Begin.Events != 2 {
				t.Errorf("begins at %+v", r.Header().Begin)
			}
			p.overlap(t, p.log())
			if _, seen := checkPrefix(t, p.log(), p.marks()); seen < 2 {
				t.Errorf("%d marks", seen)
			}
			mem := string(tell(t, 0, "replay", "--at", "crash", "--mem", "canary:16", "--json", p.log()))
			if !strings.Contains(mem, `"exact":true`) || !strings.Contains(mem, `"bytes":"63616e617279206f66206b6565700000"`) {
				t.Errorf("memory at the crash: %s", mem)
			}
			if text := string(tell(t, 0, "report", p.log())); !strings.Contains(text, "CRASH: SIGSEGV") {
				t.Errorf("%s", text)
			}
			files, err := filepath.Glob(filepath.Join(p.dir, "*ring*"))
			if len(files) > 0 || err != nil {
				t.Errorf("%v are left, %v", files, err)
			}
			if _, err := os.Stat(p.log() + ".old"); (err == nil) != (i > 0) {
				t.Errorf("the log before: %v", err)
			}
		}
	})
	t.Run("before", func(t *testing.T) { // memory as it was before the ring begins
		for _, memory := range []string{"at-keep", "interval=50ms"} {
			_ = os.Remove(p.log())
			record([]string{"--keep-memory", memory}, "9000", "crash")
			p.overlap(t, p.log())
			first := openKept(t, p.log()).Header().Begin.First()
			cmd := exec.Command(binary(), "replay", "--at", fmt.Sprint(first), "--mem", "canary:16", "--json", p.log())
			mem, _ := cmd.Output() // 4 if it is not known
			known := strings.Contains(string(mem), `"bytes":"63616e617279206f66206b6565700000"`)
			if first == 0 || known != (memory != "at-keep") {
				t.Errorf("%s: memory at step %d: %s", memory, first, mem)
			}
		}
	})
	for _, c := range []struct {
		name, on string
		args     []string
		kept     int
		has      string // a line of the log that was kept
	}{
		{"status", "exit!=0", []string{"500", "status", "3"}, 1, `\+\+\+ exited with 3 \+\+\+`},
		{"no status", "exit!=0", []string{"100", "status", "0"}, 0, ""},
		{"exit", "exit", []string{"100", "status", "0"}, 1, `\+\+\+ exited with 0 \+\+\+`},
		{"mark", "mark=here", []string{"500", "mark", "memtrace: here"}, 1, `write\(-1, "memtrace: here"`},
		{"another mark", "mark=there", []string{"100", "mark", "memtrace: here"}, 0, ""},
		{"errno", "signal,errno=ENOENT", []string{"500", "errno"}, 1, `ENOENT`},
		{"slow", "slow=clock_nanosleep>200ms", []string{"100", "slow"}, 1, `clock_nanosleep`},
		{"signal", "signal=USR2", []string{"500", "signal", "12"}, 1, `SIGUSR2`},
		{"another signal", "signal=USR1", []string{"100", "signal", "12"}, 0, ""},
		{"rss growth", "rss+1T/s", []string{"100", "slow"}, 0, ""}, // ten seconds of growth: record/ring tests it
		{"rss", "rss>4K", []string{"100", "slow"}, 1, `memory sampled`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.Remove(p.log())
			out := record([]string{"--keep-on", c.on, "--keep-max", "3"}, c.args...)
			_, err := os.Stat(p.log())
			if (err == nil) != (c.kept > 0) {
				t.Fatalf("kept: %v; %v", err, out)
			}
			if c.kept == 0 {
				return
			}
			p.overlap(t, p.log())
			list := string(tell(t, 0, "replay", p.log()))
			if !regexp.MustCompile(c.has).MatchString(list) || !strings.Contains(list, "snapshot (") {
				t.Errorf("%s is not in what was kept:\n%s", c.has, list[max(0, len(list)-500):])
			}
		})
	}
	t.Run("sigusr2", func(t *testing.T) {
		_ = os.Remove(p.log())
		r := p.start(t, binary(), "record", "--ring", "64K", "-o", p.log(), "-v="+filepath.Join(p.dir, "full"), "--", prog, "200", "wait")
		p.ready(t, "ready")
		if err := r.cmd.Process.Signal(syscall.SIGUSR2); err != nil { // memtrace's: the program would die of it
			t.Fatal(err)
		}
		eventually(t, func() error {
			_, err := os.Stat(p.log())
			return err
		})
		p.letGo(t)
		if said := r.wait(t); r.cmd.ProcessState.ExitCode() != 0 {
			t.Error(said)
		}
		p.overlap(t, p.log())
		if mem := string(tell(t, 0, "replay", "--at", "last", "--mem", "canary+4096:9", "--json", p.log())); !strings.Contains(mem, `"bytes":"6c6f6f707320323030"`) {
			t.Errorf("memory: %s", mem)
		}
	})
	t.Run("storm", func(t *testing.T) {
		record([]string{"--keep-on", "mark=here", "--keep-max", "3", "--keep-gap", "0", "-q"}, "100", "mark", "memtrace: here")
		for n, want := range map[string]bool{"": true, ".2": true, ".3": true, ".4": false} {
			if _, err := os.Stat(p.log() + n); (err == nil) != want {
				t.Errorf("log%s: %v", n, err)
			} else if want {
				p.overlap(t, p.log()+n)
			}
		}
	})
}

// ringFiles are the parts of the rings in the place.
func (p *place) ringFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "memtrace-ring.*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestKeepKilled: a recorder that is killed leaves its program alone, and the parts of its
// ring make a log.
func TestKeepKilled(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	r := p.start(t, binary(), "record", "-q", "--ring", "64K", "--ring-dir", p.dir, "-o", p.log(), "--", prog, "6000", "wait")
	eventually(t, func() error {
		if n := len(p.ringFiles(t)); n < 4 {
			return fmt.Errorf("%d parts", n)
		}
		return nil
	})
	killRecorder(t, p, r, func() { p.letGo(t) })
	if _, err := os.Stat(p.log()); err == nil {
		t.Error("something was kept")
	}
	tell(t, 0, append([]string{"cut", "-o", p.log()}, p.ringFiles(t)...)...)
	tell(t, 0, "verify", p.log())
	steps, seen := checkPrefix(t, p.log(), p.marks())
	t.Logf("%d steps, %d marks", steps, seen)
}

// TestKeepKilledInterval kills a recorder that saves memory all the time, while the ring fills and when
// it goes round. What it leaves makes a log that verifies. MEMTRACE_KILLS says how often.
func TestKeepKilledInterval(t *testing.T) {
	if !longRun {
		t.Skip("MEMTRACE_LONG is not set")
	}
	require(t, "ptrace", tracing())
	kills := 6
	if s := os.Getenv("MEMTRACE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	prog := compile(t, "keep", "x86_64")
	for i := range kills {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := newPlace(t)
			r := p.start(t, binary(), "record", "-q", "--ring", "64K", "--keep-memory", "interval=5ms", "--ring-dir", p.dir, "-o", p.log(), "--", prog, "60000", "wait")
			eventually(t, func() error {
				if n := len(p.ringFiles(t)); n < 2+i%7 { // of one alone there may be nothing yet
					return fmt.Errorf("%d parts", n)
				}
				return nil
			})
			time.Sleep(time.Duration(i*37%100) * time.Millisecond)
			killRecorder(t, p, r, func() { p.letGo(t) })
			if _, err := os.Stat(p.log()); err == nil {
				t.Error("something was kept")
			}
			tell(t, 0, append([]string{"cut", "-o", p.log()}, p.ringFiles(t)...)...)
			tell(t, 0, "verify", p.log())
			tell(t, 0, "replay", "--at", "last", "--maps", p.log())
		})
	}
}

// TestKeepBounded: the memory of a recorder does not grow with what it records. The code of memtrace
// itself, which the kernel can drop and shares, is not counted.
func TestKeepBounded(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	const size = 256 << 10
	r := p.start(t, binary(), "record", "-q", "--ring", "256K", "-o", p.log(), "--", prog, "40000", "wait")
	p.ready(t, "ready")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	kb, ok := proctext.Field(b, "RssAnon").Number()
	if !ok {
		t.Fatalf("no RssAnon in\n%s", b)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%s/fd/*", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	bytes, parts := int64(0), 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/memfd:memtrace-ring") {
			parts++
			bytes += fileSize(t, fd)
		}
	}
	status := string(tell(t, 0, "ring", r.pid(), "status"))
	if strings.Contains(status, "step       0") || parts < 8 {
		t.Errorf("%d parts; %s", parts, status)
	}
	if bytes > size*5/4 || kb<<10 > 20<<20 {
		t.Errorf("%d bytes of ring, %d of memory beside it", bytes, kb<<10)
	}
	t.Logf("%d bytes of ring, %d of memory beside it", bytes, kb<<10)
	p.letGo(t)
	r.wait(t)
}

// TestKeepAttached: a ring of a process that runs already, asked for from outside.
func TestKeepAttached(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	t.Setenv("XDG_RUNTIME_DIR", p.dir)
	r := p.start(t, prog, "100", "wait")
	p.ready(t, "ready")
	a := p.launch(t, exec.Command(binary(), "record", "--ring", "64K", "--keep-on", "exit", "-o", p.log(), "-p", r.pid()), "recorder-said")
	eventually(t, func() error {
		_, err := exec.Command(binary(), "ring", r.pid(), "status").Output()
		return err
	})
	name := strings.TrimSpace(string(tell(t, 0, "ring", fmt.Sprint(a.cmd.Process.Pid), "dump")))
	openKept(t, name)
	if mem := string(tell(t, 0, "replay", "--at", "last", "--mem", "canary:16", "--json", name)); !strings.Contains(mem, `"bytes":"63616e617279`) {
		t.Errorf("memory: %s", mem)
	}
	if err := a.cmd.Process.Signal(syscall.SIGUSR2); err != nil { // no condition, and not the program's
		t.Fatal(err)
	}
	tell(t, 2, "ring", r.pid(), "nothing")
	p.letGo(t)
	r.wait(t)
	a.wait(t)
	openKept(t, p.log()+".2")
	tell(t, 1, "ring", fmt.Sprint(os.Getpid()), "status")
}

// TestKeepFullDisk: no half log has the name of a whole one.
func TestKeepFullDisk(t *testing.T) {
	require(t, "ptrace", tracing())
	if os.Getuid() != 0 {
		require(t, "root", errors.New("only root mounts"))
	}
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	small := filepath.Join(p.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=16k"); err != nil {
		require(t, "root", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	out := p.execute(t, patience, nil, binary(), "record", "--ring", "64K", "-o", filepath.Join(small, "log"), "--", prog, "3000", "status", "3")
	if said := string(out.stderr); out.status.ExitStatus() != 3 || !strings.Contains(said, "none could be kept") || strings.Contains(said, "recording stopped") {
		t.Errorf("%v", out)
	}
	files, err := os.ReadDir(small)
	if err != nil || len(files) > 0 {
		t.Errorf("%v are left, %v", files, err)
	}

	// Where there is no room for the ring itself, what it has is kept, though nothing else came true.
	out = p.execute(t, patience, nil, binary(), "record", "--ring", "64K", "--ring-dir", small, "-o", p.log(), "--", prog, "5000", "status", "0")
	if out.status.ExitStatus() != exitFailed || !strings.Contains(string(out.stderr), "the ring cannot be written: kept") || !strings.Contains(string(out.stderr), "recording stopped there") {
		t.Errorf("%v", out)
	}
	openKept(t, p.log())
	checkPrefix(t, p.log(), p.marks())
	if files, err := os.ReadDir(small); err != nil || len(files) > 0 {
		t.Errorf("%v are left, %v", files, err)
	}

	// Where there is no room for that either, its parts stay.
	out = p.execute(t, patience, nil, binary(), "record", "--ring", "64K", "--ring-dir", small, "-o", filepath.Join(small, "log"), "--", prog, "5000", "status", "0")
	join := regexp.MustCompile(`memtrace cut -o OUT (\S+) joins`).FindSubmatch(out.stderr)
	if out.status.ExitStatus() != exitFailed || join == nil {
		t.Fatalf("%v", out)
	}
	parts, err := filepath.Glob(string(join[1]))
	if err != nil || len(parts) == 0 {
		t.Fatalf("%s are %v, %v", join[1], parts, err)
	}
	joined := filepath.Join(p.dir, "joined")
	tell(t, 0, append([]string{"cut", "-o", joined}, parts...)...)
	openKept(t, joined)
	checkPrefix(t, joined, p.marks())
}
