package symbol

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// lineTable answers from DWARF which line of the source an address is of, and which
// functions were inlined there. It reads a compilation unit when an address of it is asked
// for, and keeps the units that it has read, up to a limit.
type lineTable struct {
	data   *dwarf.Data
	spans  []span2           // of all units, by address
	units  map[int]*unitCode // by number
	heads  []*dwarf.Entry    // of the units
	kept   int               // bytes of units, about
	names  map[dwarf.Offset]string
	failed map[int]bool
}

// span2 is a range of addresses of a unit.
type span2 struct {
	lo, hi uint64
	unit   int
}

// Limits of what a file may make a reader keep: a list of ranges can be shared by any
// number of functions.
const (
	maxUnits   = 1 << 20
	maxSpans   = 4 << 20 // of a file, and of a unit
	maxRows    = 4 << 20 // of a unit
	maxKept    = 96 << 20
	maxNesting = 256
	maxOrigins = 16
)

var errTooMuch = errors.New("more debug information than is read")

// unitCode is what the code of a unit comes from.
type unitCode struct {
	funcs  []funcCode
	spans  []span2 // of funcs, by address
	rows   []row   // by address
	files  []string
	nbytes int
}

// funcCode is a function, and what is inlined into it, the outer before the inner.
type funcCode struct {
	origin  dwarf.Offset
	inlined []inlined
}

// inlined is a range of a function that comes from another.
type inlined struct {
	lo, hi uint64
	origin dwarf.Offset
	file   int // of the call
	line   int
}

// row says that the code from addr on, up to the next row, is of a line.
type row struct {
	addr uint64
	file int32 // of unitCode.files; <0: the code ends here
	line int32
}

var debugSections = []string{
	".debug_abbrev", ".debug_info", ".debug_line", ".debug_str", ".debug_ranges",
	".debug_addr", ".debug_line_str", ".debug_str_offsets", ".debug_rnglists",
}

// readLines reads the debug sections of o and lists its units; nil if it has none.
func (o *object) readLines() (t *lineTable, err error) {
	defer guard(&err)
	sec := map[string][]byte{}
	total := uint64(0)
	for _, name := range debugSections {
		s := o.elf.Section(name)
		if s == nil {
			s = o.elf.Section(".z" + name[1:])
		}
		if s == nil || s.Type == elf.SHT_NOBITS {
			continue
		}
		if total += s.Size; total > maxDebug || total < s.Size {
			return nil, fmt.Errorf("%w: above %d bytes", errTooMuch, uint64(maxDebug))
		}
		b, err := o.data(s)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", name, err)
		}
		if strings.HasPrefix(s.Name, ".z") {
			return nil, fmt.Errorf("section %s: compressed in a way of old", s.Name)
		}
		sec[name] = b
	}
	if len(sec[".debug_info"]) == 0 {
		return nil, nil
	}
	d, err := dwarf.New(sec[".debug_abbrev"], nil, nil, sec[".debug_info"], sec[".debug_line"], nil, sec[".debug_ranges"], sec[".debug_str"])
	if err != nil {
		return nil, err
	}
	for _, name := range debugSections[5:] {
		if b := sec[name]; b != nil {
			if err := d.AddSection(name, b); err != nil {
				return nil, err
			}
		}
	}
	t = &lineTable{data: d, units: map[int]*unitCode{}, names: map[dwarf.Offset]string{}, failed: map[int]bool{}}
	return t, t.list(sec[".debug_info"], o)
}

// list finds the units of .debug_info and the addresses that each has code at.
func (t *lineTable) list(info []byte, o *object) error {
	order := o.elf.ByteOrder
	r := t.data.Reader()
	for at := uint64(0); at+12 <= uint64(len(info)) && len(t.heads) < maxUnits; {
		die, next, ok := unitHeader(info, at, order)
		if !ok {
			return fmt.Errorf("malformed unit at %#x of the debug information", at)
		}
		at = next
		if die == 0 {
			continue // types
		}
		r.Seek(dwarf.Offset(die))
		e, err := r.Next()
		if err != nil || e == nil || e.Tag != dwarf.TagCompileUnit && e.Tag != dwarf.TagSkeletonUnit {
			continue
		}
		ranges, err := t.data.Ranges(e)
		if err != nil {
			continue
		}
		for _, x := range ranges {
			// What the linker has thrown away begins at 0, or where no code is.
			if x[0] >= x[1] || o.section(x[0]) == nil {
				continue
			}
			if len(t.spans) == maxSpans {
				return errTooMuch
			}
			t.spans = append(t.spans, span2{x[0], x[1], len(t.heads)})
		}
		t.heads = append(t.heads, e)
	}
	sortSpans(t.spans)
	return nil
}

