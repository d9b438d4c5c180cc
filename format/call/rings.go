package call

import (
	"memtrace/format/arch"
)

// Operations of asynchronous I/O that have data or a vector.
const (
	iocbPread  = 0
	iocbWrite  = 1
	iocbPoll   = 5
	iocbReadv  = 7
	iocbWritev = 8
)

const iocbSize = 64

// iocb is one operation of io_submit.
type iocb struct {
	v              view
	op             uint16
	buf, n, offset uint64
	flags          uint32
}

func parseIocb(d []byte) iocb {
	v := view{d, 8}
	return iocb{v, v.u16(16), v.u64(24), v.u64(32), v.u64(40), v.u32(56)}
}

// valid says whether address and length can be a program's.
func (cb *iocb) valid(id arch.ID) bool {
	if id == arch.I386 {
		return cb.buf>>32 == 0 && cb.n>>31 == 0
	}
	return cb.n>>63 == 0
}

// iocbs shows what io_submit is given.
func (p *printer) iocbs(w *word) {
	n, a := p.signed(p.args[w.n]), p.args[w.reg]
	b := p.bufAt(w.reg, false, a)
	switch {
	case a == 0 || n < 0:
		p.ptr(a)
		return
	case n == 0:
		p.s("[]")
		return
	case b == nil:
		p.ptr(a)
		return
	}
	list := view{b.Data, p.word()}
	p.s("[")
	for i := range min(int(min(n, 1<<20)), len(b.Data)/p.word()) {
		p.comma(i)
		at := list.word(i * p.word())
		if b := p.bufAt(w.reg, false, at); at != 0 && b != nil && len(b.Data) >= iocbSize {
			p.iocb(parseIocb(b.Data), w.reg)
		} else {
			p.ptr(at)
		}
	}
	if n > maxListed {
		p.s(", ...")
	}
	p.s("]")
}

// iocbHead shows what all operations have.
func (p *printer) iocbHead(cb *iocb) {
	p.layoutFields(layouts()["iocb"], cb.v.b, 0, false, 0)
}

// iocbOne shows the operation that io_cancel names.
func (p *printer) iocbOne(w *word) {
	b := p.buf(w.reg, false)
	if p.args[w.reg] == 0 || b == nil || len(b.Data) < iocbSize {
		p.ptr(p.args[w.reg])
		return
	}
	cb := parseIocb(b.Data)
	p.s("{")
	p.iocbHead(&cb)
	p.s("}")
}

func (p *printer) iocb(cb iocb, arg uint8) {
	p.s("{")
	p.iocbHead(&cb)
	switch cb.op {
	case iocbPread, iocbWrite:
		p.s(", aio_buf=")
		if b := p.bufAt(arg, false, cb.buf); cb.op == iocbWrite && cb.valid(p.id) && b != nil && cb.buf != 0 {
			p.quoted(b.Data, b.More)
		} else {
			p.x(cb.buf)
		}
		p.s(", aio_nbytes=")
		p.u(cb.n)
		p.iocbTail(&cb)
	case iocbReadv, iocbWritev:
		p.s(", aio_buf=")
		if cb.valid(p.id) {
			p.iovecs(arg, cb.buf, cb.n, cb.op == iocbWritev)
		} else {
			p.x(cb.buf)
			p.s(", aio_nbytes=")
			p.u(cb.n)
		}
		p.iocbTail(&cb)
	case iocbPoll:
		p.s(", aio_buf=")
		p.b = flagTable("poll").Append(p.b, cb.buf)
		p.layoutFields(layouts()["iocbflags"], cb.v.b, 0, false, 1)
	}
	p.s("}")
}

func (p *printer) iocbTail(cb *iocb) {
	p.s(", aio_offset=")
	p.d(int64(cb.offset))
	p.layoutFields(layouts()["iocbflags"], cb.v.b, 0, false, 1)
}

// iovecs shows a vector as it is before the call, with what it points at if the
// call reads that.
func (p *printer) iovecs(arg uint8, a, n uint64, data bool) {
	b := p.bufAt(arg, false, a)
	switch {
	case a == 0:
		p.ptr(a)
	case n == 0:
		p.s("[]")
	case b == nil:
		p.ptr(a)
	case data:
		p.iovec(arg, false, a, n, 0)
	default:
		p.elements(&field{kind: '{', sub: layouts()["iovec"]}, b, n, arg, false)
	}
}

// uringSetup shows what goes in, and what comes back where it succeeds.
func (p *printer) uringSetup() {
	p.show(0, 1)
	p.s(", ")
	in, out := p.buf(1, false), p.buf(1, true)
	l := layouts()["uringin"]
	if p.args[1] == 0 || in == nil || len(in.Data) < l.size[bits(p.id)] {
		p.ptr(p.args[1])
		return
	}
	p.s("{")
	p.layoutFields(l, in.Data, 1, false, 0)
	if out != nil && p.done && p.fail == 0 {
		p.layoutFields(layouts()["uringout"], out.Data, 1, true, 1)
	}
	p.s("}")
}

// Registrations of io_uring that are not just a struct or an array.
const (
	uringProbe    = 8
	uringAffinity = 17
	uringWorkers  = 19
)

func (p *printer) uringRegister() {
	p.show(0, 2)
	p.s(", ")
	switch uint32(p.args[1]) {
	case uringWorkers:
		p.workers(p.buf(2, false))
		if out := p.buf(2, true); out != nil && p.fail == 0 {
			p.s(" => ")
			p.workers(out)
		}
	case uringAffinity:
		b := p.buf(2, false)
		if b == nil || p.args[2] == 0 {
			p.ptr(p.args[2])
			break
		}
		p.bitList(b.Data, 8*len(b.Data), p.d32)
	case uringProbe:
		l := layouts()["uringprobe"]
		b := p.buf(2, true)
		if b == nil || p.args[2] == 0 || p.fail != 0 || len(b.Data) < l.size[0] {
			p.ptr(p.args[2])
			break
		}
		n := min(uint64(b.Data[1]), p.args[3]&0xffffffff)
		p.s("{")
		p.layoutFields(l, b.Data[:l.size[0]], 2, true, 0)
		p.s(", ops=")
		ops := &Buf{Addr: b.Addr + 16, Data: b.Data[l.size[0]:]}
		if n == 0 {
			p.s("[]")
		} else {
			p.elements(&field{kind: '{', sub: layouts()["uringprobeop"]}, ops, n, 2, true)
		}
		p.s("}")
	default:
		w := &p.sig.words[2]
		w.def.print(p, w)
	}
	p.s(", ")
	p.u(p.args[3] & 0xffffffff)
}

// workers shows how many threads io_uring may have of each kind.
func (p *printer) workers(b *Buf) {
	if b == nil || p.args[2] == 0 {
		p.ptr(p.args[2])
		return
	}
	p.s("[")
	for i := range min(len(b.Data)/4, maxListed) {
		p.comma(i)
		p.s("[")
		p.b = flagTable("uringworkers").AppendValue(p.b, uint64(i))
		p.s("]=")
		p.u(uint64(view{b.Data, 4}.u32(4 * i)))
	}
	p.s("]")
}
