package call

import (
	"encoding/binary"

	"memtrace/format/arch"
)

// Address families that are shown in words.
const (
	afUnix    = 1
	afInet    = 2
	afInet6   = 10
	afNetlink = 16
	afPacket  = 17
	afAlg     = 38
)

func (p *printer) socketType(v uint64) {
	v &= 0xffffffff
	if name := flagTable("socktype").Name(v & 0xf); name != "" {
		p.s(name)
	} else {
		p.x(v & 0xf)
	}
	if v &^= 0xf; v != 0 {
		p.s("|")
		p.b = flagTable("sockflags").Append(p.b, v)
	}
}

// protocol shows socket's third argument, whose meaning depends on the first.
func (p *printer) protocol(w *word) {
	v := p.args[w.reg] & 0xffffffff
	switch p.args[0] & 0xffffffff {
	case afInet, afInet6:
		p.b = flagTable("ipproto").AppendValue(p.b, v)
	case afNetlink:
		p.b = flagTable("netlink").AppendValue(p.b, v)
	case afPacket:
		p.s("htons(")
		p.b = flagTable("ether").AppendValue(p.b, v>>8&0xff|v<<8&0xff00)
		p.s(")")
	default:
		p.u(v)
	}
}

// sockoptTables are the names of options, by level.
var sockoptTables = map[uint64]string{
	0: "ipopt", 1: "so", 6: "tcpopt", 17: "udpopt", 41: "ipv6opt", 255: "rawopt", 263: "packetopt", 270: "netlinkopt", 279: "algopt", 282: "tlsopt",
}

// optArg shows the value of an option.
func (p *printer) optArg(w *word, out bool) {
	which := "setsockopt"
	if out {
		which = "getsockopt"
	}
	level, name := uint32(p.args[1]), uint32(p.args[2])
	v, b := p.args[w.reg], p.buf(w.reg, out)
	l := variants()[which].pick(&p.args).lay
	switch {
	case v == 0 || b == nil:
		p.ptr(v)
	case l != nil:
		w2 := word{reg: w.reg, out: out}
		p.layoutArg(&w2, l)
	case !out && len(b.Data) < 4 && (level == solSocket || level == solNetlink):
		p.ptr(v)
	case out && level == solSocket && name == soError && len(b.Data) == 4:
		p.s("[")
		p.errno(int32(view{b.Data, 4}.u32(0)))
		p.s("]")
	default:
		p.intOrBytes(w, out)
	}
}

const (
	solSocket  = 1
	solNetlink = 270
	soError    = 4
)

// errno shows an error by its name.
func (p *printer) errno(n int32) {
	if name := arch.ErrnoName(int(n)); n > 0 && name != "" {
		p.s(name)
		return
	}
	p.d(int64(n))
}

// sockopt shows an option by the level before it.
func (p *printer) sockopt(w *word) {
	v := p.args[w.reg] & 0xffffffff
	table := sockoptTables[p.args[w.reg-1]&0xffffffff]
	if table == "" {
		p.u(v)
		return
	}
	p.b = flagTable(table).AppendValue(p.b, v)
}

func (p *printer) sockaddrArg(w *word, out bool) {
	v := p.args[w.reg]
	b := p.buf(w.reg, out)
	if v == 0 || b == nil || len(b.Data) < 2 || out && p.fail != 0 {
		p.ptr(v)
		return
	}
	p.sockaddr(b.Data)
}

// sockaddrs are addresses that are just structs, by family.
var sockaddrs = map[uint16]string{afNetlink: "sa_netlink", 40: "sa_vsock", 44: "sa_xdp"}

