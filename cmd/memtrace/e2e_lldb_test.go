//go:build linux

package main

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// inLLDB has lldb carry out commands on a log that memtrace serves. It goes on to the next one only where one succeeds.
func inLLDB(t *testing.T, log, prog string, flags []string, commands ...string) string {
	t.Helper()
	lldb := tool(t, "lldb")
	serve := exec.Command(binary(), append([]string{"replay", "--gdb", log}, flags...)...)
	said, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer serve.Wait() // it ends as lldb goes, or is killed
	defer serve.Process.Kill()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--no-lldbinit", "--batch", "-o", "settings set plugin.process.gdb-remote.packet-timeout 600", "-o", "gdb-remote " + strings.TrimSpace(line[strings.LastIndexByte(line, ':')+1:])}
	for _, c := range commands {
		args = append(args, "-o", c)
	}
	out, _ := exec.Command(lldb, append(args, prog)...).CombinedOutput() // its status is that of the last command
	return string(out)
}

// addresses are what a pattern finds, each once in a row.
func addresses(text, pattern string) (out []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, strings.TrimLeft(m[1], "0"))
	}
	return slices.Compact(out)
}

// TestLLDB looks at logs in lldb: a stack is what it is in gdb, and what lldb makes of the core. What is not known has no
// value.
func TestLLDB(t *testing.T) {
	log, pids, _ := familyLog(t, nil)
	prog := strings.TrimSuffix(log, "log") + "prog"
	of := []string{"--pid", pids[2]}
	lldb := inLLDB(t, log, prog, of, "bt", "register read rsp rip", "memory read --size 4 --count 1 --format d &mine", "thread list", "memory region $sp")
	core := filepath.Join(t.TempDir(), "core")
	if out, err := exec.Command(binary(), "export", "--to", "core", "--pid", pids[2], "-o", core, log).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ofCore, _ := exec.Command("lldb", "--no-lldbinit", "--batch", "-o", "bt", "-c", core, prog).CombinedOutput()
	const frame = `frame #\d+: 0x([0-9a-f]+)`
	_, bt, _ := strings.Cut(lldb, "(lldb) bt\n")
	bt, _, _ = strings.Cut(bt, "\n(lldb)")
	_, want, _ := strings.Cut(string(ofCore), "(lldb) bt\n")
	if got, want := addresses(bt, frame), addresses(want, frame); len(want) < 4 || !slices.Equal(got, want) {
		t.Errorf("the stack in lldb is %q, of the core %q:\n%s\n%s", got, want, lldb, ofCore)
	}
	gdb := inGDB(t, of, log, "bt")
	if got, want := addresses(bt, frame+" prog`(?:child|main)"), addresses(gdb, `(?m)^#\d+ +0x([0-9a-f]+) in (?:child|main)`); len(want) != 2 || !slices.Equal(got, want) {
		t.Errorf("the program's functions are at %q in lldb, at %q in gdb:\n%s\n%s", got, want, lldb, gdb)
	}
	for _, want := range []string{"stop reason = signal SIGABRT", "tid = " + pids[2], ": 23\n", "rw- [stack]"} {
		if !strings.Contains(lldb, want) {
			t.Errorf("lldb has no %q:\n%s", want, lldb)
		}
	}
	log, prog = gdbLog(t, changing, nil)
	lldb = inLLDB(t, log, prog, nil, "watchpoint set variable counter", "process continue")
	if !strings.Contains(lldb, "SIGSEGV") {
		t.Errorf("the crash in lldb:\n%s", lldb)
	}
	read := regexp.MustCompile(`(?m)^ *(\d+) read\(.*"0123456", 7\) = 7`)
	out, err := exec.Command(binary(), "replay", log).Output()
	if err != nil {
		t.Fatal(err)
	}
	steps := read.FindAllStringSubmatch(string(out), -1)
	if len(steps) != 5 {
		t.Fatalf("%d calls of read:\n%s", len(steps), out)
	}
	at := []string{"--at", steps[1][1]}
	lldb = inLLDB(t, log, prog, at, "bt", "register read rax rbp xmm0", "watchpoint set variable counter", "process continue", "print counter")
	if !regexp.MustCompile(`rbp += error: unavailable`).MatchString(lldb) || !regexp.MustCompile(`xmm0 += error: unavailable`).MatchString(lldb) || !strings.Contains(lldb, "rax = 0x0000000000000007") ||
		len(addresses(lldb, `frame #([1-9])`)) > 0 && !strings.Contains(lldb, "watchpoint 1") {
		t.Errorf("what is not known has a value:\n%s", lldb)
	}
	if !strings.Contains(lldb, "new value: 33") || !strings.Contains(lldb, "(volatile long) ") {
		t.Errorf("the watchpoint in lldb:\n%s", lldb)
	}
}
