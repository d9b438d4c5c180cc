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
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// realPrograms are programs that somebody uses, with the tool that a machine may
// lack. Their output is the same every time.
var realPrograms = []struct {
	name, needs string
	argv        []string
	long        bool
}{
	{"ls", "", []string{"ls", "-la", "/proc/sys/kernel/random/boot_id"}, false},
	{"ls-empty", "", []string{"ls"}, false},
	{"false", "", []string{"false"}, false},
	{"pipeline", "", []string{"bash", "-c", "find /usr/lib | sort | tail -1"}, true},
	{"subshells", "", []string{"bash", "-c", `for i in $(seq 40); do (echo $i; exit $i) | cat; done; wait; exit 3`}, true},
	{"signals", "", []string{"bash", "-c", `trap 'echo usr1' USR1; kill -USR1 $$; sleep 1000 & kill -TERM $!; wait $!; echo $?`}, false},
	{"python", "python3", []string{"python3", "-c", "import json, threading, subprocess, hashlib\n" +
		"t = [threading.Thread(target=lambda: hashlib.sha256(b'x' * 1000000).hexdigest()) for _ in range(8)]\n" +
		"[x.start() for x in t]; [x.join() for x in t]\n" +
		"print(json.dumps({str(i): 'x' * i for i in range(50)}), subprocess.check_output(['echo', 'hi']))"}, false},
	{"gcc", "gcc", []string{"gcc", "-O1", "-c", "hello.c", "-o", "hello.o"}, false},
	{"git", "git", []string{"bash", "-c", "git init -q . && git -c user.name=a -c user.email=b commit -q --allow-empty -m first && git log --format=%s"}, true},
	{"node", "node", []string{"node", "-e", "let m = new Map(); for (let i = 0; i < 100000; i++) m.set(i, 'v' + i); console.log(m.size)"}, true},
	{"make", "make", []string{"make", "-s", "-j4"}, true},
	{"java", "java", []string{"bash", "-c", "java -Xshare:auto -version 2>&1 | wc -l"}, true},
	{"go", "", []string{"./static"}, false},
}

const staticGo = `package main

import (
	"fmt"
	"runtime"
	"sync"
)

func main() {
	var wg sync.WaitGroup
	sums := make([]int, 200)
	for i := range sums {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b := make([][]byte, 0)
			for j := range 100 {
				b = append(b, make([]byte, 1000+j))
				if j%10 == 0 {
					runtime.Gosched()
				}
			}
			for _, x := range b {
				sums[i] += len(x)
			}
		}()
	}
	wg.Wait()
	runtime.GC()
	fmt.Println(sums[0], sums[199], runtime.NumCPU(), runtime.GOMAXPROCS(0))
}
`

// TestRealPrograms: the same output and status as without memtrace, and a log
// that every command can read.
func TestRealPrograms(t *testing.T) {
	goProgram := buildGo(t, "static", staticGo)
	for _, p := range realPrograms {
		t.Run(p.name, func(t *testing.T) {
			if p.long {
				long(t)
			}
			t.Parallel()
			require(t, "ptrace", tracing())
			if p.needs != "" {
				tool(t, p.needs)
			}
			pl := newPlace(t)
			argv := p.argv
			switch p.name {
			case "go":
				argv = []string{goProgram}
			case "gcc", "make":
				// run directories are made anew: what they need is made there
				script := "printf '#include <stdio.h>\\nint main(void){return 0;}\\n' > hello.c && exec \"$@\""
				if p.name == "make" {
					script = "for i in 1 2 3 4 5 6 7 8; do printf 'int f%d(int x){return x*%d;}\\n' $i $i > $i.c; done; " +
						"printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\t@echo linked $(words $^)\\n' > Makefile && exec \"$@\""
				}
				argv = append([]string{"bash", "-c", script, "sh"}, argv...)
			}
			flags := []string{"-q", "--check"}
			if _, say := pl.compare(t, patience, flags, nil, argv...); say != "" {
				t.Logf("memtrace said: %s", say)
			}
			checkMarks(t, pl)
			readable(t, pl.log())
		})
	}
}

