package call

import (
	"strconv"

	"memtrace/format/arch"
)

// structDef is a struct that a call reads ("<name") or writes (">name").
type structDef struct {
	s64, s32 uint16 // its size, 0 where the architecture has none
	in, out  Level
	long     int // size of a long in it, 0: the architecture's
	print    func(p *printer, v view)
	arm      uint16 // its size on aarch64 where that differs
}

func (s *structDef) size(id arch.ID) int {
	switch {
	case id == arch.I386:
		return int(s.s32)
	case id == arch.AArch64 && s.arm != 0:
		return int(s.arm)
	}
	return int(s.s64)
}

// word makes the argument that points at such a struct.
func (s *structDef) word() *wordDef {
	return &wordDef{
		print: func(p *printer, w *word) { p.structArg(w, s) },
		caps: func(id arch.ID, w word) []capture {
			c := capture{Arg: w.reg, At: atEnter, What: readBytes, Level: s.in, Len: uint16(s.size(id))}
			if w.out {
				c.At, c.Level = atExit, s.out
			}
			return []capture{c}
		},
	}
}

func (p *printer) structArg(w *word, s *structDef) {
	v := p.args[w.reg]
	b := p.buf(w.reg, w.out)
	size := s.size(p.id)
	if v == 0 || b == nil || len(b.Data) < size || size == 0 || w.out && p.fail != 0 {
		p.ptr(v)
		return
	}
	long := s.long
	if long == 0 {
		long = p.word()
	}
	s.print(p, view{b.Data[:size], long})
}

var structs map[string]*structDef

func init() {
	structs = map[string]*structDef{
		"timespec":     {16, 8, LevelStruct, LevelData, 0, printTimespec, 0},
		"timespec64":   {16, 16, LevelStruct, LevelData, 8, printTimespec, 0},
		"timeval":      {16, 8, LevelStruct, LevelData, 0, printTimeval, 0},
		"itimerval":    {32, 16, LevelStruct, LevelStruct, 0, printItimerval, 0},
		"itimerspec":   {32, 16, LevelStruct, LevelStruct, 0, printItimerspec, 0},
		"itimerspec64": {32, 32, LevelStruct, LevelStruct, 8, printItimerspec, 0},
		"utimes":       {32, 16, LevelStruct, LevelData, 0, func(p *printer, v view) { printPair(p, v, printTimeval) }, 0},
		"utimens":      {32, 16, LevelStruct, LevelData, 0, printUtimens, 0},
		"utimens64":    {32, 32, LevelStruct, LevelData, 8, printUtimens, 0},
		"tz":           {8, 8, LevelStruct, LevelData, 0, printTimezone, 0},
		"rlimit":       {16, 8, LevelStruct, LevelStruct, 0, func(p *printer, v view) { printRlimit(p, v, "RLIM_INFINITY") }, 0},
		"rlimit64":     {16, 16, LevelStruct, LevelStruct, 8, func(p *printer, v view) { printRlimit(p, v, "RLIM64_INFINITY") }, 0},
		"rusage":       {144, 72, LevelData, LevelData, 0, printRusage, 0},
		"stat":         {144, 64, LevelData, LevelData, 0, printStat, 128},
		"stat64":       {144, 96, LevelData, LevelData, 0, printStat64, 128},
		"statx":        {256, 256, LevelData, LevelData, 8, printStatx, 0},
		"statfs":       {120, 64, LevelData, LevelData, 0, printStatfs, 0},
		"statfs64":     {120, 84, LevelData, LevelData, 0, printStatfs64, 0},
		"sigaction":    {32, 20, LevelStruct, LevelStruct, 0, printSigaction, 0},
		"oldsigaction": {0, 16, LevelStruct, LevelStruct, 4, printOldSigaction, 0},
		"oldsigset":    {0, 4, LevelStruct, LevelStruct, 4, func(p *printer, v view) { p.sigset(uint64(v.u32(0)), 32) }, 0},
		"stack":        {24, 12, LevelStruct, LevelStruct, 0, printStack, 0},
		"siginfo":      {128, 128, LevelStruct, LevelStruct, 0, func(p *printer, v view) { p.siginfo(v) }, 0},
		"utsname":      {390, 390, LevelData, LevelData, 0, printUtsname, 0},
		"sysinfo":      {112, 64, LevelData, LevelData, 0, printSysinfo, 0},
		"tms":          {32, 16, LevelData, LevelData, 0, printTms, 0},
		"int":          {4, 4, LevelStruct, LevelStruct, 0, func(p *printer, v view) { p.listed(int64(int32(v.u32(0)))) }, 0},
		"uid":          {4, 4, LevelStruct, LevelData, 0, func(p *printer, v view) { p.listed(int64(v.u32(0))) }, 0},
		"long":         {8, 4, LevelStruct, LevelData, 0, func(p *printer, v view) { p.listed(v.sword(0)) }, 0},
		"loff":         {8, 8, LevelStruct, LevelData, 8, func(p *printer, v view) { p.listed(v.sword(0)) }, 0},
		"ptr":          {8, 4, LevelStruct, LevelData, 0, func(p *printer, v view) { p.s("["); p.ptr(v.word(0)); p.s("]") }, 0},
		"epoll":        {12, 12, LevelStruct, LevelData, 0, printEpollEvent, 16},
		"flock":        {32, 16, LevelStruct, LevelData, 0, printFlock, 0},
		"flock64":      {32, 24, LevelStruct, LevelData, 8, printFlock, 0},
		"sched":        {4, 4, LevelStruct, LevelData, 0, func(p *printer, v view) { p.listed(int64(int32(v.u32(0)))) }, 0},
		"sigevent":     {64, 64, LevelStruct, LevelData, 0, printSigevent, 0},
		"shmid":        {112, 84, LevelStruct, LevelData, 0, printShmid, 0},
		"comm":         {16, 16, LevelStruct, LevelStruct, 0, nil, 0},
	}
}