// unitHeader is where the first entry of the unit at at lies (0: it has no code) and
// where the next unit begins.
func unitHeader(info []byte, at uint64, order binary.ByteOrder) (die, next uint64, ok bool) {
	n := uint64(order.Uint32(info[at:]))
	head, wide := uint64(4), uint64(4)
	if n == 0xffffffff {
		n, head, wide = order.Uint64(info[at+4:]), 12, 8
	}
	if n > uint64(len(info))-at-head || n < 7 {
		return 0, 0, false
	}
	next = at + head + n
	version := order.Uint16(info[at+head:])
	switch {
	case version >= 2 && version <= 4:
		die = at + head + 2 + wide + 1
	case version == 5:
		switch kind := info[at+head+2]; kind {
		case 1, 3: // compile, partial
			die = at + head + 2 + 2 + wide
		case 4, 5: // skeleton, split
			die = at + head + 2 + 2 + wide + 8
		}
	}
	if die >= next {
		return 0, 0, false
	}
	return die, next, true
}

func sortSpans(s []span2) {
	slices.SortStableFunc(s, func(a, b span2) int { return cmp.Or(compare(a.lo, b.lo), compare(b.hi, a.hi)) })
}

// within is the last of the spans that begin before a, if it holds a; spans that hold
// others are looked for a little further back.
func within(s []span2, a uint64) (int, bool) {
	i, _ := slices.BinarySearchFunc(s, a, func(x span2, a uint64) int {
		if x.lo <= a {
			return -1
		}
		return 1
	})
	for k := i - 1; k >= 0 && k >= i-lookBack; k-- {
		if a < s[k].hi {
			return s[k].unit, true
		}
	}
	return 0, false
}

// unit reads the unit that holds an address.
func (t *lineTable) unit(a uint64) (u *unitCode, err error) {
	no, ok := within(t.spans, a)
	if !ok || t.failed[no] {
		return nil, nil
	}
	if u := t.units[no]; u != nil {
		return u, nil
	}
	defer func() {
		if err != nil {
			t.failed[no] = true
		}
	}()
	defer guard(&err)
	u = &unitCode{}
	if err := t.readRows(u, t.heads[no]); err != nil {
		return nil, err
	}
	if err := t.readFuncs(u, t.heads[no]); err != nil {
		return nil, err
	}
	u.nbytes = 4096 + 16*len(u.rows) + 24*len(u.spans)
	for i := range u.funcs {
		u.nbytes += 40 + 40*len(u.funcs[i].inlined)
	}
	if t.kept += u.nbytes; t.kept > maxKept {
		clear(t.units)
		t.kept = u.nbytes
	}
	t.units[no] = u
	return u, nil
}

// readRows reads the line numbers of a unit.
func (t *lineTable) readRows(u *unitCode, head *dwarf.Entry) error {
	lr, err := t.data.LineReader(head)
	if err != nil || lr == nil {
		return err
	}
	index := map[*dwarf.LineFile]int32{}
	fileNo := func(f *dwarf.LineFile) int32 {
		no, ok := index[f]
		if !ok {
			no = int32(len(u.files))
			name := ""
			if f != nil {
				name = f.Name
			}
			u.files, index[f] = append(u.files, name), no
		}
		return no
	}
	// The files come first, as the table has them: calls of inlined functions name
	// theirs by number.
	for _, f := range lr.Files() {
		name := ""
		if f != nil {
			name = f.Name
			index[f] = int32(len(u.files))
		}
		u.files = append(u.files, name)
	}
	type sequence struct{ from, to int }
	var seqs []sequence
	begin := 0
	var e dwarf.LineEntry
	for {
		if err := lr.Next(&e); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return err
		}
		if len(u.rows) == maxRows {
			return errTooMuch
		}
		x := row{e.Address, fileNo(e.File), int32(min(e.Line, 1<<31-1))}
		if e.EndSequence {
			x.file = -1
		}
		u.rows = append(u.rows, x)
		if e.EndSequence {
			// Code that the linker has thrown away begins at 0.
			if u.rows[begin].addr == 0 {
				u.rows = u.rows[:begin]
			} else {
				seqs = append(seqs, sequence{begin, len(u.rows)})
			}
			begin = len(u.rows)
		}
	}
	u.rows = u.rows[:begin]
	inOrder := slices.IsSortedFunc(seqs, func(a, b sequence) int { return compare(u.rows[a.from].addr, u.rows[b.from].addr) })
	if !inOrder {
		slices.SortStableFunc(seqs, func(a, b sequence) int { return compare(u.rows[a.from].addr, u.rows[b.from].addr) })
		rows := make([]row, 0, len(u.rows))
		for _, s := range seqs {
			rows = append(rows, u.rows[s.from:s.to]...)
		}
		u.rows = rows
	}
	if !slices.IsSortedFunc(u.rows, func(a, b row) int { return compare(a.addr, b.addr) }) {
		slices.SortStableFunc(u.rows, func(a, b row) int { return compare(a.addr, b.addr) })
	}
	return nil
}

