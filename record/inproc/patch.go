// This file replaces system call instructions of a program by jumps into the code.

package inproc

import (
	"golang.org/x/arch/x86/x86asm"

	"memtrace/format/addr"
)

// A patched site jumps to a stub of its own, in a window of stubs that is near enough:
//
//	lea  back(%rip),%rcx
//	jmp  *code               its address is at the beginning of the window
//	syscall                  for threads that do not record
//	back:
//	lea  site+2(%rip),%rcx   as the kernel leaves it
//	(the instruction that stood behind the syscall, if its place was needed)
//	jmp  on
//
// A hop is a short jump in the place of the syscall, to padding behind a function that
// has room for a long one. Nothing else of the program is touched, so a thread may stand
// anywhere. Where there is no padding, a follow takes the place of the syscall and of the
// instruction behind it.
const (
	stubSize  = 64
	stubCall  = 13 // the syscall
	stubBack  = 15
	stubMoved = 22
	jumpSize  = 5

	// WindowLen is the length of a window of stubs.
	WindowLen = 64 << 10

	callSize = 2 // of a syscall instruction
	// SiteLen is how many bytes from a site on Find wants to see.
	SiteLen = 160

	intr3 = 0xcc
)

// Patch is a site that is patched, or can be.
type Patch struct {
	Site addr.Addr // of the syscall instruction
	// Pad is where the padding is that a hop uses, 0 for a follow.
	Pad   addr.Addr
	stub  addr.Addr
	moved []byte // the instruction that is made in the stub
	saved []byte // what was at Site, and for a hop then what was at Pad
}

// hop reports whether it uses padding.
func (p *Patch) hop() bool { return p.Pad != 0 }

// size is how many bytes are replaced at the site.
func (p *Patch) size() int {
	if p.hop() {
		return callSize
	}
	return jumpSize
}

// Find looks for a way to patch a site. code are the bytes of the program from there on,
// SiteLen or as many as there are. ok is false where there is none.
func Find(site addr.Addr, code []byte) (p *Patch, ok bool) {
	if len(code) < callSize+1 || code[0] != 0x0f || code[1] != 0x05 {
		return nil, false
	}
	if off, ok := padding(code); ok {
		return &Patch{Site: site, Pad: site + addr.Addr(off)}, true
	}
	in, err := x86asm.Decode(code[callSize:], 64)
	if err != nil || !movable(in) || callSize+in.Len < jumpSize {
		return nil, false
	}
	return &Patch{Site: site, moved: code[callSize : callSize+in.Len]}, true
}

// padding is where padding begins that a short jump reaches and that has room for a long
// one: behind an instruction that does not go on to the next.
func padding(code []byte) (off int, ok bool) {
	const reach = callSize + 127
	for at := callSize; at < len(code); {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil || in.Op == 0 {
			return 0, false
		}
		at += in.Len
		if in.Op != x86asm.RET && in.Op != x86asm.JMP {
			continue
		}
		if at > reach {
			return 0, false
		}
		end := at
		for end < len(code) {
			n := nop(code[end:])
			if n == 0 {
				break
			}
			end += n
		}
		if end-at >= jumpSize {
			return at, true
		}
		at = end
	}
	return 0, false
}

// nop is the length of an instruction that only fills, 0 for any other.
func nop(code []byte) int {
	if code[0] == intr3 {
		return 1
	}
	in, err := x86asm.Decode(code, 64)
	if err != nil || in.Op != x86asm.NOP && !(in.Op == x86asm.XCHG && in.Len == 2 && code[1] == 0x90) {
		return 0
	}
	return in.Len
}

// movable reports whether an instruction does the same elsewhere.
func movable(in x86asm.Inst) bool {
	if in.Op == 0 || in.PCRel != 0 {
		return false
	}
	switch in.Op {
	case x86asm.RET, x86asm.JMP, x86asm.CALL, x86asm.SYSCALL, x86asm.INT, x86asm.LCALL, x86asm.LJMP, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.UD1, x86asm.UD2, x86asm.HLT:
		return false
	}
	for _, a := range in.Args {
		if m, ok := a.(x86asm.Mem); ok && m.Base == x86asm.RIP {
			return false
		}
		if _, ok := a.(x86asm.Rel); ok {
			return false
		}
	}
	return true
}

// Window is a mapping of stubs.
type Window struct {
	Base addr.Addr
	used [WindowLen / stubSize]bool // the first has the address of the code
}

// NewWindow is an empty window at base. Head is what it begins with.
func NewWindow(base addr.Addr) *Window {
	w := &Window{Base: base}
	w.used[0] = true
	return w
}

// Head is what a window begins with.
func (c Code) Head() []byte { return le.AppendUint64(nil, uint64(c.Base)) }

// near reports whether a long jump at from reaches to.
func near(from, to addr.Addr) bool {
	d := int64(to - from)
	return d == int64(int32(d))
}

