package analyze_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// Operations of futex(2).
const (
	futexWait       = 0x80
	futexWake       = 0x81
	futexLockPI     = 0x86
	futexWaitBitset = 0x189
)

// Results that programs do not see.
const (
	erestartsys          = -512
	erestartRestartblock = -516
)

// took is a call that ended now and took d.
func took(b *Builder, thread uint32, name string, d time.Duration, ret int64, args ...uint64) format.Step {
	nr, _ := arch.X86_64.Number(name)
	s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Ret: ret, Returned: true, Enter: b.Now() + 10240 - min(uint64(d), b.Now())}
	copy(s.Args[:], args)
	return b.Event(thread, s)
}

// began starts a log of a program with the threads 1 to 4.
func began(tb testing.TB) *Builder {
	b := New(tb)
	b.Event(1, &format.Exec{Path: "/bin/prog"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 4, 5, "/bin/prog"))
	for n := uint32(2); n <= 4; n++ {
		b.Event(1, &format.Clone{Child: n, Flags: 0x3d0f00}, Thread(n, 99+n, 100, 1, 1, 1))
	}
	for n := uint32(1); n <= 4; n++ {
		b.Call(n, "getpid", 100, nil)
	}
	return b
}

// exited ends the program of began.
func exited(b *Builder, status uint32) {
	for n := uint32(2); n <= 4; n++ {
		b.Event(n, &format.Exit{Status: status}, &format.ThreadEnd{No: n})
	}
	b.Event(1, &format.Exit{Status: status, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
}

// found is what the findings of a log say.
func found(tb testing.TB, b *Builder) []analyze.Finding {
	tb.Helper()
	tr := replay.New(Open(tb, b.Bytes()))
	last, _ := tr.Last()
	r, err := analyze.Findings(context.Background(), tr, analyze.Options{To: last})
	if err != nil {
		tb.Fatal(err)
	}
	return r.Rows
}

// findsFirst fails unless the first finding begins with a text. What stands for any text is *.
func findsFirst(tb testing.TB, b *Builder, want string) {
	tb.Helper()
	if rows := found(tb, b); !replay.Like(want+"*", rows[0].Text) {
		tb.Errorf("%q, want %q", rows[0].Text, want)
	}
}

func TestDeadlockThatASignalEnds(t *testing.T) {
	wait := func(b *Builder, ret int64) {
		b.Wait(3 * time.Second)
		took(b, 2, "futex", 3*time.Second, ret, 0x1000, futexWait, 2)
		took(b, 3, "futex", 3*time.Second, ret, 0x1040, futexWait, 2)
	}
	const dead = "DEADLOCK: threads 101 and 102 of process 100 waited for the locks 0x1000 and 0x1040 and never got them: the last of them for "
	t.Run("SIGTERM", func(t *testing.T) {
		b := began(t)
		wait(b, erestartsys)
		b.Event(2, &format.Signal{Signo: 15, Fatal: true})
		exited(b, 15)
		findsFirst(t, b, dead+"3.00 s until the end. Record with -k=futex")
	})
	t.Run("EINTR", func(t *testing.T) {
		b := began(t)
		wait(b, -4)
		b.Event(2, &format.Signal{Signo: 15, Fatal: true})
		exited(b, 15)
		findsFirst(t, b, dead)
	})
	t.Run("stopped and continued", func(t *testing.T) {
		b := began(t)
		wait(b, erestartsys)
		b.Event(2, &format.Stop{What: format.GroupStop, Signo: 19})
		wait(b, erestartsys)
		b.Event(2, &format.Signal{Signo: 15, Fatal: true})
		exited(b, 15)
		findsFirst(t, b, dead+"6.00 s")
	})
	t.Run("it got them", func(t *testing.T) {
		b := began(t)
		wait(b, erestartsys)
		took(b, 2, "futex", 1000, 0, 0x1000, futexWait, 2)
		took(b, 3, "futex", 1000, 0, 0x1040, futexWait, 2)
		exited(b, 0)
		findsFirst(t, b, "LOCK: 1 thread of process 100 waited 3.00 s in all for the lock at 0x1000, 100 % of its time")
	})
}

func TestSemaphoreAsLock(t *testing.T) {
	t.Run("lock", func(t *testing.T) {
		b := began(t)
		for n := uint32(2); n <= 4; n++ { // each waits for it, and wakes the next
			b.Wait(time.Second)
			took(b, n, "futex", time.Second, 0, 0x1000, futexWaitBitset, 0)
			took(b, n, "futex", 1000, 1, 0x1000, futexWake, 1)
		}
		exited(b, 0)
		findsFirst(t, b, "LOCK: 3 threads of process 100 waited 3.00 s in all for the lock at 0x1000")
	})
	t.Run("queue", func(t *testing.T) {
		b := began(t)
		for n := uint32(2); n <= 4; n++ { // another gives them work
			b.Wait(time.Second)
			took(b, n, "futex", time.Second, 0, 0x1000, futexWaitBitset, 0)
			took(b, 1, "futex", 1000, 1, 0x1000, futexWake, 1)
		}
		exited(b, 0)
		findsFirst(t, b, "Nothing went wrong")
	})
	t.Run("priority inheritance", func(t *testing.T) {
		b := began(t)
		b.Wait(time.Second)
		took(b, 2, "futex", time.Second, 0, 0x1000, futexLockPI, 0)
		exited(b, 0)
		findsFirst(t, b, "LOCK: 1 thread")
	})
}

// TestWakingIsNotWaiting: only operations that wait count as waiting.
func TestWakingIsNotWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		op    uint64
		waits bool
	}{"wake": {futexWake, false}, "wait": {futexWait, true}, "requeue": {0x83, false}, "lock_pi2": {13, true}} {
		b := began(t)
		b.Wait(time.Second)
		took(b, 1, "futex", time.Second, 0, 0x1000, c.op, 1)
		exited(b, 0)
		tr := replay.New(Open(t, b.Bytes()))
		last, _ := tr.Last()
		r, err := analyze.Summary(context.Background(), tr, analyze.Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(r.Time, "waiting for locks"); got != c.waits {
			t.Errorf("%s: %q", name, r.Time)
		}
	}
}

// TestLockStacks: a log with stacks says where a lock was waited for.
func TestLockStacks(t *testing.T) {
	b := NewStacks(t)
	b.Event(1, &format.Exec{Path: "/bin/prog"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 4, 5, "/bin/prog"))
	m := b.Module(format.Module{Path: "/nowhere/prog"})
	b.Through(format.StackComplete, format.RawFrame{Module: m, Offset: 0x123})
	b.Wait(2 * time.Second)
	took(b, 1, "futex", 2*time.Second, erestartsys, 0x1000, futexWait, 2)
	b.Event(1, &format.Signal{Signo: 15, Fatal: true})
	b.Event(1, &format.Exit{Status: 15, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	findsFirst(t, b, "DEADLOCK: thread 100 of process 100 waited for the lock 0x1000 and never got it: the last of them for 2.00 s until the end. Thread 100 waited in prog+0x123.")
}

// TestPollingThatSnapshotsInterrupt: a row of calls goes on after one that was interrupted.
func TestPollingThatSnapshotsInterrupt(t *testing.T) {
	b := began(t)
	for i := range 600 {
		b.Wait(time.Millisecond)
		if i%100 == 99 {
			took(b, 1, "poll", time.Millisecond/2, erestartRestartblock)
			took(b, 1, "restart_syscall", time.Millisecond/2, 0)
		}
		took(b, 1, "poll", time.Millisecond, 0)
	}
	exited(b, 0)
	findsFirst(t, b, "POLLING: thread 100 of process 100 called poll 600 times in a row and got nothing")
}