func (p *printer) listed(v int64) {
	p.s("[")
	p.d(v)
	p.s("]")
}

func printTimespec(p *printer, v view) { p.time(v, 0, "nsec", false) }
func printTimeval(p *printer, v view)  { p.time(v, 0, "usec", true) }

// time writes a struct timespec or timeval at off. Nanoseconds are shown
// unsigned, as strace does.
func (p *printer) time(v view, off int, unit string, signed bool) {
	p.s("{tv_sec=")
	p.d(v.sword(off))
	p.s(", tv_")
	p.s(unit)
	p.s("=")
	if n := v.sword(off + v.w); signed || n >= 0 {
		p.d(n)
	} else {
		p.u(uint64(n))
	}
	p.s("}")
}

func printItimerval(p *printer, v view)  { p.itimer(v, "usec", true) }
func printItimerspec(p *printer, v view) { p.itimer(v, "nsec", false) }

func (p *printer) itimer(v view, unit string, signed bool) {
	p.s("{it_interval=")
	p.time(v, 0, unit, signed)
	p.s(", it_value=")
	p.time(v, 2*v.w, unit, signed)
	p.s("}")
}

func printPair(p *printer, v view, one func(p *printer, v view)) {
	half := len(v.b) / 2
	p.s("[")
	one(p, view{v.b[:half], v.w})
	p.s(", ")
	one(p, view{v.b[half:], v.w})
	p.s("]")
}

func printUtimens(p *printer, v view) {
	printPair(p, v, func(p *printer, v view) {
		switch v.sword(v.w) {
		case 0x3fffffff:
			p.s("UTIME_NOW")
		case 0x3ffffffe:
			p.s("UTIME_OMIT")
		default:
			printTimespec(p, v)
		}
	})
}

func printTimezone(p *printer, v view) {
	p.s("{tz_minuteswest=")
	p.d(int64(int32(v.u32(0))))
	p.s(", tz_dsttime=")
	p.d(int64(int32(v.u32(4))))
	p.s("}")
}

func printRlimit(p *printer, v view, infinity string) {
	one := func(n uint64) {
		switch {
		case n == ^uint64(0) || v.w == 4 && n == 0xffffffff:
			p.s(infinity)
		case n > 1024 && n%1024 == 0:
			p.u(n / 1024)
			p.s("*1024")
		default:
			p.u(n)
		}
	}
	p.s("{rlim_cur=")
	one(v.word(0))
	p.s(", rlim_max=")
	one(v.word(v.w))
	p.s("}")
}

func printRusage(p *printer, v view) {
	p.s("{ru_utime=")
	p.time(v, 0, "usec", true)
	p.s(", ru_stime=")
	p.time(v, 2*v.w, "usec", true)
	p.s(", ...}")
}

func (p *printer) stat(mode uint32, rdev uint64, size int64) {
	p.s("{st_mode=")
	p.mode(uint64(mode))
	if t := mode & 0xf000; t == 0x2000 || t == 0x6000 {
		p.s(", st_rdev=")
		p.dev(rdev)
	} else {
		p.s(", st_size=")
		p.d(size)
	}
	p.s(", ...}")
}

