package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"memtrace/format/arch"
)

// Columns of an EVENT chunk that are of the whole chunk.
const (
	colSlot = iota
	colTime
	colDur
	colIP
	colSP
	colRegs
	colBlobRef
	colBlobLen
	colBlobAddr
	colStack
	numCols
)

// Columns of a kind: its arguments and the result.
const (
	kindCol0 = 16      // the first column of the first kind
	kindCols = 8       // columns from one kind to the next
	kindRet  = MaxArgs // the result, counted from the first
)

// Flags of a slot.
const (
	slotReturned = 1 << iota
	_            // was for calls that the recorder made; none ever wrote it
	slotIPSP
	slotHeir // its first row is predicted from the row before of the same kind
	slotInside
)

const (
	bufOut = 1 << iota
	bufMore
)

// kindKey is what an event is, but for who and with what.
type kindKey struct {
	class uint32 // Kind, or code of an Unknown
	arch  arch.ID
	nr    uint32
}

type kindEnc struct {
	kindKey
	argc int
	last int // 1 + slot of the last row, 0 for none yet
	cols [kindCols][]byte
}

type slotKey struct {
	kind, shape int
	tid         uint32
	flags       uint8
	regs        int
}

// slotEnc is a slot with what the next row of it is predicted from.
type slotEnc struct {
	slotKey
	tidIndex int
	used     bool
	heir     bool
	args     [MaxArgs]uint64
	ret      int64
	ip, sp   uint64
	addrs    []uint64 // of the pseudo arguments of the shape
}

// eventEnc builds the payload of an EVENT chunk and the blobs that go with it.
type eventEnc struct {
	shift uint8
	argc  map[kindKey]int // most arguments seen of a kind, in the whole log

	rows   int
	base   Step
	time0  uint64
	last   uint64 // time of the last row, in units
	kinds  []kindEnc
	kindOf map[kindKey]int
	tids   []uint32
	tidOf  map[uint32]int
	shapes [][]byte // arg and flags of each buffer
	slots  []slotEnc
	slotOf map[slotKey]int
	near   [nearSlots]int32 // slot + 1, by a hash: spares the map
	kindNr [nearKinds]int32 // kind + 1 of x86_64 system calls
	cols   [numCols][]byte
	regs   map[uint32]*threadRegs // last registers of a thread
	stacks map[uint32]StackNode   // last stack of a thread

	seed   maphash.Seed
	blob   []byte
	blobs  []blobAt
	at     []uint64 // where the blobs of the last call are
	dedupe [blobTable]blobHint
	shape  []byte // scratch
	body   fields // of the event at hand
	dict   []byte
}

type blobAt struct{ off, n int }

// blobHint is where a blob with this hash may be: compared before it is used.
type blobHint struct {
	hash uint32
	at   int32 // index + 1
}

const (
	blobTable = 1 << 13
	nearSlots = 1 << 9
	nearKinds = 512
)

func newEventEnc(shift uint8) *eventEnc {
	return &eventEnc{
		shift: shift, argc: map[kindKey]int{}, kindOf: map[kindKey]int{}, tidOf: map[uint32]int{},
		slotOf: map[slotKey]int{}, regs: map[uint32]*threadRegs{}, stacks: map[uint32]StackNode{}, seed: maphash.MakeSeed(),
	}
}

// reset forgets the rows; what was allocated is kept.
func (e *eventEnc) reset() {
	e.rows = 0
	for i := range e.kinds {
		k := &e.kinds[i]
		for j := range k.cols {
			k.cols[j] = k.cols[j][:0]
		}
	}
	e.kinds, e.tids, e.shapes, e.slots = e.kinds[:0], e.tids[:0], e.shapes[:0], e.slots[:0]
	clear(e.kindOf)
	clear(e.tidOf)
	clear(e.slotOf)
	clear(e.near[:])
	clear(e.kindNr[:])
	clear(e.regs)
	clear(e.stacks)
	for i := range e.cols {
		e.cols[i] = e.cols[i][:0]
	}
	if len(e.blobs) > 0 {
		clear(e.dedupe[:])
	}
	if cap(e.blob) > 2*groupBlob {
		e.blob = nil
	}
	e.blob, e.blobs = e.blob[:0], e.blobs[:0]
}

