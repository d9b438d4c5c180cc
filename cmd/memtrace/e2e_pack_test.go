//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPack packs a log, takes the program and its debug file away, and asks the same questions
// again: also where there is nothing but memtrace and the log, if the test may make such a place.
func TestPack(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	src, prog := filepath.Join(dir, "a.c"), filepath.Join(dir, "prog")
	if err := os.WriteFile(src, []byte(changing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"gcc", "-g", "-O1", "-o", prog, src}, {"objcopy", "--only-keep-debug", prog, prog + ".debug"},
		{"strip", prog}, {"objcopy", "--add-gnu-debuglink=" + prog + ".debug", prog},
	} {
		if out, err := exec.Command(tool(t, c[0]), c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	place := t.TempDir()
	log, pack := filepath.Join(dir, "log"), filepath.Join(place, "log")
	_ = exec.Command(binary(), "record", "-q", "-k", "--snapshot", "exec,exit,signal,syscall=clock_nanosleep", "-o", log, "--", prog).Run() // it dies of a signal
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(run func(args ...string) *exec.Cmd, log string) (text string) {
		for _, q := range []string{
			"replay LOG -k", "replay LOG --at crash --stack --regs", "replay LOG --at crash --maps", "replay LOG --at crash --mem main:64", "replay LOG --at 50% --mem libc.so.6:256",
			"report LOG findings", "report LOG callsites",
		} {
			out, err := run(strings.Fields(strings.ReplaceAll(q, "LOG", log))...).CombinedOutput()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			text += "> " + q + "\n" + strings.ReplaceAll(string(out), log, "LOG") + "\n"
		}
		return text
	}
	here := func(args ...string) *exec.Cmd { return exec.Command(binary(), args...) }
	gdb := func(log string) string {
		if _, err := exec.LookPath("gdb"); err != nil {
			return ""
		}
		return strings.Join(gdbFrames(strings.Join(gdbAnswers(inGDB(t, nil, log, "bt", "watch -l counter", "reverse-continue", "bt")), "\n")), "\n")
	}
	want, wantGDB := ask(here, log), gdb(log)
	if !strings.Contains(want, "main (a.c:") {
		t.Fatalf("no names here:\n%s", want)
	}
	tell(t, 0, "pack", log, "--debug", "-o", pack)
	tell(t, 1, "pack", log, "-o", pack)
	tell(t, 0, "verify", pack)
	if after, err := os.ReadFile(log); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the log was changed: %v", err)
	}
	again := filepath.Join(dir, "again")
	tell(t, 0, "pack", pack, "-o", again)
	if a, err := os.Stat(again); err != nil || a.Size() > 2*fileSize(t, pack) {
		t.Errorf("packed twice: %v", err)
	}
	// Less of the files, and a part of the log, say the same of names and stacks.
	small, part, cut := filepath.Join(dir, "small"), filepath.Join(dir, "part"), filepath.Join(dir, "cut")
	tell(t, 0, "pack", log, "--debug", "--files", "stacks", "-o", small)
	tell(t, 0, "pack", log, "--debug", "--from", "50%", "-o", part)
	tell(t, 0, "cut", pack, "--from", "50%", "-o", cut)
	names := func(log string) string {
		return strings.Join([]string{string(tell(t, 0, "replay", log, "-kk", "--from", "last-20")), string(tell(t, 0, "replay", log, "--at", "crash", "--stack")),
			string(tell(t, 0, "report", log, "findings"))}, "\n")
	}
	wantNames := strings.ReplaceAll(names(log), log, "LOG")
	defer func() {
		for _, name := range []string{small, part, cut} {
			tell(t, 0, "verify", name)
			if got := strings.ReplaceAll(names(name), name, "LOG"); got != wantNames {
				t.Errorf("%s without the program:\n%s\nwith it:\n%s", filepath.Base(name), got, wantNames)
			}
		}
		if a, b := fileSize(t, small), fileSize(t, pack); a >= b {
			t.Errorf("%d bytes with what stacks take, %d with all code", a, b)
		}
	}()
	// A file that was touched has its build id still.
	named := filepath.Join(dir, "named")
	if err := os.Chmod(prog, 0o711); err != nil {
		t.Fatal(err)
	}
	tell(t, 0, "pack", log, "--debug", "-o", named)
	for _, name := range []string{prog, prog + ".debug"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if ask(here, log) == want {
		t.Error("the answers do not depend on the program")
	}
	if got := ask(here, pack); got != want {
		t.Errorf("without the program:\n%s\nwith it:\n%s", got, want)
	}
	if got := gdb(pack); got != wantGDB {
		t.Errorf("gdb without the program:\n%s\nwith it:\n%s", got, wantGDB)
	}
	if out := string(tell(t, 0, "report", named, "findings")); !strings.Contains(out, "main (a.c:25)") {
		t.Errorf("packed by build id:\n%s", out)
	}
	if out := string(tell(t, 0, "info", pack, "--format", "json")); !strings.Contains(out, prog+`","where":"packed"`) || !strings.Contains(out, prog+`.debug","where":"debug"`) {
		t.Errorf("info:\n%s", out)
	}
	require(t, "root", asRoot())
	copyFile(t, binary(), filepath.Join(place, "memtrace"))
	there := func(args ...string) *exec.Cmd {
		return &exec.Cmd{Path: "/memtrace", Args: append([]string{"memtrace"}, args...), Dir: "/", SysProcAttr: &syscall.SysProcAttr{Chroot: place}}
	}
	if got := ask(there, "/log"); got != want {
		t.Errorf("in an empty place:\n%s\nhere:\n%s", got, want)
	}
}

// TestPackKilled kills pack at any moment: there is no log then, or a whole one.
func TestPackKilled(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	log, out := filepath.Join(dir, "log"), filepath.Join(dir, "out")
	tell(t, 0, "record", "-q", "-o", log, "--", tool(t, "true"))
	for wait := time.Duration(0); wait < 32*time.Millisecond; wait += 4 * time.Millisecond {
		c := exec.Command(binary(), "pack", log, "-o", out)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed, or was done
		if _, err := os.Stat(out); err == nil {
			tell(t, 0, "verify", out)
			if err := os.Remove(out); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// copyFile copies a program.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o700)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPackDeleted packs a library that was removed while a program has it mapped: by way of that program,
// while it runs. When it has ended, pack says by name what it does not have.
func TestPackDeleted(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	require(t, "root", asRoot()) // who else may open what a process has mapped differs by kernel
	p := newPlace(t)
	build := func(text, out string, flags ...string) {
		t.Helper()
		src := filepath.Join(p.dir, filepath.Base(out)+".c")
		if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if said, err := exec.Command(tool(t, "gcc"), append(flags, "-g", "-o", out, src)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	lib, prog := filepath.Join(p.dir, "lib.so"), filepath.Join(p.dir, "prog")
	build(`#include <sys/mman.h>
#include <unistd.h>
void gone(void) { munmap(mmap(0, 4096, 3, 0x22, -1, 0), 4096); usleep(1000); }
`, lib, "-shared", "-fPIC")
	build(`#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	void (*gone)(void) = dlsym(dlopen(argv[1], RTLD_NOW), "gone");
	if (unlink(argv[1]))
		return 1;
	for (close(open("ready", O_CREAT | O_WRONLY, 0600)); access("go", F_OK);)
		gone();
	return 0;
}
`, prog)
	r := p.start(t, prog, lib)
	p.ready(t, "ready")
	tell(t, 0, "record", "-q", "-k", "--max-events", "200", "-o", p.log(), "-p", r.pid())
	pack, late := filepath.Join(p.dir, "pack"), filepath.Join(p.dir, "late")
	tell(t, 0, "pack", p.log(), "-o", pack)
	p.letGo(t)
	r.wait(t)
	said, err := exec.Command(binary(), "pack", p.log(), "-o", late).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "not packed: "+lib+" was removed") {
		t.Errorf("%v: %s", err, said)
	}
	for name, want := range map[string]bool{pack: true, late: false} {
		tell(t, 0, "verify", name)
		files, stacks := string(tell(t, 0, "info", name, "--format", "json")), string(tell(t, 0, "replay", "-k", name))
		if packed := strings.Contains(files, lib+` (deleted)","where":"packed"`); packed != want || strings.Contains(stacks, "(gone+") != want {
			t.Errorf("%s: packed %v\n%s", name, packed, stacks[:min(len(stacks), 2000)])
		}
	}
}
