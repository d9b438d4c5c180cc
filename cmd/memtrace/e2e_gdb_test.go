//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
)

// changing changes a number between sleeps, leaves poison on its stack, has a call write into
// memory, and ends at a null pointer.
const changing = `#include <string.h>
#include <time.h>
#include <unistd.h>
volatile long counter;
char *nothing;
char text[64];
__attribute__((noinline)) static void nap(void) { struct timespec t = {0, 20000000}; nanosleep(&t, 0); }
__attribute__((noinline)) static int poison(int n)
{
	volatile char room[512];
	memset((void *)room, 0xee, sizeof room);
	return n ? poison(n - 1) + room[n] : room[7];
}
__attribute__((noinline)) static void bump(long v) { poison(3); counter = v; nap(); }
int main(void)
{
	int p[2];
	if (pipe(p))
		return 1;
	for (long i = 1; i <= 5; i++) {
		bump(i * 11);
		if (write(p[1], "0123456", 7) != 7 || read(p[0], text + i, 7) != 7)
			return 1;
	}
	return *nothing;
}
`

// waiting has threads that wait in two ways when one of them dies; with an argument a child
// dies first.
const waiting = `#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
int fds[2], mine = 5;
__attribute__((noinline)) static int waits(long k)
{
	volatile char room[256];
	char c;
	memset((void *)room, 0xee, sizeof room);
	if (k % 2)
		return read(fds[0], &c, 1) + room[k];
	return pthread_mutex_lock(&mutex) + room[k];
}
static void *run(void *arg) { return (void *)(long)waits((long)arg); }
int main(int argc, char **argv)
{
	pthread_t t;
	(void)argv;
	if (pipe(fds) || pthread_mutex_lock(&mutex))
		return 1;
	if (argc > 1) {
		pid_t pid = fork();
		if (pid == 0) {
			mine = 6;
			usleep(20000);
			abort();
		}
		waitpid(pid, 0, 0);
	}
	for (long k = 0; k < 4; k++)
		pthread_create(&t, 0, run, (void *)k);
	usleep(100000);
	*(volatile int *)8 = 1;
	return 0;
}
`

// gdbLog builds a program and records it.
func gdbLog(t *testing.T, text string, flags []string, args ...string) (log, prog string) {
	t.Helper()
	require(t, "ptrace", tracing())
	tool(t, "gdb")
	dir := t.TempDir()
	src := filepath.Join(dir, "a.c")
	log, prog = filepath.Join(dir, "log"), filepath.Join(dir, "prog")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool(t, "gcc"), append(append([]string{"-g", "-O1", "-pthread"}, flags...), "-o", prog, src)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	record := []string{"record", "-q", "--snapshot", "exec,exit,signal,syscall=clock_nanosleep", "-o", log, "--", prog}
	_ = exec.Command(binary(), append(record, args...)...).Run() // it dies of a signal
	return log, prog
}

