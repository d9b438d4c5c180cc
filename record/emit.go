//go:build linux

// This file has the one way to write an event, and what follows each: observers,
// limits, a pause, a check.

package record

import (
	"memtrace/format"
)

// emit writes an event with what was collected since the last one, now if it has
// no time. It shows the event to whoever observes or pauses the recording. keep is
// the answer of a pause: a signal at hand is not to be delivered.
func (r *Recorder) emit(e *format.Event) (keep bool) {
	if e.Time == 0 {
		e.Time = r.group.Now()
	}
	r.writes.Look()
	written := r.log.write(e)
	touched := r.touched(e)
	if written && r.opts.Observe != nil {
		r.opts.Observe(e)
	}
	clear(e.Changes)
	if !written {
		r.failed()
		return false
	}
	r.limit(e)
	r.writes.Tell()
	keep = r.pauseAfter(e)
	for _, m := range touched {
		if c := r.check(m, e.Thread); c != nil {
			r.emit(c)
		}
	}
	return keep
}

// lost writes that something is not known; no is the thread that it concerns, 0 for
// none.
func (r *Recorder) lost(no uint32, what string) {
	r.emit(&format.Event{Thread: no, Record: &format.Lost{What: what}})
}

// failed ends the recording because the log can no longer be written. A program
// that depends on its tracer is served on, without a log; any other is let go.
func (r *Recorder) failed() {
	r.result.Reason = "write error"
	if !r.group.Filtered() {
		r.finish("write error")
	}
}

// limit ends the recording where it has become as long as it may.
func (r *Recorder) limit(e *format.Event) {
	if n := r.opts.MaxEvents; n > 0 && uint64(e.Step)+1 >= n {
		r.finish("max-events")
	}
	if n := r.opts.MaxBytes; n > 0 && e.Step%1024 == 0 {
		if r.log.flush() != nil { // what waits to be written counts too
			r.failed()
		} else if r.log.log.Bytes() >= n {
			r.finish("max-size")
		}
	}
}
