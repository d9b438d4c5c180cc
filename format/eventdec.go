package format

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

type kindDec struct {
	kindKey
	argc int
	cols [kindCols]column
	last *slotDec // of the last row
}

// column reads the numbers of a column. It is a cursor that does not write
// pointers, for speed.
type column struct {
	b   []byte
	at  int
	bad bool
}

func (c *column) u() uint64 {
	if at := c.at; at < len(c.b) {
		if v := c.b[at]; v < 0x80 {
			c.at = at + 1
			return uint64(v)
		}
	}
	return c.long()
}

func (c *column) long() uint64 {
	v, n := binary.Uvarint(c.b[min(c.at, len(c.b)):])
	if n <= 0 {
		c.at, c.bad = len(c.b), true
		return 0
	}
	c.at += n
	return v
}

func (c *column) zz() int64 {
	v := c.u()
	return int64(v>>1) ^ -int64(v&1)
}

type slotDec struct {
	kind, shape int
	tid         uint32
	flags       uint8
	regs        int
	used        bool
	args        [MaxArgs]uint64
	ret         int64
	ip, sp      uint64
	addrs       []uint64
	prev        []uint64 // last registers of the thread, shared among its slots
}

// eventDec reads an EVENT chunk row by row. The Event it hands out, and what is
// in it, are overwritten by the next row, but for the bytes of blobs.
type eventDec struct {
	shift  uint8
	base   Step
	rows   int
	row    int // next
	time   uint64
	kinds  []kindDec
	shapes [][]byte
	slots  []slotDec
	cols   [numCols]column
	blob   []byte // of the whole group
	blob0  uint64 // where it begins in the stream of blobs
	calls  bool   // the log counts buffers of calls as memory
	used   int
	blobs  []blobAt
	regs   map[uint32][]uint64
	nodes  uint64           // nodes of stacks that the log has before it
	stacks map[uint32]int64 // last stack of a thread; nil in a chunk without stacks
	work   uint64           // effort since it was last set to 0 (budget.work)

	strange []byte // of columns that this version does not know

	ev   Event
	body fields // of an event that is no call
	call Syscall
	bufs []Buf
	at   []uint64
}

// newEventDec begins the chunk of e; blob holds all blob bytes of its group.
func newEventDec(e entry, payload, blob []byte, shift uint8) (*eventDec, error) {
	if e.count == 0 || e.count > MaxRows {
		return nil, overLimit("the number of events of a chunk", uint64(e.count), MaxRows)
	}
	d := &eventDec{shift: shift, base: Step(e.base), rows: int(e.count), time: e.time, blob: blob}
	c := cursor{b: payload}
	tids := make([]uint32, c.count(1))
	for i := range tids {
		tids[i] = c.u32()
	}
	n := c.count(4)
	if n > d.rows {
		return nil, corrupt("%d kinds for %d events", n, d.rows)
	}
	d.kinds = make([]kindDec, n)
	for i := range d.kinds {
		k := &d.kinds[i]
		k.class, k.arch, k.nr = c.u32(), arch.ID(c.u()), c.u32()
		if n := c.u(); n > MaxArgs {
			c.fail()
		} else {
			k.argc = int(n)
		}
	}
	d.shapes = make([][]byte, c.count(1))
	for i := range d.shapes {
		d.shapes[i] = c.take(2 * c.u())
	}
	if n = c.count(5); n > d.rows {
		return nil, corrupt("%d slots for %d events", n, d.rows)
	}
	d.slots = make([]slotDec, n)
	for i := range d.slots {
		s := &d.slots[i]
		kind, tid, flags, shape, regs := c.u(), c.u(), c.u8(), c.u(), c.u()
		if kind >= uint64(len(d.kinds)) || tid >= uint64(len(tids)) || shape > uint64(len(d.shapes)) || regs > MaxRegs {
			return nil, corrupt("slot %d of an EVENT chunk", i)
		}
		*s = slotDec{kind: int(kind), tid: tids[tid], flags: flags, shape: int(shape), regs: int(regs)}
	}
	if err := d.columns(&c); err != nil {
		return nil, err
	}
	return d, nil
}

