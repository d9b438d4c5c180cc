// This file tells from the bytes of an instruction how it refers to memory.

package refs

import (
	"memtrace/format"
	"memtrace/format/addr"
)

// MaxInstruction is the most bytes that an instruction of x86 has.
const MaxInstruction = 15

// Access is how an instruction refers to memory.
type Access uint8

// The accesses. An instruction may refer to its operand and to the stack.
const (
	Unknown    Access = iota
	Reads             // its operand
	Writes            // its operand, perhaps after it has read it
	Pushes            // it writes to the stack and has no operand in memory
	PushesRead        // the operand is read, the stack written: push and call of memory
	PopsWrite         // the operand is written, the stack read: pop to memory
	Copies            // movs: reads at rsi, writes at rdi
)

// Kind is the kind of a reference to a, with the stack pointer at sp and the destination
// of string instructions at di.
func (x Access) Kind(a, sp, di addr.Addr) format.RefKind {
	const near = 256 // what a push writes is right below
	stack := a < sp && sp-a <= near
	switch x {
	case Reads:
		return format.RefRead
	case Writes, Pushes:
		return format.RefWrite
	case PushesRead:
		if stack {
			return format.RefWrite
		}
		return format.RefRead
	case Copies:
		if a-di < 8 {
			return format.RefWrite
		}
		return format.RefRead
	case PopsWrite:
		if a == sp {
			return format.RefRead
		}
		return format.RefWrite
	}
	return format.RefUnknown
}

// prefixes are what stands before the opcode.
type prefixes struct {
	opsize, rep, repne bool
}

// AccessOf looks at an instruction; wide says that it is 64-bit code. What it does not
// know is Unknown.
func AccessOf(code []byte, wide bool) Access {
	var p prefixes
	for len(code) > 0 {
		switch c := code[0]; {
		case c == 0x66:
			p.opsize = true
		case c == 0xf2:
			p.repne = true
		case c == 0xf3:
			p.rep = true
		case c == 0x2e || c == 0x36 || c == 0x3e || c == 0x26 || c == 0x64 || c == 0x65 || c == 0x67 || c == 0xf0:
		case wide && c&0xf0 == 0x40: // REX
		default:
			return opcode(code, wide, p)
		}
		code = code[1:]
	}
	return Unknown
}

// modrm returns the byte behind the opcode; memory says that it names an operand in
// memory.
func modrm(code []byte) (reg byte, memory, ok bool) {
	if len(code) < 2 {
		return 0, false, false
	}
	return code[1] >> 3 & 7, code[1]>>6 != 3, true
}

func opcode(code []byte, wide bool, p prefixes) Access {
	c := code[0]
	switch c {
	case 0x0f:
		if len(code) < 2 {
			return Unknown
		}
		return twoByte(code[1:], p)
	case 0xc5, 0xc4, 0x62:
		return vector(code, wide)
	}
	reg, memory, ok := modrm(code)
	switch {
	case c >= 0x50 && c <= 0x57, c == 0x68, c == 0x6a, c == 0xe8, c == 0x9c, c == 0xc8, c == 0x60 && !wide, c == 0x06, c == 0x0e, c == 0x16, c == 0x1e:
		return Pushes
	case c >= 0x58 && c <= 0x5f, c == 0xc2, c == 0xc3, c == 0xc9, c == 0x9d, c == 0xcf, c == 0xca, c == 0xcb, c == 0x61, c == 0x07, c == 0x17, c == 0x1f:
		return Reads
	case c == 0xa4 || c == 0xa5:
		return Copies
	case c == 0xaa || c == 0xab || c == 0x6c || c == 0x6d || c == 0xa2 || c == 0xa3: // stos, ins, mov to an absolute address
		return Writes
	case c == 0xa6 || c == 0xa7 || c == 0xac || c == 0xad || c == 0xae || c == 0xaf || c == 0x6e || c == 0x6f || c == 0xa0 || c == 0xa1 || c == 0xd7:
		return Reads
	}
	if !ok || !memory {
		return Unknown
	}
	switch {
	case c < 0x40 && c&7 < 2: // add, or, adc, sbb, and, sub, xor to memory; cmp reads
		if c >= 0x38 {
			return Reads
		}
		return Writes
	case c < 0x40 && c&7 < 4:
		return Reads
	case c == 0x80 || c == 0x81 || c == 0x82 || c == 0x83:
		if reg == 7 { // cmp
			return Reads
		}
		return Writes
	case c == 0x84 || c == 0x85, c == 0x8a || c == 0x8b || c == 0x8e, c == 0x63, c == 0x69 || c == 0x6b, c == 0x62:
		return Reads
	case c == 0x86 || c == 0x87 || c == 0x88 || c == 0x89 || c == 0x8c, c == 0xc6 || c == 0xc7:
		return Writes
	case c == 0x8f:
		return PopsWrite
	case c == 0xc0 || c == 0xc1 || c >= 0xd0 && c <= 0xd3:
		return Writes
	case c >= 0xd8 && c <= 0xdf:
		return float(c, reg)
	case c == 0xf6 || c == 0xf7:
		if reg == 2 || reg == 3 { // not, neg
			return Writes
		}
		return Reads
	case c == 0xfe:
		return Writes
	case c == 0xff:
		switch reg {
		case 0, 1: // inc, dec
			return Writes
		case 2, 3, 6: // call, push
			return PushesRead
		}
		return Reads
	}
	return Unknown
}

