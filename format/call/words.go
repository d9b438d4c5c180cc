package call

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
)

// wordDefs are the kinds of argument that signatures are made of. "wbuf:N" and
// the like name the register with the length.
var wordDefs map[string]*wordDef

// Those that name a file.
var dirFDWord, pathWord, fdWord *wordDef

func init() {
	num := func(f func(p *printer, v uint64)) *wordDef {
		return &wordDef{print: func(p *printer, w *word) { f(p, p.args[w.reg]) }}
	}
	wide := func(f func(p *printer, v uint64)) *wordDef {
		return &wordDef{wide: true, print: func(p *printer, w *word) { f(p, p.wide(w)) }}
	}
	data := func(what captureForm, at captureStop, level Level, print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: at, What: what, Level: level, N: w.n}}
		}}
	}
	// retBuf is a buffer that gets Ret bytes; its size is the next register.
	retBuf := func(print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readLenRet, Level: LevelData, N: w.reg + 1}}
		}}
	}
	both := func(size uint16, print func(p *printer, w *word)) *wordDef {
		return &wordDef{print: print, caps: func(id arch.ID, w word) []capture {
			n := size
			if n == 0 {
				n = uint16(id.PointerSize())
			}
			return []capture{
				{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelData, Len: n},
				{Arg: w.reg, At: atExit, What: readBytes, Level: LevelData, Len: n},
			}
		}}
	}
	sized := func(most uint16) *wordDef { // a struct whose size is an argument; shown by a special
		return &wordDef{print: (*printer).ptrWord, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelStruct, N: w.n, Len: most}}
		}}
	}
	ptrArg := (*printer).ptrWord
	groups := func(size int, out bool) *wordDef {
		elem := field{kind: 'i', size: size}
		return &wordDef{
			print: func(p *printer, w *word) {
				w2 := *w
				w2.out = out
				p.groups(&w2, &elem)
			},
			caps: func(id arch.ID, w word) []capture {
				w.out = out
				return []capture{elem.capture(id, w)}
			},
		}
	}
	bytesIn := func(n uint16) func(arch.ID, word) []capture {
		return func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelStruct, Len: n}}
		}
	}
	caps := func(n uint16, out bool) *wordDef {
		return &wordDef{
			print: func(p *printer, w *word) {
				w2 := *w
				w2.out = out
				p.capabilities(&w2)
			},
			caps: func(_ arch.ID, w word) []capture {
				c := capture{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelStruct, Len: n}
				if out {
					c.At, c.Level = atExit, LevelData
				}
				return []capture{c}
			},
		}
	}
	unit := func(what captureForm, size uint16) *wordDef {
		return &wordDef{print: ptrArg, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: what, Level: LevelData, N: w.n, Unit: size}}
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
		"dirfd": num(func(p *printer, v uint64) { p.dirFD(int32(v)) }),
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
		"fanmask": wide(func(p *printer, v uint64) { p.b = flagTable("fanevent").Append(p.b, v) }),
		"fanclass": num(func(p *printer, v uint64) {
			p.b = flagTable("fanclass").AppendValue(p.b, v&0xc)
			if v &= 0xffffffff &^ 0xc; v != 0 {
				p.s("|")
				p.b = flagTable("faninit").Append(p.b, v)
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
			p.b = flagTable(p.sig.name).AppendValue(p.b, v)
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

		"path": data(readCString, atEnter, LevelPath, func(p *printer, w *word) { p.pathArg(w) }),
		"str":  data(readCString, atEnter, LevelPath, func(p *printer, w *word) { p.pathArg(w) }),
		"argv": data(readStringVec, atEnter, LevelPath, (*printer).argv),
		"envc": data(readVecCount, atEnter, LevelPath, (*printer).envc),

		"wbuf": data(readLenArg, atEnter, LevelData, func(p *printer, w *word) { p.bytesArg(w, false) }),
		"rbuf": retBuf(func(p *printer, w *word) { p.bytesArg(w, true) }),
		"obuf": data(readLenArg, atExit, LevelData, func(p *printer, w *word) { p.bytesArg(w, true) }),
		"xbuf": retBuf((*printer).hexBytes),
		// outputs of which only the address is shown: of N bytes, of as many as
		// register N says (times 4, in bits), of Ret (times 2 or 8)
		"outb": {print: ptrArg, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readBytes, Level: LevelData, Len: w.len}}
		}},
		"outarg":  data(readLenArg, atExit, LevelData, ptrArg),
		"outints": unit(readLenArg, 4),
		"probe": {print: ptrArg, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readLenArg, Level: LevelStruct, N: w.n, Unit: 8, More: 16}}
		}},
		"outbits": data(readLenBits, atExit, LevelData, ptrArg),
		"outret":  data(readLenRet, atExit, LevelData, ptrArg),
		"outret2": unit(readLenRet, 2),
		"outret8": unit(readLenRet, 8),
		"msgout": {print: func(p *printer, w *word) { p.message(w, true) }, caps: func(id arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readLenRet, Level: LevelData, N: w.reg + 1, Len: uint16(id.PointerSize())}}
		}},
		// cbuf: a path that the call writes (readlink, getcwd): Ret bytes.
		"cbuf":  retBuf((*printer).cbuf),
		"dents": retBuf((*printer).dents),
		"wiov":  data(readIovec, atEnter, LevelStruct, func(p *printer, w *word) { p.iovec(w.reg, false, p.args[w.reg], p.args[w.n], 0) }),
		"riov":  {print: func(p *printer, w *word) { p.iovec(w.reg, true, p.args[w.reg], p.args[w.n], p.ret) }, caps: riovCaps},
		"aiov":  {print: func(p *printer, w *word) { p.iovecs(w.reg, p.args[w.reg], p.args[w.n], false) }, caps: vectorCaps},
		// sent and received data, of netlink in words
		"sbuf": data(readLenArg, atEnter, LevelData, func(p *printer, w *word) { p.sockBuf(w, false) }),
		"gbuf": retBuf(func(p *printer, w *word) { p.sockBuf(w, true) }),
		"wmsg": data(readMsghdr, atEnter, LevelStruct, func(p *printer, w *word) { p.msghdr(w, false) }),
		"rmsg": {print: func(p *printer, w *word) { p.msghdr(w, true) }, caps: func(id arch.ID, w word) []capture {
			return []capture{
				{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelStruct, Len: uint16(msghdrSize(id))},
				{Arg: w.reg, At: atExit, What: readMsghdr, Level: LevelData},
			}
		}},
		"wmmsg": {print: (*printer).sentMessages, caps: func(id arch.ID, w word) []capture { // gets the length of each
			return []capture{
				{Arg: w.reg, At: atEnter, What: readMmsghdr, Level: LevelData, N: w.n},
				{Arg: w.reg, At: atExit, What: readLenRet, Level: LevelData, Unit: uint16(msghdrSize(id) + id.PointerSize())},
			}
		}},
		"rmmsg": {print: (*printer).mmsghdr, caps: func(id arch.ID, w word) []capture {
			return []capture{
				{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelStruct, N: w.n, Unit: uint16(msghdrSize(id) + id.PointerSize())},
				{Arg: w.reg, At: atExit, What: readMmsghdr, Level: LevelData, N: w.n},
			}
		}},
		"waddr":  data(readLenArg, atEnter, LevelStruct, func(p *printer, w *word) { p.sockaddrArg(w, false) }),
		"raddr":  data(readLenPtr, atExit, LevelData, func(p *printer, w *word) { p.sockaddrArg(w, true) }),
		"optbuf": data(readLenPtr, atExit, LevelData, func(p *printer, w *word) { p.optArg(w, true) }),
		"optval": data(readLenArg, atEnter, LevelData, func(p *printer, w *word) { p.optArg(w, false) }),
		"len":    both(4, func(p *printer, w *word) { p.inOut(w, 4, " => ") }),
		"off":    both(0, func(p *printer, w *word) { p.inOut(w, p.word(), "] => [") }),
		"loff":   both(8, func(p *printer, w *word) { p.inOut(w, 8, "] => [") }),

		"wset":   data(readLenArg, atEnter, LevelStruct, func(p *printer, w *word) { p.sigsetArg(w, false) }),
		"rset":   data(readLenArg, atExit, LevelStruct, func(p *printer, w *word) { p.sigsetArg(w, true) }),
		"fdset":  {print: (*printer).fdset, caps: fdsetCaps},
		"cpus":   data(readLenArg, atEnter, LevelStruct, func(p *printer, w *word) { p.cpus(w, false) }),
		"rcpus":  data(readLenRet, atExit, LevelStruct, func(p *printer, w *word) { p.cpus(w, true) }),
		"pollfd": {print: (*printer).pollfds, caps: pollCaps},
		"events": {print: (*printer).epollEvents, caps: func(id arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readLenRet, Level: LevelData, Unit: epollSize(id)}}
		}},
		"pages":     data(readLenPages, atExit, LevelData, func(p *printer, w *word) { p.byteList(w) }),
		"gids":      groups(4, true),
		"gids16":    groups(2, true),
		"setgids":   groups(4, false),
		"setgids16": groups(2, false),
		"incap":     caps(24, false),
		"outcap":    caps(24, true),
		"inattr":    {print: func(p *printer, w *word) { p.schedAttr(w) }, caps: bytesIn(schedSize1)},
		"outattr": data(readLenArg, atExit, LevelData, func(p *printer, w *word) {
			w2 := *w
			w2.out = true
			p.schedAttr(&w2)
		}),
		"perfattr": {print: (*printer).perfAttr, caps: bytesIn(perfAttrShown)},
		"ioprio":   num(func(p *printer, v uint64) { p.ioprio(v & 0xffffffff) }),
		// pidfd8: where a descriptor is stored, by a pointer 8 bytes into the struct
		"pidfd8": {print: ptrArg, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readPointee, Level: LevelPath, Ref: structRef{Off: 8, Wide: true, Elem: 4, Count: refToOne}}}
		}},
		"iocbs": data(readIocbs, atEnter, LevelStruct, (*printer).iocbs),
		"iocb":  {print: (*printer).iocbOne, caps: bytesIn(iocbSize)},
		// mqnew: attributes of a queue, there only if the flags make one.
		"mqnew": {
			print:  func(p *printer, w *word) { p.layoutArg(w, layouts()["mqnew"]) },
			hidden: func(p *printer, w *word) bool { return !p.creates(p.args[1]) },
			caps:   func(id arch.ID, w word) []capture { return []capture{layouts()["mqnew"].capture(id, w, condition{})} },
		},
		// msgbuf: a long and as many bytes as register N says; msgout what came.
		"msgbuf": {print: func(p *printer, w *word) { p.message(w, false) }, caps: func(id arch.ID, w word) []capture {
			long := uint16(id.PointerSize())
			return []capture{
				{Arg: w.reg, At: atEnter, What: readBytes, Level: LevelStruct, Len: long},
				{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelData, N: w.n, Off: long},
			}
		}},
		"ioarg": {print: (*printer).ioctlArg, hidden: func(p *printer, _ *word) bool {
			return uint32(p.args[1]) == 0x5451 || uint32(p.args[1]) == 0x5450 // FIOCLEX, FIONCLEX
		}, caps: func(_ arch.ID, w word) []capture {
			return []capture{
				{Arg: w.reg, At: atEnter, What: readIoctlSize, Level: LevelData},
				{Arg: w.reg, At: atExit, What: readIoctlSize, Level: LevelData},
			}
		}},
		"openhow":  sized(24),
		"clonearg": sized(88),
		"oflags3": num(func(p *printer, v uint64) {
			if v == 0 {
				p.s("0")
				return
			}
			start := len(p.b)
			p.b = flagTable("open").Append(p.b, v&0xffffffff)
			if p.b[start] == '0' { // none has a name
				p.s(" /* O_??? */")
			}
		}),
		"pselmask": {print: (*printer).sigPair, caps: func(id arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atEnter, What: readSigset6, Level: LevelData, Len: uint16(2 * id.PointerSize())}}
		}},
		"block": {print: ptrArg, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atEnter, What: readArgBlock, Level: LevelPath, Len: 24}}
		}},
		"waits": {print: (*printer).waitStatus, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readBytes, Level: LevelStruct, Len: 4}}
		}},
		"fds": {print: (*printer).fdPair, caps: func(_ arch.ID, w word) []capture {
			return []capture{{Arg: w.reg, At: atExit, What: readBytes, Level: LevelPath, Len: 8}}
		}},
	}
	dirFDWord, pathWord, fdWord = wordDefs["dirfd"], wordDefs["path"], wordDefs["fd"]
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
			caps: func(id arch.ID, w word) []capture {
				n := size
				if n == 0 {
					n = uint16(2 * id.PointerSize())
				}
				return []capture{{Arg: w.reg, At: atExit, What: readBytes, Level: LevelStruct, Len: n, Interrupted: true}}
			},
		}
	}
}

