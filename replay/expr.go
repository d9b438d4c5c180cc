package replay

import (
	"fmt"
	"strings"
	"time"

	"memtrace/format/addr"
	"memtrace/replay/symbol"
)

// Symbols finds places by the names that programs and libraries give them. It
// keeps the tables that it has read.
type Symbols struct {
	Start  time.Time // of the recording: files changed since are not trusted
	tables map[fileKey]*symbol.Table
}

// Lookup finds a symbol in the files mapped in a space, the one at the lowest
// addresses first, and where it is there.
func (y *Symbols) Lookup(name string, s *AddressSpace) (a addr.Addr, size uint64, ok bool) {
	if y == nil || s == nil {
		return 0, 0, false
	}
	seen := map[fileKey]bool{}
	for v := range s.Mappings() {
		k := fileKey{v.Name, v.Dev, v.Inode}
		if !v.File() || seen[k] {
			continue
		}
		seen[k] = true
		t := y.table(k)
		if t == nil {
			continue
		}
		sym, found := t.Lookup(name)
		if !found {
			continue
		}
		if bias, ok := t.Bias(v.Offset, uint64(v.Start)); ok {
			return addr.Addr(bias + sym.Value), sym.Size, true
		}
	}
	return 0, 0, false
}

func (y *Symbols) table(k fileKey) *symbol.Table {
	t, known := y.tables[k]
	if known {
		return t
	}
	if f, err := openMapped(k, y.Start); err == nil {
		t, _ = symbol.ReadTable(f) // a file that is no ELF file has no symbols
		_ = f.Close()
	}
	if y.tables == nil {
		y.tables = map[fileKey]*symbol.Table{}
	}
	y.tables[k] = t
	return t
}

// Scope is what names in an expression mean.
type Scope struct {
	Space   *AddressSpace
	Symbols *Symbols
	Vars    map[string]uint64
}

// Eval computes an expression: numbers, variables, symbols and names of mappings
// joined by +, - and *, as data+4*3. Arithmetic wraps as the machine's does.
func (c *Scope) Eval(s string) (uint64, error) {
	if s == "" {
		return 0, fmt.Errorf("an address or a number is missing")
	}
	// What names a mapping does so even if it has a sign in it: libc-2.31.so.
	if n, err := c.atom(s); err == nil {
		return n, nil
	}
	for _, ops := range []string{"+-", "*"} {
		for i := len(s) - 1; i > 0; i-- {
			if !strings.ContainsRune(ops, rune(s[i])) {
				continue
			}
			left, err := c.Eval(s[:i])
			if err != nil {
				return 0, err
			}
			right, err := c.Eval(s[i+1:])
			if err != nil {
				return 0, err
			}
			switch s[i] {
			case '+':
				return left + right, nil
			case '-':
				return left - right, nil
			}
			return left * right, nil
		}
	}
	return c.atom(s)
}

func (c *Scope) atom(s string) (uint64, error) {
	if n, ok := c.Vars[s]; ok {
		return n, nil
	}
	// A name that could be a bare hexadecimal number is a symbol if there is one.
	if a, _, ok := c.Symbols.Lookup(s, c.Space); ok {
		return uint64(a), nil
	}
	if n, err := ParseNumber(s); err == nil {
		return n, nil
	}
	if a, ok := lookup(s, c.Space); ok {
		return uint64(a), nil
	}
	return 0, fmt.Errorf("%q is no number, symbol or mapping", s)
}
