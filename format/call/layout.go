package call

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"memtrace/format/arch"
)

// layout is a struct as a row of layouts.go says.
type layout struct {
	name   string
	names  []string // of all fields, "" for padding
	fields []field
	min    int    // bytes without which it is not shown at all
	abbrev bool   // members are left out
	longer bool   // a longer struct has more
	size   [2]int // of 64 and of 32 bits
}

// field is a member of a layout.
type field struct {
	name   string // "" is padding
	kind   byte   // see parseField
	alt    bool   // shown only if the field before it was not; it lies there too
	hidden bool
	size   int // bytes, of an element; 0 is a long
	n      int // elements of an array, else 0
	tab    *flagNames
	sub    *layout
	off    [2]int
	fixed  int      // not 0: where it lies, and one more
	ref    *refKind // what a pointer points at
	cond   fieldCond
}

// refKind is memory that a field points at.
type refKind struct {
	text  bool // a string that ends at a NUL
	whole bool // and is shown whole
	elem  field
	count int   // the field with the number of elements, -1 for one
	reg   uint8 // the argument with their number, if count is inArg
}

const oneElem, inArg = -1, -2

// fieldCond says when a field is shown: if field&mask is not 0, or is want.
type fieldCond struct {
	on         bool
	not, equal bool
	field      int
	mask, want uint64
}

func bits(id arch.ID) int {
	if id == arch.I386 {
		return 1
	}
	return 0
}

// parseLayouts reads layoutText.
func parseLayouts(text string) map[string]*layout {
	m := make(map[string]*layout, 128)
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		name, least, _ := strings.Cut(f[0], "/")
		l := &layout{name: name}
		l.min, _ = strconv.Atoi(least)
		for _, w := range f[1:] {
			if w == "..." || w == "...?" {
				continue
			}
			member, _, _ := strings.Cut(strings.TrimPrefix(w, "="), ":")
			member, _, _ = strings.Cut(strings.TrimPrefix(member, "."), "@")
			l.names = append(l.names, member)
		}
		for _, w := range f[1:] {
			if w == "..." || w == "...?" {
				l.abbrev, l.longer = w == "...", w == "...?"
				continue
			}
			l.fields = append(l.fields, parseField(m, l, w))
		}
		l.place()
		m[name] = l
	}
	return m
}

// parseField reads NAME:TYPE and what may follow: *N for an array, ?COND. Types:
//
//	d32 u32 x32      a number, signed, unsigned, hex; 8 to 64 bits, l for a long
//	o16              a mode
//	X8               hex with leading zeros
//	p P              a pointer of the program, of 64 bits
//	fd               a descriptor; fd64 of 64 bits
//	uid              a user or group
//	sig              a signal
//	b16              in network order, htons()
//	in4 in6          Internet addresses
//	c16              a string of at most 16 bytes
//	|T/32 ^T/32      flags, a value of the table T; %T/8: decimal where it has no name
//	{L}              another layout
//	-N               N bytes that are not shown
//	P>str P>path     a pointer to a string
//	P>fd#COUNT       to an array of as many elements as that field or argument (@N) says
//
// .NAME is not shown: a condition needs it. =NAME lies where the field before it does and is shown if that is not; NAME@N lies
// at N.
func parseField(m map[string]*layout, l *layout, w string) field {
	fail := func() field { panic("call: field " + strconv.Quote(w) + " of layout " + l.name) }
	if w[0] == '-' {
		n, err := strconv.Atoi(w[1:])
		if err != nil {
			return fail()
		}
		return field{kind: '-', size: 1, n: n}
	}
	w, alt := strings.CutPrefix(w, "=")
	name, typ, ok := strings.Cut(w, ":")
	if !ok {
		return fail()
	}
	name, at, fixed := strings.Cut(name, "@")
	typ, cond, conditional := strings.Cut(typ, "?")
	typ, times, array := strings.Cut(typ, "*")
	f, ok := parseType(m, l, typ)
	if !ok {
		return fail()
	}
	f.name, f.hidden = strings.CutPrefix(name, ".")
	f.alt = alt
	if fixed {
		n, _ := strconv.Atoi(at)
		f.fixed = n + 1
	}
	if array {
		f.n, _ = strconv.Atoi(times)
	}
	if conditional {
		f.cond = parseFieldCond(l, cond)
		if f.cond.field < 0 {
			return fail()
		}
	}
	return f
}

