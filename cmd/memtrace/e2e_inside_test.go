//go:build linux

package main

import (
	"bytes"
	le "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"memtrace/format/addr"
	"memtrace/record/inproc"
)

// withoutInside takes memtrace's own mappings out of what a program has read of its
// address space.
func withoutInside(maps []byte) (own []byte) {
	for line := range bytes.Lines(maps) {
		if !bytes.HasSuffix(line, []byte(" /memfd:memtrace-inside (deleted)\n")) {
			own = append(own, line...)
		}
	}
	return own
}

// recordsInside skips a test on a machine on which programs cannot record their calls.
func recordsInside(t *testing.T) {
	t.Helper()
	require(t, "ptrace", tracing())
	if why := inproc.Missing(); why != "" {
		t.Skip(why)
	}
}

// seesInside are programs that print their mappings, or mark a step at which the stack has
// grown in the middle of a function: that is in the log with the next stop.
var seesInside = []string{"self", "stack"}

// quickInside are those that are run not only in the long tests.
var quickInside = []string{"blocked", "brk", "calls", "exec", "family", "files", "fds", "known", "mmap", "sandbox", "signals"}

// TestProgramsInside runs the programs of testdata/progs with their calls recorded inside,
// wherever that can be done.
func TestProgramsInside(t *testing.T) {
	recordsInside(t)
	for _, p := range programs(t) {
		if slices.Contains(seesInside, p.name) {
			continue
		}
		if p.name == "race" {
			p.runs = p.runs[:1] // each takes a minute
		}
		for i, args := range p.runs {
			t.Run(strings.Join(append([]string{p.name}, args...), "-"), func(t *testing.T) {
				if i > 0 || !slices.Contains(quickInside, p.name) {
					long(t)
				}
				if !p.alone {
					t.Parallel()
				}
				argv := append([]string{compile(t, p.name, p.builds[0])}, args...)
				pl := newPlace(t)
				pl.maps = true // their memory is saved at marks by policies that leave the calls to stops
				_, say := pl.compare(t, patience, []string{"-q", "--check", "--in-process=always"}, nil, argv...)
				if say != "" {
					t.Logf("memtrace said: %s", say)
				}
				checkMarks(t, pl)
			})
		}
	}
}

// What differs between two recordings of one program, whichever way they were made.
var (
	someAddress = regexp.MustCompile(`0x[0-9a-f]{6,16}|\b[0-9]{4,}\b`)
	ofTheMoment = regexp.MustCompile(`^(getrandom|sysinfo|fstatfs|statfs|getrusage|times|clock_gettime|set_tid_address|getpid|getppid|gettid|getpgrp|rseq)\(`)
)

// linesOf are the lines of a log's text, without what differs from run to run.
func linesOf(t *testing.T, log string, flags ...string) (lines []string) {
	t.Helper()
	text, err := exec.Command(binary(), append([]string{"replay", log}, flags...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ") // its number
		if m := ofTheMoment.FindStringSubmatch(line); m != nil {
			line = m[1]
		}
		lines = append(lines, someAddress.ReplaceAllString(line, "N"))
	}
	return lines
}

// TestInsideAsByStops records programs both ways: the logs have the same calls, with the
// same results, data and names.
func TestInsideAsByStops(t *testing.T) {
	recordsInside(t)
	for _, c := range []struct {
		flags string
		argv  []string
	}{
		{"", []string{"find", "/usr/include", "-name", "*.h"}},
		{"-e getdents64,newfstatat", []string{"find", "/usr/include/linux"}},
		{"-k=mmap,openat", []string{"find", "/usr/include/linux"}},
		{"", []string{"dd", "if=/dev/zero", "of=out", "bs=100", "count=3000", "status=none"}},
		{"", []string{"bash", "-c", `for i in 1 2 3 4 5 6 7 8 9; do echo line $i >> text; read x < text; [ -e text$i ]; done; cd /; umask`}},
		{"", []string{"tar", "cf", "archive.tar", "/usr/include/linux", "--warning=no-unknown-keyword"}},
		{"", []string{"/usr/bin/python3", "-c", "import os\nfor d, _, fs in os.walk('/usr/include/linux'):\n  for f in sorted(fs)[:40]: open(os.path.join(d, f)).read()"}},
	} {
		t.Run(filepath.Base(c.argv[0])+c.flags, func(t *testing.T) {
			t.Parallel()
			tool(t, c.argv[0])
			p := newPlace(t)
			var texts [2]string
			for i, how := range []string{"off", "always"} {
				argv := slices.Concat([]string{binary(), "record", "-q", "--snapshot=none", "--meminfo=off", "--in-process=" + how, "-o", p.log()}, strings.Fields(c.flags), []string{"--"}, c.argv)
				if o := p.execute(t, patience, []string{"PYTHONHASHSEED=0"}, argv...); o.status != 0 {
					t.Fatalf("--in-process=%s: %v", how, o)
				}
				texts[i] = strings.Join(linesOf(t, p.log(), "-k"), "\n")
			}
			if byStops, inside := texts[0], texts[1]; byStops != inside {
				t.Errorf("-by stops +inside\n%s", lineDiff([]byte(byStops), []byte(inside)))
			}
			if info, err := exec.Command(binary(), "info", p.log()).Output(); err != nil || bytes.Contains(info, []byte("recorded inside       0.0%")) {
				t.Errorf("%v: no call was recorded inside\n%s", err, info)
			}
		})
	}
}

// byThread are the calls of each thread that are not about another, in an order that does
// not depend on who was first.
func byThread(t *testing.T, log string) (threads []string) {
	t.Helper()
	text, err := exec.Command(binary(), "replay", log).Output()
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]*strings.Builder{}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(line, "] ", 2)
		if len(fields) < 2 {
			continue
		}
		_, tid, _ := strings.Cut(fields[0], "[pid ")
		name, _, _ := strings.Cut(fields[1], "(")
		if slices.Contains([]string{"pread64", "stat", "lseek", "mmap", "munmap"}, name) {
			if of[tid] == nil {
				of[tid] = &strings.Builder{}
			}
			of[tid].WriteString(someAddress.ReplaceAllString(fields[1], "N"))
		}
	}
	for _, b := range of {
		threads = append(threads, b.String())
	}
	slices.Sort(threads)
	return threads
}

