//go:build linux

package traceetest

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

const traceAll = ptrace.OptSysGood | ptrace.OptClone | ptrace.OptExec | ptrace.OptExit | ptrace.OptFork | ptrace.OptVfork | ptrace.OptVforkDone

// next is the next report, which must be there.
func next(t *testing.T, k *Kernel) ptrace.Stop {
	t.Helper()
	f, err := k.Next(false)
	if err != nil {
		t.Fatal(err)
	}
	return f.Stop
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A thread that is seized stops at the entry and exit of each call once it goes on
// with ContSyscall, then at its exit event, and is reported dead.
func TestStops(t *testing.T) {
	for seed := range uint64(50) {
		k := New(seed)
		pid := k.Run(Program{Compute(Forever), Call("getppid").Returns(7), Exit(3)})
		must(t, k.Seize(pid, traceAll))
		must(t, k.Interrupt(pid))
		if s := next(t, k); s.Kind != ptrace.Trap {
			t.Fatalf("first stop: %+v", s)
		}
		var regs ptrace.Regs
		must(t, k.GetRegs(pid, &regs))
		regs[ptrace.RegRIP] += 2 // out of the endless loop
		must(t, k.SetRegs(pid, &regs))
		for _, op := range []uint8{ptrace.OpEntry, ptrace.OpExit, ptrace.OpEntry} {
			must(t, k.ContSyscall(pid, 0))
			var info ptrace.SyscallInfo
			s := next(t, k)
			must(t, k.GetSyscallInfo(pid, &info))
			if s.Kind != ptrace.Syscall || info.Op != op || op == ptrace.OpExit && info.Ret() != 7 {
				t.Fatalf("%+v %+v, want op %d", s, info, op)
			}
		}
		must(t, k.ContSyscall(pid, 0))
		if s := next(t, k); s.Kind != ptrace.EventExit {
			t.Fatalf("%+v", s)
		}
		if msg, err := k.EventMsg(pid); err != nil || msg != 3<<8 {
			t.Fatal(msg, err)
		}
		must(t, k.Cont(pid, 0))
		if s := next(t, k); s.Kind != ptrace.Exited || s.Status != 3<<8 {
			t.Fatalf("%+v", s)
		}
		if _, err := k.Next(false); !errors.Is(err, ptrace.ErrNone) {
			t.Fatal(err)
		}
		if m := k.Misuse(); m != nil {
			t.Fatal(m)
		}
	}
}

// A call that returns the kernel's own result is made again when no signal wants it
// otherwise, and one that returns EINTR is not.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		errno int
		how   Op
		sig   unix.Signal
		want  int64
	}{
		{ERestartSys, Compute(1), 0, 5},
		{ERestartByBlock, Compute(1), 0, 5},
		{int(unix.EINTR), Compute(1), 0, -int64(unix.EINTR)},
		{ERestartSys, Handle(unix.SIGUSR1, true), unix.SIGUSR1, 5},
		{ERestartSys, Handle(unix.SIGUSR1, false), unix.SIGUSR1, -int64(unix.EINTR)},
		{ERestartNoHand, Handle(unix.SIGUSR1, true), unix.SIGUSR1, -int64(unix.EINTR)},
	} {
		k := New(1)
		pid := k.Run(Program{c.how, Wait("nanosleep", 1000, c.errno).Returns(5)})
		must(t, k.Seize(pid, traceAll))
		for range 100 { // into the call
			k.Step()
		}
		must(t, k.Interrupt(pid))
		if c.sig != 0 {
			k.Tgkill(pid, c.sig)
		}
		for {
			f, err := k.Next(false)
			if errors.Is(err, ptrace.ErrNone) {
				break
			}
			must(t, err)
			if f.Stop.Kind != ptrace.Exited {
				must(t, k.Cont(pid, f.Stop.Sig))
			}
		}
		es := k.Of(pid, Returned)
		if got := es[len(es)-1].Ret; got != c.want {
			t.Errorf("%d, signal %d: the program sees %d, want %d", c.errno, c.sig, got, c.want)
		}
	}
}
