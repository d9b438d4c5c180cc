//go:build linux

package tracee_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

// births are the births that were told of, by the number of the thread.
func (h *teller) births() map[uint32][]tracee.Birth {
	m := map[uint32][]tracee.Birth{}
	for _, f := range h.told {
		if f.what == "began" {
			m[f.no] = append(m[f.no], f.birth)
		}
	}
	return m
}

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

// Each way to make a thread or process is told of with what was asked for, before
// the child does anything, whoever reports first.
func TestBirths(t *testing.T) {
	for _, c := range []struct {
		name                 string
		op                   func(Program) Op
		flags, stack         uint64
		sameProc, sameMemory bool
		parentAsked          uint32
	}{
		{name: "thread", op: Spawn, flags: threadFlags, stack: 0x7f0000100000, sameProc: true, sameMemory: true},
		{name: "fork", op: Fork, flags: uint64(unix.SIGCHLD), parentAsked: 1},
		{name: "vfork", op: Vfork, flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD), sameMemory: true, parentAsked: 1},
		{name: "clone without a signal", op: func(p Program) Op { return Clone(0, p) }, stack: 0x7f0000100000, parentAsked: 1},
		{name: "clone of a sibling", op: func(p Program) Op { return Clone(unix.CLONE_PARENT|uint64(unix.SIGCHLD), p) },
			flags: unix.CLONE_PARENT | uint64(unix.SIGCHLD), stack: 0x7f0000100000},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, 40, func(seed uint64) {
				h := newGroup(t, seed)
				h.began = func(th *tracee.Thread, b tracee.Birth) {
					if b.How != tracee.Cloned {
						return
					}
					if p := b.Parent; p.No != 1 || b.Clone.Flags != c.flags || b.Clone.Stack != c.stack ||
						(p.Proc == th.Proc) != c.sameProc || (p.Space == th.Space) != c.sameMemory || th.Space.Shared != (c.sameMemory && !c.sameProc) ||
						th.Proc.Arch != arch.X86_64 || !c.sameProc && (th.Proc.Parent != c.parentAsked || th.Proc.PID != th.TID || th.Proc.No != th.No) {
						t.Errorf("%+v of %+v", b, th)
					}
				}
				h.launch(Program{c.op(Program{Call("getppid")}), Sleep("fsync", 60)}, nil)
				call := "exit_group"
				if c.sameProc {
					call = "exit"
				}
				h.wantSeq(2, "began", "entered getppid", "returned getppid", "entered "+call, "ending", "removed", "ended")
				h.checkEnds()
			})
		})
	}
}

// clone3 has what it asks for in memory.
func TestClone3(t *testing.T) {
	h := newGroup(t, 1)
	h.k.Memory = func(_ int, b []byte, a addr.Addr) int {
		clear(b)
		if a != 0x5000 || len(b) < 56 {
			return 0
		}
		b[1] = 0x01            // flags: CLONE_VM
		b[32] = 17             // exit_signal: SIGCHLD
		b[40+1], b[48] = 2, 16 // stack, stack_size
		return len(b)
	}
	var got tracee.CloneArgs
	h.returned = func(_ *tracee.Thread, c *tracee.Call) { got = c.Clone }
	h.launch(Program{Call("clone3", 0x5000, 88).Returns(-int64(unix.EAGAIN))}, nil)
	if got.Flags != unix.CLONE_VM|uint64(unix.SIGCHLD) || got.Stack != 0x210 {
		t.Errorf("%+v", got)
	}
}

// Without Follow threads are traced, and no other children, not even those that the
// kernel seizes because they were made by clone: they run on.
func TestFollowNothing(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed, func(o *tracee.Options) { o.Follow = false })
		child := Program{Call("getppid"), Call("getppid")}
		h.launch(Program{Fork(child), Clone(unix.CLONE_VM, child), Vfork(child), Spawn(Program{Call("getpid")}), Sleep("fsync", 150)}, nil)
		births := h.births()
		if len(births) != 2 || births[2][0].Clone.Flags != threadFlags {
			t.Errorf("%+v", births)
		}
		for h.k.Step() {
		}
		for tid := FirstTID + 2; tid < FirstTID+5; tid++ {
			if n := len(h.k.Of(tid, Returned)); n != 2 {
				t.Errorf("child %d has made %d calls", tid, n)
			}
		}
	})
}

