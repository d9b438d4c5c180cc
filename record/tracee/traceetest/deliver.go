//go:build linux

// This file delivers signals.

package traceetest

import "golang.org/x/sys/unix"

func (k *Kernel) hasSignal(t *thread) bool {
	return (t.pending.set()|t.proc.pending.set())&^t.mask != 0
}

// dequeue takes the next signal of a thread. What a thread that is not traced
// ignores is not delivered.
func (k *Kernel) dequeue(t *thread) (q queued, ok bool) {
	if q, ok = t.pending.take(t.mask); !ok {
		q, ok = t.proc.pending.take(t.mask)
	}
	return q, ok
}

// deliver does with a signal what the process wants done.
func (k *Kernel) deliver(t *thread, sig int) {
	how := t.proc.how[sig]
	t.note(k, Event{What: Delivered, Sig: sig})
	switch {
	case how == byHandler || how == byRestart:
		t.handled(how)
		return
	case how == byIgnoring:
		return
	}
	switch unix.Signal(sig) {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT:
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		t.proc.stopSig = sig
		for _, o := range k.of(t.proc) {
			o.trap, o.sigpending = true, true
		}
	default:
		k.die(t.proc, uint32(sig))
	}
}

// handled is what a handler does to the call that it interrupts
// (arch/x86/kernel/signal.c, handle_signal).
func (t *thread) handled(how disposition) {
	r := &t.regs
	if int32(r[regOrig]) < 0 {
		return
	}
	eintr := int64(-int(unix.EINTR))
	switch -int32(r[regRAX]) {
	case ERestartNoHand, ERestartByBlock:
		r[regRAX] = uint64(eintr)
	case ERestartSys:
		if how != byRestart {
			r[regRAX] = uint64(eintr)
		}
	}
	if -int32(r[regRAX]) < ERestartSys {
		r[regOrig] = ^uint64(0)
	}
}
