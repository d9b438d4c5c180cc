//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"memtrace/record/recordtest"
)

// The tests of this file and its sisters (e2e_*_test.go) run the built program
// on real ones. docs/testing.md says what they need and how they are judged.

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // most of them wait most of the time
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
	// What the tests were started with as ignored (by nohup, by a shell in the background)
	// would be so for each program. A handler of ours is not handed on.
	for sig := syscall.Signal(1); sig < 32; sig++ {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	status := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(status)
}

// atEnd is done when all tests have run.
var atEnd []func()

// prebuilt is a directory that holds memtrace and the programs of testdata/progs
// as NAME-BUILD, for a machine that cannot build them (testdata/oldkernel.sh).
var prebuilt = os.Getenv("MEMTRACE_PREBUILT")

// lab is what all of them share: a directory that is removed at the end, and in
// it the program under test.
var lab = sync.OnceValue(func() string {
	if prebuilt != "" {
		return prebuilt
	}
	dir, err := os.MkdirTemp("", "memtrace-e2e-")
	if err != nil {
		panic(err)
	}
	atEnd = append(atEnd, func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // programs of other users run there
		panic(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "memtrace"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("building memtrace: %v\n%s", err, out))
	}
	return dir
})

func scratch() string { return lab() }
func binary() string  { return filepath.Join(lab(), "memtrace") }

// require skips a test on a machine without what, unless $MEMTRACE_REQUIRE says
// that it is there.
func require(t *testing.T, what string, err error) {
	t.Helper()
	recordtest.Require(t, what, err)
}

// longRun says whether to run what takes long too, as .ci/run does.
var longRun = os.Getenv("MEMTRACE_LONG") != ""

// long skips a test that takes long.
func long(t *testing.T) {
	t.Helper()
	if !longRun {
		t.Skip("takes long: MEMTRACE_LONG=1 runs it")
	}
}

// patience is how long a test waits for what takes a moment on an idle machine. It
// only ends tests that would wait for ever: nothing is judged by how long it takes.
const patience = 3 * time.Minute

// eventually waits until check has nothing to say.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(begun) > patience {
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// tool skips a test on a machine without a program, and returns its path.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require(t, name, err)
	return path
}

