//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"memtrace/format/addr"
	"memtrace/replay"
)

// These tests end or begin a recording while the program runs. It must run on as
// if nothing had been there, and the log must be right as far as it goes.

// running is a program that was started in a place, to be waited for. It writes to a
// file: a pipe would be waited for until all that have it open have ended.
type running struct {
	cmd  *exec.Cmd
	said string // the file's name
	done chan error
}

func (p *place) start(t *testing.T, argv ...string) *running {
	t.Helper()
	for _, d := range []string{p.run(), p.marks()} {
		if err := errors.Join(os.RemoveAll(d), os.Mkdir(d, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = p.run()
	c.Env = append(os.Environ(), "MARK_DIR="+p.marks())
	t.Cleanup(p.end)
	return p.launch(t, c, "said")
}

// launch starts a command that writes to a file of the place.
func (p *place) launch(t *testing.T, c *exec.Cmd, name string) *running {
	t.Helper()
	r := &running{cmd: c, said: filepath.Join(p.dir, name), done: make(chan error, 1)}
	f, err := os.Create(r.said)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- c.Wait() }()
	return r
}

func (r *running) pid() string { return strconv.Itoa(r.cmd.Process.Pid) }

// wait waits for the end and returns what was written.
func (r *running) wait(t *testing.T) string {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end; it wrote %s", r.cmd, brief(r.output()))
	}
	return string(r.output())
}

// output is what it has written.
func (r *running) output() []byte {
	b, _ := os.ReadFile(r.said) // gone with its place, once the test is over
	return b
}

// untouched fails the test if a trace of tracing is left on the process.
func untouched(t *testing.T, pid int) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // ended meanwhile
		}
		for line := range strings.Lines(string(b)) {
			switch f := strings.Fields(line); {
			case len(f) < 2:
			case f[0] == "TracerPid:" && f[1] != "0", f[0] == "State:" && (f[1] == "T" || f[1] == "t"),
				f[0] == "Seccomp:" && f[1] != "0", f[0] == "NoNewPrivs:" && f[1] != "0":
				t.Errorf("%s: %s", task, strings.TrimSpace(line))
			}
		}
	}
}

// checkPrefix replays a log whose recording did not see the whole program: the
// marks that are in it must be right.
func checkPrefix(t *testing.T, log, marks string) (steps format.Step, seen int) {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for e, state := range applied(t, r) {
		k, ok := markOf(e)
		if !ok {
			continue
		}
		th := state.Threads[e.Thread]
		want, err := os.ReadFile(filepath.Join(marks, fmt.Sprintf("%d.%d.maps", th.TGID, k)))
		if err != nil {
			t.Fatal(err)
		}
		seen++
		if got := state.MMs[th.MM].VMAs.AppendMaps(nil); !bytes.Equal(got, want) {
			t.Errorf("mark %d, step %d: -the program's own +the log's\n%s", k, e.Step, lineDiff(want, got))
		}
	}
	return r.Steps(), seen
}

// killRecorder kills a recorder and waits for the end of the program, which must be
// as it would be without one. Until then the program waits for letGo, which is called
// until it has ended.
func killRecorder(t *testing.T, p *place, r *running, letGo func()) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	survived(t, p, r, letGo)
}

// survived is what follows when a recorder was killed.
func survived(t *testing.T, p *place, r *running, letGo func()) {
	t.Helper()
	if r.cmd.ProcessState.Exited() {
		t.Fatalf("the recorder had ended: %s", brief(r.output()))
	}
	for _, pid := range p.inhabitants() {
		untouched(t, pid)
	}
	eventually(t, func() error {
		letGo()
		if pids := p.inhabitants(); len(pids) > 0 {
			return fmt.Errorf("the program does not end: %v", pids)
		}
		return nil
	})
}

