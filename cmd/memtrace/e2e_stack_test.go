//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"memtrace/format"
)

// recordStacks records a command with -k=SET, without address space randomization, and opens
// the log.
func recordStacks(t *testing.T, set string, command ...string) (r *format.Reader, stdout string) {
	t.Helper()
	require(t, "ptrace", tracing())
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"-R", binary(), "record", "-q", "-k=" + set, "--follow=false", "--snapshot", "none", "--meminfo=off", "-o", log, "--"}
	c := exec.Command(tool(t, "setarch"), append(args, command...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, errs.Bytes())
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := format.Verify(bytes.NewReader(b), int64(len(b)), nil, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	if r, err = format.NewReader(bytes.NewReader(b), int64(len(b)), nil); err != nil {
		t.Fatal(err)
	}
	return r, out.String()
}

// pcs are the addresses of a stack in the process that it was taken in.
func pcs(t *testing.T, s *format.State, thread uint32, st *format.Stack) (out []string) {
	t.Helper()
	mm := s.MMs[s.Threads[thread].MM]
	for _, f := range st.Frames {
		pc := f.Offset
		if f.Mod != nil && f.Mod.Class != format.ModuleAnon {
			for v := range mm.VMAs.All() {
				if v.Name == f.Mod.Path && v.Offset <= f.Offset && f.Offset-v.Offset < v.Len() {
					pc = uint64(v.Start) + f.Offset - v.Offset
				}
			}
		}
		out = append(out, fmt.Sprintf("%x", pc))
	}
	return out
}

// TestStacks compares stacks with what a program's own unwinder says of them.
func TestStacks(t *testing.T) {
	for _, build := range []string{"x86_64", "i386", "static"} {
		t.Run(build, func(t *testing.T) {
			r, out := recordStacks(t, "mmap,mmap2", compile(t, "stacks", build), "say")
			var want [][]string
			for line := range strings.Lines(out) {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "stack "); ok {
					want = append(want, strings.Fields(rest))
				}
			}
			if len(want) < 9 || !strings.HasSuffix(out, "end\n") {
				t.Fatalf("the program says\n%s", out)
			}
			s := r.Initial()
			n := 0
			for e, err := range r.Events(0) {
				if err == nil {
					err = s.ApplyEvent(e)
				}
				if err != nil {
					t.Fatal(err)
				}
				c, ok := e.Record.(*format.Syscall)
				if !ok || c.Args[1] != 0x7000 || e.Stack == 0 {
					continue
				}
				st, err := r.Stack(e.Stack)
				if err != nil {
					t.Fatal(err)
				}
				if n == len(want) {
					t.Fatal("more stacks than the program had")
				}
				got := pcs(t, s, e.Thread, st)
				// The program's begin above the function that maps.
				at := slices.Index(got, want[n][0])
				if at < 0 || at > 4 {
					t.Errorf("stack %d: %v\nthe program says %v", n, got, want[n])
				} else if got = got[at:]; !slices.Equal(got, want[n]) && !begins(got, want[n], st) {
					t.Errorf("stack %d: %v, %v\nthe program says %v", n, got, st.End, want[n])
				}
				if st.End != format.StackComplete {
					t.Errorf("stack %d ends as %v", n, st.End)
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d stacks of %d", n, len(want))
			}
		})
	}
}

// begins reports whether the program's unwinder stopped early: at a call of nothing, which
// has no table.
func begins(got, want []string, st *format.Stack) bool {
	return len(want) < len(got) && slices.Equal(got[:len(want)], want) && slices.ContainsFunc(st.Frames, func(f format.Frame) bool { return f.Addr == 0 })
}

var straceFrame = regexp.MustCompile(`^ > ([^(]*)\(.*\) \[0x([0-9a-f]+)\]$`)

// TestStacksStrace compares the stacks of real programs with strace's, frame by frame.
func TestStacksStrace(t *testing.T) {
	require(t, "ptrace", tracing())
	strace, setarch := tool(t, "strace"), tool(t, "setarch")
	require(t, "strace", straceIs(strace, "6.1"))
	commands := [][]string{{"git", "--version"}, {"gcc", "--version"}, {"ls", "-l", "/usr"}}
	if os.Getenv("MEMTRACE_LONG") != "" { // strace takes 14 ms a stack
		commands = append(commands, []string{"python3", "-c", "import json, re; x = [bytearray(1 << 20) for i in range(20)]"})
	}
	for _, command := range commands {
		t.Run(filepath.Base(command[0]), func(t *testing.T) {
			path := tool(t, command[0])
			command := append([]string{path}, command[1:]...)
			log := filepath.Join(t.TempDir(), "strace")
			// Addresses must be the same, since some programs hash them.
			run := exec.Command(setarch, append([]string{"-R", strace, "-q", "-k", "-e", "trace=memory", "-e", "signal=none", "-o", log}, command...)...)
			if text, err := run.CombinedOutput(); err != nil {
				t.Fatalf("strace: %v\n%s", err, brief(text))
			}
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
				line := sc.Text()
				if m := straceFrame.FindStringSubmatch(line); m != nil {
					want[len(want)-1] += fmt.Sprintf("\n%s %s", m[1], m[2])
				} else if name, _, ok := strings.Cut(line, "("); ok && !strings.HasPrefix(line, " ") {
					want = append(want, name)
				}
			}
			r, _ := recordStacks(t, "memory", command...)
			var got []string
			for e, err := range r.Events(0) {
				if err != nil {
					t.Fatal(err)
				}
				c, ok := e.Record.(*format.Syscall)
				if !ok || e.Stack == 0 {
					continue
				}
				st, err := r.Stack(e.Stack)
				if err != nil {
					t.Fatal(err)
				}
				row, _ := c.Arch.Syscall(c.Nr)
				one := row.Name
				for _, f := range st.Frames {
					path := ""
					if f.Mod != nil {
						path = f.Mod.Path
					}
					one += "\n" + path + " " + strconv.FormatUint(f.Offset, 16)
				}
				got = append(got, one)
			}
			if len(want) < 10 {
				t.Fatalf("strace has %d stacks", len(want))
			}
			wrong := 0
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] && wrong < 3 {
					t.Errorf("stack %d: %s\n\nstrace: %s", i, got[i], want[i])
					wrong++
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d stacks, strace %d", len(got), len(want))
			}
		})
	}
}

