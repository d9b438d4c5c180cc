// Package code finds the caller of a function that no table tells of by reading its
// instructions: from where it goes on to where it returns, adding up what is put on the
// stack and taken from it. That is a guess: a call on the way may never return.
package code

import "golang.org/x/arch/x86/x86asm"

// Limits of a search.
const (
	maxInstr = 400
	maxHalts = 32
	maxDepth = 1 << 20 // bytes of a frame
)

// Read returns the bytes of code at an address, some 16 or more, fewer at its end.
type Read func(at uint64) []byte

// Frame is where a function has what its caller needs.
type Frame struct {
	// ByFP says that offsets count from the frame pointer, else from the stack pointer.
	ByFP bool
	RA   int64 // offset of the return address
	// Saved are the offsets of registers that the function restores before it returns, by
	// their DWARF numbers; Has says which there are.
	Saved [17]int64
	Has   uint32
	// Ends says that all ways lead to a system call that does not return, as those of the
	// code that makes threads do: nothing called it.
	Ends bool
}

// path is a way through the code.
type path struct {
	pc  uint64
	f   Frame // RA is where the stack pointer is
	sys bool  // the last instruction was a system call
}

// Find reads the code that goes on at pc, for addresses of ptr bytes. ok is false where it does
// not find where the function returns.
func Find(read Read, pc uint64, ptr int) (f Frame, ok bool) {
	seen := map[uint64]bool{}
	todo := []path{{pc: pc}}
	ends, astray := false, false
	for n := 0; len(todo) > 0 && n < maxInstr; n++ {
		p := todo[0]
		todo = todo[1:]
		if seen[p.pc] {
			continue
		}
		seen[p.pc] = true
		i, ok := decode(read(p.pc), ptr)
		if !ok {
			astray = true
			continue
		}
		next := p.pc + uint64(i.Len)
		switch {
		case i.Op == x86asm.RET:
			return p.f, p.f.RA >= 0 && p.f.RA%int64(ptr) == 0
		case i.Op == x86asm.JMP:
			if rel, is := i.Args[0].(x86asm.Rel); is {
				todo = append(todo, path{pc: next + uint64(int64(rel)), f: p.f})
			} else if throughSlot(i.Args[0]) {
				return p.f, p.f.RA >= 0 && p.f.RA%int64(ptr) == 0
			} else {
				astray = true
			}
			continue
		case i.Op == x86asm.HLT && p.sys:
			ends = true
			continue
		case i.Op == x86asm.HLT || i.Op == x86asm.UD2 || i.Op == x86asm.INT && i.Args[0] == x86asm.Imm(3) || i.Op == x86asm.LRET || i.Op == x86asm.IRETQ:
			continue
		}
		if jumps(i.Op) {
			if rel, is := i.Args[0].(x86asm.Rel); is {
				todo = append(todo, path{pc: next + uint64(int64(rel)), f: p.f})
			}
		}
		p.pc, p.sys = next, i.Op == x86asm.SYSCALL || i.Op == x86asm.INT
		if p.f.step(&i, int64(ptr)) {
			todo = append([]path{p}, todo...)
		} else {
			astray = true
		}
	}
	f.Ends = ends && !astray && len(todo) == 0
	return f, false
}

// decode decodes the instruction at the beginning of b. The one that marks where indirect jumps
// may lead to (endbr64, endbr32) is a NOP.
func decode(b []byte, ptr int) (i x86asm.Inst, ok bool) {
	if len(b) >= 4 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e && (b[3] == 0xfa || b[3] == 0xfb) {
		return x86asm.Inst{Op: x86asm.NOP, Len: 4}, true
	}
	i, err := x86asm.Decode(b, 8*ptr)
	return i, err == nil && i.Len > 0 && i.Op != 0
}

// throughSlot reports whether a jump goes where a fixed place in memory says: a stub of a PLT
// does, which is as good as the function that it leads to. The jumps of a switch have an index.
func throughSlot(a x86asm.Arg) bool {
	m, ok := a.(x86asm.Mem)
	return ok && m.Index == 0 && m.Segment == 0 && (m.Base == x86asm.RIP || m.Base == 0)
}

