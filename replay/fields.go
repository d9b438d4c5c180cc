package replay

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// What an event says, as names and values: the JSON and CSV forms are both
// written from it, with the names of docs/cli.md.

// ValueKind says what a Value holds.
type ValueKind uint8

// The kinds of value.
const (
	ValueUint   ValueKind = iota // Num
	ValueInt                     // Num, as an int64
	ValueHex                     // Num: an address, flags or a raw argument
	ValueBool                    // Num is not 0
	ValueText                    // Text, of any bytes
	ValueList                    // the values of Fields, which have no names
	ValueObject                  // Fields
)

// Value is one of a field's.
type Value struct {
	Kind   ValueKind
	Num    uint64
	Text   string
	Fields []Field
}

// Field is one thing that an event says.
type Field struct {
	Name string
	Value
}

// fieldList is built field by field.
type fieldList []Field

func (f *fieldList) add(name string, k ValueKind, n uint64) {
	*f = append(*f, Field{name, Value{Kind: k, Num: n}})
}

func (f *fieldList) uint(name string, n uint64) { f.add(name, ValueUint, n) }
func (f *fieldList) int(name string, n int64)   { f.add(name, ValueInt, uint64(n)) }
func (f *fieldList) hex(name string, n uint64)  { f.add(name, ValueHex, n) }

func (f *fieldList) bool(name string, v bool) {
	n := uint64(0)
	if v {
		n = 1
	}
	f.add(name, ValueBool, n)
}

func (f *fieldList) text(name, s string) {
	*f = append(*f, Field{name, Value{Kind: ValueText, Text: s}})
}

func (f *fieldList) list(name string, of []Field) {
	*f = append(*f, Field{name, Value{Kind: ValueList, Fields: of}})
}

// object adds what fill puts into inner, which may hold other lists already.
func (f *fieldList) object(inner *fieldList, fill func(*fieldList)) {
	from := len(*inner)
	fill(inner)
	*f = append(*f, Field{"", Value{Kind: ValueObject, Fields: (*inner)[from:len(*inner):len(*inner)]}})
}

// Fields is all that m's event says, in the order in which it is written. It
// follows the event as AppendLine does. The fields are valid until the next
// call.
func (p *Printer) Fields(m *Moment) []Field {
	ev := m.Event
	f := p.fields[:0]
	p.inner = p.inner[:0]
	f.uint("step", uint64(ev.Step))
	f.uint("time", ev.Time)
	if m.Thread.No != 0 {
		f.uint("pid", uint64(m.Thread.TGID))
		f.uint("tid", uint64(m.Thread.TID))
		if m.Thread.NSTID != 0 && m.Thread.NSTID != m.Thread.TID {
			f.uint("nstid", uint64(m.Thread.NSTID))
		}
	} else if pid, ok := m.Subject(); ok {
		f.uint("pid", uint64(pid))
	}
	f.text("type", TypeName(ev.Record))
	if s, ok := ev.Record.(*format.Syscall); ok {
		p.syscallFields(&f, m, s)
	} else {
		p.recordFields(&f, m)
	}
	p.fds.feed(ev)
	if len(m.Changes) > 0 {
		list := make(fieldList, 0, len(m.Changes))
		for _, c := range m.Changes {
			list.object(&p.inner, func(f *fieldList) { changeFields(f, c, m.Thread.MM) })
		}
		f.list("changes", list)
	}
	p.stackFields(&f, ev.Stack)
	p.fields = f
	return f
}

// Subject is the kernel's id of the process that an event of the recorder's own is about.
func (m *Moment) Subject() (pid uint32, ok bool) {
	var mm, no uint32
	switch r := m.Event.Record.(type) {
	case *format.Snapshot:
		mm = r.MM
	case *format.Check:
		mm = r.MM
	case *format.Poke:
		mm = r.MM
	default:
		return 0, false
	}
	for _, t := range m.State.Threads {
		if t.MM == mm && (!ok || t.No < no) {
			pid, no, ok = t.TGID, t.No, true
		}
	}
	return pid, ok
}