// snapshotTaken waits until a log that is being written has a snapshot. For the first
// one memtrace makes calls in the program's name: a program whose recorder is killed
// in the middle of one goes on at the wrong place.
func (p *place) snapshotTaken(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		log, err := soFar(p)
		if err != nil {
			return err
		}
		for e, err := range log.Events(0) {
			if err != nil {
				return err
			}
			if _, ok := e.Record.(*format.Snapshot); ok {
				return nil
			}
		}
		return errors.New("no snapshot so far")
	})
}

// TestKilledRecorder: SIGKILL at any moment after the first snapshot leaves the
// program running, and a log that is right up to its last complete group.
func TestKilledRecorder(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "race", "x86_64")
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if i >= 2 {
				long(t)
			}
			p := newPlace(t)
			r := p.start(t, binary(), "record", "-q", "--snapshot", "interval=10ms", "-o", p.log(), "--", prog, "mix", "4", "20", "300", "go")
			p.snapshotTaken(t)
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
			killRecorder(t, p, r, func() { p.letGo(t) })
			if _, err := os.Stat(filepath.Join(p.marks(), fmt.Sprintf("%s.21.maps", firstMark(t, p)))); err != nil {
				t.Errorf("the program did not come to its end: %v", err)
			}
			steps, seen := checkPrefix(t, p.log(), p.marks())
			whole := filepath.Join(p.dir, "whole")
			tell(t, 0, "recover", p.log(), "-o", whole)
			tell(t, 0, "verify", whole)
			tell(t, 3, "verify", p.log())
			t.Logf("%d steps, %d marks", steps, seen)
		})
	}
}

// firstMark is the pid in the names of the mark files.
func firstMark(t *testing.T, p *place) string {
	t.Helper()
	files, err := os.ReadDir(p.marks())
	if err != nil || len(files) == 0 {
		t.Fatalf("no marks: %v", err)
	}
	pid, _, _ := strings.Cut(files[0].Name(), ".")
	return pid
}

// TestCut: a log cut anywhere is one that ends earlier.
func TestCut(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	p := newPlace(t)
	p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "--", "bash", "-c", "for i in $(seq 200); do /bin/true $i; done")
	log, err := os.ReadFile(p.log())
	if err != nil {
		t.Fatal(err)
	}
	var before format.Step
	cuts := 60
	if longRun {
		cuts = 300
	}
	for i := range cuts {
		n := (len(log)*i + rand.IntN(len(log))) / cuts // ascending
		var whole bytes.Buffer
		in, err := format.Recover(bytes.NewReader(log[:n]), int64(n), nil, &whole)
		if err != nil {
			if n < 4096 && (errors.Is(err, format.ErrFormat) || errors.Is(err, format.ErrTruncated)) {
				continue // not even its header
			}
			t.Fatalf("cut at %d of %d: %v", n, len(log), err)
		}
		if in.Steps < before {
			t.Errorf("cut at %d: %d events, fewer than there were before", n, in.Steps)
		}
		before = in.Steps
		if i%10 == 0 {
			if _, err := format.Verify(bytes.NewReader(whole.Bytes()), int64(whole.Len()), nil, nil); err != nil {
				t.Errorf("cut at %d: recovered, but %v", n, err)
			}
		}
	}
	if before == 0 {
		t.Error("nothing was recovered of any cut")
	}
}

