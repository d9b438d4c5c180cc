//go:build linux

package tracee_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

// loops is a program that computes between calls, n times.
func loops(n int, name string) (p Program) {
	for range n {
		p = append(p, Compute(3), Call(name))
	}
	return p
}

// Hold stops who runs, and leaves who sleeps in a call; LetGo lets those go on that
// nothing else has stopped, and what they stopped with otherwise is served.
func TestHold(t *testing.T) {
	held, letGo := 0, 0
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if nameOf(c) != "mmap" {
				return
			}
			s := th.Space
			h.g.Hold(s)
			for u := range s.Threads {
				switch u.State() {
				case tracee.Running:
					t.Errorf("thread %d runs", u.TID)
				case tracee.Stopped:
					if held++; h.k.Running(u.TID) || h.g.Registers(u) == nil {
						t.Errorf("thread %d is not held", u.TID)
					}
				}
			}
			if s.Asleep() {
				t.Error("asleep, with a thread that is being served")
			}
			waiting := h.g.Waiting()
			if seed%2 == 0 {
				h.g.LetGo(s)
				if letGo += waiting - h.g.Waiting(); h.g.Waiting() > waiting {
					t.Error("more waits after LetGo than before")
				}
			}
			if h.g.Poll() != (h.g.Waiting() > 0) {
				t.Error("Poll says what is not so")
			}
		}
		h.launch(Program{Spawn(loops(20, "getppid")), Spawn(Program{Wait("read", 50, ERestartSys)})}.Then(loops(8, "mmap")...), nil)
		h.checkEnds()
		h.checkCalls(true, 0)
	})
	if held == 0 || letGo == 0 {
		t.Errorf("%d held, %d let go", held, letGo)
	}
}

// ServeWaiting serves what has come during a hold, and no more.
func TestServeWaiting(t *testing.T) {
	each(t, 50, func(seed uint64) {
		h := newGroup(t, seed)
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			if nameOf(c) == "brk" && th.No == 1 {
				_ = h.g.Ask(func() { // between two facts, as a snapshot by the clock
					h.g.Hold(th.Space)
					h.g.ServeWaiting()
					if n := h.g.Waiting(); n != 0 {
						t.Errorf("%d facts wait", n)
					}
				})
			}
			return false
		}
		h.launch(Program{Spawn(loops(20, "getppid"))}.Then(loops(8, "brk")...), nil)
		h.checkCalls(true, 0)
	})
}

// A thread that sleeps where nothing wakes it does not keep others waiting for ever.
func TestHoldOfSleeper(t *testing.T) {
	h := newGroup(t, 1)
	pid := h.k.Run(Program{Spawn(Program{Sleep("fsync", Forever)}), Sleep("fsync", 1), Compute(Forever)})
	for range 30 {
		h.k.Step()
	}
	unseen := 0
	h.began = func(leader *tracee.Thread, _ tracee.Birth) {
		for u := range leader.Space.Threads {
			if u.Unseen() {
				unseen++
			}
		}
		h.g.Kill()
	}
	h.attach(pid)
	if unseen != 1 || h.count("ended") != 2 {
		t.Errorf("%d threads were unseen, %d have ended", unseen, h.count("ended"))
	}
}

