package call

import (
	"encoding/binary"
	"net/netip"

	"memtrace/format/arch"
)

// Address families that are shown in words.
const (
	afUnix    = 1
	afInet    = 2
	afInet6   = 10
	afNetlink = 16
)

func (p *printer) socketType(v uint64) {
	v &= 0xffffffff
	if name := FlagTable("socktype").Name(v & 0xf); name != "" {
		p.s(name)
	} else {
		p.x(v & 0xf)
	}
	if v &^= 0xf; v != 0 {
		p.s("|")
		p.b = FlagTable("sockflags").Append(p.b, v)
	}
}

// protocol shows socket's third argument, whose meaning depends on the first.
func (p *printer) protocol(w *word) {
	v := p.args[w.reg] & 0xffffffff
	switch p.args[0] & 0xffffffff {
	case afInet, afInet6:
		p.b = FlagTable("ipproto").AppendValue(p.b, v)
	case afNetlink:
		p.b = FlagTable("netlink").AppendValue(p.b, v)
	default:
		p.u(v)
	}
}

// sockopt shows an option by the level before it.
func (p *printer) sockopt(w *word) {
	v := p.args[w.reg] & 0xffffffff
	table := map[uint64]string{0: "ipopt", 1: "so", 6: "tcpopt", 41: "ipv6opt"}[p.args[w.reg-1]&0xffffffff]
	if table == "" {
		p.x(v)
		return
	}
	p.b = FlagTable(table).AppendValue(p.b, v)
}

func (p *printer) sockaddrArg(w *word, out bool) {
	v := p.args[w.reg]
	b := p.buf(w.reg, out)
	if v == 0 || b == nil || out && p.fail != 0 {
		p.ptr(v)
		return
	}
	p.sockaddr(b.Data)
}

func (p *printer) sockaddr(d []byte) {
	if len(d) < 2 {
		p.quoted(d, false)
		return
	}
	v := view{d, 8}
	family := v.u16(0)
	p.s("{sa_family=")
	p.b = FlagTable("af").AppendValue(p.b, uint64(family))
	be16 := func(off int) uint64 { return uint64(binary.BigEndian.Uint16(d[off:])) }
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
	case family == afInet && len(d) >= 8:
		p.s(", sin_port=htons(")
		p.u(be16(2))
		p.s(`), sin_addr=inet_addr("`)
		p.b = netip.AddrFrom4([4]byte(d[4:8])).AppendTo(p.b)
		p.s(`")`)
	case family == afInet6 && len(d) >= 24:
		p.s(", sin6_port=htons(")
		p.u(be16(2))
		p.s("), sin6_flowinfo=htonl(")
		p.u(uint64(binary.BigEndian.Uint32(d[4:])))
		p.s(`), inet_pton(AF_INET6, "`)
		p.b = netip.AddrFrom16([16]byte(d[8:24])).AppendTo(p.b)
		p.s(`", &sin6_addr)`)
		if len(d) >= 28 {
			p.s(", sin6_scope_id=")
			p.u(uint64(v.u32(24)))
		}
	case family == afNetlink && len(d) >= 12:
		p.s(", nl_pid=")
		p.d(int64(int32(v.u32(4))))
		p.s(", nl_groups=")
		p.b = appendHex8(p.b, v.u32(8))
	case len(d) > 2:
		p.s(", sa_data=")
		p.quoted(d[2:], false)
	}
	p.s("}")
}

// appendHex8 appends a group mask as strace does: eight digits, or 0.
func appendHex8(b []byte, v uint32) []byte {
	if v == 0 {
		return append(b, "00000000"...)
	}
	const digits = "0123456789abcdef"
	b = append(b, "0x"...)
	for i := 28; i >= 0; i -= 4 {
		b = append(b, digits[v>>i&0xf])
	}
	return b
}

// iovec shows n elements of the array at a, with their contents where those were
// kept: the first total bytes of a call that read.
func (p *printer) iovec(arg uint8, out bool, a, n, total uint64) {
	array := p.bufAt(arg, false, a)
	if array == nil {
		array = p.bufAt(arg, true, a)
	}
	if a == 0 || array == nil || out && p.fail != 0 {
		p.ptr(a)
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

func (p *printer) msghdr(w *word, out bool) { p.msghdrAt(w.reg, out, p.args[w.reg], p.ret) }

// mmsghdr shows the messages that were received.
func (p *printer) mmsghdr(w *word) {
	a := p.args[w.reg]
	size := msghdrSize(p.id) + p.word()
	b := p.bufAt(w.reg, true, a)
	if a == 0 || b == nil || p.fail != 0 || len(b.Data) < size {
		p.ptr(a)
		return
	}
	v := view{b.Data, p.word()}
	p.s("[")
	for i := 0; i < len(b.Data)/size; i++ {
		p.comma(i)
		if i >= 32 {
			p.s("...")
			break
		}
		n := v.u32(i*size + size - p.word())
		p.s("{msg_hdr=")
		p.msghdrAt(w.reg, true, a+uint64(i*size), uint64(n))
		p.s(", msg_len=")
		p.u(uint64(n))
		p.s("}")
	}
	p.s("]")
}

// msghdrAt shows the header at a of a message of n bytes.
func (p *printer) msghdrAt(arg uint8, out bool, a, n uint64) {
	b := p.bufAt(arg, out, a)
	if a == 0 || b == nil || len(b.Data) < msghdrSize(p.id) || out && p.fail != 0 {
		p.ptr(a)
		return
	}
	m := parseMsghdr(view{b.Data, p.word()})
	p.s("{msg_name=")
	if name := p.bufAt(arg, out, m.name); m.name != 0 && name != nil {
		p.sockaddr(name.Data)
	} else {
		p.ptr(m.name)
	}
	p.s(", msg_namelen=")
	p.u(m.namelen)
	p.s(", msg_iov=")
	p.iovec(arg, out, m.iov, m.iovlen, n)
	p.s(", msg_iovlen=")
	p.u(m.iovlen)
	if control := p.bufAt(arg, out, m.control); m.control != 0 && control != nil {
		p.s(", msg_control=")
		p.control(control.Data)
	}
	p.s(", msg_controllen=")
	p.u(m.controllen)
	p.s(", msg_flags=")
	p.b = FlagTable("msgflags").Append(p.b, uint64(m.flags))
	p.s("}")
}

// control shows ancillary messages; descriptors that were passed get their
// names.
func (p *printer) control(d []byte) {
	w := p.word()
	p.s("[")
	first := true
	eachControl(d, w, func(level, kind uint32, size uint64, data []byte) {
		p.comma(map[bool]int{true: 0, false: 1}[first])
		first = false
		p.s("{cmsg_len=")
		p.u(size)
		p.s(", cmsg_level=")
		p.b = FlagTable("sol").AppendValue(p.b, uint64(level))
		p.s(", cmsg_type=")
		if level != 1 {
			p.x(uint64(kind))
		} else {
			p.b = FlagTable("cmsg").AppendValue(p.b, uint64(kind))
		}
		v := view{data, 4}
		switch {
		case level == 1 && kind == 1:
			p.s(", cmsg_data=[")
			for i := 0; i+4 <= len(data); i += 4 {
				p.comma(i)
				p.newFD(int32(v.u32(i)))
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
		case len(data) > 0:
			p.s(", cmsg_data=")
			p.quoted(data, false)
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
