//go:build linux

// This file has a session that keeps the last part of what it records, and has memory
// saved when it does.

package record

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/record/procfs"
	"memtrace/record/ring"
)

// OpenRing makes a session that keeps the last part of what it records.
func OpenRing(o ring.Options, h *format.Header) (*Session, error) {
	if err := prepare(littleMemory); err != nil {
		return nil, err
	}
	o.Facts = facts
	h.Options = append(h.Options, o.Lines()...)
	r, err := ring.New(h, o)
	if err != nil {
		return nil, err
	}
	s := &Session{ring: r, w: r.Writer, log: r}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// facts are those of a process that lives.
func facts(t *format.Thread) *format.Attach {
	tid := int(t.TID)
	return &format.Attach{PID: t.TGID, Auxv: procfs.Auxv(tid), Path: procfs.Exe(tid), Argv: procfs.Cmdline(tid), FDs: openFDs(tid), Goes: true}
}

// keepAll saves the memory of all processes, one after the other, each while it stands
// still.
func keepAll(r *Recorder) {
	for _, m := range slices.SortedFunc(maps.Keys(r.memories), func(a, b *memory) int { return cmp.Compare(a.MM(), b.MM()) }) {
		if !m.alive() || r.group.Over() {
			continue
		}
		release := m.inside.Outside()
		r.group.Hold(m.Space)
		if t := r.group.Standing(m.Space); t != nil {
			r.endCapture(t, r.capture(m, t, ReasonKeep))
		}
		r.group.LetGo(m.Space)
		release()
		r.group.ServeWaiting()
	}
}

// keep has the ring kept, and returns when it is. It may be called from any goroutine.
func (s *Session) keep(why string) (ring.Dump, error) {
	type asked struct {
		wait func() ring.Dump
		err  error
	}
	done := make(chan asked, 1)
	if err := s.rec.Ask(func() {
		wait, err := s.ring.Trigger(why, func() { keepAll(s.rec) })
		done <- asked{wait, err}
	}); err != nil {
		return ring.Dump{}, err
	}
	select {
	case a := <-done:
		if a.err != nil {
			return ring.Dump{}, a.err
		}
		return a.wait(), nil // at the latest when the ring is closed
	case <-s.ctx.Done():
		return ring.Dump{}, ErrNotRecording
	}
}

// keptByUser has the ring kept because memtrace got a SIGUSR2, if it is to.
func (s *Session) keptByUser() bool {
	if s.ring == nil || !s.ring.KeepsOnUser() {
		return false
	}
	go func() {
		if _, err := s.keep("sigusr2"); err != nil && s.rec.opts.Warn != nil {
			s.rec.opts.Warn(err.Error())
		}
	}()
	return true
}

// listen serves those who ask for the ring from outside, until the function that it
// returns is called.
func (s *Session) listen() (stop func()) {
	if s.ring == nil {
		return func() {}
	}
	stop, err := s.ring.Listen(func() (ring.Dump, error) { return s.keep("dump") })
	if err != nil {
		s.rec.warn("memtrace ring cannot ask for this ring: %v", err)
		return func() {}
	}
	return stop
}
