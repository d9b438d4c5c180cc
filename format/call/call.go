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
	"strings"

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
	BufFDName  = 0x12 // what /proc/PID/fd/N linked to when the call began, N in Addr, empty if it was not open: a name that no call tells
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
	// Netlink says whether a descriptor is a netlink socket, and of what protocol;
	// may be nil.
	Netlink func(fd int32) (protocol int, ok bool)
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

// ToStandardError says whether the call writes to descriptor 2.
func (c *Call) ToStandardError() bool {
	if uint32(c.Args[0]) != 2 {
		return false
	}
	row, _ := c.Arch.Syscall(c.Nr)
	return row.Name == "write" || row.Name == "writev"
}

// Written is the data of a write or writev, as far as c.Bufs has it.
func (c *Call) Written() (data []byte) {
	row, _ := c.Arch.Syscall(c.Nr)
	array := row.Name == "writev" // it comes first
	for i := range c.Bufs {
		b := &c.Bufs[i]
		switch {
		case b.Arg != 1 || b.Out:
		case array:
			array = false
		default:
			data = append(data, b.Data...)
		}
	}
	return data
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

// AppendExec appends the execve that started a program. Its third argument is in
// memory that is gone.
func AppendExec(b []byte, path string, argv []string) []byte {
	p := printer{c: &Call{}, b: b}
	p.s("execve(")
	p.path(&Buf{Data: []byte(path)})
	p.s(", [")
	for i, a := range argv {
		p.comma(i)
		if i >= maxListed {
			p.s("...")
			break
		}
		p.quoted([]byte(a), false)
	}
	p.s("]) = 0")
	return p.b
}

// AuxValue finds an entry of an auxiliary vector.
func AuxValue(auxv []byte, id arch.ID, key uint64) (uint64, bool) {
	w := id.PointerSize()
	for v := (view{auxv, w}); len(v.b) >= 2*w; v.b = v.b[2*w:] {
		if v.word(0) == key {
			return v.word(w), true
		}
	}
	return 0, false
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
	p.c, p.b, p.id, p.args, p.note, p.hex = c, b, c.Arch, c.Args, nil, false
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
		p.madeFD(int32(p.ret))
	default:
		if p.sig != nil && (p.sig.name == "bpf" || p.sig.name == "seccomp") { // some of their results are descriptors
			p.newFD(int32(p.ret))
			break
		}
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

func (p *printer) d(v int64)   { p.b = strconv.AppendInt(p.b, v, 10) }
func (p *printer) d32(v int32) { p.d(int64(v)) }
func (p *printer) u(v uint64)  { p.b = strconv.AppendUint(p.b, v, 10) }

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

// maxListed is how many elements of an array are shown.
const maxListed = 32

// fd writes a descriptor with its name.
func (p *printer) fd(fd int32) {
	p.d(int64(fd))
	if fd >= 0 {
		p.fdName(p.known(fd))
	}
}

// known is the name of a descriptor that the call uses, "" where it is not known.
func (p *printer) known(fd int32) string {
	if name, ok := p.c.asked(fd); ok {
		return name
	}
	if p.c.FD == nil {
		return ""
	}
	return p.c.FD(fd)
}

// asked is what /proc said of a descriptor when the call began, if it was asked.
func (c *Call) asked(fd int32) (name string, ok bool) {
	for i := range c.Bufs {
		if b := &c.Bufs[i]; b.Arg == BufFDName && int32(b.Addr) == fd {
			return string(b.Data), true
		}
	}
	return "", false
}

// dirFD writes a descriptor that a path starts from.
func (p *printer) dirFD(fd int32) {
	if fd != AtFDCWD {
		p.fd(fd)
		return
	}
	p.s("AT_FDCWD")
	p.fdName(p.known(fd))
}

// newFD writes a descriptor that the call made. What had its number before the
// call does not name it.
func (p *printer) newFD(fd int32) {
	p.d(int64(fd))
	for i := range p.c.Bufs {
		if b := &p.c.Bufs[i]; b.Arg == BufRetName && int32(b.Addr) == fd {
			p.fdName(string(b.Data))
			return
		}
	}
}

// madeFD writes the result of a call that makes a descriptor. A copy is called
// what the original is.
func (p *printer) madeFD(fd int32) {
	switch p.sig.name {
	case "dup", "dup2", "dup3", "fcntl", "fcntl64":
		p.d(int64(fd))
		p.fdName(p.known(int32(p.args[0])))
	default:
		p.newFD(fd)
	}
}

func (p *printer) fdName(name string) {
	if name == "" {
		return
	}
	name, gone := strings.CutSuffix(name, " (deleted)")
	p.s("<")
	p.b = appendEscaped(p.b, []byte(name), '<')
	p.s(">")
	if gone {
		p.s("(deleted)")
	}
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

// shown is how many bytes of a buffer are shown.
func (c *Call) shown() int {
	limit := c.MaxString
	if limit <= 0 {
		limit = 32
	}
	if c.ToStandardError() {
		limit = max(limit, errorText)
	}
	return limit
}

// quoted writes bytes, cut to the limit.
func (p *printer) quoted(data []byte, more bool) {
	if limit := p.c.shown(); len(data) > limit {
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
