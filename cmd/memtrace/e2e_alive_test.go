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

// running is a program that was started in a place, to be waited for.
type running struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error
}

func (p *place) start(t *testing.T, argv ...string) *running {
	t.Helper()
	for _, d := range []string{p.run(), p.marks()} {
		if err := errors.Join(os.RemoveAll(d), os.Mkdir(d, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	r := &running{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan error, 1)}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = p.run(), &r.out, &r.out
	r.cmd.Env = append(os.Environ(), "MARK_DIR="+p.marks())
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	t.Cleanup(p.end)
	return r
}

func (r *running) pid() string { return strconv.Itoa(r.cmd.Process.Pid) }

// wait waits for the end and returns what was written.
func (r *running) wait(t *testing.T) string {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s does not end; it wrote %s", r.cmd, brief(r.out.Bytes()))
	}
	return r.out.String()
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
// as it would be without one. It reports whether the recorder was still there.
func killRecorder(t *testing.T, p *place, r *running) bool {
	t.Helper()
	killed := r.cmd.Process.Kill() == nil
	<-r.done
	killed = killed && !r.cmd.ProcessState.Exited()
	for _, pid := range p.inhabitants() {
		untouched(t, pid)
	}
	for begun := time.Now(); len(p.inhabitants()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("the program does not end")
		}
	}
	return killed
}

// TestKilledRecorder: SIGKILL at any moment leaves the program running, and a log
// that is right up to its last complete group.
func TestKilledRecorder(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "race", "x86_64")
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := newPlace(t)
			r := p.start(t, binary(), "record", "-q", "--snapshot", "interval=10ms", "-o", p.log(), "--", prog, "mix", "4", "20", "300")
			time.Sleep(time.Duration(50+rand.IntN(1500)) * time.Millisecond)
			killed := killRecorder(t, p, r)
			if files, err := os.ReadDir(p.marks()); err == nil && len(files) == 0 {
				t.Skip("killed before the program began")
			}
			// cmd.Wait closed our end of its output: its marks tell how far it came
			if _, err := os.Stat(filepath.Join(p.marks(), fmt.Sprintf("%s.21.maps", firstMark(t, p)))); err != nil {
				t.Errorf("the program did not come to its end: %v", err)
			}
			steps, seen := checkPrefix(t, p.log(), p.marks())
			whole := filepath.Join(p.dir, "whole")
			tell(t, 0, "recover", p.log(), "-o", whole)
			tell(t, 0, "verify", whole)
			if killed { // else it was done already
				tell(t, 3, "verify", p.log())
			}
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
	require(t, "ptrace", tracing())
	p := newPlace(t)
	p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", p.log(), "--", "bash", "-c", "for i in $(seq 200); do /bin/true $i; done")
	log, err := os.ReadFile(p.log())
	if err != nil {
		t.Fatal(err)
	}
	var before format.Step
	cuts := 300
	for i := range cuts {
		n := (len(log)*i + rand.IntN(len(log))) / cuts // ascending
		var whole bytes.Buffer
		in, err := format.Recover(bytes.NewReader(log[:n]), int64(n), &whole)
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
			if _, err := format.Verify(bytes.NewReader(whole.Bytes()), int64(whole.Len()), nil); err != nil {
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
			p := newPlace(t)
			r := p.start(t, compile(t, "race", build), "mix", "8", "20", "300")
			time.Sleep(100 * time.Millisecond)
			tell(t, 0, "record", "-q", "--check", "-o", p.log(), "-p", r.pid())
			if out := r.wait(t); out != "race: 48000 calls\n" {
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
		r := p.start(t, compile(t, "waiters", "x86_64"), "4")
		time.Sleep(200 * time.Millisecond)
		for range 20 {
			tell(t, 0, "record", "-q", "--max-events", "1", "-o", p.log(), "-p", r.pid())
			untouched(t, r.cmd.Process.Pid)
		}
		if out := r.wait(t); out != "waiters ok\n" {
			t.Errorf("it wrote %q", out)
		}
	})
	t.Run("again-and-again", func(t *testing.T) {
		p := newPlace(t)
		r := p.start(t, compile(t, "race", "x86_64"), "mix", "8", "150", "500")
		for i := range 18 {
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
			select {
			case <-r.done:
				r.done <- nil
				if i < 3 {
					t.Fatalf("it ended too early: %s", brief(r.out.Bytes()))
				}
			default:
				untouched(t, r.cmd.Process.Pid)
			}
			if st, err := os.Stat(log); err == nil && st.Size() > 4096 {
				checkPrefix(t, log, p.marks())
			}
		}
		if out := r.wait(t); out != "race: 600000 calls\n" {
			t.Errorf("it wrote %q", out)
		}
	})
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
		"one-cpu":         `exec taskset -c 1 "$@"`,
		"environment":     `exec env -i A=b "MARK_DIR=$MARK_DIR" "C=$(printf 'x\ny')" "$@"`,
		"session":         `exec setsid -w "$@"`,
		"terminal":        `exec script -qec "$*" /dev/null`,
		"directory":       `mkdir d; cd d; rmdir ../d; exec "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			run := func(argv ...string) *outcome {
				return p.execute(t, time.Minute, nil, append([]string{"bash", "-c", script, "bash"}, argv...)...)
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
			p.compare(t, time.Minute, []string{"-q", "--check", "-e", "memory,write", "--snapshot", "every=40"}, nil, compile(t, name, "x86_64"))
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
			p.compare(t, time.Minute, []string{"-q", "--snapshot", "syscall=getppid"}, nil, compile(t, "stale", build))
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
	o := p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", p.log(), "-C", "/usr", "-E", "X=y", "-E", "HOME", "--",
		"bash", "-c", `pwd; echo "$X" "${HOME-unset}"`)
	if got := string(o.stdout); got != "/usr\ny unset\n" || o.status != 0 {
		t.Errorf("-C and -E: %v", o)
	}
	o = p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", filepath.Join(p.dir, "log.%p"), "--", "bash", "-c", "echo $$")
	if _, err := os.Stat(filepath.Join(p.dir, "log."+strings.TrimSpace(string(o.stdout)))); err != nil {
		t.Errorf("%%p: %v; %v", err, o)
	}
	if os.Getuid() == 0 {
		o = p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", p.log(), "-u", "nobody", "--", "id", "-un")
		if got := string(o.stdout); got != "nobody\n" {
			t.Errorf("-u: %v", o)
		}
	}
	o = p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", p.log(), "--follow=false", "--", "bash", "-c", "/bin/echo child; (exit 3)")
	if string(o.stdout) != "child\n" || o.status.ExitStatus() != 3 {
		t.Errorf("--follow=false: %v", o)
	}
	checkMarks(t, p)
	for _, limit := range []string{"--max-events=50", "--max-size=40K", "--max-time=100ms"} {
		o = p.execute(t, time.Minute, nil, binary(), "record", "-q", "-o", p.log(), limit, "--",
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
	require(t, "ptrace", tracing())
	server, bench := tool(t, "redis-server"), tool(t, "redis-benchmark")
	p := newPlace(t)
	sock := filepath.Join(p.dir, "sock")
	r := p.start(t, server, "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no")
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("no server: %s", brief(r.out.Bytes()))
		}
	}
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
	case <-time.After(2 * time.Minute):
		t.Error("the clients do not come to an end")
	}
	if times < 3 {
		t.Errorf("attached only %d times", times)
	}
	t.Logf("attached %d times", times)
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if r.wait(t); r.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the server: %v", r.cmd.ProcessState)
	}
}
