//go:build linux

// This file reads the memory of an address space whose threads are held, with their
// registers, and writes what was read.

package record

import (
	"fmt"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// captured is a snapshot whose pages are in the log, and whose event is not.
type captured struct {
	format.Snapshot
	whole bool // all that is known of the address space is true now
	took  time.Duration
	cut   bool  // not to slow the program down
	err   error // what kept it from being read
}

// capture reads what is resident in an address space and no file has, with all
// its threads held, if there is a reason. The pages belong to the next event: that
// at which they are due, which the caller writes, or the snapshot itself, which
// endCapture writes. No thread goes on before that.
func (r *Recorder) capture(m *memory, t *tracee.Thread, why Reason) *captured {
	if !r.canCapture(m, why) {
		return nil
	}
	r.group.Hold(m.Space)
	begin := time.Now()
	since := r.prepareCapture(m, t)
	plan, limit := snapshot.Plan{FilesSince: since}, captureMost
	switch {
	case why == ReasonExit && r.opts.Snapshot.Spare:
		plan.Order, limit = snapshot.BySize, r.when.exitLimit(time.Duration(since))
	case why == ReasonAttach && r.opts.Snapshot.Interval > 0 && m.large():
		limit = attachMost // the sweeps read the rest
	}
	stop := func() bool { return time.Since(begin) > limit }
	rep := r.reader.Read(m, m.finder, m.notes, plan, stop, m.sink)
	s := r.read(m, rep, why)
	m.Ran = !s.whole                 // what is left is read at the next tick, even if all sleep; who goes on sets it again
	m.registers(why == ReasonSignal) // a core of this step has them all
	s.took = time.Since(begin)
	s.PauseNS = uint64(s.took)
	s.cut = !rep.Whole && rep.Err == nil && s.took > limit
	if why == ReasonAttach && limit == attachMost {
		s.cut, m.sweeps.behind = false, s.cut
	}
	if plan.Order == snapshot.BySize {
		r.when.exitSpent += s.took
	}
	r.confirm(s)
	return s
}

// canCapture reports whether an address space is to be read.
func (r *Recorder) canCapture(m *memory, why Reason) bool {
	return why != ReasonNone && m.fs != nil && !r.group.Over() && r.log.err == nil
}

// large reports whether an address space may have more memory of its own than can be read in
// the time that an interval snapshot may hold it.
func (m *memory) large() bool {
	const most = 64 << 20
	n := uint64(0)
	for v := range m.Mappings().All() {
		if v.Prot&addr.Write != 0 {
			n += v.Len()
		}
	}
	return n > most
}

// prepareCapture brings up to date what is known of a held address space. It returns
// the time.
func (r *Recorder) prepareCapture(m *memory, t *tracee.Thread) (now uint64) {
	if m.track.stage != trackIdle {
		r.beginTracking(m, t)
	}
	m.table.Grow(m)
	if !m.finder.Collect(m.Mappings()) {
		m.notes.Doubt()
	}
	return r.group.Now()
}

// read makes a snapshot of what came of a reading.
func (r *Recorder) read(m *memory, rep snapshot.Report, why Reason) *captured {
	if rep.Blind {
		r.warn("this kernel does not tell which pages are there: memory is read whole")
	}
	s := &captured{whole: rep.Whole && !m.Moving(), err: rep.Err}
	s.Snapshot = format.Snapshot{
		MM: m.MM(), Reason: why.String(), Mechanism: m.finder.Name(), Full: rep.Full, Pages: m.sweeps.pages + rep.Pages,
	}
	m.sweeps.pages = 0
	return s
}

// confirm says that what a snapshot has found is so at the next event.
func (r *Recorder) confirm(s *captured) {
	if s.whole {
		r.log.change(&format.Confirm{MM: s.MM})
	}
}

// endCapture writes the event of a snapshot; nil is none.
func (r *Recorder) endCapture(t *tracee.Thread, s *captured) {
	if s == nil {
		return
	}
	if len(r.log.changes) == 0 { // they went with the event before
		r.confirm(s)
	}
	r.emit(&format.Event{Thread: t.No, Record: &s.Snapshot})
	if s.err != nil {
		r.lost(t.No, fmt.Sprintf("memory of address space %d: %v", s.MM, s.err))
	}
	switch {
	case s.cut && s.took > captureMost:
		r.lost(t.No, fmt.Sprintf("memory of address space %d: saved in part, for %v: no snapshot may take longer", s.MM, s.took.Round(time.Millisecond)))
	case s.cut:
		r.result.InPart++
		r.lost(t.No, fmt.Sprintf("memory of address space %d at its end: saved in part, for %v, not to slow the program down (--snapshot exit saves all)", s.MM, s.took.Round(time.Millisecond)))
	}
}
