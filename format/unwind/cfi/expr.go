package cfi

// Env is what an expression may ask for.
type Env interface {
	// Reg is the value of a register, if it is known.
	Reg(n uint64) (uint64, bool)
	// Word reads n bytes (1, 2, 4 or 8) of memory.
	Word(at uint64, n int) (uint64, bool)
}

// The operations of expressions.
const (
	exAddr       = 0x03
	exDeref      = 0x06
	exConst1u    = 0x08
	exConst1s    = 0x09
	exConst2u    = 0x0a
	exConst2s    = 0x0b
	exConst4u    = 0x0c
	exConst4s    = 0x0d
	exConst8u    = 0x0e
	exConst8s    = 0x0f
	exConstu     = 0x10
	exConsts     = 0x11
	exDup        = 0x12
	exDrop       = 0x13
	exOver       = 0x14
	exPick       = 0x15
	exSwap       = 0x16
	exRot        = 0x17
	exAbs        = 0x19
	exAnd        = 0x1a
	exDiv        = 0x1b
	exMinus      = 0x1c
	exMod        = 0x1d
	exMul        = 0x1e
	exNeg        = 0x1f
	exNot        = 0x20
	exOr         = 0x21
	exPlus       = 0x22
	exPlusUconst = 0x23
	exShl        = 0x24
	exShr        = 0x25
	exShra       = 0x26
	exXor        = 0x27
	exBra        = 0x28
	exEq         = 0x29
	exGe         = 0x2a
	exGt         = 0x2b
	exLe         = 0x2c
	exLt         = 0x2d
	exNe         = 0x2e
	exSkip       = 0x2f
	exLit0       = 0x30
	exReg0       = 0x50
	exBreg0      = 0x70
	exBregx      = 0x92
	exDerefSize  = 0x94
	exNop        = 0x96
)

// maxExpr is how long an expression may be.
const maxExpr = 4096

// evaluator is a machine for expressions.
type evaluator struct {
	ptr   int
	env   Env
	stack [MaxExprStack]uint64
	n     int
	fail  bool
}

// Eval computes an expression for addresses of ptr bytes; with push, the stack holds
// first at the beginning. steps is how many operations that took, and ok is false where
// it cannot be computed.
func Eval(code string, ptr int, env Env, first uint64, push bool) (v uint64, steps int, ok bool) {
	e := evaluator{ptr: ptr, env: env}
	if push {
		e.push(first)
	}
	w := Where{Ptr: ptr}
	if len(code) > maxExpr {
		return 0, 0, false
	}
	all := []byte(code)
	pos := 0
	for ; pos < len(all); steps++ {
		if steps >= MaxExprSteps || e.fail {
			return 0, steps, false
		}
		c := cursor{b: all[pos:], w: w}
		jump := e.step(&c)
		if c.bad {
			return 0, steps, false
		}
		pos = len(all) - len(c.b) + jump
		if pos < 0 || pos > len(all) {
			return 0, steps, false
		}
	}
	v = e.pop()
	return w.mask(v), steps, !e.fail
}

func (e *evaluator) push(v uint64) {
	if e.n >= len(e.stack) {
		e.fail = true
		return
	}
	if e.ptr == 4 {
		v &= 0xffffffff
	}
	e.stack[e.n] = v
	e.n++
}

func (e *evaluator) pop() uint64 {
	if e.n == 0 {
		e.fail = true
		return 0
	}
	e.n--
	return e.stack[e.n]
}

// signed is a word as a number with a sign.
func (e *evaluator) signed(v uint64) int64 {
	if e.ptr == 4 {
		return int64(int32(v))
	}
	return int64(v)
}

func (e *evaluator) pick(i uint64) {
	if i >= uint64(e.n) {
		e.fail = true
		return
	}
	e.push(e.stack[e.n-1-int(i)])
}

func (e *evaluator) reg(n uint64, off int64) {
	v, ok := e.env.Reg(n)
	if !ok {
		e.fail = true
	}
	e.push(v + uint64(off))
}

func (e *evaluator) deref(n int) {
	v, ok := e.env.Word(e.pop(), n)
	if !ok {
		e.fail = true
	}
	e.push(v)
}

// step executes an operation. jump is how far to go on from its end.
func (e *evaluator) step(c *cursor) (jump int) {
	op := c.u8()
	switch {
	case op >= exLit0 && op < exReg0:
		e.push(uint64(op - exLit0))
		return 0
	case op >= exReg0 && op < exBreg0:
		e.reg(uint64(op-exReg0), 0)
		return 0
	case op >= exBreg0 && op < exBreg0+32:
		e.reg(uint64(op-exBreg0), c.sleb())
		return 0
	case op >= exConst1u && op <= exConst8s:
		n := 1 << ((op - exConst1u) / 2)
		v := c.fixed(n)
		if op&1 != 0 {
			v = uint64(int64(v<<(64-8*n)) >> (64 - 8*n))
		}
		e.push(v)
		return 0
	}
	switch op {
	case exAddr:
		e.push(c.ptr())
	case exDeref:
		e.deref(e.ptr)
	case exDerefSize:
		switch n := c.u8(); n {
		case 1, 2, 4, 8:
			e.deref(int(n))
		default:
			e.fail = true
		}
	case exConstu:
		e.push(c.uleb())
	case exConsts:
		e.push(uint64(c.sleb()))
	case exDup:
		e.pick(0)
	case exDrop:
		e.pop()
	case exOver:
		e.pick(1)
	case exPick:
		e.pick(uint64(c.u8()))
	case exSwap:
		a, b := e.pop(), e.pop()
		e.push(a)
		e.push(b)
	case exRot:
		x, y, z := e.pop(), e.pop(), e.pop()
		e.push(x)
		e.push(z)
		e.push(y)
	case exAbs:
		v := e.signed(e.pop())
		e.push(uint64(max(v, -v)))
	case exNeg:
		e.push(-e.pop())
	case exNot:
		e.push(^e.pop())
	case exPlusUconst:
		e.push(e.pop() + c.uleb())
	case exBregx:
		n := c.uleb()
		e.reg(n, c.sleb())
	case exBra:
		off := int(int16(c.u16()))
		if e.pop() != 0 {
			return off
		}
	case exSkip:
		return int(int16(c.u16()))
	case exNop:
	default:
		b, a := e.pop(), e.pop()
		e.push(e.binary(op, a, b))
	}
	return 0
}

// binary computes an operation of two words.
func (e *evaluator) binary(op byte, a, b uint64) uint64 {
	sa, sb := e.signed(a), e.signed(b)
	is := func(v bool) uint64 {
		if v {
			return 1
		}
		return 0
	}
	switch op {
	case exAnd:
		return a & b
	case exOr:
		return a | b
	case exXor:
		return a ^ b
	case exPlus:
		return a + b
	case exMinus:
		return a - b
	case exMul:
		return a * b
	case exDiv:
		if b != 0 {
			return uint64(sa / sb)
		}
	case exMod:
		if b != 0 {
			return a % b
		}
	case exShl:
		return a << min(b, 64)
	case exShr:
		return a >> min(b, 64)
	case exShra:
		return uint64(sa >> min(b, 63))
	case exEq:
		return is(sa == sb)
	case exGe:
		return is(sa >= sb)
	case exGt:
		return is(sa > sb)
	case exLe:
		return is(sa <= sb)
	case exLt:
		return is(sa < sb)
	case exNe:
		return is(sa != sb)
	}
	e.fail = true
	return 0
}
