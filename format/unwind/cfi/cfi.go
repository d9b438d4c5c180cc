// Package cfi reads call frame information: the entries of .eh_frame and .debug_frame,
// which say for each instruction of a program where the caller's registers are (DWARF 5,
// section 6.4; Linux Standard Base, .eh_frame). It reads bytes of memory that it does not
// trust: everything is bounded by the constants below.
package cfi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of what is read.
const (
	MaxEntry     = 64 << 10 // bytes of a CIE or FDE
	MaxSteps     = 1 << 16  // instructions of a CIE or FDE
	MaxStates    = 64       // remembered at a time
	MaxExprSteps = 1000     // operations of an expression
	MaxExprStack = 64       // words on its stack
)

// NumRegs is how many registers are followed: those with DWARF numbers up to 16 of
// x86_64, where 16 is the return address. i386 has 0 to 8.
const NumRegs = 17

// ErrBad says that bytes are no call frame information, or some that no limit allows.
var ErrBad = errors.New("bad call frame information")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Where says what a section is: addresses in it are of 4 or of 8 bytes (Ptr), and it is
// a .debug_frame (Debug) or an .eh_frame. Text and Data are the bases of pointers that
// are relative to the code or to the table.
type Where struct {
	Ptr        int
	Debug      bool
	Text, Data uint64
}

// mask cuts an address to its size.
func (w Where) mask(v uint64) uint64 {
	if w.Ptr == 4 {
		return v & 0xffffffff
	}
	return v
}

// Entry is a CIE or an FDE, not decoded yet.
type Entry struct {
	Size   uint64 // with its length
	CIE    bool
	Parent uint64 // of an FDE: address of its CIE; of a Debug one its offset in the section
	body   []byte // after the CIE pointer
	at     uint64 // address of body
	dw64   bool
}

// Entry reads the entry at the beginning of b, which is at an address. Size is 0 at the
// end of a section. Where b is too short for it, Size says how many bytes are needed, and
// the error is ErrShort.
func (w Where) Entry(b []byte, at uint64) (e Entry, err error) {
	if len(b) < 4 {
		return Entry{Size: 4}, ErrShort
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	head := uint64(4)
	if n == 0xffffffff {
		if len(b) < 12 {
			return Entry{Size: 12}, ErrShort
		}
		n, head, e.dw64 = binary.LittleEndian.Uint64(b[4:]), 12, true
	}
	if n == 0 {
		return e, nil
	}
	if n > MaxEntry {
		return e, bad("entry of %d bytes", n)
	}
	e.Size = head + n
	if uint64(len(b)) < e.Size {
		return e, ErrShort
	}
	c := cursor{b: b[head:e.Size], at: at + head, w: w}
	idAt := c.at
	var id uint64
	if e.dw64 && w.Debug {
		id = c.u64()
	} else {
		id = uint64(c.u32())
	}
	switch {
	case !w.Debug:
		e.CIE = id == 0
		e.Parent = w.mask(idAt - id)
	case e.dw64:
		e.CIE, e.Parent = id == ^uint64(0), id
	default:
		e.CIE, e.Parent = id == 0xffffffff, id
	}
	e.body, e.at = c.b, c.at
	if c.bad {
		return e, bad("entry of %d bytes", n)
	}
	return e, nil
}

// ErrShort says that more bytes are needed.
var ErrShort = errors.New("more bytes are needed")

// CIE is what many FDEs have in common.
type CIE struct {
	w         Where
	codeAlign uint64
	dataAlign int64
	ra        uint64
	fdeEnc    byte
	lsdaEnc   byte
	hasAug    bool // FDEs have augmentation data
	signal    bool
	code      []byte // initial instructions
	codeAt    uint64
}

// ParseCIE decodes a CIE. What it returns has no part in the bytes of e.
func (w Where) ParseCIE(e Entry) (*CIE, error) {
	if !e.CIE {
		return nil, bad("no CIE")
	}
	c := cursor{b: e.body, at: e.at, w: w}
	k := &CIE{w: w}
	version := c.u8()
	aug := c.cstring()
	switch version {
	case 1, 3:
	case 4:
		if p, seg := c.u8(), c.u8(); int(p) != w.Ptr || seg != 0 {
			return nil, bad("CIE for addresses of %d bytes", p)
		}
	default:
		return nil, bad("CIE of version %d", version)
	}
	if aug == "eh" { // of gcc 2
		c.take(uint64(w.Ptr))
		aug = ""
	}
	k.codeAlign, k.dataAlign = c.uleb(), c.sleb()
	if version == 1 {
		k.ra = uint64(c.u8())
	} else {
		k.ra = c.uleb()
	}
	if aug != "" && aug[0] == 'z' {
		k.hasAug = true
		n := c.uleb()
		a := cursor{b: c.take(n), at: c.at - n, w: w}
		for _, x := range []byte(aug[1:]) {
			switch x {
			case 'L':
				k.lsdaEnc = a.u8()
			case 'R':
				k.fdeEnc = a.u8()
			case 'P':
				a.pointer(a.u8(), 0)
			case 'S':
				k.signal = true
			case 'B', 'G':
			default: // the length says where the instructions are
			}
		}
		if a.bad {
			return nil, bad("augmentation of a CIE")
		}
	} else if aug != "" {
		return nil, bad("CIE with the augmentation %q", aug)
	}
	if c.bad || k.ra >= NumRegs {
		return nil, bad("CIE")
	}
	k.code, k.codeAt = append([]byte(nil), c.b...), c.at
	return k, nil
}

// FDE is the information about a stretch of code. Its instructions are part of the bytes
// that it was read from.
type FDE struct {
	Begin, End uint64
	CIE        *CIE
	code       []byte
	codeAt     uint64
}

// ParseFDE decodes an FDE with the CIE at its Parent.
func (k *CIE) ParseFDE(e Entry) (f FDE, err error) {
	if e.CIE {
		return f, bad("no FDE")
	}
	f.CIE = k
	c := cursor{b: e.body, at: e.at, w: k.w}
	if k.w.Debug {
		f.Begin = c.ptr()
		f.End = f.Begin + c.ptr()
	} else {
		f.Begin = c.pointer(k.fdeEnc, 0)
		f.End = f.Begin + c.pointer(k.fdeEnc&0xf, 0)
	}
	f.Begin, f.End = k.w.mask(f.Begin), k.w.mask(f.End)
	if k.hasAug {
		c.take(c.uleb())
	}
	if c.bad || f.End < f.Begin {
		return f, bad("FDE")
	}
	f.code, f.codeAt = c.b, c.at
	return f, nil
}

// cursor reads bytes; the first read beyond the end makes it bad, and all reads give 0
// from then on.
type cursor struct {
	b   []byte
	at  uint64
	w   Where
	bad bool
}

func (c *cursor) fail() { c.b, c.bad = nil, true }

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	v := c.b[:n]
	c.b, c.at = c.b[n:], c.at+n
	return v
}

