package unwind

import (
	"encoding/binary"
	"errors"
	"sort"

	"memtrace/format/unwind/cfi"
	"memtrace/format/unwind/code"
)

// rule is a cfi.Rule, ready to be applied.
type rule struct {
	cfaReg      uint8
	ra          uint8 // where the return address is
	signal      bool
	raUndefined bool
	cfaOff      int64
	cfaExpr     string
	undefined   uint32
	saves       []save
}

// save is how to find a register that is not where it was.
type save struct {
	kind cfi.Kind
	reg  uint8
	from uint8
	off  int32
	code string
}

// plan is how to find the caller of the function at an instruction.
type plan struct {
	kind  planKind
	sig   sigKind
	rule  int32
	delta int32
}

type planKind uint8

const (
	planNone   planKind = iota // no table has it
	planRule                   // rule
	planSignal                 // the kernel's frame for a signal handler: sig
	planGo                     // Go: the return address is delta bytes above the stack pointer
	planGoFP                   // Go: it is where the frame pointer leads, perhaps on another stack
	planGoCall                 // the same, to schedule something else
	planGoBack                 // Go, called by C: as planGo, but the frames of C are not there
	planTop                    // nothing called it
	planCode                   // rule, which was found by reading code
)

// maxPlans bounds the plans of an image, to about 6 MiB.
const maxPlans = 1 << 17

const planBytes = 48

// plan finds out how to go on from pc.
func (u *Unwinder) plan(c *codeRange, pc uint64, exact bool) plan {
	img := c.img
	if img == nil || img.i386 != (u.regs.ptr() == 4) {
		p := u.nameless(pc)
		if p.kind == planNone && exact {
			p = u.returning(pc)
		}
		return p
	}
	key := (pc - c.bias) << 1
	if !exact {
		key |= 1
	}
	if p, ok := img.plans[key]; ok {
		return p
	}
	p := u.makePlan(c, pc, exact)
	if len(img.plans) >= maxPlans {
		clear(img.plans)
		u.cache.size -= maxPlans * planBytes
	}
	img.plans[key] = p
	u.cache.size += planBytes
	return p
}

// returning is the plan for a thread that is just leaving a signal handler: pc is behind the
// code of nameless.
func (u *Unwinder) returning(pc uint64) plan {
	var b [9]byte
	if u.read(b[:], pc-9) != len(b) {
		return plan{}
	}
	i386 := u.regs.ptr() == 4
	for _, n := range []int{9, 7, 8} {
		if k := sigCode(b[9-n:], i386); k == sigI386 && n == 8 {
			return plan{kind: planSignal, sig: sigI386Popped}
		} else if k != 0 {
			return plan{kind: planSignal, sig: k}
		}
	}
	return plan{}
}

// nameless is the plan for code without tables: it may return from a signal handler.
func (u *Unwinder) nameless(pc uint64) plan {
	var b [9]byte
	n := u.read(b[:], pc)
	if k := sigCode(b[:n], u.regs.ptr() == 4); k != 0 {
		return plan{kind: planSignal, sig: k}
	}
	return plan{}
}

func (u *Unwinder) makePlan(c *codeRange, pc uint64, exact bool) plan {
	img := c.img
	v := u.mask(pc - c.bias)
	at := v
	if !exact {
		at--
	}
	p := plan{}
	k, end, err := u.lookup(c, at)
	if err == nil {
		p = plan{kind: planRule, rule: k}
		if v < end || u.cache.rules[k].signal {
			return p
		}
	}
	// The code that returns from a handler, where no table tells of it: the byte before may
	// be of another function.
	if s := u.nameless(pc); s.kind != planNone {
		return s
	}
	if exact && p.kind == planNone {
		// In a call: that may be the last instruction that its function has a rule for, or
		// the first without one, as where threads are made.
		if s := u.returning(pc); s.kind != planNone {
			return s
		}
		for _, back := range []uint64{1, 3} {
			if k, _, err := u.lookup(c, at-back); err == nil {
				return plan{kind: planRule, rule: k}
			}
		}
	}
	if p.kind == planNone {
		p = u.goPlan(c, at)
	}
	if p.kind == planNone {
		img.openFiles(u, c)
		for _, f := range img.files {
			if k, ok := f.lookup(u, at); ok {
				return plan{kind: planRule, rule: k}
			}
		}
		if p.kind == planNone {
			p = u.codePlan(pc, exact)
		}
	}
	return p
}

