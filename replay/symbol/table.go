package symbol

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
)

// Symbol is a named place of an ELF file.
type Symbol struct {
	Value, Size uint64 // Value is an address as the file was linked
}

// Table is the symbols of an ELF file by name.
type Table struct {
	names map[string]Symbol
	loads []load
}

// ReadTable reads .symtab and .dynsym. Of symbols with the same name the global
// one counts, else the first.
func ReadTable(r io.ReaderAt) (t *Table, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("malformed ELF file: %v", p)
		}
	}()
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	t = &Table{names: map[string]Symbol{}}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD {
			t.loads = append(t.loads, load{p.Off, p.Filesz, p.Vaddr, p.Memsz})
		}
	}
	global := map[string]bool{}
	for _, read := range []func() ([]elf.Symbol, error){e.Symbols, e.DynamicSymbols} {
		syms, err := read()
		if errors.Is(err, elf.ErrNoSymbols) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, s := range syms {
			kind := elf.ST_TYPE(s.Info)
			if s.Name == "" || s.Section == elf.SHN_UNDEF || kind != elf.STT_OBJECT && kind != elf.STT_FUNC && kind != elf.STT_NOTYPE && kind != elf.STT_COMMON {
				continue
			}
			bind := elf.ST_BIND(s.Info) != elf.STB_LOCAL
			if _, known := t.names[s.Name]; known && (global[s.Name] || !bind) {
				continue
			}
			t.names[s.Name] = Symbol{s.Value, s.Size}
			global[s.Name] = bind
		}
	}
	return t, nil
}

// Lookup finds a symbol.
func (t *Table) Lookup(name string) (Symbol, bool) {
	s, ok := t.names[name]
	return s, ok
}

// Bias is what was added to the file's addresses when file offset off was mapped
// at address at; ok is false if no segment holds off.
func (t *Table) Bias(off, at uint64) (bias uint64, ok bool) {
	for _, l := range t.loads {
		if start := l.off &^ 4095; off >= start && off < l.off+l.filesz {
			return at - (l.vaddr&^4095 + off - start), true
		}
	}
	return 0, false
}
