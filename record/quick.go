//go:build linux

package record

import (
	"time"

	"memtrace/record/ptrace"
)

// noteEntry reads the registers at the beginning of a call in which the thread
// may still be when others have the memory read: it cannot be asked then. That
// costs a tenth of a call, so it is not done of those that come back at once.
func (r *Recorder) noteEntry(t *thread) {
	p := &r.opts.Snapshot
	t.noted, t.told = false, false
	if !mayBlock(t.call.Arch, t.call.Nr) || p.Interval == 0 && (len(t.mm.users) == 1 || !p.Step && p.Every == 0 && p.Syscalls.Empty()) {
		return
	}
	if q := &t.quick[t.call.Nr%32]; q.n > max(q.enough, quickEnough) {
		return
	}
	if t.entry == nil {
		t.entry = new(ptrace.Regs)
	}
	t.noted = ptrace.GetRegs(t.tid, t.entry) == nil
}

// A call is quick if it takes less than quickCall; that many of a kind have to
// be, and four times as many after each that was not.
const (
	quickCall   = 1_000_000 // ns
	quickEnough = 8
	quickMost   = 4096
	quickAll    = 10 * time.Millisecond // for all threads that a snapshot waits for
)

// timeCall learns whether calls of this kind come back at once.
func (t *thread) timeCall(now uint64) {
	if !mayBlock(t.call.Arch, t.call.Nr) {
		return
	}
	q := &t.quick[t.call.Nr%32]
	if now-t.call.Enter < quickCall {
		q.n = min(q.n+1, quickMost+1)
		return
	}
	if q.n > quickEnough {
		q.enough = min(max(q.enough, quickEnough)*4, quickMost)
	}
	q.n = 0
}

// awaitQuick waits for the threads of an address space that are in calls which
// should be over at once: their registers were not read at the beginning.
func (r *Recorder) awaitQuick(mm *space) {
	begin := time.Now()
	for last := begin; ; {
		var late *thread
		for t := range mm.users {
			if t.running && t.inCall && !t.noted && !t.told && !t.listening && !t.exiting {
				late = t
			}
		}
		if late == nil {
			return
		}
		s, err := ptrace.Wait(true)
		switch {
		case err != nil:
			return
		case s.TID != 0:
			r.later(s)
			last = time.Now()
		case time.Since(last) > quickCall, time.Since(begin) > quickAll:
			late.told = true // there is nothing to tell before its next call
		default:
			time.Sleep(20 * time.Microsecond)
		}
	}
}