// check refuses what a reader would refuse.
func (e *eventEnc) check(ev *Event) error {
	if ev.Record == nil {
		return fmt.Errorf("format: event without a record")
	}
	if len(ev.Regs) > MaxRegs {
		return overLimit("the number of registers", uint64(len(ev.Regs)), MaxRegs)
	}
	if s, ok := ev.Record.(*Syscall); ok {
		if len(s.Bufs) > MaxBufs {
			return overLimit("the number of buffers of a call", uint64(len(s.Bufs)), MaxBufs)
		}
		n := 0
		for i := range s.Bufs {
			n += len(s.Bufs[i].Data)
		}
		if n > maxEventBlob {
			return overLimit("the data of an event", uint64(n), maxEventBlob)
		}
	}
	return nil
}

// maxEventBlob leaves room for what the group has already.
const maxEventBlob = MaxGroupBlob - 2*groupBlob

// add appends an event as the next row.
func (e *eventEnc) add(ev *Event, step Step) error {
	t := ev.Time >> e.shift
	key := slotKey{tid: ev.Thread, regs: len(ev.Regs)}
	sys, isCall := ev.Record.(*Syscall)
	if isCall {
		key.kind, key.flags, key.shape = e.callKind(sys), callFlags(sys), e.shapeOf(sys.Bufs)
	} else {
		kk := kindKey{class: uint32(ev.Record.Kind())}
		if u, ok := ev.Record.(*Unknown); ok {
			kk.class = u.Code
		}
		key.kind = e.kind(kk, 0)
		e.body.b = e.body.b[:0]
		ev.Record.fields(&e.body)
		if len(e.body.b) > maxEventBlob {
			return overLimit("the data of an event", uint64(len(e.body.b)), maxEventBlob)
		}
	}
	si := e.slot(key)
	s := &e.slots[si]
	if e.rows == 0 {
		e.base, e.time0, e.last = step, t, t
	}
	e.cols[colSlot] = appendU(e.cols[colSlot], uint64(si))
	e.cols[colTime] = appendZZ(e.cols[colTime], int64(t-e.last))
	e.last = t
	e.rows++
	if isCall {
		e.inherit(si)
		e.call(s, sys, t)
	} else {
		e.addBlob(e.body.b)
	}
	if len(ev.Regs) > 0 {
		e.addRegs(s, ev.Regs, sys)
	}
	e.addStack(ev)
	return nil
}

func callFlags(s *Syscall) (f uint8) {
	if s.Returned {
		f |= slotReturned
	}
	if s.IP|s.SP != 0 {
		f |= slotIPSP
	}
	if s.Inside {
		f |= slotInside
	}
	return f
}

// callKind is the kind of a system call, with as many argument columns as any
// such call of the log has needed.
func (e *eventEnc) callKind(s *Syscall) int {
	argc := MaxArgs
	for argc > 0 && s.Args[argc-1] == 0 {
		argc--
	}
	quick := s.Arch == arch.X86_64 && s.Nr < nearKinds
	if quick {
		if i := e.kindNr[s.Nr] - 1; i >= 0 && e.kinds[i].argc >= argc {
			return int(i)
		}
	}
	i := e.findKind(s, argc)
	if quick {
		e.kindNr[s.Nr] = int32(i) + 1
	}
	return i
}

func (e *eventEnc) findKind(s *Syscall, argc int) int {
	kk := kindKey{class: uint32(KindSyscall), arch: s.Arch, nr: s.Nr}
	if i, ok := e.kindOf[kk]; ok && e.kinds[i].argc >= argc {
		return i
	}
	if most := e.argc[kk]; most > argc {
		argc = most
	} else {
		e.argc[kk] = argc
	}
	return e.kind(kk, argc)
}

func (e *eventEnc) kind(kk kindKey, argc int) int {
	if i, ok := e.kindOf[kk]; ok && e.kinds[i].argc >= argc {
		return i
	}
	i := len(e.kinds)
	if i < cap(e.kinds) {
		e.kinds = e.kinds[:i+1] // with the columns of an earlier group
	} else {
		e.kinds = append(e.kinds, kindEnc{})
	}
	e.kinds[i].kindKey, e.kinds[i].argc, e.kinds[i].last = kk, argc, 0
	e.kindOf[kk] = i
	return i
}

// shapeOf is the number of the shape of bufs, plus 1; 0 for none.
func (e *eventEnc) shapeOf(bufs []Buf) int {
	if len(bufs) == 0 {
		return 0
	}
	sh := e.shape[:0]
	for i := range bufs {
		var f byte
		if bufs[i].Out {
			f |= bufOut
		}
		if bufs[i].More {
			f |= bufMore
		}
		sh = append(sh, bufs[i].Arg, f)
	}
	e.shape = sh
	for i, have := range e.shapes {
		if bytes.Equal(have, sh) {
			return i + 1
		}
	}
	i := len(e.shapes)
	if i < cap(e.shapes) {
		e.shapes = e.shapes[:i+1]
	} else {
		e.shapes = append(e.shapes, nil)
	}
	e.shapes[i] = append(e.shapes[i][:0], sh...)
	return i + 1
}

