//go:build linux

// This file has the one way into the log: changes are collected, and written with
// the event that they belong to.

package record

import (
	"memtrace/format"
)

// Log takes what is recorded. *format.Writer is one.
type Log interface {
	Event(*format.Event) (format.Step, error)
	Change(format.Change) error
	State() *format.State
	Header() *format.Header
	Ref(*format.Ref) error
	Phase(*format.Phase) error
	Flush() error
	Bytes() int64
}

// journal collects the changes since the last event, and writes both.
type journal struct {
	log     Log
	changes []format.Change
	given   int         // how many of changes the log has already
	next    format.Step // of the next event
	err     error       // what keeps the log from being written; nothing is, from then on
}

// change collects a change.
func (j *journal) change(c format.Change) { j.changes = append(j.changes, c) }

// pages gives contents to the log at once: they may be more than fits in memory,
// and belong to the event that follows.
func (j *journal) pages(p *format.Pages) {
	for _, c := range j.changes[j.given:] {
		j.give(c)
	}
	j.given = len(j.changes)
	j.give(p)
}

func (j *journal) give(c format.Change) {
	if j.err == nil {
		j.err = j.log.Change(c)
	}
}

// write writes an event with the changes collected since the last one, which stay
// in e until the next. It reports whether the log has it.
func (j *journal) write(e *format.Event) bool {
	all := j.changes
	if j.err == nil {
		e.Changes = all[j.given:]
		e.Step, j.err = j.log.Event(e)
		j.next = e.Step + 1
	}
	e.Changes = all
	j.drop()
	return j.err == nil
}

// drop forgets what has been collected.
func (j *journal) drop() { j.changes, j.given = j.changes[:0], 0 }

// events is how many events the log has.
func (j *journal) events() uint64 { return uint64(j.log.State().Step) + 1 }

// Ref writes a page reference; it belongs to no event.
func (j *journal) Ref(x *format.Ref) {
	if j.err == nil {
		j.err = j.log.Ref(x)
	}
}

// Phase writes that a phase of a page trace ends, and another begins.
func (j *journal) Phase(x *format.Phase) {
	if j.err == nil {
		j.err = j.log.Phase(x)
	}
}

// flush has the log write what waits.
func (j *journal) flush() error {
	if j.err == nil {
		j.err = j.log.Flush()
	}
	return j.err
}
