// Package pcln reads the tables of the Go linker (.gopclntab, Go 1.18 and later) as far
// as it takes to unwind a stack: which function an instruction is in, how many bytes that
// has on the stack there, and what it is called. The bytes are not trusted.
package pcln

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// Limits of what is read.
const (
	MaxFuncs = 4 << 20
	maxSteps = 1 << 16 // pairs of a table of one function
	maxName  = 4096
)

// ErrBad says that bytes are no such tables.
var ErrBad = errors.New("bad Go tables")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Magic begins the tables in memory: of Go 1.18 and 1.19, and of Go 1.20 and later,
// on machines with instructions of any length and 8-byte pointers.
var (
	magic118 = [8]byte{0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8}
	magic120 = [8]byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}
)

// Magic reports whether b begins as tables do.
func Magic(b []byte) bool { return bytes.HasPrefix(b, magic118[:]) || bytes.HasPrefix(b, magic120[:]) }

// Find is where in b tables may begin, from an offset on; -1 is nowhere. They are aligned to
// 8 bytes.
func Find(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		k := bytes.IndexByte(b[i:], 0xff)
		if k < 0 {
			return -1
		}
		if i += k; i > 0 && (i-1)%8 == 0 && Magic(b[i-1:]) {
			return i - 1
		}
	}
	return -1
}

// Header is the beginning of the tables.
type Header struct {
	v120     bool
	nfunc    uint64
	Text     uint64 // address of the first instruction; 0: the table does not say (Go 1.26)
	names    uint64
	pctab    uint64
	functab  uint64
	ReadFrom uint64 // bytes that Size needs
}

// HeaderSize is how many bytes ParseHeader needs.
const HeaderSize = 8 + 8*8

// ParseHeader reads the first HeaderSize bytes of the tables.
func ParseHeader(b []byte) (h Header, err error) {
	if len(b) < HeaderSize || !Magic(b) {
		return h, bad("no header")
	}
	w := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	h = Header{v120: b[0] == magic120[0], nfunc: w(0), Text: w(2), names: w(3), pctab: w(6), functab: w(7)}
	if h.nfunc == 0 || h.nfunc > MaxFuncs || h.functab > 1<<31 || h.names > 1<<31 || h.pctab > 1<<31 {
		return h, bad("%d functions", h.nfunc)
	}
	return h, nil
}

// Source reads the tables: up to len(b) bytes, off bytes from their beginning. It returns
// how many there were.
type Source func(b []byte, off uint64) int

// Table is the tables of a program. Addresses are those of the program's file.
type Table struct {
	h    Header
	src  Source
	tab  []byte // pairs of uint32: entry less Text, place of the function less functab
	text uint64
	buf  [256]byte
}

// Open reads the list of the functions. text is the address of the first instruction.
func Open(h Header, src Source, text uint64) (*Table, error) {
	t := &Table{h: h, src: src, text: text}
	t.tab = make([]byte, h.nfunc*8+4) // the last entry is where the code ends
	if src(t.tab, h.functab) != len(t.tab) {
		return nil, bad("%d functions, but not all can be read", h.nfunc)
	}
	return t, nil
}

// First is the offset of the first function from the beginning of the code.
func First(h Header, src Source) uint64 {
	var b [4]byte
	if src(b[:], h.functab) != 4 {
		return 0
	}
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

// SetSource has the tables read in another way from now on: the same tables in another process.
func (t *Table) SetSource(src Source) { t.src = src }

// Size is how many bytes the table takes in memory.
func (t *Table) Size() int { return len(t.tab) }

// Flags of a function.
const (
	flagTop     = 1 // nothing called it
	flagSPWrite = 2 // it sets the stack pointer in ways that no table tells
)

// Func is what is needed of a function.
type Func struct {
	Entry, End uint64
	Top        bool
	SPWrite    bool
	off        uint64
	name, pcsp uint32
}

func (t *Table) entry(i int) uint64 { return t.text + uint64(binary.LittleEndian.Uint32(t.tab[8*i:])) }

// Covers reports whether pc is in the code that the tables are of.
func (t *Table) Covers(pc uint64) bool {
	return pc >= t.entry(0) && pc < t.entry(int(t.h.nfunc))
}

// Func is the function at pc.
func (t *Table) Func(pc uint64) (f Func, ok bool) {
	if !t.Covers(pc) {
		return f, false
	}
	n := int(t.h.nfunc)
	i := sort.Search(n, func(i int) bool { return t.entry(i) > pc }) - 1
	if i < 0 {
		return f, false
	}
	f.Entry, f.End = t.entry(i), t.entry(i+1)
	f.off = t.h.functab + uint64(binary.LittleEndian.Uint32(t.tab[8*i+4:]))
	b := t.buf[:44]
	clear(b)
	if t.src(b, f.off) < 40 || f.End <= f.Entry {
		return f, false
	}
	f.name, f.pcsp = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[16:])
	flags := b[37]
	if t.h.v120 { // with the line of the function
		flags = b[41]
	}
	f.Top, f.SPWrite = flags&flagTop != 0, flags&flagSPWrite != 0
	return f, true
}

// Name is the name of a function.
func (t *Table) Name(f Func) string {
	var name []byte
	for off := t.h.names + uint64(f.name); len(name) < maxName; {
		n := t.src(t.buf[:64], off)
		if n <= 0 {
			return ""
		}
		if i := bytes.IndexByte(t.buf[:n], 0); i >= 0 {
			return string(append(name, t.buf[:i]...))
		}
		name = append(name, t.buf[:n]...)
		off += uint64(n)
	}
	return ""
}

// Delta is how far below the frame's end the stack pointer is at pc: the return address is
// there.
func (t *Table) Delta(f Func, pc uint64) (delta int64, ok bool) {
	if f.pcsp == 0 {
		return 0, false
	}
	off := t.h.pctab + uint64(f.pcsp)
	value, at := int64(-1), f.Entry
	var have []byte
	// next reads a number.
	next := func() (v uint64, ok bool) {
		if len(have) < binary.MaxVarintLen32 {
			n := t.src(t.buf[:], off)
			if n <= 0 {
				return 0, false
			}
			have = t.buf[:n]
		}
		v, n := binary.Uvarint(have)
		if n <= 0 || n > binary.MaxVarintLen32 {
			return 0, false
		}
		have, off = have[n:], off+uint64(n)
		return v, true
	}
	for i := range maxSteps {
		d, ok := next()
		if !ok || d == 0 && i > 0 {
			return 0, false
		}
		n, ok := next()
		if !ok {
			return 0, false
		}
		value += int64(d>>1) ^ -int64(d&1)
		if at += n; pc < at {
			return value, value >= 0 && value < 1<<31
		}
	}
	return 0, false
}