// TestAttach: a program that runs already, from the middle to its end, and again
// and again for a moment.
func TestAttach(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		t.Run("to-its-end-"+build, func(t *testing.T) {
			if build == "i386" {
				long(t)
			}
			p := newPlace(t)
			r := p.start(t, compile(t, "race", build), "mix", "8", "5", "300", "go")
			time.Sleep(100 * time.Millisecond)
			recorder := p.attach(t, r, p.log())
			p.letGo(t)
			recorder.wait(t)
			if code := recorder.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit status %d: %s", code, brief(recorder.output()))
			}
			if out := r.wait(t); !raceDone.MatchString(out) {
				t.Errorf("it wrote %q", out)
			}
			steps, seen := checkPrefix(t, p.log(), p.marks())
			if seen == 0 {
				t.Error("no mark was recorded")
			}
			t.Logf("%d steps, %d marks", steps, seen)
			tell(t, 0, "verify", p.log())
		})
	}
	t.Run("one-event", func(t *testing.T) {
		p := newPlace(t)
		r := p.start(t, compile(t, "waiters", "x86_64"), "go")
		time.Sleep(200 * time.Millisecond)
		for range 20 {
			tell(t, 0, "record", "-q", "--max-events", "1", "-o", p.log(), "-p", r.pid())
			untouched(t, r.cmd.Process.Pid)
		}
		p.letGo(t)
		if out := r.wait(t); out != "waiters ok\n" {
			t.Errorf("it wrote %q", out)
		}
	})
	t.Run("again-and-again", func(t *testing.T) {
		p := newPlace(t)
		r := p.start(t, compile(t, "race", "x86_64"), "mix", "8", "20", "500", "go")
		times := 6
		if longRun {
			times = 24
		}
		for i := range times {
			log := filepath.Join(p.dir, fmt.Sprint("log", i))
			c := exec.Command(binary(), "record", "-q", "--check", "-o", log, "-p", r.pid())
			var say bytes.Buffer
			c.Stderr = &say
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(20+rand.IntN(80)) * time.Millisecond)
			sig := []os.Signal{os.Interrupt, syscall.SIGTERM, os.Kill}[i%3]
			_ = c.Process.Signal(sig)
			err := c.Wait()
			// it may not have come to catch signals yet
			if st := c.ProcessState.Sys().(syscall.WaitStatus); err != nil && !(st.Signaled() && st.Signal() == sig) {
				t.Errorf("%d, %v: %v: %s", i, sig, err, brief(say.Bytes()))
			}
			untouched(t, r.cmd.Process.Pid)
			if st, err := os.Stat(log); err == nil && st.Size() > 4096 {
				checkPrefix(t, log, p.marks())
			}
		}
		p.letGo(t)
		if out := r.wait(t); !raceDone.MatchString(out) {
			t.Errorf("it wrote %q", out)
		}
	})
}

// raceDone is what testdata/progs/race.c says when all was right.
var raceDone = regexp.MustCompile(`^race: \d+ calls\n$`)

