package call

// This file shows calls of those who run a machine: mounts, quotas, privileges,
// scheduling.

// Flags of mount that say what its other arguments are for.
const (
	msRemount  = 0x20
	msMoves    = 0x1000 | 0x2000 | 0x20000 | 0x40000 | 0x80000 | 0x100000 // bind, move, propagation
	msMagic    = 0xc0ed0000
	msMagicTop = 0xffff0000
)

func (p *printer) mount() {
	flags := p.args[3]
	magic := flags&msMagicTop == msMagic
	if magic {
		flags &^= msMagicTop
	}
	text := func(i int, ignored bool) {
		p.comma(i)
		if w := &p.sig.words[i]; ignored {
			p.ptr(p.args[w.reg])
		} else {
			w.def.print(p, w)
		}
	}
	ignored := flags&msRemount == 0 && flags&msMoves != 0
	text(0, false)
	text(1, false)
	text(2, ignored || flags&msRemount != 0)
	p.s(", ")
	if magic {
		p.s("MS_MGC_VAL")
		if flags != 0 {
			p.s("|")
		}
	}
	if flags != 0 || !magic {
		p.b = flagTable("mount").Append(p.b, flags)
	}
	text(4, ignored)
}

// Commands of fsconfig.
const (
	fsString    = 1
	fsBinary    = 2
	fsPath      = 3
	fsPathEmpty = 4
	fsFD        = 5
)

func (p *printer) fsconfig() {
	p.show(0, 2)
	cmd, aux := uint32(p.args[1]), int32(p.args[4])
	p.s(", ")
	if cmd <= fsFD {
		p.shortText(2)
	} else {
		p.ptr(p.args[2])
	}
	p.s(", ")
	switch b := p.buf(3, false); {
	case cmd == fsString:
		p.shortText(3)
	case cmd == fsPath || cmd == fsPathEmpty:
		p.cstr(3, false)
	case cmd == fsBinary && aux >= 0 && aux <= 1<<20 && b != nil && p.args[3] != 0:
		p.hexText(b.Data, b.More)
	default:
		p.ptr(p.args[3])
	}
	p.s(", ")
	switch cmd {
	case fsPath, fsPathEmpty:
		p.dirFD(aux)
	case fsFD:
		p.fd(aux)
	default:
		p.d(int64(aux))
	}
}

// shortText shows a string that is cut as data is.
func (p *printer) shortText(arg uint8) {
	b := p.buf(arg, false)
	if b == nil || p.args[arg] == 0 {
		p.ptr(p.args[arg])
		return
	}
	p.quoted(b.Data, b.More)
}

// Commands of quotactl.
const (
	quotaSync, quotaOn, quotaOff, quotaFormat = 0x800001, 0x800002, 0x800003, 0x800004
	quotaGetInfo, quotaSetInfo                = 0x800005, 0x800006
	quotaGet, quotaSet, quotaNext             = 0x800007, 0x800008, 0x800009
	xquotaOn, xquotaOff, xquotaGet, xquotaSet = 0x5801, 0x5802, 0x5803, 0x5804
	xquotaStat, xquotaRemove, xquotaSync      = 0x5805, 0x5806, 0x5807
	xquotaStatV, xquotaNext                   = 0x5808, 0x5809
)

// quotactl shows both forms: the command is the first or the second argument.
func (p *printer) quotactl() {
	reg := uint8(0)
	if p.sig.name == "quotactl_fd" {
		reg = 1
		p.show(0, 1)
		p.s(", ")
	}
	cmd, id := uint32(p.args[reg])>>8, p.args[2]
	p.s("QCMD(")
	p.b = flagTable("quotacmd").AppendValue(p.b, uint64(cmd))
	p.s(", ")
	p.b = flagTable("quotatype").AppendValue(p.b, p.args[reg]&0xff)
	p.s(")")
	if reg == 0 {
		p.s(", ")
		p.cstr(1, false)
	}
	switch cmd {
	case quotaOff, quotaSync, xquotaSync:
	case quotaOn:
		p.s(", ")
		p.b = flagTable("quotafmt").AppendValue(p.b, id&0xffffffff)
		p.s(", ")
		p.cstr(3, false)
	case quotaFormat:
		p.s(", ")
		p.indirect(true, "quotafmt", true)
	case xquotaOn, xquotaOff:
		p.s(", ")
		p.indirect(false, "xfsquota", false)
	case xquotaRemove:
		p.s(", ")
		p.indirect(false, "xfsdq", false)
	case quotaGetInfo, quotaSetInfo, xquotaStat, xquotaStatV:
		p.s(", ")
		p.quotaData(cmd)
	default:
		p.s(", ")
		p.uid(id)
		p.s(", ")
		p.quotaData(cmd)
	}
}

