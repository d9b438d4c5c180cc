//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"memtrace/format/proctext"
)

// These tests record programs that a tracer can harm: each must do what it does alone.

// unharmed are programs of testdata/progs with arguments, for what they are built, and
// the flags of memtrace with which each is run. The first build and the first flags are
// always tried, the others in long runs.
var unharmed = []struct {
	prog   string
	builds string
	runs   []string
	flags  []string
}{
	{"dispatch", "x86_64", []string{""}, []string{"--snapshot interval=1ms", "-e memory", "--snapshot step"}},
	{"segment", "x86_64 i386", []string{"calls"}, []string{"--snapshot interval=1ms", "--snapshot step", "-e memory"}},
	{"segment", "x86_64 i386", []string{"spins"}, []string{"--snapshot interval=1ms"}},
	{"sequence", "x86_64", []string{""}, []string{"--snapshot interval=1ms", "-e memory"}},
	{"faulted", "x86_64", []string{
		"write call", "writev call", "openat device", "stat call", "read call", "readv device", "getppid call",
	}, []string{"--snapshot interval=1ms", "--snapshot step", "-e memory"}},
	{"served", "x86_64", []string{"idle", "argument", "ends", "runs"}, []string{"--snapshot interval=1ms", "", "--snapshot step", "-e memory"}},
	{"sandbox", "x86_64 i386", []string{
		"trace", "trace-tag 0x6d74", "errno", "trap", "kill", "thread", "threads", "strict", "strict-call", "ask", "log", "notify",
	}, []string{"-e memory", "", "--snapshot interval=1ms"}},
	{"untraced", "x86_64 i386", []string{""}, []string{"-e memory", ""}},
	{"tracer", "i386", []string{
		"calls", "steps", "signals", "groups", "joins", "spins", "attach", "inherit", "chld", "waits", "refused", "heirs", "entry", "exec", "break",
		"emulate", "registers", "pending", "ends", "suspends", "messages", "stays", "status", "continues", "answers", "zombies", "uses", "raises", "elsewhere",
	}, []string{"", "--page-trace=64"}},
	{"tracer", "i386 x86_64", []string{"across"}, []string{"", "-e memory", "--snapshot interval=2ms", "--page-trace=64", "--in-process=always"}},
	{"tracer", "x86_64", []string{"status"}, []string{"", "--page-trace=64"}},
	{"tracer", "x86_64", []string{
		"calls", "steps", "signals", "groups", "joins", "spins", "attach", "inherit", "chld", "waits", "refused", "heirs", "entry", "exec", "break",
		"emulate", "registers", "pending", "ends", "suspends", "messages", "stays", "continues", "answers", "zombies", "uses", "raises", "elsewhere",
	}, []string{"", "-e memory", "--snapshot interval=2ms", "--page-trace=64", "--in-process=always"}},
}

func TestUnharmed(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, c := range unharmed {
		for i, build := range strings.Fields(c.builds) {
			for _, args := range c.runs {
				for k, flags := range c.flags {
					t.Run(strings.Join([]string{c.prog, build, args, flags}, " "), func(t *testing.T) {
						if i > 0 || k > 0 {
							long(t)
						}
						if args == "across" { // each build runs the other
							for _, other := range strings.Fields(c.builds) {
								compile(t, c.prog, other)
							}
						}
						p := newPlace(t)
						t.Cleanup(func() { _ = syscall.Unmount(filepath.Join(p.run(), "mnt"), syscall.MNT_DETACH) })
						argv := append([]string{compile(t, c.prog, build)}, strings.Fields(args)...)
						p.compare(t, patience, append([]string{"-q", "--check"}, strings.Fields(flags)...), nil, argv...)
						tell(t, 0, "verify", p.log())
					})
				}
			}
		}
	}
}

