package call

import (
	"memtrace/format/arch"
)

// This file shows the arguments that words.go names.

func (p *printer) openFlags(v uint64) {
	p.b = appendOpenFlags(p.b, v&0xffffffff, p.id == arch.AArch64)
}

// creates says whether open's flags make it use its mode.
func (p *printer) creates(flags uint64) bool {
	tmp := uint64(0x410000)
	if p.id == arch.AArch64 {
		tmp = 0x404000
	}
	return flags&0x40 != 0 || flags&tmp == tmp
}

func (p *printer) nameOrNumber(table string, v uint64) {
	if name := flagTable(table).Name(v); name != "" {
		p.s(name)
		return
	}
	p.u(v)
}

func (p *printer) uid(v uint64) {
	if uint32(v) == ^uint32(0) {
		p.s("-1")
		return
	}
	p.u(uint64(uint32(v)))
}

func (p *printer) key(v uint64) {
	if uint32(v) == 0 {
		p.s("IPC_PRIVATE")
		return
	}
	p.x(uint64(uint32(v)))
}

func (p *printer) clock(v uint64) {
	p.b = flagTable("clock").AppendValue(p.b, uint64(uint32(v)))
}

func (p *printer) dev(v uint64) {
	major := v>>8&0xfff | v>>32&^0xfff
	minor := v&0xff | v>>12&^0xff&0xffffffff
	p.s("makedev(")
	p.x(major)
	p.s(", ")
	p.x(minor)
	p.s(")")
}

// mode writes a file's type and permissions.
func (p *printer) mode(v uint64) {
	v &= 0xffff
	if name := flagTable("filetype").Name(v & 0xf000); name != "" {
		p.s(name)
		p.s("|")
		v &= 0xfff
	}
	for _, bit := range [...]struct {
		v    uint64
		name string
	}{{0o4000, "S_ISUID|"}, {0o2000, "S_ISGID|"}, {0o1000, "S_ISVTX|"}} {
		if v&bit.v != 0 {
			p.s(bit.name)
			v &^= bit.v
		}
	}
	p.octal(v)
}

func (p *printer) ipcFlags(table string, v uint64) {
	v &= 0xffffffff
	if rest := v &^ 0o777; rest != 0 {
		p.b = flagTable(table).Append(p.b, rest)
		p.s("|")
	}
	p.octal(v & 0o777)
}

func (p *printer) memfdFlags(v uint64) {
	v &= 0xffffffff
	huge := v >> mapHugeShift & 0x3f
	if v&4 == 0 {
		huge = 0
	}
	if huge == 0 {
		p.b = flagTable("mfd").Append(p.b, v)
		return
	}
	p.b = flagTable("mfd").Append(p.b, v&^(0x3f<<mapHugeShift))
	p.s("|")
	p.u(huge)
	p.s("<<MFD_HUGE_SHIFT")
}

func (p *printer) mempolicy(v uint64) {
	v &= 0xffffffff
	p.b = flagTable("mpol").AppendValue(p.b, v&0x1fff)
	if rest := v &^ 0x1fff; rest != 0 {
		p.s("|")
		p.b = flagTable("mpolmode").Append(p.b, rest)
	}
}

func (p *printer) statxFlags(v uint64) {
	v &= 0xffffffff
	p.b = flagTable("atsync").AppendValue(p.b, v&0x6000)
	if v &^= 0x6000; v != 0 {
		p.s("|")
		p.b = flagTable("at").Append(p.b, v)
	}
}

func (p *printer) ioctl(v uint64) {
	v &= 0xffffffff
	if name := flagTable("ioctl").Name(v); name != "" {
		p.s(name)
		return
	}
	p.s("_IOC(")
	p.s([...]string{"_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE"}[v>>30])
	p.s(", ")
	p.x(v >> 8 & 0xff)
	p.s(", ")
	p.x(v & 0xff)
	p.s(", ")
	p.x(v >> 16 & 0x3fff)
	p.s(")")
}