// inGDB has gdb carry out commands on a log.
func inGDB(t *testing.T, flags []string, log string, commands ...string) string {
	t.Helper()
	args := append([]string{"gdb"}, flags...)
	args = append(args, log, "--", "-nx", "-batch", "-ex", "set width 0", "-ex", "set debuginfod enabled off")
	for _, c := range commands {
		args = append(args, "-ex", "echo \\n> "+strings.ReplaceAll(c, "\\", "\\\\")+"\\n", "-ex", c)
	}
	out, err := exec.Command(binary(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// answers cuts what gdb said at the commands.
func gdbAnswers(out string) (answers []string) {
	for _, part := range strings.Split(out, "\n> ")[1:] {
		_, answer, _ := strings.Cut(part, "\n")
		answers = append(answers, answer)
	}
	return answers
}

// frames are the functions of a backtrace with their arguments.
var gdbFrame = regexp.MustCompile(`(?m)^#\d+ +(?:0x[0-9a-f]+ in )?(\w+ \([^)]*\))`)

func gdbFrames(text string) (out []string) {
	for _, m := range gdbFrame.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// TestGDBCrash looks at a crash in gdb: its stack is that of the core, and a watchpoint finds
// each value that a variable had, backwards and forwards.
func TestGDBCrash(t *testing.T) {
	log, prog := gdbLog(t, changing, nil)
	core := filepath.Join(t.TempDir(), "core")
	if out, err := exec.Command(binary(), "export", "--to", "core", "-o", core, log).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ofCore, _ := exec.Command(tool(t, "gdb"), "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "bt", prog, core).CombinedOutput()
	commands := []string{"bt", "info registers rip", "watch -l counter"}
	for range 5 {
		commands = append(commands, "reverse-continue", "bt")
	}
	for range 5 {
		commands = append(commands, "continue")
	}
	a := gdbAnswers(inGDB(t, nil, log, commands...))
	if want := slices.Compact(gdbFrames(string(ofCore))); len(want) == 0 || !slices.Equal(gdbFrames(a[0]), want) {
		t.Errorf("the stack of the crash is\n%s\nthat of the core\n%s", a[0], ofCore)
	}
	for i := range 4 { // the counter is 55 at the crash
		text, bt := a[3+2*i], gdbFrames(a[4+2*i])
		if want := fmt.Sprintf("Old value = %d\nNew value = %d\n", 55-11*i, 44-11*i); !strings.Contains(text, want) || !strings.Contains(text, "changed between steps") {
			t.Errorf("change %d backwards: want %q\n%s", i, want, text)
		}
		if n := len(bt); n < 4 || bt[n-1] != "main ()" || !strings.HasPrefix(bt[n-2], fmt.Sprintf("bump (v=v@entry=%d)", 44-11*i)) || !strings.HasPrefix(bt[n-3], "nap") {
			t.Errorf("change %d backwards: the stack is %q", i, bt)
		}
	}
	if text := a[11]; !strings.Contains(text, "Old value = 11\nNew value = 0\n") {
		t.Errorf("the first change:\n%s", text)
	}
	for i := range 5 {
		if text, want := a[13+i], fmt.Sprintf("Old value = %d\nNew value = %d\n", 11*i, 11*i+11); !strings.Contains(text, want) {
			t.Errorf("change %d forwards: want %q\n%s", i, want, text)
		}
	}
}

// TestGDBUnknown asks gdb for what the log does not know: it is not there, and nothing can be
// changed.
func TestGDBUnknown(t *testing.T) {
	log, _ := gdbLog(t, changing, nil)
	out := inGDB(t, nil, log, "catch syscall read", "reverse-continue", "bt", "info registers", "x/8xb $sp", "x/7s text+5",
		"print counter = 7", "set var $rip = 0", "p counter", "monitor threads", "monitor asof $sp", "monitor stale on", "stepi", "reverse-stepi", "x/8xb $sp-64", "monitor step?",
		"continue", "goto-step 0", "monitor step?")
	a := gdbAnswers(out)
	if !strings.Contains(a[1], "returned from syscall read") || !strings.Contains(a[1], "memtrace: step ") {
		t.Errorf("reverse-continue to a call:\n%s", a[1])
	}
	if bt := gdbFrames(a[2]); len(bt) != 1 || !strings.Contains(a[2], "read") {
		t.Errorf("frames were made up: %q\n%s", bt, a[2])
	}
	if !regexp.MustCompile(`(?m)^rbp +<unavailable>`).MatchString(a[3]) || !regexp.MustCompile(`(?m)^rax +0x7 `).MatchString(a[3]) || !regexp.MustCompile(`(?m)^rdx +0x7 `).MatchString(a[3]) {
		t.Errorf("registers after read of 7 bytes:\n%s", a[3])
	}
	if !strings.Contains(a[4], "Cannot access memory") {
		t.Errorf("an old stack is shown:\n%s", a[4])
	}
	if !strings.Contains(a[5], `"0123456"`) {
		t.Errorf("what the call wrote:\n%s", a[5])
	}
	if !strings.Contains(a[6], "Cannot access memory") || !strings.Contains(a[7], "Could not write register") || !strings.Contains(a[8], " = 55") {
		t.Errorf("the past was changed:\n%s%s%s", a[6], a[7], a[8])
	}
	if !strings.Contains(a[9], "in read") {
		t.Errorf("monitor threads:\n%s", a[9])
	}
	if strings.Contains(a[14], "Cannot access memory") || !strings.Contains(a[11], "frames may be wrong") {
		t.Errorf("monitor stale on: %s%s", a[11], a[14])
	}
	if !strings.Contains(a[16], "SIGSEGV") {
		t.Errorf("continue to the end:\n%s", a[16])
	}
	if !strings.Contains(a[18], "step 0 of ") || !strings.Contains(a[18], "execve(") {
		t.Errorf("goto-step 0:\n%s", a[18])
	}
}

// TestGDBThreads looks at threads that wait while one dies, also of i386 and static programs.
func TestGDBThreads(t *testing.T) {
	for name, flags := range map[string][]string{"pie": nil, "static": {"-static", "-no-pie"}, "i386": {"-m32"}} {
		t.Run(name, func(t *testing.T) {
			if name == "i386" {
				require(t, "m32", m32())
			}
			log, _ := gdbLog(t, waiting, flags)
			a := gdbAnswers(inGDB(t, nil, log, "bt", "thread apply all bt", "info threads"))
			if bt := gdbFrames(a[0]); len(bt) != 1 || !strings.HasPrefix(bt[0], "main (") {
				t.Errorf("the crash is in %q\n%s", bt, a[0])
			}
			for k := range 4 {
				if want := fmt.Sprintf(`waits \(k=(k@entry=)?%d\)`, k); !regexp.MustCompile(want).MatchString(a[1]) {
					t.Errorf("no thread in %s:\n%s", want, a[1])
				}
			}
			if n := strings.Count(a[2], "Thread "); n != 5 || strings.Count(a[2], "(in futex)") != 2 || strings.Count(a[2], "(in read)") != 2 {
				t.Errorf("%d threads:\n%s", n, a[2])
			}
		})
	}
}

// TestGDBProcess shows gdb a child that died before its parent.
func TestGDBProcess(t *testing.T) {
	log, _ := gdbLog(t, waiting, nil, "fork")
	out, err := exec.Command(binary(), "report", log, "processes", "--format", "csv").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	pid, _, _ := strings.Cut(lines[2], ",")
	a := gdbAnswers(inGDB(t, []string{"--pid", pid}, log, "bt", "p mine", "info proc mappings"))
	if !strings.Contains(a[0], "abort") || !strings.Contains(a[0], "main (") || !strings.Contains(a[1], " = 6") || !strings.Contains(a[2], "[heap]") && !strings.Contains(a[2], "/prog") {
		t.Errorf("process %s:\n%s", pid, strings.Join(a, "\n"))
	}
}

// TestGDBExec stays in the program that gdb knows, and says where the other one is.
func TestGDBExec(t *testing.T) {
	_, prog := gdbLog(t, changing, nil)
	log := filepath.Join(t.TempDir(), "log")
	_ = exec.Command(binary(), "record", "-q", "-o", log, "--", tool(t, "sh"), "-c", "exec "+prog).Run() // it dies of a signal
	a := gdbAnswers(inGDB(t, nil, log, "bt", "reverse-continue", "monitor step?", "goto-step 0", "monitor processes"))
	if bt := gdbFrames(a[0]); len(bt) != 1 || bt[0] != "main ()" {
		t.Errorf("the crash: %q", bt)
	}
	if !strings.Contains(a[1], "the process ran another program (process ") || !strings.Contains(a[2], "now runs") || !strings.Contains(a[3], "shows another") || !strings.Contains(a[4], "(this one)") {
		t.Errorf("at the exec:\n%s", strings.Join(a, "\n"))
	}
	a = gdbAnswers(inGDB(t, []string{"--at", "0"}, log, "info inferiors", "continue"))
	if !strings.Contains(a[1], "goes on to another program") {
		t.Errorf("before the exec:\n%s", strings.Join(a, "\n"))
	}
}

// family has two children that change the same number differently, of which the second dies while the first and one that
// runs another program are there.
const family = `#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
volatile int mine = 1;
int ready[2], over[2]; /* are closed when the other program runs, and when the second child is dead */
static void nap(int ms) { struct timespec t = {0, ms * 1000000}; nanosleep(&t, 0); }
static void await(int fd) { char c; if (read(fd, &c, 1) != 0) _exit(2); }
__attribute__((noinline)) static void child(int n)
{
	close(ready[1]), close(over[1]);
	for (int i = 1; i <= 3; i++) {
		mine = n * 10 + i;
		nap(30);
	}
	await(ready[0]);
	if (n == 2)
		abort();
	await(over[0]);
	_exit(0);
}
int main(int argc, char **argv)
{
	pid_t pids[3];
	if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(over, O_CLOEXEC) != 0)
		return 1;
	for (int n = 1; n <= 2; n++)
		if ((pids[n] = fork()) == 0)
			child(n);
	if (argc > 1 && vfork() == 0) {
		dup2(over[0], 0);
		execl(argv[1], argv[1], (char *)0);
		_exit(1);
	}
	mine = 7;
	close(ready[1]);
	waitpid(pids[2], 0, 0);
	close(over[1]);
	while (wait(0) > 0)
		;
	mine = 8;
	nap(20);
	*(volatile int *)8 = 1;
	return 0;
}
`

// familyLog records family, and returns the processes of the log and their last steps: the program, its two children, and
// cat, which is of x86_64 whatever the others are.
func familyLog(t *testing.T, flags []string) (log string, pids, last []string) {
	t.Helper()
	log, _ = gdbLog(t, family, flags, tool(t, "cat"))
	out, err := exec.Command(binary(), "report", log, "processes", "--format", "csv").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(out), "\n")[1:5] {
		f := strings.Split(line, ",")
		pids, last = append(pids, f[0]), append(last, f[3])
	}
	return log, pids, last
}

// TestGDBInferiors has all processes of a log side by side in gdb: each is itself at every step, or said not to be there.
func TestGDBInferiors(t *testing.T) {
	for name, flags := range map[string][]string{"x86_64": nil, "i386": {"-m32"}} {
		t.Run(name, func(t *testing.T) {
			if name == "i386" {
				require(t, "m32", m32())
			}
			log, pids, _ := familyLog(t, flags)
			a := gdbAnswers(inGDB(t, []string{"--all"}, log, "info inferiors", "p mine", "info threads", "goto-step crash", "inferior 3", "bt", "p mine", "inferior 2", "p mine", "inferior 4", "p mine",
				"show architecture", "inferior 3", "watch mine", "reverse-continue", "inferior 1", "delete", "continue", "continue", "inferior 3", "p mine", "info registers rip eip", "detach", "attach "+pids[2],
				"monitor goto crash", "attach "+pids[2], "p mine", "set schedule-multiple off", "continue", "monitor process "+pids[1], "monitor step?"))
			all := strings.Join(a, "\n> ")
			for i, want := range map[int]string{
				1: " = 8\n", 4: "process " + pids[2], 5: "child (n=", 6: " = 23\n", 10: "No symbol", 11: "i386:x86-64", 14: "Old value = 23\nNew value = 22\n", 17: "Thread 3.1 received signal SIGABRT",
				18: "Thread 1.1 received signal SIGSEGV", 19: "<unavailable> in ?? ()", 20: "Cannot access memory", 22: "detached]", 23: "Attaching to process " + pids[2] + " failed",
				26: " = 23\n", 28: "schedule-multiple on", 29: "attach " + pids[1],
			} {
				if i >= len(a) || !strings.Contains(a[i], want) {
					t.Fatalf("answer %d has no %q:\n%s", i, want, all)
				}
			}
			for i, pid := range pids {
				if !strings.Contains(a[0], "process "+pid) || strings.Contains(a[2], "."+pid+" (not there at step ") != (i > 0) || !strings.Contains(a[18]+"process "+pids[0]+": not there", "process "+pid+": not there") {
					t.Errorf("process %s is not among the inferiors, or is there when it is not:\n%s", pid, all)
				}
			}
			if !regexp.MustCompile(` = 1[23]\n`).MatchString(a[8]) { // 13 is seen only as the first child's last nap ends
				t.Errorf("the first child has%s", a[8])
			}
		})
	}
}

// TestGDBProcesses goes from process to process in one session of gdb: each has its own memory, stack and libraries,
// at the step where the one before was.
func TestGDBProcesses(t *testing.T) {
	for name, flags := range map[string][]string{"x86_64": nil, "i386": {"-m32"}} {
		t.Run(name, func(t *testing.T) {
			if name == "i386" {
				require(t, "m32", m32())
			}
			log, pids, last := familyLog(t, flags)
			to := func(i int) string { return "process " + pids[i] + " " + last[2] } // as the second child dies
			a := gdbAnswers(inGDB(t, nil, log, "p mine", "process "+pids[2], "p mine", to(2), "bt", "p mine", "watch mine", "reverse-continue", "reverse-continue", "reverse-continue", "delete",
				to(1), "p mine", "p $_inferior_thread_count", "process "+pids[3], "info sharedlibrary", "p mine", "info inferiors", "show architecture", "monitor processes", "reverse-continue",
				"process "+pids[0], "bt 1", "p $_siginfo", "process 1", "monitor goto crash", "process "+pids[3]+" 0", "monitor step?"))
			all := strings.Join(a, "\n> ")
			for i, want := range map[int]string{
				0: " = 8\n", 1: "process " + pids[2] + " is not there at step", 2: " = 8\n", 3: "the next connection shows process " + pids[2], 4: "child (n=", 5: " = 23\n",
				7: "SIGABRT", 8: "Old value = 23\nNew value = 22\n", 9: "Old value = 22\nNew value = 21\n", 12: " = 1", 13: " = 1\n", 15: "libc.so.6",
				16: "No symbol", 17: "process " + pids[3], 18: "i386:x86-64", 19: "process " + pids[1] + ": process " + pids[1] + ", steps", 20: "the process ran another program (process " + pids[3],
				24: "process 1: ", 26: "is not there at step 0",
			} {
				if i >= len(a) || !strings.Contains(a[i], want) {
					t.Fatalf("answer %d has no %q:\n%s", i, want, all)
				}
			}
			if !regexp.MustCompile(` = 1[23]\n`).MatchString(a[12]) { // 13 is seen only as the first child's last nap ends
				t.Errorf("the first child has%s", a[12])
			}
			if strings.Count(a[19], "(there now)") < 2 || !strings.Contains(a[19], "(this one)") {
				t.Errorf("the processes that are there:\n%s", a[19])
			}
		})
	}
}

// TestGDBPipe has gdb start memtrace, and memtrace refuse to listen to the world.
func TestGDBPipe(t *testing.T) {
	log, prog := gdbLog(t, changing, nil)
	out, _ := exec.Command(tool(t, "gdb"), "-nx", "-batch", "-ex", "set remotetimeout 600", "-ex", "target remote | "+binary()+" replay --gdb=- "+log, "-ex", "bt", prog).CombinedOutput()
	if bt := gdbFrames(string(out)); len(bt) != 1 || bt[0] != "main ()" {
		t.Errorf("%q\n%s", bt, out)
	}
	for _, at := range []string{"0.0.0.0:0", ":0", "example.com:1", "nonsense"} {
		out, err := exec.Command(binary(), "replay", "--gdb="+at, log).CombinedOutput()
		if exit := new(exec.ExitError); err == nil || !errors.As(err, &exit) || exit.ExitCode() != statusUsage {
			t.Errorf("--gdb=%s: %v\n%s", at, err, out)
		}
	}
}

// truthScript goes back event by event, and prints the stacks of all threads that gdb has: the
// addresses of frames, the innermost first.
const truthScript = `set confirm off
set pagination off
set debuginfod enabled off
set backtrace past-main on
set backtrace past-entry on
python
import re
def text(c):
    return gdb.execute(c, to_string=True)
for i in range(60):
    step = re.search(r"step (\d+) of", text("monitor step?")).group(1)
    for th in gdb.selected_inferior().threads():
        th.switch()
        pcs = []
        try:
            f = gdb.newest_frame()
            while f is not None and f.is_valid():
                if f.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                    pcs.append("%x" % f.pc())
                f = f.older()
        except gdb.error:
            pass
        print("stack", step, th.ptid[1], " ".join(pcs))
    gdb.selected_inferior().threads()[-1 - i % len(gdb.selected_inferior().threads())].switch()
    if "No more reverse" in text("reverse-stepi"):
        break
end
`

// TestGDBTruth compares each stack that gdb shows, at each step, with the one that was taken
// when the thread began its call: gdb may know less, but nothing else.
func TestGDBTruth(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	tool(t, "gdb")
	_, changes := gdbLog(t, changing, nil)
	_, waits := gdbLog(t, waiting, nil)
	for name, command := range map[string][]string{"changes": {changes}, "waits": {waits}, "git": {tool(t, "git"), "--version"}, "ls": {tool(t, "ls"), "-l", "/"}} {
		t.Run(name, func(t *testing.T) {
			if name == "ls" {
				long(t)
			}
			dir := t.TempDir()
			log, script := filepath.Join(dir, "log"), filepath.Join(dir, "script")
			args := []string{"record", "-q", "-k=all", "--snapshot", "default,interval=10ms,syscall=close", "-o", log, "--"}
			_ = exec.Command(binary(), append(args, command...)...).Run() // some die of a signal
			truth := stacksOf(t, log)
			if err := os.WriteFile(script, []byte(truthScript), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(binary(), "gdb", log, "--", "-nx", "-batch", "-x", script).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			seen, deep := 0, 0
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				if len(f) < 4 || f[0] != "stack" {
					continue
				}
				want, ok := truth[f[1]+" "+f[2]]
				if !ok {
					continue
				}
				seen++
				got := f[3:]
				if n := len(want) - 1; want[n] == linkerBegins {
					want = want[:n]
					got = got[:min(len(got), n)]
				}
				if len(got) > 2 {
					deep++
				}
				if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
					t.Errorf("thread %s at step %s:\n%v\nit was %v", f[2], f[1], got, want)
				}
			}
			if seen < 20 || deep == 0 {
				t.Errorf("%d stacks were compared, %d of them whole:\n%s", seen, deep, brief(out))
			}
		})
	}
}

// linkerBegins stands where gdb goes on by itself: it takes the arguments of a program for
// callers of the dynamic linker, of a living program too.
const linkerBegins = "ld.so"

// stacksOf are the stacks that threads had at the steps of a log, by "STEP TID": of their
// calls, from the first step in the call to its end.
func stacksOf(t *testing.T, log string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string][]string{}
	s := r.Initial()
	var times []uint64
	for e, err := range r.Events(0) {
		if err == nil {
			err = s.ApplyEvent(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, e.Time)
		th := s.Threads[e.Thread]
		if e.Stack == 0 || th == nil {
			continue
		}
		st, err := r.Stack(e.Stack)
		if err != nil {
			t.Fatal(err)
		}
		list := pcs(t, s, e.Thread, st)
		if last := st.Frames[len(st.Frames)-1]; last.Mod != nil && strings.Contains(last.Mod.Path, "/ld-") {
			list = append(list, linkerBegins)
		}
		of[fmt.Sprint(e.Step, " ", th.TID)] = list
		if c, ok := e.Record.(*format.Syscall); ok {
			for n := int(e.Step) - 1; n >= 0 && times[n] > c.Enter; n-- {
				of[fmt.Sprint(n, " ", th.TID)] = list
			}
		}
	}
	return of
}