// float is an x87 instruction with an operand in memory.
func float(c, reg byte) Access {
	switch c {
	case 0xd8, 0xda, 0xdc, 0xde:
		return Reads
	case 0xd9: // fld, -, fst, fstp, fldenv, fldcw, fnstenv, fnstcw
		if reg == 0 || reg == 4 || reg == 5 {
			return Reads
		}
		return Writes
	case 0xdb: // fild, fisttp, fist, fistp, -, fld, -, fstp
		if reg == 0 || reg == 5 {
			return Reads
		}
		return Writes
	case 0xdd: // fld, fisttp, fst, fstp, frstor, -, fnsave, fnstsw
		if reg == 0 || reg == 4 {
			return Reads
		}
		return Writes
	case 0xdf: // fild, fisttp, fist, fistp, fbld, fild, fbstp, fistp
		if reg == 0 || reg == 4 || reg == 5 {
			return Reads
		}
		return Writes
	}
	return Unknown
}

// twoByte is an instruction behind 0f.
func twoByte(code []byte, p prefixes) Access {
	c := code[0]
	switch {
	case c == 0xa0 || c == 0xa8:
		return Pushes
	case c == 0xa1 || c == 0xa9:
		return Reads
	case c == 0x38 || c == 0x3a:
		if len(code) < 2 {
			return Unknown
		}
		return threeByte(c, code[1:], p)
	}
	reg, memory, ok := modrm(code)
	if !ok || !memory {
		return Unknown
	}
	if stores(c, p) {
		return Writes
	}
	switch {
	case c == 0x00: // sldt, str, lldt, ltr, verr, verw
		if reg < 2 {
			return Writes
		}
		return Reads
	case c == 0x01: // sgdt, sidt, lgdt, lidt, smsw, -, lmsw, invlpg
		if reg < 2 || reg == 4 {
			return Writes
		}
		return Reads
	case c == 0x0d || c == 0x18 || c == 0x1f: // prefetches and nops: no access
		return Unknown
	case c >= 0x90 && c <= 0x9f, c == 0xc3, c == 0xb0 || c == 0xb1, c == 0xc0 || c == 0xc1, c == 0xa4 || c == 0xa5 || c == 0xac || c == 0xad, c == 0xab || c == 0xb3 || c == 0xbb:
		return Writes // setcc, movnti, cmpxchg, xadd, shld, shrd, bts, btr, btc
	case c == 0xba: // bt, bts, btr, btc by number
		if reg == 4 {
			return Reads
		}
		return Writes
	case c == 0xae: // fxsave, fxrstor, ldmxcsr, stmxcsr, xsave, xrstor, xsaveopt, clflush
		switch reg {
		case 0, 3, 4, 6:
			return Writes
		}
		return Reads
	case c == 0xc7: // -, cmpxchg8b, -, xrstors, xsavec, xsaves
		if reg == 3 {
			return Reads
		}
		return Writes
	}
	return Reads
}

// stores reports whether an instruction of SSE or MMX stores to memory.
func stores(c byte, p prefixes) bool {
	switch c {
	case 0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xe7, 0xd6:
		return true
	case 0x7e: // movd, movq to memory; f3: movq from memory
		return !p.rep
	}
	return false
}

func threeByte(table byte, code []byte, p prefixes) Access {
	_, memory, ok := modrm(code)
	if !ok || !memory {
		return Unknown
	}
	switch c := code[0]; {
	case table == 0x3a && c >= 0x14 && c <= 0x17: // pextr, extractps
		return Writes
	case table == 0x38 && c == 0xf1: // movbe; with f2 crc32
		if p.repne {
			return Reads
		}
		return Writes
	case table == 0x38 && c == 0xf9: // movdiri
		return Writes
	case table == 0x38 && (c == 0xf5 || c == 0xf6 || c == 0xf8): // shadow stacks, movdir64b
		return Unknown
	}
	return Reads
}

// vector is an instruction with a VEX or EVEX prefix: its opcode is that of twoByte or
// threeByte.
func vector(code []byte, wide bool) Access {
	var table byte
	var p prefixes
	n := 0
	switch code[0] {
	case 0xc5:
		if len(code) < 4 || !wide && code[1]>>6 != 3 {
			return Unknown
		}
		table, p.rep, n = 1, code[1]&3 == 2, 2
	case 0xc4:
		if len(code) < 5 || !wide && code[1]>>6 != 3 {
			return Unknown
		}
		table, p.rep, n = code[1]&0x1f, code[2]&3 == 2, 3
	default:
		if len(code) < 6 || !wide && code[1]>>6 != 3 {
			return Unknown
		}
		table, p.rep, n = code[1]&7, code[2]&3 == 2, 4
	}
	code = code[n:]
	_, memory, ok := modrm(code)
	if !ok || !memory {
		return Unknown
	}
	switch c := code[0]; table {
	case 1:
		if c == 0xae || c == 0x90 || c == 0x91 || c == 0x92 {
			if c == 0x91 || c == 0xae && code[1]>>3&7 == 3 {
				return Writes
			}
			return Reads
		}
		if stores(c, p) {
			return Writes
		}
		return Reads
	case 2:
		switch {
		case c == 0x2e || c == 0x2f || c == 0x8e || c == 0x8a || c == 0x8b || c == 0x63: // vmaskmov, vpmaskmov, vpcompress
			return Writes
		case c >= 0xa0 && c <= 0xa3: // vscatter
			return Writes
		case p.rep && (c&0xf0 == 0x10 || c&0xf0 == 0x20 || c&0xf0 == 0x30) && c&0xf < 6: // vpmov down
			return Writes
		}
		return Reads
	case 3:
		switch {
		case c >= 0x14 && c <= 0x17, c == 0x19, c == 0x1b, c == 0x39, c == 0x3b, c == 0x1d:
			return Writes
		}
		return Reads
	}
	return Unknown
}
