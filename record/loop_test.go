//go:build linux

package record

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/tracee/traceetest"
)

// TestTurnExpires: a call that keeps its turn for ever does not keep others from theirs.
func TestTurnExpires(t *testing.T) {
	o := plain(t, "none")
	o.Check = true
	s := newSim(t, 1, o)
	munmap, _ := arch.X86_64.Number("munmap")
	mmap, _ := arch.X86_64.Number("mmap")
	main := 0
	s.r.opts.Observe = func(e *format.Event) {
		s.observe(e)
		if c, ok := e.Record.(*format.Syscall); ok && c.Nr == munmap {
			for m := range s.r.memories {
				if m.turn.Overdue() != 1 {
					t.Errorf("%d calls are overdue", m.turn.Overdue())
				}
			}
			s.k.Tgkill(main, unix.SIGUSR1)
		}
	}
	res := s.run(func(p *simProc) traceetest.Program {
		gone := pages(0x20, 0x24)
		other := traceetest.Program{traceetest.Compute(300), p.changes("munmap", func(m *simMem) int64 { m.Unmap(gone); return 0 }, uint64(gone.Start), gone.Len())}
		main = traceetest.FirstTID + 1
		return traceetest.Program{traceetest.Handle(unix.SIGUSR1, false), p.spawn(other), traceetest.Wait("mmap", traceetest.Forever, int(unix.EINTR)), traceetest.Call("getpid")}
	})
	var order []uint32
	for _, e := range s.tape.events {
		if c, ok := e.Record.(*format.Syscall); ok && (c.Nr == mmap || c.Nr == munmap) {
			order = append(order, c.Nr)
		}
	}
	if !slices.Equal(order, []uint32{munmap, mmap}) || res.Reason != "exit" {
		t.Errorf("calls %v, %+v", order, res)
	}
	s.check()
}

// busy is a program that computes until it is killed.
func busy(*simProc) traceetest.Program {
	return traceetest.Program{traceetest.Compute(traceetest.Forever)}
}

