// Package unwind finds the call stack of a thread in its registers and its memory: of a
// living program, or of a log. It takes unwind tables from the memory too, where they
// always match what runs, and from files only what is not mapped. It does no calls of the
// operating system, and trusts nothing that it reads.
package unwind

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/unwind/cfi"
	"memtrace/format/unwind/code"
	"memtrace/format/vma"
)

// Memory is the memory that a stack is in.
type Memory interface {
	// Read reads up to len(b) bytes at a and returns how many there were before the first
	// that cannot be read.
	Read(b []byte, a addr.Addr) int
}

// Files are the files that are mapped, for what is not mapped of them.
type Files interface {
	// Identify tells what tells a file from an earlier one of the same name and place: its
	// size and when it was changed, in ns since 1970; 0, 0 where that is not known.
	Identify(v vma.VMA) (size, mtime uint64)
	// Open opens the file of a mapping; nil if it cannot be had.
	Open(v vma.VMA) File
	// Beside opens a file by its name in the directory of the file of a mapping; nil if it
	// cannot be had.
	Beside(v vma.VMA, name string) File
}

// File is a file with unwind tables.
type File interface {
	ReadAt(b []byte, off int64) (int, error)
	Close() error
}

// End says why a stack has no further frame.
type End uint8

// The ends.
const (
	Complete   End = iota + 1 // the outermost frame has no caller
	Limit                     // there are more frames than were to be taken, or it took too long
	Unreadable                // memory that was needed could not be read
	NoRule                    // nothing says where the caller is
	Loop                      // it leads back to where it came from
)

var endNames = [...]string{"unknown", "complete", "limit", "unreadable", "no rule", "loop"}

func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return endNames[0]
}

// How says how a frame was found from the one that it called.
type How uint8

// The ways; FP and Code are guesses.
const (
	CFI  How = iota // unwind tables; the innermost frame: registers
	Go              // tables of the Go linker
	FP              // frame pointer
	Code            // the code was read
)

var howNames = [...]string{"cfi", "go", "fp", "code"}

func (h How) String() string {
	if int(h) < len(howNames) {
		return howNames[h]
	}
	return "unknown"
}

// Frame is a function on the stack.
type Frame struct {
	PC      uint64  // where it goes on
	Module  *Module // nil: the address is in no mapping with code
	Offset  uint64  // of PC in the file of the module; without a file PC
	How     How
	Signal  bool // a signal interrupted it: PC is no return address
	Inexact bool // frames may be missing between it and the one that it called
}

// Regs are the registers that are followed, by their DWARF numbers.
type Regs struct {
	Arch  arch.ID
	Val   [cfi.NumRegs]uint64
	Known uint32 // bits of those that are known
}

// Places of registers.
const (
	x86RBP, x86RSP, x86RA    = 6, 7, 16
	i386EBP, i386ESP, i386RA = 5, 4, 8
)

// What a function leaves as it was: rbx, rbp, rsp, r12 to r15; ebx, esp, ebp, esi, edi.
const (
	x86Saved  = 1<<3 | 1<<6 | 1<<7 | 1<<12 | 1<<13 | 1<<14 | 1<<15
	i386Saved = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7
)

// dwarfOf is where the registers of a log are in Regs, -1 for none.
func dwarfOf(id arch.ID) (of []int8) {
	for _, r := range id.Registers() {
		d := r.DWARF
		if int(d) >= cfi.NumRegs || id == arch.I386 && d > i386RA {
			d = -1
		}
		of = append(of, d)
	}
	return of
}

var dwarfX86, dwarfI386 = dwarfOf(arch.X86_64), dwarfOf(arch.I386)

// Set takes the registers of a thread in the order of arch.ID.Registers. It reports
// whether stacks of that architecture can be unwound.
func (r *Regs) Set(id arch.ID, values []uint64) bool {
	*r = Regs{Arch: id}
	of := dwarfX86
	switch id {
	case arch.X86_64:
	case arch.I386:
		of = dwarfI386
	default:
		return false
	}
	if len(values) != len(of) {
		return false
	}
	for i, d := range of {
		if d >= 0 {
			r.set(int(d), values[i])
		}
	}
	return true
}

