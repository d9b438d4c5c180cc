//go:build linux

// This file makes calls of what threads have recorded, in the order of their ends.

package inside

import (
	"time"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/tracee"
)

// Drain is tracee.Inside's.
func (in *Programs) Drain() {
	if in.busy || len(in.slots) == 0 {
		return
	}
	in.busy = true
	in.ready = in.ready[:0]
	for _, s := range in.slots {
		if s.Waiting() {
			in.ready = append(in.ready, s)
			in.brisk = in.brisk || s.Filling()
		}
	}
	if len(in.ready) > 0 {
		in.idle = 0
		in.clock.Look()
		in.drain()
	}
	in.busy = false
}

// Behind is tracee.Inside's.
func (in *Programs) Behind() bool {
	for _, s := range in.slots {
		if s.Full() {
			return true
		}
	}
	return false
}

// reapEach is after how many records those threads are noted that have stopped: if the
// recorder died, a signal at which they stand would be theirs until then.
const reapEach = 64

// drain tells of the records of those that are ready, in the order of their ends. Records
// of calls that have ended after the last look at the clock are left for another time: what
// came before them may have been written to a ring that was looked at before.
func (in *Programs) drain() {
	for _, s := range in.ready {
		in.take(s)
	}
	ready := in.ready[:0]
	for _, s := range in.ready {
		if in.next(s) {
			ready = append(ready, s)
		}
	}
	for len(ready) > 0 {
		first := 0
		for i, s := range ready {
			if s.record.End < ready[first].record.End {
				first = i
			}
		}
		s := ready[first]
		if in.tell(s); in.calls%reapEach == 0 {
			in.group.Reap()
		}
		if !in.next(s) {
			ready[first] = ready[len(ready)-1]
			ready = ready[:len(ready)-1]
		}
	}
}

// take takes the records of a thread out of its ring.
func (in *Programs) take(s *slot) {
	if err := s.Take(); err != nil {
		in.refuse(s.thread, err.Error())
	}
}

// next reads the next record of a thread.
func (in *Programs) next(s *slot) bool {
	ok, err := s.Next(&s.record)
	if err != nil {
		in.refuse(s.thread, err.Error())
	}
	if ok && s.record.End > in.clock.Last() {
		s.Unread()
		return false
	}
	return ok
}

// tell makes an event of a record.
func (in *Programs) tell(s *slot) {
	in.calls++
	if in.group.Over() {
		return
	}
	t, p := s.thread, s.proc
	p.seen++
	p.history = p.history<<1 | 1
	like := in.call(s)
	like.Ret, like.Returned, like.Leave = s.record.Ret, true, in.clock.Time(s.record.End)
	s.grow(addr.Addr(s.record.SP))
	in.host.Returned(t, in.group.Recorded(t, &like, s.before, s.after, s.record.Name()))
}

// call is a call as far as a record has it at its beginning.
func (in *Programs) call(s *slot) (c tracee.Call) {
	x := &s.record
	c.Arch, c.Nr, c.Args, c.SP = arch.X86_64, x.Nr, x.Args, x.SP
	c.Enter, c.IP = in.clock.Time(x.Begin), uint64(s.space.sites.program(x.Return))
	c.Inside = true
	return c
}

// firstTick is how often records are looked for at least. Where so many looks have found
// none, they come half as often, and at last 16 times less: a program that sleeps costs
// little. Where many have been found, the next look comes soon: a thread whose ring is full
// waits for it.
const (
	firstTick = 5 * time.Millisecond
	briskTick = time.Millisecond
	idleTicks = 20
	mostIdle  = 4
)

// tick has records looked for as long as a thread makes some.
func (in *Programs) tick() {
	if in.ticking {
		return
	}
	in.ticking = true
	wait := firstTick << min(in.idle/idleTicks, mostIdle)
	if in.brisk {
		wait = briskTick
	}
	in.brisk = false
	in.group.After(wait, func() { // they have been looked for
		in.ticking = false
		in.idle++
		for t := range in.slots {
			if t.Recording() {
				if now := in.group.Now(); now-t.Resumed() > uint64(firstTick) {
					in.group.Unpin(t)
				}
				in.tick()
			}
		}
	})
}