func parseType(m map[string]*layout, l *layout, typ string) (f field, ok bool) {
	typ, to, points := strings.Cut(typ, ">")
	switch {
	case typ[0] == '{':
		f.kind, f.sub = '{', m[strings.Trim(typ, "{}")]
		return f, f.sub != nil
	case typ[0] == '|' || typ[0] == '^' || typ[0] == '%':
		table, size, _ := strings.Cut(typ[1:], "/")
		f.kind, f.tab, f.size = typ[0], flagTable(table), typeSize(size)
		return f, f.tab != nil
	case typ == "fd64":
		f.kind, f.size = 'f', 8
	case typ == "fd":
		f.kind, f.size = 'f', 4
	case typ == "uid":
		f.kind, f.size = 'i', 4
	case typ == "ringfd":
		f.kind, f.size = 'F', 4
	case typ == "sig":
		f.kind, f.size = 's', 8
	case typ == "in4":
		f.kind, f.size = '4', 4
	case typ == "in6":
		f.kind, f.size = '6', 16
	case typ == "mac":
		f.kind, f.size = 'm', 6
	case typ == "kver":
		f.kind, f.size = 'k', 4
	case typ == "ifindex":
		f.kind, f.size = 'n', 4
	case typ == "sockaddr":
		f.kind, f.size = 'a', 16
	case typ == "ioprio":
		f.kind, f.size = 'r', 2
	case typ == "p":
		f.kind = 'p'
	case typ == "P":
		f.kind, f.size = 'p', 8
	case typ[0] == 'c':
		f.kind = 'c'
		f.size, _ = strconv.Atoi(typ[1:])
	default:
		f.kind, f.size = typ[0], typeSize(typ[1:])
		if !strings.Contains("duxoXb", typ[:1]) {
			return f, false
		}
	}
	if !points {
		return f, true
	}
	to, count, counted := strings.Cut(to, "#")
	f.ref = &refKind{count: oneElem, text: to == "str" || to == "path", whole: to == "path"}
	if f.ref.text {
		return f, true
	}
	if arg, isArg := strings.CutPrefix(count, "@"); isArg {
		f.ref.count, f.ref.reg = inArg, arg[0]-'0'
	} else if counted {
		if f.ref.count = l.index(count); f.ref.count < 0 {
			return f, false
		}
	}
	f.ref.elem, ok = parseType(m, l, to)
	return f, ok
}

func typeSize(s string) int {
	n, _ := strconv.Atoi(s)
	return n / 8
}

func (l *layout) index(name string) int { return slices.Index(l.names, name) }

// parseFieldCond reads the condition of the field that comes next: nothing for the
// field itself not to be 0, F for another, F&MASK, F=VALUE, ! before it for the
// opposite.
func parseFieldCond(l *layout, s string) fieldCond {
	c := fieldCond{on: true, field: len(l.fields), mask: ^uint64(0)}
	s, c.not = strings.CutPrefix(s, "!")
	name, mask, masked := strings.Cut(s, "&")
	if masked {
		c.mask, _ = strconv.ParseUint(mask, 0, 64)
	}
	name, want, equal := strings.Cut(name, "=")
	if equal {
		c.equal = true
		c.want, _ = strconv.ParseUint(want, 0, 64)
	}
	if name != "" {
		c.field = l.index(name)
	}
	return c
}

// place says where the fields lie, as the C compiler does.
func (l *layout) place() {
	for b, long := range [...]int{8, 4} {
		off, most := 0, 1
		for i := range l.fields {
			f := &l.fields[i]
			size, align := f.sizes(b, long)
			off = (off + align - 1) &^ (align - 1)
			switch {
			case f.alt:
				f.off[b] = l.fields[i-1].off[b]
				off = max(off, f.off[b]+size*max(f.n, 1))
				continue
			case f.fixed > 0:
				off = f.fixed - 1
			}
			f.off[b] = off
			off += size * max(f.n, 1)
			most = max(most, align)
		}
		l.size[b] = (off + most - 1) &^ (most - 1)
	}
}

// sizes are the size and the alignment of a field.
func (f *field) sizes(b, long int) (size, align int) {
	switch f.kind {
	case '-', 'c', 'm', '6':
		return f.size, 1
	case 'a':
		return f.size, 2
	case '{':
		size = f.sub.size[b]
		for i := range f.sub.fields {
			_, a := f.sub.fields[i].sizes(b, long)
			align = max(align, a)
		}
		return size, align
	}
	size = f.size
	if size == 0 {
		size = long
	}
	return size, min(size, long)
}

// number reads a field's value, signed where its kind is.
func (f *field) number(v view, off int) uint64 {
	size := f.size
	if size == 0 {
		size = v.w
	}
	var n uint64
	switch size {
	case 1:
		n = uint64(v.u16(off) & 0xff)
		if f.kind == 'd' {
			n = uint64(int8(n))
		}
	case 2:
		n = uint64(v.u16(off))
		if f.kind == 'd' {
			n = uint64(int16(n))
		}
	case 4:
		n = uint64(v.u32(off))
		if f.kind == 'd' {
			n = uint64(int32(n))
		}
	default:
		n = v.u64(off)
	}
	return n
}

