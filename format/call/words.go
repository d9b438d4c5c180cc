package call

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
)

// wordDefs are the kinds of argument that signatures are made of. "wbuf:N" and
// the like name the register with the length.
var wordDefs map[string]*wordDef

func init() {
	num := func(f func(p *printer, v uint64)) *wordDef {
		return &wordDef{print: func(p *printer, w *word) { f(p, p.args[w.reg]) }}
	}
	wide := func(f func(p *printer, v uint64)) *wordDef {
		return &wordDef{wide: true, print: func(p *printer, w *word) { f(p, p.wide(w)) }}
	}
	data := func(what What, at When, level Level, print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: at, What: what, Level: level, N: w.n}}
		}}
	}
	// retBuf is a buffer that gets Ret bytes; its size is the next register.
	retBuf := func(print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, N: w.reg + 1}}
		}}
	}
	both := func(size uint16, print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(id arch.ID, w word) []Capture {
			n := size
			if n == 0 {
				n = uint16(id.PointerSize())
			}
			return []Capture{
				{Arg: w.reg, At: Enter, What: Bytes, Level: LevelData, Len: n},
				{Arg: w.reg, At: Exit, What: Bytes, Level: LevelData, Len: n},
			}
		}}
	}
	sized := func(most uint16) *wordDef { // a struct whose size is an argument; shown by a special
		return &wordDef{print: (*printer).ptrWord, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Enter, What: LenArg, Level: LevelStruct, N: w.n, Len: most}}
		}}
	}
	ptrArg := (*printer).ptrWord
	unit := func(what What, size uint16) *wordDef {
		return &wordDef{print: ptrArg, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: what, Level: LevelData, N: w.n, Unit: size}}
		}}
	}
	wordDefs = map[string]*wordDef{
		"x":     num((*printer).x),
		"x32":   num(func(p *printer, v uint64) { p.x(uint64(uint32(v))) }),
		"p":     num((*printer).ptr),
		"d":     num(func(p *printer, v uint64) { p.d(int64(int32(v))) }),
		"u":     num(func(p *printer, v uint64) { p.u(uint64(uint32(v))) }),
		"ld":    num(func(p *printer, v uint64) { p.d(p.signed(v)) }),
		"lu":    num((*printer).u),
		"fd":    num(func(p *printer, v uint64) { p.fd(int32(v)) }),
		"uid":   num((*printer).uid),
		"sig":   num(func(p *printer, v uint64) { p.s(signalName(int32(v))) }),
		"mode":  num((*printer).mode),
		"perm":  num(func(p *printer, v uint64) { p.octal(v & 0xffff) }),
		"key":   num((*printer).key),
		"pgoff": num(func(p *printer, v uint64) { p.x(v << addr.PageShift) }),
		"clock": num((*printer).clock),
		"ioctl": num((*printer).ioctl),
		"dev":   num((*printer).dev),

		"off64":   wide(func(p *printer, v uint64) { p.d(int64(v)) }),
		"x64":     wide((*printer).x),
		"ulong64": wide((*printer).u),
		"fanmask": wide(func(p *printer, v uint64) { p.b = FlagTable("fanevent").Append(p.b, v) }),
		"fanclass": num(func(p *printer, v uint64) {
			p.b = FlagTable("fanclass").AppendValue(p.b, v&0xc)
			if v &= 0xffffffff &^ 0xc; v != 0 {
				p.s("|")
				p.b = FlagTable("faninit").Append(p.b, v)
			}
		}),
		"handler":  num((*printer).handler),
		"ipccall":  num(func(p *printer, v uint64) { p.nameOrNumber("ipccall", v) }),
		"sockcall": num(func(p *printer, v uint64) { p.nameOrNumber("socketcall", v) }),
		// lohi: two registers everywhere, all in the first where it has 64 bits.
		"lohi": {two: true, print: func(p *printer, w *word) {
			v := p.args[w.reg]
			if p.id == arch.I386 {
				v |= p.args[(w.reg+1)%6] << 32
			}
			p.d(int64(v))
		}},
		"hilo": {two: true, print: func(p *printer, w *word) { p.d(int64(p.args[w.reg]<<32 | p.args[(w.reg+1)%6]&0xffffffff)) }},

		"flags":  {print: func(p *printer, w *word) { p.b = w.tab.Append(p.b, uint64(uint32(p.args[w.reg]))) }},
		"enum":   {print: func(p *printer, w *word) { p.b = w.tab.AppendValue(p.b, uint64(uint32(p.args[w.reg]))) }},
		"oflags": num(func(p *printer, v uint64) { p.openFlags(v) }),
		"mflags": num(func(p *printer, v uint64) { p.b = appendMapFlags(p.b, v) }),
		// omode: a mode, there only if the flags before it make a file.
		"omode": {
			print:  func(p *printer, w *word) { p.octal(p.args[w.reg] & 0xffff) },
			hidden: func(p *printer, w *word) bool { return !p.creates(p.args[w.reg-1]) },
		},
		// fixedaddr: mremap's new address, there only if its flags ask for one.
		"fixedaddr": {
			print:  func(p *printer, w *word) { p.x(p.args[w.reg]) },
			hidden: func(p *printer, w *word) bool { return p.args[w.reg-1]&3 != 3 },
		},
		"mkdev": {
			print:  func(p *printer, w *word) { p.dev(p.args[w.reg]) },
			hidden: func(p *printer, w *word) bool { m := p.args[w.reg-1] & 0xf000; return m != 0x2000 && m != 0x6000 },
		},
		"hide":    {print: func(*printer, *word) {}, hidden: func(*printer, *word) bool { return true }},
		"sockty":  num((*printer).socketType),
		"atstatx": num((*printer).statxFlags),
		"mfd":     num((*printer).memfdFlags),
		"shmflg":  num(func(p *printer, v uint64) { p.ipcFlags("shmget", v) }),
		"ipcflg":  num(func(p *printer, v uint64) { p.ipcFlags("ipcget", v) }),
		"mpol":    num((*printer).mempolicy),
		"proto":   {print: (*printer).protocol},
		"ctl": {print: func(p *printer, w *word) {
			v := p.args[w.reg] & 0xffffffff
			if v&0x100 != 0 {
				p.s("IPC_64|")
				v &^= 0x100
			}
			p.b = FlagTable(p.sig.name).AppendValue(p.b, v)
		}},
		"shmds": {print: func(p *printer, w *word) {
			w2 := word{reg: w.reg, out: true}
			if b := p.buf(w.reg, true); b == nil || p.args[1]&^0x100 != 2 {
				p.ptr(p.args[w.reg])
				return
			}
			p.structArg(&w2, structs["shmid"])
		}},
		"sockopt": {print: (*printer).sockopt},

		"path": data(CString, Enter, LevelPath, func(p *printer, w *word) { p.pathArg(w) }),
		"str":  data(CString, Enter, LevelPath, func(p *printer, w *word) { p.pathArg(w) }),
		"argv": data(StringVec, Enter, LevelPath, (*printer).argv),
		"envc": data(VecCount, Enter, LevelPath, (*printer).envc),

		"wbuf": data(LenArg, Enter, LevelData, func(p *printer, w *word) { p.bytesArg(w, false) }),
		"rbuf": retBuf(func(p *printer, w *word) { p.bytesArg(w, true) }),
		"obuf": data(LenArg, Exit, LevelData, func(p *printer, w *word) { p.bytesArg(w, true) }),
		"xbuf": retBuf((*printer).hexBytes),
		// outputs of which only the address is shown: of N bytes, of as many as
		// register N says (times 4, in bits), of Ret (times 2 or 8)
		"outb": {print: ptrArg, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: Bytes, Level: LevelData, Len: w.len}}
		}},
		"outarg":  data(LenArg, Exit, LevelData, ptrArg),
		"outints": unit(LenArg, 4),
		"outbits": data(LenBits, Exit, LevelData, ptrArg),
		"outret":  data(LenRet, Exit, LevelData, ptrArg),
		"outret2": unit(LenRet, 2),
		"outret8": unit(LenRet, 8),
		"msgout": {print: ptrArg, caps: func(id arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, N: w.reg + 1, Len: uint16(id.PointerSize())}}
		}},
		// cbuf: a path that the call writes (readlink, getcwd): Ret bytes.
		"cbuf":  retBuf((*printer).cbuf),
		"dents": retBuf((*printer).dents),
		"wiov":  data(Iovec, Enter, LevelStruct, func(p *printer, w *word) { p.iovec(w.reg, false, p.args[w.reg], p.args[w.n], 0) }),
		"riov":  {print: func(p *printer, w *word) { p.iovec(w.reg, true, p.args[w.reg], p.args[w.n], p.ret) }, caps: riovCaps},
		"wmsg":  data(Msghdr, Enter, LevelStruct, func(p *printer, w *word) { p.msghdr(w, false) }),
		"rmsg":  data(Msghdr, Exit, LevelData, func(p *printer, w *word) { p.msghdr(w, true) }),
		"wmmsg": {print: ptrArg, caps: func(id arch.ID, w word) []Capture { // gets the length of each
			return []Capture{
				{Arg: w.reg, At: Enter, What: Mmsghdr, Level: LevelData, N: w.n},
				{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, Unit: uint16(msghdrSize(id) + id.PointerSize())},
			}
		}},
		"rmmsg":  data(Mmsghdr, Exit, LevelData, (*printer).mmsghdr),
		"waddr":  data(LenArg, Enter, LevelStruct, func(p *printer, w *word) { p.sockaddrArg(w, false) }),
		"raddr":  data(LenPtr, Exit, LevelData, func(p *printer, w *word) { p.sockaddrArg(w, true) }),
		"optbuf": data(LenPtr, Exit, LevelData, func(p *printer, w *word) { p.intOrBytes(w, true) }),
		"optval": data(LenArg, Enter, LevelData, func(p *printer, w *word) { p.intOrBytes(w, false) }),
		"len":    both(4, func(p *printer, w *word) { p.inOut(w, 4, " => ") }),
		"off":    both(0, func(p *printer, w *word) { p.inOut(w, p.word(), "] => [") }),
		"loff":   both(8, func(p *printer, w *word) { p.inOut(w, 8, "] => [") }),

		"wset":   data(LenArg, Enter, LevelStruct, func(p *printer, w *word) { p.sigsetArg(w, false) }),
		"rset":   data(LenArg, Exit, LevelStruct, func(p *printer, w *word) { p.sigsetArg(w, true) }),
		"fdset":  {print: (*printer).fdset, caps: fdsetCaps},
		"cpus":   data(LenArg, Enter, LevelStruct, func(p *printer, w *word) { p.cpus(w, false) }),
		"rcpus":  data(LenRet, Exit, LevelStruct, func(p *printer, w *word) { p.cpus(w, true) }),
		"pollfd": {print: (*printer).pollfds, caps: pollCaps},
		"events": {print: (*printer).epollEvents, caps: func(id arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, Unit: epollSize(id)}}
		}},
		"pages": data(LenPages, Exit, LevelData, func(p *printer, w *word) { p.byteList(w) }),
		"gids": {print: ptrArg, caps: func(id arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, Unit: 4}}
		}},
		// iovs: the other process's, or where ours was read already
		"iovs": num((*printer).ptr),
		"ioarg": {print: (*printer).ioctlArg, hidden: func(p *printer, _ *word) bool {
			return uint32(p.args[1]) == 0x5451 || uint32(p.args[1]) == 0x5450 // FIOCLEX, FIONCLEX
		}, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{
				{Arg: w.reg, At: Enter, What: IoctlSize, Level: LevelData},
				{Arg: w.reg, At: Exit, What: IoctlSize, Level: LevelData},
			}
		}},
		"openhow":  sized(24),
		"clonearg": sized(88),
		"oflags3": num(func(p *printer, v uint64) {
			if v == 0 {
				p.s("0")
				return
			}
			p.b = FlagTable("open").Append(p.b, v&0xffffffff)
		}),
		"membflag": num(func(p *printer, v uint64) {
			if v == 1 {
				p.s("MEMBARRIER_CMD_FLAG_CPU")
				return
			}
			p.x(v & 0xffffffff)
		}),
		"memcpu": {
			print:  func(p *printer, w *word) { p.d(int64(int32(p.args[w.reg]))) },
			hidden: func(p *printer, w *word) bool { return p.args[w.reg-1]&1 == 0 },
		},
		"pselmask": {print: ptrArg, caps: func(id arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Enter, What: Sigset6, Level: LevelData, Len: uint16(2 * id.PointerSize())}}
		}},
		"events32": {print: ptrArg, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: LenRet, Level: LevelData, Unit: 32}}
		}},
		"block": {print: ptrArg, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Enter, What: ArgBlock, Level: LevelPath, Len: 24}}
		}},
		"waits": {print: (*printer).waitStatus, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: Bytes, Level: LevelStruct, Len: 4}}
		}},
		"fds": {print: (*printer).fdPair, caps: func(_ arch.ID, w word) []Capture {
			return []Capture{{Arg: w.reg, At: Exit, What: Bytes, Level: LevelPath, Len: 8}}
		}},
	}
	for _, name := range []string{"rem", "rem64"} { // what is left of a sleep that was interrupted
		size := map[string]uint16{"rem": 0, "rem64": 16}[name]
		wordDefs[name] = &wordDef{
			print: func(p *printer, w *word) {
				b := p.buf(w.reg, true)
				n := 2 * p.word()
				if size != 0 {
					n = int(size)
				}
				if b == nil || len(b.Data) < n || p.args[w.reg] == 0 {
					p.ptr(p.args[w.reg])
					return
				}
				printTimespec(p, view{b.Data, n / 2})
			},
			caps: func(id arch.ID, w word) []Capture {
				n := size
				if n == 0 {
					n = uint16(2 * id.PointerSize())
				}
				return []Capture{{Arg: w.reg, At: Exit, What: Bytes, Level: LevelStruct, Len: n, Interrupted: true}}
			},
		}
	}
}