// TestInsideThreads records a program both ways whose threads make the same calls each time:
// each thread has them in the log, in its order.
func TestInsideThreads(t *testing.T) {
	recordsInside(t)
	prog := compile(t, "inside", "x86_64")
	var logs [2][]string
	for i, how := range []string{"off", "always"} {
		p := newPlace(t)
		o := p.execute(t, patience, nil, binary(), "record", "-q", "--in-process="+how, "-o", p.log(), "--", prog, "lines")
		if o.status != 0 {
			t.Fatalf("--in-process=%s: %v", how, o)
		}
		logs[i] = byThread(t, p.log())
	}
	if len(logs[0]) < 5 || !slices.Equal(logs[0], logs[1]) {
		t.Errorf("%d threads by stops, %d inside -by stops +inside\n%s", len(logs[0]), len(logs[1]),
			lineDiff([]byte(strings.Join(logs[0], "\n")), []byte(strings.Join(logs[1], "\n"))))
	}
}

// TestInsideOutlives kills the recorder of a program that records its calls: the program goes
// on, and comes to its end as without one.
func TestInsideOutlives(t *testing.T) {
	recordsInside(t)
	prog := compile(t, "inside", "x86_64")
	rounds, died := 2, 0
	if longRun {
		rounds = 30
	}
	for i := range rounds {
		p := newPlace(t)
		ready, end := filepath.Join(p.dir, "ready"), filepath.Join(p.dir, "end")
		argv := []string{prog, "outlives", ready, end}
		if i%2 == 1 {
			argv = append(argv, "handles") // SIGSYS itself
		}
		said, err := os.Create(filepath.Join(p.dir, "said"))
		if err != nil {
			t.Fatal(err)
		}
		defer said.Close()
		c := exec.Command(binary(), append([]string{"record", "-q", "--in-process=always", "-o", p.log(), "--"}, argv...)...)
		c.Stdout, c.Stderr = said, said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { _, err := os.Stat(ready); return err })
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		if err := os.WriteFile(end, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var text []byte
		eventually(t, func() error {
			runs := exec.Command("pgrep", "-f", ready).Run() == nil
			if text, err = os.ReadFile(said.Name()); err == nil && len(text) == 0 && runs {
				err = errors.New("the program has said nothing")
			}
			return err
		})
		switch string(text) {
		case "outlives: all registers as they were\n":
		case "": // it has died of its recorder's death, in the middle of a stop (docs/inprocess.md)
			died++
		default:
			t.Errorf("the program has said %q", text)
		}
	}
	// Of 150 none has died on a busy machine, but there are moments in which they do.
	if died > 1 {
		t.Errorf("%d of %d programs have died", died, rounds)
	}
}

