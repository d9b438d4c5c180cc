package symbol

import (
	"bytes"
	"debug/elf"
	"slices"
)

// nameTable is the functions of an ELF file by address. It keeps 16 bytes a symbol; names
// stay in the file until they are wanted.
type nameTable struct {
	o      *object
	syms   []sym    // by address, best first where several share one
	reach  []uint64 // of each block of syms: where the furthest of it and of those before it ends
	strOff [2]uint64
	strLen [2]uint64
}

// sym is a function. Bits of info: 0-27 size, 28-30 rank (a higher one is the better
// name), 31 which string table.
type sym struct {
	value uint64
	info  uint32
	name  uint32
}

const (
	sizeBits  = 28
	symBlock  = 64
	maxName   = 64 << 10
	maxSyms   = 32 << 20
	rankShift = sizeBits
	strShift  = 31
)

func (s sym) size() uint64 { return uint64(s.info & (1<<sizeBits - 1)) }
func (s sym) rank() uint32 { return s.info >> rankShift & 7 }

// readNames reads .symtab, or .dynsym where there is none.
func (o *object) readNames() (t *nameTable, err error) {
	defer guard(&err)
	t = &nameTable{o: o}
	for i, kind := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		s := o.elf.SectionByType(kind)
		if s == nil || s.Type == elf.SHT_NOBITS {
			continue
		}
		if err := t.read(s, i); err != nil {
			return t, err
		}
		if len(t.syms) > 0 { // it has those of .dynsym too
			break
		}
	}
	slices.SortFunc(t.syms, func(a, b sym) int {
		if a.value != b.value {
			return compare(a.value, b.value)
		}
		return int(b.rank()) - int(a.rank())
	})
	furthest := uint64(0)
	for i, s := range t.syms {
		furthest = max(furthest, s.value+s.size())
		if i%symBlock == symBlock-1 || i == len(t.syms)-1 {
			t.reach = append(t.reach, furthest)
		}
	}
	return t, nil
}

// read adds the functions of a symbol table with string table number which.
func (t *nameTable) read(s *elf.Section, which int) error {
	o := t.o
	b, err := o.data(s)
	if err != nil {
		return err
	}
	if int(s.Link) >= len(o.elf.Sections) || s.Link == 0 {
		return nil
	}
	str := o.elf.Sections[s.Link]
	if str.Type != elf.SHT_STRTAB || str.Flags&elf.SHF_COMPRESSED != 0 {
		return nil
	}
	t.strOff[which], t.strLen[which] = str.Offset, str.FileSize
	each := 24
	if o.elf.Class == elf.ELFCLASS32 {
		each = 16
	}
	order := o.elf.ByteOrder
	for ; len(b) >= each && len(t.syms) < maxSyms; b = b[each:] {
		name := order.Uint32(b)
		var info byte
		var shndx uint16
		var value, size uint64
		if each == 24 {
			info, shndx = b[4], order.Uint16(b[6:])
			value, size = order.Uint64(b[8:]), order.Uint64(b[16:])
		} else {
			value, size = uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:]))
			info, shndx = b[12], order.Uint16(b[14:])
		}
		if name == 0 || elf.SectionIndex(shndx) == elf.SHN_UNDEF || o.section(value) == nil {
			continue
		}
		var rank uint32
		switch elf.ST_TYPE(info) {
		case elf.STT_FUNC, elf.STT_GNU_IFUNC:
			rank = 4
		case elf.STT_NOTYPE, elf.STT_OBJECT: // labels of assembler, data in the code
		default:
			continue
		}
		if elf.ST_BIND(info) != elf.STB_LOCAL { // libc's names are weak, its own aliases global
			rank++
		}
		t.syms = append(t.syms, sym{value, uint32(min(size, 1<<sizeBits-1)) | rank<<rankShift | uint32(which)<<strShift, name})
	}
	return nil
}

// upTo is how many symbols begin at or before an address.
func (t *nameTable) upTo(a uint64) int {
	i, _ := slices.BinarySearchFunc(t.syms, a, func(s sym, a uint64) int {
		if s.value <= a {
			return -1
		}
		return 1
	})
	return i
}

// find is the function that an address is in: the innermost whose size reaches it, else
// one that has no size and lies before it with no other between.
func (t *nameTable) find(a uint64) (name string, start uint64, ok bool) {
	n := t.upTo(a)
	for i := n - 1; i >= 0; i-- {
		if i%symBlock == symBlock-1 && t.reach[i/symBlock] <= a {
			break
		}
		if s := t.syms[i]; a-s.value < s.size() {
			return t.best(s.value, a, true), s.value, true
		}
	}
	if n == 0 {
		return "", 0, false
	}
	s := t.syms[n-1]
	if in := t.o.section(a); in == nil || s.value < in.lo {
		return "", 0, false
	}
	for i := t.upTo(s.value) - 1; i >= 0 && t.syms[i].value == s.value; i-- {
		if t.syms[i].size() != 0 {
			return "", 0, false // it ended before a
		}
	}
	return t.best(s.value, a, false), s.value, true
}