// TestLeftInCall: of a thread that is in a call when the recording ends the log says in which.
func TestLeftInCall(t *testing.T) {
	futex, _ := arch.X86_64.Number("futex")
	getpid, _ := arch.X86_64.Number("getpid")
	s := newSim(t, 1, plain(t, "none"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.r.opts.Observe = func(e *format.Event) {
		s.observe(e)
		if c, ok := e.Record.(*format.Syscall); ok && c.Nr == getpid {
			cancel()
		}
	}
	p := &simProc{sim: s, mem: newSimMem()}
	waits := traceetest.Program{traceetest.Wait("futex", traceetest.Forever, int(unix.EINTR))}
	calls := traceetest.Program{p.spawn(waits), traceetest.Compute(300), traceetest.Call("getpid"), traceetest.Compute(traceetest.Forever)}
	pid := s.k.Run(calls)
	s.procs[pid] = p
	res, err := s.r.Attach(ctx, pid)
	if err != nil || res.Reason != Interrupted {
		t.Fatalf("%+v, %v", res, err)
	}
	var open []uint32
	left := 0
	for _, e := range s.tape.events {
		switch x := e.Record.(type) {
		case *format.Syscall:
			if !x.Returned {
				open = append(open, x.Nr)
			}
		case *format.Detach:
			left++
		}
	}
	if !slices.Equal(open, []uint32{futex}) || uint64(len(s.tape.events)-left) != res.Events {
		t.Errorf("calls that did not return: %v, want %d; %d events, %d were let go, of %d", open, futex, len(s.tape.events), left, res.Events)
	}
}

// TestEnds: what ends a recording before its program: its context, its time, who looks at
// it, or the end of all processes.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		reason string
		set    func(*sim, context.CancelFunc)
	}{
		{Interrupted, func(s *sim, cancel context.CancelFunc) { s.r.opts.Observe = func(*format.Event) { cancel() } }},
		{"max-time", func(s *sim, _ context.CancelFunc) { s.r.opts.MaxTime = 10 * time.Millisecond }},
		{Detached, func(s *sim, _ context.CancelFunc) { s.r.opts.Pause = func(p *Pause) { p.Detach() } }},
		{"exit", func(s *sim, _ context.CancelFunc) { s.r.opts.Pause = func(p *Pause) { p.Kill() } }},
	} {
		s := newSim(t, 2, plain(t, "none"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c.set(s, cancel)
		p := &simProc{sim: s, mem: newSimMem()}
		pid := s.k.Run(append(traceetest.Program{p.spawn(busy(p))}, busy(p)...))
		s.procs[pid] = p
		res, err := s.r.Attach(ctx, pid)
		if err != nil || res.Reason != c.reason || res.Ended {
			t.Fatalf("%s: %+v, %v", c.reason, res, err)
		}
		left := 0
		for _, e := range s.tape.events {
			if d, ok := e.Record.(*format.Detach); ok {
				left++
				if d.Reason != c.reason {
					t.Errorf("%s: detached for %q", c.reason, d.Reason)
				}
			}
		}
		if alive := len(s.k.Alive()); left != alive || (alive == 0) != (c.reason == "exit") {
			t.Errorf("%s: %d threads are alive, %d were let go", c.reason, alive, left)
		}
		if uint64(len(s.tape.events)-left) != res.Events {
			t.Errorf("%s: %d events, not %d", c.reason, res.Events, len(s.tape.events)-left)
		}
		for name, ask := range map[string]func() error{"ask": func() error { return s.r.Ask(func() {}) }, "interrupt": s.r.Interrupt, "kill": s.r.Kill} {
			if err := ask(); !errors.Is(err, ErrNotRecording) {
				t.Errorf("%s after the end: %v", name, err)
			}
		}
		s.check()
	}
	// What was never there cannot be recorded.
	s := newSim(t, 2, plain(t, "none"))
	if res, err := s.r.Attach(context.Background(), 1<<22); err == nil {
		t.Errorf("%+v", res)
	}
}

// TestInterrupt: who asks for it may look at a program that computes, and at its
// registers.
func TestInterrupt(t *testing.T) {
	o := plain(t, "none")
	asked, looked := 0, make(chan struct{})
	var s *sim
	o.Pause = func(p *Pause) {
		switch p.When {
		case After:
			if _, ok := p.Event.Record.(*format.Attach); ok {
				go func() {
					for { // a thread that stands still is not stopped
						_ = s.r.Interrupt()
						select {
						case <-looked:
							return
						case <-time.After(time.Millisecond):
						}
					}
				}()
			}
		case Asked:
			asked++
			if regs, err := p.Regs(uint32(p.TID)); err != nil || len(regs) == 0 || regs[arch.RIP] == 0 {
				t.Errorf("%v, %v", regs, err)
			}
			p.Kill()
			if asked == 1 {
				close(looked)
			}
		}
	}
	s = newSim(t, 3, o)
	if res := s.run(busy); asked == 0 || res.Reason != "exit" {
		t.Errorf("asked %d times, %+v", asked, res)
	}
	s.check()
}

// TestClock: interval snapshots and samples come by the clock, while a program computes.
func TestClock(t *testing.T) {
	o := plain(t, "interval=1ms")
	o.MemInfo, o.MemInfoInterval = true, time.Millisecond
	var s *sim
	snapshots, samples := 0, 0
	var done bool
	s = newSim(t, 4, o)
	s.r.opts.Observe = func(e *format.Event) {
		s.observe(e)
		switch x := e.Record.(type) {
		case *format.Snapshot:
			if x.Reason == "interval" {
				snapshots++
			}
		case *format.MemInfo:
			samples++
			if len(x.Samples) == 0 || x.Samples[0].Source != "meminfo" {
				t.Errorf("%+v", x)
			}
		}
		if snapshots > 1 && samples > 2 && !done {
			done = true
			go func() { _ = s.r.Kill() }()
		}
	}
	res := s.run(busy)
	if !done || res.Reason != "exit" {
		t.Errorf("%d snapshots, %d samples, %+v", snapshots, samples, res)
	}
	s.check()
}

// TestLaunched: a program that is started has the first event, and its status is the
// recording's. Where it depends on its tracer it is served on when the log cannot be
// written.
func TestLaunched(t *testing.T) {
	for _, broken := range []bool{false, true} {
		few, err := arch.ParseSet("getpid")
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Trace: few, Follow: true, Snapshot: policy(t, "exec")}
		var started []int
		o.Started = func(pid int) { started = append(started, pid) }
		s := newSim(t, 5, o)
		p := &simProc{sim: s, mem: newSimMem()}
		s.procs[traceetest.FirstTID+1] = p
		s.made[traceetest.FirstTID+1] = p
		s.k.Launch(traceetest.Program{
			traceetest.Call("getppid"), traceetest.Call("getpid").Does(func(int, [6]uint64) int64 {
				if broken {
					s.tape.fail = errors.New("disk full")
				}
				return 5
			}),
			p.changes("munmap", func(m *simMem) int64 { m.Unmap(pages(0x20, 0x21)); return 0 }, uint64(page(0x20)), 4096),
			traceetest.ExitGroup(9),
		})
		res, err := s.r.Run(context.Background(), &Program{Path: "/bin/program", Argv: []string{"program"}})
		if err != nil {
			t.Fatal(err)
		}
		if !res.Ended || res.Status.ExitStatus() != 9 || len(started) != 1 || started[0] != traceetest.FirstTID+1 {
			t.Errorf("broken %v: %+v, started %v", broken, res, started)
		}
		var got []string
		for _, e := range s.tape.events {
			got = append(got, nameOf(e.Record))
		}
		if broken {
			if res.Reason != "write error" || res.Err == nil {
				t.Errorf("%+v", res)
			}
			continue
		}
		equal(t, "events", got, []string{"Exec", "Snapshot", "Syscall", "Syscall", "Syscall", "Exit"})
		s.check()
	}
}