// ioctlArg shows the few results that are worth it, else the address.
func (p *printer) ioctlArg(w *word) {
	v := p.args[w.reg]
	out := p.buf(w.reg, true)
	if p.interface1(w) {
		return
	}
	switch uint32(p.args[1]) {
	case 0x541b, 0x5411, 0x540f, 0x5429, 0x80045430, 0x8903, 0x8904, 0x8905: // FIONREAD, TIOCOUTQ, TIOCGPGRP, TIOCGSID, TIOCGPTN, FIOGETOWN, SIOCGPGRP, SIOCATMARK
		if out != nil && len(out.Data) >= 4 {
			p.s("[")
			p.d(int64(int32(view{out.Data, 4}.u32(0))))
			p.s("]")
			return
		}
	case 0x5413: // TIOCGWINSZ
		if out != nil && len(out.Data) >= 8 {
			d := view{out.Data, 4}
			for i, name := range [...]string{"{ws_row=", ", ws_col=", ", ws_xpixel=", ", ws_ypixel="} {
				p.s(name)
				p.u(uint64(d.u16(2 * i)))
			}
			p.s("}")
			return
		}
	case 0x5421, 0x5410, 0x8901, 0x8902: // FIONBIO, TIOCSPGRP, FIOSETOWN, SIOCSPGRP
		if in := p.buf(w.reg, false); in != nil && len(in.Data) >= 4 {
			p.s("[")
			p.d(int64(int32(view{in.Data, 4}.u32(0))))
			p.s("]")
			return
		}
	}
	p.x(v)
}

func (p *printer) pathArg(w *word) {
	v := p.args[w.reg]
	b := p.buf(w.reg, false)
	if v == 0 || b == nil {
		p.ptr(v)
		return
	}
	p.path(b)
}

// bytesArg shows a buffer: as much of it as the call moved.
func (p *printer) bytesArg(w *word, out bool) {
	v := p.args[w.reg]
	b := p.buf(w.reg, out)
	if b == nil {
		if n := p.args[w.n]; v != 0 && (!out && n == 0 && w.n != 0 || out && p.done && p.fail == 0 && p.ret == 0 && (w.def == wordDefs["rbuf"] || w.def == wordDefs["gbuf"])) {
			p.s(`""`)
			return
		}
		p.ptr(v)
		return
	}
	p.quoted(b.Data, b.More)
}

// hexBytes is for what is never text.
func (p *printer) hexBytes(w *word) {
	b := p.buf(w.reg, true)
	if b == nil {
		p.ptr(p.args[w.reg])
		return
	}
	p.hexText(b.Data, b.More)
}

// hexText writes bytes as hex escapes, cut to the limit.
func (p *printer) hexText(data []byte, more bool) {
	if limit := p.c.shown(); len(data) > limit {
		data, more = data[:limit], true
	}
	const digits = "0123456789abcdef"
	p.s(`"`)
	for _, c := range data {
		p.b = append(p.b, '\\', 'x', digits[c>>4], digits[c&0xf])
	}
	p.s(`"`)
	if more {
		p.s("...")
	}
}

func (p *printer) cbuf(w *word) {
	b := p.buf(w.reg, true)
	if b == nil {
		p.ptr(p.args[w.reg])
		return
	}
	p.path(b)
}

func (p *printer) dents(w *word) {
	p.ptr(p.args[w.reg])
	b := p.buf(w.reg, true)
	if b == nil || b.More {
		if p.done && p.fail == 0 && p.ret == 0 {
			p.s(" /* 0 entries */")
		}
		return
	}
	at := 16 // offset of d_reclen
	if p.sig.name == "getdents" {
		at = 2 * p.word()
	}
	v, n := view{b.Data, 8}, uint64(0)
	for off := 0; off+at+2 <= len(b.Data); n++ {
		size := int(v.u16(off + at))
		if size < at+2 {
			break
		}
		off += size
	}
	p.s(" /* ")
	p.u(n)
	p.s(" entries */")
}

