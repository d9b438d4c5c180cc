package cfi

// Kind is how the value of a register in the caller is found.
type Kind uint8

// The kinds of rules.
const (
	Same      Kind = iota // it is what it is; of the return address of a function: not said
	Undefined             // it cannot be known; of the return address: there is no caller
	Offset                // it is at CFA + Off
	ValOffset             // it is CFA + Off
	Register              // it is what register Reg is
	Expr                  // it is at the address that Code computes
	ValExpr               // it is what Code computes
)

// RegRule is the rule of one register.
type RegRule struct {
	Kind Kind
	Reg  uint8
	Off  int32
	Code string
}

// Rule is what the information says at an instruction. Rules can be compared.
type Rule struct {
	// The canonical frame address is register CFAReg + CFAOff, or what CFAExpr computes if it
	// is not empty.
	CFAReg  uint8
	CFAOff  int64
	CFAExpr string
	Regs    [NumRegs]RegRule
	RA      uint8 // the register with the return address
	Signal  bool  // a frame that the kernel has made to deliver a signal
}

// The instructions.
const (
	opAdvance        = 0x40
	opOffset         = 0x80
	opRestore        = 0xc0
	opNop            = 0x00
	opSetLoc         = 0x01
	opAdvance1       = 0x02
	opAdvance2       = 0x03
	opAdvance4       = 0x04
	opOffsetExt      = 0x05
	opRestoreExt     = 0x06
	opUndefined      = 0x07
	opSameValue      = 0x08
	opRegister       = 0x09
	opRemember       = 0x0a
	opRestoreState   = 0x0b
	opDefCFA         = 0x0c
	opDefCFAReg      = 0x0d
	opDefCFAOff      = 0x0e
	opDefCFAExpr     = 0x0f
	opExpr           = 0x10
	opOffsetExtSF    = 0x11
	opDefCFASF       = 0x12
	opDefCFAOffSF    = 0x13
	opValOffset      = 0x14
	opValOffsetSF    = 0x15
	opValExpr        = 0x16
	opGNUArgsSize    = 0x2e
	opGNUNegOffset   = 0x2f
	maxRegisterShift = 0x3f
)

// machine executes instructions.
type machine struct {
	cie    *CIE
	loc    uint64
	row    Rule
	init   Rule
	states []Rule
	steps  int
}

// Machine executes the instructions of FDEs. It can be used again and again.
type Machine struct{ m machine }

// Rule is what f says at pc, which must be in it. steps is how many instructions that took.
func (x *Machine) Rule(f *FDE, pc uint64, r *Rule) (steps int, err error) {
	m := &x.m
	if err := m.begin(f); err != nil {
		return m.steps, err
	}
	if err := m.run(f.code, f.codeAt, func(next uint64) bool { return next <= pc }); err != nil {
		return m.steps, err
	}
	*r = m.row
	return m.steps, nil
}

// Rows calls yield with the rule of each stretch of f, in order, until it returns false.
// A stretch may be empty.
func (x *Machine) Rows(f *FDE, yield func(begin, end uint64, r *Rule) bool) error {
	m := &x.m
	if err := m.begin(f); err != nil {
		return err
	}
	ok := true
	err := m.run(f.code, f.codeAt, func(next uint64) bool {
		ok = yield(m.loc, next, &m.row)
		return ok
	})
	if err == nil && ok {
		yield(m.loc, f.End, &m.row)
	}
	return err
}

func (m *machine) begin(f *FDE) error {
	k := f.CIE
	*m = machine{cie: k, loc: f.Begin, states: m.states[:0]}
	m.row.RA, m.row.Signal = uint8(k.ra), k.signal
	if err := m.run(k.code, k.codeAt, func(uint64) bool { return false }); err != nil {
		return err
	}
	m.init, m.loc = m.row, f.Begin
	return nil
}

