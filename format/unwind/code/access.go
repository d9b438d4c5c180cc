package code

import "golang.org/x/arch/x86/x86asm"

// Access is how an instruction refers to memory through a register.
type Access struct {
	Base   uint64 // what the register holds
	Writes bool
	// From is the address that the register was loaded from, 0 if that was not found. It is
	// right if the code went straight from the load to the instruction.
	From uint64
}

// maxFunction is how many bytes of a function are read.
const maxFunction = 64 << 10

// AccessAt reads the function that begins at start as far as the instruction at pc. reg has the
// value of a general register before that instruction, by its number in instructions (0 is
// RAX, 4 RSP). ok is false if the instruction does not refer to memory through a register.
func AccessAt(read Read, start, pc uint64, ptr int, reg func(n int) (uint64, bool)) (a Access, ok bool) {
	var way []located
	for at := start; at <= pc && at-start < maxFunction; {
		i, err := x86asm.Decode(read(at), 8*ptr)
		if err != nil || i.Len == 0 || i.Op == 0 {
			return a, false
		}
		way = append(way, located{i, at})
		at += uint64(i.Len)
	}
	if len(way) == 0 || way[len(way)-1].at != pc {
		return a, false
	}
	last := way[len(way)-1]
	which := -1
	var base int
	for k, arg := range last.Args {
		if m, is := arg.(x86asm.Mem); is {
			if base, ok = family(m.Base); !ok || which >= 0 { // two: a string instruction
				return a, false
			}
			which = k
		}
	}
	if which < 0 {
		return a, false
	}
	if a.Base, ok = reg(base); !ok {
		return a, false
	}
	a.Writes = which == 0 && writesFirst(last.Op)
	a.From = loaded(way[:len(way)-1], base, reg)
	return a, true
}

// located is an instruction and where it is.
type located struct {
	x86asm.Inst
	at uint64
}

// loaded is where the register that is base after way was loaded from, 0 if that is not known.
func loaded(way []located, base int, reg func(n int) (uint64, bool)) uint64 {
	var changed uint32 // registers that have another value at the end than here
	value := func(r x86asm.Reg, i *located) (uint64, bool) {
		switch r {
		case 0:
			return 0, true
		case x86asm.RIP:
			return i.at + uint64(i.Len), true
		}
		n, ok := family(r)
		if !ok || changed>>n&1 != 0 {
			return 0, false
		}
		return reg(n)
	}
	for k := len(way) - 1; k >= 0; k-- {
		i := &way[k]
		sets := setBy(i)
		changed |= sets
		if sets>>base&1 == 0 {
			continue
		}
		if i.Op != x86asm.MOV {
			return 0
		}
		switch src := i.Args[1].(type) {
		case x86asm.Reg:
			n, ok := family(src)
			if !ok {
				return 0
			}
			base = n
		case x86asm.Mem:
			b, ok := value(src.Base, i)
			x, ok2 := value(src.Index, i)
			if !ok || !ok2 || src.Segment == x86asm.FS || src.Segment == x86asm.GS {
				return 0
			}
			return b + x*uint64(src.Scale) + uint64(src.Disp)
		default:
			return 0
		}
	}
	return 0
}

// setBy are the registers that an instruction may change, a bit each.
func setBy(i *located) (set uint32) {
	const (
		ax, cx, dx, bx, sp, bp, si, di = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
		callee                         = bx | sp | bp | 0xf000 // kept by calls
	)
	switch i.Op {
	case x86asm.CALL, x86asm.SYSCALL, x86asm.INT:
		return 0xffff &^ callee
	case x86asm.PUSH:
		return sp
	case x86asm.POP:
		set = sp
	case x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CDQ, x86asm.CQO, x86asm.CWD, x86asm.IMUL, x86asm.CPUID, x86asm.CMPXCHG:
		set = ax | dx
	case x86asm.LEAVE:
		return sp | bp
	case x86asm.XCHG, x86asm.XADD:
		if n, ok := i.Args[1].(x86asm.Reg); ok {
			if f, ok := family(n); ok {
				set = 1 << f
			}
		}
	}
	if i.Prefix[0] == x86asm.PrefixREP || i.Prefix[0] == x86asm.PrefixREPN {
		set |= cx | si | di
	}
	if r, is := i.Args[0].(x86asm.Reg); is && writesFirst(i.Op) {
		if f, ok := family(r); ok {
			set |= 1 << f
		}
	}
	return set
}

// writesFirst reports whether an instruction writes to its first operand.
func writesFirst(op x86asm.Op) bool {
	switch op {
	case x86asm.CMP, x86asm.TEST, x86asm.PUSH, x86asm.CALL, x86asm.JMP, x86asm.NOP, x86asm.BT, x86asm.UCOMISD, x86asm.UCOMISS, x86asm.COMISD, x86asm.COMISS,
		x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHNTA:
		return false
	}
	return !jumps(op)
}

// family is the number of the general register that r is or is a part of.
func family(r x86asm.Reg) (n int, ok bool) {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, true
	case r >= x86asm.AL && r <= x86asm.BH:
		return int(r-x86asm.AL) & 3, true
	}
	return 0, false
}
