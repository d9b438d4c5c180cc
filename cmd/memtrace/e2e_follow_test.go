//go:build linux

package main

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFollow: who follows a log that is being written, in a file or through a pipe, sees
// what it says in the end.
func TestFollow(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "keep", "x86_64")
	p := newPlace(t)
	r := p.start(t, binary(), "record", "-q", "-o", p.log(), "--", prog, "300", "wait")
	p.ready(t, "ready")
	var out [2]bytes.Buffer
	var followers [2]*exec.Cmd
	for i, args := range [][]string{{"replay", "--follow", "-T", p.log()}, {"report", "--follow", "syscalls", p.log()}} {
		followers[i] = exec.Command(binary(), args...)
		followers[i].Stdout = &out[i]
		if err := followers[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	p.letGo(t)
	r.wait(t)
	for i, f := range followers {
		if err := f.Wait(); err != nil {
			t.Errorf("%q: %v: %s", f.Args, err, brief(out[i].Bytes()))
		}
	}
	if want := tell(t, 0, "replay", "-T", p.log()); !bytes.Equal(out[0].Bytes(), want) {
		t.Errorf("-replay +replay --follow\n%s", lineDiff(want, out[0].Bytes()))
	}
	if want := tell(t, 0, "report", "syscalls", p.log()); !bytes.HasSuffix(out[1].Bytes(), want) {
		t.Errorf("report --follow does not end with\n%s\nbut\n%s", want, out[1].Bytes())
	}
	copied := filepath.Join(p.dir, "copy")
	piped := exec.Command("sh", "-c", `"$0" record -q -o - -- "$1" 300 exit | tee "$2" | "$0" replay --follow -`, binary(), prog, copied)
	piped.Dir = p.run()
	piped.Env = append(piped.Environ(), "MARK_DIR="+p.marks())
	got, err := piped.Output()
	if want := tell(t, 0, "replay", copied); err != nil || !bytes.Equal(got, want) {
		t.Errorf("through a pipe: %v: -replay +replay --follow\n%s", err, lineDiff(want, got))
	}
	// A recorder that is killed does not end the log: there is nothing more to wait for.
	k := p.start(t, binary(), "record", "-q", "-o", p.log(), "--", prog, "300", "wait")
	p.ready(t, "ready")
	killRecorder(t, p, k, func() { p.letGo(t) })
	out3, err := exec.Command(binary(), "replay", "--follow", p.log()).CombinedOutput()
	if code := exitCode(err); code != 0 && !(code == statusDamaged && bytes.Contains(out3, []byte("before its first step"))) {
		t.Errorf("status %d: %s", code, out3)
	}
}

// exitCode is the exit status of a command.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
