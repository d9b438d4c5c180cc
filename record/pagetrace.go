//go:build linux

// This file joins the page traces of record/pagetrace to the recorder.

package record

import (
	"memtrace/record/pagetrace"
	"memtrace/record/tracee"
)

// tracer is the host of a page trace, of either engine.
type tracer struct{ r *Recorder }

func (h tracer) Space(t *tracee.Thread) *pagetrace.Space       { return &memoryOf(t).pages }
func (h tracer) Writes(t *tracee.Thread) *pagetrace.WriteSpace { return &memoryOf(t).writes }
func (h tracer) Thread(t *tracee.Thread) *pagetrace.Thread     { return &threadOf(t).pages }

func (h tracer) Lost(no uint32, what string)    { h.r.lost(no, what) }
func (h tracer) Warn(text string, args ...any)  { h.r.warn(text, args...) }
func (h tracer) Status(tid int) ([]byte, error) { return h.r.kernel.status(tid) }
func (h tracer) Filtered(tid int) bool          { return h.r.foreignFilter(tid) }
func (h tracer) Traces(c tracee.CloneArgs) bool { return h.r.opts.traces(c) }
func (h tracer) TurnDone(t *tracee.Thread)      { memoryOf(t).turnDone(t) }
func (h tracer) Watch(tids []int, wake uint64) (pagetrace.Faults, error) {
	return h.r.kernel.watchWrites(tids, wake)
}
