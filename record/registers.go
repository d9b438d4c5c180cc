//go:build linux

// This file writes the registers of the threads of an address space that is read.

package record

import (
	"bytes"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/tracee"
)

// registers writes the registers of the threads of an address space, of those in a
// system call as they were at its beginning: once for each call, or again.
func (m *memory) registers(again bool) {
	for t := range m.Threads {
		if t.Local == nil {
			continue // it is just being made
		}
		if regs := m.group.TakeRegisters(t, again); regs != nil {
			m.log.change(&format.RegsSet{Thread: t.No, Regs: regs})
			m.extendedState(t)
		}
	}
}

// extendedState writes the floating-point and vector registers of a stopped
// thread, or that they are what the log has.
func (m *memory) extendedState(t *tracee.Thread) {
	now, ok := m.group.XState(t)
	if !ok {
		return
	}
	x := &format.XStateSet{Thread: t.No} // as it was
	if had := threadOf(t); !bytes.Equal(now, had.xstate) {
		had.xstate = append(had.xstate[:0], now...)
		x.Data = slices.Clone(now)
	}
	m.log.change(x)
}

// restartableSequences are where the kernel writes to the memory of threads when it
// lets them go on.
func (m *memory) restartableSequences() (at []addr.Addr) {
	for t := range m.Threads {
		if a := m.group.RSeq(t); a != 0 {
			at = append(at, addr.Addr(a))
		}
	}
	return at
}