// columns reads the directory of the columns and finds their bytes.
func (d *eventDec) columns(c *cursor) error {
	n := c.count(3)
	if n > MaxColumns {
		return overLimit("the number of columns", uint64(n), MaxColumns)
	}
	type col struct {
		id, n uint64
		enc   uint8
	}
	dir := make([]col, n)
	for i := range dir {
		dir[i].id, dir[i].enc, dir[i].n = c.u(), c.u8(), c.u()
	}
	for _, x := range dir {
		b := column{b: c.take(x.n)}
		switch {
		case x.enc != 0: // of a later version
			d.strange = append(d.strange, b.b...)
		case x.id < numCols:
			d.cols[x.id] = b
		case x.id >= kindCol0 && (x.id-kindCol0)/kindCols < uint64(len(d.kinds)):
			d.kinds[(x.id-kindCol0)/kindCols].cols[(x.id-kindCol0)%kindCols] = b
		default:
			d.strange = append(d.strange, b.b...)
		}
	}
	if c.bad || len(c.b) != 0 {
		return corrupt("columns of an EVENT chunk")
	}
	return nil
}

// next decodes the next row; there must be one.
func (d *eventDec) next() (*Event, error) {
	step := d.base + Step(d.row)
	si := d.cols[colSlot].u()
	d.time += uint64(d.cols[colTime].zz())
	if d.cols[colSlot].bad || d.cols[colTime].bad || si >= uint64(len(d.slots)) {
		return nil, corrupt("row %d of an EVENT chunk", d.row)
	}
	d.row++
	d.work += 25
	s := &d.slots[si]
	ev := &d.ev
	*ev = Event{Step: step, Time: d.time << d.shift, Thread: s.tid}
	k := &d.kinds[s.kind]
	var call *Syscall
	if k.class == uint32(KindSyscall) {
		call = &d.call
		if !s.used && s.flags&slotHeir != 0 && k.last != nil {
			s.args, s.ret, s.ip, s.sp = k.last.args, k.last.ret, k.last.ip, k.last.sp
		}
		s.used, k.last = true, s
		if err := d.syscall(s, k); err != nil {
			return nil, err
		}
		ev.Record = call
	} else {
		b, _, err := d.nextBlob()
		if err != nil {
			return nil, err
		}
		if ev.Record, err = d.record(k.class, b); err != nil {
			return nil, err
		}
	}
	if s.regs > 0 {
		if err := d.registers(s, k, call); err != nil {
			return nil, err
		}
		ev.Regs = s.prev
	}
	if len(d.cols[colStack].b) > 0 {
		if err := d.stack(ev); err != nil {
			return nil, err
		}
	}
	return ev, nil
}

// stack is the stack of the row at hand.
func (d *eventDec) stack(ev *Event) error {
	c := &d.cols[colStack]
	v := c.u()
	if v > 0 {
		v--
		n := d.stacks[ev.Thread] + (int64(v>>1) ^ -int64(v&1))
		if n <= 0 || n >= int64(FirstNode)+int64(d.nodes) {
			return corrupt("stack in row %d of an EVENT chunk", d.row-1)
		}
		if d.stacks == nil {
			d.stacks = map[uint32]int64{}
		}
		d.stacks[ev.Thread], ev.Stack = n, StackNode(n)
	}
	if c.bad {
		return corrupt("stack in row %d of an EVENT chunk", d.row-1)
	}
	return nil
}

// record decodes a body; byte slices point into b.
func (d *eventDec) record(class uint32, b []byte) (Record, error) {
	var r Record
	if class < uint32(NumKinds) && Kind(class) > KindSyscall {
		r = recordSpecs[class].make()
	} else {
		r = &Unknown{Code: class}
	}
	d.work += uint64(len(b)) / 4
	d.body = fields{mode: reading, c: cursor{b: b}}
	r.fields(&d.body)
	if d.body.c.bad {
		return nil, corrupt("body of an event of kind %d", class)
	}
	return r, nil
}

