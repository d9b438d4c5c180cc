//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/replay/replaytest"
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
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(50 * time.Millisecond) {
		screen, _ = exec.Command("tmux", "-S", p.socket, "capture-pane", "-p").Output()
		if bytes.Contains(screen, []byte(text)) {
			return string(screen)
		}
	}
	p.t.Fatalf("no %q on the screen:\n%s", text, screen)
	return ""
}

// shell waits until the shell has the terminal again.
func (p *person) shell() {
	p.t.Helper()
	eventually(p.t, func() error {
		out, err := exec.Command("tmux", "-S", p.socket, "display-message", "-p", "#{pane_current_command} #{alternate_on}").Output()
		if err == nil && string(out) != "sh 0\n" {
			err = fmt.Errorf("at the terminal: %s", out)
		}
		return err
	})
}

// goesOn waits until a program that stood still at a prompt runs.
func goesOn(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && bytes.Contains(status, []byte("State:\tt")) {
			err = fmt.Errorf("it stands still:\n%s", status)
		}
		return err
	})
}

// own copies a program, so that nobody else runs it.
func own(t *testing.T, prog string) string {
	t.Helper()
	b, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(prog))
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// runs is the process that runs a program that nobody else runs.
func runs(t *testing.T, prog string) (pid int) {
	t.Helper()
	eventually(t, func() error {
		links, err := filepath.Glob("/proc/[0-9]*/exe")
		if err != nil {
			return err
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == prog {
				pid, err = strconv.Atoi(filepath.Base(filepath.Dir(link)))
				return err
			}
		}
		return fmt.Errorf("nobody runs %s", prog)
	})
	return pid
}

// Ctrl-C in a running program comes back to the prompt, and detach and the end
// of the input leave it running.
func TestConsoleAtTerminal(t *testing.T) {
	t.Parallel()
	p := sitDown(t)
	log := filepath.Join(t.TempDir(), "log")
	prog := own(t, compile(t, "leak", "x86_64"))
	p.does(fmt.Sprintf("clear; %s record --step -o %s.%%p %s clean 1000", binary(), log, prog), "Enter")
	p.sees("step 0>")
	p.does("next 3", "Enter")
	p.sees("before step ")
	p.does("Enter") // once more
	p.does("continue until clone", "Enter")
	p.sees("+++ new thread")
	p.does("cont", "Enter")
	pid := runs(t, prog)
	goesOn(t, pid)
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
	if logs[0] != fmt.Sprintf("%s.%d", log, pid) {
		t.Errorf("log %s of process %d", logs[0], pid)
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
	goesOn(t, pid)
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
	ends(t, pid)
}

// A shell rules its terminal: the console takes it at a stop and gives it back.
func TestConsoleSharesTerminal(t *testing.T) {
	t.Parallel()
	p := sitDown(t)
	log := filepath.Join(t.TempDir(), "log")
	bash := own(t, tool(t, "bash"))
	p.does(fmt.Sprintf("clear; %s record --step -o %s %s --norc", binary(), log, bash), "Enter")
	p.sees("step 0>")
	p.does("c", "Enter")
	p.sees("bash-") // its prompt
	p.does("echo one$((1+1))", "Enter")
	p.sees("one2")
	p.does("C-c")
	p.sees("Ctrl-C (the signal")
	p.does("threads", "Enter")
	p.sees("* thread ")
	p.does("c", "Enter")
	goesOn(t, runs(t, bash)) // till then what is typed is for the console
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
	p.does(fmt.Sprintf("clear; %s top -o %s %s leak 1000", binary(), log, compile(t, "leak", "x86_64")), "Enter")
	p.sees("[live]")
	p.sees("1 process ") // there is a row to enter
	p.does("Enter")
	p.sees("leak-x86_64, process")
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
	p.shell()
	p.does("echo back$((1+1))", "Enter")
	p.sees("back2")
}

// TestTopWithoutWindow: top ends when its window is closed, whether or not its program does. That is not killed.
func TestTopWithoutWindow(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sleep 1000", "nohup sleep 1000"} {
		p := sitDown(t)
		log := filepath.Join(t.TempDir(), "log")
		p.does(fmt.Sprintf("clear; %s top -o %s %s", binary(), log, program), "Enter")
		p.sees("1 process ")
		if out, err := exec.Command("tmux", "-S", p.socket, "kill-server").CombinedOutput(); err != nil {
			t.Fatalf("tmux: %v\n%s", err, out)
		}
		eventually(t, func() error {
			if exec.Command("pgrep", "-f", "top -o "+log).Run() == nil {
				return errors.New("top still runs")
			}
			return nil
		})
		verify(t, log)
		var pid int
		events, err := exec.Command(binary(), "report", log, "processes", "--format", "csv").Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(strings.Split(string(events), "\n")[1], "%d,", &pid); err != nil {
			t.Fatalf("%v: %s", err, events)
		}
		if strings.HasPrefix(program, "nohup") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("%s does not run on: %v", program, err)
			}
			continue
		}
		eventually(t, func() error {
			if syscall.Kill(pid, 0) == nil {
				return fmt.Errorf("%s runs on", program)
			}
			return nil
		})
	}
}