// buildGo builds a Go program, statically, and returns its path.
func buildGo(t *testing.T, name, source string, flags ...string) string {
	t.Helper()
	prog := filepath.Join(scratch(), name)
	if err := os.WriteFile(prog+".go", []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", append(append([]string{"build", "-o", prog}, flags...), prog+".go")...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return prog
}

// tell runs memtrace and returns its standard output; a status other than want
// fails the test.
func tell(t *testing.T, want int, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary(), args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	_ = c.Run()
	if got := c.ProcessState.ExitCode(); got != want {
		t.Errorf("memtrace %s: exit status %d, not %d\n%s", strings.Join(args, " "), got, want, brief(stderr.Bytes()))
	}
	if want != 0 && !oneLineError.Match(stderr.Bytes()) {
		t.Errorf("memtrace %s: not an error of one line: %s", strings.Join(args, " "), brief(stderr.Bytes()))
	}
	return stdout.Bytes()
}

var oneLineError = regexp.MustCompile(`^(memtrace: [^\n]+\n)+$`)

// readable asks every command that reads logs about one.
func readable(t *testing.T, log string) {
	t.Helper()
	tell(t, 0, "verify", log)
	if out := tell(t, 0, "info", log); len(out) == 0 {
		t.Error("info says nothing")
	}
	lines := 0
	for line := range bytes.Lines(tell(t, 0, "replay", log, "--json")) {
		lines++
		var v struct {
			Step *uint64
			Type string
		}
		if err := json.Unmarshal(line, &v); err != nil || v.Step == nil || v.Type == "" {
			t.Errorf("replay --json: line %d: %v: %s", lines, err, brief(line))
			break
		}
	}
	if lines == 0 {
		t.Error("replay --json says nothing")
	}
	var list struct{ Rows []struct{ Name string } }
	if err := json.Unmarshal(tell(t, 0, "report", "list", "--format", "json"), &list); err != nil || len(list.Rows) == 0 {
		t.Errorf("report list: %d reports, %v", len(list.Rows), err)
	}
	for _, r := range list.Rows {
		name := r.Name
		formats := []string{"table", "json", "csv", "markdown"}
		if !longRun {
			formats = formats[1:2]
		}
		for _, format := range formats {
			out := tell(t, 0, "report", log, name, "--format", format)
			if format == "json" && !json.Valid(out) {
				t.Errorf("report %s: no JSON: %s", name, brief(out))
			}
		}
	}
}

// TestStress runs stress-ng's stressors of what memtrace looks at.
func TestStress(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	path := tool(t, "stress-ng")
	for _, s := range []string{"vm", "mmap", "fork", "vfork", "clone", "pthread", "signal", "shm", "exec", "brk", "mremap", "madvise", "memfd"} {
		t.Run(s, func(t *testing.T) {
			pl := newPlace(t)
			// --timeout ends it; --oomable and small sizes keep the machine alive
			argv := []string{path, "--" + s, "1", "--timeout", "1", "--oomable", "--temp-path", "."}
			switch s {
			case "vm", "mmap", "shm", "mremap", "memfd":
				argv = append(argv, "--"+s+"-bytes", "4m")
			}
			o := pl.execute(t, patience, nil, argv...)
			if o.status.ExitStatus() != 0 {
				require(t, "stress-ng", fmt.Errorf("%s fails alone: %v", s, o))
			}
			o = pl.execute(t, patience, nil, append([]string{binary(), "record", "-q", "--check", "-o", pl.log(), "--"}, argv...)...)
			if o.status.ExitStatus() != 0 {
				t.Errorf("%v", o)
			}
			pl.quiet(t)
			checkMarks(t, pl)
		})
	}
}

// TestPipe: the log on a pipe, and read from one.
func TestPipe(t *testing.T) {
	require(t, "ptrace", tracing())
	pl := newPlace(t)
	o := pl.execute(t, patience, nil, "bash", "-o", "pipefail", "-c", `"$0" record -o - -- ls / | "$0" info -`, binary())
	if o.status != 0 || !bytes.Contains(o.stdout, []byte("ls")) {
		t.Errorf("%v", o)
	}
	// a reader that goes away costs the program nothing
	o = pl.execute(t, patience, nil, "bash", "-c",
		`"$0" record -o - -- bash -c 'for i in $(seq 200); do /bin/true; done; echo done > done; exit 5' | head -c 10 > /dev/null; echo "${PIPESTATUS[0]}"`, binary())
	if strings.TrimSpace(string(o.stdout)) != "5" {
		t.Errorf("closed pipe: %v", o)
	}
	if _, err := os.Stat(filepath.Join(pl.run(), "done")); err != nil {
		t.Errorf("closed pipe: the program did not come to its end: %v", err)
	}
}

// TestExitStatus: the program's exit status is memtrace's, every one of them, and so
// is the signal that kills it.
func TestExitStatus(t *testing.T) {
	require(t, "ptrace", tracing())
	end := compile(t, "end", "x86_64")
	type way struct {
		how string
		n   int
	}
	var ways []way
	for n := range 256 {
		ways = append(ways, way{"status", n})
	}
	for n := 1; n <= 64; n++ {
		switch syscall.Signal(n) {
		case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, 32, 33:
		default:
			ways = append(ways, way{"signal", n})
		}
	}
	for _, n := range []int{0, 1, 77, 255} {
		ways = append(ways, way{"thread", n}, way{"leader", n})
	}
	if !longRun {
		n := 0
		ways = slices.DeleteFunc(ways, func(way) bool { n++; return n%6 != 0 })
	}
	for part := range 4 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for i := part; i < len(ways); i += 4 {
				w := ways[i]
				var got [2]syscall.WaitStatus
				for j, argv := range [][]string{{end}, {binary(), "record", "-q", "-o", "/dev/null", "--", end}} {
					c := exec.Command(argv[0], append(argv[1:], w.how, fmt.Sprint(w.n))...)
					_ = c.Run()
					got[j] = c.ProcessState.Sys().(syscall.WaitStatus)
				}
				if got[0] != got[1] {
					t.Errorf("%s %d: %s alone, %s recorded", w.how, w.n, statusText(got[0]), statusText(got[1]))
				}
			}
		})
	}
}

