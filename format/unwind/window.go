package unwind

import (
	"encoding/binary"

	"memtrace/format/addr"
)

// window is a piece of the stack. There are two of them: a signal handler may have a
// stack of its own.
type window struct {
	at  uint64
	n   int
	buf []byte
}

const windowSize = 64 << 10

// leastRead is how much of a stack is read at first of a program of which nothing is known.
const leastRead = 8 << 10

// word is n bytes at an address, if the window has them.
func (w *window) word(at uint64, n int) (uint64, bool) {
	off := at - w.at
	if off >= uint64(w.n) || uint64(w.n)-off < uint64(n) {
		return 0, false
	}
	b := w.buf[off:]
	switch n {
	case 8:
		return binary.LittleEndian.Uint64(b), true
	case 4:
		return uint64(binary.LittleEndian.Uint32(b)), true
	case 2:
		return uint64(binary.LittleEndian.Uint16(b)), true
	}
	return uint64(b[0]), true
}

// stackWord reads an address from the stack.
func (u *Unwinder) stackWord(at uint64) (uint64, bool) { return u.number(at, u.regs.ptr()) }

// number reads n bytes, 1, 2, 4 or 8.
func (u *Unwinder) number(at uint64, n int) (uint64, bool) {
	if d := at - u.sp; d > u.reach && d < minStack {
		u.reach = d
	}
	if v, ok := u.win[u.last].word(at, n); ok {
		return v, true
	}
	u.last ^= 1
	if v, ok := u.win[u.last].word(at, n); ok {
		return v, true
	}
	// The older of the two is given up. It may be the stack that is still needed: then
	// it is read once more.
	if !u.fill(&u.win[u.last], at, n) {
		u.failed = true
		return 0, false
	}
	return u.win[u.last].word(at, n)
}

// below is how far a window begins below what is asked for: registers are not always asked
// for in the order in which they lie.
const below = 512

// fill reads a window around an address.
func (u *Unwinder) fill(w *window, at uint64, n int) bool {
	w.n = 0
	from, end := at, at+windowSize
	v, ok := u.maps.Find(addr.Addr(at))
	switch {
	case ok:
		from = max(uint64(v.Start), at-min(at, below))
		end = max(uint64(v.End), at+uint64(n)) // also over a border of mappings
	case len(u.frames) > 1:
		return false // only the stack grows without a call
	}
	size := min(end-from, windowSize, uint64(max(0, u.left)))
	if at-u.sp < leastRead { // what others took, and some more
		size = min(size, uint64(max(leastRead, u.space.reach+u.space.reach/4))+below)
	}
	if size < at-from+uint64(n) {
		return false
	}
	if w.buf == nil {
		w.buf = make([]byte, windowSize)
	}
	w.at, w.n = from, u.read(w.buf[:size], from)
	u.left -= w.n
	return uint64(w.n) >= at-from+uint64(n)
}

// read reads memory.
func (u *Unwinder) read(b []byte, at uint64) int {
	u.work += workRead + len(b)/workBytes
	return max(0, u.mem.Read(b, addr.Addr(at)))
}

// afterCall reports whether an address is in code and right behind an instruction that
// calls, or what the kernel has signal handlers return to.
func (u *Unwinder) afterCall(pc uint64) bool {
	if u.code(pc) == nil {
		return false
	}
	var b [7]byte
	if u.read(b[:], pc-7) != 7 {
		// At the beginning of a mapping.
		if u.read(b[2:], pc-5) != 5 {
			return u.nameless(pc).kind == planSignal
		}
		b[0], b[1] = 0, 0
	}
	if b[2] == 0xe8 { // call rel32
		return true
	}
	// ff /2: call through a register or memory, of 2 to 7 bytes.
	for n := 2; n <= 7; n++ {
		at := 7 - n
		if b[at] == 0xff && b[at+1]>>3&7 == 2 && indirectLen(b[at+1:]) == n {
			return true
		}
	}
	return u.nameless(pc).kind == planSignal
}

// indirectLen is the length of a call through a register or memory, whose ModRM byte is
// first.
func indirectLen(b []byte) int {
	mod, rm := b[0]>>6, b[0]&7
	n := 2
	if mod == 3 {
		return n
	}
	if rm == 4 {
		n++
		if len(b) < 2 {
			return 0
		}
		if mod == 0 && b[1]&7 == 5 {
			return n + 4
		}
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, mod == 0 && rm == 5:
		n += 4
	}
	return n
}

// sigKind is a way in which the kernel lays registers down for a signal handler.
type sigKind uint8

const (
	sigX86 sigKind = iota + 1
	sigI386
	sigI386RT
	sigI386Popped // sigI386 after its first instruction
)

// sigCode tells the code that returns from a signal handler.
func sigCode(b []byte, i386 bool) sigKind {
	is := func(s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }
	switch {
	case !i386 && (is("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05") || is("\xb8\x0f\x00\x00\x00\x0f\x05")):
		return sigX86
	case i386 && is("\x58\xb8\x77\x00\x00\x00\xcd\x80"):
		return sigI386
	case i386 && is("\xb8\xad\x00\x00\x00\xcd\x80"):
		return sigI386RT
	}
	return 0
}

// Where the kernel keeps the registers in struct sigcontext, by their DWARF numbers.
var (
	sigX86Regs  = [...]int{13 * 8, 12 * 8, 14 * 8, 11 * 8, 9 * 8, 8 * 8, 10 * 8, 15 * 8, 0, 8, 16, 24, 32, 40, 48, 56, 16 * 8}
	sigI386Regs = [...]int{44, 40, 36, 32, 28, 24, 20, 16, 56}
)

// sigreturn takes the registers from where the kernel has put them.
func (u *Unwinder) sigreturn(kind sigKind) stepped {
	r := &u.regs
	at := r.SP()
	offs := sigX86Regs[:]
	switch kind {
	case sigX86:
		at += 40 // flags, link, stack
	case sigI386Popped:
		offs = sigI386Regs[:]
	case sigI386:
		at, offs = at+4, sigI386Regs[:] // the number of the signal
	case sigI386RT:
		uc, ok := u.stackWord(at + 8)
		if !ok {
			return stepped{end: Unreadable}
		}
		at, offs = uc+20, sigI386Regs[:]
	}
	next := *r
	for i, off := range offs {
		v, ok := u.stackWord(u.mask(at + uint64(off)))
		if !ok {
			return stepped{end: Unreadable}
		}
		next.set(i, v)
	}
	*r = next
	return stepped{signal: true, free: true, cfa: r.SP()}
}
