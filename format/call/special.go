package call

import "memtrace/format/arch"

// specials show calls whose arguments depend on one another.
var specials map[string]func(p *printer)

func init() {
	specials = map[string]func(p *printer){
		"clone": (*printer).clone, "clone3": (*printer).clone3,
		"fcntl": (*printer).fcntl, "futex": (*printer).futex,
		"prctl": (*printer).prctl, "arch_prctl": (*printer).archPrctl,
		"openat2": (*printer).openat2, "poll": (*printer).poll, "ppoll": (*printer).ppoll,
		"select": (*printer).selectCall, "pselect": (*printer).pselect,
		"sigtimedwait": (*printer).sigtimedwait,
		"ptrace":       (*printer).ptrace,
		"personality":  (*printer).personality,
		"sigreturn":    (*printer).sigreturn,
		"mount":        (*printer).mount, "fsconfig": (*printer).fsconfig, "quotactl": (*printer).quotactl,
		"iouringsetup": (*printer).uringSetup, "iouringregister": (*printer).uringRegister,
		"membarrier": (*printer).membarrier, "recvmmsg": (*printer).recvmmsg,
		"getscheduler": func(p *printer) { p.show(0, 1); p.noteName("sched") },
		"ioprioget": func(p *printer) {
			p.show(0, 2)
			p.remark(func() { p.ioprio(p.ret) })
		},
		"restart": func(p *printer) { p.s("<... resuming interrupted call ...>") },
	}
}

// show writes the words of the signature from the i-th to before the j-th.
func (p *printer) show(i, j int) {
	for ; i < j && i < len(p.sig.words); i++ {
		w := &p.sig.words[i]
		p.comma(i)
		w.def.print(p, w)
	}
}

const (
	clonePidfd        = 0x1000
	cloneSetTLS       = 0x80000
	cloneParentSettid = 0x100000
	cloneChildSettid  = 0x1000000
	cloneChildClear   = 0x200000
)

func (p *printer) clone() {
	flags, stack, ptid := p.args[0], p.args[1], p.args[2]
	ctid, tls := p.args[3], p.args[4]
	if p.id != arch.X86_64 {
		ctid, tls = tls, ctid
	}
	p.s("child_stack=")
	p.ptr(stack)
	p.s(", flags=")
	sig := flags & 0xff
	if flags &^= 0xff; flags != 0 {
		p.b = flagTable("clone").Append(p.b, flags&0xffffffff)
		if sig != 0 {
			p.s("|")
		}
	}
	if sig != 0 || flags == 0 {
		p.s(signalName(int32(sig)))
	}
	if flags&(cloneParentSettid|clonePidfd) != 0 {
		p.s(", parent_tid=")
		p.tid(2, ptid)
	}
	if flags&cloneSetTLS != 0 {
		p.s(", tls=")
		p.ptr(tls)
	}
	if flags&(cloneChildSettid|cloneChildClear) != 0 {
		p.s(", child_tidptr=")
		p.ptr(ctid)
	}
}

// tid shows what a call stored at a pointer to a tid.
func (p *printer) tid(arg uint8, v uint64) {
	if b := p.buf(arg, true); b != nil && len(b.Data) >= 4 && v != 0 {
		p.listed(int64(int32(view{b.Data, 4}.u32(0))))
		return
	}
	p.ptr(v)
}

func (p *printer) clone3() {
	p.show(0, 1)
	if b := p.buf(0, false); b != nil && len(b.Data) >= 64 && p.args[0] != 0 && p.done && p.fail == 0 {
		v, start := view{b.Data, 8}, len(p.b)
		add := func(name string) {
			if len(p.b) == start {
				p.s(" => {")
			} else {
				p.s(", ")
			}
			p.s(name)
		}
		if fd := p.bufAt(0, true, v.u64(8)); v.u64(0)&clonePidfd != 0 && fd != nil && len(fd.Data) >= 4 {
			add("pidfd=[")
			p.newFD(int32(view{fd.Data, 4}.u32(0)))
			p.s("]")
		}
		if v.u64(0)&cloneParentSettid != 0 {
			add("parent_tid=") // the kernel stores what it returns
			p.listed(p.signed(p.ret))
		}
		if len(p.b) > start {
			p.s("}")
		}
	}
	p.s(", ")
	p.u(p.args[1])
}