func (p *printer) sockaddr(d []byte) {
	v := view{d, 8}
	family := v.u16(0)
	p.s("{sa_family=")
	p.b = flagTable("af").AppendValue(p.b, uint64(family))
	l := layouts()[sockaddrs[family]]
	switch {
	case family == afUnix && len(d) > 2:
		p.s(", sun_path=")
		path := d[2:]
		if path[0] == 0 { // abstract: all of it is the name
			p.s(`@"`)
			p.b = appendEscaped(p.b, path[1:], '"')
			p.s(`"`)
			break
		}
		p.path(&Buf{Data: path})
	case family == afInet && len(d) >= 16:
		p.s(", sin_port=htons(")
		p.u(be16(d[2:]))
		p.s("), sin_addr=")
		p.in4(d[4:])
	case family == afInet6 && len(d) >= 24:
		p.s(", sin6_port=htons(")
		p.u(be16(d[2:]))
		p.s("), sin6_flowinfo=htonl(")
		p.u(uint64(binary.BigEndian.Uint32(d[4:])))
		p.s("), ")
		p.in6(d[8:], "sin6_addr")
		if len(d) > 24 {
			p.s(", sin6_scope_id=")
			p.u(uint64(v.u32(24)))
		}
	case family == afPacket && len(d) >= 20:
		p.linkAddr(d)
	case family == afAlg && len(d) > 24:
		p.s(", salg_type=")
		p.fixedString(d[2:16], 14)
		p.s(", salg_feat=")
		p.b = flagTable("alg").Append(p.b, uint64(v.u32(16)))
		p.s(", salg_mask=")
		p.b = flagTable("alg").Append(p.b, uint64(v.u32(20)))
		p.s(", salg_name=")
		p.fixedString(d[24:], len(d)-24)
	case l != nil && len(d) >= l.min:
		p.layoutFields(l, d, 0, false, 1)
	case len(d) > 2:
		p.s(`, sa_data="`)
		p.b = appendEscaped(p.b, d[2:], '"')
		p.s(`"`)
	}
	p.s("}")
}

// linkAddr shows a struct sockaddr_ll.
func (p *printer) linkAddr(d []byte) {
	v := view{d, 8}
	p.s(", sll_protocol=htons(")
	p.b = flagTable("ether").AppendValue(p.b, be16(d[2:]))
	p.s("), sll_ifindex=")
	p.ifindex(v.u32(4))
	p.s(", sll_hatype=")
	p.b = flagTable("arphrd").AppendValue(p.b, uint64(v.u16(8)))
	p.s(", sll_pkttype=")
	p.b = flagTable("packettype").AppendValue(p.b, uint64(d[10]))
	n := int(d[11])
	p.s(", sll_halen=")
	p.u(uint64(n))
	if n == 0 {
		return
	}
	p.s(", sll_addr=[")
	for i := range n {
		p.comma(i)
		if 12+i >= len(d) {
			p.s("...")
			break
		}
		p.padHex(uint64(d[12+i]), 2)
	}
	p.s("]")
}

// iovec shows n elements of the array at a, with their contents where those were
// kept: the first total bytes of a call that read.
func (p *printer) iovec(arg uint8, out bool, a, n, total uint64) {
	array := p.bufAt(arg, false, a)
	if array == nil {
		array = p.bufAt(arg, true, a)
	}
	switch {
	case a == 0 || array == nil && n > 0:
		p.ptr(a)
		return
	case n == 0:
		p.s("[]")
		return
	case out && p.fail != 0:
		p.elements(&field{kind: '{', sub: layouts()["iovec"]}, array, n, arg, false)
		return
	}
	w := p.word()
	v := view{array.Data, w}
	left := ^uint64(0)
	if out {
		left = total
	}
	p.s("[")
	for i := uint64(0); i < min(n, uint64(len(array.Data)/(2*w))); i++ {
		p.comma(int(i))
		if i >= 32 {
			p.s("...")
			break
		}
		base, size := v.word(int(i)*2*w), v.word(int(i)*2*w+w)
		p.s("{iov_base=")
		moved := min(size, left)
		left -= moved
		switch b := p.bufAt(arg, out, base); {
		case base != 0 && moved == 0:
			p.s(`""`)
		case b == nil || b == array:
			p.ptr(base)
		default:
			p.quoted(b.Data[:min(uint64(len(b.Data)), moved)], b.More)
		}
		p.s(", iov_len=")
		p.u(size)
		p.s("}")
	}
	p.s("]")
}

type msghdr struct {
	name, namelen, iov, iovlen, control, controllen uint64
	flags                                           uint32
}

func msghdrSize(id arch.ID) int {
	if id == arch.I386 {
		return 28
	}
	return 56
}

