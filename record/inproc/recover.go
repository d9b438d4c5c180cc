// This file puts a thread that was stopped in the code back where the program believes it
// to be: before its call, or behind it.

package inproc

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Regs are the registers of a thread as ptrace(2) has them.
type Regs = [27]uint64

// Place is where a thread was found.
type Place uint8

// The places.
const (
	Elsewhere Place = iota // not in the code
	Before                 // the call has not been made: the thread stands at the instruction that makes it
	Behind                 // the call has been made, and its record is whole
	Returned               // the call has been made, and its record is not whole
)

// Flags that the code puts aside: CF, PF, AF, ZF, SF, and OF.
const (
	flagsLow = 0xd5
	flagOF   = 1 << 11
)

// withFlags puts what lahf and seto have found into a flags register.
func withFlags(eflags, ax uint64) uint64 {
	return eflags&^(flagsLow|flagOF) | ax>>8&flagsLow | ax&1*flagOF
}

const low48 = 1<<48 - 1

// Recover changes the registers of a thread that stands in the code to what they are for
// the program: those with which it makes its call at the address that it enters the code
// with, less two, or those that it has when the call is over. A thread elsewhere is left
// alone. s is nil for a thread that does not record: it is in the part that needs no slot.
func (c Code) Recover(s *Slot, r *Regs) Place {
	ip := addr.Addr(r[arch.RIP])
	l := &labels
	if ip < c.Base || ip >= c.at(l.End) {
		return Elsewhere
	}
	switch at := uint16(ip - c.Base); {
	case at < l.Saved:
		return unsaved(r, at)
	case at >= l.Raw && at < l.Park:
		return rawAt(r, at)
	case s == nil:
		return Elsewhere
	case at >= l.Park:
		s.behind(r, s.load(slotResult))
		return Behind
	case at >= l.Trap, at <= l.Call, at >= l.Chunk && at < l.Limit && s.load32(slotBegun) != begunBack:
		s.before(r)
		return Before
	case at >= l.Told && at < l.Chunk:
		s.behind(r, s.load(slotResult))
		return Behind
	default:
		result := s.load(slotResult)
		if at == l.After {
			result = r[arch.RAX]
		}
		if at <= l.Kept {
			s.store(slotR11, r[arch.R11])
		}
		s.behind(r, result)
		return Returned
	}
}

// unsaved is Recover where the slot has nothing yet.
func unsaved(r *Regs, at uint16) Place {
	l := &labels
	rcx, rax := r[arch.RCX], r[arch.RAX]
	if at >= l.E1 {
		r[arch.RAX] = r[arch.R11]
	}
	switch {
	case at >= l.E5:
		r[arch.EFlags] = withFlags(r[arch.EFlags], rcx>>48)
	case at >= l.E4:
		r[arch.EFlags] = withFlags(r[arch.EFlags], rax>>48)
	}
	return callAt(r, rcx&low48-2)
}

// rawAt is Recover in the part that needs no slot.
func rawAt(r *Regs, at uint16) Place {
	l := &labels
	rcx, ax := r[arch.RCX], r[arch.RAX]
	r[arch.RAX] = r[arch.R11]
	switch {
	case at < l.R2:
		r[arch.EFlags] = withFlags(r[arch.EFlags], rcx>>48)
	case at < l.R6: // the addition to al keeps its lowest bit: only of 0 and 1
		if at >= l.R5 {
			ax = ax&^1 | r[arch.EFlags]>>11&1
		}
		r[arch.EFlags] = withFlags(r[arch.EFlags], ax)
	}
	switch {
	case at < l.R3:
		rcx &= low48
	case at == l.R3:
		rcx >>= 16
	case at >= l.R8:
		rcx += 2
	}
	return callAt(r, rcx-2)
}

// Trapped is the call that a thread wants to make which has stopped because the code does not
// make it: its number, its arguments, and where the thread goes on behind it. ok is false
// for a thread that stands elsewhere.
func (c Code) Trapped(s *Slot, ip addr.Addr) (nr uint64, args [6]uint64, ret addr.Addr, ok bool) {
	const call = 5 + 2 // where the thread asks for its pid
	if ip != c.at(labels.Trap)+call {
		return 0, args, 0, false
	}
	for i := range args {
		args[i] = s.load(slotArgs + 8*i)
	}
	return s.load(slotRAX), args, addr.Addr(s.load(slotPacked) & low48), true
}

// before restores the registers with which the call is made.
func (s *Slot) before(r *Regs) {
	s.restore(r)
	r[arch.RAX] = s.load(slotRAX)
	s.Forget()
	callAt(r, s.load(slotPacked)&low48-2)
}

// behind restores the registers that the thread has after the call.
func (s *Slot) behind(r *Regs, result uint64) {
	s.restore(r)
	r[arch.RAX] = result
	ret := s.load(slotPacked) & low48
	r[arch.RIP], r[arch.RCX], r[arch.R11] = ret, ret, s.load(slotR11)
}

// restore restores what both have in common.
func (s *Slot) restore(r *Regs) {
	r[arch.EFlags] = withFlags(r[arch.EFlags], s.load(slotPacked)>>48)
	r[arch.RBX] = s.load(slotRBX)
	for i, reg := range [...]int{arch.RDI, arch.RSI, arch.RDX, arch.R10, arch.R8, arch.R9} {
		r[reg] = s.load(slotArgs + 8*i)
	}
}

// callAt has the call made at an address, if the thread goes on.
func callAt(r *Regs, at uint64) Place {
	r[arch.RIP] = at
	r[arch.OrigRAX] = ^uint64(0)
	return Before
}