// A new program has an address space of its own, and whichever thread made the exec
// has the first one's tid; the others are gone.
func TestExecByAnotherThread(t *testing.T) {
	each(t, 200, func(seed uint64) {
		h := newGroup(t, seed)
		execs := 0
		var proc *tracee.Process
		h.began = func(th *tracee.Thread, b tracee.Birth) {
			switch {
			case b.How == tracee.Cloned:
				proc = th.Proc
			case !b.First:
				execs++
				if th.No != 2 || th.TID != h.g.Main() || int(b.OldTID) != FirstTID+2 || b.Left == nil || b.Left == th.Space || len(b.Left.Threads) != 0 ||
					len(th.Space.Threads) != 1 || th.Proc != proc || len(proc.Threads) != 1 || h.g.Thread(th.TID) != th || h.g.Thread(FirstTID+2) != nil {
					t.Errorf("%+v of %+v", b, th)
				}
			}
		}
		h.launch(Program{
			Spawn(Program{Compute(4), Exec(Program{Call("getppid"), ExitGroup(9)})}),
			Spawn(Program{Wait("read", Forever, ERestartSys)}), Wait("futex", Forever, ERestartSys),
		}, nil)
		if execs != 1 {
			t.Fatalf("%d execs", execs)
		}
		h.checkEnds()
		seq := h.seq(2)
		if tail := strings.Join(seq[len(seq)-7:], ","); tail != "returned execve,entered getppid,returned getppid,entered exit_group,ending,removed,ended" {
			t.Error(tail)
		}
		if status, ended := h.g.Status(); !ended || status.ExitStatus() != 9 {
			t.Errorf("status %#x %v", status, ended)
		}
	})
}

// The first thread may have ended long before: it is removed once, and the thread
// that makes the exec is there in its place.
func TestExecAfterLeader(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		h.launch(Program{Spawn(Program{Sleep("fsync", 60), Exec(Program{Call("getppid")})}), Exit(3)}, nil)
		h.wantSeq(1, "began", "entered clone", "returned clone", "entered exit", "ending", "removed")
		h.wantSeq(2, "began", "entered fsync", "returned fsync", "entered execve", "began", "returned execve",
			"entered getppid", "returned getppid", "entered exit_group", "ending", "removed", "ended")
	})
}

// A process is over when its last thread is, even if its first one ended before.
func TestLeaderEndsFirst(t *testing.T) {
	each(t, 50, func(seed uint64) {
		h := newGroup(t, seed)
		h.launch(Program{Spawn(Program{Sleep("fsync", 60), Exit(4)}), Exit(3)}, nil)
		for _, f := range h.told {
			if f.what == "ended" && f.last != (f.no == 1) {
				t.Errorf("%+v", f)
			}
		}
		if status, _ := h.g.Status(); status.ExitStatus() != 3 {
			t.Errorf("status %#x", status)
		}
	})
}

// A child whose parent is killed before it can tell of it is adopted: as if it had
// been attached to.
func TestOrphans(t *testing.T) {
	adopted := 0
	each(t, 6, func(seed uint64) {
		h := newGroup(t, seed)
		killed := false
		h.k.Disturb = func(k *Kernel, _ *rand.Rand) {
			if !killed && len(k.Of(FirstTID+2, Born)) > 0 {
				killed = true
				k.Tgkill(FirstTID+1, unix.SIGKILL)
			}
		}
		h.began = func(th *tracee.Thread, b tracee.Birth) {
			if b.How == tracee.Adopted {
				adopted++
				if th.Proc.PID != FirstTID+2 || th.Proc.Arch != arch.X86_64 || len(th.Space.Threads) != 1 || th.Proc.Parent != 0 {
					t.Errorf("%+v", th)
				}
			}
		}
		h.launch(Program{Fork(Program{Call("getppid")})}, nil)
		h.checkEnds()
		h.wantSeq(2, "began", "entered getppid", "returned getppid", "entered exit_group", "ending", "removed", "ended")
	})
	if adopted != 6 {
		t.Errorf("%d of 6 children were adopted", adopted)
	}
}