func (l *layout) value(b int, v view, i int) uint64 {
	f := &l.fields[i]
	if f.n > 0 || f.kind == 'c' {
		end := min(f.off[b]+f.size*max(f.n, 1), len(v.b))
		for _, c := range v.b[min(f.off[b], end):end] {
			if c != 0 {
				return 1
			}
		}
		return 0
	}
	return f.number(v, f.off[b])
}

func (l *layout) shows(b int, v view, c *fieldCond) bool {
	if !c.on {
		return true
	}
	n := l.value(b, v, c.field) & c.mask
	if c.equal {
		return n == c.want&c.mask != c.not
	}
	return n != 0 != c.not
}

// layout writes a struct whose first bytes are d, as far as they reach. Where they
// came from (argument, read or written) tells where its pointers lead.
func (p *printer) layout(l *layout, d []byte, arg uint8, out bool) {
	p.s("{")
	if p.layoutFields(l, d, arg, out, 0) && l.abbrev {
		p.s(", ...")
	}
	p.s("}")
}

// layoutFields writes the fields; n is how many stand before them. It says whether
// it wrote any.
func (p *printer) layoutFields(l *layout, d []byte, arg uint8, out bool, n int) bool {
	b := bits(p.id)
	v := view{d, p.word()}
	shown := false
	for i := range l.fields {
		f := &l.fields[i]
		if f.alt && shown {
			continue
		}
		size, _ := f.sizes(b, p.word())
		if f.off[b]+size*max(f.n, 1) > len(d) && (f.kind != 'c' && f.kind != '{' || f.n > 0) || f.off[b] >= len(d) {
			break
		}
		if shown = f.kind != '-' && !f.hidden && l.shows(b, v, &f.cond); !shown {
			continue
		}
		p.comma(n)
		n++
		if f.kind == '6' {
			p.in6(d[f.off[b]:], f.name)
			continue
		}
		if f.name != "" {
			p.s(f.name)
			p.s("=")
		}
		if f.ref != nil && !out {
			p.pointee(l, f, v, arg)
			continue
		}
		if f.n == 0 {
			p.field1(f, d[f.off[b]:], arg, out)
			continue
		}
		p.s("[")
		for j := range f.n {
			p.comma(j)
			p.field1(f, d[f.off[b]+j*size:], arg, out)
		}
		p.s("]")
	}
	return n > 0
}

// field1 writes one value of a field, which d begins with.
func (p *printer) field1(f *field, d []byte, arg uint8, out bool) {
	v := view{d, p.word()}
	if f.kind == '{' {
		p.layout(f.sub, d[:min(len(d), f.sub.size[bits(p.id)])], arg, out)
		return
	}
	n := f.number(v, 0)
	switch f.kind {
	case 'd':
		p.d(int64(n))
	case 'u':
		p.u(n)
	case 'x':
		p.x(n)
	case 'X':
		p.padHex(n, 2*f.size)
	case 'o':
		p.octal(n)
	case 'p':
		p.ptr(n)
	case 'f':
		p.fd(int32(n))
	case 'F':
		if int32(n) == -2 {
			p.s("IORING_REGISTER_FILES_SKIP")
		} else {
			p.fd(int32(n))
		}
	case 'i':
		p.uid(n)
	case 's':
		p.s(signalName(int32(n)))
	case '|':
		p.b = f.tab.Append(p.b, n)
	case '^':
		p.b = f.tab.AppendValue(p.b, n)
	case '%':
		if name := f.tab.Name(n); name != "" {
			p.s(name)
			break
		}
		p.u(n)
		p.s(" /* ")
		p.s(f.tab.unknown)
		p.s(" */")
	case 'b':
		p.s("htons(")
		p.u(n>>8&0xff | n<<8&0xff00)
		p.s(")")
	case 'c':
		p.fixedString(d[:min(len(d), f.size)], f.size)
	case 'm':
		p.hardware(d[:min(len(d), f.size)])
	case '4':
		p.in4(d)
	case 'a':
		p.sockaddr(d[:min(len(d), f.size)])
	case 'n':
		p.ifindex(uint32(n))
	case 'r':
		p.ioprio(n)
	case 'k':
		p.kernelVersion(n)
	}
}