func (p *Printer) syscallFields(f *fieldList, m *Moment, s *format.Syscall) {
	sc, known := s.Arch.Syscall(s.Nr)
	n := int(sc.NArg)
	if !known {
		n = len(s.Args)
	}
	f.text("name", CallName(s.Arch, s.Nr))
	f.uint("nr", uint64(s.Nr))
	for _, a := range s.Args[:n] {
		p.inner.hex("", a)
	}
	f.list("args", p.inner[:n:n])
	c := p.callOf(s)
	p.fds.tell(m.Event.Thread, &c)
	p.text = c.AppendArgs(p.text[:0])
	f.text("decoded", string(p.text))
	if s.Returned {
		f.int("ret", s.Ret)
		if s.Ret < 0 && s.Ret >= -arch.MaxErrno {
			if e := arch.ErrnoName(int(-s.Ret)); e != "" {
				f.text("errno", e)
			}
		}
	}
	f.uint("start", s.Enter)
	f.text("arch", s.Arch.String())
	if s.IP != 0 {
		f.hex("ip", s.IP)
	}
	if s.SP != 0 {
		f.hex("sp", s.SP)
	}
	if s.Inside {
		f.bool("inside", true)
	}
}

// recordFields are those of what is no system call.
func (p *Printer) recordFields(f *fieldList, m *Moment) {
	switch r := m.Event.Record.(type) {
	case *format.Signal:
		signalFields(f, r)
	case *format.Exec:
		f.text("path", r.Path)
		if r.Called != "" {
			f.text("called", r.Called)
		}
		for _, a := range r.Argv {
			p.inner.text("", a)
		}
		f.list("argv", p.inner)
		if r.OldTID != 0 {
			f.int("old_tid", int64(r.OldTID))
		}
	case *format.Clone:
		tid, what := childOf(m, r)
		f.int("child", int64(tid))
		f.hex("flags", r.Flags)
		f.text("what", what)
		f.text("space", spaceOf(m, r))
	case *format.Exit:
		if sig := r.Status & 0x7f; sig != 0 {
			f.text("signal", arch.SignalName(int(sig)))
			f.bool("core", r.Status&0x80 != 0)
		} else {
			f.int("status", int64(r.Status>>8&0xff))
		}
		f.bool("process", r.Process)
	case *format.Stop:
		if r.What == format.Continued {
			f.text("what", "continued")
		} else {
			f.text("what", "stopped")
			f.text("signo", arch.SignalName(int(r.Signo)))
		}
	case *format.MemInfo:
		f.list("samples", p.sampleFields(r))
	default:
		recorderFields(f, r)
	}
}

func signalFields(f *fieldList, r *format.Signal) {
	f.text("signo", arch.SignalName(int(r.Signo)))
	f.int("number", int64(r.Signo))
	if len(r.Info) > 0 {
		si := call.ParseSigInfo(r.Info)
		f.int("code", int64(si.Code))
		// Only faults carry an address, and only what was sent a sender.
		if fault(r.Signo) && si.Code > 0 {
			f.hex("addr", uint64(si.Addr))
		} else if si.Code <= 0 || r.Signo == sigchld {
			f.int("sender", int64(si.PID))
		}
	}
	f.bool("fatal", r.Fatal)
}

func (p *Printer) sampleFields(r *format.MemInfo) []Field {
	list := make(fieldList, 0, len(r.Samples))
	for _, s := range r.Samples {
		list.object(&p.inner, func(f *fieldList) {
			f.text("source", s.Source)
			if s.PID != 0 {
				f.int("pid", int64(s.PID))
			}
			f.text("text", string(s.Data))
		})
	}
	return list
}

// untilNames say for how long the calls of a process are recorded by stops.
var untilNames = [...]string{format.UntilEnd: "end", format.UntilExec: "exec", format.UntilOver: "over"}