func (r *Regs) set(n int, v uint64) {
	r.Val[n] = v
	r.Known |= 1 << n
}

func (r *Regs) ptr() int {
	if r.Arch == arch.I386 {
		return 4
	}
	return 8
}

func (r *Regs) pcAt() int {
	if r.Arch == arch.I386 {
		return i386RA
	}
	return x86RA
}

func (r *Regs) spAt() int {
	if r.Arch == arch.I386 {
		return i386ESP
	}
	return x86RSP
}

func (r *Regs) fpAt() int {
	if r.Arch == arch.I386 {
		return i386EBP
	}
	return x86RBP
}

func (r *Regs) saved() uint32 {
	if r.Arch == arch.I386 {
		return i386Saved
	}
	return x86Saved
}

// PC and SP are the instruction and the stack pointer.
func (r *Regs) PC() uint64 { return r.Val[r.pcAt()] }

// SP is the stack pointer.
func (r *Regs) SP() uint64 { return r.Val[r.spAt()] }

// What a stack may cost. Work is counted in units of about a nanosecond, so that a stack
// ends at the same frame on a slow machine and on a quick one.
const (
	maxWork    = 4_000_000
	workFrame  = 100
	workRead   = 800
	workBytes  = 8 // bytes read in a unit
	workInstr  = 20
	workCode   = 20_000
	minStack   = 256 << 10 // bytes of stack that are read at most
	frameStack = 1 << 10   // and for each frame that is asked for
)

// MaxDepth is the most frames that a stack can have.
const MaxDepth = 4096

// Unwinder unwinds stacks, one after the other. What it returns is overwritten by the next.
type Unwinder struct {
	cache  *Cache
	space  *Space
	maps   *vma.Set
	mem    Memory
	regs   Regs
	work   int
	win    [2]window
	last   int    // of win, which was used last
	left   int    // bytes of stack that may still be read
	sp     uint64 // of the innermost frame
	reach  uint64 // how far above it the stack has been looked at
	frames []Frame
	failed bool // memory could not be read
	expr   exprEnv
}

// NewUnwinder makes an unwinder that keeps what it learns of modules in a cache.
func NewUnwinder(c *Cache) *Unwinder {
	u := &Unwinder{cache: c}
	u.expr.u = u
	return u
}

// Stack finds the frames of a thread with these registers, at most depth of them, the
// innermost first.
func (u *Unwinder) Stack(s *Space, maps *vma.Set, mem Memory, regs *Regs, depth int) ([]Frame, End) {
	depth = min(depth, MaxDepth)
	u.space, u.maps, u.mem, u.regs = s, maps, mem, *regs
	u.work, u.left, u.frames = 0, max(minStack, depth*frameStack), u.frames[:0]
	u.win[0].n, u.win[1].n = 0, 0
	u.sp, u.reach = regs.SP(), 0
	end := u.walk(depth)
	s.reach = max(int(u.reach), s.reach-s.reach/8)
	u.maps, u.mem = nil, nil
	return u.frames, end
}

// walk goes from frame to frame.
func (u *Unwinder) walk(depth int) End {
	r := &u.regs
	how, signal, inexact := CFI, false, false
	first := true    // PC is exact: the innermost frame, or one that a signal interrupted
	cfa := uint64(0) // of the last frame, 0 where the next may be anywhere
	for {
		if len(u.frames) >= depth || u.work > maxWork {
			return Limit
		}
		u.work += workFrame
		pc := r.PC()
		f := Frame{PC: pc, Offset: pc, How: how, Signal: signal, Inexact: inexact}
		at := u.code(pc)
		if at != nil {
			f.Module, f.Offset = at.mod, pc-at.start+at.off
		}
		u.frames = append(u.frames, f)
		u.failed = false
		st := u.step(at, pc, first)
		if st.end == NoRule && u.begins(at, pc) {
			return Complete
		}
		if st.end != 0 {
			if how == Code && st.end != Complete {
				// Nothing bears this frame out.
				u.frames = u.frames[:len(u.frames)-1]
				return NoRule
			}
			return st.end
		}
		if !st.free && cfa != 0 && st.cfa <= cfa {
			return Loop
		}
		how, signal, inexact = st.how, st.signal, st.inexact
		first, cfa = st.signal, st.cfa
		if st.free || st.signal {
			cfa = 0
		}
		if r.PC() == 0 && !st.signal { // a signal can interrupt a call of 0
			return Complete
		}
	}
}