// TestSteeringText: a log cannot steer the terminal of who looks at it. To a file its
// bytes go as they are.
func TestSteeringText(t *testing.T) {
	me := sitDown(t)
	const evil = "\x1b]0;owned\a\x1b[2J\x1b[31mred\u009b1m"
	b := replaytest.New(t)
	m := replaytest.Map(1, replaytest.Text, 2, 5, "/tmp/"+evil)
	b.Event(1, &format.Exec{Path: "/tmp/" + evil, Argv: []string{evil}}, &format.MMNew{MM: 1}, replaytest.Thread(1, 7, 7, 1, 1, 0), m,
		&format.Pages{MM: 1, Addr: replaytest.Text, N: 2, What: format.PageFile})
	b.Event(0, &format.Snapshot{MM: 1, Reason: "reason" + evil}, replaytest.Unmap(1, replaytest.Text+4096, 1))
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		line  string
		plain bool // without a terminal it has the bytes as they are
	}{
		{"replay " + log + " --at 1 --maps", true}, {"replay " + log + " --diff 0..1", true},
		{"replay " + log + " --at 1 --mem 0x555555554000:16", true}, {"replay " + log, false},
		{"report " + log + " maps processes", false},
	} {
		end := fmt.Sprintf("end%d", i)
		me.does("clear; "+binary()+" "+c.line+"; echo end$(("+fmt.Sprint(i)+"))", "Enter")
		screen := me.sees(end)
		if !strings.Contains(strings.ReplaceAll(screen, "\n", ""), `33]0;owned`) {
			t.Errorf("%s: on the screen is\n%s", c.line, screen)
		}
		cmd := exec.Command(binary(), strings.Fields(c.line)...)
		out, _ := cmd.CombinedOutput()
		if c.plain && !bytes.Contains(out, []byte(evil)) {
			t.Errorf("%s: without a terminal:\n%q", c.line, out)
		}
	}
	title, err := exec.Command("tmux", "-S", me.socket, "display-message", "-p", "#{pane_title}").Output()
	if err != nil || bytes.Contains(title, []byte("owned")) {
		t.Errorf("the terminal's title is %q (%v)", title, err)
	}
}

// Ctrl-C at a terminal reaches a recorded program once each time, and does not end the
// recording.
func TestInterruptRecorded(t *testing.T) {
	p := sitDown(t)
	prog, dir := compile(t, "group", "x86_64"), t.TempDir()
	p.does("cd "+dir+" && "+binary()+" record -q -o log -- "+prog+" count 3 2 count; echo status $?", "Enter")
	for n := range 4 {
		eventually(t, func() error {
			b, err := os.ReadFile(filepath.Join(dir, "count"))
			if err == nil && string(b) != strconv.Itoa(n) {
				err = fmt.Errorf("%s signals, not %d", b, n)
			}
			return err
		})
		if n < 3 {
			p.does("C-c")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.sees("status 6")
	tell(t, 0, "verify", filepath.Join(dir, "log"))
}