// recorderFields are those of what memtrace itself did.
func recorderFields(f *fieldList, record format.Record) {
	switch r := record.(type) {
	case *format.Snapshot:
		f.int("space", int64(r.MM))
		f.text("reason", short(r.Reason))
		f.text("mechanism", MechanismName(r.Mechanism))
		f.bool("full", r.Full)
		f.int("pages", int64(r.Pages))
		f.int("pause", int64(r.PauseNS))
	case *format.Attach:
		f.int("target", int64(r.PID))
		if r.Goes {
			f.bool("begins", true)
		}
	case *format.Detach:
		f.text("reason", short(r.Reason))
	case *format.Lost:
		f.text("what", short(r.What))
	case *format.Outside:
		f.text("why", short(r.Why))
		f.text("until", untilNames[min(r.Until, format.UntilOver)])
	case *format.Check:
		f.bool("ok", r.OK)
		if !r.OK {
			f.text("diff", r.Diff)
		}
	case *format.Poke:
		f.hex("addr", uint64(r.Addr))
		f.text("old", hex.EncodeToString(r.Old))
		f.text("new", hex.EncodeToString(r.New))
	case *format.Redacted:
		f.text("was", wasKind(r).String())
	case *format.Unknown:
		f.int("code", int64(r.Code))
		f.text("data", hex.EncodeToString(r.Data))
	}
}

// changeFields are one element of "changes". own is the address space of the
// event's thread; a change of another says which.
func changeFields(f *fieldList, c Change, own uint32) {
	f.text("op", c.Op.String())
	mappingFields(f, c.VMA)
	switch c.Op {
	case vma.Remap:
		f.hex("from", uint64(c.Old.Start))
		f.hex("from_end", uint64(c.Old.End))
	case vma.Protect:
		f.text("old_perms", c.Old.Prot.String())
	case vma.Rename:
		f.text("old_path", c.Old.Name)
	}
	if c.MM != own {
		f.uint("space", uint64(c.MM))
	}
}

func mappingFields(f *fieldList, v vma.VMA) {
	f.hex("start", uint64(v.Start))
	f.hex("end", uint64(v.End))
	f.text("perms", v.Prot.String())
	f.uint("offset", v.Offset)
	f.text("dev", devText(v.Dev))
	f.uint("inode", v.Inode)
	f.text("path", v.Name)
	f.text("kind", v.Kind.String())
}

func devText(d vma.Dev) string {
	var b [20]byte
	return string(appendDev(b[:0], d))
}

// AppendText appends a value as text: the bytes of a text that are no UTF-8
// become U+FFFD, and lists and objects are JSON.
func (v *Value) AppendText(b []byte) []byte {
	switch v.Kind {
	case ValueHex:
		return strconv.AppendUint(append(b, "0x"...), v.Num, 16)
	case ValueText:
		if utf8.ValidString(v.Text) {
			return append(b, v.Text...)
		}
		for _, r := range v.Text {
			b = utf8.AppendRune(b, r)
		}
		return b
	}
	return v.AppendJSON(b)
}

// TypeName is the "type" key of a record.
func TypeName(r format.Record) string { return r.Kind().String() }

// CallName is a system call's name, or what strace says when it has none.
func CallName(id arch.ID, nr uint32) string {
	if sc, ok := id.Syscall(nr); ok {
		return sc.Name
	}
	return "syscall_0x" + strconv.FormatUint(uint64(nr), 16)
}

const sigchld = 17

// fault says whether a signal reports a fault of the program's own.
func fault(signo int32) bool {
	switch signo {
	case 4, 5, 7, 8, 11: // SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV
		return true
	}
	return false
}

// spaceOf says what a clone's child has for an address space.
func spaceOf(m *Moment, r *format.Clone) string {
	if t := m.State.Threads[r.Child]; t != nil && t.MM == m.Thread.MM {
		return "shared"
	}
	return "copied"
}

// MechanismName is how a snapshot found the pages to read.
func MechanismName(d format.Dirty) string {
	switch d {
	case format.DirtyWPAsync:
		return "wp-async"
	case format.DirtySoft:
		return "soft-dirty"
	case format.DirtyCompare:
		return "compare"
	}
	return "unknown"
}
