package call

import (
	"strconv"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// SigInfo is what a siginfo says.
type SigInfo struct {
	Signo, Errno, Code int32
	PID                int32 // sender, or the child of a SIGCHLD
	UID                uint32
	Addr               addr.Addr // of a fault, or of the call of a SIGSYS
	Value              uint64    // what sigqueue and timers carry
	Status             int32     // of a SIGCHLD
	Syscall            uint32    // of a SIGSYS
	Band               int64     // of a SIGIO
	FD                 int32
	Timer, Overrun     int32
	UTime, STime       int64
	PKey               uint32
	Lower, Upper       addr.Addr // of SEGV_BNDERR
	AuditArch          uint32
}

// Sources of a signal (si_code) that are the same for all signals.
const (
	siUser   = 0
	siKernel = 0x80
	siQueue  = -1
	siTimer  = -2
	siMesgq  = -3
	siAsync  = -4
	siSigIO  = -5
	siTKill  = -6
)

// ParseSigInfo reads a siginfo as PTRACE_GETSIGINFO gives it to a 64-bit tracer;
// bytes that are missing at its end are zero.
func ParseSigInfo(info []byte) SigInfo { return parseSigInfo(view{info, 8}) }

func parseSigInfo(v view) SigInfo {
	s := SigInfo{Signo: int32(v.u32(0)), Errno: int32(v.u32(4)), Code: int32(v.u32(8))}
	u := 16 // the union
	if v.w == 4 {
		u = 12
	}
	switch s.kind() {
	case infoFault:
		s.Addr = addr.Addr(v.word(u))
		s.Lower, s.Upper = addr.Addr(v.word(u+2*v.w)), addr.Addr(v.word(u+3*v.w))
		s.PKey = v.u32(u + 2*v.w)
	case infoChild:
		s.PID, s.UID, s.Status = int32(v.u32(u)), v.u32(u+4), int32(v.u32(u+8))
		s.UTime, s.STime = v.sword(u+8+v.w), v.sword(u+8+2*v.w)
	case infoTimer:
		s.Timer, s.Overrun, s.Value = int32(v.u32(u)), int32(v.u32(u+4)), v.word(u+8)
	case infoPoll:
		s.Band, s.FD = v.sword(u), int32(v.u32(u+v.w))
	case infoSys:
		s.Addr, s.Syscall, s.AuditArch = addr.Addr(v.word(u)), v.u32(u+v.w), v.u32(u+v.w+4)
	case infoQueue:
		s.PID, s.UID, s.Value = int32(v.u32(u)), v.u32(u+4), v.word(u+8)
	case infoKill:
		s.PID, s.UID = int32(v.u32(u)), v.u32(u+4)
	}
	return s
}

// infoKind says which member of siginfo's union counts.
type infoKind uint8

const (
	infoNone infoKind = iota
	infoKill
	infoQueue
	infoTimer
	infoFault
	infoChild
	infoPoll
	infoSys
)

func (s *SigInfo) kind() infoKind {
	switch s.Code {
	case siUser, siTKill:
		return infoKill
	case siTimer:
		return infoTimer
	case siKernel:
		switch s.Signo {
		case arch.SIGSEGV, arch.SIGBUS, arch.SIGILL, arch.SIGFPE, arch.SIGTRAP:
			return infoFault
		}
		return infoNone
	case siQueue, siMesgq, siAsync:
		return infoQueue
	}
	if s.Code < 0 {
		return infoQueue
	}
	switch s.Signo {
	case arch.SIGSEGV, arch.SIGBUS, arch.SIGILL, arch.SIGFPE, arch.SIGTRAP:
		return infoFault
	case arch.SIGCHLD:
		return infoChild
	case arch.SIGSYS:
		return infoSys
	case 29: // SIGIO
		return infoPoll
	}
	if s.Code > 0 && s.Code < 7 {
		return infoPoll // F_SETSIG
	}
	return infoKill
}

// CodeName is si_code in words: "SEGV_MAPERR", "SI_USER".
func (s *SigInfo) CodeName() string {
	code := uint64(uint32(s.Code))
	if name := flagTable("siuser").Name(code); name != "" {
		return name
	}
	return flagTable(s.codeTable()).Name(code)
}

func (s *SigInfo) codeTable() string {
	switch s.Signo {
	case arch.SIGILL:
		return "sill"
	case arch.SIGFPE:
		return "sfpe"
	case arch.SIGSEGV:
		return "ssegv"
	case arch.SIGBUS:
		return "sbus"
	case arch.SIGTRAP:
		return "strap"
	case arch.SIGCHLD:
		return "schld"
	case 29:
		return "spoll"
	case arch.SIGSYS:
		return "ssys"
	}
	return "siuser"
}

// AppendSignal appends the delivery of a signal to a thread of id as strace
// shows it; info is what PTRACE_GETSIGINFO gave, trailing zeros may be missing.
func AppendSignal(b []byte, info []byte, id arch.ID) []byte {
	v := view{info, 8}
	b = append(b, "--- "...)
	b = append(b, signalName(int32(v.u32(0)))...)
	b = append(b, ' ')
	b = appendSigInfo(b, v, id)
	return append(b, " ---"...)
}

func (p *printer) siginfo(v view) { p.b = appendSigInfo(p.b, v, p.id) }

func appendSigInfo(b []byte, v view, id arch.ID) []byte {
	s := parseSigInfo(v)
	c := Call{Arch: id}
	p := printer{c: &c, b: b, id: id}
	p.s("{si_signo=")
	p.s(signalName(s.Signo))
	p.s(", si_code=")
	if name := s.CodeName(); name != "" {
		p.s(name)
	} else {
		p.x(uint64(uint32(s.Code)))
	}
	if s.Errno != 0 {
		p.s(", si_errno=")
		if name := arch.ErrnoName(int(s.Errno)); name != "" && s.Signo != arch.SIGSYS {
			p.s(name)
		} else {
			p.d(int64(s.Errno))
		}
	}
	switch s.kind() {
	case infoKill:
		p.from(&s)
	case infoQueue:
		p.from(&s)
		p.value(s.Value)
	case infoTimer:
		p.field("si_timerid", int64(s.Timer))
		p.field("si_overrun", int64(s.Overrun))
		p.value(s.Value)
	case infoFault:
		p.s(", si_addr=")
		p.ptr(uint64(s.Addr))
		if s.Signo == arch.SIGSEGV && s.Code == 3 {
			p.s(", si_lower=")
			p.ptr(uint64(s.Lower))
			p.s(", si_upper=")
			p.ptr(uint64(s.Upper))
		}
		if s.Signo == arch.SIGSEGV && s.Code == 4 {
			p.field("si_pkey", int64(s.PKey))
		}
	case infoChild:
		p.from(&s)
		p.s(", si_status=")
		if s.Code == 1 {
			p.d(int64(s.Status))
		} else {
			p.s(signalName(s.Status))
		}
		p.field("si_utime", s.UTime)
		p.ticks(s.UTime)
		p.field("si_stime", s.STime)
		p.ticks(s.STime)
	case infoPoll:
		p.field("si_band", s.Band)
		p.field("si_fd", int64(s.FD))
	case infoSys:
		p.s(", si_call_addr=")
		p.ptr(uint64(s.Addr))
		p.s(", si_syscall=")
		p.sysNumber(s.Syscall, s.AuditArch)
		p.s(", si_arch=")
		p.b = flagTable("sauditarch").AppendValue(p.b, uint64(s.AuditArch))
	}
	p.s("}")
	return p.b
}

func (p *printer) from(s *SigInfo) {
	p.field("si_pid", int64(s.PID))
	p.field("si_uid", int64(s.UID))
}

func (p *printer) value(v uint64) {
	p.field("si_int", int64(int32(v)))
	p.s(", si_ptr=")
	p.ptr(v)
}

// ticks says what a number of clock ticks (100 a second everywhere) is in
// seconds.
func (p *printer) ticks(n int64) {
	if n > 0 {
		p.s(" /* ")
		p.b = strconv.AppendFloat(p.b, float64(n)/100, 'f', 2, 64)
		p.s(" s */")
	}
}

func (p *printer) field(name string, v int64) {
	p.s(", ")
	p.s(name)
	p.s("=")
	p.d(v)
}

func (p *printer) sysNumber(nr, audit uint32) {
	id := arch.Unknown
	switch audit {
	case 0xc000003e:
		id = arch.X86_64
	case 0x40000003:
		id = arch.I386
	case 0xc00000b7:
		id = arch.AArch64
	}
	if c, ok := id.Syscall(nr); ok {
		p.s("__NR_")
		p.s(c.Name)
		return
	}
	p.s(strconv.FormatUint(uint64(nr), 10))
}