// fcntl commands.
const (
	fDupfd, fGetfd, fSetfd, fGetfl, fSetfl = 0, 1, 2, 3, 4
	fGetlk, fSetlkw                        = 5, 7
	fSetown, fGetown, fSetsig, fGetsig     = 8, 9, 10, 11
	fGetlk64, fSetlkw64                    = 12, 14
	fOfdGetlk, fOfdSetlkw                  = 36, 38
	fSetlease, fGetlease                   = 1024, 1025
	fSetownEx, fGetownEx                   = 15, 16
	fNotify                                = 1026
	fDupfdCloexec                          = 1030
	fSetpipe, fGetpipe                     = 1031, 1032
	fAddSeals, fGetSeals                   = 1033, 1034
)

func (p *printer) fcntl() {
	cmd, v := uint32(p.args[1]), p.args[2]
	p.fd(int32(p.args[0]))
	p.s(", ")
	p.b = flagTable("fcntl").AppendValue(p.b, uint64(cmd))
	switch cmd {
	case fGetfd:
		p.flagResult(func() { p.b = flagTable("fdflags").Append(p.b, p.ret) })
		return
	case fGetfl:
		p.hex = true
		p.remark(func() {
			p.s("flags ")
			p.openFlags(p.ret)
		})
		return
	case fGetSeals:
		p.hex = true
		p.remark(func() {
			p.s("seals ")
			p.b = flagTable("seals").Append(p.b, p.ret)
		})
		return
	case fGetsig:
		if p.ret != 0 {
			p.remark(func() { p.s(signalName(int32(p.ret))) })
		}
		return
	case fGetlease:
		p.hex = p.fail == 0
		p.remark(func() { p.b = flagTable("locktype").AppendValue(p.b, p.ret) })
		return
	case fGetown, fGetpipe:
		return
	}
	p.s(", ")
	switch cmd {
	case fDupfd, fDupfdCloexec, fSetown, fSetpipe:
		p.d(int64(int32(v)))
	case fSetfd:
		p.b = flagTable("fdflags").Append(p.b, v&0xffffffff)
	case fSetfl:
		p.openFlags(v)
	case fSetsig:
		p.s(signalName(int32(v)))
	case fSetlease:
		p.b = flagTable("locktype").AppendValue(p.b, v&0xffffffff)
	case fAddSeals:
		p.b = flagTable("seals").Append(p.b, v&0xffffffff)
	case fGetlk, 6, fSetlkw, fGetlk64, 13, fSetlkw64, fOfdGetlk, 37, fOfdSetlkw:
		p.lock(cmd, v)
	case fSetownEx, fGetownEx:
		p.layoutArg(&word{reg: 2, out: cmd == fGetownEx}, layouts()["fowner"])
	case fNotify:
		p.b = flagTable("notify").Append(p.b, v)
	default:
		p.x(v)
	}
	if cmd == fDupfd || cmd == fDupfdCloexec {
		s := *p.sig // the result is a descriptor
		s.ret = retFD
		p.sig = &s
	}
}

func (p *printer) lock(cmd uint32, v uint64) {
	get := cmd == fGetlk || cmd == fGetlk64 || cmd == fOfdGetlk
	b := p.buf(2, get)
	long := p.word()
	if p.id == arch.I386 && (cmd >= fGetlk64) {
		long = 8
	}
	size := 8 + 2*long
	if long == 8 && p.id != arch.I386 {
		size = 28
	}
	if v == 0 || b == nil || len(b.Data) < size || get && p.fail != 0 {
		p.ptr(v)
		return
	}
	d := view{b.Data, long}
	printFlock(p, d)
	if get {
		start := 4
		if long == 8 && p.id != arch.I386 {
			start = 8
		}
		p.b = p.b[:len(p.b)-1]
		p.s(", l_pid=")
		p.d(int64(int32(d.u32(start + 2*long))))
		p.s("}")
	}
}

// remark makes what f writes the note after the result, if the call succeeded.
func (p *printer) remark(f func()) {
	if p.fail != 0 || !p.done {
		return
	}
	start := len(p.b)
	f()
	p.note = append([]byte(nil), p.b[start:]...)
	p.b = p.b[:start]
}

func (p *printer) flagResult(f func()) {
	if p.fail != 0 || p.ret == 0 {
		return
	}
	p.hex = true
	p.remark(func() {
		p.s("flags ")
		f()
	})
}