// TestExitFailures: what is said, and by which status, when nothing can be run.
func TestExitFailures(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("not a program\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	for _, c := range []struct {
		status int
		args   []string
	}{
		{127, []string{"record", "-o", log, "--", "no-such-program-anywhere"}},
		{127, []string{"record", "-o", log, "--", filepath.Join(dir, "missing")}},
		{126, []string{"record", "-o", log, "--", plain}},
		{126, []string{"record", "-o", log, "--", dir}},
		{125, []string{"record", "-o", filepath.Join(dir, "no", "dir", "log"), "--", "true"}},
		{125, []string{"record", "-C", filepath.Join(dir, "missing"), "-o", log, "--", "true"}},
		{125, []string{"record", "-p", "999999999", "-o", log}},
		{2, []string{"record", "--no-such-flag"}},
		{2, []string{"record"}},
		{2, []string{"record", "-e", "no_such_call", "--", "true"}},
		{2, []string{"record", "--snapshot", "sometimes", "--", "true"}},
		{2, []string{"no-such-command"}},
		{1, []string{"replay", filepath.Join(dir, "missing")}},
		{1, []string{"info", plain}},
	} {
		tell(t, c.status, c.args...)
	}
	if _, err := os.Stat(log); err == nil {
		t.Error("a log was left that nothing was recorded in")
	}
}

// TestFullDisk: the program goes on, the log can be read up to there.
func TestFullDisk(t *testing.T) {
	require(t, "ptrace", tracing())
	if os.Getuid() != 0 {
		require(t, "root", fmt.Errorf("only root can make a small file system"))
	}
	pl := newPlace(t)
	small := filepath.Join(pl.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		require(t, "root", fmt.Errorf("mounting a small file system: %w", err))
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	log := filepath.Join(small, "log")
	argv := []string{"bash", "-c", "for i in $(seq 300); do /bin/true $i; done; find /usr/share | wc -l; exit 9"}
	plain := pl.execute(t, patience, nil, argv...)
	o := pl.execute(t, patience, nil, append([]string{binary(), "record", "-o", log, "--"}, argv...)...)
	if o.status != plain.status || !bytes.Equal(o.stdout, plain.stdout) {
		t.Errorf("alone %v\nrecorded %v", plain, o)
	}
	if !bytes.Contains(o.stderr, []byte("no space left")) {
		t.Errorf("memtrace does not say that the disk is full: %s", brief(o.stderr))
	}
	pl.quiet(t)
	tell(t, 0, "recover", log, "-o", filepath.Join(pl.dir, "whole"))
	tell(t, 0, "verify", filepath.Join(pl.dir, "whole"))
	if n := bytes.Count(tell(t, 0, "replay", filepath.Join(pl.dir, "whole")), []byte("\n")); n < 100 {
		t.Errorf("only %d events on a disk of 256 KiB", n)
	}
	// one that was always full is found out before the program starts
	tell(t, 125, "record", "-o", "/dev/full", "--", "touch", filepath.Join(pl.dir, "ran"))
	if _, err := os.Stat(filepath.Join(pl.dir, "ran")); err == nil {
		t.Error("/dev/full: the program was run")
	}
}
