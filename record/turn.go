//go:build linux

// This file has calls that may change one address space made one at a time.

package record

import (
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// takeTurn asks for the turn for a call that changes mappings.
func (m *memory) takeTurn(t *tracee.Thread) bool {
	if len(m.Threads) == 1 {
		return true
	}
	if !m.turn.Take(t) {
		return false
	}
	m.timeTurn()
	return true
}

// turnDone gives the turn to the next thread that waits for it.
func (m *memory) turnDone(t *tracee.Thread) {
	if next, ok := m.turn.Done(t); ok {
		m.timeTurn()
		m.group.Go(next)
	}
}

// noTurn has a thread neither wait for the turn nor keep it.
func (m *memory) noTurn(t *tracee.Thread) {
	m.turn.Leave(t)
	m.turnDone(t)
}

// timeTurn takes the turn away from a thread that keeps it for too long.
func (m *memory) timeTurn() {
	serial, start := m.turn.Timer()
	if !start {
		return
	}
	m.group.After(space.Patience, func() {
		next, ok := m.turn.Expire(serial)
		m.timeTurn()
		if ok {
			m.group.Go(next)
		}
	})
}