// futex operations.
const (
	futexWait, futexWake, futexFD, futexRequeue, futexCmpRequeue, futexWakeOp = 0, 1, 2, 3, 4, 5
	futexLockPI, futexUnlockPI, futexTrylockPI                                = 6, 7, 8
	futexWaitBitset, futexWakeBitset, futexWaitRequeuePI, futexCmpRequeuePI   = 9, 10, 11, 12
	futexLockPI2                                                              = 13
	futexPrivate, futexRealtime                                               = 0x80, 0x100
)

func (p *printer) futex() {
	op := uint32(p.args[1])
	cmd := op &^ (futexPrivate | futexRealtime)
	val, val2, addr2, val3 := uint64(uint32(p.args[2])), uint64(uint32(p.args[3])), p.args[4], uint64(uint32(p.args[5]))
	p.ptr(p.args[0])
	p.s(", ")
	name := flagTable("futex").Name(uint64(cmd))
	if name == "" {
		p.x(uint64(op))
		p.s(" /* FUTEX_??? */")
	} else {
		p.s(name)
		if op&futexPrivate != 0 {
			p.s("_PRIVATE")
		}
		if op&futexRealtime != 0 {
			p.s("|FUTEX_CLOCK_REALTIME")
		}
	}
	timeout := func() {
		p.s(", ")
		w := word{reg: 3}
		s := structs["timespec"]
		if p.sig.name == "futex_time64" {
			s = structs["timespec64"]
		}
		p.structArg(&w, s)
	}
	number := func(v uint64) {
		p.s(", ")
		p.u(v)
	}
	hex := func(v uint64) {
		p.s(", ")
		if v == 0xffffffff {
			p.s("FUTEX_BITSET_MATCH_ANY")
			return
		}
		p.x(v)
	}
	second := func() {
		p.s(", ")
		p.ptr(addr2)
	}
	switch cmd {
	case futexWait:
		number(val)
		timeout()
	case futexLockPI, futexLockPI2:
		timeout()
	case futexWaitBitset:
		number(val)
		timeout()
		hex(val3)
	case futexWakeBitset:
		number(val)
		hex(val3)
	case futexWake, futexFD:
		number(val)
	case futexUnlockPI, futexTrylockPI:
	case futexRequeue:
		number(val)
		number(val2)
		second()
	case futexCmpRequeue, futexCmpRequeuePI:
		number(val)
		number(val2)
		second()
		number(val3)
	case futexWakeOp:
		number(val)
		number(val2)
		second()
		p.s(", ")
		p.wakeOp(val3)
	case futexWaitRequeuePI:
		number(val)
		timeout()
		second()
	default:
		number(val)
		timeout()
		second()
		p.s(", ")
		p.x(val3)
	}
}

func (p *printer) wakeOp(v uint64) {
	op := v >> 28
	if op&8 != 0 {
		p.s("FUTEX_OP_OPARG_SHIFT<<28|")
	}
	shifted := func(table string, v uint64, shift string) {
		if name := flagTable(table).Name(v); name != "" {
			p.s(name)
			p.s(shift)
			return
		}
		p.x(v)
		p.s(shift)
		p.s(" /* ")
		p.s(flagTable(table).unknown)
		p.s(" */")
	}
	shifted("futexop", op&7, "<<28")
	p.s("|")
	p.x(v >> 12 & 0xfff)
	p.s("<<12|")
	shifted("futexcmp", v>>24&0xf, "<<24")
	p.s("|")
	p.x(v & 0xfff)
}

func (p *printer) archPrctl() {
	op := p.args[0] & 0xffffffff
	p.b = flagTable("arch").AppendValue(p.b, op)
	switch op {
	case 0x1011:
		return
	case 0x1003, 0x1004:
		p.s(", ")
		if b := p.buf(1, true); b != nil && len(b.Data) >= 8 && p.fail == 0 {
			p.s("[")
			p.x(view{b.Data, 8}.u64(0))
			p.s("]")
			return
		}
		p.x(p.args[1])
	default:
		p.s(", ")
		p.x(p.args[1])
	}
}

func (p *printer) openat2() {
	p.show(0, 2)
	p.s(", ")
	b := p.buf(2, false)
	if b == nil || len(b.Data) < 24 || p.args[2] == 0 {
		p.ptr(p.args[2])
	} else {
		v := view{b.Data, 8}
		flags := v.u64(0)
		p.s("{flags=")
		p.openFlags(flags)
		if mode := v.u64(8); mode != 0 || p.creates(flags) {
			p.s(", mode=")
			p.octal(mode)
		}
		p.s(", resolve=")
		p.b = flagTable("openhow").Append(p.b, v.u64(16))
		p.s("}")
	}
	p.s(", ")
	p.u(p.args[3])
}

