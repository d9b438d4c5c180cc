//go:build linux

package tracee_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

const eintr = -int64(unix.EINTR)

// each runs a test for some seeds, until one has failed.
func each(t *testing.T, n uint64, f func(seed uint64)) {
	t.Helper()
	for seed := range n {
		if f(seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// All calls of a program are told of in order, with the last, which never returns.
func TestCalls(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if c.Leave < c.Enter || c.Enter == 0 || c.Args[1] != 0 && nameOf(c) == "getppid" {
				t.Errorf("%+v", c)
			}
		}
		h.launch(Program{Call("getppid", 1, 2).Returns(7), Compute(3), Wait("read", 4, ERestartSys).Returns(-int64(unix.EBADF)), ExitGroup(5)}, nil)
		h.wantSeq(1, "began", "entered getppid", "returned getppid", "entered read", "returned read", "entered exit_group", "ending", "removed", "ended")
		if got := h.told[4]; got.ret != -int64(unix.EBADF) {
			t.Errorf("read returns %d", got.ret)
		}
		if status, ended := h.g.Status(); !ended || status.ExitStatus() != 5 || h.g.Main() != h.told[0].tid {
			t.Errorf("status %#x %v", status, ended)
		}
		if b := h.told[0].birth; !b.First || b.How != tracee.Executed || b.Left != nil || int(b.OldTID) != h.g.Main() {
			t.Errorf("%+v", b)
		}
		if end := h.told[len(h.told)-1]; !end.last || end.at != 5<<8 {
			t.Errorf("%+v", end)
		}
	})
}

// A call by int 0x80 of a program of 64 bits is one of i386.
func TestCallsOfI386(t *testing.T) {
	h := newGroup(t, 1)
	var got []arch.ID
	h.entered = func(_ *tracee.Thread, c *tracee.Call) bool {
		got = append(got, c.Arch)
		if c.Arch == arch.I386 && (nameOf(c) != "mprotect" || c.Args != [6]uint64{0x1000, 0x2000, 3}) {
			t.Errorf("%s %#x", nameOf(c), c.Args)
		}
		return false
	}
	h.launch(Program{Call("mprotect", 0x1000, 0x2000, 3).I386(), Call("getppid")}, nil)
	if !slices.Equal(got, []arch.ID{arch.I386, arch.X86_64, arch.X86_64}) {
		t.Error(got)
	}
}

// With a filter only the calls in it are told of, with both ends.
func TestFilteredCalls(t *testing.T) {
	set, err := arch.ParseSet("mmap,exit_group,clone,exit")
	if err != nil {
		t.Fatal(err)
	}
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.launch(Program{
			Call("getppid"), Call("mmap", 1).Returns(0x1000), Wait("read", 3, ERestartSys),
			Spawn(Program{Call("write"), Call("mmap", 2), Call("sched_getaffinity")}), Call("getppid"), Sleep("fsync", 200),
		}, &set)
		if !h.g.Filtered() {
			t.Error("not filtered")
		}
		h.wantSeq(1, "began", "entered mmap", "returned mmap", "entered clone", "returned clone", "entered exit_group", "ending", "removed", "ended")
		h.wantSeq(2, "began", "entered mmap", "returned mmap", "entered sched_getaffinity", "returned sched_getaffinity", "entered exit", "ending", "removed", "ended")
	})
}

// A thread that is killed inside a call abandons it, with its exit event or without.
func TestAbandoned(t *testing.T) {
	ways := map[bool]int{}
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.entered = func(th *tracee.Thread, _ *tracee.Call) bool {
			h.g.After(0, func() { h.k.Tgkill(th.TID, unix.SIGKILL) })
			return false
		}
		h.launch(Program{Wait("read", Forever, ERestartSys)}, nil)
		seq := h.seq(1)
		withEvent := slices.Contains(seq, "ending")
		ways[withEvent]++
		if withEvent {
			h.wantSeq(1, "began", "entered read", "ending", "removed", "ended")
		} else {
			h.wantSeq(1, "began", "entered read", "abandoned read", "removed", "ended")
		}
		if status, ended := h.g.Status(); !ended || status.Signal() != unix.SIGKILL {
			t.Errorf("status %#x %v", status, ended)
		}
	})
	if len(ways) != 2 {
		t.Errorf("the kernel took one way only: %v", ways)
	}
}