// Reaches reports whether jumps between a site and the whole window are possible.
func (w *Window) Reaches(site addr.Addr) bool {
	const margin = 1 << 12 // padding, and what is behind the site
	return near(site-margin, w.Base+WindowLen) && near(site+margin, w.Base) && near(w.Base, site+margin) && near(w.Base+WindowLen, site-margin)
}

// Place gives a patch a stub in the window. It reports false where none is free. The jump
// of a follow has a breakpoint as its third byte: should the program jump to where the
// instruction behind the call was, it does not execute half of a jump.
func (w *Window) Place(p *Patch) bool {
	if !w.Reaches(p.Site) {
		return false
	}
	for i := range w.used {
		stub := w.Base + addr.Addr(i*stubSize)
		if !w.used[i] && (p.hop() || uint8((stub-p.Site-jumpSize)>>8) == intr3) {
			w.used[i] = true
			p.stub = stub
			return true
		}
	}
	return false
}

// Write is bytes that are to be written at an address.
type Write struct {
	At    addr.Addr
	Bytes []byte
}

// Apply says what is to be written to patch a site that has its place in w; before are the
// bytes that are there: size of them at the site, and those of the padding.
func (p *Patch) Apply(w *Window, read func(b []byte, a addr.Addr) bool) ([]Write, bool) {
	p.saved = make([]byte, p.size())
	if !read(p.saved, p.Site) {
		return nil, false
	}
	if p.hop() {
		pad := make([]byte, jumpSize)
		if !read(pad, p.Pad) {
			return nil, false
		}
		p.saved = append(p.saved, pad...)
	}
	writes := []Write{{p.stub, p.body(w)}}
	if !p.hop() {
		return append(writes, Write{p.Site, jump(p.Site, p.stub)}), true
	}
	short := []byte{0xeb, uint8(p.Pad - p.Site - callSize)}
	return append(writes, Write{p.Pad, jump(p.Pad, p.stub)}, Write{p.Site, short}), true
}

// Undo says what is to be written to have the program as it was. The stub stays, for who
// is in it.
func (p *Patch) Undo() []Write {
	n := p.size()
	writes := []Write{{p.Site, p.saved[:n]}}
	if p.hop() {
		writes = append(writes, Write{p.Pad, p.saved[n:]})
	}
	return writes
}

// Overlaps reports whether it has replaced something in a range.
func (p *Patch) Overlaps(r addr.Range) bool {
	return !r.Intersect(addr.Reach(p.Site, uint64(p.size()))).Empty() || p.hop() && !r.Intersect(addr.Reach(p.Pad, jumpSize)).Empty()
}

// Inside reports whether an address is in the middle of what it has replaced: nobody may
// go on there.
func (p *Patch) Inside(a addr.Addr) bool {
	return !p.hop() && a > p.Site && a < p.Site+jumpSize
}

// On is where the thread goes on that the breakpoint of a follow has stopped.
func (p *Patch) On() addr.Addr { return p.stub + stubMoved }

// Return is where a thread in the stub is behind the call.
func (p *Patch) Return() addr.Addr { return p.stub + stubBack }

// Program is where in the program a thread is that is at an address in the stub.
func (p *Patch) Program(a addr.Addr) addr.Addr {
	switch off := a - p.stub; {
	case off <= stubCall:
		return p.Site
	case off <= stubMoved:
		return p.Site + callSize
	default:
		return p.Site + callSize + addr.Addr(len(p.moved))
	}
}

// StubReturn is the Return of the patch whose stub in a window at base an address is in.
func StubReturn(base, a addr.Addr) addr.Addr { return base + (a-base)/stubSize*stubSize + stubBack }

// Original puts what was there before into bytes that were read at an address.
func (p *Patch) Original(b []byte, a addr.Addr) {
	for _, w := range p.Undo() {
		for i, c := range w.Bytes {
			if at := w.At + addr.Addr(i); at >= a && at < a+addr.Addr(len(b)) {
				b[at-a] = c
			}
		}
	}
}

// body is the stub.
func (p *Patch) body(w *Window) []byte {
	rel := func(b []byte, to addr.Addr) []byte { // the last operand of an instruction
		return le.AppendUint32(b, uint32(to-p.stub-addr.Addr(len(b)+4)))
	}
	b := rel([]byte{0x48, 0x8d, 0x0d}, p.stub+stubBack)
	b = rel(append(b, 0xff, 0x25), w.Base)
	b = append(b, 0x0f, 0x05)
	b = rel(append(b, 0x48, 0x8d, 0x0d), p.Site+callSize)
	b = append(b, p.moved...)
	return rel(append(b, 0xe9), p.Site+callSize+addr.Addr(len(p.moved)))
}

// jump is a long jump.
func jump(from, to addr.Addr) []byte {
	return le.AppendUint32([]byte{0xe9}, uint32(to-from-jumpSize))
}
