//go:build linux

// This file keeps what names the code in stacks and would be gone later: the maps of code that
// is made at run time, and the kernel's own code.

package record

import (
	"fmt"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// Names of texts in the log.
const (
	textPerfMap = "perf.map"
	textVDSO    = "vdso"
)

// maxVDSO is more than the kernel's code takes.
const maxVDSO = 64 << 10

// leaving keeps the perf map of an address space that is about to end, or to be left alone,
// if a stack had code without a file in it. t is one of its threads.
func (s *stacks) leaving(t *tracee.Thread, m *memory) {
	if s.depth <= 0 || !s.perfMaps || m.code.space == nil || !m.code.space.Anonymous() {
		return
	}
	m.code.space = nil
	pid := nstid(m.kernel, t.Proc.PID, true)
	text, whole, err := procfs.PerfMap(t.TID, pid, format.MaxText)
	if err != nil {
		s.lost(fmt.Sprintf("names of code of process %d: %v", t.Proc.PID, err))
	}
	if len(text) == 0 {
		return
	}
	if !whole {
		s.lost(fmt.Sprintf("names of code of process %d: its perf map has more than %d bytes", t.Proc.PID, format.MaxText))
	}
	_ = s.log.Text(&format.Text{Name: textPerfMap, MM: m.table.MM(), Step: m.log.next, Data: text}) // an error is told at the next event
}

// keepVDSO keeps the kernel's code, which no file has.
func (s *stacks) keepVDSO() {
	m := s.files.m
	for v := range m.Mappings().All() {
		if v.Kind != vma.VDSO || v.Len() > maxVDSO {
			continue
		}
		b := make([]byte, v.Len())
		if n := s.mem.Read(b, addr.Addr(v.Start)); n == len(b) {
			_ = s.log.Text(&format.Text{Name: textVDSO, MM: m.table.MM(), Step: m.log.next, Data: b})
		}
	}
}
