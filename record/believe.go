//go:build linux

// This file has the table of mappings see them as the program believes them to be, while a
// page trace has other protections set.

package record

import (
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/refs"
)

// believed is what the program would have of the mappings that the kernel has told.
func (m *memory) believed(raw []vma.VMA) []vma.VMA {
	if m.trace.state != pagesOn {
		return raw
	}
	return m.trace.Believe(nil, raw, m.Mappings())
}

// believe has the table ask the kernel through what the program believes.
func (m *memory) believe() {
	if m.trace.wanted && m.fs != nil {
		m.table.SetKernel(believer{m})
	}
}

// believer is a space.Kernel that answers as if there was no page trace.
type believer struct{ m *memory }

func (b believer) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	if b.m.trace.state != pagesOn {
		return b.m.fs.Mapping(a)
	}
	return b.m.trace.Mapping(b.m.fs, b.m.Mappings(), a)
}

func (b believer) MapsText() ([]byte, error) {
	text, err := b.m.fs.MapsText()
	if err != nil || b.m.trace.state != pagesOn || len(text) == 0 {
		return text, err
	}
	raw, err := procfs.ParseMaps(nil, text)
	if err != nil {
		return nil, err
	}
	text = text[:0]
	for _, v := range b.m.believed(raw) {
		text = v.AppendMaps(text)
	}
	return text, nil
}

// forkTrace goes on with the page trace of a parent in the copy of its memory.
func (m *memory) forkTrace(parent *memory) {
	p := &parent.trace
	if p.state != pagesOn || m.fs == nil {
		return
	}
	m.readClosed()
	c := &m.trace
	c.Space, c.state, c.gate, c.spare, c.stack = p.Fork(), pagesOn, p.gate, p.spare, p.stack
	c.code = map[addr.Addr]instruction{}
	c.program, c.accounted, c.pace = p.program, p.accounted, p.pace
	c.pace.begun = 0
	c.late.Add(refs.Everything) // the parent had everything open for the copy
}
