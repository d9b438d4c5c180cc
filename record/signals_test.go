//go:build linux

package record

import (
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/tracee"
)

// siginfo is what a signal comes with: its si_code, and who has sent it.
func siginfo(sig syscall.Signal, code int32, sender int) []byte {
	b := make([]byte, 128)
	binary.LittleEndian.PutUint32(b, uint32(sig))
	binary.LittleEndian.PutUint32(b[8:], uint32(code))
	binary.LittleEndian.PutUint32(b[16:], uint32(sender))
	return b
}

// TestForProgram: every signal that somebody may send is passed on to the program, but
// for those that memtrace needs itself.
func TestForProgram(t *testing.T) {
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTSTP, syscall.SIGCONT, 35, 64,
	} {
		if !slices.Contains(forProgram, os.Signal(sig)) {
			t.Errorf("signal %d is not passed on", sig)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, tracee.WakeSignal, StopSignal, 33} {
		if slices.Contains(forProgram, os.Signal(sig)) {
			t.Errorf("signal %d is passed on", sig)
		}
	}
}

// TestShared: a signal that came to the program as well, not long before or soon after,
// is not passed on. One that memtrace has passed on does not count.
func TestShared(t *testing.T) {
	const siUser, siTkill, siKernel = 0, -6, 0x80
	gone := 1 << 23 // more than any pid
	for name, c := range map[string]struct {
		info []byte
		want bool
	}{
		"of somebody":        {siginfo(syscall.SIGUSR1, siUser, 1), true},
		"of a thread":        {siginfo(syscall.SIGUSR1, siTkill, 1), true},
		"ours":               {siginfo(syscall.SIGUSR1, siUser, os.Getpid()), false},
		"ours to a thread":   {siginfo(syscall.SIGUSR1, siTkill, os.Getpid()), false},
		"of the terminal":    {siginfo(syscall.SIGUSR1, siKernel, 0), true},
		"no siginfo":         {nil, true},
		"no sender, our pid": {siginfo(syscall.SIGUSR1, siKernel, os.Getpid()), true},
	} {
		var g signals
		came := time.Now()
		g.delivered(int(syscall.SIGUSR1), c.info)
		if got := g.shared(gone, syscall.SIGUSR1, came); got != c.want {
			t.Errorf("%s: shared %v", name, got)
		}
		if g.hasGot(syscall.SIGUSR2, time.Now()) {
			t.Errorf("%s: it counts for another signal", name)
		}
	}
	var g signals
	came := time.Now()
	g.delivered(int(syscall.SIGTERM), nil)
	// Whoever looks late looks all the same.
	if !g.shared(gone, syscall.SIGTERM, came.Add(-time.Hour)) {
		t.Error("the program got it after it came, and that does not count")
	}
	if g.hasGot(syscall.SIGTERM, time.Now().Add(2*grace)) {
		t.Error("what it got long before counts")
	}
}

// TestTake: what asks for an end ends the recording of a program that was attached to,
// unless the signal was somebody else's; for one that was launched it is the program's.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		sig                   syscall.Signal
		attached, interrupted bool
		stops                 int
	}{
		{syscall.SIGTERM, true, false, 1}, {syscall.SIGHUP, true, false, 1}, {syscall.SIGQUIT, true, false, 1}, {syscall.SIGINT, true, false, 1},
		{syscall.SIGINT, true, true, 0}, {syscall.SIGUSR1, true, false, 0}, {syscall.SIGXFSZ, true, false, 0},
		{syscall.SIGTERM, false, false, 0}, {syscall.SIGXCPU, false, false, 0},
	} {
		var g signals
		n := 0
		g.take(recipient{
			pid: func() int { return 1 << 23 }, attached: c.attached, stop: func() { n++ },
			interrupt: func() bool { return c.interrupted },
		}, c.sig)
		if n != c.stops {
			t.Errorf("%+v: the recording was ended %d times", c, n)
		}
	}
	stopped := make(chan struct{}) // by the signal that nothing else sends
	var g signals
	g.take(recipient{pid: func() int { return 1 << 23 }, halt: func() { close(stopped) }}, StopSignal)
	<-stopped
}

// TestPending looks at a process that has a signal blocked.
func TestPending(t *testing.T) {
	if pending(1<<23, syscall.SIGUSR1) {
		t.Error("a process that is not there has a signal pending")
	}
	// This process sends itself one that the thread has blocked.
	done := make(chan struct{})
	go func() {
		defer close(done)
		tid := lockedWithout(t, unix.SIGUSR2)
		if pending(tid, syscall.SIGUSR2) {
			t.Error("pending before it was sent")
		}
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGUSR2); err != nil {
			t.Error(err)
		}
		if !pending(tid, syscall.SIGUSR2) || pending(tid, syscall.SIGUSR1) {
			t.Error("it is not pending, or another one is")
		}
	}()
	<-done
}

// lockedWithout locks the goroutine to its thread for good, with a signal blocked, and
// returns the tid.
func lockedWithout(t *testing.T, sig unix.Signal) int {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	var set unix.Sigset_t
	set.Val[0] = 1 << (sig - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		t.Error(err)
	}
	return unix.Gettid()
}
