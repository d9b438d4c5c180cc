//go:build linux

// This file does with a signal to memtrace what its sender wants: it is for the
// program.

package record

import (
	"encoding/binary"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// StopSignal ends a recording at once; the program runs on. Nothing else sends it.
const StopSignal = syscall.SIGSTKFLT

// forProgram are the signals that are passed on to the program: those that somebody may
// send, but for those that the Go runtime needs.
var forProgram = func() (sigs []os.Signal) {
	own := []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE, tracee.WakeSignal, StopSignal,
		syscall.SIGPROF, 32, 33, 34,
	}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if !slices.Contains(own, sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}()

// signals are those that reach memtrace during a session. Whoever signals a process
// group, as a terminal does at Ctrl-C, reaches the program as well; whoever signals
// memtrace alone means the program.
type signals struct {
	job jobControl
	mu  sync.Mutex
	got map[syscall.Signal]time.Time // when the program got a signal that was not ours
}

// grace is how long the program has to show that it has been sent a signal, too.
const grace = 100 * time.Millisecond

// delivered notes that the program gets a signal; info is its siginfo, without the zeros
// at its end.
func (g *signals) delivered(sig int, info []byte) {
	const siUser, siTkill, codeAt, senderAt = 0, -6, 8, 16
	var raw [senderAt + 4]byte
	copy(raw[:], info)
	code, sender := int32(binary.LittleEndian.Uint32(raw[codeAt:])), binary.LittleEndian.Uint32(raw[senderAt:])
	if (code == siUser || code == siTkill) && int(sender) == os.Getpid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.got == nil {
		g.got = map[syscall.Signal]time.Time{}
	}
	g.got[syscall.Signal(sig)] = time.Now()
}

// hasGot reports whether the program has got a signal of its own, not long before a
// time or since.
func (g *signals) hasGot(sig syscall.Signal, at time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got[sig].After(at.Add(-grace))
}

// recipient is whom signals to memtrace are for.
type recipient struct {
	pid       func() int  // of the program that was launched, 0 before that
	attached  bool        // there is none: what asks for an end ends the recording
	interrupt func() bool // asked at a SIGINT; with true that was somebody else's
	keep      func() bool // the same at a SIGUSR2
	stop      func()      // ends the recording
	halt      func()      // ends it if the program can go on without it
}

// serve serves signals until done is called. What memtrace was started with as ignored
// stays so.
func (g *signals) serve(to recipient) (done func()) {
	// A reader of the log that goes away is an error of the write, not our end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := make(chan os.Signal, 64)
	ignored := tracee.StartedIgnoring()
	for _, sig := range append(forProgram, StopSignal) {
		if slices.Contains(ignored, int(sig.(syscall.Signal))) {
			signal.Ignore(sig)
		} else {
			signal.Notify(c, sig)
		}
	}
	tracee.IgnoreUnhandled()
	go func() {
		for sig := range c {
			g.take(to, sig.(syscall.Signal))
		}
	}()
	return func() { signal.Stop(c) }
}

// take serves one signal.
func (g *signals) take(to recipient, sig syscall.Signal) {
	switch sig {
	case syscall.SIGXFSZ, syscall.SIGXCPU: // of a limit of our own: an error of a write says it
		return
	case StopSignal:
		go func() {
			if !g.shared(to.pid(), sig, time.Now()) {
				to.halt()
			}
		}()
		return
	case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		g.job.self()
	case syscall.SIGINT:
		if to.interrupt() {
			return
		}
	case syscall.SIGUSR2:
		if to.keep != nil && to.keep() {
			return
		}
	}
	pid := to.pid()
	switch {
	case !to.attached && pid != 0:
		go func() {
			if !g.shared(pid, sig, time.Now()) {
				_ = unix.Kill(pid, sig)
			}
		}()
	case slices.Contains([]syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP}, sig):
		to.stop()
	}
}

// shared reports whether a program was sent a signal as well that came to memtrace.
func (g *signals) shared(pid int, sig syscall.Signal, came time.Time) bool {
	for {
		if g.hasGot(sig, came) || pending(pid, sig) {
			return true
		}
		if time.Since(came) >= grace {
			return false
		}
		time.Sleep(grace / 20)
	}
}

// pending reports whether a signal waits to be delivered to a process.
func pending(pid int, sig syscall.Signal) bool {
	status, err := procfs.Status(pid)
	if err != nil {
		return false
	}
	set := proctext.Field(status, "ShdPnd").Hex() | proctext.Field(status, "SigPnd").Hex()
	return set>>(sig-1)&1 != 0
}

// jobControl stops memtrace when a stop from the terminal has been sent to it and
// has stopped the program too, so that the shell sees its job stop. A program
// that handles the signal decides for itself. What continues memtrace continues
// the program.
type jobControl struct {
	mu            sync.Mutex
	told, stopped bool
}

// program is told what stopped the program, 0 that it goes on.
func (j *jobControl) program(sig int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = sig != 0
	j.stop()
}

// self is called when memtrace was sent a stop.
func (j *jobControl) self() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = true
	j.stop()
}

func (j *jobControl) stop() {
	if j.told && j.stopped {
		j.told = false
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}