// pointee writes what a field points at, the address where that was not kept.
func (p *printer) pointee(l *layout, f *field, v view, arg uint8) {
	bi := bits(p.id)
	a := f.number(v, f.off[bi])
	b := p.bufAt(arg, false, a)
	count := uint64(1)
	switch {
	case f.ref.count == inArg:
		count = uint64(uint32(p.args[f.ref.reg]))
	case f.ref.count >= 0:
		count = l.value(bi, v, f.ref.count)
	}
	switch {
	case a == 0 || b == nil && (count > 0 || f.ref.text):
		p.ptr(a)
	case f.ref.whole:
		p.path(b)
	case f.ref.text:
		p.quoted(b.Data, b.More)
	case count == 0:
		p.s("[]")
	default:
		p.elements(&f.ref.elem, b, count, arg, false)
	}
}

// refs are the captures of what the pointers of a struct lead to that lies base bytes
// into what is read for an argument.
func (l *layout) refs(id arch.ID, arg uint8, cond condition, base int) (caps []capture) {
	b := bits(id)
	for i := range l.fields {
		f := &l.fields[i]
		if f.kind == '{' {
			caps = append(caps, f.sub.refs(id, arg, cond, base+f.off[b])...)
		}
		if f.ref == nil {
			continue
		}
		r := structRef{Off: uint16(base + f.off[b]), Wide: f.size == 8, Count: refToOne}
		if !f.ref.text {
			size, _ := f.ref.elem.sizes(b, id.PointerSize())
			r.Elem = uint16(size)
		}
		switch {
		case f.ref.count == inArg:
			r.Count = refCountArg | uint16(f.ref.reg)
		case f.ref.count >= 0:
			r.Count = uint16(base + l.fields[f.ref.count].off[b])
		}
		caps = append(caps, capture{Arg: arg, At: atEnter, What: readPointee, Level: LevelStruct, If: cond, Ref: r})
	}
	return caps
}

// elements writes an array of count elements, of which b has the first.
func (p *printer) elements(f *field, b *Buf, count uint64, arg uint8, out bool) {
	size, _ := f.sizes(bits(p.id), p.word())
	have := uint64(len(b.Data) / size)
	if have == 0 && count > 0 {
		p.ptr(uint64(b.Addr))
		return
	}
	p.s("[")
	for i := range min(have, count) {
		p.comma(int(i))
		if i >= maxListed {
			p.s("...")
			break
		}
		p.field1(f, b.Data[int(i)*size:], arg, out)
	}
	if have < count && have < maxListed {
		p.s(", ... /* ")
		p.x(uint64(b.Addr) + have*uint64(size))
		p.s(" */")
	}
	p.s("]")
}

// padHex writes hex with zeros in front, as C's %#0Nx does.
func (p *printer) padHex(v uint64, width int) {
	digits := strconv.FormatUint(v, 16)
	if v != 0 {
		p.s("0x")
		width -= 2
	}
	for range width - len(digits) {
		p.s("0")
	}
	p.s(digits)
}

// fixedString writes a string in an array of n bytes.
func (p *printer) fixedString(d []byte, n int) {
	for i, c := range d {
		if c == 0 {
			d = d[:i]
			break
		}
	}
	p.s(`"`)
	p.b = appendEscaped(p.b, d[:min(len(d), max(n-1, 0))], '"')
	p.s(`"`)
	if len(d) >= n {
		p.s("...")
	}
}

func (p *printer) hardware(d []byte) {
	const digits = "0123456789abcdef"
	for i, c := range d {
		if i > 0 {
			p.s(":")
		}
		p.b = append(p.b, digits[c>>4], digits[c&0xf])
	}
}

func (p *printer) in4(d []byte) {
	p.s(`inet_addr("`)
	if len(d) >= 4 {
		p.b = netip.AddrFrom4([4]byte(d[:4])).AppendTo(p.b)
	}
	p.s(`")`)
}

func (p *printer) in6(d []byte, name string) {
	p.s(`inet_pton(AF_INET6, "`)
	if len(d) >= 16 {
		p.b = netip.AddrFrom16([16]byte(d[:16])).AppendTo(p.b)
	}
	p.s(`", &`)
	p.s(name)
	p.s(")")
}

// ifindex writes the number of a network interface. Its name is not in the log,
// but for the first, which is always the same.
func (p *printer) ifindex(n uint32) {
	if n == 1 {
		p.s(`if_nametoindex("lo")`)
		return
	}
	p.u(uint64(n))
}

func (p *printer) ioprio(v uint64) {
	p.s("IOPRIO_PRIO_VALUE(")
	p.b = flagTable("ioprioclass").AppendValue(p.b, v>>13)
	p.s(", ")
	p.u(v & 0x1fff)
	p.s(")")
}

func (p *printer) kernelVersion(v uint64) {
	p.s("KERNEL_VERSION(")
	p.u(v >> 16)
	p.s(", ")
	p.u(v >> 8 & 0xff)
	p.s(", ")
	p.u(v & 0xff)
	p.s(")")
}

func be16(d []byte) uint64 { return uint64(binary.BigEndian.Uint16(d)) }
