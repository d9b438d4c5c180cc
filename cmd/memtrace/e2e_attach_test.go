//go:build linux

package main

import (
	"cmp"
	le "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"memtrace/format"
	"memtrace/replay"
)

// These tests attach to processes that are not like others.

// ready waits until a program has made a file.
func (p *place) ready(t *testing.T, name string) {
	t.Helper()
	eventually(t, func() error {
		_, err := os.Stat(filepath.Join(p.run(), name))
		return err
	})
}

// TestAttachKernelThreads: a process with threads of io_uring, which run in the kernel
// only, is attached to and left again.
func TestAttachKernelThreads(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "ring", "x86_64")
	for _, mode := range []string{"workers", "polled"} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(fmt.Sprint(mode, " ", int(sig)), func(t *testing.T) {
				p := newPlace(t)
				r := p.start(t, prog, mode)
				select {
				case <-r.done:
					t.Skipf("it has ended: %s", r.output())
				default:
				}
				p.ready(t, "ready")
				a := p.attach(t, r, p.log())
				if err := a.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				a.wait(t)
				if code := a.cmd.ProcessState.ExitCode(); code != 0 && !a.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
					t.Errorf("exit status %d: %s", code, brief(a.output()))
				}
				untouched(t, r.cmd.Process.Pid)
				a = p.attach(t, r, p.log())
				p.letGo(t)
				if a.wait(t); a.cmd.ProcessState.ExitCode() != 0 {
					t.Errorf("%v: %s", a.cmd.ProcessState, brief(a.output()))
				}
				if out := r.wait(t); out != "ring ok\n" {
					t.Errorf("it wrote %q", out)
				}
				tell(t, 0, "verify", p.log())
			})
		}
	}
}

// TestAttachFaulted: the userfaultfd was there before memtrace was.
func TestAttachFaulted(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "faulted", "x86_64")
	for _, args := range []string{"write call", "readv call", "openat device"} {
		t.Run(args, func(t *testing.T) {
			p := newPlace(t)
			r := p.start(t, append(append([]string{prog}, strings.Fields(args)...), "traced")...)
			a := p.attach(t, r, p.log())
			if a.wait(t); a.cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("%v: %s", a.cmd.ProcessState, brief(a.output()))
			}
			if out := r.wait(t); out != strings.Fields(args)[0]+" ok\n" {
				t.Errorf("it wrote %q", out)
			}
			tell(t, 0, "verify", p.log())
		})
	}
}

// tasks are the ids of the threads of a process, the lowest first: 714 before 1338.
func tasks(t *testing.T, pid int) (tids []string) {
	t.Helper()
	dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dir {
		tids = append(tids, d.Name())
	}
	slices.SortFunc(tids, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return tids
}

// TestAttachNames: by a thread, twice, with a first thread that has ended.
func TestAttachNames(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, how := range []string{"thread", "twice", "thread and process", "gone"} {
		t.Run(how, func(t *testing.T) {
			p := newPlace(t)
			argv := []string{compile(t, "comers", "x86_64")}
			if how == "gone" {
				argv = append(argv, "gone")
			}
			r := p.start(t, argv...)
			pid := r.cmd.Process.Pid
			eventually(t, func() error {
				if n := len(tasks(t, pid)); n < 3 {
					return fmt.Errorf("%d threads", n)
				}
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				if how == "gone" && err == nil && !strings.Contains(string(status), "State:\tZ") {
					return fmt.Errorf("the first thread has not ended")
				}
				return err
			})
			who := r.pid()
			switch tid := tasks(t, pid)[1]; how {
			case "thread":
				who = tid
			case "twice":
				who += "," + who
			case "thread and process":
				who = tid + "," + who
			}
			a := p.launch(t, exec.Command(binary(), "record", "-q", "-o", p.log(), "-p", who), "recorder-said")
			tid := tasks(t, pid)[1] // one that stays
			eventually(t, func() error {
				status, err := os.ReadFile("/proc/" + tid + "/status")
				if err == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
					return fmt.Errorf("it is not traced: %s", a.output())
				}
				return err
			})
			p.letGo(t)
			if a.wait(t); a.cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("%v: %s", a.cmd.ProcessState, brief(a.output()))
			}
			if out := r.wait(t); out != "comers ok\n" {
				t.Errorf("it wrote %q", out)
			}
			tell(t, 0, "verify", p.log())
			if maps := tell(t, 0, "replay", "--at", "0", "--maps", p.log()); len(maps) == 0 {
				t.Error("no mappings")
			}
		})
	}
}