// entryCode is how long the code is at which a program begins.
const entryCode = 64

// begins reports whether pc is where the kernel lets programs begin: nothing called that,
// also where no table says so.
func (u *Unwinder) begins(c *codeRange, pc uint64) bool {
	if c == nil || c.img == nil || c.img.entry == 0 {
		return false
	}
	var b [entryCode]byte
	n := pc - c.bias - c.img.entry
	if n > entryCode || u.read(b[:n], pc-n) != int(n) {
		return false
	}
	return code.Through(b[:n], c.img.ptr)
}

// stepped is how a step to the caller went.
type stepped struct {
	end     End // 0: the registers are the caller's
	how     How
	signal  bool // the frame was interrupted
	inexact bool
	free    bool // the caller may be below: another stack
	cfa     uint64
}

// step takes the registers to the caller of the function at pc.
func (u *Unwinder) step(c *codeRange, pc uint64, exact bool) stepped {
	r := &u.regs
	if c == nil {
		// A call of something that is no code: its return address is on top of the stack.
		if len(u.frames) > 1 && !u.frames[len(u.frames)-1].Signal {
			return stepped{end: NoRule}
		}
		return u.fromTop(0)
	}
	p := u.plan(c, pc, exact)
	switch p.kind {
	case planRule:
		return u.apply(&u.cache.rules[p.rule])
	case planSignal:
		return u.sigreturn(p.sig)
	case planGo, planGoFP, planGoCall, planGoBack:
		return u.goFrame(p)
	case planTop:
		return stepped{end: Complete}
	case planCode:
		if st := u.byCode(&u.cache.rules[p.rule]); st.end == 0 {
			return st
		}
	}
	if r.Known>>r.fpAt()&1 != 0 {
		return u.framePointer()
	}
	return stepped{end: NoRule}
}

// fromTop steps to the return address delta bytes above the stack pointer.
func (u *Unwinder) fromTop(delta uint64) stepped {
	r := &u.regs
	at := u.mask(r.SP() + delta)
	ra, ok := u.stackWord(at)
	if !ok {
		return stepped{end: Unreadable}
	}
	if !u.afterCall(ra) {
		return stepped{end: NoRule}
	}
	r.Known &= r.saved()
	r.set(r.spAt(), u.mask(at+uint64(r.ptr())))
	r.set(r.pcAt(), ra)
	return stepped{cfa: r.SP()}
}

// byCode steps to the caller as code was read, if that leads to an address behind a call.
func (u *Unwinder) byCode(k *rule) stepped {
	before := u.regs
	st := u.apply(k)
	if st.end == 0 && !u.afterCall(u.regs.PC()) {
		st.end = NoRule
	}
	if st.end != 0 {
		u.regs = before
	}
	st.how = Code
	return st
}

// maxFPFrame is how large a frame may be that is found by the frame pointer.
const maxFPFrame = 1 << 20

