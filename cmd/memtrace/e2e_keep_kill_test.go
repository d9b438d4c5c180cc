//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unfinishedLogs are what dumps of the place have not finished.
func (p *place) unfinishedLogs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, ".memtrace-kept-*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// keptRing starts a recorder with a ring in files, of a program that waits, and has it kept once: the
// calls that memtrace makes in the program's name are behind it then.
func keptRing(t *testing.T, prog string) (*place, *running) {
	t.Helper()
	p := newPlace(t)
	r := p.start(t, binary(), "record", "-q", "--ring", "64K", "--ring-dir", p.dir, "-o", p.log(), "--", prog, "3000", "wait")
	p.ready(t, "ready")
	tell(t, 0, "ring", r.pid(), "dump")
	openKept(t, p.log())
	return p, r
}

// inject has strace do something to calls of a process that runs; with a path, to those that are about it.
func (p *place) inject(t *testing.T, pid, what, path string) (stop func()) {
	t.Helper()
	argv := []string{"-f", "-p", pid, "-o", filepath.Join(p.dir, "strace"), "-e", "inject=" + what}
	if path != "" {
		argv = append(argv, "-P", path)
	}
	s := p.launch(t, exec.Command(tool(t, "strace"), argv...), "strace-said")
	eventually(t, func() error {
		if said := string(s.output()); !strings.Contains(said, "attached") {
			return errors.New(said)
		}
		return nil
	})
	return func() {
		if err := s.cmd.Process.Signal(os.Interrupt); err != nil { // it lets go of the process
			t.Error(err)
		}
		s.wait(t)
	}
}

// injected reports whether strace has.
func (p *place) injected(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "strace"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), "(INJECTED)") || strings.Contains(string(b), "killed by SIGKILL")
}

