//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// memtraceRun runs the built program, which must succeed, and returns what it
// wrote to stdout and stderr.
func memtraceRun(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	c := exec.Command(binary(), args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("memtrace %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

func gdb(t *testing.T, prog, core string, commands ...string) string {
	t.Helper()
	args := []string{"-nx", "-batch"}
	for _, c := range commands {
		args = append(args, "-ex", c)
	}
	// Its status says whether the last command failed: what it says is judged.
	out, _ := exec.Command(tool(t, "gdb"), append(args, prog, core)...).CombinedOutput()
	return string(out)
}

// TestCore opens with gdb what a log knows in the middle of a recursion.
func TestCore(t *testing.T) {
	for _, build := range []string{"x86_64", "i386"} {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			require(t, "ptrace", tracing())
			tool(t, "gdb")
			prog := compile(t, "recurse", build)
			p := newPlace(t)
			o := p.execute(t, patience, nil, binary(), "record", "-q", "--snapshot", "exec,syscall=getppid", "-o", p.log(), "--", prog)
			if o.status != 0 {
				t.Fatal(o)
			}
			list, _ := memtraceRun(t, "replay", p.log(), "-e", "getppid")
			m := regexp.MustCompile(`(?m)^ *(\d+) .*getppid\(\)`).FindStringSubmatch(list)
			if m == nil {
				t.Fatalf("no getppid in\n%s", list)
			}
			n, _ := strconv.Atoi(m[1])
			core := filepath.Join(p.dir, "core")
			_, notes := memtraceRun(t, "export", p.log(), "--to", "core", "--at", fmt.Sprint(n), "-o", core)
			if strings.Contains(notes, "registers") || strings.Contains(notes, "auxiliary") {
				t.Errorf("export said %s", notes)
			}
			out := gdb(t, prog, core, "bt", "info proc mappings", "thread apply all bt", "frame function descend", "print *self", "print $xmm7.v2_double[0]")
			var want []string
			for d := 7; d <= 12; d++ {
				want = append(want, fmt.Sprintf(` in descend \(n=(n@entry=)?%d, up=.*\) at .*recurse\.c:\d+`, d))
			}
			want = append(want, ` in main \(\) at .*recurse\.c`)
			rest := out
			for _, w := range want {
				at := regexp.MustCompile(`(?m)^#\d+ .*` + w).FindStringIndex(rest)
				if at == nil {
					t.Fatalf("no frame %s in\n%s", w, out)
				}
				rest = rest[at[1]:]
			}
			for _, w := range []string{
				`(?m)^[ \t]+0x[0-9a-f]+ +0x[0-9a-f]+ .*` + regexp.QuoteMeta(prog), `libc\.so`, // mappings
				`(?s)Thread 2 .*#\d+ .* in waiter \(p=0x0\) at `, `depth = 7, up = 0x[0-9a-f]+, text = "the node"`, `= 3\.25`,
			} {
				if !regexp.MustCompile(w).MatchString(out) {
					t.Errorf("nothing that matches %s in\n%s", w, out)
				}
			}
			// Before the call the log has the memory at the exec, and of the heap
			// nothing.
			before := fmt.Sprint(n - 1)
			_, notes = memtraceRun(t, "export", p.log(), "--to", "core", "--at", before, "-o", core)
			if !strings.Contains(notes, "as of step") || !strings.Contains(notes, "not in the log: the core leaves them out") {
				t.Errorf("export said %s", notes)
			}
			maps, _ := memtraceRun(t, "replay", p.log(), "--at", before, "--maps")
			m = regexp.MustCompile(`(?m)^([0-9a-f]+)-.*\[heap\]$`).FindStringSubmatch(maps)
			if m == nil {
				t.Fatalf("no heap in\n%s", maps)
			}
			if out := gdb(t, prog, core, "x/4gx 0x"+m[1]); !strings.Contains(out, "Cannot access memory at address 0x"+strings.TrimLeft(m[1], "0")) {
				t.Errorf("memory that is not in the log:\n%s", out)
			}
		})
	}
}

// TestCoreOfSignal: a process that is about to be killed has its signal in the
// core, and its threads' order.
func TestCoreOfSignal(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	o := p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "--", "/bin/sh", "-c", "kill -SEGV $$")
	if o.status == 0 {
		t.Fatal(o)
	}
	list, _ := memtraceRun(t, "replay", p.log())
	m := regexp.MustCompile(`(?m)^ *(\d+) --- SIGSEGV`).FindStringSubmatch(list)
	if m == nil {
		t.Fatalf("no SIGSEGV in\n%s", list)
	}
	core := filepath.Join(p.dir, "core")
	n, _ := strconv.Atoi(m[1])
	memtraceRun(t, "export", p.log(), "--to", "core", "--at", fmt.Sprint(n), "-o", core)
	if st, err := os.Stat(core); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("core: %v %v", st, err)
	}
	out := gdb(t, "/bin/sh", core, "print $_siginfo.si_signo", "bt")
	if !strings.Contains(out, "terminated with signal SIGSEGV") || !strings.Contains(out, "$1 = 11") {
		t.Errorf("gdb said\n%s", out)
	}
}

