package call

// Requests of ioctl about network interfaces that are unlike the others.
const (
	siocGifName = 0x8910
	siocGifConf = 0x8912
)

// interface1 shows the struct of a request about a network interface; false is
// said of other requests.
func (p *printer) interface1(w *word) bool {
	req := uint32(p.args[1])
	in, out := p.buf(w.reg, false), p.buf(w.reg, true)
	ok := p.done && p.fail == 0 && out != nil
	set, get := variants()["ioctlset"].pick(&p.args).lay, variants()["ioctlget"].pick(&p.args).lay
	if set == nil && get == nil && req != siocGifName && req != siocGifConf {
		return false
	}
	least := 32
	if req == siocGifConf {
		least = 2 * p.word()
	}
	if p.args[w.reg] == 0 || in == nil || len(in.Data) < least {
		p.ptr(p.args[w.reg])
		return true
	}
	if ok {
		ok = len(out.Data) >= least
	}
	switch {
	case req == siocGifConf:
		p.interfaces(w, in, out, ok)
	case req == siocGifName && ok:
		p.layout(layouts()["ifr_byindex"], out.Data, w.reg, true)
	case req == siocGifName:
		p.layout(layouts()["ifr_index_only"], in.Data, w.reg, false)
	case set != nil:
		p.layout(set, in.Data, w.reg, false)
	case ok:
		p.layout(get, out.Data, w.reg, true)
	default:
		p.layout(layouts()["ifr_name"], in.Data, w.reg, false)
	}
	return true
}

// interfaces shows the list that SIOCGIFCONF fills.
func (p *printer) interfaces(w *word, in, out *Buf, ok bool) {
	size := 16 + 3*p.word()
	if p.word() == 4 {
		size = 32
	}
	length := func(n uint32) {
		p.d(int64(int32(n)))
		if int32(n) > 0 && n%uint32(size) == 0 {
			p.s(" /* ")
			p.u(uint64(n) / uint64(size))
			p.s(" * sizeof(struct ifreq) */")
		}
	}
	v := view{in.Data, p.word()}
	had, list := v.u32(0), v.word(v.w)
	now := had
	if ok {
		now = view{out.Data, v.w}.u32(0)
	}
	p.s("{ifc_len=")
	if list != 0 {
		length(had)
		if now != had {
			p.s(" => ")
		}
	}
	if list == 0 || now != had {
		length(now)
	}
	p.s(", ifc_buf=")
	b := p.bufAt(w.reg, true, list)
	if !ok || b == nil || list == 0 {
		p.ptr(list)
	} else {
		p.s("[")
		for i := 0; (i+1)*size <= len(b.Data); i++ {
			p.comma(i)
			if i >= maxListed {
				p.s("...")
				break
			}
			p.layout(layouts()["ifr_conf"], b.Data[i*size:], w.reg, true)
		}
		p.s("]")
	}
	p.s("}")
}