func (p *printer) poll() {
	p.show(0, 3)
	p.pollResult(false)
}

func (p *printer) ppoll() {
	p.show(0, 5)
	p.pollResult(true)
}

func (p *printer) pollResult(left bool) {
	if !p.done || p.fail != 0 {
		return
	}
	if p.ret == 0 {
		p.note = []byte("Timeout")
		return
	}
	out := p.buf(0, true)
	if out == nil {
		return
	}
	p.remark(func() {
		p.s("[")
		n := 0
		for i := 0; i < len(out.Data)/8; i++ {
			f := view{out.Data[8*i:], 4}
			if f.u16(6) == 0 || int32(f.u32(0)) < 0 {
				continue
			}
			p.comma(n)
			n++
			if n > 32 {
				p.s("...")
				break
			}
			p.s("{fd=")
			p.fd(int32(f.u32(0)))
			p.s(", revents=")
			p.b = flagTable("poll").Append(p.b, uint64(f.u16(6)))
			p.s("}")
		}
		p.s("]")
		if b := p.buf(2, true); left && b != nil && p.args[2] != 0 {
			p.s(", left ")
			p.timespec(b, p.sig.name == "ppoll_time64")
		}
	})
}

// timespec writes a timespec of the call's ABI, nothing if it is cut.
func (p *printer) timespec(b *Buf, is64 bool) {
	long := p.word()
	if is64 {
		long = 8
	}
	if len(b.Data) >= 2*long {
		printTimespec(p, view{b.Data, long})
	}
}

func (p *printer) recvmmsg() {
	p.show(0, 5)
	switch b := p.buf(4, true); {
	case !p.done || p.fail != 0:
	case p.ret == 0:
		p.note = []byte("Timeout")
	case b != nil && p.args[4] != 0:
		p.remark(func() {
			p.s("left ")
			p.timespec(b, p.sig.name == "recvmmsg_time64")
		})
	}
}

func (p *printer) selectCall() {
	p.show(0, 5)
	p.selectResult(func(b *Buf) {
		if len(b.Data) >= 2*p.word() {
			printTimeval(p, view{b.Data, p.word()})
		}
	})
}

func (p *printer) pselect() {
	p.show(0, 6)
	p.selectResult(func(b *Buf) { p.timespec(b, p.sig.name == "pselect6_time64") })
}

// selectResult notes which descriptors are ready and what is left of the time.
func (p *printer) selectResult(left func(b *Buf)) {
	if !p.done || p.fail != 0 {
		return
	}
	if p.ret == 0 {
		p.note = []byte("Timeout")
		return
	}
	p.remark(func() {
		start := len(p.b)
		sep := func() {
			if len(p.b) > start {
				p.s(", ")
			}
		}
		for i, name := range [...]string{"in ", "out ", "except "} {
			if b := p.buf(uint8(i+1), true); b != nil && p.args[i+1] != 0 && anyBit(b.Data, selectMax(p.args[0])) {
				sep()
				p.s(name)
				p.bitList(b.Data, selectMax(p.args[0]), p.d32)
			}
		}
		if b := p.buf(4, true); b != nil && p.args[4] != 0 {
			sep()
			p.s("left ")
			left(b)
		}
	})
}

func anyBit(set []byte, n int) bool {
	for i := 0; i < n && i/8 < len(set); i++ {
		if set[i/8]>>(i%8)&1 != 0 {
			return true
		}
	}
	return false
}

func (p *printer) sigreturn() {
	b, high := p.buf(0, false), p.buf(1, false)
	if b == nil || len(b.Data) < 4 {
		return
	}
	set := view{b.Data, 8}.u64(0)
	if len(b.Data) < 8 {
		set = uint64(view{b.Data, 4}.u32(0))
		if high != nil {
			set |= uint64(view{high.Data, 4}.u32(0)) << 32
		}
	}
	p.s("{mask=")
	p.sigset(set, 64)
	p.s("}")
}

func (p *printer) sigtimedwait() {
	p.show(0, 4)
	if p.done && p.fail == 0 {
		p.remark(func() { p.s(signalName(int32(p.ret))) })
	}
}

// Options of prctl that take more than numbers, or fewer arguments than five.
const (
	prSetVMA    = 0x53564d41
	prSetName   = 15
	prGetName   = 16
	prSetMM     = 35
	prAmbient   = 47
	prSetPtr    = 0x59616d61
	prSeccomp   = 22
	prPdeathsig = 1
)