// framePointer steps by the frame pointer, if it looks like one.
func (u *Unwinder) framePointer() stepped {
	r := &u.regs
	fp, sp, n := r.Val[r.fpAt()], r.SP(), uint64(r.ptr())
	if fp < sp || fp-sp > maxFPFrame || fp%n != 0 {
		return stepped{end: NoRule}
	}
	up, ok1 := u.stackWord(fp)
	ra, ok2 := u.stackWord(fp + n)
	if !ok1 || !ok2 {
		return stepped{end: Unreadable}
	}
	if ra == 0 && up == 0 {
		return stepped{end: Complete}
	}
	if !u.afterCall(ra) {
		return stepped{end: NoRule}
	}
	r.Known &= r.saved()
	r.set(r.fpAt(), up)
	r.set(r.spAt(), u.mask(fp+2*n))
	r.set(r.pcAt(), ra)
	return stepped{how: FP, cfa: r.SP()}
}

// apply takes the registers to the caller as a rule says.
func (u *Unwinder) apply(k *rule) stepped {
	r := &u.regs
	if k.raUndefined {
		return stepped{end: Complete}
	}
	var cfa uint64
	if k.cfaExpr != "" {
		v, ok := u.eval(k.cfaExpr, 0, false)
		if !ok {
			return u.fail()
		}
		cfa = v
	} else {
		if r.Known>>k.cfaReg&1 == 0 {
			return stepped{end: NoRule}
		}
		cfa = u.mask(r.Val[k.cfaReg] + uint64(k.cfaOff))
	}
	next := *r
	if !k.signal {
		next.Known &= r.saved()
	}
	next.Known &^= 1<<r.pcAt() | k.undefined
	next.set(r.spAt(), cfa)
	for i := range k.saves {
		x := &k.saves[i]
		v, ok := u.value(x, cfa)
		if ok {
			next.set(int(x.reg), v)
		} else {
			next.Known &^= 1 << x.reg
		}
	}
	if k.ra != uint8(r.pcAt()) { // the return address is in another column
		if next.Known>>k.ra&1 == 0 {
			return u.fail()
		}
		next.set(r.pcAt(), next.Val[k.ra])
	}
	if next.Known>>r.pcAt()&1 == 0 || next.Known>>r.spAt()&1 == 0 {
		return u.fail()
	}
	st := stepped{cfa: cfa, signal: k.signal}
	pc := next.PC()
	if !k.signal && pc != 0 && u.code(pc) == nil {
		return stepped{end: NoRule}
	}
	*r = next
	return st
}

// fail is the end of a stack whose next frame cannot be found.
func (u *Unwinder) fail() stepped {
	if u.failed {
		return stepped{end: Unreadable}
	}
	return stepped{end: NoRule}
}

// value is the value of a register in the caller.
func (u *Unwinder) value(x *save, cfa uint64) (uint64, bool) {
	switch x.kind {
	case cfi.Offset:
		return u.stackWord(u.mask(cfa + uint64(int64(x.off))))
	case cfi.ValOffset:
		return u.mask(cfa + uint64(int64(x.off))), true
	case cfi.Register:
		return u.regs.Val[x.from], u.regs.Known>>x.from&1 != 0
	case cfi.Expr:
		at, ok := u.eval(x.code, cfa, true)
		if !ok {
			return 0, false
		}
		return u.stackWord(at)
	case cfi.ValExpr:
		return u.eval(x.code, cfa, true)
	}
	return 0, false
}

func (u *Unwinder) mask(v uint64) uint64 {
	if u.regs.Arch == arch.I386 {
		return v & 0xffffffff
	}
	return v
}

// exprEnv is what expressions may ask for.
type exprEnv struct{ u *Unwinder }

// Reg is a register of the frame at hand.
func (e *exprEnv) Reg(n uint64) (uint64, bool) {
	e.u.work += workInstr
	if n >= cfi.NumRegs || e.u.regs.Known>>n&1 == 0 {
		return 0, false
	}
	return e.u.regs.Val[n], true
}

// Word reads memory.
func (e *exprEnv) Word(at uint64, n int) (uint64, bool) { return e.u.number(at, n) }

func (u *Unwinder) eval(code string, first uint64, push bool) (uint64, bool) {
	if u.work > maxWork {
		return 0, false
	}
	v, steps, ok := cfi.Eval(code, u.regs.ptr(), &u.expr, first, push)
	u.work += steps * workInstr
	return v, ok
}