// codePlan is the plan for code that no table tells of, by what it does until it returns.
func (u *Unwinder) codePlan(pc uint64, exact bool) plan {
	var buf [1024]byte
	var at uint64
	n := 0
	read := func(pc uint64) []byte {
		if off := pc - at; n == 0 || off >= uint64(n) || uint64(n)-off < 16 && n == len(buf) {
			at, n = pc, u.read(buf[:], pc)
		}
		return buf[pc-at : n]
	}
	f, ok := code.Find(read, pc, u.regs.ptr())
	u.work += workCode
	if f.Ends {
		return plan{kind: planTop}
	}
	// Who makes the stack of a coroutine puts a return address on it that no call is before:
	// that of code which ends the program, or goes on with another coroutine.
	if !exact && !u.afterCall(pc) && code.Halts(read, pc, u.regs.ptr()) {
		return plan{kind: planTop}
	}
	if !ok {
		return plan{}
	}
	ptr := int64(u.regs.ptr())
	k := rule{cfaReg: uint8(u.regs.spAt()), ra: uint8(u.regs.pcAt()), cfaOff: f.RA + ptr}
	if f.ByFP {
		k.cfaReg = uint8(u.regs.fpAt())
	}
	k.saves = append(k.saves, save{kind: cfi.Offset, reg: k.ra, off: int32(-ptr)})
	for i, off := range f.Saved {
		if f.Has>>i&1 != 0 {
			k.saves = append(k.saves, save{kind: cfi.Offset, reg: uint8(i), off: int32(off - k.cfaOff)})
		}
	}
	c := u.cache
	c.rules = append(c.rules, k)
	c.size += 512
	return plan{kind: planCode, rule: int32(len(c.rules) - 1)}
}

var errNoFDE = errors.New("no FDE")

// lookup finds the rule at an address of the image in the tables that are in memory, and
// where the function ends.
func (u *Unwinder) lookup(c *codeRange, at uint64) (k int32, end uint64, err error) {
	img := c.img
	if img.ehAt == 0 {
		return 0, 0, errNoFDE
	}
	if !img.ehRead {
		img.ehRead = true
		u.readHeader(c)
	}
	fde, ok := u.searchTable(c, at)
	if !ok {
		return 0, 0, errNoFDE
	}
	return u.ruleAt(c, fde, at)
}

// maxTable is how many entries of a table are read at once; of a larger one, each that is
// looked at.
const maxTable = 1 << 18

// readHeader reads the .eh_frame_hdr.
func (u *Unwinder) readHeader(c *codeRange) {
	img := c.img
	var b [32]byte
	n := u.read(b[:], img.ehAt+c.bias)
	h, err := img.where.ParseHeader(b[:n], img.ehAt)
	if err != nil || h.Count > 1<<24 {
		return
	}
	img.hdr = h
	img.where.Data = img.ehAt
	if h.Count <= maxTable {
		t := make([]byte, 8*h.Count)
		if u.read(t, h.Table+c.bias) == len(t) {
			img.table = t
			u.cache.size += len(t)
		}
	}
}

// searchTable finds the FDE that may be of an address.
func (u *Unwinder) searchTable(c *codeRange, at uint64) (fde uint64, ok bool) {
	img := c.img
	base := img.hdr.Base
	entry := func(i int) (pc, fde uint64) {
		var b [8]byte
		if img.table != nil {
			copy(b[:], img.table[8*i:])
		} else {
			u.read(b[:], img.hdr.Table+c.bias+8*uint64(i))
		}
		pc = base + uint64(int64(int32(binary.LittleEndian.Uint32(b[:]))))
		fde = base + uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))
		return u.mask(pc), u.mask(fde)
	}
	i := sort.Search(int(img.hdr.Count), func(i int) bool { pc, _ := entry(i); return pc > at })
	if i == 0 {
		return 0, false
	}
	_, fde = entry(i - 1)
	return fde, true
}

