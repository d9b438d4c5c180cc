package format

import (
	"slices"
	"strings"
)

// fields goes over the fields of a record or a change in their order. Its mode
// says what is done with each, so that one list of fields says how a body is
// written, read, copied and described (docs/format.md, compared by a test).
type fields struct {
	mode fieldMode
	b    []byte                      // writing: what was written
	c    cursor                      // reading: what is left
	text []string                    // describing: one element a field
	see  func(name string, b []byte) // describing and visiting, if not nil; b is nil for numbers

	step Step   // reading: of the record of a STATE chunk
	enc  vmaEnc // writing: what the next mapping is told against
	dec  vmaDec // reading: the same
}

type fieldMode uint8

const (
	writing fieldMode = iota
	reading
	owning // what is shared with a buffer is copied
	describing
	visiting // texts and bytes are shown
)

// owned is fields for copying: nothing in it changes, so that one is enough.
var owned = &fields{mode: owning}

func (x *fields) describe(text string) { x.text = append(x.text, text) }

// seen shows a field to those who want to see all.
func (x *fields) seen(name string, b []byte) {
	if x.see != nil {
		x.see(name, b)
	}
}

// more says whether there is another field: those that were added later may be
// missing at the end of a body.
func (x *fields) more() bool { return x.mode != reading || x.c.more() }

func (x *fields) u(name string, p *uint64) {
	switch x.mode {
	case writing:
		x.b = appendU(x.b, *p)
	case reading:
		*p = x.c.u()
	case describing:
		x.describe("`u` " + name)
		x.seen(name, nil)
	}
}

func (x *fields) u32(name string, p *uint32) {
	switch x.mode {
	case writing:
		x.b = appendU(x.b, uint64(*p))
	case reading:
		*p = x.c.u32()
	case describing:
		x.describe("`u` " + name)
		x.seen(name, nil)
	}
}

func (x *fields) u8(name string, p *uint8) {
	switch x.mode {
	case writing:
		x.b = append(x.b, *p)
	case reading:
		*p = x.c.u8()
	case describing:
		x.describe("`u8` " + name)
		x.seen(name, nil)
	}
}

func (x *fields) zz32(name string, p *int32) {
	switch x.mode {
	case writing:
		x.b = appendZZ(x.b, int64(*p))
	case reading:
		*p = int32(x.c.zz())
	case describing:
		x.describe("`zz` " + name)
		x.seen(name, nil)
	}
}

func (x *fields) flag(name string, p *bool) {
	switch x.mode {
	case writing:
		x.b = appendBool(x.b, *p)
	case reading:
		*p = x.c.u8() != 0
	case describing:
		x.describe("`u8` " + name)
		x.seen(name, nil)
	}
}

func (x *fields) str(name string, p *string) {
	switch x.mode {
	case writing:
		x.b = appendStr(x.b, *p)
	case reading:
		*p = x.c.str()
	case visiting:
		x.seen(name, []byte(*p))
	case describing:
		x.describe("`str` " + name)
		x.seen(name, nil)
	}
}

// bytes is str for a byte slice; one that was read points into the body.
func (x *fields) bytes(name string, p *[]byte) {
	switch x.mode {
	case writing:
		x.b = appendStr(x.b, *p)
	case reading:
		*p = x.c.blob()
	case owning:
		*p = slices.Clone(*p)
	case visiting:
		x.seen(name, *p)
	case describing:
		x.describe("`str` " + name)
		x.seen(name, nil)
	}
}

// listOf is a number of values, each of at least so many bytes.
func listOf[T any](x *fields, p *[]T, least int, each func(*T, *fields)) {
	switch x.mode {
	case writing:
		x.b = appendU(x.b, uint64(len(*p)))
		for i := range *p {
			each(&(*p)[i], x)
		}
	case reading:
		for n := x.c.count(least); n > 0 && !x.c.bad; n-- {
			*p = append(*p, *new(T))
			each(&(*p)[len(*p)-1], x)
		}
	case owning:
		*p = slices.Clone(*p)
		for i := range *p {
			each(&(*p)[i], x)
		}
	case visiting:
		for i := range *p {
			each(&(*p)[i], x)
		}
	case describing:
		one := fields{mode: describing, see: x.see}
		each(new(T), &one)
		text := strings.Join(one.text, ", ")
		if len(one.text) > 1 {
			text = "{" + text + "}"
		}
		x.describe("`u` n, n x " + text)
	}
}

func (x *fields) args(p *[]string) {
	listOf(x, p, 1, func(s *string, x *fields) { x.str("argument", s) })
}

// fds are open descriptors, which older logs do not have.
func (x *fields) fds(p *[]FD) {
	if x.mode == describing {
		x.describe("descriptors")
		one := fields{mode: describing, see: x.see}
		new(FD).fields(&one)
	} else if x.more() {
		listOf(x, p, 3, (*FD).fields)
	}
}