// run executes instructions until advance, which is asked before each step to another
// address, returns false.
func (m *machine) run(code []byte, at uint64, advance func(next uint64) bool) error {
	c := cursor{b: code, at: at, w: m.cie.w}
	to := func(next uint64) bool {
		next = c.w.mask(next)
		if !advance(next) {
			return false
		}
		m.loc = next
		return true
	}
	for len(c.b) > 0 {
		if m.steps++; m.steps > MaxSteps {
			return bad("more than %d instructions", MaxSteps)
		}
		op := c.u8()
		arg := uint64(op & maxRegisterShift)
		switch op & 0xc0 {
		case opAdvance:
			if !to(m.loc + arg*m.cie.codeAlign) {
				return nil
			}
			continue
		case opOffset:
			m.set(arg, RegRule{Kind: Offset}, int64(c.uleb())*m.cie.dataAlign)
			continue
		case opRestore:
			m.restore(arg)
			continue
		}
		switch op {
		case opNop:
		case opSetLoc:
			if !to(c.pointer(m.cie.fdeEnc, 0)) {
				return nil
			}
		case opAdvance1, opAdvance2, opAdvance4:
			n := c.fixed(1 << (op - opAdvance1))
			if !c.bad && !to(m.loc+n*m.cie.codeAlign) {
				return nil
			}
		default:
			if err := m.rule(op, &c); err != nil {
				return err
			}
		}
		if c.bad {
			return bad("instruction %#x", op)
		}
	}
	return nil
}

// rule executes an instruction that changes the row.
func (m *machine) rule(op byte, c *cursor) error {
	r := &m.row
	switch op {
	case opOffsetExt:
		reg := c.uleb()
		m.set(reg, RegRule{Kind: Offset}, int64(c.uleb())*m.cie.dataAlign)
	case opOffsetExtSF:
		reg := c.uleb()
		m.set(reg, RegRule{Kind: Offset}, c.sleb()*m.cie.dataAlign)
	case opGNUNegOffset:
		reg := c.uleb()
		m.set(reg, RegRule{Kind: Offset}, -int64(c.uleb())*m.cie.dataAlign)
	case opValOffset:
		reg := c.uleb()
		m.set(reg, RegRule{Kind: ValOffset}, int64(c.uleb())*m.cie.dataAlign)
	case opValOffsetSF:
		reg := c.uleb()
		m.set(reg, RegRule{Kind: ValOffset}, c.sleb()*m.cie.dataAlign)
	case opRestoreExt:
		m.restore(c.uleb())
	case opUndefined:
		m.set(c.uleb(), RegRule{Kind: Undefined}, 0)
	case opSameValue:
		m.set(c.uleb(), RegRule{Kind: Same}, 0)
	case opRegister:
		reg, from := c.uleb(), c.uleb()
		if from >= NumRegs {
			m.set(reg, RegRule{Kind: Undefined}, 0)
		} else {
			m.set(reg, RegRule{Kind: Register, Reg: uint8(from)}, 0)
		}
	case opExpr, opValExpr:
		kind := Expr
		if op == opValExpr {
			kind = ValExpr
		}
		reg := c.uleb()
		m.set(reg, RegRule{Kind: kind, Code: string(c.take(c.uleb()))}, 0)
	case opRemember:
		if len(m.states) >= MaxStates {
			return bad("more than %d remembered states", MaxStates)
		}
		m.states = append(m.states, *r)
	case opRestoreState:
		if len(m.states) == 0 {
			return bad("no remembered state")
		}
		*r = m.states[len(m.states)-1]
		m.states = m.states[:len(m.states)-1]
	case opDefCFA:
		m.cfa(c.uleb(), int64(c.uleb()))
	case opDefCFASF:
		reg := c.uleb()
		m.cfa(reg, c.sleb()*m.cie.dataAlign)
	case opDefCFAReg:
		m.cfa(c.uleb(), r.CFAOff)
	case opDefCFAOff:
		r.CFAOff = int64(c.uleb())
	case opDefCFAOffSF:
		r.CFAOff = c.sleb() * m.cie.dataAlign
	case opDefCFAExpr:
		r.CFAExpr = string(c.take(c.uleb()))
	case opGNUArgsSize:
		c.uleb()
	default:
		return bad("unknown instruction %#x", op)
	}
	return nil
}

func (m *machine) cfa(reg uint64, off int64) {
	r := &m.row
	r.CFAExpr, r.CFAOff, r.CFAReg = "", off, NoReg
	if reg < NumRegs {
		r.CFAReg = uint8(reg)
	}
}

// NoReg is the CFAReg of a rule whose register is not followed: it leads nowhere.
const NoReg = 255

// set sets the rule of a register; others than those that are followed do not matter.
func (m *machine) set(reg uint64, rule RegRule, off int64) {
	if reg >= NumRegs {
		return
	}
	rule.Off = int32(off)
	if int64(rule.Off) != off {
		rule = RegRule{Kind: Undefined}
	}
	m.row.Regs[reg] = rule
}

func (m *machine) restore(reg uint64) {
	if reg < NumRegs {
		m.row.Regs[reg] = m.init.Regs[reg]
	}
}