func (p *printer) ptrWord(w *word) { p.ptr(p.args[w.reg]) }

func riovCaps(id arch.ID, w word) []Capture {
	return []Capture{
		{Arg: w.reg, At: Enter, What: LenArg, Level: LevelData, N: w.n, Unit: uint16(2 * id.PointerSize())},
		{Arg: w.reg, At: Exit, What: Iovec, Level: LevelData, N: w.n},
	}
}

func fdsetCaps(_ arch.ID, w word) []Capture {
	return []Capture{
		{Arg: w.reg, At: Enter, What: LenBits, Level: LevelData},
		{Arg: w.reg, At: Exit, What: LenBits, Level: LevelData},
	}
}

func pollCaps(_ arch.ID, w word) []Capture {
	return []Capture{
		{Arg: w.reg, At: Enter, What: LenArg, Level: LevelData, N: w.n, Unit: 8},
		{Arg: w.reg, At: Exit, What: LenArg, Level: LevelData, N: w.n, Unit: 8},
	}
}

func epollSize(id arch.ID) uint16 {
	if id == arch.AArch64 {
		return 16
	}
	return 12 // packed on x86
}

// wide reads a 64-bit argument: two registers on i386.
func (p *printer) wide(w *word) uint64 {
	if p.id == arch.I386 {
		return p.args[w.reg] | p.args[(w.reg+1)%6]<<32
	}
	return p.args[w.reg]
}

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
	if name := FlagTable(table).Name(v); name != "" {
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
	p.b = FlagTable("clock").AppendValue(p.b, uint64(uint32(v)))
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
	if name := FlagTable("filetype").Name(v & 0xf000); name != "" {
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
		p.b = FlagTable(table).Append(p.b, rest)
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
		p.b = FlagTable("mfd").Append(p.b, v)
		return
	}
	p.b = FlagTable("mfd").Append(p.b, v&^(0x3f<<mapHugeShift))
	p.s("|")
	p.u(huge)
	p.s("<<MFD_HUGE_SHIFT")
}