func parseMsghdr(v view) (m msghdr) {
	w := v.w
	m.name, m.namelen = v.word(0), uint64(v.u32(w))
	m.iov, m.iovlen = v.word(2*w), v.word(3*w)
	m.control, m.controllen = v.word(4*w), v.word(5*w)
	m.flags = v.u32(6 * w)
	return m
}

func (p *printer) msghdr(w *word, out bool) {
	a := p.args[w.reg]
	in := p.bufAt(w.reg, false, a)
	if out && p.fail != 0 && in != nil && a != 0 && len(in.Data) >= msghdrSize(p.id) {
		p.s("{msg_namelen=")
		p.d(int64(int32(parseMsghdr(view{in.Data, p.word()}).namelen)))
		p.s("}")
		return
	}
	p.msghdrAt(w.reg, out, a, p.bufAt(w.reg, out, a), in, p.ret)
}

// mmsghdr shows the messages that were received.
func (p *printer) mmsghdr(w *word) {
	a := p.args[w.reg]
	b := p.bufAt(w.reg, true, a)
	switch {
	case a == 0 || p.fail != 0 || !p.done || b == nil && p.ret > 0:
		p.ptr(a)
	case p.ret == 0:
		p.s("[]")
	default:
		p.messages(w.reg, true, b, p.ret)
	}
}

// sentMessages shows those that sendmmsg is to send; those that were sent have
// their lengths.
func (p *printer) sentMessages(w *word) {
	a, n := p.args[w.reg], p.args[w.n]&0xffffffff
	b := p.bufAt(w.reg, false, a)
	switch {
	case a == 0 || b == nil && n > 0:
		p.ptr(a)
	case n == 0:
		p.s("[]")
	default:
		p.messages(w.reg, false, b, n)
	}
}

// messages shows n messages, of which b has the headers.
func (p *printer) messages(arg uint8, out bool, b *Buf, n uint64) {
	head := msghdrSize(p.id)
	size := head + p.word()
	sent := uint64(0)
	if p.done && p.fail == 0 {
		sent = p.ret
	}
	in, after := p.bufAt(arg, false, uint64(b.Addr)), p.bufAt(arg, true, uint64(b.Addr))
	part := func(b *Buf, off int) *Buf {
		if b == nil || off+head > len(b.Data) {
			return nil
		}
		return &Buf{Addr: b.Addr, Data: b.Data[off:min(off+size, len(b.Data))]}
	}
	p.s("[")
	for i := range int(min(n, uint64(len(b.Data)/size))) {
		p.comma(i)
		if i >= maxListed {
			p.s("...")
			break
		}
		off := i * size
		length := uint64(0)
		if after := part(after, off); after != nil {
			length = uint64(view{after.Data, 4}.u32(head))
		}
		p.s("{msg_hdr=")
		p.msghdrAt(arg, out, uint64(b.Addr)+uint64(off), part(b, off), part(in, off), length)
		if uint64(i) < sent {
			p.s(", msg_len=")
			p.u(length)
		}
		p.s("}")
	}
	p.s("]")
}

// msghdrAt shows the header at a of a message of n bytes; in is what it was before
// the call, if the call changes it.
func (p *printer) msghdrAt(arg uint8, out bool, a uint64, b, in *Buf, n uint64) {
	if a == 0 || b == nil || len(b.Data) < msghdrSize(p.id) || out && p.fail != 0 {
		p.ptr(a)
		return
	}
	m := parseMsghdr(view{b.Data, p.word()})
	had := m.namelen
	if out && in != nil {
		had = parseMsghdr(view{in.Data, p.word()}).namelen
	}
	name := p.bufAt(arg, out, m.name)
	proto, isNetlink := 0, false
	p.s("{msg_name=")
	if m.name != 0 && name != nil && len(name.Data) >= 2 && m.namelen >= 2 {
		d := name.Data[:min(uint64(len(name.Data)), m.namelen, max(had, 2))]
		p.sockaddr(d)
		if (view{d, 2}).u16(0) == afNetlink {
			proto, isNetlink = p.netlinkOf(int32(p.args[0]))
		}
	} else {
		p.ptr(m.name)
	}
	p.s(", msg_namelen=")
	if had != m.namelen {
		p.d(int64(int32(had)))
		p.s(" => ")
	}
	p.d(int64(int32(m.namelen)))
	p.s(", msg_iov=")
	if isNetlink {
		p.netlinkVector(arg, out, m.iov, m.iovlen, n, proto)
	} else {
		p.iovec(arg, out, m.iov, m.iovlen, n)
	}
	p.s(", msg_iovlen=")
	p.u(m.iovlen)
	if m.controllen > 0 {
		p.s(", msg_control=")
		if control := p.bufAt(arg, out, m.control); m.control != 0 && control != nil && len(control.Data) >= p.word()+8 {
			p.control(control.Data, out)
		} else {
			p.ptr(m.control)
		}
	}
	p.s(", msg_controllen=")
	p.u(m.controllen)
	p.s(", msg_flags=")
	p.b = flagTable("msgflags").Append(p.b, uint64(m.flags))
	p.s("}")
}