func (p *printer) ptrWord(w *word) { p.ptr(p.args[w.reg]) }

func riovCaps(id arch.ID, w word) []capture {
	return []capture{
		{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelData, N: w.n, Unit: uint16(2 * id.PointerSize())},
		{Arg: w.reg, At: atExit, What: readIovec, Level: LevelData, N: w.n},
	}
}

func vectorCaps(id arch.ID, w word) []capture {
	return []capture{{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelStruct, N: w.n, Unit: uint16(2 * id.PointerSize())}}
}

// groups shows a list of groups: as many as the first argument says, or the result.
func (p *printer) groups(w *word, elem *field) {
	const most = 65536
	n := p.args[0] & 0xffffffff
	if w.out {
		n = p.ret
	}
	if n > most {
		p.ptr(p.args[w.reg])
		return
	}
	p.arrayArg(w, elem, n)
}

// message shows a message of msgsnd or msgrcv.
func (p *printer) message(w *word, out bool) {
	a, long := p.args[w.reg], p.word()
	b := p.bufAt(w.reg, out, a)
	if a == 0 || b == nil || len(b.Data) < long || out && (p.fail != 0 || !p.done) {
		p.ptr(a)
		return
	}
	text, more := b.Data[long:], b.More
	if !out {
		if t := p.bufAt(w.reg, false, a+uint64(long)); t != nil {
			text, more = t.Data, t.More
		}
	}
	p.s("{mtype=")
	p.d(view{b.Data, long}.sword(0))
	p.s(", mtext=")
	p.quoted(text, more)
	p.s("}")
}