// TestTracersPages: a program under a page trace may trace another and be traced. The log says
// of which processes the references are not in it from then on.
func TestTracersPages(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "tracer", "x86_64")
	for _, how := range []string{"joins", "spins", "attach", "exec"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.compare(t, patience, []string{"-q", "--check", "--page-trace=64"}, nil, prog, how)
			tell(t, 0, "verify", p.log())
			if refs := tell(t, 0, "replay", "--refs", p.log()); len(refs) == 0 {
				t.Error("no references")
			}
			calls := tell(t, 0, "replay", p.log())
			for _, why := range []string{"traces others (ptrace)", "is traced by another program (ptrace)"} {
				if !bytes.Contains(calls, []byte(why)) {
					t.Errorf("the log does not say of a process that it %s", why)
				}
			}
		})
	}
}

// TestListener: -e sees the calls that a seccomp listener lets continue.
func TestListener(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "sandbox", "x86_64")
	for _, flags := range []string{"-e getppid,madvise", ""} {
		p := newPlace(t)
		argv := append([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags)...)
		p.execute(t, patience, nil, append(argv, "--", prog, "notify")...)
		calls := tell(t, 0, "replay", p.log())
		for _, name := range []string{" getppid(", "MADV_DONTNEED"} {
			if n := bytes.Count(calls, []byte(name)); n != 2 { // of the program and of its child
				t.Errorf("flags %q: %d of%s, not 2\n%s", flags, n, name, calls)
			}
		}
	}
}

// inGroup runs a program in a process group of its own, which memtrace is in as well.
func inGroup(argv ...string) []string {
	return append([]string{"setsid", "-w"}, argv...)
}

// TestSignalsToGroup: a signal to the process group reaches memtrace and the program,
// which gets it as often as alone.
func TestSignalsToGroup(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	tool(t, "setsid")
	prog := compile(t, "group", "x86_64")
	p := newPlace(t)
	alone := p.execute(t, patience, nil, inGroup(prog, "all")...)
	for _, flags := range []string{"", "-e memory"} {
		argv := append([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags)...)
		recorded := p.execute(t, patience, nil, inGroup(append(argv, "--", prog, "all")...)...)
		if alone.status != recorded.status || alone.status.ExitStatus() != 5 || !bytes.Equal(alone.stdout, recorded.stdout) {
			t.Errorf("flags %q: %s alone, %s recorded, %s\n%s", flags, statusText(alone.status), statusText(recorded.status),
				brief(recorded.stderr), lineDiff(alone.stdout, recorded.stdout))
		}
		tell(t, 0, "verify", p.log())
	}
}

// counts waits until testdata/progs/group.c has got so many signals.
func (p *place) counts(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		b, err := os.ReadFile(filepath.Join(p.run(), "count"))
		if err == nil && string(b) != strconv.Itoa(n) {
			err = fmt.Errorf("%s signals, not %d", b, n)
		}
		return err
	})
}

// TestSignalsToRecorder: who signals memtrace alone means the program, each time.
func TestSignalsToRecorder(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "group", "x86_64")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH, 44} {
		for i, flags := range []string{"", "-e memory"} {
			t.Run(fmt.Sprint(int(sig), flags), func(t *testing.T) {
				if i > 0 {
					long(t)
				}
				p := newPlace(t)
				argv := append([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags)...)
				r := p.start(t, append(argv, "--", prog, "count", "10", strconv.Itoa(int(sig)), "count")...)
				for n := range 11 {
					p.counts(t, n)
					if n < 10 {
						if err := r.cmd.Process.Signal(sig); err != nil {
							t.Fatal(err)
						}
					}
				}
				p.letGo(t)
				if out := r.wait(t); out != "10\n" || r.cmd.ProcessState.ExitCode() != 6 {
					t.Errorf("%v, it wrote %q", r.cmd.ProcessState, out)
				}
				tell(t, 0, "verify", p.log())
			})
		}
	}
}