// netlinkVector is iovec for messages of netlink.
func (p *printer) netlinkVector(arg uint8, out bool, a, n, total uint64, proto int) {
	array := p.bufAt(arg, false, a)
	if array == nil || n != 1 || len(array.Data) < 2*p.word() {
		p.iovec(arg, out, a, n, total)
		return
	}
	v := view{array.Data, p.word()}
	base, size := v.word(0), v.word(v.w)
	b := p.bufAt(arg, out, base)
	if b == nil {
		p.iovec(arg, out, a, n, total)
		return
	}
	moved := size
	if out {
		moved = min(size, total)
	}
	p.s("[{iov_base=")
	p.netlink(b.Data[:min(uint64(len(b.Data)), moved)], moved, proto)
	p.s(", iov_len=")
	p.u(size)
	p.s("}]")
}

// control shows ancillary messages, received or sent; descriptors that were passed
// get their names.
func (p *printer) control(d []byte, out bool) {
	w := p.word()
	p.s("[")
	first := true
	eachControl(d, w, func(level, kind uint32, size uint64, data []byte) {
		p.comma(map[bool]int{true: 0, false: 1}[first])
		first = false
		p.s("{cmsg_len=")
		p.u(size)
		p.s(", cmsg_level=")
		p.b = flagTable("sol").AppendValue(p.b, uint64(level))
		p.s(", cmsg_type=")
		switch level {
		case solSocket:
			p.b = flagTable("cmsg").AppendValue(p.b, uint64(kind))
		case 0:
			p.b = flagTable("ipccmsg").AppendValue(p.b, uint64(kind))
		default:
			p.x(uint64(kind))
		}
		v := view{data, 4}
		switch {
		case level == 1 && kind == 1:
			p.s(", cmsg_data=[")
			for i := 0; i+4 <= len(data); i += 4 {
				p.comma(i)
				if fd := int32(v.u32(i)); out {
					p.newFD(fd)
				} else {
					p.fd(fd)
				}
			}
			p.s("]")
		case level == 1 && kind == 2 && len(data) >= 12:
			p.s(", cmsg_data={pid=")
			p.u(uint64(v.u32(0)))
			p.s(", uid=")
			p.u(uint64(v.u32(4)))
			p.s(", gid=")
			p.u(uint64(v.u32(8)))
			p.s("}")
		case level == 0 && kind == 8 && len(data) >= 12:
			p.s(", cmsg_data=")
			p.layout(layouts()["pktinfo"], data, 0, false)
		case level == 0 && (kind == 2 || kind == 23) && len(data) >= 4:
			p.s(", cmsg_data=[")
			p.u(uint64(v.u32(0)))
			p.s("]")
		}
		p.s("}")
	})
	p.s("]")
}

// eachControl walks the control messages of a msghdr; w is the size of a long.
func eachControl(d []byte, w int, f func(level, kind uint32, size uint64, data []byte)) {
	head := w + 8
	for len(d) >= head {
		v := view{d, w}
		size := v.word(0)
		if size < uint64(head) || size > uint64(len(d)) {
			return
		}
		f(v.u32(w), v.u32(w+4), size, d[head:size])
		next := (size + uint64(w) - 1) &^ uint64(w-1)
		if next >= uint64(len(d)) {
			return
		}
		d = d[next:]
	}
}