// A call in the name of a thread has its result, and the thread notices nothing: its
// registers and its mask are as they were.
func TestInject(t *testing.T) {
	each(t, 100, func(seed uint64) {
		set, h := everyCall(t), newGroup(t, seed)
		h.k.Injected = func(_ int, name string, args [6]uint64) int64 {
			if name != "mmap" || args != [6]uint64{1, 2, 3, 4, 5, 6} {
				t.Errorf("%s%v", name, args)
			}
			return 0x7000
		}
		made := 0
		h.returned = func(th *tracee.Thread, _ *tracee.Call) {
			h.g.Hold(th.Space)
			before := h.g.Registers(th)
			at := h.g.Standing(th.Space)
			if !h.g.Injectable(th) || !h.g.Injectable(at) {
				t.Fatal("no call can be made at the end of a call")
			}
			in, err := h.g.Inject(th, VDSOCode, VDSO)
			if err != nil {
				t.Fatal(err)
			}
			mask, _ := h.k.SigMask(th.TID)
			if mask|1<<8|1<<18 != ^uint64(0) {
				t.Errorf("signals %#x are not blocked meanwhile", ^mask)
			}
			for range 2 {
				if ret, err := in.Call("mmap", 1, 2, 3, 4, 5, 6); ret != 0x7000 || err != nil {
					t.Errorf("%#x, %v", ret, err)
				}
				made++
			}
			if _, err := in.Call("no_such_call"); !errors.Is(err, tracee.ErrInject) {
				t.Error(err)
			}
			in.Done()
			in.Done()
			if _, err := in.Call("mmap"); !errors.Is(err, tracee.ErrInject) {
				t.Errorf("a call after the end: %v", err)
			}
			if after := h.g.Registers(th); !slices.Equal(before, after) {
				t.Errorf("registers were\n%#x, are\n%#x", before, after)
			}
			if mask, _ := h.k.SigMask(th.TID); mask != 1<<(unix.SIGUSR1-1) && made > 2 {
				t.Errorf("mask %#x", mask)
			}
		}
		filter := &set
		if seed%2 == 0 {
			filter = nil
		}
		h.launch(Program{Block(unix.SIGUSR1), Call("getppid").Returns(4), Wait("read", 5, ERestartSys).Returns(9)}, filter)
		if es := h.k.Of(h.g.Main(), Injected); len(es) != made || made < 6 {
			t.Errorf("%d calls made, %d seen", made, len(es))
		}
		h.checkCalls(true, 0)
	})
}

// A thread that is killed while a call is made in its name is no longer there for
// it, and its end is told of.
func TestInjectPreempted(t *testing.T) {
	preempted := 0
	each(t, 60, func(seed uint64) {
		h := newGroup(t, seed)
		h.k.Injected = func(int, string, [6]uint64) int64 { return 0 }
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if nameOf(c) != "getppid" {
				return
			}
			in, err := h.g.Inject(th, VDSOCode, VDSO)
			if err != nil {
				t.Fatal(err)
			}
			h.k.Disturb = func(k *Kernel, r *rand.Rand) {
				if r.IntN(3) == 0 {
					k.Tgkill(th.TID, unix.SIGKILL)
				}
			}
			_, err = in.Call("mmap")
			h.k.Disturb = nil
			if errors.Is(err, tracee.ErrPreempted) {
				preempted++
			}
			in.Done()
			if err != nil && h.g.Injectable(th) {
				t.Error("another call can be made although the thread is gone")
			}
		}
		h.launch(Program{Call("getppid"), Compute(20)}, nil)
		h.checkEnds()
	})
	if preempted == 0 {
		t.Error("no call was preempted")
	}
}

// What cannot be injected into is refused: code without the instruction, a thread
// that runs, one that is about to see a signal.
func TestInjectRefused(t *testing.T) {
	h := newGroup(t, 1)
	h.returned = func(th *tracee.Thread, c *tracee.Call) {
		switch {
		case nameOf(c) == "getppid":
			if _, err := h.g.Inject(th, []byte{0x90, 0x0f}, VDSO); !errors.Is(err, tracee.ErrInject) {
				t.Error(err)
			}
		case c.Ret < 0 && h.g.Injectable(th):
			t.Errorf("a call can be made although %d is to be seen first", c.Ret)
		}
	}
	h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
		if _, err := h.g.Inject(th, VDSOCode, VDSO); !errors.Is(err, tracee.ErrInject) || h.g.Standing(th.Space) != th {
			t.Error("at the entry of a call:", err)
		}
		if nameOf(c) == "read" || nameOf(c) == "poll" {
			h.k.Tgkill(th.TID, unix.SIGUSR1)
		}
		return false
	}
	h.launch(Program{Handle(unix.SIGUSR1, false), Call("getppid"), Wait("read", Forever, ERestartSys), Wait("poll", Forever, int(unix.EINTR))}, nil)
}