// TestTimeout: timeout(1) signals memtrace and then the group. The program's end is in the
// log, and its status is memtrace's.
func TestTimeout(t *testing.T) {
	require(t, "ptrace", tracing())
	timeout, prog := tool(t, "timeout"), compile(t, "group", "x86_64")
	p := newPlace(t)
	r := p.start(t, timeout, "1000", binary(), "record", "-q", "-o", p.log(), "--", prog, "count", "1", "15", "count")
	p.counts(t, 0)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil { // as when the time is over
		t.Fatal(err)
	}
	eventually(t, func() error {
		b, err := os.ReadFile(filepath.Join(p.run(), "count"))
		if string(b) == "0" {
			err = errors.New("no signal came")
		}
		return err
	})
	p.letGo(t)
	r.wait(t)
	if code := r.cmd.ProcessState.ExitCode(); code != 6 {
		t.Errorf("exit status %d: %s", code, brief(r.output()))
	}
	tell(t, 0, "verify", p.log())
	if out := tell(t, 0, "replay", p.log()); !bytes.Contains(out, []byte("+++ exited with 6 +++")) {
		t.Errorf("the end is not in the log")
	}
}

// TestIgnoredSignals: what memtrace is started with as ignored ends neither it nor the
// program.
func TestIgnoredSignals(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	const script = `grep SigIgn /proc/self/status; : > ready; while ! [ -e go ]; do sleep 0.01; done; exit 4`
	r := p.start(t, "sh", "-c", `trap "" HUP INT TERM; exec "$@"`, "sh", binary(), "record", "-q", "-o", p.log(), "--", "bash", "-c", script)
	p.ready(t, "ready")
	for range 2 {
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
			if err := r.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.letGo(t)
	if out := r.wait(t); out != "SigIgn:\t0000000000004003\n" || r.cmd.ProcessState.ExitCode() != 4 {
		t.Errorf("%v, it wrote %q", r.cmd.ProcessState, out)
	}
	tell(t, 0, "verify", p.log())
}

// TestStopSignal: SIGSTKFLT ends a recording at once, and the program runs on.
func TestStopSignal(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	prog := compile(t, "group", "x86_64")
	r := p.start(t, binary(), "record", "-q", "-o", p.log(), "--", prog, "count", "0", "15", "count")
	p.counts(t, 0)
	if err := r.cmd.Process.Signal(syscall.SIGSTKFLT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		for _, pid := range p.inhabitants() {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err == nil && !bytes.Contains(status, []byte("TracerPid:\t0\n")) {
				return fmt.Errorf("process %d is traced", pid)
			}
		}
		return nil
	})
	if r.wait(t); len(p.inhabitants()) != 1 || len(r.output()) != 0 {
		t.Errorf("%v, %v live, it wrote %q", r.cmd.ProcessState, p.inhabitants(), r.output())
	}
	p.letGo(t)
	eventually(t, func() error {
		if out := r.output(); string(out) != "0\n" {
			return fmt.Errorf("it wrote %q", out)
		}
		return nil
	})
	p.quiet(t)
	tell(t, 0, "verify", p.log())
}

// TestStopSignalFiltered: with a filter the program needs memtrace, and so is recorded on.
func TestStopSignalFiltered(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	r := p.start(t, binary(), "record", "-q", "-e", "memory", "-o", p.log(), "--", compile(t, "group", "x86_64"), "count", "1", "15", "count")
	p.counts(t, 0)
	if err := r.cmd.Process.Signal(syscall.SIGSTKFLT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !bytes.Contains(r.output(), []byte("the recording goes on")) {
			return fmt.Errorf("it says %q", r.output())
		}
		return nil
	})
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.counts(t, 1)
	p.letGo(t)
	if out := r.wait(t); !strings.HasSuffix(out, "1\n") || r.cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("%v, it wrote %q", r.cmd.ProcessState, out)
	}
	tell(t, 0, "verify", p.log())
}