func (d *eventDec) syscall(s *slotDec, k *kindDec) error {
	for i := range k.argc {
		s.args[i] += uint64(k.cols[i].zz())
	}
	ret := &k.cols[kindRet]
	s.ret += ret.zz()
	dur := &d.cols[colDur]
	call := &d.call
	call.Arch, call.Nr, call.Args, call.Ret = k.arch, k.nr, s.args, s.ret
	call.Enter = (d.time - uint64(dur.zz())) << d.shift
	call.Returned, call.Inside = s.flags&slotReturned != 0, s.flags&slotInside != 0
	call.IP, call.SP, call.Bufs = 0, 0, nil
	call.Blobs = nil
	bad := ret.bad || dur.bad
	for i := range k.argc {
		bad = bad || k.cols[i].bad
	}
	if s.flags&slotIPSP != 0 {
		ip, sp := &d.cols[colIP], &d.cols[colSP]
		s.ip += uint64(ip.zz())
		s.sp += uint64(sp.zz())
		d.call.IP, d.call.SP = s.ip, s.sp
		bad = bad || ip.bad || sp.bad
	}
	if bad {
		return corrupt("row %d of an EVENT chunk", d.row-1)
	}
	if s.shape == 0 {
		return nil
	}
	shape := d.shapes[s.shape-1]
	if s.addrs == nil {
		if len(shape)/2 > len(d.cols[colBlobRef].b)-d.cols[colBlobRef].at {
			return corrupt("buffers in row %d of an EVENT chunk", d.row-1)
		}
		s.addrs = make([]uint64, len(shape)/2)
	}
	d.work += 4 * uint64(len(s.addrs))
	d.bufs, d.at = d.bufs[:0], d.at[:0]
	for i := range s.addrs {
		b := Buf{Arg: shape[2*i], Out: shape[2*i+1]&bufOut != 0, More: shape[2*i+1]&bufMore != 0}
		at := s.addrs[i]
		if b.Arg < MaxArgs {
			at = s.args[b.Arg]
		}
		at += uint64(d.cols[colBlobAddr].zz())
		s.addrs[i], b.Addr = at, addr.Addr(at)
		var err error
		var off int
		if b.Data, off, err = d.nextBlob(); err != nil {
			return err
		}
		d.bufs, d.at = append(d.bufs, b), append(d.at, d.blob0+uint64(off))
	}
	if d.cols[colBlobAddr].bad {
		return corrupt("row %d of an EVENT chunk", d.row-1)
	}
	if d.call.Bufs = d.bufs; d.calls {
		d.call.Blobs = d.at
	}
	return nil
}

// nextBlob is the next reference of the blob column: the bytes, and where they are
// in the group.
func (d *eventDec) nextBlob() ([]byte, int, error) {
	c := &d.cols[colBlobRef]
	ref := c.u()
	if c.bad || ref > uint64(len(d.blobs)) {
		return nil, 0, corrupt("blob reference in row %d of an EVENT chunk", d.row-1)
	}
	if ref > 0 {
		at := d.blobs[uint64(len(d.blobs))-ref]
		return d.blob[at.off : at.off+at.n : at.off+at.n], at.off, nil
	}
	l := &d.cols[colBlobLen]
	n := l.u()
	if l.bad || n > uint64(len(d.blob)-d.used) {
		return nil, 0, corrupt("blob in row %d of an EVENT chunk", d.row-1)
	}
	at := blobAt{d.used, int(n)}
	d.used += int(n)
	d.blobs = append(d.blobs, at)
	return d.blob[at.off : at.off+at.n : at.off+at.n], at.off, nil
}

func (d *eventDec) registers(s *slotDec, k *kindDec, call *Syscall) error {
	if s.prev == nil || len(d.regs[s.tid]) != s.regs {
		if d.regs == nil {
			d.regs = map[uint32][]uint64{}
		}
		if len(d.regs[s.tid]) != s.regs {
			d.regs[s.tid] = make([]uint64, s.regs)
		}
	}
	s.prev = d.regs[s.tid]
	predict(s.prev, call, k.argc, s.flags)
	c := &d.cols[colRegs]
	mask := c.u()
	for i := range s.prev {
		if mask>>i&1 != 0 {
			if c.at+8 > len(c.b) {
				c.bad = true
				break
			}
			s.prev[i] = binary.LittleEndian.Uint64(c.b[c.at:])
			c.at += 8
		}
	}
	if c.bad || s.regs < 64 && mask>>s.regs != 0 {
		return corrupt("registers in row %d of an EVENT chunk", d.row-1)
	}
	return nil
}
