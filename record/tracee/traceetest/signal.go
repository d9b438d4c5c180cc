//go:build linux

// This file sends and delivers signals.

package traceetest

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

const siTkill = -6

// queued is a signal that waits to be delivered.
type queued struct {
	no   int
	code int32
}

func (q queued) info() (b [128]byte) {
	binary.LittleEndian.PutUint32(b[:], uint32(q.no))
	binary.LittleEndian.PutUint32(b[8:], uint32(q.code))
	return b
}

type signals []queued

func (s signals) set() (mask uint64) {
	for _, q := range s {
		mask |= bit(q.no)
	}
	return mask
}

// take takes out the first signal that is not blocked.
func (s *signals) take(mask uint64) (q queued, ok bool) {
	for i, q := range *s {
		if mask&bit(q.no) == 0 {
			*s = slices.Delete(*s, i, i+1)
			return q, true
		}
	}
	return q, false
}

func isStop(sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}

// send sends a signal to a thread, or without one to a process (kernel/signal.c,
// prepare_signal, complete_signal).
func (k *Kernel) send(p *process, t *thread, sig int, code int32) {
	all := k.of(p)
	switch {
	case sig == 0 || len(all) == 0:
		return
	case sig == int(unix.SIGKILL):
		k.die(p, uint32(sig))
		return
	case sig == int(unix.SIGCONT):
		p.stopSig = 0
		for _, o := range all {
			o.pending = slices.DeleteFunc(o.pending, func(q queued) bool { return isStop(q.no) })
			if !o.traced {
				continue
			}
			o.trap = true
			if o.listening {
				o.listening, o.stopped, o.run = false, false, k.toUser
			}
		}
		p.pending = slices.DeleteFunc(p.pending, func(q queued) bool { return isStop(q.no) })
	case isStop(sig):
		isCont := func(q queued) bool { return q.no == int(unix.SIGCONT) }
		p.pending = slices.DeleteFunc(p.pending, isCont)
		for _, o := range all {
			o.pending = slices.DeleteFunc(o.pending, isCont)
		}
	}
	q := queued{sig, code}
	if t != nil {
		if t.pending.set()&bit(sig) == 0 {
			t.pending = append(t.pending, q)
		}
		t.sigpending = t.sigpending || t.mask&bit(sig) == 0
		return
	}
	if p.pending.set()&bit(sig) == 0 {
		p.pending = append(p.pending, q)
	}
	for _, o := range all {
		if o.mask&bit(sig) == 0 {
			o.sigpending = true
			return
		}
	}
}

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