// TestPageTables: reservations of address space cost a recorded program no page tables.
func TestPageTables(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "reserve", "x86_64")
	first := true
	for _, size := range []string{"256", "65536"} {
		for _, prot := range []string{"none", "rw"} {
			if !longRun && (size == "256") != (prot == "rw") {
				continue
			}
			for _, end := range []string{"runs", "signal", "exits"} {
				p := newPlace(t)
				alone := kib(t, p.execute(t, patience, nil, prog, size, prot, end))
				for _, flags := range []string{"default", "interval=20ms", "signal", "exit", "step"} {
					if flags == "step" && end != "runs" || !first && !longRun && flags != "default" && flags != "interval=20ms" {
						continue
					}
					recorded := kib(t, p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "--snapshot", flags, "--", prog, size, prot, end))
					if recorded > alone+alone/10+200 {
						// Not one more: a larger reservation could take all of memory.
						t.Fatalf("%s GiB %s, %s, --snapshot %s: %d KiB of page tables, %d alone", size, prot, end, flags, recorded, alone)
					}
				}
				first = false
			}
		}
	}
}

func kib(t *testing.T, o *outcome) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(string(o.stdout)))
	if err != nil || o.status != 0 {
		t.Fatal(o)
	}
	return n
}

// TestOwnPast: what a program can ask about its own past is that of a process which a small
// shell has started, not memtrace's.
func TestOwnPast(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "usage", "static")
	p := newPlace(t)
	numbers := func(argv ...string) (rss, faults, usec int) {
		o := p.execute(t, patience, nil, argv...)
		var major int
		if _, err := fmt.Sscan(string(o.stdout), &rss, &faults, &major, &usec); err != nil {
			t.Fatalf("%v: %v", err, o)
		}
		return rss, faults, usec
	}
	aloneRSS, aloneFaults, _ := numbers("sh", "-c", prog+"; :")
	for _, flags := range []string{"", "-e memory"} {
		rss, faults, _ := numbers(append(append([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags)...), "--", prog)...)
		if rss > aloneRSS+400 || faults > aloneFaults+40 {
			t.Errorf("flags %q: %d KiB and %d page faults, %d and %d alone", flags, rss, faults, aloneRSS, aloneFaults)
		}
	}
}

// asRoot says that this process is another user's.
func asRoot() error {
	if uid := os.Getuid(); uid != 0 {
		return fmt.Errorf("the user is %d", uid)
	}
	return nil
}