// TestStackAt compares the stack of a crash as it was logged with what the snapshot of the same
// moment gives, and asks at a step that has neither.
func TestStackAt(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	src, prog, log := filepath.Join(dir, "a.c"), filepath.Join(dir, "a"), filepath.Join(dir, "log")
	text := "__attribute__((noinline)) static int inner(volatile int *p) { return *p + 1; }\n" +
		"__attribute__((noinline)) static int outer(int n) { volatile char b[100]; b[3] = n; return inner((int *)(long)(b[3] - n)) + b[3]; }\n" +
		"int main(void) { return outer(5) + 1; }\n"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool(t, "gcc"), "-g", "-O1", "-o", prog, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_ = exec.Command(binary(), "record", "-q", "-o", log, "--", prog).Run() // it crashes
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	crash := format.NoStep
	for e, err := range r.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := e.Record.(*format.Signal); ok && s.Fatal {
			crash = e.Step
		} else if e.Stack != 0 {
			t.Errorf("step %d has a stack without -k", e.Step)
		}
	}
	at := func(n format.Step) string {
		out, _ := exec.Command(binary(), "replay", "--at", strconv.FormatUint(uint64(n), 10), "--stack", log).Output()
		return string(out)
	}
	logged, unwound := at(crash), ""
	for n := crash + 1; n < r.Steps() && !strings.Contains(unwound, "unwound"); n++ { // the program does not run any more
		unwound = at(n)
	}
	_, frames, _ := strings.Cut(logged, "\n")
	for i, want := range []string{"(inner+0x", "(outer+0x", "(main+0x"} {
		lines := strings.Split(frames, "\n")
		if len(lines) <= i || !strings.Contains(lines[i], want) {
			t.Errorf("frame %d is not of %s:\n%s", i, want, logged)
		}
	}
	_, same, _ := strings.Cut(unwound, "\n")
	if !strings.Contains(logged, "(logged)") || !strings.Contains(unwound, "(unwound from the log)") || frames != same {
		t.Errorf("logged:\n%s\nunwound from the snapshot:\n%s", logged, unwound)
	}
	if other := at(crash - 1); !strings.Contains(other, "not in the log") {
		t.Errorf("at a step without a snapshot: %s", other)
	}
}

