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

// The JSON form of an event: one object, keys as docs/cli.md names them. It is
// written by hand because a log has tens of millions of them.

// AppendJSON appends m's event as one JSON object without a newline, and follows
// the event as AppendLine does.
func (p *Printer) AppendJSON(b []byte, m *Moment) []byte {
	ev := m.Event
	b = append(b, `{"step":`...)
	b = strconv.AppendUint(b, uint64(ev.Step), 10)
	b = key(b, "time")
	b = strconv.AppendUint(b, ev.Time, 10)
	if m.Thread.No != 0 {
		b = key(b, "pid")
		b = strconv.AppendUint(b, uint64(m.Thread.TGID), 10)
		b = key(b, "tid")
		b = strconv.AppendUint(b, uint64(m.Thread.TID), 10)
		if m.Thread.NSTID != 0 && m.Thread.NSTID != m.Thread.TID {
			b = key(b, "nstid")
			b = strconv.AppendUint(b, uint64(m.Thread.NSTID), 10)
		}
	}
	if pid, ok := subject(m); ok {
		b = strconv.AppendUint(key(b, "pid"), uint64(pid), 10)
	}
	b = str(key(b, "type"), TypeName(ev.Record))
	if s, ok := ev.Record.(*format.Syscall); ok {
		b = p.syscallJSON(b, m, s)
	} else {
		b = recordJSON(b, m)
	}
	p.fds.feed(ev)
	if len(m.Changes) > 0 {
		b = append(key(b, "changes"), '[')
		for i, c := range m.Changes {
			if i > 0 {
				b = append(b, ',')
			}
			b = changeJSON(b, c, m.Thread.MM)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// subject is the process that an event of the recorder's own is about.
func subject(m *Moment) (pid uint32, ok bool) {
	if m.Thread.No != 0 {
		return 0, false
	}
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

// TypeName is the "type" key of a record.
func TypeName(r format.Record) string {
	switch r.(type) {
	case *format.Syscall:
		return "syscall"
	case *format.Signal:
		return "signal"
	case *format.Exec:
		return "exec"
	case *format.Clone:
		return "clone"
	case *format.Exit:
		return "exit"
	case *format.Stop:
		return "stop"
	case *format.Snapshot:
		return "snapshot"
	case *format.MemInfo:
		return "meminfo"
	case *format.Attach:
		return "attach"
	case *format.Detach:
		return "detach"
	case *format.Lost:
		return "lost"
	case *format.Check:
		return "check"
	case *format.Poke:
		return "write"
	}
	return "unknown"
}

func (p *Printer) syscallJSON(b []byte, m *Moment, s *format.Syscall) []byte {
	sc, known := s.Arch.Syscall(s.Nr)
	b = str(key(b, "name"), CallName(s.Arch, s.Nr))
	b = key(b, "nr")
	b = strconv.AppendUint(b, uint64(s.Nr), 10)
	n := int(sc.NArg)
	if !known {
		n = len(s.Args)
	}
	b = append(key(b, "args"), '[')
	for i, a := range s.Args[:n] {
		if i > 0 {
			b = append(b, ',')
		}
		b = hexStr(b, a)
	}
	b = append(b, ']')
	c := callOf(s)
	c.FD = p.fds.namer(m.Event.Thread, s)
	b = strBytes(key(b, "decoded"), c.AppendArgs(nil))
	if s.Returned {
		b = key(b, "ret")
		b = strconv.AppendInt(b, s.Ret, 10)
		if s.Ret < 0 && s.Ret >= -arch.MaxErrno {
			if e := arch.ErrnoName(int(-s.Ret)); e != "" {
				b = str(key(b, "errno"), e)
			}
		}
	}
	b = key(b, "start")
	b = strconv.AppendUint(b, s.Enter, 10)
	b = str(key(b, "arch"), s.Arch.String())
	if s.Injected {
		b = append(key(b, "injected"), "true"...)
	}
	if s.IP != 0 {
		b = hexStr(key(b, "ip"), s.IP)
	}
	if s.SP != 0 {
		b = hexStr(key(b, "sp"), s.SP)
	}
	return b
}

// CallName is a system call's name, or what strace says when it has none.
func CallName(id arch.ID, nr uint32) string {
	if sc, ok := id.Syscall(nr); ok {
		return sc.Name
	}
	return "syscall_0x" + strconv.FormatUint(uint64(nr), 16)
}

func recordJSON(b []byte, m *Moment) []byte {
	num := func(k string, v int64) { b = strconv.AppendInt(key(b, k), v, 10) }
	flag := func(k string, v bool) { b = strconv.AppendBool(key(b, k), v) }
	text := func(k, v string) { b = str(key(b, k), v) }
	switch r := m.Event.Record.(type) {
	case *format.Signal:
		text("signo", arch.SignalName(int(r.Signo)))
		num("number", int64(r.Signo))
		if len(r.Info) > 0 {
			si := call.ParseSigInfo(r.Info)
			num("code", int64(si.Code))
			// Only faults carry an address, and only what was sent a sender.
			if fault(r.Signo) && si.Code > 0 {
				b = hexStr(key(b, "addr"), uint64(si.Addr))
			} else if si.Code <= 0 || r.Signo == sigchld {
				num("sender", int64(si.PID))
			}
		}
		flag("fatal", r.Fatal)
	case *format.Exec:
		text("path", r.Path)
		b = append(key(b, "argv"), '[')
		for i, a := range r.Argv {
			if i > 0 {
				b = append(b, ',')
			}
			b = str(b, a)
		}
		b = append(b, ']')
		if r.OldTID != 0 {
			num("old_tid", int64(r.OldTID))
		}
	case *format.Clone:
		tid, what := childOf(m, r)
		num("child", int64(tid))
		b = hexStr(key(b, "flags"), r.Flags)
		text("what", what)
		text("space", spaceOf(m, r))
	case *format.Exit:
		if sig := r.Status & 0x7f; sig != 0 {
			text("signal", arch.SignalName(int(sig)))
			flag("core", r.Status&0x80 != 0)
		} else {
			num("status", int64(r.Status>>8&0xff))
		}
		flag("process", r.Process)
	case *format.Stop:
		if r.What == format.Continued {
			text("what", "continued")
		} else {
			text("what", "stopped")
			text("signo", arch.SignalName(int(r.Signo)))
		}
	case *format.Snapshot:
		num("space", int64(r.MM))
		text("reason", r.Reason)
		text("mechanism", MechanismName(r.Mechanism))
		flag("full", r.Full)
		num("pages", int64(r.Pages))
		num("pause", int64(r.PauseNS))
	case *format.MemInfo:
		b = append(key(b, "samples"), '[')
		for i, s := range r.Samples {
			if i > 0 {
				b = append(b, ',')
			}
			b = str(append(b, `{"source":`...), s.Source)
			if s.PID != 0 {
				num("pid", int64(s.PID))
			}
			b = append(strBytes(key(b, "text"), s.Data), '}')
		}
		b = append(b, ']')
	case *format.Attach:
		num("target", int64(r.PID))
	case *format.Detach:
		text("reason", r.Reason)
	case *format.Lost:
		text("what", r.What)
	case *format.Check:
		flag("ok", r.OK)
		if !r.OK {
			text("diff", r.Diff)
		}
	case *format.Poke:
		b = hexStr(key(b, "addr"), uint64(r.Addr))
		text("old", hex.EncodeToString(r.Old))
		text("new", hex.EncodeToString(r.New))
	case *format.Unknown:
		num("code", int64(r.Code))
		text("data", hex.EncodeToString(r.Data))
	}
	return b
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

// changeJSON appends one element of "changes". own is the address space of the
// event's thread; a change of another says which.
func changeJSON(b []byte, c Change, own uint32) []byte {
	v := c.VMA
	b = str(append(b, `{"op":`...), c.Op.String())
	b = mappingJSON(append(b, ','), v)
	switch c.Op {
	case vma.Remap:
		b = hexStr(key(b, "from"), uint64(c.Old.Start))
		b = hexStr(key(b, "from_end"), uint64(c.Old.End))
	case vma.Protect:
		b = str(key(b, "old_perms"), c.Old.Prot.String())
	case vma.Rename:
		b = str(key(b, "old_path"), c.Old.Name)
	}
	if c.MM != own {
		b = strconv.AppendUint(key(b, "space"), uint64(c.MM), 10)
	}
	return append(b, '}')
}

// mappingJSON appends the keys of a mapping.
func mappingJSON(b []byte, v vma.VMA) []byte {
	b = hexStr(append(b, `"start":`...), uint64(v.Start))
	b = hexStr(key(b, "end"), uint64(v.End))
	b = str(key(b, "perms"), v.Prot.String())
	b = strconv.AppendUint(key(b, "offset"), v.Offset, 10)
	b = append(key(b, "dev"), '"')
	b = appendDev(b, v.Dev)
	b = append(b, '"')
	b = strconv.AppendUint(key(b, "inode"), v.Inode, 10)
	b = str(key(b, "path"), v.Name)
	return str(key(b, "kind"), v.Kind.String())
}

func appendDev(b []byte, d vma.Dev) []byte {
	for i, n := range [2]uint32{d.Major, d.Minor} {
		if i > 0 {
			b = append(b, ':')
		}
		if n < 16 {
			b = append(b, '0')
		}
		b = strconv.AppendUint(b, uint64(n), 16)
	}
	return b
}

func key(b []byte, k string) []byte {
	b = append(b, ',', '"')
	b = append(b, k...)
	return append(b, '"', ':')
}

func hexStr(b []byte, v uint64) []byte {
	b = append(b, `"0x`...)
	b = strconv.AppendUint(b, v, 16)
	return append(b, '"')
}

func str(b []byte, s string) []byte { return strBytes(b, []byte(s)) }

// strBytes appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func strBytes(b, s []byte) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for len(s) > 0 {
		c := s[0]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRune(s)
			b = utf8.AppendRune(b, r)
			s = s[n:]
			continue
		}
		s = s[1:]
	}
	return append(b, '"')
}