func (p *printer) prctl() {
	op := p.args[0] & 0xffffffff
	p.b = flagTable("prctl").AppendValue(p.b, op)
	rest := func(from int) {
		for i := from; i < 5; i++ {
			p.s(", ")
			p.x(p.args[i])
		}
	}
	switch op {
	case 3, 7, 21, 27, 30, 31, 32, 34: // GET_DUMPABLE, GET_KEEPCAPS, GET_SECCOMP, ...
	case prPdeathsig:
		p.s(", ")
		p.s(signalName(int32(p.args[1])))
	case 2, 5, 9, 11, 19, 25, 37: // a pointer to an int
		p.s(", ")
		p.tid(1, p.args[1])
	case 4:
		p.s(", ")
		p.b = flagTable("dumpable").AppendValue(p.b, p.args[1])
	case 6, 8, 10, 12, 13, 14, 20, 26, 28, 29, 33, 36:
		p.s(", ")
		p.u(p.args[1])
	case prSetName:
		p.s(", ")
		p.cstr(1, false)
	case prGetName:
		p.s(", ")
		p.cstr(1, true)
	case prSeccomp:
		p.s(", ")
		p.b = flagTable("seccompmode").AppendValue(p.b, p.args[1])
		if p.args[1] == 2 {
			p.s(", ")
			p.ptr(p.args[2])
		}
	case 23, 24:
		p.s(", ")
		p.b = flagTable("cap").AppendValue(p.b, p.args[1])
	case prSetMM:
		p.s(", ")
		p.b = flagTable("prmm").AppendValue(p.b, p.args[1])
		rest(2)
	case prAmbient:
		p.s(", ")
		p.b = flagTable("prambient").AppendValue(p.b, p.args[1])
		p.s(", ")
		if p.args[1] >= 1 && p.args[1] <= 3 {
			p.b = flagTable("cap").AppendValue(p.b, p.args[2])
		} else {
			p.x(p.args[2])
		}
		rest(3)
	case 38, 41: // SET_NO_NEW_PRIVS, SET_THP_DISABLE
		p.s(", ")
		p.u(p.args[1])
		rest(2)
	case prSetVMA:
		p.s(", ")
		p.b = flagTable("prvma").AppendValue(p.b, p.args[1])
		p.s(", ")
		p.x(p.args[2])
		p.s(", ")
		p.u(p.args[3])
		p.s(", ")
		p.cstr(4, false)
	case prSetPtr:
		p.s(", ")
		if p.signed(p.args[1]) == -1 {
			p.s("PR_SET_PTRACER_ANY")
		} else {
			p.u(p.args[1])
		}
	default:
		rest(1)
	}
}

func (p *printer) cstr(arg uint8, out bool) {
	b := p.buf(arg, out)
	if p.args[arg] == 0 || b == nil {
		p.ptr(p.args[arg])
		return
	}
	p.path(b)
}

func (p *printer) ptrace() {
	op := uint32(p.args[0])
	p.b = flagTable("ptrace").AppendValue(p.b, uint64(op))
	if op == 0 { // PTRACE_TRACEME
		return
	}
	p.s(", ")
	p.d(int64(int32(p.args[1])))
	switch op {
	case 8, 16, 0x4207, 0x4208: // KILL, ATTACH, INTERRUPT, LISTEN
		return
	}
	p.s(", ")
	p.ptr(p.args[2])
	p.s(", ")
	switch op {
	case 7, 9, 17, 24: // CONT, SINGLESTEP, DETACH, SYSCALL
		p.s(signalName(int32(p.args[3])))
	case 0x4200, 0x4206: // SETOPTIONS, SEIZE
		p.b = flagTable("ptraceopt").Append(p.b, p.args[3]&0xffffffff)
	default:
		p.ptr(p.args[3])
	}
}

func (p *printer) personality() {
	show := func(v uint64) {
		p.b = flagTable("pertype").AppendValue(p.b, v&0xff)
		if v &^= 0xff; v != 0 {
			p.s("|")
			p.b = flagTable("perflags").Append(p.b, v)
		}
	}
	v := p.args[0] & 0xffffffff
	if v == 0xffffffff {
		p.x(v)
	} else {
		show(v)
	}
	p.remark(func() { show(p.ret & 0xffffffff) })
}