func (c *cursor) u8() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b, c.at = c.b[1:], c.at+1
	return v
}

func (c *cursor) fixed(n int) (v uint64) {
	b := c.take(uint64(n))
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func (c *cursor) u16() uint16 { return uint16(c.fixed(2)) }
func (c *cursor) u32() uint32 { return uint32(c.fixed(4)) }
func (c *cursor) u64() uint64 { return c.fixed(8) }
func (c *cursor) ptr() uint64 { return c.fixed(c.w.Ptr) }

func (c *cursor) uleb() (v uint64) {
	for shift := 0; ; shift += 7 {
		x := c.u8()
		if shift < 64 {
			v |= uint64(x&0x7f) << shift
		}
		if x < 0x80 {
			return v
		}
		if shift > 140 {
			c.fail()
			return 0
		}
	}
}

func (c *cursor) sleb() (v int64) {
	for shift := 0; ; shift += 7 {
		x := c.u8()
		if shift < 64 {
			v |= int64(x&0x7f) << shift
		}
		if x < 0x80 {
			if x&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
		if shift > 140 {
			c.fail()
			return 0
		}
	}
}

func (c *cursor) cstring() string {
	for i, x := range c.b {
		if x == 0 {
			return string(c.take(uint64(i + 1))[:i])
		}
		if i > 64 {
			break
		}
	}
	c.fail()
	return ""
}

// Encodings of pointers.
const (
	encPtr      = 0x00
	encULEB     = 0x01
	encU2       = 0x02
	encU4       = 0x03
	encU8       = 0x04
	encSLEB     = 0x09
	encS2       = 0x0a
	encS4       = 0x0b
	encS8       = 0x0c
	encPCRel    = 0x10
	encTextRel  = 0x20
	encDataRel  = 0x30
	encFuncRel  = 0x40
	encAligned  = 0x50
	encIndirect = 0x80
	encOmit     = 0xff
)

// pointer reads an encoded pointer. One that is indirect is where the pointer is.
func (c *cursor) pointer(enc byte, fun uint64) (v uint64) {
	if enc == encOmit {
		return 0
	}
	if enc&0x70 == encAligned {
		if r := c.at % uint64(c.w.Ptr); r != 0 {
			c.take(uint64(c.w.Ptr) - r)
		}
		return c.ptr()
	}
	at := c.at
	switch enc & 0xf {
	case encPtr:
		v = c.ptr()
	case encULEB:
		v = c.uleb()
	case encU2:
		v = c.fixed(2)
	case encU4:
		v = c.fixed(4)
	case encU8, encS8:
		v = c.fixed(8)
	case encSLEB:
		v = uint64(c.sleb())
	case encS2:
		v = uint64(int16(c.u16()))
	case encS4:
		v = uint64(int32(c.u32()))
	default:
		c.fail()
	}
	switch enc & 0x70 {
	case 0:
	case encPCRel:
		if v != 0 {
			v += at
		}
	case encTextRel:
		v += c.w.Text
	case encDataRel:
		v += c.w.Data
	case encFuncRel:
		v += fun
	default:
		c.fail()
	}
	return c.w.mask(v)
}

// Header is an .eh_frame_hdr: where the .eh_frame is, and a table to search it by.
type Header struct {
	Frame uint64 // address of .eh_frame
	Count uint64 // of the entries of the table, 0 if there is none that can be searched
	Table uint64 // its address; entries are pairs of int32 less Base
	Base  uint64
}

// ParseHeader reads the .eh_frame_hdr in b, at an address.
func (w Where) ParseHeader(b []byte, at uint64) (h Header, err error) {
	c := cursor{b: b, at: at, w: w}
	c.w.Data = at
	if v := c.u8(); v != 1 {
		return h, bad("table of version %d", v)
	}
	frameEnc, countEnc, tableEnc := c.u8(), c.u8(), c.u8()
	h.Frame = c.pointer(frameEnc, 0)
	h.Count = c.pointer(countEnc, 0)
	h.Table, h.Base = c.at, at
	if c.bad {
		return h, bad("table")
	}
	if tableEnc != encDataRel|encS4 || countEnc == encOmit {
		h.Count = 0
	}
	return h, nil
}