func (e *eventEnc) slot(key slotKey) int {
	near := &e.near[(uint32(key.kind)*5+key.tid*67+uint32(key.shape)*131+uint32(key.flags))%nearSlots]
	if i := *near - 1; i >= 0 && e.slots[i].slotKey == key {
		return int(i)
	}
	i, ok := e.slotOf[key]
	if !ok {
		t, ok := e.tidOf[key.tid]
		if !ok {
			t = len(e.tids)
			e.tids = append(e.tids, key.tid)
			e.tidOf[key.tid] = t
		}
		i = len(e.slots)
		var addrs []uint64
		if i < cap(e.slots) {
			e.slots = e.slots[:i+1]
			addrs = e.slots[i].addrs
		} else {
			e.slots = append(e.slots, slotEnc{})
		}
		n := 0
		if key.shape > 0 {
			n = len(e.shapes[key.shape-1]) / 2
		}
		if cap(addrs) < n {
			addrs = make([]uint64, n)
		}
		addrs = addrs[:n]
		clear(addrs)
		e.slots[i] = slotEnc{slotKey: key, tidIndex: t, addrs: addrs}
		e.slotOf[key] = i
	}
	*near = int32(i) + 1
	return i
}

// inherit gives a new slot what the last row of its kind had, by whichever
// thread: processes of one program make the same calls from the same places.
func (e *eventEnc) inherit(si int) {
	s := &e.slots[si]
	k := &e.kinds[s.kind]
	if !s.used {
		s.used, s.heir = true, k.last > 0
		if s.heir {
			l := &e.slots[k.last-1]
			s.args, s.ret, s.ip, s.sp = l.args, l.ret, l.ip, l.sp
		}
	}
	k.last = si + 1
}

func (e *eventEnc) call(s *slotEnc, c *Syscall, t uint64) {
	k := &e.kinds[s.kind]
	for i := range k.argc {
		k.cols[i] = appendZZ(k.cols[i], int64(c.Args[i]-s.args[i]))
	}
	s.args = c.Args
	k.cols[kindRet] = appendZZ(k.cols[kindRet], c.Ret-s.ret)
	s.ret = c.Ret
	e.cols[colDur] = appendZZ(e.cols[colDur], int64(t-c.Enter>>e.shift))
	if s.flags&slotIPSP != 0 {
		e.cols[colIP] = appendZZ(e.cols[colIP], int64(c.IP-s.ip))
		e.cols[colSP] = appendZZ(e.cols[colSP], int64(c.SP-s.sp))
		s.ip, s.sp = c.IP, c.SP
	}
	e.at = e.at[:0]
	for i := range c.Bufs {
		b := &c.Bufs[i]
		want := s.addrs[i]
		if int(b.Arg) < MaxArgs {
			want = c.Args[b.Arg]
		}
		e.cols[colBlobAddr] = appendZZ(e.cols[colBlobAddr], int64(uint64(b.Addr)-want))
		s.addrs[i] = uint64(b.Addr)
		e.at = append(e.at, uint64(e.addBlob(b.Data)))
	}
}

// addBlob refers to the bytes b: to those of an earlier blob of the group that
// is equal, or to new ones. It says where they are among the group's.
func (e *eventEnc) addBlob(b []byte) int {
	h := uint32(maphash.Bytes(e.seed, b))
	hint := &e.dedupe[h%blobTable]
	if hint.at > 0 && hint.hash == h {
		old := e.blobs[hint.at-1]
		if bytes.Equal(e.blob[old.off:old.off+old.n], b) {
			e.cols[colBlobRef] = appendU(e.cols[colBlobRef], uint64(len(e.blobs))-uint64(hint.at-1))
			return old.off
		}
	}
	e.cols[colBlobRef] = appendU(e.cols[colBlobRef], 0)
	e.cols[colBlobLen] = appendU(e.cols[colBlobLen], uint64(len(b)))
	e.blobs = append(e.blobs, blobAt{len(e.blob), len(b)})
	e.blob = append(e.blob, b...)
	*hint = blobHint{h, int32(len(e.blobs))}
	return len(e.blob) - len(b)
}

