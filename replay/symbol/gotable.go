package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"sort"
)

// goTable is the table of functions and lines that the Go linker puts into every
// program, stripped or not (Go 1.18 and later). $GOROOT/src/internal/abi/symtab.go and
// runtime/symtab.go describe it.
type goTable struct {
	order    binary.ByteOrder
	quantum  uint64
	text     uint64 // address that functions are counted from
	end      uint64
	nfunc    int
	names    []byte
	units    []byte
	files    []byte
	pctab    []byte
	funcs    []byte // begins with the list of functions
	inlines  []byte // what trees of inlined calls are offsets into, nil: not found
	funcSize int    // of a function's record, without what is of variable length
}

// What the first word of the table is in each version.
const (
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

// Which of a function's tables says where in the tree of inlined calls an instruction
// is, and which of its data is that tree.
const (
	pcInlineIndex  = 2
	dataInlineTree = 3
	inlineSize     = 16
)

// readGo finds the table; nil if o is no Go program.
func (o *object) readGo() (t *goTable, err error) {
	defer guard(&err)
	s := o.elf.Section(".gopclntab")
	if s == nil {
		s = o.elf.Section(".data.rel.ro.gopclntab")
	}
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	b, err := o.data(s)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 {
		return nil, nil
	}
	t = &goTable{order: o.elf.ByteOrder, quantum: uint64(b[6])}
	switch t.order.Uint32(b) {
	case goMagic118:
		t.funcSize = 40
	case goMagic120:
		t.funcSize = 44
	default:
		return nil, nil
	}
	ptr := int(b[7])
	if ptr != 4 && ptr != 8 || t.quantum == 0 || len(b) < 8+8*ptr {
		return nil, nil
	}
	word := func(i int) uint64 {
		p := b[8+i*ptr:]
		if ptr == 4 {
			return uint64(t.order.Uint32(p))
		}
		return t.order.Uint64(p)
	}
	part := func(i int) []byte { return b[min(word(i), uint64(len(b))):] }
	t.text = word(2)
	t.names, t.units, t.files, t.pctab, t.funcs = part(3), part(4), part(5), part(6), part(7)
	if t.nfunc = int(min(word(0), uint64(len(t.funcs)/8))); t.nfunc == 0 || (t.nfunc*2+1)*4 > len(t.funcs) {
		return nil, nil
	}
	text, gofunc := o.goModule(s, ptr)
	if t.funcSize == 44 && gofunc != 0 {
		t.inlines = o.at(gofunc)
	}
	if o.section(t.text) == nil { // Go 1.26 leaves it to the loader
		t.text = text
	}
	if o.section(t.text) == nil {
		if sym, ok, _ := o.lookup("runtime.text"); ok {
			t.text = sym.Value
		} else if s := o.elf.Section(".text"); s != nil {
			t.text = s.Addr
		}
	}
	t.end = t.text + uint64(t.u32(t.funcs, t.nfunc*8))
	return t, nil
}

// goModule finds the description of the program that the runtime has, which begins with
// the address of the table: where the code begins, and the data of functions.
func (o *object) goModule(table *elf.Section, ptr int) (text, gofunc uint64) {
	order := o.elf.ByteOrder
	want := make([]byte, ptr)
	get := func(b []byte) uint64 { return uint64(order.Uint32(b)) }
	if ptr == 8 {
		order.PutUint64(want, table.Addr)
		get = order.Uint64
	} else {
		order.PutUint32(want, uint32(table.Addr))
	}
	for _, name := range []string{".go.module", ".noptrdata", ".data"} {
		s := o.elf.Section(name)
		if s == nil {
			continue
		}
		b, err := o.data(s)
		if err != nil {
			continue
		}
		// Words behind it: five slices and the list of functions, three of limits; then
		// text. Further 18 words on: the data of functions.
		const textAt, gofuncAt = 22, 40
		for i := 0; i+(gofuncAt+1)*ptr <= len(b); {
			k := bytes.Index(b[i:], want)
			if k < 0 {
				break
			}
			i += k
			if i%ptr == 0 && i+(gofuncAt+1)*ptr <= len(b) {
				text, gofunc = get(b[i+textAt*ptr:]), get(b[i+gofuncAt*ptr:])
				if o.section(text) != nil {
					return text, gofunc
				}
			}
			i++
		}
	}
	return 0, 0
}

// at is what the file has at an address, up to the end of its section.
func (o *object) at(a uint64) []byte {
	for _, s := range o.elf.Sections {
		if s.Type == elf.SHT_PROGBITS && s.Addr != 0 && a >= s.Addr && a-s.Addr < s.Size && s.Size <= maxDebug {
			if b, err := o.data(s); err == nil && a-s.Addr < uint64(len(b)) {
				return b[a-s.Addr:]
			}
		}
	}
	return nil
}

// u32 reads a word, 0 beyond the end.
func (t *goTable) u32(b []byte, at int) uint32 {
	if at < 0 || at+4 > len(b) {
		return 0
	}
	return t.order.Uint32(b[at:])
}

// record is the function that holds an address.
func (t *goTable) record(a uint64) (rec []byte, entry uint64, ok bool) {
	if a < t.text || a >= t.end {
		return nil, 0, false
	}
	off := uint32(a - t.text)
	i := sort.Search(t.nfunc, func(i int) bool { return t.u32(t.funcs, i*8) > off }) - 1
	if i < 0 {
		return nil, 0, false
	}
	at := int(t.u32(t.funcs, i*8+4))
	if at+t.funcSize > len(t.funcs) {
		return nil, 0, false
	}
	return t.funcs[at:], t.text + uint64(t.u32(t.funcs, i*8)), true
}

func (t *goTable) name(off uint32) string { return cText(t.names, uint64(off)) }

func cText(b []byte, off uint64) string {
	if off >= uint64(len(b)) {
		return ""
	}
	b = b[off:min(off+maxName, uint64(len(b)))]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// find is the function that an address is in, without those inlined.
func (t *goTable) find(a uint64) (name string, start uint64, ok bool) {
	rec, entry, ok := t.record(a)
	if !ok {
		return "", 0, false
	}
	name = t.name(t.u32(rec, 4))
	return name, entry, name != ""
}

// places is where the code at an address comes from, the innermost first.
func (t *goTable) places(a uint64) []Place {
	rec, entry, ok := t.record(a)
	if !ok {
		return nil
	}
	place := func(a uint64) Place {
		var p Place
		if f := t.value(t.u32(rec, 20), entry, a); f >= 0 {
			unit := t.u32(rec, 32)
			off := t.u32(t.units, int(uint64(unit)+uint64(f))*4)
			p.File = cText(t.files, uint64(off))
		}
		p.Line = max(int(t.value(t.u32(rec, 24), entry, a)), 0)
		if p.File == "" {
			p.Line = 0
		}
		return p
	}
	var list []Place
	npc, ndata := int(t.u32(rec, 28)), 0
	if t.funcSize == 44 {
		ndata = int(rec[43])
	}
	var tree []byte
	if off := t.u32(rec, t.funcSize+4*npc+4*dataInlineTree); npc > pcInlineIndex && npc < 1<<16 && ndata > dataInlineTree &&
		off != 1<<32-1 && uint64(off) < uint64(len(t.inlines)) {
		tree = t.inlines[off:]
	}
	for len(list) < maxNesting {
		p := place(a)
		i := -1
		if tree != nil {
			i = int(t.value(t.u32(rec, t.funcSize+4*pcInlineIndex), entry, a))
		}
		if i < 0 || (i+1)*inlineSize > len(tree) {
			p.Function = t.name(t.u32(rec, 4))
			return append(list, p)
		}
		p.Function, p.Inlined = t.name(t.u32(tree, i*inlineSize+4)), true
		list = append(list, p)
		a = entry + uint64(t.u32(tree, i*inlineSize+8))
	}
	return nil // it goes round in a ring
}

// value is what a table of values by address says at an address, -1 for none. The table
// is pairs of varints: how much the value changes, and how far it is good for.
func (t *goTable) value(off uint32, entry, a uint64) int32 {
	if off == 0 || uint64(off) >= uint64(len(t.pctab)) {
		return -1
	}
	p := t.pctab[off:]
	value, pc := int32(-1), entry
	for first := true; ; first = false {
		d, n := binary.Uvarint(p)
		if n <= 0 || d == 0 && !first {
			return -1
		}
		p = p[n:]
		value += int32(uint32(d>>1) ^ -uint32(d&1))
		step, n := binary.Uvarint(p)
		if n <= 0 {
			return -1
		}
		p = p[n:]
		if pc += step * t.quantum; a < pc {
			return value
		}
	}
}