// A thread that is attached to inside a call, of which it stops at the end only, has
// its arguments from the registers.
func TestAdoptedCall(t *testing.T) {
	found := 0
	each(t, 10, func(seed uint64) {
		h := newGroup(t, seed)
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if nameOf(c) == "pause" {
				return
			}
			if found++; nameOf(c) != "vfork" || c.Ret != FirstTID+2 || c.Enter != 0 || th.State() != tracee.Stopped {
				t.Errorf("%+v", c)
			}
		}
		pid := h.k.Run(Program{Vfork(Program{Compute(100)}), Call("pause")})
		for range 5 {
			h.k.Step()
		}
		h.attach(pid)
		h.checkEnds()
		if h.count("seen") > 1 {
			t.Error("a thread was seen for the first time twice")
		}
	})
	if found == 0 {
		t.Error("no call was adopted")
	}
}

// An interrupt of ours is not seen by a program whose call says EINTR for it: the
// call is made again, whether the interrupt met it inside or at its entry.
func TestRestartUndone(t *testing.T) {
	restarted := 0
	each(t, 6000, func(seed uint64) {
		if seed >= 300 && restarted > 0 { // it is rare: once in a hundred
			return
		}
		h := newGroup(t, seed)
		spinner := Program{Compute(50), Call("getppid"), Compute(50), Call("getppid"), Compute(50)}
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			if nameOf(c) == "getppid" {
				h.g.Hold(th.Space)
			}
			return false
		}
		h.launch(Program{Spawn(spinner), Compute(20), Wait("poll", 90, int(unix.EINTR)).Returns(1), Compute(9), Wait("poll", 70, int(unix.EINTR)).Returns(2)}, nil)
		var saw []int64
		for _, e := range h.k.Of(h.g.Main(), Returned) {
			if e.Name == "poll" {
				saw = append(saw, e.Ret)
			}
		}
		if !slices.Equal(saw, []int64{1, 2}) {
			t.Errorf("the program sees %v of its polls", saw)
		}
		restarted += h.count("restarted")
		h.checkCalls(true, 0)
	})
	if restarted == 0 {
		t.Error("no interrupt of ours met a call at its entry")
	}
}

// A call that is interrupted by a signal says so, although we have interrupted it
// too.
func TestRestartBySignal(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			if nameOf(c) == "poll" {
				h.k.Tgkill(th.TID, unix.SIGUSR1)
				if seed%2 == 0 {
					_ = h.k.Interrupt(th.TID)
				}
			}
			return false
		}
		h.launch(Program{Handle(unix.SIGUSR1, true), Wait("poll", Forever, int(unix.EINTR))}, nil)
		if es := h.k.Of(h.g.Main(), Returned); es[len(es)-1].Ret != eintr {
			t.Errorf("%+v", es)
		}
		h.wantSeq(1, "began", "entered rt_sigaction", "returned rt_sigaction", "entered poll", "returned poll", "signal 10", "entered exit_group", "ending", "removed", "ended")
	})
}

// A signal that the program ignores would not have woken an untraced thread: its
// call is made again.
func TestIgnoredSignal(t *testing.T) {
	each(t, 50, func(seed uint64) {
		h := newGroup(t, seed)
		sent := false
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			if nameOf(c) == "poll" && !sent {
				sent = true
				h.k.Tgkill(th.TID, unix.SIGUSR2)
			}
			return false
		}
		h.launch(Program{Ignore(unix.SIGUSR2), Wait("poll", 10, int(unix.EINTR)).Returns(3)}, nil)
		if es := h.k.Of(h.g.Main(), Returned); es[len(es)-1].Ret != 3 {
			t.Errorf("%+v", es)
		}
	})
}

// A call whose turn has not come waits at its entry until Go, and begins then.
func TestQueued(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		var queued *tracee.Thread
		var before uint64
		h.entered = func(th *tracee.Thread, c *tracee.Call) bool {
			if nameOf(c) != "mmap" {
				return false
			}
			queued, before = th, c.Enter
			return true
		}
		done := false
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			switch {
			case nameOf(c) == "mmap":
				if done = true; c.Enter <= before {
					t.Error("the call began before its turn")
				}
			case nameOf(c) == "write":
				if queued == nil {
					return
				}
				if queued.State() != tracee.Queued || done || h.k.Running(queued.TID) || queued.Space.Asleep() {
					t.Errorf("%v, done %v", queued.State(), done)
				}
				if h.g.Registers(queued) == nil {
					t.Error("a thread at the entry of its call has no registers")
				}
				h.g.Go(queued)
				if queued.State() != tracee.InCall || h.g.Registers(queued) != nil {
					t.Errorf("%v after its turn has come", queued.State())
				}
				queued = nil
			}
		}
		writer := Program{}
		for range 40 {
			writer = append(writer, Compute(3), Call("write"))
		}
		h.launch(Program{Spawn(Program{Call("mmap")})}.Then(writer...), nil)
	})
}