// All threads of a running process are told of together when they stand still, and
// none of them notices.
func TestAttach(t *testing.T) {
	each(t, 100, func(seed uint64) {
		h := newGroup(t, seed)
		poll := Wait("poll", 150, int(unix.EINTR)).Returns(1)
		pid := h.k.Run(Program{Spawn(Program{Compute(200)}), Spawn(Program{poll}), Wait("read", 200, ERestartSys).Returns(5), Compute(100)})
		for range 40 {
			h.k.Step()
		}
		threads := len(h.k.Alive())
		h.began = func(th *tracee.Thread, b tracee.Birth) {
			if b.How != tracee.Attached || th.TID != pid || len(th.Space.Threads) != threads || len(th.Proc.Threads) != threads || th.Proc.Arch != arch.X86_64 {
				t.Errorf("%+v of %+v", b, th)
			}
			for u := range th.Space.Threads {
				if u.State() != tracee.Stopped || h.k.Running(u.TID) || u.Unseen() {
					t.Errorf("thread %d is %v", u.TID, u.State())
				}
			}
		}
		h.attach(pid)
		h.checkEnds()
		for tid := FirstTID; tid < FirstTID+5; tid++ {
			for _, e := range h.k.Of(tid, Returned) {
				if e.Ret < 0 {
					t.Errorf("%+v", e)
				}
			}
		}
	})
}

// Threads that only run in the kernel are left alone, those that have ended are no
// obstacle, and any tid names the process.
func TestAttachWhatThereIs(t *testing.T) {
	each(t, 60, func(seed uint64) {
		h := newGroup(t, seed)
		pid := h.k.Run(Program{
			Spawn(Program{Sleep("io_uring_enter", Forever)}), Spawn(Program{Sleep("fsync", 300)}), Spawn(Program{Exit(0)}), Exit(3),
		})
		worker, other := pid+1, pid+2
		for len(h.k.Of(pid, Died)) == 0 || len(h.k.Of(pid+3, Died)) == 0 {
			h.k.Step()
		}
		h.k.Employ(worker)
		h.began = func(th *tracee.Thread, b tracee.Birth) {
			if b.How != tracee.Attached || th.TID != other || th.Proc.PID != pid || len(th.Proc.Threads) != 1 {
				t.Errorf("%+v of %+v", b, th)
			}
		}
		h.serve(func() error {
			for _, id := range []int{other, pid, other, worker} { // only once
				if err := h.g.Attach(id); err != nil {
					return err
				}
			}
			return nil
		})
		if n := h.count("began"); n != 1 {
			t.Errorf("told of %d processes", n)
		}
		h.checkEnds()
	})
}

// What cannot be attached to is an error that says so.
func TestAttachErrors(t *testing.T) {
	h := newGroup(t, 1)
	var errs []error
	pid := h.k.Run(Program{Compute(Forever)})
	err := h.g.Serve(func() error {
		errs = append(errs, h.g.Attach(FirstTID+77))
		if err := h.k.Seize(pid, 0); err != nil { // by somebody else
			t.Fatal(err)
		}
		h.k.Disown(pid)
		errs = append(errs, h.g.Attach(pid))
		zombie := h.k.Run(Program{ExitGroup(0)})
		for len(h.k.Of(zombie, Died)) == 0 {
			h.k.Step()
		}
		errs = append(errs, h.g.Attach(zombie))
		return nil
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"no such process", "not permitted", "has ended"} {
		if errs[i] == nil || !strings.Contains(errs[i].Error(), want) {
			t.Errorf("%v does not say %q", errs[i], want)
		}
	}
}
