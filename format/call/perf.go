package call

// Kinds of events of perf_event_open.
const (
	perfHardware = iota
	perfSoftware
	perfTracepoint
	perfCache
)

// perfAttr shows the beginning of a perf_event_attr, which is what strace shows
// without -v.
func (p *printer) perfAttr(w *word) {
	b := p.buf(w.reg, false)
	if p.args[w.reg] == 0 || b == nil || len(b.Data) < perfAttrShown {
		p.ptr(p.args[w.reg])
		return
	}
	v := view{b.Data, 8}
	kind, size, config, flags := v.u32(0), v.u32(4), v.u64(8), v.u64(40)
	if size != 0 && size < 64 { // older than the first: the kernel refuses it
		p.ptr(p.args[w.reg])
		return
	}
	p.s("{type=")
	p.b = flagTable("perftype").AppendValue(p.b, uint64(kind))
	p.s(", size=")
	p.b = flagTable("perfsize").AppendValue(p.b, uint64(size))
	p.s(", config=")
	p.perfConfig(kind, config)
	if flags&(1<<10) != 0 {
		p.s(", sample_freq=")
	} else {
		p.s(", sample_period=")
	}
	p.u(v.u64(16))
	p.s(", sample_type=")
	p.b = flagTable("perfsample").Append(p.b, v.u64(24))
	p.s(", read_format=")
	p.b = flagTable("perfread").Append(p.b, v.u64(32))
	for i, name := range perfBits {
		switch {
		case i == perfPrecise:
			n := flags >> i & 3
			p.s(", precise_ip=")
			p.u(n)
			p.s(" /* ")
			p.s([...]string{"arbitrary skid", "constant skid", "requested to have 0 skid", "must have 0 skid"}[n])
			p.s(" */")
		case name != "" && flags>>i&1 != 0:
			p.s(", ")
			p.s(name)
			p.s("=1")
		}
	}
	if rest := flags >> len(perfBits); rest != 0 {
		p.s(", __reserved_1=")
		p.x(rest)
		p.s(" /* Bits 63..38 */")
	}
	p.s(", ...}")
}

const (
	perfAttrShown = 48
	perfPrecise   = 15
)

// perfBits are the names of the bits of perf_event_attr, in order.
var perfBits = [...]string{
	"disabled", "inherit", "pinned", "exclusive", "exclude_user", "exclude_kernel", "exclude_hv", "exclude_idle",
	"mmap", "comm", "freq", "inherit_stat", "enable_on_exec", "task", "watermark", "precise_ip",
	"", "mmap_data", "sample_id_all", "exclude_host", "exclude_guest", "exclude_callchain_kernel", "exclude_callchain_user", "mmap2",
	"comm_exec", "use_clockid", "context_switch", "write_backward", "namespaces", "ksymbol", "bpf_event", "aux_output",
	"cgroup", "text_poke", "build_id", "inherit_thread", "remove_on_exec", "sigtrap",
}

func (p *printer) perfConfig(kind uint32, v uint64) {
	shifted := func(table string, v uint64, shift string) {
		p.b = flagTable(table).AppendValue(p.b, v)
		p.s(shift)
	}
	if high := v >> 32; high != 0 && (kind == perfHardware || kind == perfCache) {
		p.x(high)
		p.s("<<32|")
		v &= 0xffffffff
	}
	switch kind {
	case perfHardware:
		shifted("perfhw", v, "")
	case perfSoftware:
		shifted("perfsw", v, "")
	case perfTracepoint:
		p.u(v)
	case perfCache:
		if high := v >> 24; high != 0 {
			p.x(high)
			p.s("<<24|")
		}
		shifted("perfcacheresult", v>>16&0xff, "<<16|")
		shifted("perfcacheop", v>>8&0xff, "<<8|")
		shifted("perfcache", v&0xff, "")
	default:
		p.x(v)
	}
}