// addStack writes the stack of an event. A group without stacks has no column.
func (e *eventEnc) addStack(ev *Event) {
	c := e.cols[colStack]
	switch {
	case ev.Stack == 0 && len(c) == 0:
		return
	case len(c) == 0:
		for range e.rows - 1 {
			c = append(c, 0)
		}
	}
	if ev.Stack == 0 {
		c = append(c, 0)
	} else {
		c = appendU(c, 1+zigzag(int64(ev.Stack)-int64(e.stacks[ev.Thread])))
		e.stacks[ev.Thread] = ev.Stack
	}
	e.cols[colStack] = c
}

// addRegs writes which registers differ from the prediction, and those.
func (e *eventEnc) addRegs(s *slotEnc, regs []uint64, c *Syscall) {
	last := e.regs[s.tid]
	if last == nil || len(last.regs) != len(regs) {
		last = &threadRegs{regs: make([]uint64, len(regs))}
		e.regs[s.tid] = last
	}
	last.step = e.base + Step(e.rows) - 1
	old := last.regs
	predict(old, c, e.kinds[s.kind].argc, s.flags)
	var mask uint64
	for i, v := range regs {
		if v != old[i] {
			mask |= 1 << i
		}
	}
	b := appendU(e.cols[colRegs], mask)
	for i, v := range regs {
		if mask>>i&1 != 0 {
			b = binary.LittleEndian.AppendUint64(b, v)
			old[i] = v
		}
	}
	e.cols[colRegs] = b
}

var x86Count, x86Args = len(arch.X86_64.Registers()), arch.X86_64.CallArgs()

// predict turns the last registers of a thread into those to expect at the end
// of the system call c (nil for another event), of which argc arguments are
// known: the kernel's calling convention for x86_64, else no change.
func predict(r []uint64, c *Syscall, argc int, flags uint8) {
	if c == nil || len(r) != x86Count || c.Arch != arch.X86_64 {
		return
	}
	for i := range argc {
		r[x86Args[i]] = c.Args[i]
	}
	r[arch.OrigRAX] = uint64(c.Nr)
	r[arch.RAX] = uint64(c.Ret)
	if flags&slotIPSP != 0 {
		r[arch.RIP], r[arch.RSP] = c.IP, c.SP
		r[arch.RCX] = c.IP
	}
	r[arch.R11] = r[arch.EFlags]
}

// payload is the EVENT chunk; it is valid until the next row.
func (e *eventEnc) payload() []byte {
	b := e.dict[:0]
	b = appendU(b, uint64(len(e.tids)))
	for _, t := range e.tids {
		b = appendU(b, uint64(t))
	}
	b = appendU(b, uint64(len(e.kinds)))
	for i := range e.kinds {
		k := &e.kinds[i]
		b = appendU(b, uint64(k.class))
		b = appendU(b, uint64(k.arch))
		b = appendU(b, uint64(k.nr))
		b = appendU(b, uint64(k.argc))
	}
	b = appendU(b, uint64(len(e.shapes)))
	for _, s := range e.shapes {
		b = appendU(b, uint64(len(s)/2))
		b = append(b, s...)
	}
	b = appendU(b, uint64(len(e.slots)))
	for i := range e.slots {
		s := &e.slots[i]
		b = appendU(b, uint64(s.kind))
		b = appendU(b, uint64(s.tidIndex))
		f := s.flags
		if s.heir {
			f |= slotHeir
		}
		b = append(b, f)
		b = appendU(b, uint64(s.shape))
		b = appendU(b, uint64(s.regs))
	}
	n := 0
	e.columns(func(int, []byte) { n++ })
	b = appendU(b, uint64(n))
	e.columns(func(id int, c []byte) {
		b = appendU(b, uint64(id))
		b = append(b, 0)
		b = appendU(b, uint64(len(c)))
	})
	e.columns(func(_ int, c []byte) { b = append(b, c...) })
	e.dict = b
	return b
}

// columns calls f for each column that is not empty, in order.
func (e *eventEnc) columns(f func(id int, c []byte)) {
	for i, c := range e.cols {
		if len(c) > 0 {
			f(i, c)
		}
	}
	for i := range e.kinds {
		for j, c := range e.kinds[i].cols {
			if len(c) > 0 {
				f(kindCol0+i*kindCols+j, c)
			}
		}
	}
}

// full says that the group must end: more could exceed a limit.
func (e *eventEnc) full() bool {
	return e.rows >= groupSteps || len(e.blob) >= groupBlob || len(e.slots) >= 4096 || len(e.kinds) >= 900 ||
		len(e.shapes) >= 512 || len(e.cols[colRegs]) >= 4<<20 || len(e.cols[colBlobRef]) >= 1<<20
}