func printStat(p *printer, v view) {
	switch p.id {
	case arch.X86_64:
		p.stat(v.u32(24), v.u64(40), int64(v.u64(48)))
	case arch.AArch64:
		p.stat(v.u32(16), v.u64(32), int64(v.u64(48)))
	default:
		p.stat(uint32(v.u16(8)), uint64(v.u32(16)), int64(v.u32(20)))
	}
}

func printStat64(p *printer, v view) {
	if p.id != arch.I386 {
		printStat(p, v)
		return
	}
	p.stat(v.u32(16), v.u64(32), int64(v.u64(44)))
}

func printStatx(p *printer, v view) {
	p.s("{stx_mask=")
	p.b = flagTable("statx").Append(p.b, uint64(v.u32(0)))
	p.s(", stx_attributes=")
	p.b = flagTable("statxattr").Append(p.b, v.u64(8))
	p.s(", stx_mode=")
	p.mode(uint64(v.u16(28)))
	p.s(", stx_size=")
	p.u(v.u64(40))
	p.s(", ...}")
}

func printStatfs(p *printer, v view) {
	w := v.w
	var f [7]uint64
	for i := range f {
		f[i] = v.word(i * w)
	}
	p.statfs(f, v.u32(7*w), v.u32(7*w+4), v.word(7*w+8), v.word(8*w+8), v.word(9*w+8))
}

func printStatfs64(p *printer, v view) {
	if p.id != arch.I386 {
		printStatfs(p, v)
		return
	}
	f := [7]uint64{uint64(v.u32(0)), uint64(v.u32(4)), v.u64(8), v.u64(16), v.u64(24), v.u64(32), v.u64(40)}
	p.statfs(f, v.u32(48), v.u32(52), uint64(v.u32(56)), uint64(v.u32(60)), uint64(v.u32(64)))
}

func (p *printer) statfs(f [7]uint64, id0, id1 uint32, namelen, frsize, flags uint64) {
	for i, name := range [...]string{"{f_type=", ", f_bsize=", ", f_blocks=", ", f_bfree=", ", f_bavail=", ", f_files=", ", f_ffree="} {
		p.s(name)
		if i == 0 {
			p.b = flagTable("fsmagic").AppendValue(p.b, f[0])
		} else {
			p.u(f[i])
		}
	}
	p.s(", f_fsid={val=[")
	p.x(uint64(id0))
	p.s(", ")
	p.x(uint64(id1))
	p.s("]}, f_namelen=")
	p.u(namelen)
	p.s(", f_frsize=")
	p.u(frsize)
	p.s(", f_flags=")
	p.b = flagTable("mountflag").Append(p.b, flags)
	p.s("}")
}

func (p *printer) handler(v uint64) {
	switch v {
	case 0:
		p.s("SIG_DFL")
	case 1:
		p.s("SIG_IGN")
	case ^uint64(0):
		p.s("SIG_ERR")
	default:
		p.x(v)
	}
}

func printSigaction(p *printer, v view) {
	w := v.w
	p.sigaction(v.word(0), v.word(w), v.word(2*w), v.u64(3*w), 64)
}

func printOldSigaction(p *printer, v view) {
	p.sigaction(v.word(0), v.word(8), v.word(12), uint64(v.u32(4)), 32)
}

func (p *printer) sigaction(handler, flags, restorer, mask uint64, bits int) {
	p.s("{sa_handler=")
	p.handler(handler)
	p.s(", sa_mask=")
	p.sigset(mask, bits)
	p.s(", sa_flags=")
	p.b = flagTable("saflags").Append(p.b, flags)
	if flags&0x4000000 != 0 {
		p.s(", sa_restorer=")
		p.ptr(restorer)
	}
	p.s("}")
}

// sigset writes a set of signals; one with more than two thirds in it by those
// that are not.
func (p *printer) sigset(set uint64, bits int) {
	n := 0
	for i := range bits {
		n += int(set >> i & 1)
	}
	if n >= bits*2/3 {
		p.s("~")
		set = ^set
	}
	p.s("[")
	first := true
	for i := range bits {
		if set>>i&1 == 0 {
			continue
		}
		if !first {
			p.s(" ")
		}
		first = false
		p.s(signalName(int32(i + 1))[3:])
	}
	p.s("]")
}

func signalName(n int32) string {
	if n > 0 && n <= 64 {
		return arch.SignalName(int(n))
	}
	return strconv.Itoa(int(n))
}

