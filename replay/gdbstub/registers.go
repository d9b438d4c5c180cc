package gdbstub

import (
	"encoding/hex"
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// regs are the registers of a thread at a step, as far as they are known exactly.
type regs struct {
	arch   arch.ID
	values []uint64 // in the order of arch.Registers
	known  []bool
	xstate []byte      // as XSAVE writes it; nil: not known
	asOf   format.Step // that they were read at, if whole
	whole  bool        // all of them were read
	call   string      // the call that the thread is in, "" if it is in none
}

func newRegs(id arch.ID) *regs {
	n := len(id.Registers())
	return &regs{arch: id, values: make([]uint64, n), known: make([]bool, n)}
}

// all takes all registers as they were read.
func (r *regs) all(v *replay.Registers) {
	for i := range min(len(r.values), len(v.Values)) {
		r.values[i], r.known[i] = v.Values[i], true
	}
	r.whole = true
	if r.asOf = v.AsOf; v.XAsOf == v.AsOf {
		r.xstate = v.XState
	}
}

func (r *regs) set(i int, v uint64) {
	if i >= 0 && i < len(r.values) {
		r.values[i], r.known[i] = v, true
	}
}

// ofCall takes what a call says of the registers: where it was made, its number and its
// arguments, which the kernel leaves as they are, and its result once it has one.
func (r *regs) ofCall(c *format.Syscall, done bool) {
	if c.IP == 0 || c.Arch != r.arch {
		return
	}
	r.set(r.arch.PC(), c.IP)
	if c.SP != 0 {
		r.set(r.arch.SP(), c.SP)
	}
	row, ok := c.Arch.Syscall(c.Nr)
	if r.arch != arch.X86_64 || !ok || row.Name == "rt_sigreturn" {
		return // i386 has more than one way to make a call; a return from a handler changes all
	}
	for i, at := range r.arch.CallArgs() {
		if i < int(row.NArg) {
			r.set(at, c.Args[i])
		}
	}
	r.set(arch.OrigRAX, uint64(c.Nr))
	r.set(arch.RCX, c.IP)
	if done && c.Returned {
		r.set(arch.RAX, uint64(c.Ret))
	}
}

// pc is the instruction pointer.
func (r *regs) pc() (uint64, bool) {
	i := r.arch.PC()
	if i < 0 || i >= len(r.values) {
		return 0, false
	}
	return r.values[i], r.known[i]
}

// sp is the stack pointer.
func (r *regs) sp() (uint64, bool) {
	i := r.arch.SP()
	if i < 0 || i >= len(r.values) {
		return 0, false
	}
	return r.values[i], r.known[i]
}

// field is a register of a target description.
type field struct {
	name, kind string
	bits       int
	group      string
	general    int // index in arch.Registers, -1 for none
	off        int // in the extended state, 0 for none
}

// description is what gdb is told of the registers of an architecture.
type description struct {
	arch     string
	features []feature
	fields   []field // of all features, by number
}

type feature struct {
	name   string
	types  string
	fields []field
}

// Places in the area that FXSAVE writes, which the extended state begins with.
const (
	fxMXCSR = 24
	fxST    = 32
	fxXMM   = 160
)

const vec128 = `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/><vector id="v16i8" type="int8" count="16"/>` +
	`<vector id="v8i16" type="int16" count="8"/><vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>` +
	`<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/>` +
	`<field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>` +
	`<flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/></flags>`

// describe is the description of an architecture, nil for one that gdb is not served.
func describe(id arch.ID) *description {
	d := &description{arch: "i386:x86-64"}
	xmm := 16
	switch id {
	case arch.X86_64:
	case arch.I386:
		d.arch, xmm = "i386", 8
	default:
		return nil
	}
	of := map[int]field{}
	most := 0
	for i, r := range id.Registers() {
		if r.GDB < 0 {
			continue
		}
		kind := map[uint8]string{4: "int32", 8: "int64"}[r.Size]
		switch i {
		case id.PC():
			kind = "code_ptr"
		case id.SP():
			kind = "data_ptr"
		}
		of[int(r.GDB)] = field{name: r.Name, kind: kind, bits: 8 * int(r.Size), general: i}
		most = max(most, int(r.GDB))
	}
	var core, sse, linux, segments feature
	core.name, sse.name, linux.name, segments.name = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse", "org.gnu.gdb.i386.linux", "org.gnu.gdb.i386.segments"
	sse.types = vec128
	n := 0
	for ; of[n].name != ""; n++ {
		core.fields = append(core.fields, of[n])
		delete(of, n)
	}
	for i := range 8 {
		core.fields = append(core.fields, field{name: fmt.Sprintf("st%d", i), kind: "i387_ext", bits: 80, general: -1, off: fxST + 16*i})
	}
	for _, name := range []string{"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"} {
		core.fields = append(core.fields, field{name: name, kind: "int", bits: 32, group: "float", general: -1})
	}
	for i := range xmm {
		sse.fields = append(sse.fields, field{name: fmt.Sprintf("xmm%d", i), kind: "vec128", bits: 128, general: -1, off: fxXMM + 16*i})
	}
	sse.fields = append(sse.fields, field{name: "mxcsr", kind: "i386_mxcsr", bits: 32, group: "vector", general: -1, off: fxMXCSR})
	for ; n <= most; n++ {
		switch f := of[n]; {
		case f.name == "":
		case strings.HasPrefix(f.name, "orig_"):
			f.kind, f.group = "int", "system"
			linux.fields = append(linux.fields, f)
		default:
			f.kind = "int"
			segments.fields = append(segments.fields, f)
		}
	}
	d.features = []feature{core, sse, linux}
	if len(segments.fields) > 0 {
		d.features = append(d.features, segments)
	}
	for _, f := range d.features {
		d.fields = append(d.fields, f.fields...)
	}
	return d
}

// xml is the description as gdb reads it.
func (d *description) xml() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0"><architecture>%s</architecture><osabi>GNU/Linux</osabi>`, d.arch)
	for _, f := range d.features {
		fmt.Fprintf(&b, `<feature name="%s">%s`, f.name, f.types)
		for _, r := range f.fields {
			fmt.Fprintf(&b, `<reg name="%s" bitsize="%d" type="%s"`, r.name, r.bits, r.kind)
			if r.group != "" {
				fmt.Fprintf(&b, ` group="%s"`, r.group)
			}
			b.WriteString("/>")
		}
		b.WriteString("</feature>")
	}
	b.WriteString("</target>")
	return b.String()
}

// appendAll appends all registers, as append does.
func (d *description) appendAll(b []byte, r *regs) []byte {
	for i := range d.fields {
		b = d.fields[i].append(b, r)
	}
	return b
}

// append appends a register in hexadecimal, x for what is not known.
func (f *field) append(b []byte, r *regs) []byte {
	n := f.bits / 8
	switch {
	case f.general >= 0 && r.known[f.general]:
		var raw [8]byte
		for i := range raw {
			raw[i] = byte(r.values[f.general] >> (8 * i))
		}
		return hex.AppendEncode(b, raw[:n])
	case f.off > 0 && f.off+n <= len(r.xstate):
		return hex.AppendEncode(b, r.xstate[f.off:f.off+n])
	}
	return append(b, strings.Repeat("xx", n)...)
}
