package replay

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format/addr"
)

// ParseNumber reads a number as C writes it, or bare hexadecimal if it has
// letters, with an optional K, M, G or T for powers of 1024 after a decimal.
func ParseNumber(s string) (uint64, error) {
	if n, err := strconv.ParseUint(s, 0, 64); err == nil {
		return n, nil
	}
	if i := len(s) - 1; i > 0 {
		if k := strings.IndexByte("KMGT", s[i]&^0x20); k >= 0 {
			if n, err := strconv.ParseUint(s[:i], 10, 64); err == nil && n < 1<<(60-10*k) {
				return n << (10 * (k + 1)), nil
			}
		}
	}
	if n, err := strconv.ParseUint(s, 16, 64); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no number", s)
}

// ParseAddr reads an address: a number, the name of a mapping as [heap] or
// libc.so.6 (its lowest), or a symbol, with an optional +OFFSET. space may be nil; names are
// not known then.
func ParseAddr(s string, space *AddressSpace) (addr.Addr, error) {
	base, plus, has := strings.Cut(s, "+")
	var off uint64
	if has {
		var err error
		if off, err = ParseNumber(plus); err != nil {
			return 0, err
		}
	}
	n, err := ParseNumber(base)
	if err != nil {
		a, ok := lookup(base, space)
		if !ok && space != nil {
			a, _, ok = (&Symbols{Start: space.view.Start}).Lookup(base, space)
		}
		if !ok {
			return 0, fmt.Errorf("%q is neither an address nor the name of a mapping or symbol", base)
		}
		n = uint64(a)
	}
	a, ok := addr.Addr(n).Add(off)
	if !ok {
		return 0, fmt.Errorf("%q lies beyond the address space", s)
	}
	return a, nil
}

// lookup finds the lowest mapping whose name is, or ends in /, s; heap and
// stack need no brackets.
func lookup(s string, space *AddressSpace) (addr.Addr, bool) {
	if space == nil || s == "" {
		return 0, false
	}
	for v := range space.Mappings() {
		if v.Name == s || v.Name == "["+s+"]" || strings.HasSuffix(v.Name, "/"+s) {
			return v.Start, true
		}
	}
	return 0, false
}

// ParseRange reads ADDR:LEN or START-END.
func ParseRange(s string, space *AddressSpace) (addr.Range, error) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		a, err := ParseAddr(s[:i], space)
		if err != nil {
			return addr.Range{}, err
		}
		n, err := ParseNumber(s[i+1:])
		if err != nil {
			return addr.Range{}, err
		}
		r, ok := addr.Span(a, n)
		if !ok || n == 0 {
			return addr.Range{}, fmt.Errorf("%q: a length of %d bytes is not possible there", s, n)
		}
		return r, nil
	}
	from, to, ok := strings.Cut(s, "-")
	a, err := strconv.ParseUint(strings.TrimPrefix(from, "0x"), 16, 64)
	b, err2 := strconv.ParseUint(strings.TrimPrefix(to, "0x"), 16, 64)
	if !ok || err != nil || err2 != nil || a >= b {
		return addr.Range{}, fmt.Errorf("%q is no range: want ADDR:LEN or START-END", s)
	}
	return addr.Range{Start: addr.Addr(a), End: addr.Addr(b)}, nil
}

// ParseBytes reads "text" with C escapes, 0x and hexadecimal digits, or text as
// it is.
func ParseBytes(s string) ([]byte, error) {
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		b, err := hex.DecodeString(h)
		if err != nil || len(b) == 0 {
			return nil, fmt.Errorf("%q: want an even number of hexadecimal digits", s)
		}
		return b, nil
	}
	if strings.HasPrefix(s, `"`) {
		t, err := strconv.Unquote(s)
		if err != nil || t == "" {
			return nil, fmt.Errorf("%s is no text", s)
		}
		return []byte(t), nil
	}
	return []byte(strings.Trim(s, "'")), nil
}

// ParseHistory reads what History is asked about: ADDR or ADDR:LEN, one byte
// without a length. A name means the first mapping of that name that process
// pid has at its last step.
func (t *Trace) ParseHistory(ctx context.Context, s string, pid uint32) (addr.Range, error) {
	if !strings.Contains(s, ":") {
		s += ":1"
	}
	if r, err := ParseRange(s, nil); err == nil {
		return r, nil
	}
	n, err := t.LastAlive(ctx, pid)
	if err != nil {
		return addr.Range{}, err
	}
	v, err := t.At(n)
	if err != nil {
		return addr.Range{}, err
	}
	p, err := t.Find(ctx, v, pid)
	if err != nil {
		return addr.Range{}, err
	}
	space, err := p.Space()
	if err != nil {
		return addr.Range{}, err
	}
	return ParseRange(s, space)
}