// sockBuf shows data of a socket.
func (p *printer) sockBuf(w *word, out bool) {
	b := p.buf(w.reg, out)
	proto, ok := p.netlinkOf(int32(p.args[0]))
	if !ok || b == nil {
		p.bytesArg(w, out)
		return
	}
	total := p.args[w.reg+1]
	if out {
		total = min(total, p.ret)
	}
	p.netlink(b.Data, total, proto)
}

// sigPair shows pselect6's and io_pgetevents's signal mask with its size.
func (p *printer) sigPair(w *word) {
	b := p.buf(w.reg, false)
	if b == nil || len(b.Data) < 2*p.word() {
		p.ptr(p.args[w.reg])
		return
	}
	v := view{b.Data, p.word()}
	p.s("{sigmask=")
	if set := p.bufAt(w.reg, false, v.word(0)); set != nil && set != b && len(set.Data) >= 8 {
		p.sigset(view{set.Data, 8}.u64(0), 64)
	} else {
		p.ptr(v.word(0))
	}
	p.s(", sigsetsize=")
	p.u(v.word(p.word()))
	p.s("}")
}

func fdsetCaps(_ arch.ID, w word) []capture {
	return []capture{
		{Arg: w.reg, At: atEnter, What: readLenBits, Level: LevelData},
		{Arg: w.reg, At: atExit, What: readLenBits, Level: LevelData},
	}
}

func pollCaps(_ arch.ID, w word) []capture {
	return []capture{
		{Arg: w.reg, At: atEnter, What: readLenArg, Level: LevelData, N: w.n, Unit: 8},
		{Arg: w.reg, At: atExit, What: readLenArg, Level: LevelData, N: w.n, Unit: 8},
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
