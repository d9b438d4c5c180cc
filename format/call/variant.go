package call

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"memtrace/format/arch"
)

// variant is a struct whose layout an argument tells.
type variant struct {
	arg   uint8
	sub   int8 // a second argument, -1 for none
	shift uint8
	of    map[uint64]choice
	size  int // of the largest struct
}

// choice is a struct, or an element of an array.
type choice struct {
	key  uint64
	lay  *layout
	elem *field
}

// parseVariants reads variantText.
func parseVariants(text string) map[string]*variant {
	m := make(map[string]*variant)
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		t := &variant{sub: -1, of: make(map[uint64]choice, len(f))}
		arg, shift, _ := strings.Cut(f[1], ">>")
		arg, second, two := strings.Cut(arg, ",")
		t.arg, t.shift = uint8(number(arg)), uint8(number(shift))
		if two {
			t.sub = int8(number(second))
		}
		for _, w := range f[2:] {
			value, name, _ := strings.Cut(w, "=")
			ch := choice{lay: layouts()[name]}
			if of, array := strings.CutPrefix(name, "["); array {
				if elem, ok := parseType(layouts(), nil, of); ok {
					ch.elem = &elem
				}
			}
			if ch.lay == nil && ch.elem == nil {
				panic("call: no layout " + strconv.Quote(name) + " for the variants " + f[0])
			}
			value, second, two := strings.Cut(value, ",")
			key := number(value)
			if two {
				key = key<<32 | number(second)
			}
			ch.key = key
			t.of[key] = ch
			if ch.lay != nil {
				t.size = max(t.size, ch.lay.size[0], ch.lay.size[1])
			}
		}
		m[f[0]] = t
	}
	return m
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 0, 64)
	return n
}

// pick is what the arguments ask for.
func (t *variant) pick(args *[6]uint64) choice {
	key := args[t.arg] & 0xffffffff >> t.shift
	if t.sub >= 0 {
		key = key<<32 | args[t.sub]&0xffffffff
	}
	return t.of[key]
}

// cond holds for calls whose struct has the layout with this key.
func (t *variant) cond(key uint64) condition {
	return condition{Arg: t.arg, Mask: 0xffffffff >> t.shift << t.shift, Is: key << t.shift}
}

// word makes the argument that points at such a struct or array; register N has
// how many bytes the struct has, or elements the array.
func (t *variant) word() *wordDef {
	choices := slices.SortedFunc(maps.Values(t.of), func(a, b choice) int { return cmp.Compare(a.key, b.key) })
	arrays := slices.ContainsFunc(choices, func(c choice) bool { return c.elem != nil })
	return &wordDef{
		print: func(p *printer, w *word) {
			switch c := t.pick(&p.args); {
			case c.lay != nil:
				p.layoutArg(w, c.lay)
			case c.elem != nil:
				p.arrayArg(w, c.elem, p.args[w.n]&0xffffffff)
			default:
				p.ptr(p.args[w.reg])
			}
		},
		caps: func(id arch.ID, w word) (caps []capture) {
			sized := w.n != 0 && !arrays
			if sized {
				caps = append(caps, capture{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelStruct, N: w.n, Len: uint16(t.size)})
			}
			for _, c := range choices {
				cond := t.cond(c.key)
				switch {
				case c.elem != nil:
					cp := c.elem.capture(id, w)
					cp.If = cond
					caps = append(caps, cp)
					continue
				case !sized:
					caps = append(caps, c.lay.capture(id, w, cond))
				}
				if !w.out {
					caps = append(caps, c.lay.refs(id, w.reg, cond, 0)...)
				}
			}
			return caps
		},
	}
}

// capture reads a whole struct.
func (l *layout) capture(id arch.ID, w word, cond condition) capture {
	c := capture{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelStruct, Len: uint16(l.size[bits(id)]), If: cond}
	if w.out {
		c.At, c.Level = atExit, LevelData
	}
	return c
}

// word makes the argument that points at a struct, of as many bytes as a register
// says if it is sized.
func (l *layout) word(sized bool) *wordDef {
	return &wordDef{
		print: func(p *printer, w *word) { p.layoutArg(w, l) },
		caps: func(id arch.ID, w word) []capture {
			c := l.capture(id, w, condition{})
			if sized {
				c.What, c.N = readLenArg, w.n
			}
			if w.out {
				return []capture{c}
			}
			return append([]capture{c}, l.refs(id, w.reg, condition{}, 0)...)
		},
	}
}

// array makes the argument that points at several values; register N has their
// number, or the result if the call writes them.
func (elem field) array() *wordDef {
	return &wordDef{
		print: func(p *printer, w *word) {
			n := p.args[w.n] & 0xffffffff
			if w.out {
				n = p.ret
			}
			p.arrayArg(w, &elem, n)
		},
		caps: func(id arch.ID, w word) []capture { return []capture{elem.capture(id, w)} },
	}
}

// capture reads an array of elements of this kind.
func (f *field) capture(id arch.ID, w word) capture {
	size, _ := f.sizes(bits(id), id.PointerSize())
	c := capture{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelStruct, N: w.n, Unit: uint16(size)}
	if w.out {
		c.At, c.What, c.Level, c.N = atExit, readLenRet, LevelData, 0
	}
	return c
}

// arrayArg shows an array of n elements.
func (p *printer) arrayArg(w *word, f *field, n uint64) {
	v := p.args[w.reg]
	b := p.buf(w.reg, w.out)
	switch {
	case v == 0 || w.out && (p.fail != 0 || !p.done):
		p.ptr(v)
	case n == 0:
		p.s("[]")
	case b == nil:
		p.ptr(v)
	default:
		p.elements(f, b, n, w.reg, w.out)
	}
}

func (p *printer) layoutArg(w *word, l *layout) {
	v := p.args[w.reg]
	b := p.buf(w.reg, w.out)
	least := l.min
	if least == 0 {
		least = l.size[bits(p.id)]
	}
	if v == 0 || b == nil || len(b.Data) < least || w.out && p.fail != 0 {
		p.ptr(v)
		return
	}
	size := l.size[bits(p.id)]
	p.layout(l, b.Data[:min(len(b.Data), size)], w.reg, w.out)
	if l.longer && p.args[w.n] > uint64(size) {
		p.b = append(p.b[:len(p.b)-1], ", ...}"...)
	}
}