// TestDumpKilled kills a recorder while its ring is kept: when memory is read, while the log is written,
// before and after it has its name. No half log has a name, the ring's parts make a log, the
// program goes on, and the next recorder removes what is left.
func TestDumpKilled(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	for name, at := range map[string]struct{ call, path string }{
		"memory": {"process_vm_readv", ""}, "made": {"flock", ""}, "write": {"write", ""}, "written": {"fsync", ""},
		"old": {"/^rename", ".2.old"}, "new": {"/^rename", ".2"}, "folder": {"fsync", "/.."},
	} {
		t.Run(name, func(t *testing.T) {
			p, r := keptRing(t, prog)
			log := p.log() + ".2"
			if name == "old" { // something has the name that the next one will get
				old, err := os.ReadFile(p.log())
				if err == nil {
					err = os.WriteFile(log, old, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			path := at.path
			if path != "" {
				path = filepath.Clean(p.log() + path)
			}
			p.inject(t, r.pid(), at.call+":signal=KILL", path)
			if said, err := exec.Command(binary(), "ring", r.pid(), "dump").CombinedOutput(); err == nil {
				t.Errorf("the recorder lived through it: %s", said)
			}
			r.wait(t)
			survived(t, p, r, func() { p.letGo(t) })
			if !p.injected(t) {
				t.Error("strace did nothing")
			}
			whole := 0
			for _, name := range []string{log, log + ".old"} {
				if _, err := os.Stat(name); err == nil {
					openKept(t, name)
					whole++
				}
			}
			if whole == 0 && (name == "old" || name == "folder") {
				t.Error("no log is there")
			}
			joined := filepath.Join(p.dir, "joined")
			tell(t, 0, append([]string{"cut", "-o", joined}, p.ringFiles(t)...)...)
			checkPrefix(t, joined, p.marks())
			openKept(t, joined)
			tell(t, 0, "record", "-q", "--ring", "64K", "-o", p.log(), "--", tool(t, "true"))
			if left := p.unfinishedLogs(t); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
		})
	}
}

// TestAskerKilled kills the command that asks for a ring. The recorder does not mind.
func TestAskerKilled(t *testing.T) {
	require(t, "ptrace", tracing())
	strace := tool(t, "strace")
	p, r := keptRing(t, compile(t, "keep", "x86_64"))
	for _, at := range []string{"socket", "connect", "write", "getpeername", "exit_group"} {
		trace := filepath.Join(p.dir, "asker")
		said, err := exec.Command(strace, "-f", "-o", trace, "-e", "inject="+at+":signal=KILL:when=1", binary(), "ring", r.pid(), "dump").CombinedOutput()
		if b, rerr := os.ReadFile(trace); err == nil || rerr != nil || !strings.Contains(string(b), "killed by SIGKILL") {
			t.Errorf("%s: it was not killed: %v %s %v", at, err, said, rerr)
		}
		status := string(tell(t, 0, "ring", r.pid(), "status"))
		if !strings.Contains(status, "ring       ") {
			t.Errorf("%s: %s", at, status)
		}
	}
	p.letGo(t)
	if said := r.wait(t); r.cmd.ProcessState.ExitCode() != 0 {
		t.Error(said)
	}
	logs, err := filepath.Glob(p.log() + "*")
	if err != nil || len(logs) < 2 {
		t.Errorf("%v %v", logs, err)
	}
	for _, log := range logs {
		openKept(t, log)
	}
	if left := p.unfinishedLogs(t); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// TestDumpFaults: a dump that fails is said to whoever asked, leaves nothing, and does not keep the next
// one from being made.
func TestDumpFaults(t *testing.T) {
	require(t, "ptrace", tracing())
	p, r := keptRing(t, compile(t, "keep", "x86_64"))
	for _, what := range []string{"fsync", "/^rename"} {
		stop := p.inject(t, r.pid(), what+":error=ENOSPC", "")
		out, err := exec.Command(binary(), "ring", r.pid(), "dump").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no space left") {
			t.Errorf("%v: %s", err, out)
		}
		stop()
	}
	first := strings.TrimSpace(string(tell(t, 0, "ring", r.pid(), "dump")))
	if first != p.log()+".4" {
		t.Errorf("kept in %s", first)
	}
	if out, err := exec.Command(binary(), "ring", r.pid(), "dump").CombinedOutput(); err == nil || !strings.Contains(string(out), "--keep-max") {
		t.Errorf("%v: %s", err, out)
	}
	openKept(t, first)
	for _, n := range []string{".2", ".3"} {
		if _, err := os.Stat(p.log() + n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", n, err)
		}
	}
	if status := string(tell(t, 0, "ring", r.pid(), "status")); strings.Count(status, "no space left") != 2 {
		t.Error(status)
	}
	if left := p.unfinishedLogs(t); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	p.letGo(t)
	r.wait(t)
}

// TestTwoRings: two rings in one folder do not meet, not even where one is left of a recorder that was killed
// and had the same pid.
func TestTwoRings(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	a, b := newPlace(t), newPlace(t)
	start := func(p *place) *running {
		r := p.start(t, binary(), "record", "-q", "--ring", "64K", "--ring-dir", a.dir, "-o", p.log(), "--keep-on", "exit", "--", prog, "2000", "wait")
		p.ready(t, "ready")
		return r
	}
	ra, rb := start(a), start(b)
	killRecorder(t, a, ra, func() { a.letGo(t) })
	left, err := filepath.Glob(filepath.Join(a.dir, fmt.Sprintf("memtrace-ring.%s.*", ra.pid())))
	if err != nil || len(left) == 0 {
		t.Fatalf("%v %v", left, err)
	}
	b.letGo(t)
	rb.wait(t)
	openKept(t, b.log())
	if now := a.ringFiles(t); fmt.Sprint(now) != fmt.Sprint(left) {
		t.Errorf("%v are there, of the one that was killed are %v", now, left)
	}
	tell(t, 0, append([]string{"cut", "-o", a.log()}, left...)...)
	openKept(t, a.log())
}
