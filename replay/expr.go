package replay

import (
	"errors"
	"fmt"
)

// Scope is what names in an expression mean.
type Scope struct {
	Space   *AddressSpace
	Symbols *Symbols
	Vars    map[string]uint64
}

// Eval computes an expression: numbers, variables, symbols and names of mappings
// joined by +, - and *, as data+4*3. Arithmetic wraps as the machine's does. A name may
// have such a sign in it: libc-2.31.so, libstdc++.so.6.
func (c *Scope) Eval(s string) (uint64, error) {
	e := eval{scope: c, text: s, failed: map[int]bool{}}
	return e.sum(len(s))
}

// eval computes one expression.
type eval struct {
	scope  *Scope
	text   string
	failed map[int]bool // sums that end there are none
}

// sum is what the first end bytes are: a term, or a sum and a term behind a sign. The
// last sign that both sides make sense with is the one that is meant.
func (e *eval) sum(end int) (uint64, error) {
	n, err := e.term(e.text[:end])
	if err == nil {
		return n, nil
	}
	for i, last := end-1, true; i > 0; i-- {
		sign := e.text[i]
		if sign != '+' && sign != '-' || e.failed[i] {
			continue
		}
		right, why := e.term(e.text[i+1 : end])
		var left uint64
		if why == nil {
			if left, why = e.sum(i); why != nil {
				e.failed[i] = true
			}
		}
		if why == nil {
			if sign == '-' {
				right = -right
			}
			return left + right, nil
		}
		if last { // what is most likely meant
			err, last = why, false
		}
	}
	return 0, err
}

// term is a name or a number, or several with * between them.
func (e *eval) term(s string) (uint64, error) {
	n, err := e.scope.atom(s)
	if err == nil {
		return n, nil
	}
	for i := len(s) - 1; i > 0; i-- {
		if s[i] != '*' {
			continue
		}
		right, rerr := e.scope.atom(s[i+1:])
		if rerr != nil {
			return 0, rerr
		}
		left, lerr := e.term(s[:i])
		return left * right, lerr
	}
	return 0, err
}

func (c *Scope) atom(s string) (uint64, error) {
	if s == "" {
		return 0, errors.New("an address or a number is missing")
	}
	if n, ok := c.Vars[s]; ok {
		return n, nil
	}
	if n, ok := literal(s); ok {
		return n, nil
	}
	// What could be bare hexadecimal is a name if there is one.
	if symbolic(s) {
		if a, _, ok := c.Symbols.Lookup(s, c.Space); ok {
			return uint64(a), nil
		}
	}
	if a, ok := lookup(s, c.Space); ok {
		return uint64(a), nil
	}
	if n, is, err := c.Space.register(s); is {
		return n, err
	}
	if n, err := ParseNumber(s); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a number, symbol, mapping or register", s)
}