func (p *printer) argv(w *word) {
	if p.args[w.reg] == 0 {
		p.s("NULL")
		return
	}
	n := 0
	for i := range p.c.Bufs {
		b := &p.c.Bufs[i]
		if b.Arg != BufArgv {
			continue
		}
		if n == 0 {
			p.s("[")
		}
		p.comma(n)
		if n >= 32 {
			p.s("...")
			n++
			break
		}
		p.quoted(b.Data, b.More)
		n++
	}
	if n == 0 {
		p.ptr(p.args[w.reg])
		return
	}
	p.s("]")
}

func (p *printer) envc(w *word) {
	p.ptr(p.args[w.reg])
	if b := p.buf(w.reg, false); b != nil && len(b.Data) >= 4 {
		n := view{b.Data, 4}.u32(0)
		p.s(" /* ")
		p.u(uint64(n))
		p.s(" var")
		if n != 1 {
			p.s("s")
		}
		p.s(" */")
	}
}

func (p *printer) inOut(w *word, size int, arrow string) {
	v := p.args[w.reg]
	in, out := p.buf(w.reg, false), p.buf(w.reg, true)
	if v == 0 || in == nil || len(in.Data) < size {
		p.ptr(v)
		return
	}
	before := view{in.Data, size}.word(0)
	p.s("[")
	p.d(int64(before))
	if out != nil && len(out.Data) >= size {
		if after := (view{out.Data, size}).word(0); after != before {
			p.s(arrow)
			p.d(int64(after))
		}
	}
	p.s("]")
}

func (p *printer) intOrBytes(w *word, out bool) {
	b := p.buf(w.reg, out)
	if p.args[w.reg] == 0 || b == nil {
		p.ptr(p.args[w.reg])
		return
	}
	if len(b.Data) == 4 {
		p.s("[")
		p.d(int64(int32(view{b.Data, 4}.u32(0))))
		p.s("]")
		return
	}
	p.quoted(b.Data, b.More)
}

func (p *printer) byteList(w *word) {
	b := p.buf(w.reg, true)
	if b == nil {
		p.ptr(p.args[w.reg])
		return
	}
	p.s("[")
	for i, c := range b.Data {
		p.comma(i)
		if i >= 32 {
			p.s("...")
			break
		}
		p.u(uint64(c & 1))
	}
	p.s("]")
}

func (p *printer) fdPair(w *word) {
	b := p.buf(w.reg, true)
	if b == nil || len(b.Data) < 8 || p.fail != 0 {
		p.ptr(p.args[w.reg])
		return
	}
	v := view{b.Data, 4}
	p.s("[")
	p.newFD(int32(v.u32(0)))
	p.s(", ")
	p.newFD(int32(v.u32(4)))
	p.s("]")
}

// view reads a struct in the program's memory; what lies outside of it is 0.
type view struct {
	b []byte
	w int // size of a long
}

func (v view) u16(off int) uint16 {
	if off < 0 || off >= len(v.b) {
		return 0
	}
	n := uint16(v.b[off])
	if off+1 < len(v.b) {
		n |= uint16(v.b[off+1]) << 8
	}
	return n
}

func (v view) u32(off int) uint32 { return uint32(v.u16(off)) | uint32(v.u16(off+2))<<16 }

func (v view) u64(off int) uint64 { return uint64(v.u32(off)) | uint64(v.u32(off+4))<<32 }

// word reads a long.
func (v view) word(off int) uint64 {
	if v.w == 4 {
		return uint64(v.u32(off))
	}
	return v.u64(off)
}

// sword reads a signed long.
func (v view) sword(off int) int64 {
	if v.w == 4 {
		return int64(int32(v.u32(off)))
	}
	return int64(v.u64(off))
}
