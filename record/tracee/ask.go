//go:build linux

// This file lets other goroutines reach the thread that traces.

package tracee

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotServing is the error of a request to a Group that has not begun to serve
// its threads, or that has ended.
var ErrNotServing = errors.New("nothing is being recorded")

// bell wakes the tracing thread for functions that it is to call.
type bell struct {
	mu      sync.Mutex
	wake    func() // nil before the Group serves, and after
	asked   []func()
	pending atomic.Bool // some of asked have not been called
	ringing atomic.Bool // a goroutine wakes the thread until it has heard
}

// open lets functions be asked for; wake ends the tracing thread's wait.
func (b *bell) open(wake func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake = wake
}

// close forgets what has been asked for and not been called. Nobody wakes the
// thread any more.
func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake, b.asked = nil, nil
	b.pending.Store(false)
}

// ask has f called on the tracing thread.
func (b *bell) ask(f func()) error {
	b.mu.Lock()
	if b.wake == nil {
		b.mu.Unlock()
		return ErrNotServing
	}
	b.asked = append(b.asked, f)
	b.pending.Store(true)
	b.mu.Unlock()
	if b.ringing.CompareAndSwap(false, true) {
		go b.ring()
	}
	return nil
}

// askNow is ask for what should not wait until the thread comes by on its own.
func (b *bell) askNow(f func()) error {
	if err := b.ask(f); err != nil {
		return err
	}
	b.knock() // which may be lost
	return nil
}

// ring wakes the tracing thread until it has heard: a signal that comes just
// before the wait begins is lost.
func (b *bell) ring() {
	for {
		for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
			time.Sleep(pause) // a busy thread comes by on its own
			if !b.knock() {
				break
			}
		}
		b.ringing.Store(false)
		// Somebody may have asked between the two, and left the waking to us.
		if !b.pending.Load() || !b.ringing.CompareAndSwap(false, true) {
			return
		}
	}
}

// knock wakes the thread once, and reports whether that was needed. It holds the
// lock meanwhile: the thread still exists then.
func (b *bell) knock() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wake == nil || !b.pending.Load() {
		return false
	}
	b.wake()
	return true
}

// answer calls what has been asked for.
func (b *bell) answer() {
	b.mu.Lock()
	fs := b.asked
	b.asked = nil
	b.pending.Store(false)
	b.mu.Unlock()
	for _, f := range fs {
		f()
	}
}
