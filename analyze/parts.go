package analyze

import (
	"cmp"
	"fmt"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
	"memtrace/replay/symbol"
)

// parts names the parts of ELF files that mappings show, where the files can
// be read.
type parts struct {
	view  *replay.View
	files map[string]*symbol.File // nil: cannot be read
}

// newParts makes parts for a view.
func newParts(v *replay.View) *parts { return &parts{view: v, files: map[string]*symbol.File{}} }

// of names the part that m is: ".text", ".rodata +5" (and five smaller ones),
// ".bss". Where the file cannot be read it says in words what it likely is, and
// what is no file has no part.
func (p *parts) of(s *replay.AddressSpace, m vma.VMA) string {
	switch {
	case m.Kind == vma.AnonPrivate && m.Name == "" || m.Kind == vma.Heap:
		return p.bss(s, m)
	case m.Kind != vma.FilePrivate || !strings.HasPrefix(m.Name, "/"):
		return ""
	}
	f := p.file(m)
	if f == nil {
		return ""
	}
	return cmp.Or(f.Part(m.Offset, m.Len()), symbol.Guess(m.Prot.String()))
}

// bss says whether anonymous memory is the zero-initialised data of the file
// that is mapped right before it.
func (p *parts) bss(s *replay.AddressSpace, m vma.VMA) string {
	before, ok := s.Set().Find(m.Start - 1)
	if !ok || before.Kind != vma.FilePrivate {
		return ""
	}
	f := p.file(before)
	if f == nil {
		return ""
	}
	if start, end, ok := f.BSS(before.Offset, uint64(before.Start)); ok &&
		m.Overlaps(addr.Range{Start: addr.Addr(start), End: addr.Addr(end)}) {
		return ".bss"
	}
	return ""
}

func (p *parts) file(m vma.VMA) *symbol.File {
	key := fmt.Sprintf("%s %d:%d %d", m.Name, m.Dev.Major, m.Dev.Minor, m.Inode)
	f, ok := p.files[key]
	if !ok {
		if r, err := p.view.OpenMapped(m); err == nil {
			f, _ = symbol.Read(r) // a file that is no ELF file has no parts
			_ = r.Close()
		}
		p.files[key] = f
	}
	return f
}
