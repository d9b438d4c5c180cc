//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
)

// exceptions writes from where C++ unwinds: a destructor while an exception passes, its
// handler, what rethrows it, a destructor at the end of the program, a thread, and a signal
// handler on a stack of its own.
const exceptions = `#include <csignal>
#include <cstdlib>
#include <pthread.h>
#include <stdexcept>
#include <unistd.h>
static void say() { if (write(1, "x", 1) != 1) abort(); }
struct Guard { int n; ~Guard() { if (n > 0) Guard{n - 1}; say(); } };
__attribute__((noinline)) static int fail(int n)
{
	Guard g{1};
	if (n == 0)
		throw std::runtime_error("no");
	return fail(n - 1) + 1;
}
__attribute__((noinline)) static int rethrow()
{
	try { return fail(2); } catch (...) { say(); throw; }
}
static int attempt()
{
	try { return rethrow(); } catch (const std::exception &e) { say(); return *e.what(); }
}
static void handler(int) { say(); }
static void *thread(void *arg) { attempt(); raise(SIGUSR1); return arg; }
static Guard last{0};
int main()
{
	stack_t alt = {};
	alt.ss_sp = malloc(1 << 16);
	alt.ss_size = 1 << 16;
	sigaltstack(&alt, nullptr);
	struct sigaction a = {};
	a.sa_handler = handler;
	a.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &a, nullptr);
	attempt();
	raise(SIGUSR1);
	pthread_t t;
	pthread_create(&t, nullptr, thread, nullptr);
	pthread_join(t, nullptr);
	exit(0);
}
`

// panics writes from the hook of a panic, from a value that is dropped while it unwinds, after
// it was caught, and in a thread.
const panics = `use std::io::Write;
struct Guard(u32);
fn say() { let mut o = std::io::stderr(); o.write_all(b"x").unwrap(); }
impl Drop for Guard { fn drop(&mut self) { say(); } }
#[inline(never)] fn fail(n: u32) -> u32 { let g = Guard(n); if n == 0 { panic!("no"); } fail(n - 1) + g.0 }
#[inline(never)] fn attempt() { let _ = std::panic::catch_unwind(|| fail(std::env::args().count() as u32 + 1)); say(); }
fn main() {
    std::panic::set_hook(Box::new(|_| say()));
    attempt();
    std::thread::spawn(attempt).join().unwrap();
}
`

// gdbScript prints, at the beginning of each write, the frames that have an address of their
// own, the innermost first.
const gdbScript = `set confirm off
set pagination off
set debuginfod enabled off
set disable-randomization on
set backtrace past-main on
set backtrace past-entry on
handle SIGUSR1 SIGSEGV nostop noprint pass
catch syscall write
run say > /dev/null 2>&1
python
n = 0
while gdb.selected_inferior().pid:
    if n % 2 == 0:
        f, out = gdb.newest_frame(), []
        while f is not None and f.is_valid():
            if f.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                out.append("%x" % f.pc())
            f = f.older()
        print("stack " + " ".join(out))
    n += 1
    gdb.execute("continue", to_string=True)
end
`

// gdbStacks are the stacks that gdb finds at the writes of a program.
func gdbStacks(t *testing.T, prog string) (stacks [][]string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(gdbScript), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool(t, "gdb"), "-nx", "-q", "-batch", "-x", script, prog).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "stack "); ok {
			stacks = append(stacks, strings.Fields(rest))
		}
	}
	if len(stacks) == 0 {
		t.Fatalf("gdb: %v\n%s", err, brief(out))
	}
	return stacks
}

// TestStacksGDB compares the stacks of each write of a program with those that gdb finds.
func TestStacksGDB(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, file string
		build      []string
		least      int // stacks
	}{
		"exceptions": {exceptions, "a.cc", []string{"g++", "-g", "-O1", "-pthread"}, 19},
		"optimized":  {exceptions, "a.cc", []string{"g++", "-O2", "-pthread"}, 19},
		"static":     {exceptions, "a.cc", []string{"g++", "-O2", "-pthread", "-static"}, 19},
		"panics":     {panics, "a.rs", []string{"rustc", "-g", "-O"}, 10},
		"x86_64":     {least: 9}, // the program of TestStacks
		"i386":       {least: 9},
	} {
		t.Run(name, func(t *testing.T) {
			var prog string
			if c.build == nil {
				prog = compile(t, "stacks", name)
			} else {
				dir := t.TempDir()
				src := filepath.Join(dir, c.file)
				prog = filepath.Join(dir, "prog")
				if err := os.WriteFile(src, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(tool(t, c.build[0]), append(c.build[1:], "-o", prog, src)...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			want := gdbStacks(t, prog)
			if len(want) < c.least {
				t.Fatalf("gdb has %d stacks", len(want))
			}
			r, _ := recordStacks(t, "write", prog, "say")
			s := r.Initial()
			n := 0
			for e, err := range r.Events(0) {
				if err == nil {
					err = s.ApplyEvent(e)
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := e.Record.(*format.Syscall); !ok || e.Stack == 0 {
					continue
				}
				st, err := r.Stack(e.Stack)
				if err != nil {
					t.Fatal(err)
				}
				if n >= len(want) {
					t.Fatal("gdb has fewer stacks")
				}
				if got := pcs(t, s, e.Thread, st); !slices.Equal(got, want[n]) || st.End != format.StackComplete {
					t.Errorf("stack %d, which is %v:\n     %v\ngdb: %v", n, st.End, got, want[n])
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d stacks, gdb has %d", n, len(want))
			}
		})
	}
}