// best is the name of the functions at value, of those with a size that reaches a if
// sized. Of several it is the one of the highest rank; of those the one that looks least
// internal.
func (t *nameTable) best(value, a uint64, sized bool) string {
	var name string
	rank := -1
	for i := t.upTo(value) - 1; i >= 0 && t.syms[i].value == value; i-- {
		s := t.syms[i]
		if sized && a-value >= s.size() || int(s.rank()) < rank {
			continue
		}
		n := t.name(s)
		if n == "" || int(s.rank()) == rank && !plainer(n, name) {
			continue
		}
		name, rank = n, int(s.rank())
	}
	return name
}

// plainer says whether a is the better of two names of one function: the one with fewer
// underscores before it, then the shorter, then the first.
func plainer(a, b string) bool {
	ua, ub := len(a)-len(trimUnder(a)), len(b)-len(trimUnder(b))
	switch {
	case ua != ub:
		return ua < ub
	case len(a) != len(b):
		return len(a) < len(b)
	}
	return a < b
}

func trimUnder(s string) string {
	if len(s) > 2 && s[:2] == "_Z" || len(s) > 2 && s[:2] == "_R" {
		return s // mangled
	}
	for s != "" && s[0] == '_' {
		s = s[1:]
	}
	return s
}

// name reads a symbol's name, without its version.
func (t *nameTable) name(s sym) string {
	which := s.info >> strShift
	if uint64(s.name) >= t.strLen[which] {
		return ""
	}
	n := cString(t.o, t.strOff[which]+uint64(s.name), t.strLen[which]-uint64(s.name))
	if i := bytes.IndexByte(n, '@'); i > 0 {
		n = n[:i]
	}
	return string(n)
}

// cString reads a text that ends with a zero byte, of at most n bytes.
func cString(o *object, off, n uint64) []byte {
	var out []byte
	n = min(n, maxName)
	for piece := uint64(128); uint64(len(out)) < n; piece *= 4 {
		b := make([]byte, min(piece, n-uint64(len(out))))
		got, _ := o.r.ReadAt(b, int64((off+uint64(len(out)))&(1<<63-1)))
		b = b[:got]
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return append(out, b[:i]...)
		}
		out = append(out, b...)
		if got == 0 {
			break
		}
	}
	return out
}

// Symbol is a named place of an ELF file.
type Symbol struct {
	Value, Size uint64 // Value is an address as the file was linked
}

// lookup finds a function or a variable by name. Of several the global one counts, else
// the first.
func (o *object) lookup(name string) (found Symbol, ok bool, err error) {
	defer guard(&err)
	global := false
	for _, read := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		s := o.elf.SectionByType(read)
		if s == nil || s.Type == elf.SHT_NOBITS || s.Link == 0 || int(s.Link) >= len(o.elf.Sections) {
			continue
		}
		b, err := o.data(s)
		if err != nil {
			return found, ok, err
		}
		str, err := o.data(o.elf.Sections[s.Link])
		if err != nil {
			return found, ok, err
		}
		each := 24
		if o.elf.Class == elf.ELFCLASS32 {
			each = 16
		}
		order := o.elf.ByteOrder
		for ; len(b) >= each; b = b[each:] {
			at := uint64(order.Uint32(b))
			if end := at + uint64(len(name)); at == 0 || end >= uint64(len(str)) || string(str[at:end]) != name || str[end] != 0 && str[end] != '@' {
				continue
			}
			var info byte
			var shndx uint16
			var v Symbol
			if each == 24 {
				info, shndx = b[4], order.Uint16(b[6:])
				v = Symbol{order.Uint64(b[8:]), order.Uint64(b[16:])}
			} else {
				v = Symbol{uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:]))}
				info, shndx = b[12], order.Uint16(b[14:])
			}
			if elf.SectionIndex(shndx) == elf.SHN_UNDEF {
				continue
			}
			switch elf.ST_TYPE(info) {
			case elf.STT_OBJECT, elf.STT_FUNC, elf.STT_NOTYPE, elf.STT_COMMON, elf.STT_GNU_IFUNC:
			default:
				continue
			}
			bind := elf.ST_BIND(info) != elf.STB_LOCAL
			if ok && (global || !bind) {
				continue
			}
			found, ok, global = v, true, bind
		}
	}
	return found, ok, nil
}
