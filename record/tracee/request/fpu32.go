//go:build linux

// This file has the registers of a tracee's floating-point unit as a tracer of i386 sees them.

package request

import (
	"encoding/binary"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Sizes of struct user_fpregs_struct, of x86_64 and of i386. The former is what FXSAVE writes.
const (
	FPRegsSize   = 512
	FPRegs32Size = 108
)

// Where both have their registers. Those of x86_64 take 16 bytes each, those of i386 10.
const (
	fpStack, fpStack32 = 32, 28
	fpWide, fpNarrow   = 16, 10
)

// What the tag word of i386 says of a register.
const (
	tagValid uint32 = iota
	tagZero
	tagSpecial
	tagEmpty
)

// FPRegs32 is struct user_fpregs_struct of i386 out of that of x86_64 (arch/x86/kernel/fpu/regset.c,
// convert_from_fxsr).
func FPRegs32(all *[FPRegsSize]byte, regs *ptrace.Regs) (b [FPRegs32Size]byte) {
	const upper = 0xffff << 16
	le := binary.LittleEndian
	control, status, full := le.Uint16(all[0:]), le.Uint16(all[2:]), all[4]
	top := int(status >> 11 & 7)
	tags := uint32(upper)
	for i := range 8 {
		tag := tagEmpty
		if full>>i&1 != 0 {
			at := fpStack + fpWide*((i-top)&7)
			tag = tagOf(le.Uint64(all[at:]), le.Uint16(all[at+8:]))
		}
		tags |= tag << (2 * i)
	}
	for i, w := range []uint32{
		upper | uint32(control), upper | uint32(status), tags, le.Uint32(all[8:]),
		uint32(regs[ptrace.RegCS]), le.Uint32(all[16:]), upper | uint32(regs[arch.DS]),
	} {
		le.PutUint32(b[4*i:], w)
	}
	for i := range 8 {
		copy(b[fpStack32+fpNarrow*i:][:fpNarrow], all[fpStack+fpWide*i:])
	}
	return b
}

// tagOf is what the tag word says of a number.
func tagOf(significand uint64, exponent uint16) uint32 {
	switch exponent &= 0x7fff; {
	case exponent == 0 && significand == 0:
		return tagZero
	case exponent == 0, exponent == 0x7fff, significand>>63 == 0:
		return tagSpecial
	}
	return tagValid
}

// SetFPRegs32 puts struct user_fpregs_struct of i386 into that of x86_64 (convert_to_fxsr).
func SetFPRegs32(all *[FPRegsSize]byte, b *[FPRegs32Size]byte) {
	le := binary.LittleEndian
	word := func(i int) uint32 { return le.Uint32(b[4*i:]) }
	var full byte
	for i := range 8 {
		if word(2)>>(2*i)&3 != tagEmpty {
			full |= 1 << i
		}
	}
	le.PutUint16(all[0:], uint16(word(0)))
	le.PutUint16(all[2:], uint16(word(1)))
	all[4] = full
	le.PutUint16(all[6:], uint16(word(4)>>16))
	le.PutUint64(all[8:], uint64(word(3)))
	le.PutUint64(all[16:], uint64(word(5)))
	for i := range 8 {
		copy(all[fpStack+fpWide*i:][:fpNarrow], b[fpStack32+fpNarrow*i:])
	}
}
