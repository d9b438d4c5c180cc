package symbol

import (
	"debug/elf"
	"io"
	"slices"
	"strings"

	"memtrace/format/addr"
)

// Parts are the parts of an ELF file that functions, lines and call stacks are taken from: headers,
// symbols, debug information, unwind tables, and the jump tables of the linker. Code and data are
// not among them. ok is false if r is no ELF file with sections.
func Parts(r io.ReaderAt) (parts addr.Set, ok bool) {
	o, err := openObject(r)
	if err != nil || len(o.elf.Sections) == 0 {
		return parts, false
	}
	add := func(off, n uint64) {
		if off+n > off {
			parts.Add(addr.Reach(addr.Addr(off), n))
		}
	}
	for _, h := range o.headers() {
		add(h[0], h[1])
	}
	for _, p := range o.elf.Progs {
		if p.Type == elf.PT_NOTE || p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			add(p.Off, p.Filesz)
		}
	}
	for _, s := range o.elf.Sections {
		if s.Type != elf.SHT_NOBITS && o.names(s) {
			add(s.Offset, s.FileSize)
		}
	}
	return parts, true
}

// headers are where the headers of the file, of its segments and of its sections are.
func (o *object) headers() [][2]uint64 {
	b := o.peek(0, 64)
	le := o.elf.ByteOrder
	u16 := func(at int) uint64 { return uint64(le.Uint16(b[at:])) }
	if o.elf.Class == elf.ELFCLASS64 && len(b) == 64 {
		return [][2]uint64{{0, 64}, {le.Uint64(b[0x20:]), u16(0x36) * u16(0x38)}, {le.Uint64(b[0x28:]), u16(0x3a) * max(u16(0x3c), uint64(len(o.elf.Sections)))}}
	}
	if len(b) < 52 {
		return nil
	}
	return [][2]uint64{{0, 52}, {uint64(le.Uint32(b[0x1c:])), u16(0x2a) * u16(0x2c)}, {uint64(le.Uint32(b[0x20:])), u16(0x2e) * max(u16(0x30), uint64(len(o.elf.Sections)))}}
}

// names reports whether a section is one that names, lines or stacks are taken from.
func (o *object) names(s *elf.Section) bool {
	if s.Flags&elf.SHF_ALLOC == 0 || s.Type != elf.SHT_PROGBITS && s.Type != elf.SHT_INIT_ARRAY && s.Type != elf.SHT_FINI_ARRAY {
		return true
	}
	goData := []string{".go.module", ".noptrdata", ".data"} // where Go's tables are found by
	return strings.HasPrefix(s.Name, ".plt") || strings.HasPrefix(s.Name, ".got") || strings.HasPrefix(s.Name, ".eh_frame") || strings.HasSuffix(s.Name, ".gopclntab") ||
		o.goID != "" && slices.Contains(goData, s.Name)
}