// TestStackConsole asks the live console for the stack before a call.
func TestStackConsole(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("break mmap\ncontinue\ncontinue\nstack\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary(), "record", "-q", "-o", filepath.Join(dir, "log"), "--exec-script", script, "--", compile(t, "stacks", "x86_64")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, stack, _ := strings.Cut(string(out), "\nthread ")
	if n := strings.Count(stack, "\n > "); n < 4 || !strings.Contains(stack, "(_start+0x") {
		t.Errorf("%d frames:\n%s", n, out)
	}
}

// TestStacksMusl follows stacks through a C library without unwind tables.
func TestStacksMusl(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	src, prog, log := filepath.Join(dir, "a.c"), filepath.Join(dir, "a"), filepath.Join(dir, "log")
	text := `#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
static void touch(void) { munmap(mmap(0, 0x7000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0x7000); }
static void handler(int s) { (void)s; touch(); }
static int compare(const void *a, const void *b) { touch(); return *(const int *)a - *(const int *)b; }
__attribute__((noinline)) int sorts(void) { int v[] = {2, 1}; qsort(v, 2, sizeof *v, compare); return v[0]; }
__attribute__((noinline)) int raises(void) { raise(SIGUSR1); return 1; }
int main(void) { signal(SIGUSR1, handler); return sorts() + raises() - 2; }
`
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{{"-O1"}, {"-O1", "-static"}, {"-O0", "-static"}, {"-O1", "-static", "-fno-asynchronous-unwind-tables"}} {
		args := append(slices.Clone(flags), "-o", prog, src)
		if out, err := exec.Command(tool(t, "musl-gcc"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := exec.Command(binary(), "record", "-q", "-k=mmap", "-o", log, "--", prog).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := exec.Command(binary(), "replay", "-k", "-e", "mmap", log).Output()
		if err != nil {
			t.Fatal(err)
		}
		var chains []string
		for _, one := range strings.Split(string(out), "mmap(NULL, 28672")[1:] {
			var names []string
			for _, m := range regexp.MustCompile(`\n [>?] [^\n]*/a\((\w+)\+0x`).FindAllStringSubmatch(one, -1) {
				names = append(names, m[1])
			}
			chains = append(chains, strings.Join(names, " ")+" ")
		}
		if len(chains) != 2 {
			t.Fatalf("%v: %d stacks:\n%s", flags, len(chains), out)
		}
		for i, want := range []string{" sorts main ", " raises main "} {
			if !strings.Contains(" "+chains[i], want) {
				t.Errorf("%v: stack %d goes through %q, not %q:\n%s", flags, i, chains[i], want, out)
			}
		}
	}
}

// cgo writes from Go that C called, which Go called, and from C; in main and in a goroutine.
const cgo = `package main

/*
#include <unistd.h>
extern void goBack(int);
__attribute__((noinline)) static void inC(int n) { if (n) goBack(n); else if (write(1, "c", 1) != 1) _exit(1); }
*/
import "C"
import "os"

//export goBack
func goBack(n C.int) { say(); C.inC(0) }

//go:noinline
func say() { os.Stdout.WriteString("g") }

//go:noinline
func outer() { C.inC(1) }

func main() {
	outer()
	done := make(chan bool)
	go func() { outer(); done <- true }()
	<-done
}
`

// TestStacksCgo follows stacks from Go to C and back.
func TestStacksCgo(t *testing.T) {
	require(t, "ptrace", tracing())
	tool(t, "gcc")
	for _, mode := range []string{"exe", "pie"} {
		if mode == "pie" && !longRun {
			break
		}
		dir := t.TempDir()
		for name, text := range map[string]string{"main.go": cgo, "go.mod": "module m\ngo 1.18\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		build := exec.Command("go", "build", "-buildmode="+mode, "-o", "prog", ".")
		build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		log := filepath.Join(dir, "log")
		if out, err := exec.Command(binary(), "record", "-q", "-k=write", "-o", log, "--", filepath.Join(dir, "prog")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := exec.Command(binary(), "replay", "-k", "-e", "write", log).Output()
		if err != nil {
			t.Fatal(err)
		}
		writes := strings.Split(string(out), " write(1")[1:]
		if len(writes) != 4 {
			t.Fatalf("%s: %d writes:\n%s", mode, len(writes), out)
		}
		for i, w := range writes {
			want := "say goBack _Cfunc_inC.abi0 outer main goexit"
			if i%2 == 1 {
				want = "inC _Cfunc_inC.abi0 goBack _Cfunc_inC.abi0 outer main goexit"
			}
			if i >= 2 {
				want = strings.Replace(want, "main", "main.func1", 1)
			}
			var got []string
			for _, m := range regexp.MustCompile(`/prog\((?:main\.)?(runtime\.goexit|inC|say|goBack|outer|main(?:\.func1)?|_Cfunc_inC\.abi0)[+.]`).FindAllStringSubmatch(w, -1) {
				got = append(got, strings.TrimPrefix(m[1], "runtime."))
			}
			if g := strings.Join(got, " "); g != want || strings.Contains(w, "cut:") {
				t.Errorf("%s: write %d goes through %q, not %q:\n%s", mode, i, g, want, w)
			}
		}
	}
}

// interrupted is a program whose signal handler says what the compiler's own unwinder finds,
// wherever a timer interrupts it: also in prologues, stubs of the PLT and the vdso.
const interrupted = `#define _GNU_SOURCE
#include <execinfo.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile int count;
static volatile double sink;
static void handler(int sig)
{
	(void)sig;
	void *at[200];
	int n = backtrace(at, 200);
	char line[4096];
	int k = sprintf(line, "stack");
	for (int i = 1; i < n; i++)
		k += sprintf(line + k, " %lx", (unsigned long)at[i]);
	line[k++] = '\n';
	getppid();
	if (write(1, line, k) != k)
		_exit(1);
	count++;
}
static int cmp(const void *a, const void *b) { return strcmp(a, b); }
__attribute__((noinline)) static int rec(int n, const char *s)
{
	char b[64];
	snprintf(b, 60, "%d %s", n, s);
	return n == 0 ? strtol(b, 0, 10) : rec(n - 1, b) + b[3];
}
int main(void)
{
	void *at[10];
	backtrace(at, 10);
	signal(SIGPROF, handler);
	struct itimerval t = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_PROF, &t, 0);
	static char s[100][16];
	while (count < 150) {
		for (int i = 0; i < 100; i++)
			sprintf(s[i], "%d", rand() % 1000);
		qsort(s, 100, 16, cmp);
		sink += sin(s[3][0]) + pow(1.1, s[4][1]) + rec(10, s[5]) + strtod(s[7], 0) + time(0) + strlen(s[9]);
		free(malloc(rand() % 5000));
	}
	return 0;
}
`

// build compiles a program of C for a test.
func build(t *testing.T, compiler, text string, flags ...string) (prog string) {
	t.Helper()
	dir := t.TempDir()
	src, prog := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-o", prog, src}, flags...)
	if out, err := exec.Command(tool(t, compiler), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", flags, err, out)
	}
	return prog
}

// TestStacksInterrupted compares the stacks of a program that is interrupted anywhere with what
// its own unwinder says.
func TestStacksInterrupted(t *testing.T) {
	for _, flags := range [][]string{{"-O2"}, {"-O2", "-static"}, {"-O3", "-flto", "-static-pie"}, {"-O2", "-Wl,-z,lazy", "-fcf-protection=none"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			r, out := recordStacks(t, "getppid", build(t, "gcc", interrupted, append(flags, "-lm")...))
			var want [][]string
			for line := range strings.Lines(out) {
				want = append(want, strings.Fields(line)[1:])
			}
			if len(want) < 150 {
				t.Fatalf("the program was interrupted %d times", len(want))
			}
			s := r.Initial()
			n, further := 0, 0
			for e, err := range r.Events(0) {
				if err == nil {
					err = s.ApplyEvent(e)
				}
				if err != nil {
					t.Fatal(err)
				}
				if e.Stack == 0 || n == len(want) {
					continue
				}
				st, err := r.Stack(e.Stack)
				if err != nil {
					t.Fatal(err)
				}
				got := pcs(t, s, e.Thread, st)
				at := slices.Index(got, want[n][0]) // where the handler returns to
				switch {
				case at < 0 || at > 3 || len(got)-at < len(want[n]) || !slices.Equal(got[at:at+len(want[n])], want[n]) || st.End != format.StackComplete:
					t.Errorf("stack %d: %v, %v\nthe program says %v", n, got, st.End, want[n])
				case len(got)-at > len(want[n]):
					further++ // the program's unwinder stopped where no table says how to go on
					if how := st.Frames[at+len(want[n])].How; how != format.FrameCode {
						t.Errorf("stack %d: %v goes on by %v, the program's stops: %v", n, got, how, want[n])
					}
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d stacks of %d", n, len(want))
			}
			t.Logf("%d of %d go further than the program's own", further, n)
		})
	}
}

// TestStacksCoroutine: stacks that a program made itself end where it began them.
func TestStacksCoroutine(t *testing.T) {
	text := `#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>
static ucontext_t all, one, other;
static char s1[1 << 16], s2[1 << 16];
__attribute__((noinline)) static int work(int n) { getppid(); int k = n ? work(n - 1) : 0; getppid(); return k + n; }
static void first(int n) { work(n); swapcontext(&one, &other); work(1); }
static void second(void) { work(2); swapcontext(&other, &one); abort(); }
static void begin(ucontext_t *c, char *s) { getcontext(c); c->uc_stack.ss_sp = s; c->uc_stack.ss_size = 1 << 16; c->uc_link = &all; }
int main(void)
{
	begin(&one, s1);
	makecontext(&one, (void (*)(void))first, 1, 2);
	begin(&other, s2);
	makecontext(&other, second, 0);
	swapcontext(&all, &one);
	return work(1) != 1;
}
`
	for _, flags := range [][]string{{"-O1"}, {"-O1", "-m32"}, {"-O1", "-static"}} {
		r, _ := recordStacks(t, "getppid", build(t, "gcc", text, flags...))
		var depths []int
		for e, err := range r.Events(0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Stack == 0 {
				continue
			}
			st, err := r.Stack(e.Stack)
			if err != nil {
				t.Fatal(err)
			}
			if st.End != format.StackComplete {
				t.Errorf("%v: stack %d ends as %v after %d frames", flags, len(depths), st.End, len(st.Frames))
			}
			for _, f := range st.Frames {
				if f.How != format.FrameCFI {
					t.Errorf("%v: stack %d has a frame by %v", flags, len(depths), f.How)
				}
			}
			depths = append(depths, len(st.Frames))
		}
		// Each call of work is one frame deeper; below it are its function, and what that
		// returns to.
		for i, deeper := range []int{0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1, 1, 0} {
			if len(depths) != 20 || depths[i] != depths[0]+deeper {
				t.Fatalf("%v: the stacks have %v frames", flags, depths)
			}
		}
	}
}

// TestStacksDebugLink follows stacks through a stripped program without unwind tables, by those of
// the debug file beside it, and not by those of another program's.
func TestStacksDebugLink(t *testing.T) {
	text := `#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static volatile int zero;
__attribute__((noinline)) static int varies(int n) { char b[n * 16 + 1]; memset(b, zero, n); getppid(); return b[n]; }
__attribute__((noinline)) static void never(int n) { char b[200]; memset(b, n, 200); varies(b[3]); getppid(); exit(zero); }
static int compare(const void *a, const void *b) { varies(3); return *(const int *)a - *(const int *)b; }
int main(void) { int v[] = {2, 1, ADD}; qsort(v, 2, sizeof *v, compare); never(5); }
`
	objcopy, strip := tool(t, "objcopy"), tool(t, "strip")
	frames := func(prog string) (out []string) {
		r, _ := recordStacks(t, "getppid", prog)
		for e, err := range r.Events(0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Stack == 0 {
				continue
			}
			st, err := r.Stack(e.Stack)
			if err != nil {
				t.Fatal(err)
			}
			one := st.End.String()
			for _, f := range st.Frames {
				one += fmt.Sprintf(" %x/%v", f.Offset, f.How)
			}
			out = append(out, one)
		}
		return out
	}
	for _, id := range []string{"sha1", "none"} {
		flags := []string{"-g", "-O2", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=" + id}
		prog, other := build(t, "gcc", text, append(flags, "-DADD=3")...), build(t, "gcc", text, append(flags, "-DADD=4")...)
		want := frames(prog)
		for i, s := range want {
			if !strings.HasPrefix(s, "complete ") || strings.Contains(strings.ReplaceAll(s, "/cfi", ""), "/") {
				t.Errorf("%s: stack %d by .debug_frame: %s", id, i, s)
			}
		}
		if len(want) != 3 {
			t.Fatalf("%d stacks", len(want))
		}
		debug := filepath.Join(filepath.Dir(prog), ".debug", "a.debug")
		if err := os.Mkdir(filepath.Dir(debug), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{objcopy, "--only-keep-debug", prog, debug}, {strip, prog}, {objcopy, "--add-gnu-debuglink=" + debug, prog}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		if got := frames(prog); !slices.Equal(got, want) {
			t.Errorf("%s: with a debug file\n%s\nnot stripped\n%s", id, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if out, err := exec.Command(objcopy, "--only-keep-debug", other, debug).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := frames(prog); slices.Equal(got, want) || !strings.Contains(strings.Join(got, "\n"), "no rule") {
			t.Errorf("%s: the debug file of another program is used:\n%s", id, strings.Join(got, "\n"))
		}
	}
}