// Tables are read in pieces, which are kept: callers and what they call are often near each
// other there.
const (
	tablePiece = 4 << 10
	maxPieces  = 256
)

// piece is what memory holds from an address of the image to the end of the piece of the
// tables that it is in.
func (u *Unwinder) piece(c *codeRange, at uint64) []byte {
	img := c.img
	start := at &^ (tablePiece - 1)
	b, ok := img.pieces[start]
	if !ok {
		b = make([]byte, tablePiece)
		b = b[:u.read(b, start+c.bias)]
		if img.pieces == nil || len(img.pieces) >= maxPieces {
			img.pieces = map[uint64][]byte{}
			u.cache.size += maxPieces * tablePiece
		}
		img.pieces[start] = b
	}
	return b[min(at-start, uint64(len(b))):]
}

// entry reads the entry at an address of the image.
func (u *Unwinder) entry(c *codeRange, at uint64) (cfi.Entry, error) {
	img, cache := c.img, u.cache
	if cache.buf == nil {
		cache.buf = make([]byte, cfi.MaxEntry+16)
	}
	b := u.piece(c, at)
	e, err := img.where.Entry(b, at)
	if err == cfi.ErrShort && e.Size <= uint64(len(cache.buf)) && e.Size > uint64(len(b)) {
		b = cache.buf[:e.Size]
		b = b[:u.read(b, at+c.bias)]
		e, err = img.where.Entry(b, at)
	}
	if err == nil && e.Size == 0 {
		err = errNoFDE
	}
	return e, err
}

// ruleAt is the rule of the FDE at an address of the image, and where that ends.
func (u *Unwinder) ruleAt(c *codeRange, at, pc uint64) (rule int32, end uint64, err error) {
	img := c.img
	e, err := u.entry(c, at)
	if err != nil {
		return 0, 0, err
	}
	parent := e.Parent
	k := img.cies[parent]
	if k == nil {
		ce, err := u.entry(c, parent) // perhaps over the bytes of e
		if err != nil {
			return 0, 0, err
		}
		if k, err = img.where.ParseCIE(ce); err != nil {
			return 0, 0, err
		}
		if len(img.cies) > 4096 {
			clear(img.cies)
		}
		img.cies[parent] = k
		if e, err = u.entry(c, at); err != nil {
			return 0, 0, err
		}
	}
	f, err := k.ParseFDE(e)
	if err != nil {
		return 0, 0, err
	}
	if pc < f.Begin || pc >= f.End {
		return 0, 0, errNoFDE
	}
	rule, err = u.cache.compile(u, &f, pc)
	return rule, f.End, err
}

// compile makes the rule of an FDE at pc.
func (c *Cache) compile(u *Unwinder, f *cfi.FDE, pc uint64) (int32, error) {
	var r cfi.Rule
	steps, err := c.mach.Rule(f, pc, &r)
	u.work += steps * workInstr
	if err != nil {
		return 0, err
	}
	if i, ok := c.ruleOf[r]; ok {
		return i, nil
	}
	k := rule{cfaReg: r.CFAReg, ra: r.RA, signal: r.Signal, cfaOff: r.CFAOff, cfaExpr: r.CFAExpr}
	if r.CFAExpr == "" && r.CFAReg >= cfi.NumRegs {
		return 0, errNoFDE
	}
	for i, x := range r.Regs {
		switch x.Kind {
		case cfi.Same:
		case cfi.Undefined:
			k.undefined |= 1 << i
		default:
			k.saves = append(k.saves, save{kind: x.Kind, reg: uint8(i), from: x.Reg, off: x.Off, code: x.Code})
		}
	}
	k.raUndefined = r.Regs[r.RA].Kind == cfi.Undefined
	n := int32(len(c.rules))
	c.rules = append(c.rules, k)
	c.ruleOf[r] = n
	c.size += 1024
	return n, nil
}
