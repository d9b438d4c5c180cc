package replay

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"memtrace/format/addr"
)

// ParseNumber reads a number as C writes it, or bare hexadecimal if it has
// letters, with an optional K, M, G or T for powers of 1024 after a decimal.
func ParseNumber(s string) (uint64, error) {
	if n, ok := literal(s); ok {
		return n, nil
	}
	if n, err := strconv.ParseUint(s, 16, 64); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a number", s)
}

// literal reads what is a number and can be nothing else. Bare hexadecimal may be a
// name, as face is.
func literal(s string) (uint64, bool) {
	if n, err := strconv.ParseUint(s, 0, 64); err == nil {
		return n, true
	}
	if i := len(s) - 1; i > 0 {
		if k := strings.IndexByte("KMGT", s[i]&^0x20); k >= 0 {
			if n, err := strconv.ParseUint(s[:i], 10, 64); err == nil && n < 1<<(60-10*k) {
				return n << (10 * (k + 1)), true
			}
		}
	}
	return 0, false
}

// ParseAddr reads an address: a number, the name of a mapping as [heap] or
// libc.so.6 (its lowest), a symbol, or a register if space has those, with an optional +OFFSET. What could be a name
// or a bare hexadecimal number is a name if there is one; a name may have a + in it,
// as libstdc++.so.6. space may be nil; names are not known then.
func ParseAddr(s string, space *AddressSpace) (addr.Addr, error) {
	a, err := parseBase(s, space)
	for i := len(s) - 1; i >= 0 && err != nil; i-- {
		if s[i] != '+' {
			continue
		}
		off, oerr := ParseNumber(s[i+1:])
		base, berr := parseBase(s[:i], space)
		if errors.Is(berr, ErrUnknown) {
			err = berr // a register: nothing else can be meant
		}
		if oerr != nil || berr != nil {
			continue
		}
		var ok bool
		if a, ok = base.Add(off); !ok {
			return 0, fmt.Errorf("%q lies beyond the address space", s)
		}
		err = nil
	}
	return a, err
}

// parseBase reads an address without an offset.
func parseBase(s string, space *AddressSpace) (addr.Addr, error) {
	if n, ok := literal(s); ok {
		return addr.Addr(n), nil
	}
	if a, ok := lookup(s, space); ok {
		return a, nil
	}
	if space != nil && symbolic(s) {
		if a, _, ok := space.view.Symbols.Lookup(s, space); ok {
			return a, nil
		}
	}
	if n, is, err := space.register(s); is {
		return addr.Addr(n), err
	}
	if n, err := ParseNumber(s); err == nil {
		return addr.Addr(n), nil
	}
	return 0, fmt.Errorf("%q is neither an address nor the name of a mapping, symbol or register", s)
}

// symbolic says whether s can be the name of a symbol: those of no language begin with
// a digit.
func symbolic(s string) bool { return s != "" && (s[0] < '0' || s[0] > '9') }

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
		return addr.Range{}, fmt.Errorf("%q is not a range: want ADDR:LEN or START-END", s)
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
		if len(s) < 3 || !strings.HasSuffix(s, `"`) {
			return nil, fmt.Errorf("%s: want text between two quotes", s)
		}
		return unescape(s[1 : len(s)-1])
	}
	return []byte(strings.Trim(s, "'")), nil
}

// cEscapes are the escapes of C that stand for one byte each, and what for.
const cEscapes, cMeanings = `abefnrtv\'"?`, "\a\b\x1b\f\n\r\t\v\\'\"?"

// unescape reads what stands between the quotes of a C string. \x takes two digits at
// most, so that what follows need not be thought of.
func unescape(s string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			if s[i] == '"' {
				return nil, fmt.Errorf("\"%s\": a quote within the text is written as \\\"", s)
			}
			out = append(out, s[i])
			i++
			continue
		}
		rest := s[i+1:]
		digits := func(set string, most int) int {
			n := 0
			for n < most && n < len(rest) && strings.IndexByte(set, rest[n]) >= 0 {
				n++
			}
			return n
		}
		const octal, hexadecimal = "01234567", "0123456789abcdefABCDEF"
		if n := digits(octal, 3); n > 0 {
			v, err := strconv.ParseUint(rest[:n], 8, 8)
			if err != nil {
				return nil, fmt.Errorf("\\%s is more than a byte", rest[:n])
			}
			out = append(out, byte(v))
			i += 1 + n
			continue
		}
		if rest == "" {
			return nil, errors.New(`a \ at the end stands for nothing`)
		}
		if k := strings.IndexByte(cEscapes, rest[0]); k >= 0 {
			out = append(out, cMeanings[k])
			i += 2
			continue
		}
		most := map[byte]int{'x': 2, 'u': 4, 'U': 8}[rest[0]]
		rest = rest[1:]
		n := digits(hexadecimal, most)
		v, err := strconv.ParseUint(rest[:n], 16, 32)
		if err != nil || most > 2 && n != most {
			return nil, fmt.Errorf("%s: no such escape in C", s[i:min(len(s), i+2)])
		}
		if most == 2 {
			out = append(out, byte(v))
		} else {
			out = utf8.AppendRune(out, rune(v))
		}
		i += 2 + n
	}
	return out, nil
}

// ParseHistory reads what History is asked about: ADDR or ADDR:LEN, one byte
// without a length. A name means the first mapping of that name that process
// pid has at its last step.
func (t *Trace) ParseHistory(ctx context.Context, s string, pid uint32) (addr.Range, error) {
	if !strings.Contains(s, ":") {
		s += ":1"
	}
	r, nerr := ParseRange(s, nil)
	base, _, _ := strings.Cut(s[:max(0, strings.LastIndexByte(s, ':'))], "+")
	if _, ok := literal(base); ok && nerr == nil {
		return r, nil
	}
	space, err := t.lastSpace(ctx, pid)
	switch {
	case err == nil:
		return ParseRange(s, space)
	case nerr == nil: // no names are known
		return r, nil
	}
	return addr.Range{}, err
}

// lastSpace is the last address space of process pid.
func (t *Trace) lastSpace(ctx context.Context, pid uint32) (*AddressSpace, error) {
	n, err := t.LastAlive(ctx, pid)
	if err != nil {
		return nil, err
	}
	v, err := t.At(n)
	if err != nil {
		return nil, err
	}
	p, err := t.Find(ctx, v, pid)
	if err != nil {
		return nil, err
	}
	return p.Space()
}
