package call

// Types of netlink messages that are the same in all protocols.
const (
	nlHeader = 16
	nlError  = 2
	nlDone   = 3
	nlFirst  = 16 // the first of a protocol's own
	nlRoute  = 0  // NETLINK_ROUTE
	nlUevent = 15 // NETLINK_KOBJECT_UEVENT sends text
)

// netlinkOf says whether a descriptor is a netlink socket, and of what protocol.
func (p *printer) netlinkOf(fd int32) (proto int, ok bool) {
	if p.c.Netlink == nil {
		return 0, false
	}
	return p.c.Netlink(fd)
}

// netlink shows the messages in data: their headers, and the kind of what they
// carry.
func (p *printer) netlink(d []byte, total uint64, proto int) {
	if proto == nlUevent || len(d) < nlHeader {
		p.quoted(d, total > uint64(len(d)))
		return
	}
	several := false
	for n := 0; ; n++ {
		size := uint64(view{d, 8}.u32(0))
		next := (size + 3) &^ 3
		last := size < nlHeader || next >= total
		if !several && !last {
			p.s("[")
			several = true
		}
		if n >= maxListed {
			p.s("...")
			break
		}
		p.nlMessage(d, min(size, total), proto)
		if last {
			break
		}
		p.s(", ")
		if next >= uint64(len(d)) || uint64(len(d))-next < nlHeader {
			p.s("...") // the rest was not kept
			break
		}
		d, total = d[next:], total-next
	}
	if several {
		p.s("]")
	}
}

// nlMessage shows a message of size bytes, of which d has the first.
func (p *printer) nlMessage(d []byte, size uint64, proto int) {
	v := view{d, 8}
	kind, flags := v.u16(4), uint64(v.u16(6))
	if size > nlHeader {
		p.s("[")
	}
	p.s("{nlmsg_len=")
	p.u(uint64(v.u32(0)))
	p.s(", nlmsg_type=")
	p.nlType(uint64(kind), proto)
	p.s(", nlmsg_flags=")
	p.b = flagTable(nlFlagTable(kind, proto)).Append(p.b, flags)
	p.s(", nlmsg_seq=")
	p.u(uint64(v.u32(8)))
	p.s(", nlmsg_pid=")
	p.d(int64(int32(v.u32(12))))
	p.s("}")
	if size <= nlHeader {
		return
	}
	p.s(", ")
	rest := d[nlHeader:min(size, uint64(len(d)))]
	left := size - nlHeader
	switch {
	case kind == nlDone && left == 4 && len(rest) == 4:
		p.d(int64(int32(view{rest, 4}.u32(0))))
	case kind == nlError && len(rest) >= 4+nlHeader:
		p.s("{error=")
		p.nlErrno(int32(view{rest, 4}.u32(0)))
		p.s(", msg=")
		p.nlMessage(rest[4:], min(uint64(max(nlHeader, view{rest, 4}.u32(4))), left-4), proto)
		p.s("}")
	case proto == nlRoute && kind >= nlFirst && kind < nlFirst+4 && len(rest) >= layouts()["ifinfo"].size[0]:
		l := layouts()["ifinfo"]
		p.layout(l, rest[:l.size[0]], 0, false)
		if left > uint64(l.size[0]) { // attributes
			p.s(", ...")
		}
	case proto == nlRoute && kind >= nlFirst && len(rest) > 0 && nlFamily(kind) != "":
		p.s("{")
		p.s(nlFamily(kind))
		p.s("=")
		p.b = flagTable("af").AppendValue(p.b, uint64(rest[0]))
		p.s(", ...}")
	default:
		p.hexText(rest, uint64(len(rest)) < left)
	}
	p.s("]")
}

func (p *printer) nlType(kind uint64, proto int) {
	switch {
	case kind < nlFirst || proto != nlRoute:
		p.b = flagTable("nltype").AppendValue(p.b, kind)
	default:
		p.b = flagTable("nlroute").AppendValue(p.b, kind)
	}
}

func nlFlagTable(kind uint16, proto int) string {
	switch {
	case kind == nlError:
		return "nlack"
	case kind < nlFirst || proto != nlRoute:
		return "nlflags"
	}
	return [...]string{"nlnew", "nldelete", "nlget", "nlflags"}[kind&3]
}

// nlFamily is the first member of what a message of NETLINK_ROUTE carries.
func nlFamily(kind uint16) string {
	switch (kind - nlFirst) / 4 {
	case 0:
		return "ifi_family"
	case 1:
		return "ifa_family"
	case 2:
		return "rtm_family"
	case 3:
		return "ndm_family"
	case 4:
		return "family"
	}
	return ""
}

func (p *printer) nlErrno(n int32) {
	if n == 0 {
		p.s("0")
		return
	}
	p.errno(-n)
}