func (p *printer) sigsetArg(w *word, out bool) {
	v := p.args[w.reg]
	b := p.buf(w.reg, out)
	if v == 0 || b == nil || len(b.Data) < 8 || out && p.fail != 0 {
		p.ptr(v)
		return
	}
	p.sigset(view{b.Data, 8}.u64(0), 64)
}

func printStack(p *printer, v view) {
	p.s("{ss_sp=")
	p.ptr(v.word(0))
	p.s(", ss_flags=")
	p.b = flagTable("ssflags").Append(p.b, uint64(v.u32(v.w)))
	p.s(", ss_size=")
	p.u(v.word(2 * v.w))
	p.s("}")
}

func printUtsname(p *printer, v view) {
	p.s("{sysname=")
	p.path(&Buf{Data: v.b[:65]})
	p.s(", nodename=")
	p.path(&Buf{Data: v.b[65:130]})
	p.s(", ...}")
}

func printSysinfo(p *printer, v view) {
	w := v.w
	p.s("{uptime=")
	p.d(v.sword(0))
	p.s(", loads=[")
	for i := range 3 {
		p.comma(i)
		p.u(v.word((1 + i) * w))
	}
	p.s("]")
	for i, name := range [...]string{"totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap"} {
		p.s(", ")
		p.s(name)
		p.s("=")
		p.u(v.word((4 + i) * w))
	}
	p.s(", procs=")
	p.u(uint64(v.u16(10 * w)))
	high := 10*w + w
	p.s(", totalhigh=")
	p.u(v.word(high))
	p.s(", freehigh=")
	p.u(v.word(high + w))
	p.s(", mem_unit=")
	p.u(uint64(v.u32(high + 2*w)))
	p.s("}")
}

func printTms(p *printer, v view) {
	for i, name := range [...]string{"{tms_utime=", ", tms_stime=", ", tms_cutime=", ", tms_cstime="} {
		p.s(name)
		p.d(v.sword(i * v.w))
	}
	p.s("}")
}

func printEpollEvent(p *printer, v view) {
	data := 4
	if p.id == arch.AArch64 {
		data = 8
	}
	p.s("{events=")
	p.b = flagTable("epoll").Append(p.b, uint64(v.u32(0)))
	p.s(", data={u32=")
	p.u(uint64(v.u32(data)))
	p.s(", u64=")
	p.u(v.u64(data))
	p.s("}}")
}

func (p *printer) epollEvents(w *word) {
	b := p.buf(w.reg, true)
	size := int(epollSize(p.id))
	if b == nil || p.fail != 0 {
		if p.done && p.fail == 0 && p.ret == 0 && p.args[w.reg] != 0 {
			p.s("[]")
			return
		}
		p.ptr(p.args[w.reg])
		return
	}
	p.s("[")
	for i := 0; i < len(b.Data)/size; i++ {
		p.comma(i)
		if i >= 32 {
			p.s("...")
			break
		}
		printEpollEvent(p, view{b.Data[i*size : (i+1)*size], 8})
	}
	p.s("]")
}

func printFlock(p *printer, v view) {
	start := 4
	if v.w == 8 && p.id != arch.I386 {
		start = 8
	}
	p.s("{l_type=")
	p.b = flagTable("locktype").AppendValue(p.b, uint64(v.u16(0)))
	p.s(", l_whence=")
	p.b = flagTable("seek").AppendValue(p.b, uint64(v.u16(2)))
	p.s(", l_start=")
	p.d(v.sword(start))
	p.s(", l_len=")
	p.d(v.sword(start + v.w))
	p.s("}")
}

func printSigevent(p *printer, v view) {
	notify := v.u32(v.w + 4)
	p.s("{")
	if value := v.word(0); value != 0 {
		p.s("sigev_value={sival_int=")
		p.d(int64(int32(v.u32(0))))
		p.s(", sival_ptr=")
		p.ptr(value)
		p.s("}, ")
	}
	if signo := int32(v.u32(v.w)); signo != 0 || notify == 0 {
		p.s("sigev_signo=")
		p.s(signalName(signo))
		p.s(", ")
	}
	p.s("sigev_notify=")
	p.b = flagTable("sigev").AppendValue(p.b, uint64(notify))
	p.s("}")
}

