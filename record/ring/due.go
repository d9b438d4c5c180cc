//go:build linux

// This file says when a ring is kept: it looks at what is recorded, and waits for what is due.

package ring

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
)

// Event writes an event, and does what follows from it: the next segment, the end of
// the oldest, a dump.
func (r *Ring) Event(e *format.Event) (format.Step, error) {
	step, err := r.event(e)
	if r.failed == nil {
		r.failed = err
	}
	return step, err
}

func (r *Ring) event(e *format.Event) (format.Step, error) {
	if exit, ok := e.Record.(*format.Exit); ok && exit.Process {
		r.ends(e, exit)
	}
	step, err := r.Writer.Event(e)
	if err != nil {
		return step, err
	}
	if m, ok := e.Record.(*format.MemInfo); ok && r.due == nil {
		if c := r.sizes.sample(r.conds, m, e.Time); c != nil {
			r.ask(c.text)
		}
	}
	r.mu.Lock()
	r.steps[1], r.times[1] = step, e.Time
	r.mu.Unlock()
	if r.isDue(e) {
		due := r.due
		r.due = nil
		return step, r.dump(due, e.Time)
	}
	seg := r.segs[len(r.segs)-1]
	age := time.Duration(e.Time - seg.begin)
	if r.opt.Size > 0 && (r.Bytes() >= r.opt.Size/parts || r.spare()) && age >= shortest || r.opt.Age > 0 && age >= r.opt.Age/parts {
		if err := r.next(e.Time); err != nil {
			return step, err
		}
		r.trim(e.Time)
	}
	return step, nil
}

// spare reports whether the oldest segment would not be needed if the one that is being written
// ended now. Small segments are larger than they should be, by what is written at once.
func (r *Ring) spare() bool {
	oldest := r.segs[0]
	select {
	case <-oldest.ready:
	default:
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.segs) > 2 && r.bytes-oldest.size+r.Bytes() >= r.opt.Size
}

// isDue reports whether what has been waited for has come with e.
func (r *Ring) isDue(e *format.Event) bool {
	if r.due == nil {
		return false
	}
	switch x := e.Record.(type) {
	case *format.Snapshot:
		if r.due.proc == 0 && x.Reason == format.ReasonKeep && !r.asked {
			return true
		}
	case *format.Exit:
		if x.Process && r.due.proc != 0 && (e.Thread == r.due.proc || r.gone(r.due.proc)) {
			return true
		}
	}
	return r.due.ready || e.Time > r.due.since && e.Time-r.due.since > uint64(patience)
}

// gone reports whether no thread of a process is left.
func (r *Ring) gone(proc uint32) bool {
	for _, t := range r.State().Threads {
		if t.Proc == proc {
			return false
		}
	}
	return true
}

// ends looks at the end of a process, before the event is written.
func (r *Ring) ends(e *format.Event, x *format.Exit) {
	t := r.State().Threads[e.Thread]
	if t == nil || r.due != nil {
		return
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.end(unix.WaitStatus(x.Status), t.Parent == 0) && r.may(t.Parent == 0, false) {
			r.due = newDue(c.text, e.Time)
			r.due.proc = t.Proc
			return
		}
	}
}

// The methods below are asked by the recorder at moments when memory can be saved.

// Call reports whether the memory of the process that made a call is to be saved.
func (r *Ring) Call(s *format.Syscall, now uint64) bool {
	if r.due != nil {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.call(s, now) && r.may(false, false) {
			r.due = newDue(c.text, now)
			r.due.ready = !r.opt.Memory
			return r.opt.Memory
		}
	}
	return false
}

// Signal is Call for a signal that a thread is about to get.
func (r *Ring) Signal(t *format.Thread, no int, fatal bool, now uint64) bool {
	if r.due != nil || t == nil {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.signal(no, fatal) && r.may(fatal && t.Parent == 0, false) {
			r.due = newDue(c.text, now)
			if fatal {
				r.due.proc = t.Proc
			} else {
				r.due.ready = !r.opt.Memory
			}
			return r.opt.Memory
		}
	}
	return false
}