// readFuncs reads the functions of a unit and what is inlined into them.
func (t *lineTable) readFuncs(u *unitCode, head *dwarf.Entry) error {
	r := t.data.Reader()
	r.Seek(head.Offset)
	if _, err := r.Next(); err != nil || !head.Children {
		return err
	}
	// in is the function that the entries of each depth are in, -1 none.
	in := []int{-1}
	spans := 0
	for len(in) > 0 {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil {
			return nil
		}
		if e.Tag == 0 {
			in = in[:len(in)-1]
			continue
		}
		fn := in[len(in)-1]
		switch e.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine:
			ranges, err := t.data.Ranges(e)
			if err != nil {
				ranges = nil
			}
			if spans += len(ranges); spans > maxSpans {
				return errTooMuch
			}
			if e.Tag == dwarf.TagSubprogram {
				fn = -1
				if len(ranges) > 0 {
					fn = len(u.funcs)
					u.funcs = append(u.funcs, funcCode{origin: e.Offset})
					for _, x := range ranges {
						u.spans = append(u.spans, span2{x[0], x[1], fn})
					}
				}
			} else if fn >= 0 {
				origin, _ := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
				file, _ := e.Val(dwarf.AttrCallFile).(int64)
				line, _ := e.Val(dwarf.AttrCallLine).(int64)
				for _, x := range ranges {
					u.funcs[fn].inlined = append(u.funcs[fn].inlined, inlined{x[0], x[1], origin, int(file), int(line)})
				}
			}
		}
		if e.Children {
			if len(in) == maxNesting {
				r.SkipChildren()
				continue
			}
			in = append(in, fn)
		}
	}
	sortSpans(u.spans)
	return nil
}

// find is the places in the source that the code at a comes from, the innermost first:
// every one but the last is of a function that was inlined. Names are as the linker has
// them; the last has none where the symbol table is to be asked.
func (t *lineTable) find(a uint64) ([]Place, error) {
	u, err := t.unit(a)
	if err != nil || u == nil {
		return nil, err
	}
	here := Place{}
	i, _ := slices.BinarySearchFunc(u.rows, a, func(x row, a uint64) int {
		if x.addr <= a {
			return -1
		}
		return 1
	})
	if i > 0 && u.rows[i-1].file >= 0 {
		x := u.rows[i-1]
		here.File, here.Line = u.files[x.file], int(x.line)
	}
	no, ok := within(u.spans, a)
	if !ok {
		if here.File == "" {
			return nil, nil
		}
		return []Place{here}, nil
	}
	f := &u.funcs[no]
	here.Function = t.name(f.origin)
	places := []Place{here}
	for _, x := range f.inlined {
		if a < x.lo || a >= x.hi {
			continue
		}
		// What was thought to be the innermost calls this one.
		inner := &places[len(places)-1]
		file, line := inner.File, inner.Line
		inner.File, inner.Line = "", x.line
		if x.file >= 0 && x.file < len(u.files) {
			inner.File = u.files[x.file]
		}
		places = append(places, Place{Function: t.name(x.origin), File: file, Line: line, Inlined: true})
	}
	slices.Reverse(places)
	return places, nil
}

// name is the name that the linker knows a function by, else the one in the source.
func (t *lineTable) name(off dwarf.Offset) string {
	if off == 0 {
		return ""
	}
	if s, ok := t.names[off]; ok {
		return s
	}
	plain, linker := "", ""
	r := t.data.Reader()
	for at, n := off, 0; n < maxOrigins && linker == ""; n++ {
		r.Seek(at)
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		if s, ok := e.Val(dwarf.AttrLinkageName).(string); ok {
			linker = s
		} else if s, ok := e.Val(dwarf.Attr(0x2007)).(string); ok { // DW_AT_MIPS_linkage_name, before DWARF 4
			linker = s
		}
		if s, ok := e.Val(dwarf.AttrName).(string); ok && plain == "" {
			plain = s
		}
		next, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if next, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				break
			}
		}
		at = next
	}
	s := cmp.Or(linker, plain)
	if len(t.names) > 1<<20 {
		clear(t.names)
	}
	t.names[off] = s
	return s
}