func printShmid(p *printer, v view) {
	size, pids, times := 48, 80, [3]int{56, 64, 72}
	if p.id == arch.I386 {
		size, pids, times = 36, 64, [3]int{40, 48, 56}
	}
	p.s("{shm_perm={uid=")
	p.u(uint64(v.u32(4)))
	p.s(", gid=")
	p.u(uint64(v.u32(8)))
	p.s(", mode=")
	p.octal(uint64(v.u16(20)))
	p.s(", key=")
	p.u(uint64(v.u32(0)))
	p.s(", cuid=")
	p.u(uint64(v.u32(12)))
	p.s(", cgid=")
	p.u(uint64(v.u32(16)))
	p.s("}, shm_segsz=")
	p.u(v.word(size))
	p.s(", shm_cpid=")
	p.u(uint64(v.u32(pids)))
	p.s(", shm_lpid=")
	p.u(uint64(v.u32(pids + 4)))
	p.s(", shm_nattch=")
	p.u(v.word(pids + 8))
	p.s(", shm_atime=")
	p.u(v.word(times[0]))
	p.s(", shm_dtime=")
	p.u(v.word(times[1]))
	p.s(", shm_ctime=")
	p.u(v.word(times[2]))
	p.s("}")
}

// fdset shows a set of descriptors as it went in; what came out is the note.
func (p *printer) fdset(w *word) {
	v := p.args[w.reg]
	if v == 0 {
		p.s("NULL")
		return
	}
	in := p.buf(w.reg, false)
	if in == nil || selectMax(p.args[0]) == 0 {
		p.x(v)
		return
	}
	p.bitList(in.Data, selectMax(p.args[0]), p.fd)
}

// selectMax is how many descriptors select looks at.
func selectMax(n uint64) int { return int(max(0, min(int32(n), 1<<20))) }

func (p *printer) bitList(set []byte, n int, one func(int32)) {
	p.s("[")
	first := true
	for i := 0; i < n && i/8 < len(set); i++ {
		if set[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if !first {
			p.s(" ")
		}
		first = false
		one(int32(i))
	}
	p.s("]")
}

func (p *printer) cpus(w *word, out bool) {
	b := p.buf(w.reg, out)
	if b == nil || out && p.fail != 0 {
		p.ptr(p.args[w.reg])
		return
	}
	p.bitList(b.Data, 8*len(b.Data), p.d32)
}

func (p *printer) pollfds(w *word) {
	v := p.args[w.reg]
	in := p.buf(w.reg, false)
	if v == 0 || in == nil {
		p.ptr(v)
		return
	}
	p.s("[")
	for i := 0; i < len(in.Data)/8; i++ {
		p.comma(i)
		if i >= 32 {
			p.s("...")
			break
		}
		f := view{in.Data[8*i:], 4}
		p.s("{fd=")
		p.fd(int32(f.u32(0)))
		if int32(f.u32(0)) >= 0 {
			p.s(", events=")
			p.b = flagTable("poll").Append(p.b, uint64(f.u16(4)))
		}
		p.s("}")
	}
	p.s("]")
}

func (p *printer) waitStatus(w *word) {
	v := p.args[w.reg]
	b := p.buf(w.reg, true)
	if v == 0 || b == nil || len(b.Data) < 4 || p.fail != 0 || p.ret == 0 {
		p.ptr(v)
		return
	}
	p.s("[")
	p.b = appendWaitStatus(p.b, view{b.Data, 4}.u32(0))
	p.s("]")
}

// appendWaitStatus appends a wait status in words: {WIFEXITED(s) &&
// WEXITSTATUS(s) == 0}.
func appendWaitStatus(b []byte, s uint32) []byte {
	sig := int(s & 0x7f)
	switch {
	case s == 0xffff:
		return append(b, "{WIFCONTINUED(s)}"...)
	case s&0xff == 0x7f:
		b = append(b, "{WIFSTOPPED(s) && WSTOPSIG(s) == "...)
		stop := int32(s >> 8 & 0xff)
		b = append(b, signalName(stop&0x7f)...)
		if stop&0x80 != 0 {
			b = append(b, " | 0x80"...)
		}
		return append(b, '}')
	case sig == 0:
		b = append(b, "{WIFEXITED(s) && WEXITSTATUS(s) == "...)
		b = strconv.AppendUint(b, uint64(s>>8&0xff), 10)
		return append(b, '}')
	}
	b = append(b, "{WIFSIGNALED(s) && WTERMSIG(s) == "...)
	b = append(b, signalName(int32(sig))...)
	if s&0x80 != 0 {
		b = append(b, " && WCOREDUMP(s)"...)
	}
	return append(b, '}')
}