// No call is made where the instruction would not enter the kernel, or where the
// thread could not be put back.
func TestInjectNotHere(t *testing.T) {
	const area, section = 0x5000, 0x6000
	for _, c := range []struct {
		name     string
		cs       uint64
		dispatch bool
		area     uint64
		section  uint64 // 0: the thread is in none
		start    int64  // of the section, from where the thread is
		want     error
	}{
		{name: "own code segment", cs: 0x7, want: tracee.ErrInject},
		{name: "dispatched calls", dispatch: true, want: tracee.ErrInject},
		{name: "in a sequence", area: area, section: section, start: -8, want: tracee.ErrNotNow},
		{name: "at its begin", area: area, section: section, want: tracee.ErrNotNow},
		{name: "behind it", area: area, section: section, start: -16},
		{name: "before it", area: area, section: section, start: 1},
		{name: "in none", area: area},
		{name: "unreadable area", area: 0x9000, want: tracee.ErrNotNow},
		{name: "unreadable section", area: area, section: 0x9000, want: tracee.ErrNotNow},
		{name: "i386", cs: 0x23},
	} {
		h, tried := newGroup(t, 1), 0
		h.k.Dispatched, h.k.Sequences = c.dispatch, c.area
		h.returned = func(th *tracee.Thread, _ *tracee.Call) {
			var regs ptrace.Regs
			if err := h.k.GetRegs(th.TID, &regs); err != nil {
				t.Fatal(err)
			}
			h.k.Memory = func(_ int, b []byte, a addr.Addr) int {
				word, ok := map[addr.Addr]uint64{
					area + 8: c.section, section + 8: regs[ptrace.RegRIP] + uint64(c.start), section + 16: 16,
				}[a]
				if !ok || len(b) != 8 {
					return 0
				}
				binary.LittleEndian.PutUint64(b, word)
				return 8
			}
			was := regs
			if c.cs != 0 {
				regs[ptrace.RegCS] = c.cs
				if err := h.k.SetRegs(th.TID, &regs); err != nil {
					t.Fatal(err)
				}
			}
			in, err := h.g.Inject(th, VDSOCode, VDSO)
			if tried++; !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if err == nil {
				if _, err := in.Call("munmap", 1, 2); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				in.Done()
			}
			if err := h.k.SetRegs(th.TID, &was); err != nil {
				t.Fatal(err)
			}
		}
		h.launch(Program{Call("getppid")}, nil)
		if made := len(h.k.Of(h.g.Main(), Injected)); tried != 1 || made != map[bool]int{true: 1}[c.want == nil] {
			t.Errorf("%s: tried %d times, made %d", c.name, tried, made)
		}
	}
}

// A call that does not end in time is left alone, and its thread is put back when it
// ends at last: it goes on from where it was, or what it had stopped with is served.
func TestInjectStray(t *testing.T) {
	for _, how := range []struct {
		other bool // the thread was stopped by a hold, and is not the one that is served
		again bool // it is held again before the call has ended
	}{{}, {again: true}, {other: true, again: true}} {
		h := newGroup(t, 3)
		var stalled atomic.Bool
		h.k.Stall = stalled.Load
		var strays int
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if nameOf(c) != "mmap" || strays > 0 {
				return
			}
			h.g.Hold(th.Space)
			at := th
			for u := range th.Space.Threads {
				if how.other && u != th && h.g.Injectable(u) {
					at = u
				}
			}
			if how.other == (at == th) {
				return // the other thread is in a call
			}
			in, err := h.g.Inject(at, VDSOCode, VDSO)
			if err != nil {
				t.Fatal(err)
			}
			strays++
			stalled.Store(true)
			if _, err := in.Call("munmap"); !errors.Is(err, tracee.ErrStray) || h.g.Injectable(at) {
				t.Errorf("%v; another call can be made: %v", err, h.g.Injectable(at))
			}
			in.Done()
			stalled.Store(false)
			if how.again {
				h.g.Hold(th.Space) // whose interrupt meets the end of the call
			}
		}
		h.launch(Program{Block(unix.SIGUSR1), Spawn(loops(30, "getppid"))}.Then(loops(8, "mmap")...).Then(Sleep("fsync", 400)), nil)
		if strays != 1 {
			t.Errorf("%d calls did not end", strays)
		}
		h.checkEnds()
		h.checkCalls(true, 0)
	}
}

