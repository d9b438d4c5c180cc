//go:build linux

// This file has the table of mappings see them as the program believes them to be, while a
// page trace has other protections set.

package pagetrace

import (
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/space"
)

// Believed is what the program would have of the mappings that the kernel has told.
func (m *Space) Believed(raw []vma.VMA) []vma.VMA {
	if m.trace.state != traceOn {
		return raw
	}
	return m.trace.Believe(nil, raw, m.Mappings())
}

// Believer is a space.Kernel that answers as the program believes it does; nil where no trace
// is wanted.
func (m *Space) Believer() space.Kernel {
	if !m.wanted || m.Kernel() == nil {
		return nil
	}
	return believer{m}
}

// believer is a space.Kernel that answers as if there was no page trace.
type believer struct{ m *Space }

func (b believer) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	if b.m.trace.state != traceOn {
		return b.m.Kernel().Mapping(a)
	}
	return b.m.trace.Mapping(b.m.Kernel(), b.m.Mappings(), a)
}

func (b believer) MapsText() ([]byte, error) {
	text, err := b.m.Kernel().MapsText()
	if err != nil || b.m.trace.state != traceOn || len(text) == 0 {
		return text, err
	}
	raw, err := procfs.ParseMaps(nil, text)
	if err != nil {
		return nil, err
	}
	text = text[:0]
	for _, v := range b.m.Believed(raw) {
		text = v.AppendMaps(text)
	}
	return text, nil
}

// Fork goes on with the page trace of a parent in the copy of its memory.
func (m *Space) Fork(parent *Space) {
	p := &parent.trace
	if p.state != traceOn || m.Kernel() == nil {
		return
	}
	m.readClosed()
	c := &m.trace
	c.Space, c.state, c.gate, c.spare, c.stack = p.Fork(), traceOn, p.gate, p.spare, p.stack
	c.code = map[addr.Addr]instruction{}
	c.program, c.accounted, c.pace = p.program, p.accounted, p.pace
	c.pace.begun = 0
	c.late.Add(refs.Everything) // the parent had everything open for the copy
}