func (p *printer) mempolicy(v uint64) {
	v &= 0xffffffff
	p.b = FlagTable("mpol").AppendValue(p.b, v&0x1fff)
	if rest := v &^ 0x1fff; rest != 0 {
		p.s("|")
		p.b = FlagTable("mpolmode").Append(p.b, rest)
	}
}

func (p *printer) statxFlags(v uint64) {
	v &= 0xffffffff
	p.b = FlagTable("atsync").AppendValue(p.b, v&0x6000)
	if v &^= 0x6000; v != 0 {
		p.s("|")
		p.b = FlagTable("at").Append(p.b, v)
	}
}

func (p *printer) ioctl(v uint64) {
	v &= 0xffffffff
	if name := FlagTable("ioctl").Name(v); name != "" {
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

// ioctlArg shows the few small results that are worth it, else the address.
func (p *printer) ioctlArg(w *word) {
	v := p.args[w.reg]
	out := p.buf(w.reg, true)
	switch uint32(p.args[1]) {
	case 0x541b, 0x5411, 0x540f, 0x5429, 0x80045430: // FIONREAD, TIOCOUTQ, TIOCGPGRP, TIOCGSID, TIOCGPTN
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
	case 0x5421, 0x5410: // FIONBIO, TIOCSPGRP
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
		if n := p.args[w.n]; v != 0 && (!out && n == 0 && w.n != 0 || out && p.done && p.fail == 0 && p.ret == 0 && w.def == wordDefs["rbuf"]) {
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
	data, more := b.Data, b.More
	limit := p.c.MaxString
	if limit <= 0 {
		limit = 32
	}
	if len(data) > limit {
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