// The registers at the entry of a call that may block are kept, for whoever looks
// while the thread is in it: once.
func TestTakeRegisters(t *testing.T) {
	for _, keep := range []tracee.KeepRegisters{tracee.KeepNever, tracee.KeepShared, tracee.KeepAlways} {
		h := newGroup(t, 3, func(o *tracee.Options) { o.Keep = keep })
		var in *tracee.Thread
		looked := 0
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			switch {
			case nameOf(c) == "read":
				in = th
			case nameOf(c) == "mmap" && in != nil && in.State() == tracee.InCall && looked == 0:
				looked++
				regs := h.g.TakeRegisters(in, false)
				if (regs != nil) != (keep != tracee.KeepNever) {
					t.Errorf("%d: %v", keep, regs)
				}
				if nr, _ := arch.X86_64.Number("read"); regs != nil && (regs[arch.OrigRAX] != uint64(nr) || regs[arch.RDI] != 5) {
					t.Errorf("%#x", regs)
				}
				if !slices.Equal(h.g.TakeRegisters(in, true), regs) {
					t.Error("they are others when they are asked for again")
				}
				if h.g.TakeRegisters(in, false) != nil || h.g.Registers(in) != nil {
					t.Error("registers were given twice, or of a thread that does not stand")
				}
				if x, ok := h.g.XState(th); !ok || len(x) != XState {
					t.Errorf("%d bytes of extended state, %v", len(x), ok)
				}
				if _, ok := h.g.XState(in); ok {
					t.Error("extended state of a thread that does not stand")
				}
			}
			return false
		}
		read := Call("read", 5, 0x1000, 10).Takes(300)
		h.launch(Program{Spawn(Program{read})}.Then(loops(10, "mmap")...).Then(Sleep("fsync", 300)), nil)
		if looked != 1 {
			t.Errorf("%d: looked %d times", keep, looked)
		}
	}
}

// A completed call from another source than a stop is told of while its thread runs.
func TestCompletedCall(t *testing.T) {
	each(t, 30, func(seed uint64) {
		h := newGroup(t, seed)
		c := &tracee.Call{}
		c.Arch, c.Nr, c.Returned = arch.X86_64, 39, true // getpid
		got := 0
		h.entered = func(th *tracee.Thread, e *tracee.Call) bool {
			if nameOf(e) == "brk" && th.No == 1 {
				for u := range th.Space.Threads {
					h.k.Complete(u.TID, c)
				}
				h.g.Hold(th.Space) // which the facts do not end
				for u := range th.Space.Threads {
					if u.State() == tracee.Running {
						t.Errorf("thread %d runs", u.TID)
					}
				}
				h.k.Complete(FirstTID+999, c) // of nobody
			}
			return false
		}
		h.returned = func(_ *tracee.Thread, r *tracee.Call) {
			if r == c {
				got++
			}
		}
		h.completed = c
		h.launch(Program{Spawn(Program{Compute(60)}), Compute(3), Call("brk"), Compute(30)}, nil)
		if got == 0 {
			t.Error("no completed call was told of")
		}
	})
}