// quotaData shows the struct of a quota command.
func (p *printer) quotaData(cmd uint32) {
	w := word{reg: 3}
	l := variants()["quotain"].of[uint64(cmd)].lay
	if l == nil {
		l, w.out = variants()["quotaout"].of[uint64(cmd)].lay, true
	}
	if l == nil {
		p.ptr(p.args[3])
		return
	}
	p.layoutArg(&w, l)
}

// indirect shows the number that the fourth argument points at, as bits or a value.
func (p *printer) indirect(out bool, table string, value bool) {
	b := p.buf(3, out)
	if b == nil || len(b.Data) < 4 || p.args[3] == 0 || out && p.fail != 0 {
		p.ptr(p.args[3])
		return
	}
	n := uint64(view{b.Data, 4}.u32(0))
	p.s("[")
	if value {
		p.b = flagTable(table).AppendValue(p.b, n)
	} else {
		p.b = flagTable(table).Append(p.b, n)
	}
	p.s("]")
}

// capabilities shows the sets of capget and capset. The header says how long they
// are.
func (p *printer) capabilities(w *word) {
	v := p.args[w.reg]
	b, head := p.buf(w.reg, w.out), p.buf(0, false)
	if v == 0 || b == nil || head == nil || w.out && p.fail != 0 {
		p.ptr(v)
		return
	}
	n := 1
	switch (view{head.Data, 4}.u32(0)) {
	case 0x20071026, 0x20080522:
		n = 2
	}
	if len(b.Data) < 12*n {
		p.ptr(v)
		return
	}
	d := view{b.Data, 4}
	for i, name := range [...]string{"{effective=", ", permitted=", ", inheritable="} {
		p.s(name)
		set := uint64(d.u32(4 * i))
		if n == 2 {
			set |= uint64(d.u32(12+4*i)) << 32
		}
		p.capSet(set)
	}
	p.s("}")
}

func (p *printer) capSet(set uint64) {
	if set == 0 {
		p.s("0")
		return
	}
	start := len(p.b)
	for half := range 2 {
		rest := uint32(set >> (32 * half))
		for i := range 32 {
			name := flagTable("cap").Name(uint64(32*half + i))
			if rest>>i&1 == 0 || name == "" {
				continue
			}
			rest &^= 1 << i
			if len(p.b) > start {
				p.s("|")
			}
			p.s("1<<")
			p.s(name)
		}
		if rest != 0 {
			if len(p.b) > start {
				p.s("|")
			}
			p.x(uint64(rest))
		}
	}
}

// Sizes of struct sched_attr.
const schedSize0, schedSize1 = 48, 56

// schedAttr shows what sched_setattr is given or sched_getattr gave.
func (p *printer) schedAttr(w *word) {
	v := p.args[w.reg]
	b := p.buf(w.reg, w.out)
	if v == 0 || b == nil || len(b.Data) < 4 || w.out && (p.fail != 0 || p.args[2] == 0) {
		p.ptr(v)
		return
	}
	size := int(view{b.Data, 4}.u32(0))
	l := layouts()["schedget"]
	if !w.out {
		l = layouts()["schedset"]
		if size == 0 {
			size = schedSize0
		}
	}
	shown := min(size, schedSize1)
	switch {
	case shown < schedSize0:
		shown = 4
	case len(b.Data) < shown:
		p.ptr(v)
		return
	}
	p.s("{")
	p.layoutFields(l, b.Data[:shown], w.reg, w.out, 0)
	if size > schedSize1 {
		p.s(", ...")
	}
	p.s("}")
}

// noteName makes the name of the result in a table its remark.
func (p *printer) noteName(table string) {
	if name := flagTable(table).Name(p.ret); p.done && p.fail == 0 && name != "" {
		p.note = []byte(name)
	}
}

func (p *printer) membarrier() {
	p.show(0, 2)
	if p.args[1]&1 != 0 {
		p.s(", ")
		p.d(int64(int32(p.args[2])))
	}
	if p.args[0]&0xffffffff == 0 && p.ret != 0 && p.fail == 0 && p.done {
		p.hex = true
		p.remark(func() { p.b = flagTable("membarrier").Append(p.b, p.ret) })
	}
}