// TestAttachComers: a thread that is ending is no refusal.
func TestAttachComers(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	r := p.start(t, compile(t, "comers", "x86_64"))
	times := 15
	if longRun {
		times = 100
	}
	for range times {
		tell(t, 0, "record", "-q", "--max-events", "1", "-o", p.log(), "-p", r.pid())
		untouched(t, r.cmd.Process.Pid)
	}
	p.letGo(t)
	if out := r.wait(t); out != "comers ok\n" || r.cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("%v, it wrote %q", r.cmd.ProcessState, out)
	}
}

// TestAttachRefused: what cannot be attached to is an error of one line.
func TestAttachRefused(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = zombie.Wait() }()
	eventually(t, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", zombie.Process.Pid))
		if err == nil && !strings.Contains(string(status), "State:\tZ") {
			err = fmt.Errorf("it has not ended")
		}
		return err
	})
	tell(t, 125, "record", "-q", "-o", p.log(), "-p", strconv.Itoa(zombie.Process.Pid))
	tell(t, 125, "record", "-q", "-o", p.log(), "-p", "4194305")
	if os.Getuid() == 0 {
		tell(t, 125, "record", "-q", "-o", p.log(), "-p", "2") // kthreadd, or nobody
	}
}

// TestAttachLarge attaches to a program of 160 MiB: it is held to read a part of them, and the
// sweeps read the rest.
func TestAttachLarge(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	t.Parallel()
	const from, pages = 0x10000000, 160 << 20 >> 12
	p := newPlace(t)
	r := p.start(t, compile(t, "large", "x86_64"))
	eventually(t, func() error {
		if out := r.output(); string(out) != "ready\n" {
			return fmt.Errorf("it wrote %q", out)
		}
		return nil
	})
	a := p.launch(t, exec.Command(binary(), "record", "-q", "--snapshot", "interval=1s", "-o", p.log(), "-p", r.pid()), "recorder-said")
	var atAttach, all uint64
	eventually(t, func() error {
		tr, err := replay.Open(p.log(), nil)
		if err != nil {
			return err // it is being begun
		}
		defer tr.Close()
		atAttach, all = 0, 0
		for ev, err := range tr.Events(0) {
			if err != nil {
				return err
			}
			if s, ok := ev.Record.(*format.Snapshot); ok {
				if s.Reason == "attach" {
					atAttach = s.Pages
				}
				if s.Reason == "attach" || s.Reason == format.ReasonSweep {
					all += s.Pages
				}
			}
		}
		if all < pages {
			return fmt.Errorf("%d pages are in the log", all)
		}
		// Some of them are of other mappings.
		return exec.Command(binary(), "replay", p.log(), "--at", "last", "--mem", fmt.Sprintf("%#x:%d", from, pages<<12), "--raw").Run()
	})
	if err := os.WriteFile(filepath.Join(p.run(), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	a.wait(t)
	if atAttach == 0 || atAttach >= pages {
		t.Errorf("%d of %d pages were read while it was held", atAttach, pages)
	}
	tell(t, 0, "verify", p.log())
	mem := tell(t, 0, "replay", p.log(), "--at", "last", "--mem", fmt.Sprintf("%#x:%d", from, pages<<12), "--raw")
	if len(mem) != pages<<12 {
		t.Fatalf("%d bytes are known", len(mem))
	}
	for i := 0; i < len(mem); i += 4 {
		n := uint32(i / 4)
		if got, want := le.LittleEndian.Uint32(mem[i:]), (n>>10)*2654435761+n%7; got != want {
			t.Fatalf("%#x holds %#x, want %#x", from+i, got, want)
		}
	}
}
