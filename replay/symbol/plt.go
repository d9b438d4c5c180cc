package symbol

import (
	"debug/elf"
	"encoding/binary"
	"strings"
)

// stubs names the entries of the procedure linkage table: jumps to functions of other
// files, which have no symbols of their own.
type stubs struct {
	o     *object
	slots map[uint64]string // slot of the global offset table -> function
	order []string          // functions of .rela.plt in their order
	base  uint64            // what ebx points at in i386 code
}

const maxRelocs = 1 << 22

// readStubs reads the relocations of functions. Without section headers there are none.
func (o *object) readStubs() (t *stubs, err error) {
	defer guard(&err)
	t = &stubs{o: o, slots: map[uint64]string{}}
	if s := o.elf.Section(".got.plt"); s != nil {
		t.base = s.Addr
	} else if s := o.elf.Section(".got"); s != nil {
		t.base = s.Addr
	}
	if o.elf.Machine != elf.EM_X86_64 && o.elf.Machine != elf.EM_386 {
		return t, nil
	}
	syms, err := o.elf.DynamicSymbols()
	if err != nil {
		return t, nil // a static program
	}
	for _, s := range o.elf.Sections {
		if s.Type != elf.SHT_RELA && s.Type != elf.SHT_REL || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		b, err := o.data(s)
		if err != nil {
			return t, err
		}
		plt := strings.HasSuffix(s.Name, ".plt")
		t.readRelocs(b, s.Type, syms, plt)
	}
	return t, nil
}

// readRelocs reads relocations that put the address of a function into a slot.
func (t *stubs) readRelocs(b []byte, kind elf.SectionType, syms []elf.Symbol, plt bool) {
	order := t.o.elf.ByteOrder
	wide := t.o.elf.Class == elf.ELFCLASS64
	each := 8
	if wide {
		each = 16
	}
	if kind == elf.SHT_RELA {
		each += each / 2
	}
	for ; len(b) >= each && len(t.slots) < maxRelocs; b = b[each:] {
		var slot uint64
		var sym, typ uint32
		if wide {
			info := order.Uint64(b[8:])
			slot, sym, typ = order.Uint64(b), uint32(info>>32), uint32(info)
		} else {
			info := order.Uint32(b[4:])
			slot, sym, typ = uint64(order.Uint32(b)), info>>8, info&0xff
		}
		name := ""
		// Both machines number them alike: 6 a variable or function, 7 a function.
		if (typ == 6 || typ == 7) && sym > 0 && int(sym) <= len(syms) {
			name = syms[sym-1].Name
		}
		if name != "" {
			t.slots[slot] = name
		}
		if plt {
			t.order = append(t.order, name)
		}
	}
}

// find names the entry that an address is in.
func (t *stubs) find(a uint64) (name string, start uint64, ok bool) {
	in := t.o.section(a)
	if in == nil || !strings.HasPrefix(in.sec.Name, ".plt") || in.sec.Type == elf.SHT_NOBITS {
		return "", 0, false
	}
	each := in.sec.Entsize
	if each != 8 && each != 16 {
		each = 16
	}
	start = in.lo + (a-in.lo)/each*each
	code := make([]byte, each)
	n, _ := t.o.r.ReadAt(code, int64((in.sec.Offset+start-in.lo)&(1<<63-1)))
	code = code[:n]
	wide := t.o.elf.Machine == elf.EM_X86_64
	for i := 0; i+6 <= len(code); i++ {
		word := uint64(binary.LittleEndian.Uint32(code[i+2:]))
		switch {
		case code[i] == 0xff && code[i+1] == 0x25 && wide: // jmp *word(%rip)
			name = t.slots[start+uint64(i)+6+uint64(int64(int32(word)))]
		case code[i] == 0xff && code[i+1] == 0x25: // jmp *word
			name = t.slots[word]
		case code[i] == 0xff && code[i+1] == 0xa3 && !wide: // jmp *word(%ebx)
			name = t.slots[uint64(uint32(t.base+word))]
		}
		if name != "" {
			return name + "@plt", start, true
		}
	}
	for i := 0; i+5 <= len(code) && i <= 4; i++ { // push number; jmp: after a branch mark
		if code[i] != 0x68 {
			continue
		}
		k := uint64(binary.LittleEndian.Uint32(code[i+1:]))
		if !wide {
			k /= 8
		}
		if k < uint64(len(t.order)) && t.order[k] != "" {
			return t.order[k] + "@plt", start, true
		}
	}
	return "", 0, false
}