// Exit is Call for the end of a process, whose status is known. One that a signal ends
// was looked at when it got the signal.
func (r *Ring) Exit(t *format.Thread, status uint32) bool {
	if t == nil || !r.opt.Memory || r.due != nil || unix.WaitStatus(status).Signaled() {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.end(unix.WaitStatus(status), t.Parent == 0) {
			return r.allows(t.Parent == 0, false)
		}
	}
	return false
}

// allows reports whether something may be kept now; final says that the program ends: the last
// of Options.Max is for that. soon says that it need not be Options.Gap apart.
func (r *Ring) allows(final, soon bool) bool {
	most := r.opt.Max
	if !final && most > 1 && r.keepsEnd() {
		most--
	}
	return r.took < most && (final || soon || r.last.IsZero() || time.Since(r.last) >= r.opt.Gap)
}

// may is allows, and counts it.
func (r *Ring) may(final, soon bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.allows(final, soon) {
		r.more++
		return false
	}
	r.took++
	r.last = time.Now()
	return true
}

// keepsEnd reports whether a condition is about the end of the program.
func (r *Ring) keepsEnd() bool {
	return slices.ContainsFunc(r.conds, func(c cond) bool { return c.kind == onFatal || c.kind == onExit || c.kind == onStatus })
}

// ask has the memory of all processes saved, and the ring kept.
func (r *Ring) ask(why string) {
	if r.due != nil || !r.may(false, false) {
		return
	}
	r.due = newDue(why, r.times[1])
	if r.opt.Memory && r.Ask != nil {
		r.asked = true
		r.Ask()
		return
	}
	r.due.ready = true
}

// KeepsOnUser reports whether SIGUSR2 to memtrace is a condition.
func (r *Ring) KeepsOnUser() bool {
	return slices.ContainsFunc(r.conds, func(c cond) bool { return c.kind == onUser })
}

// Trigger keeps the ring now: on the tracing thread, between two events. save saves the
// memory of all processes. The function that it returns waits for the log; it may be called from any
// goroutine.
func (r *Ring) Trigger(why string, save func()) (wait func() Dump, err error) {
	if r.due == nil {
		if !r.may(false, true) {
			return nil, errors.New("nothing is kept any more: --keep-max does not allow it")
		}
		r.due = newDue(why, r.times[1])
	}
	wait = r.due.wait
	return wait, r.Saved(save)
}

// Saved saves memory with save and keeps the ring.
func (r *Ring) Saved(save func()) error {
	r.asked = true
	if r.opt.Memory && save != nil {
		save()
	}
	r.asked = false
	if r.due == nil {
		return nil
	}
	due := r.due
	r.due = nil
	err := r.dump(due, r.times[1])
	if r.failed == nil {
		r.failed = err
	}
	return err
}

// Close ends the ring: what is due is kept, the segments go. Those in files stay if what they have
// cannot be kept. It returns when all that was kept is there.
func (r *Ring) Close(reason string) error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.Writer.Close(reason)
	last := r.segs[len(r.segs)-1]
	last.size, last.err = r.Bytes(), err
	close(last.ready)
	if err == nil {
		err = r.failed
	}
	if err != nil && r.due == nil && r.may(true, true) {
		r.due = newDue("the ring cannot be written", 0)
	}
	due := r.due
	if due != nil {
		r.keep(due, r.segs)
	}
	r.dumps.Wait()
	stay := r.opt.Dir != "" && due != nil && due.wait().Err != nil
	for _, s := range r.segs {
		if stay {
			s.name = ""
		}
		s.drop()
	}
	if stay {
		r.opt.Say("the parts of the ring stay: memtrace cut -o OUT " + r.partName("*") + " joins them")
	}
	if r.store != nil {
		_ = r.store.Close()
	}
	for i := range r.kept {
		if err == nil {
			err = r.kept[i].Err
		}
	}
	return err
}