// Halts reports whether all ways through the code at pc lead to a HLT instruction, which no
// program can execute: the code calls something that ends the program or the thread.
func Halts(read Read, pc uint64, ptr int) bool {
	seen := map[uint64]bool{}
	todo := []uint64{pc}
	halts := false
	for n := 0; len(todo) > 0 && n < maxHalts; n++ {
		at := todo[0]
		todo = todo[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		i, ok := decode(read(at), ptr)
		if !ok {
			return false
		}
		rel, direct := i.Args[0].(x86asm.Rel)
		next := at + uint64(i.Len)
		switch {
		case i.Op == x86asm.HLT:
			halts = true
			continue
		case i.Op == x86asm.JMP && direct:
			next += uint64(int64(rel))
		case jumps(i.Op) && direct:
			todo = append(todo, next+uint64(int64(rel)))
		case i.Op == x86asm.RET || i.Op == x86asm.JMP || i.Op == x86asm.LRET || i.Op == x86asm.IRETQ || jumps(i.Op):
			return false
		}
		todo = append(todo, next)
	}
	return halts && len(todo) == 0
}

// Through reports whether code goes on from the beginning of b to its end: there is no return
// in it.
func Through(b []byte, ptr int) bool {
	for len(b) > 0 {
		i, ok := decode(b, ptr)
		if !ok || i.Op == x86asm.RET || i.Op == x86asm.HLT {
			return false
		}
		b = b[i.Len:]
	}
	return true
}

// jumps reports whether an instruction may go on elsewhere.
func jumps(op x86asm.Op) bool {
	switch op {
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JCXZ, x86asm.JE, x86asm.JECXZ, x86asm.JG, x86asm.JGE, x86asm.JL, x86asm.JLE,
		x86asm.JNE, x86asm.JNO, x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JRCXZ, x86asm.JS, x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE:
		return true
	}
	return false
}

func isSP(a x86asm.Arg) bool { return a == x86asm.RSP || a == x86asm.ESP }
func isFP(a x86asm.Arg) bool { return a == x86asm.RBP || a == x86asm.EBP }

// step follows what an instruction does to the stack pointer. It returns false where that is
// not known.
func (f *Frame) step(i *x86asm.Inst, ptr int64) bool {
	switch i.Op {
	case x86asm.PUSH, x86asm.PUSHF, x86asm.PUSHFQ, x86asm.PUSHFD:
		f.RA -= ptr
	case x86asm.POPF, x86asm.POPFQ, x86asm.POPFD:
		f.RA += ptr
	case x86asm.POP:
		if isSP(i.Args[0]) {
			return false
		}
		if n, ok := saved(i.Args[0]); ok {
			f.Saved[n], f.Has = f.RA, f.Has|1<<n
		}
		f.RA += ptr
	case x86asm.LEAVE:
		n, _ := saved(x86asm.RBP)
		if ptr == 4 {
			n, _ = saved(x86asm.EBP)
		}
		*f = Frame{ByFP: true, RA: ptr}
		f.Saved[n], f.Has = 0, 1<<n
	case x86asm.ADD, x86asm.SUB:
		if !isSP(i.Args[0]) {
			return true
		}
		imm, ok := i.Args[1].(x86asm.Imm)
		if !ok {
			return false
		}
		if i.Op == x86asm.SUB {
			imm = -imm
		}
		f.RA += int64(imm)
	case x86asm.LEA:
		if !isSP(i.Args[0]) {
			return true
		}
		m, ok := i.Args[1].(x86asm.Mem)
		switch {
		case !ok || m.Index != 0:
			return false
		case isSP(m.Base):
			f.RA += m.Disp
		case isFP(m.Base) && f.fpWhole(ptr):
			*f = Frame{ByFP: true, RA: m.Disp}
		default:
			return false
		}
	case x86asm.MOV:
		switch {
		case !isSP(i.Args[0]):
		case isFP(i.Args[1]) && f.fpWhole(ptr):
			*f = Frame{ByFP: true}
		default:
			return false
		}
	case x86asm.AND, x86asm.XCHG, x86asm.ENTER, x86asm.OR, x86asm.XOR:
		return !isSP(i.Args[0]) && !isSP(i.Args[1])
	}
	return f.RA > -maxDepth && f.RA < maxDepth
}

// fpWhole reports whether the frame pointer has not been restored yet.
func (f *Frame) fpWhole(ptr int64) bool {
	n, _ := saved(x86asm.RBP)
	if ptr == 4 {
		n, _ = saved(x86asm.EBP)
	}
	return f.Has>>n&1 == 0
}

// saved is the DWARF number of a register that functions leave as it was.
func saved(a x86asm.Arg) (n uint8, ok bool) {
	switch a {
	case x86asm.RBX, x86asm.EBX:
		return 3, true
	case x86asm.RBP:
		return 6, true
	case x86asm.EBP:
		return 5, true
	case x86asm.ESI:
		return 6, true
	case x86asm.EDI:
		return 7, true
	case x86asm.R12:
		return 12, true
	case x86asm.R13:
		return 13, true
	case x86asm.R14:
		return 14, true
	case x86asm.R15:
		return 15, true
	}
	return 0, false
}