var tracing = sync.OnceValue(func() error {
	out, err := exec.Command(binary(), "record", "-q", "-o", "/dev/null", "--", "/bin/true").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// outcome is what a program did, as far as anybody outside can see.
type outcome struct {
	stdout, stderr []byte
	status         syscall.WaitStatus
	took           time.Duration
}

func (o *outcome) String() string {
	return fmt.Sprintf("%s, stdout %s, stderr %s", statusText(o.status), brief(o.stdout), brief(o.stderr))
}

func statusText(s syscall.WaitStatus) string {
	if s.Signaled() {
		return fmt.Sprintf("killed by signal %d", s.Signal())
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}

func brief(b []byte) string {
	if len(b) > 400 {
		b = append(append(slices.Clip(b[:200]), " ... "...), b[len(b)-200:]...)
	}
	return strconv.Quote(string(b))
}

// place is a directory to run programs in. Both runs of a program are given the
// same names for everything: it is where they are that differs in time.
type place struct {
	dir   string // holds out, err and run
	older bool   // what the log has of its memory at a mark may be of a step before
	maps  bool   // only the mappings are compared at marks
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, err := os.MkdirTemp(scratch(), "run-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("MEMTRACE_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return &place{dir: dir}
}

func (p *place) run() string   { return filepath.Join(p.dir, "run") }
func (p *place) marks() string { return filepath.Join(p.dir, "marks") }
func (p *place) log() string   { return filepath.Join(p.dir, "log") }

// execute runs argv in a fresh run directory and returns what it did. Output
// goes to files: a program that looks sees the same ones each time, and a daemon
// that keeps them open keeps nobody waiting.
func (p *place) execute(t *testing.T, limit time.Duration, env []string, argv ...string) *outcome {
	t.Helper()
	for _, d := range []string{p.run(), p.marks()} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if prebuilt != "" {
		limit *= 8 // that machine may be emulated
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = p.run()
	c.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C",
		"MARK_DIR=" + p.marks(), "PWD=" + p.run(),
	}, env...)
	var o outcome
	var files [2]*os.File
	for i, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	c.Stdout, c.Stderr = files[0], files[1]
	begun := time.Now()
	err := c.Run()
	o.took = time.Since(begun)
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) && ctx.Err() == nil {
		t.Fatal(err)
	}
	o.status = c.ProcessState.Sys().(syscall.WaitStatus)
	for i, b := range []*[]byte{&o.stdout, &o.stderr} {
		if *b, err = os.ReadFile(files[i].Name()); err != nil {
			t.Fatal(err)
		}
	}
	if ctx.Err() != nil {
		p.end()
		t.Fatalf("%s: not done after %v; %v", strings.Join(argv, " "), limit, &o)
	}
	return &o
}

// inhabitants are the processes that have their working directory below p.
func (p *place) inhabitants() []int {
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, n := range names {
		to, err := os.Readlink(n)
		if err == nil && strings.HasPrefix(to, p.dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(n)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// end ends what a failed test has left behind.
func (p *place) end() {
	for range 1000 {
		pids := p.inhabitants()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// quiet fails the test if any process is still there that was started in p.
func (p *place) quiet(t *testing.T) {
	t.Helper()
	var pids []int
	for begun := time.Now(); time.Since(begun) < patience; {
		if pids = p.inhabitants(); len(pids) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, pid := range pids {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		t.Errorf("process %d is left behind:\n%s", pid, status)
	}
	p.end()
}

// said takes the lines that memtrace itself wrote out of a standard error, and
// returns both.
func said(stderr []byte) (program, recorder []byte) {
	for line := range bytes.Lines(stderr) {
		if bytes.HasPrefix(line, []byte("memtrace: ")) {
			recorder = append(recorder, line...)
		} else {
			program = append(program, line...)
		}
	}
	return program, recorder
}

// compare runs a program without and with memtrace, which must make no
// difference to it, and returns what it did under memtrace and what that said.
func (p *place) compare(t *testing.T, limit time.Duration, flags, env []string, argv ...string) (*outcome, string) {
	t.Helper()
	plain := p.execute(t, limit, env, argv...)
	if plain.status.ExitStatus() == 77 {
		t.Skipf("%s", plain.stderr)
	}
	// What goes on in the background must not meddle with the second run.
	for len(p.inhabitants()) > 0 && limit > 0 {
		time.Sleep(10 * time.Millisecond)
		limit -= 10 * time.Millisecond
	}
	traced := p.execute(t, limit, env, slices.Concat([]string{binary(), "record", "-o", p.log()}, flags, []string{"--"}, argv)...)
	program, recorder := said(traced.stderr)
	if traced.status != plain.status {
		t.Errorf("%s alone, %s under memtrace; stderr %s, memtrace said %s",
			statusText(plain.status), statusText(traced.status), brief(program), brief(recorder))
	}
	if !bytes.Equal(plain.stdout, traced.stdout) {
		t.Errorf("stdout differs: -alone +recorded\n%s", lineDiff(plain.stdout, traced.stdout))
	}
	if !bytes.Equal(plain.stderr, program) {
		t.Errorf("stderr differs: -alone +recorded\n%s", lineDiff(plain.stderr, program))
	}
	p.quiet(t)
	t.Logf("alone %v, recorded %v", plain.took.Round(time.Millisecond), traced.took.Round(time.Millisecond))
	return traced, string(recorder)
}

// lineDiff shows the lines in which two texts differ, without what they share at
// both ends.
func lineDiff(a, b []byte) string {
	as, bs := slices.Collect(bytes.Lines(a)), slices.Collect(bytes.Lines(b))
	for len(as) > 0 && len(bs) > 0 && bytes.Equal(as[0], bs[0]) {
		as, bs = as[1:], bs[1:]
	}
	for len(as) > 0 && len(bs) > 0 && bytes.Equal(as[len(as)-1], bs[len(bs)-1]) {
		as, bs = as[:len(as)-1], bs[:len(bs)-1]
	}
	var w bytes.Buffer
	for _, side := range []struct {
		mark  string
		lines [][]byte
	}{{"-", as}, {"+", bs}} {
		for i, l := range side.lines {
			if i == 20 {
				fmt.Fprintf(&w, "%s ... %d more\n", side.mark, len(side.lines)-i)
				break
			}
			fmt.Fprintf(&w, "%s%s", side.mark, l)
		}
	}
	return w.String()
}
