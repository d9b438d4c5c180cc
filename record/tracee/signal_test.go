//go:build linux

package tracee_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

// A signal is told of with what it will do, before it does it, and is not delivered
// if the Handler does not want that.
func TestSignals(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  Op
		sig     unix.Signal
		deliver bool
		fatal   bool
	}{
		{"handled", Handle(unix.SIGUSR1, false), unix.SIGUSR1, true, false},
		{"ignored", Ignore(unix.SIGUSR1), unix.SIGUSR1, true, false},
		{"by default", Compute(0), unix.SIGUSR1, true, true},
		{"by default nothing", Compute(0), unix.SIGCHLD, true, false},
		{"kept away", Compute(0), unix.SIGTERM, false, true},
	} {
		h := newGroup(t, 7)
		h.signalled = func(th *tracee.Thread, s *tracee.Signal) bool {
			if s.No != int(c.sig) || s.Fatal != c.fatal || len(s.Info) < 12 || s.Info[0] != byte(c.sig) || len(s.Regs) != len(arch.X86_64.Registers()) {
				t.Errorf("%s: %+v", c.name, s)
			}
			return c.deliver
		}
		h.launch(Program{c.before, Call("getppid"), Raise(c.sig), ExitGroup(3)}, nil)
		if n := h.count("signal"); n != 1 {
			t.Errorf("%s: %d signals", c.name, n)
		}
		if n := len(h.k.Of(h.g.Main(), Delivered)); n != map[bool]int{true: 1}[c.deliver] {
			t.Errorf("%s: delivered %d times", c.name, n)
		}
		status, _ := h.g.Status()
		if died := status.Signaled(); died != (c.fatal && c.deliver) {
			t.Errorf("%s: status %#x", c.name, status)
		}
	}
}

// Job control stops a process once, however many threads it has, and SIGCONT has it
// go on once. Its threads sleep meanwhile.
func TestGroupStop(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.stopped = func(th *tracee.Thread, sig int) {
			if sig == 0 {
				return
			}
			pid := th.Proc.PID
			h.g.After(time.Millisecond, func() {
				for u := range th.Space.Threads {
					if u.State() == tracee.Listening && (h.k.Running(u.TID) || u.Stands() || h.g.Registers(u) != nil) {
						t.Errorf("thread %d is not stopped", u.TID)
					}
				}
				if err := h.k.Kill(pid, unix.SIGCONT); err != nil {
					t.Error(err)
				}
			})
		}
		h.launch(Program{Spawn(loops(12, "getppid")), Spawn(Program{Wait("read", 60, ERestartSys)}), Call("getppid"), Kill(unix.SIGSTOP), Compute(20)}, nil)
		h.checkEnds()
		var sigs []int
		for _, f := range h.told {
			if f.what == "stopped" {
				sigs = append(sigs, f.sig)
			}
		}
		if len(sigs) != 2 || sigs[0] != int(unix.SIGSTOP) || sigs[1] != 0 {
			t.Errorf("stopped %v", sigs)
		}
	})
}

// A signal to itself with which the launcher's runtime preempts its goroutines, and
// which comes after the exec, is not the program's.
func TestLaunchersSignal(t *testing.T) {
	h := newGroup(t, 1)
	h.began = func(th *tracee.Thread, b tracee.Birth) {
		if b.First {
			h.k.Tgkill(th.TID, unix.SIGURG)
		}
	}
	h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
		if nameOf(c) == "getppid" {
			h.k.Tgkill(th.TID, unix.SIGURG)
		}
		return false
	}
	h.launch(Program{Call("getppid")}, nil)
	h.wantSeq(1, "began", "entered getppid", "returned getppid", "signal 23", "entered exit_group", "ending", "removed", "ended")
}

// Interrupt brings one running thread to a stop, of which Paused is told.
func TestPaused(t *testing.T) {
	each(t, 30, func(seed uint64) {
		h := newGroup(t, seed)
		h.paused = func(th *tracee.Thread) {
			if th.State() != tracee.Stopped {
				t.Errorf("%v", th.State())
			}
			h.g.Kill()
		}
		h.began = func(*tracee.Thread, tracee.Birth) {
			if err := h.g.Interrupt(); err != nil {
				t.Error(err)
			}
		}
		h.launch(Program{Compute(Forever)}, nil)
		if n := h.count("paused"); n != 1 {
			t.Errorf("paused %d times", n)
		}
	})
}

// Before the loop and after its end nobody answers, and nothing is left waiting.
func TestAskOutside(t *testing.T) {
	h := newGroup(t, 1)
	never := func() { t.Error("called") }
	if err := h.g.Ask(never); !errors.Is(err, tracee.ErrNotServing) {
		t.Error(err)
	}
	if err := h.g.Interrupt(); !errors.Is(err, tracee.ErrNotServing) {
		t.Error(err)
	}
	h.began = func(*tracee.Thread, tracee.Birth) { h.g.After(30*time.Millisecond, never) } // which outlives the loop
	h.launch(Program{Call("getppid")}, nil)
	wakes := h.k.Requests("wake")
	if err := h.g.Ask(never); !errors.Is(err, tracee.ErrNotServing) {
		t.Error(err)
	}
	time.Sleep(60 * time.Millisecond)
	if h.g.Wanted() || h.k.Requests("wake") != wakes {
		t.Errorf("pending %v, woken %d times after the end", h.g.Wanted(), h.k.Requests("wake")-wakes)
	}
	h.g.Answer()
}