// TestCoreWithoutStep: without a step it is the process as the signal that killed it
// found it, with the registers of all threads, though the log goes on until the last
// of them has ended.
func TestCoreWithoutStep(t *testing.T) {
	require(t, "ptrace", tracing())
	tool(t, "gdb")
	prog := compile(t, "killed", "x86_64")
	p := newPlace(t)
	p.execute(t, patience, nil, binary(), "record", "-q", "-o", p.log(), "--", prog)
	for _, how := range [][]string{{"export", p.log(), "--to", "core"}, {"dump", p.log(), "--core"}} {
		core := filepath.Join(p.dir, how[0])
		_, notes := memtraceRun(t, append(how, "-o", core)...)
		if strings.Contains(notes, "registers") || strings.Contains(notes, "as of step") {
			t.Errorf("%s said %s", how[0], notes)
		}
		out := gdb(t, prog, core, "info threads", "print $_siginfo.si_signo", "bt", "thread apply all bt")
		for _, w := range []string{"terminated with signal SIGABRT", "$1 = 6", " in main () at "} {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in what gdb said:\n%s", how[0], w, out)
			}
		}
		if n := strings.Count(out, " in sleeper ("); n != 3 {
			t.Errorf("%s: %d sleepers in what gdb said:\n%s", how[0], n, out)
		}
		if n := strings.Count(out, " in descend (n="); n != 12 { // in both lists
			t.Errorf("%s: %d frames in what gdb said:\n%s", how[0], n, out)
		}
	}
}

// TestCoreOfFault: the address of a fault, frames, and vector registers that have
// not changed since an earlier snapshot.
func TestCoreOfFault(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386", "static"} {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			prog := compile(t, "fault", build)
			p := newPlace(t)
			p.execute(t, patience, nil, binary(), "record", "-q", "--snapshot", "signal,syscall=getppid", "-o", p.log(), "--", prog)
			list, _ := memtraceRun(t, "replay", p.log())
			m := regexp.MustCompile(`(?m)^ *(\d+) (\[pid .*\] )?--- SIGSEGV`).FindStringSubmatch(list)
			if m == nil {
				t.Fatalf("no SIGSEGV in\n%s", list)
			}
			core := filepath.Join(p.dir, "core")
			memtraceRun(t, "export", p.log(), "--to", "core", "--at", m[1], "-o", core)
			out := gdb(t, prog, core, "bt", "print $_siginfo._sifields._sigfault.si_addr", "print $xmm7.v2_double[0]")
			if strings.Count(out, " descend (n=") < 6 || !strings.Contains(out, "= (void *) 0x1234") || !strings.Contains(out, "= 3.25") {
				t.Errorf("gdb said\n%s", out)
			}
		})
	}
}

const recurseGo = `package main

import (
	"os"
	"syscall"
)

type node struct {
	depth int
	next  *node
}

//go:noinline
func descend(n int, up *node) int {
	self := &node{n, up}
	if n == 3 {
		syscall.Getppid()
	}
	if n == 0 {
		return self.depth
	}
	return descend(n-1, self) + 1
}

func main() { os.Exit(descend(6, nil) - 6) }
`

// TestCoreOfGo: a core of a Go program, opened by delve or else by gdb.
func TestCoreOfGo(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	prog := buildGo(t, "recurse", recurseGo, "-gcflags=-N -l")
	o := p.execute(t, patience, nil, binary(), "record", "-q", "--snapshot", "exec,syscall=getppid", "-o", p.log(), "--", prog)
	if o.status != 0 {
		t.Fatal(o)
	}
	list, _ := memtraceRun(t, "replay", p.log(), "-e", "getppid")
	m := regexp.MustCompile(`(?m)^ *(\d+) .*getppid\(\)`).FindStringSubmatch(list)
	if m == nil {
		t.Fatalf("no getppid in\n%s", list)
	}
	n, _ := strconv.Atoi(m[1])
	core := filepath.Join(p.dir, "core")
	_, notes := memtraceRun(t, "export", p.log(), "--to", "core", "--at", fmt.Sprint(n), "-o", core)
	if strings.Contains(notes, "registers") {
		t.Errorf("not all threads have registers: %s", notes)
	}
	var out, frame string
	if dlv, err := exec.LookPath("dlv"); err == nil {
		c := exec.Command(dlv, "core", prog, core, "--allow-non-terminal-interactive=true", "--check-go-version=false")
		c.Stdin = strings.NewReader("bt\nframe 3\nprint *self\nquit\n")
		b, _ := c.CombinedOutput()
		out, frame = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(string(b), ""), "depth: 4"
	} else {
		out, frame = gdb(t, prog, core, "bt", "frame 3", "print *self"), "depth = 4"
	}
	if strings.Count(out, "main.descend") < 4 || !strings.Contains(out, "main.main") || !strings.Contains(out, frame) {
		t.Errorf("the debugger said\n%s", out)
	}
}