// TestUnreadable: a program that its user may execute but not read is said to be one.
func TestUnreadable(t *testing.T) {
	require(t, "ptrace", tracing())
	setpriv := tool(t, "setpriv")
	require(t, "root", asRoot())
	p := newPlace(t)
	prog := filepath.Join(p.dir, "prog")
	b, err := os.ReadFile(compile(t, "usage", "static"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(prog, b, 0o711), os.Chmod(prog, 0o711), os.Chmod(p.dir, 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := p.execute(t, patience, nil, setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups",
		binary(), "record", "-q", "-o", p.log(), "--", prog)
	if o.status != 0 || !oneLineError.Match(o.stderr) {
		t.Errorf("no warning: %v", o)
	}
	if out := tell(t, 0, "replay", p.log()); !bytes.Contains(out, []byte("lost")) {
		t.Errorf("the log does not say it: %s", brief(out))
	}
	tell(t, 4, "replay", "--at", "0", "--maps", p.log())
}

// TestOddDirectories: names that are no UTF-8, and a program that is looked for from -C.
func TestOddDirectories(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	dir := filepath.Join(p.dir, "d\xe9j\\012\xe0\nx")
	b, err := os.ReadFile(compile(t, "usage", "static"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "pr\xffg"), b, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"--", filepath.Join(dir, "pr\xffg")},
		{"-C", dir, "--", "./pr\xffg"},
		{"-C", dir, "-e", "memory", "--", "./pr\xffg"},
		{"-C", filepath.Dir(dir), "--", filepath.Base(dir) + "/pr\xffg"},
	} {
		o := p.execute(t, patience, nil, append([]string{binary(), "record", "-q", "-o", p.log()}, argv...)...)
		if o.status != 0 || len(o.stdout) == 0 || len(o.stderr) != 0 {
			t.Errorf("%q: %v", argv, o)
		}
		tell(t, 0, "verify", p.log())
	}
	o := p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "-C", dir, "--", "pwd")
	if string(o.stdout) != dir+"\n" {
		t.Errorf("pwd: %v", o)
	}
}

// TestSmallLimits: limits that are too small for memtrace itself are an error of one line;
// soft ones are the program's. Fewer than 8 descriptors are too few for Go's runtime to begin
// (docs/adr/0038).
func TestSmallLimits(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	for _, limit := range []string{"-n 20", "-n 10", "-n 8", "-v 1000000", "-f 8", "-f 1"} {
		o := p.execute(t, patience, nil, "bash", "-c", "ulimit "+limit+`; exec "$@"`, "bash", binary(), "record", "-q", "-o", p.log(), "--", "/bin/true")
		if o.status.ExitStatus() != 125 || !oneLineError.Match(o.stderr) || bytes.Count(o.stderr, []byte("\n")) > 2 {
			t.Errorf("ulimit %s: %v", limit, o)
		}
	}
	for _, limit := range []string{"-n", "-v", "-f"} {
		value := map[string]string{"-n": "20", "-v": "1000000", "-f": "8"}[limit]
		o := p.execute(t, patience, nil, "bash", "-c", "ulimit -S "+limit+" "+value+`; exec "$@"`, "bash", binary(), "record", "-q", "-o", p.log(), "--",
			"bash", "-c", "ulimit -S "+limit)
		if o.status != 0 || string(o.stdout) != value+"\n" {
			t.Errorf("soft limit %s: %v", limit, o)
		}
		tell(t, 0, "verify", p.log())
	}
}

// TestForeignProc: a /proc that is not of memtrace's PID namespace, or none, is an error of
// one line.
func TestForeignProc(t *testing.T) {
	require(t, "ptrace", tracing())
	unshare := tool(t, "unshare")
	require(t, "root", asRoot())
	p := newPlace(t)
	record := binary() + " record -q -o " + p.log() + " -- /bin/true"
	for _, c := range []struct {
		status int
		argv   []string
	}{
		{125, []string{"-p", "-f", "sh", "-c", record + "; exit $?"}},
		{125, []string{"-m", "sh", "-c", "umount -l /proc; " + record}},
		{0, []string{"-p", "-f", "--mount-proc", "sh", "-c", record + "; exit $?"}},
	} {
		o := p.execute(t, patience, nil, append([]string{unshare}, c.argv...)...)
		if o.status.ExitStatus() != c.status || c.status != 0 && !oneLineError.Match(o.stderr) {
			t.Errorf("%q: %v", c.argv, o)
		}
	}
	tell(t, 0, "verify", p.log())
}

// TestRecorderMemory: a recorder keeps to the memory that docs/cli.md says, however many
// processes come and go.
func TestRecorderMemory(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	p := newPlace(t)
	done, end := filepath.Join(p.dir, "done"), filepath.Join(p.dir, "end")
	r := p.start(t, binary(), "record", "-q", "-o", p.log(), "--", "sh", "-c",
		"i=0; while [ $i -lt 2500 ]; do /bin/true; i=$((i+1)); done; : >"+done+"; while ! [ -e "+end+" ]; do sleep 0.1; done")
	eventually(t, func() error { _, err := os.Stat(done); return err })
	// ru_maxrss would count what the test had when it forked.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	if most, ok := proctext.Field(status, "VmHWM").Number(); !ok || most > 300<<10 {
		t.Errorf("the recorder had %d KiB", most)
	}
}
