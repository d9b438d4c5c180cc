//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// person sits at a terminal of 80x24, which tmux plays.
type person struct {
	t      *testing.T
	socket string
}

// sitDown starts a shell at a terminal.
func sitDown(t *testing.T) *person {
	t.Helper()
	require(t, "ptrace", tracing())
	tool(t, "tmux")
	p := &person{t, filepath.Join(t.TempDir(), "tmux")}
	c := exec.Command("tmux", "-S", p.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh")
	c.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir(), "LC_ALL=C.UTF-8", "ENV=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	p.does("echo ready$((1+1))", "Enter")
	p.sees("ready2")
	return p
}

// does presses keys, as tmux names them.
func (p *person) does(keys ...string) {
	p.t.Helper()
	if out, err := exec.Command("tmux", append([]string{"-S", p.socket, "send-keys"}, keys...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("tmux: %v\n%s", err, out)
	}
}

// sees waits for a text on the screen.
func (p *person) sees(text string) string {
	p.t.Helper()
	var screen []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		screen, _ = exec.Command("tmux", "-S", p.socket, "capture-pane", "-p").Output()
		if bytes.Contains(screen, []byte(text)) {
			return string(screen)
		}
	}
	p.t.Fatalf("no %q on the screen:\n%s", text, screen)
	return ""
}

// Ctrl-C in a running program comes back to the prompt, and detach and the end
// of the input leave it running.
func TestConsoleAtTerminal(t *testing.T) {
	t.Parallel()
	p := sitDown(t)
	log := filepath.Join(t.TempDir(), "log")
	prog := compile(t, "leak", "x86_64")
	p.does(fmt.Sprintf("clear; %s record --step -o %s.%%p %s clean 60", binary(), log, prog), "Enter")
	p.sees("step 0>")
	p.does("next 3", "Enter")
	p.sees("before step ")
	p.does("Enter") // once more
	p.does("continue until clone", "Enter")
	p.sees("+++ new thread")
	p.does("cont", "Enter")
	time.Sleep(300 * time.Millisecond)
	p.does("C-c")
	p.sees("Ctrl-C (the signal was kept from the program)")
	p.does("threads", "Enter")
	p.sees("* thread ")
	p.does("even", "Tab", "Enter")
	p.sees("type     signal")
	p.does("detach", "Enter")
	p.sees("detached: the program runs on")
	p.sees(" events, ") // the log has its name by then
	logs, _ := filepath.Glob(log + ".*")
	if len(logs) != 1 {
		t.Fatalf("logs: %v", logs)
	}
	verify(t, logs[0])
	pid, err := strconv.Atoi(strings.TrimPrefix(logs[0], log+"."))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	untouched := func() {
		t.Helper()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !bytes.Contains(status, []byte("TracerPid:\t0\n")) || bytes.Contains(status, []byte("State:\tT")) {
			t.Errorf("not left as it was: %v\n%s", err, status)
		}
	}
	untouched()
	p.does(fmt.Sprintf("clear; %s record -p %d --step -o %s", binary(), pid, log), "Enter")
	p.sees("attached to")
	p.does("c", "Enter")
	time.Sleep(300 * time.Millisecond)
	p.does("C-c")
	p.sees("-- interrupted")
	p.does("C-d")
	p.sees("detached: the program runs on")
	p.sees("events, ")
	untouched()
	verify(t, log)
	p.does(fmt.Sprintf("clear; %s record -p %d --step -o %s", binary(), pid, log), "Enter")
	p.sees("attached to")
	p.does("quit", "Enter")
	p.sees("events, ")
	if syscall.Kill(pid, 0) == nil {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil && !bytes.Contains(status, []byte("Z (zombie)")) {
			t.Errorf("quit left it alive:\n%s", status)
		}
	}
}

// A shell rules its terminal: the console takes it at a stop and gives it back.
func TestConsoleSharesTerminal(t *testing.T) {
	t.Parallel()
	tool(t, "bash")
	p := sitDown(t)
	log := filepath.Join(t.TempDir(), "log")
	p.does(fmt.Sprintf("clear; %s record --step -o %s bash --norc", binary(), log), "Enter")
	p.sees("step 0>")
	p.does("c", "Enter")
	time.Sleep(time.Second)
	p.does("echo one$((1+1))", "Enter")
	p.sees("one2")
	p.does("C-c")
	p.sees("Ctrl-C (the signal")
	p.does("threads", "Enter")
	p.sees("* thread ")
	p.does("c", "Enter")
	p.does("echo two$((1+1))", "Enter")
	p.sees("two2")
	p.does("exit 3", "Enter")
	p.sees("events, ")
	p.does("echo status $?", "Enter")
	p.sees("status 3")
	verify(t, log)
}

// top shows a living program, walks into it, and leaves nothing of it.
func TestTop(t *testing.T) {
	t.Parallel()
	p := sitDown(t)
	log := filepath.Join(t.TempDir(), "log")
	p.does(fmt.Sprintf("clear; %s top -o %s %s leak 60", binary(), log, compile(t, "leak", "x86_64")), "Enter")
	p.sees("[live]")
	p.sees("q leave")
	p.does("Enter")
	p.sees("MAPPINGS OF leak")
	p.does("/", "h", "e", "a", "p", "Enter")
	p.sees("/heap")
	p.does("q")
	p.sees("events, ")
	verify(t, log)
	p.does(fmt.Sprintf("clear; NO_COLOR=1 %s replay %s --tui", binary(), log), "Enter")
	p.sees("[log]")
	p.does("Home")
	p.sees("step 0 ")
	p.does("q")
	time.Sleep(time.Second)
	p.does("echo back$((1+1))", "Enter")
	p.sees("back2")
}