// Whoever asks is answered on the tracing thread, each once, or told that nobody
// serves.
func TestAskFromMany(t *testing.T) {
	h := newGroup(t, 1)
	var wg sync.WaitGroup
	var taken atomic.Int64
	answered := 0 // by the tracing thread alone: the race detector looks at it
	h.began = func(th *tracee.Thread, _ tracee.Birth) {
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if h.g.Ask(func() { answered++ }) == nil {
						taken.Add(1)
					}
				}
			})
		}
		wg.Go(func() {
			for h.g.Ask(func() {
				if answered == 400 {
					h.g.Kill()
				}
			}) == nil {
				time.Sleep(time.Millisecond)
			}
		})
	}
	h.launch(Program{Compute(Forever)}, nil)
	wg.Wait()
	if taken.Load() != 400 || answered != 400 {
		t.Errorf("%d taken, %d answered", taken.Load(), answered)
	}
}

// Finish lets all go as they would have been without us: signals that wait are
// delivered, calls that we have interrupted are made again.
func TestRelease(t *testing.T) {
	each(t, 200, func(seed uint64) {
		h := newGroup(t, seed)
		calls := 0
		h.returned = func(th *tracee.Thread, _ *tracee.Call) {
			if calls++; calls < 12 {
				return
			}
			h.g.Hold(th.Space)
			h.g.Finish()
		}
		poll := Wait("poll", 40, int(unix.EINTR)).Returns(1)
		worker := Program{Handle(unix.SIGUSR1, false)}
		for range 6 {
			worker = worker.Then(Compute(2), poll, Raise(unix.SIGUSR1), Compute(2))
		}
		h.launch(Program{Spawn(worker)}.Then(worker...).Then(Sleep("fsync", 500)), nil)
		if !h.g.Over() || h.g.Waiting() != 0 {
			t.Errorf("over %v, %d facts wait", h.g.Over(), h.g.Waiting())
		}
		h.k.TracerEnds()
		for h.k.Step() {
		}
		if alive := h.k.Alive(); len(alive) != 0 {
			t.Errorf("%v live on for ever", alive)
		}
		for _, e := range h.k.Log() {
			if e.What == Returned && e.Name == "poll" && e.Ret != 1 {
				t.Errorf("thread %d sees its poll interrupted", e.TID)
			}
		}
		for tid := FirstTID + 1; tid < FirstTID+3; tid++ {
			if n := len(h.k.Of(tid, Delivered)); n < 5 {
				t.Errorf("thread %d has had %d of 6 signals", tid, n) // one may have been at hand
			}
		}
	})
}

// How the program has ended is known, filtered or not, also where its end has come and
// waits when the recording is over.
func TestReleaseStatus(t *testing.T) {
	for _, filter := range []*arch.Set{nil, someCalls(t, "mmap,getppid")} {
		waited := 0
		each(t, 40, func(seed uint64) {
			h := newGroup(t, seed)
			waits := false
			h.returned = func(_ *tracee.Thread, c *tracee.Call) {
				main := h.g.Main()
				if nameOf(c) != "getppid" || h.g.Over() {
					return
				}
				h.k.Tgkill(main, unix.SIGKILL)
				for range 1000 {
					h.g.Poll()
				}
				waits = h.g.StopOf(main) == ptrace.Killed // and not the stop before its end
				h.g.Finish()
			}
			h.launch(Program{Fork(Program{Compute(5), Call("getppid"), Compute(Forever)}), Sleep("fsync", Forever)}, filter)
			status, ended := h.g.Status()
			if waits {
				waited++
			}
			if waits && (!ended || status.Signal() != unix.SIGKILL) {
				t.Errorf("status %#x %v", status, ended)
			}
		})
		if waited == 0 {
			t.Errorf("filtered %v: the program's end never waited", filter != nil)
		}
	}
}

// Threads that live from call to call are kept on one CPU, until they ask where they
// may run, make a child, or are let go.
func TestPinned(t *testing.T) {
	set := everyCall(t)
	h := newGroup(t, 1, func(o *tracee.Options) { o.NoPin = false })
	var cpus unix.CPUSet
	pinned := 0
	h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
		if h.g.Pinned() {
			pinned++
		}
		return false
	}
	h.returned = func(th *tracee.Thread, c *tracee.Call) {
		if err := h.k.Affinity(th.TID, &cpus); err != nil {
			t.Fatal(err)
		}
		if name := nameOf(c); name == "sched_getaffinity" && cpus.Count() == 1 {
			t.Error("the program sees that it is pinned")
		}
	}
	h.launch(Program{Call("getppid"), Call("getppid"), Call("sched_getaffinity"), Call("getppid")}, &set)
	if pinned == 0 {
		t.Error("nobody was ever pinned")
	}
	if h.k.Affinity(0, &cpus) != nil || cpus.Count() == 1 || h.g.Pinned() {
		t.Error("the recorder is left pinned")
	}
}
