//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"memtrace/analyze/web"
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
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // it says what is there, and why there is no more
		var said bytes.Buffer
		c := exec.Command(binary(), "report", p.log())
		c.Stderr = &said
		now, _ := c.Output()
		if bytes.Contains(now, []byte("CUT")) || bytes.Contains(now, []byte("killed")) {
			t.Errorf("the log was not cut:\n%s", now)
		}
		if bytes.Contains(now, []byte("\nlog       still being written: this is up to step ")) && bytes.Contains(said.Bytes(), []byte("it is still being written: this is up to step ")) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("report of a log that is being written: %s%s", now, said.Bytes())
		}
	}
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

// TestViewFollow has view show a log that comes through a pipe in parts.
func TestViewFollow(t *testing.T) {
	t.Parallel()
	log, err := os.ReadFile(filepath.Join("..", "..", "testdata", "traces", "v1", "keyframes.mtl"))
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c := exec.Command(binary(), "view", "--follow", "--no-open", "-")
	c.Stdin = r
	temp := t.TempDir()
	c.Env = append(os.Environ(), "TMPDIR="+temp)
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer func() {
		_ = c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			t.Errorf("Ctrl-C: %v", err)
		}
	}()
	v := &viewing{t: t}
	base := ""
	at := 0
	for _, x := range []struct {
		percent int
		steps   uint64
		growing bool
	}{{20, 12, true}, {40, 27, true}, {90, 30, true}, {100, 40, false}} {
		n := len(log) * x.percent / 100
		if _, err := w.Write(log[at:n]); err != nil {
			t.Fatal(err)
		}
		if at = n; at == len(log) {
			w.Close()
		}
		if base == "" { // it has waited for an event
			line, err := bufio.NewReader(said).ReadString('\n')
			m := tokenText.FindStringSubmatch(line)
			if err != nil || m == nil {
				t.Fatalf("view said %q, %v", line, err)
			}
			v.token = m[1]
			base, _, _ = strings.Cut(line[strings.Index(line, "http"):], "/#")
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("what came through the pipe is in a file that a kill would leave: %v, %v", left, err)
			}
		}
		var l web.LogInfo
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			status, i := v.info(http.DefaultClient, base, strings.TrimPrefix(base, "http://"))
			if status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			l = i.Logs[0]
			if l.Steps == x.steps && l.Growing == x.growing || time.Now().After(end) {
				break
			}
		}
		if l.Steps != x.steps || l.Growing != x.growing || l.Whole == x.growing || x.percent > 20 && l.Ready < 1 {
			t.Errorf("after %d %%: %d steps, growing %v, whole %v, ready %v", x.percent, l.Steps, l.Growing, l.Whole, l.Ready)
		}
	}
}