// letGo makes the file that programs of testdata/progs wait for.
func (p *place) letGo(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.run(), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// attach begins to record a program that runs, and returns when it is traced.
func (p *place) attach(t *testing.T, r *running, log string) *running {
	t.Helper()
	a := p.launch(t, exec.Command(binary(), "record", "-q", "--check", "-o", log, "-p", r.pid()), "recorder-said")
	eventually(t, func() error {
		select {
		case err := <-a.done:
			a.done <- err
			if !a.cmd.ProcessState.Success() {
				t.Fatalf("the recorder has ended: %s", brief(a.output()))
			}
			return nil // and the program, which it had traced
		default:
		}
		status, err := os.ReadFile("/proc/" + r.pid() + "/status")
		if err == nil && bytes.Contains(status, []byte("TracerPid:\t0\n")) {
			err = errors.New("it is not traced")
		}
		return err
	})
	return a
}

// TestLowLimits: where memtrace cannot work for want of descriptors or address space it says
// so in one line.
func TestLowLimits(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, c := range []struct {
		flag, what string
		values     []int
	}{
		{"-n", "descriptors", []int{4, 5, 6, 7, 8, 9, 12, 20, 63}}, // with 3 bash itself cannot start a program
		{"-v", "address space", []int{850_000, 1_000_000}},         // with less, and with 1,200,000, the Go runtime begins nothing
	} {
		for _, n := range c.values {
			p := newPlace(t)
			script := fmt.Sprintf(`ulimit %s %d; exec "$@"`, c.flag, n)
			o := p.execute(t, patience, nil, "bash", "-c", script, "bash", binary(), "record", "-o", p.log(), "--", "true")
			want := regexp.MustCompile(`^memtrace: (.*: )?the limit on ` + c.what + ` \(ulimit ` + c.flag + `\) is \d+: memtrace needs \d+\n$`)
			if o.status == 0 || !want.Match(o.stderr) {
				t.Errorf("ulimit %s %d: %s, said %q", c.flag, n, statusText(o.status), o.stderr)
			}
		}
	}
}

// TestUnnoticed: what a program sees of itself, started under all sorts of
// circumstances.
func TestUnnoticed(t *testing.T) {
	require(t, "ptrace", tracing())
	self := compile(t, "self", "x86_64")
	for name, script := range map[string]string{
		"ignored-signals": `trap "" HUP INT PIPE CHLD TERM USR1; exec "$@"`,
		"limits":          `ulimit -n 77; ulimit -s 4000; ulimit -c 0; umask 027; exec "$@"`,
		"descriptors":     `exec 5</dev/null 9>here; exec "$@"`,
		"no-output":       `exec 3>&1 >&- ; exec "$@"`,
		"nice":            `exec nice -n 5 "$@"`,
		"one-cpu":         `exec taskset -c "$(sed -n "s/^Cpus_allowed_list:\t\([0-9]*\).*/\1/p" /proc/self/status)" "$@"`,
		"environment":     `exec env -i A=b "MARK_DIR=$MARK_DIR" "C=$(printf 'x\ny')" "$@"`,
		"session":         `exec setsid -w "$@"`,
		"terminal":        `exec script -qec "$*" /dev/null`,
		"directory":       `mkdir d; cd d; rmdir ../d; exec "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			run := func(argv ...string) *outcome {
				return p.execute(t, patience, nil, append([]string{"bash", "-c", script, "bash"}, argv...)...)
			}
			alone := run(self, "argument")
			recorded := run(binary(), "record", "-q", "-o", p.log(), "--", self, "argument")
			same := func(o *outcome) []byte {
				var b []byte
				for line := range bytes.Lines(o.stdout) {
					switch {
					case bytes.HasPrefix(line, []byte("children's ")): // the shell's, before it became the program
					case bytes.HasPrefix(line, []byte("sid ")) && (name == "session" || name == "terminal"): // new each time
					default:
						b = append(b, line...)
					}
				}
				return b
			}
			if a, r := same(alone), same(recorded); !bytes.Equal(a, r) || alone.status != recorded.status {
				t.Errorf("%s alone, %s recorded\n%s", statusText(alone.status), statusText(recorded.status), lineDiff(a, r))
			}
			if name != "no-output" && len(alone.stdout) < 1000 {
				t.Errorf("it says little: %v", alone)
			}
		})
	}
}

// TestFilter: with a set of calls, others are not recorded, and the marks are
// right all the same.
func TestFilter(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, name := range []string{"mmap", "stack", "family", "signals", "woken"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.compare(t, patience, []string{"-q", "--check", "-e", "memory,write", "--snapshot", "every=40"}, nil, compile(t, name, "x86_64"))
			checkMarks(t, p)
		})
	}
}

// TestStale: contents that may have changed through another mapping are not given
// as certain.
func TestStale(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		t.Run(build, func(t *testing.T) {
			p := newPlace(t)
			p.compare(t, patience, []string{"-q", "--snapshot", "syscall=getppid"}, nil, compile(t, "stale", build))
			f, err := os.Open(p.log())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			r, err := format.NewReader(f, st.Size(), nil)
			if err != nil {
				t.Fatal(err)
			}
			marks, written := 0, format.Step(0)
			for e, err := range r.Events(0) {
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := markOf(e); !ok {
					continue
				}
				if marks++; marks == 1 {
					written = e.Step // B is there
				}
				view, err := replay.New(r).At(e.Step)
				if err != nil {
					t.Fatal(err)
				}
				for _, proc := range view.Processes() {
					space, err := proc.Space()
					if err != nil {
						t.Fatal(err)
					}
					for _, a := range []addr.Addr{0x10000000, 0x20000000} {
						var b [1]byte
						if _, asOf, err := space.ReadMem(b[:], a); err == nil && b[0] != 'B' && asOf >= written {
							t.Errorf("step %d, process %d, %v: %q as of step %d", e.Step, proc.PID, a, b, asOf)
						}
					}
				}
			}
			if marks != 2 {
				t.Errorf("%d marks", marks)
			}
		})
	}
}

// TestOptions: -C, -E, -u, %p, --follow and the limits.
func TestOptions(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	o := p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "-C", "/usr", "-E", "X=y", "-E", "HOME", "--",
		"bash", "-c", `pwd; echo "$X" "${HOME-unset}"`)
	if got := string(o.stdout); got != "/usr\ny unset\n" || o.status != 0 {
		t.Errorf("-C and -E: %v", o)
	}
	o = p.execute(t, patience, nil, binary(), "record", "-q", "-o", filepath.Join(p.dir, "log.%p"), "--", "bash", "-c", "echo $$")
	if _, err := os.Stat(filepath.Join(p.dir, "log."+strings.TrimSpace(string(o.stdout)))); err != nil {
		t.Errorf("%%p: %v; %v", err, o)
	}
	if os.Getuid() == 0 {
		o = p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "-u", "nobody", "--", "id", "-un")
		if got := string(o.stdout); got != "nobody\n" {
			t.Errorf("-u: %v", o)
		}
	}
	o = p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "--follow=false", "--", "bash", "-c", "/bin/echo child; (exit 3)")
	if string(o.stdout) != "child\n" || o.status.ExitStatus() != 3 {
		t.Errorf("--follow=false: %v", o)
	}
	checkMarks(t, p)
	for _, limit := range []string{"--max-events=50", "--max-size=40K", "--max-time=100ms"} {
		o = p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), limit, "--",
			"bash", "-c", "for i in $(seq 100); do /bin/true; done; sleep 0.2; echo end; exit 4")
		if string(o.stdout) != "end\n" || o.status.ExitStatus() != 4 {
			t.Errorf("%s: %v", limit, o)
		}
		tell(t, 0, "verify", p.log())
		p.quiet(t)
	}
}

// TestAttachServer attaches to a server under load and leaves it, again and
// again: no request may fail or get lost.
func TestAttachServer(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	server, bench := tool(t, "redis-server"), tool(t, "redis-benchmark")
	p := newPlace(t)
	sock := filepath.Join(p.dir, "sock")
	r := p.start(t, server, "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no")
	eventually(t, func() error {
		_, err := os.Stat(sock)
		return err
	})
	load := exec.Command(bench, "-s", sock, "-n", "400000", "-c", "20", "-t", "set,get", "-q")
	var said bytes.Buffer
	load.Stdout, load.Stderr = &said, &said
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	loaded := make(chan error, 1)
	go func() { loaded <- load.Wait() }()
	times := 0
	for ended := false; !ended && times < 25; times++ {
		c := exec.Command(binary(), "record", "-q", "--check", "-o", p.log(), "-p", r.pid())
		var say bytes.Buffer
		c.Stderr = &say
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-loaded:
			ended = true
			loaded <- err
		case <-time.After(time.Duration(30+rand.IntN(100)) * time.Millisecond):
		}
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil && !c.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("%d: %v: %s", times, err, brief(say.Bytes()))
		}
		untouched(t, r.cmd.Process.Pid)
	}
	select {
	case err := <-loaded:
		if err != nil || bytes.Contains(said.Bytes(), []byte("rror")) {
			t.Errorf("the clients: %v: %s", err, brief(said.Bytes()))
		}
	case <-time.After(patience):
		t.Error("the clients do not come to an end")
	}
	t.Logf("attached %d times", times)
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if r.wait(t); r.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the server: %v", r.cmd.ProcessState)
	}
}