// TestInsideStands stops the recorder at any moment, and looks at where the threads stand: none
// is in the middle of what replaces a call, where it would die if the recorder did.
func TestInsideStands(t *testing.T) {
	recordsInside(t)
	require(t, "root", asRoot())
	prog := compile(t, "inside", "x86_64")
	p := newPlace(t)
	ready, end := filepath.Join(p.dir, "ready"), filepath.Join(p.dir, "end")
	r := p.start(t, binary(), "record", "-q", "--in-process=always", "-o", p.log(), "--", prog, "outlives", ready, end)
	eventually(t, func() error { _, err := os.Stat(ready); return err })
	seen, bad, rounds := 0, 0, 50
	if longRun {
		rounds = 400
	}
	for range rounds {
		time.Sleep(time.Duration(rand.IntN(3_000)) * time.Microsecond)
		if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		for _, pid := range p.inhabitants() {
			if pid != r.cmd.Process.Pid {
				s, b := inMiddle(pid)
				seen, bad = seen+s, bad+b
			}
		}
		if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	if out := string(r.output()); out != "outlives: all registers as they were\n" {
		t.Errorf("the program has said %q", out)
	}
	if t.Logf("%d threads stood", seen); seen < 20 || bad > 0 {
		t.Errorf("of %d threads that stood %d were in the middle of a jump", seen, bad)
	}
}

// inMiddle counts the threads of a process that stand in user code, and of those the ones that
// stand at the third byte of a jump, which is a breakpoint.
func inMiddle(pid int) (seen, bad int) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, 0
	}
	defer mem.Close()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, name := range tasks {
		text, err := os.ReadFile(name) // proc(5): the last number is the instruction pointer
		fields := strings.Fields(string(text))
		if err != nil || len(fields) < 2 {
			continue
		}
		ip, err := strconv.ParseInt(fields[len(fields)-1], 0, 64)
		var code [3]byte
		if _, failed := mem.ReadAt(code[:], ip-2); err != nil || failed != nil {
			continue
		}
		if seen++; code[0] == 0xe9 && code[2] == 0xcc {
			bad++
		}
	}
	return seen, bad
}

// TestInsideKilled kills a program that records its calls: the log has those that it had
// made, and no others.
func TestInsideKilled(t *testing.T) {
	t.Parallel()
	recordsInside(t)
	prog := compile(t, "counted", "x86_64")
	for i := range 5 {
		p := newPlace(t)
		count := filepath.Join(p.dir, "count")
		if err := os.WriteFile(count, make([]byte, addr.PageSize), 0o644); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(binary(), "record", "-q", "--in-process=always", "-o", p.log(), "--", prog, count)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		made := func() uint64 {
			b, err := os.ReadFile(count)
			if err != nil {
				t.Fatal(err)
			}
			return le.LittleEndian.Uint64(b)
		}
		eventually(t, func() error {
			if made() < uint64(1000+20000*i) {
				return errors.New("it does not make its calls")
			}
			return nil
		})
		pids, err := exec.Command("pgrep", "-P", strconv.Itoa(c.Process.Pid), "-x", "counted-x86_64").Output()
		if err != nil {
			t.Fatalf("the program is not there: %v", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(pids)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		returned := uint64(0)
		for _, line := range linesOf(t, p.log()) {
			if strings.HasPrefix(line, "getppid") {
				returned++
			}
		}
		// It may have been killed between a call and counting it, or in one that is not over.
		if n := made(); returned < n || returned > n+1 {
			t.Errorf("it had made %d calls, and the log has %d", n, returned)
		}
	}
}

// TestInsideSaysWhy looks whether info says what was recorded inside, and why not all was.
func TestInsideSaysWhy(t *testing.T) {
	recordsInside(t)
	const file = "dd if=/dev/zero of=/dev/null bs=1 count=500 status=none"
	for _, c := range []struct {
		name, flags, prog, why string
		least                  float64
	}{
		{"all", "", file, "", 80},
		{"every", "--snapshot=every=100", file, "memory is saved at calls (--snapshot)", 0},
		{"dispatch", "", compile(t, "dispatch", "x86_64"), "it has its calls dispatched itself", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			argv := append([]string{binary(), "record", "-q", "--in-process=always", "-o", p.log()}, strings.Fields(c.flags)...)
			if o := p.execute(t, patience, nil, append(append(argv, "--"), strings.Fields(c.prog)...)...); o.status != 0 {
				t.Fatal(o)
			}
			out, err := exec.Command(binary(), "info", "--format=json", p.log()).Output()
			if err != nil {
				t.Fatal(err)
			}
			var info struct {
				Share  *float64 `json:"calls_recorded_inside"`
				Inside []struct{ Why string }
			}
			if err := json.Unmarshal(out, &info); err != nil {
				t.Fatal(err)
			}
			if info.Share == nil || *info.Share < c.least || len(info.Inside) == 0 || info.Inside[0].Why != c.why {
				t.Errorf("%s", out)
			}
		})
	}
}
