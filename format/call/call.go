// Package call writes system calls and signals in strace's notation, and says
// what memory of the program it takes to do so.
//
// It works on data alone: the numbers in a call's registers and copies of the
// memory they point at. It asks nothing of the machine it runs on and trusts
// nothing it is given: what is missing or too short is shown as the bare address.
//
// All tables are read-only. A Call, a Collector and an FDs belong to one
// goroutine each.
package call

import (
	"strconv"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Buf is a piece of the program's memory, or of what /proc says, that a call
// read or wrote.
type Buf struct {
	Arg  uint8 // index of the argument it belongs to, or one of the Buf* constants
	Out  bool  // written by the call (read at its end); else read at its beginning
	More bool  // there was more than was kept
	Addr addr.Addr
	Data []byte
}

// Pseudo arguments of a Buf.
const (
	BufRetName = 0x10 // what /proc/PID/fd/N links to, N in Addr: the name of a descriptor the call made
	BufArgs    = 0x11 // the argument block of i386's socketcall, mmap and select
	BufArgv    = 0x20 // element of an argument vector, in order
)

// Call is a system call as it is to be shown.
type Call struct {
	Arch     arch.ID
	Nr       uint32
	Args     [6]uint64
	Ret      int64 // sign-extended; -4095..-1 is an error
	Returned bool
	Bufs     []Buf
	// FD names a descriptor, "" where it is not known; may be nil. FD(AtFDCWD) is
	// asked for the working directory.
	FD func(fd int32) string
	// MaxString is how many bytes of a buffer are shown (strace's -s), 0 means 32.
	// Paths are shown whole.
	MaxString int
	// SP is the stack pointer at the call's beginning, 0 if not known: a Collector
	// finds the signal mask of rt_sigreturn by it.
	SP uint64
}

// AtFDCWD stands for the working directory where a descriptor is expected.
const AtFDCWD = -100

// Name is the call's name; the sub-call's for i386's socketcall and ipc.
func (c *Call) Name() string {
	var p printer
	p.init(c, nil)
	return p.name()
}

// Effective returns the name and the arguments as a direct call would have them:
// those of the sub-call for socketcall and ipc, those of the block for i386's
// old mmap and select (as far as the block is in Bufs).
func (c *Call) Effective() (name string, args [6]uint64) {
	var p printer
	p.init(c, nil)
	return p.name(), p.args
}

// Failed returns the errno of a call that failed, 0 for one that did not.
func (c *Call) Failed() int {
	if c.Returned && c.Ret < 0 && c.Ret >= -arch.MaxErrno {
		return int(-c.Ret)
	}
	return 0
}

// AppendArgs appends the arguments without the parentheses.
func (c *Call) AppendArgs(b []byte) []byte {
	var p printer
	p.init(c, b)
	p.printArgs()
	return p.b
}

// Append appends the whole line: name, arguments and result.
func (c *Call) Append(b []byte) []byte {
	var p printer
	p.init(c, b)
	p.s(p.name())
	p.s("(")
	p.printArgs()
	p.s(")")
	p.printRet()
	return p.b
}

// AppendRet appends the result as Append does: ` = 0`.
func (c *Call) AppendRet(b []byte) []byte {
	var p printer
	p.init(c, nil)
	p.printArgs() // the remark after the result comes from the arguments
	p.b = b
	p.printRet()
	return p.b
}

// printer writes one call.
type printer struct {
	c    *Call
	b    []byte
	id   arch.ID
	sig  *sig
	args [6]uint64 // of the effective call, cut to the width of a register
	ret  uint64
	fail int
	done bool   // the call came back
	note []byte // remark after the result
	hex  bool   // the result is shown in hex whatever the signature says
}

func (p *printer) init(c *Call, b []byte) {
	p.c, p.b, p.id, p.args = c, b, c.Arch, c.Args
	p.ret, p.fail, p.done = uint64(c.Ret), c.Failed(), c.Returned
	if p.id == arch.I386 {
		for i := range p.args {
			p.args[i] = uint64(uint32(p.args[i]))
		}
		p.ret = uint64(uint32(p.ret))
	}
	p.sig = lookup(p.id, c.Nr)
	if p.id == arch.I386 {
		p.demultiplex()
	}
}

func (p *printer) name() string {
	if p.sig != nil {
		return p.sig.name
	}
	return "syscall_0x" + strconv.FormatUint(uint64(p.c.Nr), 16)
}

func (p *printer) printArgs() {
	if p.sig == nil {
		for i, v := range p.args {
			p.comma(i)
			p.x(v)
		}
		return
	}
	if p.sig.special != nil {
		p.sig.special(p)
		return
	}
	for i := range p.sig.words {
		w := &p.sig.words[i]
		if w.def.hidden != nil && w.def.hidden(p, w) {
			continue
		}
		p.comma(i)
		w.def.print(p, w)
	}
}

func (p *printer) printRet() {
	if !p.done {
		p.s(" = ?")
		return
	}
	if p.fail != 0 {
		name := arch.ErrnoName(p.fail)
		switch {
		case p.fail >= 512 && p.fail <= 516 && name != "":
			p.s(" = ? ")
		default:
			p.s(" = -1 ")
		}
		if name == "" {
			p.s("(errno ")
			p.d(int64(p.fail))
			p.s(")")
			return
		}
		p.s(name)
		p.s(" (")
		p.s(arch.ErrnoText(p.fail))
		p.s(")")
		return
	}
	p.s(" = ")
	kind := retDec
	if p.sig != nil {
		kind = p.sig.ret
	}
	if p.hex {
		kind = retHex
	}
	switch kind {
	case retNone:
		p.s("?")
	case retHex:
		p.x(p.ret)
	case retOct:
		p.octal(p.ret)
	case retFD:
		p.newFD(int32(p.ret))
	default:
		p.d(p.signed(p.ret))
	}
	if len(p.note) > 0 {
		p.s(" (")
		p.b = append(p.b, p.note...)
		p.s(")")
	}
}

// buf finds what was kept of the memory behind an argument, nil where nothing
// was. An output of a call that has not come back is not looked for.
func (p *printer) buf(arg uint8, out bool) *Buf {
	for i := range p.c.Bufs {
		if b := &p.c.Bufs[i]; b.Arg == arg && b.Out == out {
			return b
		}
	}
	return nil
}

// bufAt is buf for memory that an argument points at indirectly.
func (p *printer) bufAt(arg uint8, out bool, a uint64) *Buf {
	for i := range p.c.Bufs {
		if b := &p.c.Bufs[i]; b.Arg == arg && b.Out == out && uint64(b.Addr) == a {
			return b
		}
	}
	return nil
}

// signed reads a register as a long.
func (p *printer) signed(v uint64) int64 {
	if p.id == arch.I386 {
		return int64(int32(v))
	}
	return int64(v)
}

func (p *printer) word() int { return p.id.PointerSize() }

func (p *printer) s(s string) { p.b = append(p.b, s...) }

func (p *printer) comma(i int) {
	if i > 0 {
		p.b = append(p.b, ", "...)
	}
}

func (p *printer) d(v int64)  { p.b = strconv.AppendInt(p.b, v, 10) }
func (p *printer) u(v uint64) { p.b = strconv.AppendUint(p.b, v, 10) }

// x writes hex, and a bare 0 for zero.
func (p *printer) x(v uint64) { p.b = appendHex(p.b, v) }

func (p *printer) ptr(v uint64) {
	if v == 0 {
		p.s("NULL")
		return
	}
	p.x(v)
}

// octal writes as C's %#o, at least three digits.
func (p *printer) octal(v uint64) {
	p.s("0")
	if v < 0o10 {
		p.s("0")
	}
	if v == 0 {
		p.s("0")
		return
	}
	p.b = strconv.AppendUint(p.b, v, 8)
}

func appendHex(b []byte, v uint64) []byte {
	if v == 0 {
		return append(b, '0')
	}
	b = append(b, "0x"...)
	return strconv.AppendUint(b, v, 16)
}

// fd writes a descriptor with its name.
func (p *printer) fd(fd int32) {
	if fd == AtFDCWD {
		p.s("AT_FDCWD")
	} else {
		p.d(int64(fd))
	}
	if p.c.FD == nil {
		return
	}
	p.fdName(p.c.FD(fd))
}

// newFD writes a descriptor that the call made.
func (p *printer) newFD(fd int32) {
	for i := range p.c.Bufs {
		if b := &p.c.Bufs[i]; b.Arg == BufRetName && int32(b.Addr) == fd {
			p.d(int64(fd))
			p.s("<")
			p.b = appendEscaped(p.b, b.Data, '<')
			p.s(">")
			return
		}
	}
	if fd < 0 {
		p.d(int64(fd))
		return
	}
	p.fd(fd)
}

func (p *printer) fdName(name string) {
	if name == "" {
		return
	}
	p.s("<")
	p.b = appendEscaped(p.b, []byte(name), '<')
	p.s(">")
}

// path writes a string that ends at a NUL, whole.
func (p *printer) path(b *Buf) {
	data, more := b.Data, b.More
	for i, c := range data {
		if c == 0 {
			data, more = data[:i], false
			break
		}
	}
	p.s(`"`)
	p.b = appendEscaped(p.b, data, '"')
	p.s(`"`)
	if more {
		p.s("...")
	}
}

// quoted writes bytes, cut to the limit.
func (p *printer) quoted(data []byte, more bool) {
	limit := p.c.MaxString
	if limit <= 0 {
		limit = 32
	}
	if len(data) > limit {
		data, more = data[:limit], true
	}
	p.s(`"`)
	p.b = appendEscaped(p.b, data, '"')
	p.s(`"`)
	if more {
		p.s("...")
	}
}

// appendEscaped writes text from a program as strace does: C's escapes, octal
// for the rest. The quote '<' is for names between angle brackets.
func appendEscaped(b, text []byte, quote byte) []byte {
	for i, c := range text {
		switch c {
		case '\t':
			b = append(b, `\t`...)
			continue
		case '\n':
			b = append(b, `\n`...)
			continue
		case '\v':
			b = append(b, `\v`...)
			continue
		case '\f':
			b = append(b, `\f`...)
			continue
		case '\r':
			b = append(b, `\r`...)
			continue
		case '\\':
			b = append(b, `\\`...)
			continue
		}
		if c == quote && quote == '"' {
			b = append(b, '\\', c)
			continue
		}
		if c >= ' ' && c < 0x7f && (quote != '<' || c != '<' && c != '>') {
			b = append(b, c)
			continue
		}
		full := i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '7'
		b = append(b, '\\')
		if full || c >= 0o100 {
			b = append(b, '0'+c>>6)
		}
		if full || c >= 0o10 {
			b = append(b, '0'+c>>3&7)
		}
		b = append(b, '0'+c&7)
	}
	return b
}
