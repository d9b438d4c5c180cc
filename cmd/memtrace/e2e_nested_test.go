//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDebuggers: programs that trace others say what they say without memtrace.
func TestDebuggers(t *testing.T) {
	require(t, "ptrace", tracing())
	numbers := regexp.MustCompile(`0x[0-9a-f]+|\b[0-9]{3,}\b`)
	for _, c := range []struct {
		name, tools, script string
	}{
		{"gdb", "gdb", `gdb -nx -batch -ex 'break step' -ex run -ex bt -ex finish -ex stepi -ex 'watch total' -ex c -ex c -ex 'delete' -ex c "$PROG" 2>&1`},
		{"gdb attached", "gdb", `sleep 100 & p=$!; sleep 0.3; gdb -nx -batch -ex 'info threads' -p $p >out 2>&1; grep -c clock_nanosleep out; kill $p; wait $p; echo $?`},
		{"strace", "strace", `strace -ff -e trace=execve,exit_group -o out sh -c 'ls / | wc -l' >/dev/null; cat out.* | grep -v SIGCHLD | sort; rm out.*`},
		{"strace with a filter", "strace", `strace -f --seccomp-bpf -e trace=openat,execve -o out ls / >/dev/null; cut -d' ' -f2- out`},
		{"strace attached", "strace", `(sleep 2; exit 3) & p=$!; strace -f -o out -p $p 2>/dev/null & s=$!; wait $p; echo $?; wait $s; echo $?; grep -c 'exit_group(3)' out`},
		{"sanitizers", "gcc", `"$PROG-leaks" 2>&1; echo $?; "$PROG-races" 2>&1; echo $?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasSuffix(c.name, "attached") {
				long(t)
			}
			tool(t, c.tools)
			p := newPlace(t)
			prog := filepath.Join(p.dir, "stepped")
			buildTraced(t, prog, c.tools == "gcc")
			t.Setenv("PROG", prog)
			t.Setenv("LC_ALL", "C")
			alone := p.execute(t, patience, nil, "bash", "-c", c.script)
			if len(alone.stdout) == 0 {
				t.Fatalf("alone it says nothing: %s", alone.stderr)
			}
			for i, flags := range []string{"", "--in-process=always", "-e memory", "--snapshot interval=2ms", "--page-trace", "-k"} {
				if i > 0 && !longRun && (i > 1 || c.tools != "gcc") {
					break
				}
				argv := append([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags)...)
				recorded := p.execute(t, patience, nil, append(argv, "--", "bash", "-c", c.script)...)
				a, b := numbers.ReplaceAll(alone.stdout, []byte("N")), numbers.ReplaceAll(recorded.stdout, []byte("N"))
				if alone.status != recorded.status || !bytes.Equal(a, b) {
					t.Errorf("flags %q: %s alone, %s recorded, %s\n%s", flags, statusText(alone.status), statusText(recorded.status), brief(recorded.stderr), lineDiff(a, b))
				}
				tell(t, 0, "verify", p.log())
			}
		})
	}
}

// buildTraced makes the program that the debuggers look at, and two with sanitizers.
func buildTraced(t *testing.T, prog string, sanitized bool) {
	t.Helper()
	gcc := tool(t, "gcc")
	source := prog + ".c"
	text := "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint total;\n" +
		"__attribute__((noinline)) int step(int n) { total += n; return total; }\n" +
		"int main(void) { char *p = malloc(100); strcpy(p, \"lost\"); p = NULL; for (int i = 1; i < 4; i++) step(i); printf(\"%d\\n\", total); return 0; }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	builds := [][]string{{"-o", prog}}
	if sanitized {
		builds = append(builds, []string{"-fsanitize=address", "-o", prog + "-leaks"}, []string{"-fsanitize=thread", "-o", prog + "-races"})
	}
	for _, flags := range builds {
		if out, err := exec.Command(gcc, append(flags, "-g", "-O0", source)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// TestNested: a memtrace that is recorded records as one that is not.
func TestNested(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	inner := filepath.Join(p.dir, "inner.mtrace")
	for _, flags := range []string{"", "-e memory"} {
		argv := append([]string{binary(), "record", "-q", "-o", inner}, strings.Fields(flags)...)
		argv = append([]string{binary(), "record", "-q", "-o", p.log(), "--"}, append(argv, "--", "sh", "-c", "ls / >/dev/null; exit 3")...)
		if r := p.execute(t, patience, nil, argv...); r.status.ExitStatus() != 3 {
			t.Errorf("flags %q: %s, %s", flags, statusText(r.status), brief(r.stderr))
		}
		tell(t, 0, "verify", p.log())
		tell(t, 0, "verify", inner)
	}
}

// TestDebuggerWrites: the log has what a debugger has written in its program, from the step of
// the write on.
func TestDebuggerWrites(t *testing.T) {
	require(t, "ptrace", tracing())
	tool(t, "gdb")
	p := newPlace(t)
	prog := filepath.Join(p.dir, "stepped")
	buildTraced(t, prog, false)
	argv := []string{binary(), "record", "-q", "-o", p.log(), "--", "gdb", "-nx", "-batch", "-ex", "break step", "-ex", "run", "-ex", "print &total",
		"-ex", "set var total = 0x11223344", "-ex", "kill", prog}
	r := p.execute(t, patience, nil, argv...)
	at := regexp.MustCompile(`\(int \*\) (0x[0-9a-f]+) <total>`).FindSubmatch(r.stdout)
	if at == nil {
		t.Fatalf("%s: %s %s", statusText(r.status), brief(r.stdout), brief(r.stderr))
	}
	address := string(at[1])
	lines := string(tell(t, 0, "replay", p.log()))
	wrote := regexp.MustCompile(`(?m)^ *(\d+) .*wrote 4 bytes at ` + address).FindStringSubmatch(lines)
	if wrote == nil {
		t.Fatalf("no write to %s:\n%s", address, brief([]byte(lines)))
	}
	pid := regexp.MustCompile(`\[pid (\d+)\] execve\("[^"]*stepped"`).FindStringSubmatch(lines)
	if pid == nil {
		t.Fatalf("no exec of the program:\n%s", brief([]byte(lines)))
	}
	if mem := string(tell(t, 0, "replay", p.log(), "--at", wrote[1], "--pid", pid[1], "--mem", address+":4")); !strings.Contains(mem, "44 33 22 11") {
		t.Errorf("at step %s:\n%s", wrote[1], mem)
	}
}
