package call

import (
	"iter"
	"maps"
	"strings"

	"memtrace/format/arch"
)

// FDs is the descriptor table of a process as its calls made it. The zero FDs is
// empty and ready.
type FDs struct {
	m map[int32]fdEntry
}

type fdEntry struct {
	name    string
	cloexec bool
	netlink int16 // the protocol of a netlink socket, and one more
}

// Name returns what a descriptor stands for; AtFDCWD gives the working directory
// where it is known.
func (f *FDs) Name(fd int32) (name string, ok bool) {
	e, ok := f.m[fd]
	return e.name, ok
}

// Set names a descriptor, as read from /proc/PID/fd at an attach.
func (f *FDs) Set(fd int32, name string, cloexec bool) {
	if f.m == nil {
		f.m = make(map[int32]fdEntry)
	}
	f.m[fd] = fdEntry{name: name, cloexec: cloexec}
}

// FD is what is known of a descriptor.
type FD struct {
	Name    string
	CloExec bool
}

// All yields the descriptors, in no order.
func (f *FDs) All() iter.Seq2[int32, FD] {
	return func(yield func(int32, FD) bool) {
		for fd, e := range f.m {
			if !yield(fd, FD{e.name, e.cloexec}) {
				return
			}
		}
	}
}

// Netlink says whether a descriptor is a netlink socket, and of what protocol.
func (f *FDs) Netlink(fd int32) (protocol int, ok bool) {
	n := f.m[fd].netlink
	return int(n) - 1, n > 0
}

// dup makes fd a copy.
func (f *FDs) dup(fd int32, of fdEntry, cloexec bool) {
	of.cloexec = cloexec
	f.m[fd] = of
}

// Len is how many descriptors are known.
func (f *FDs) Len() int { return len(f.m) }

// Clone returns an independent copy, as fork makes it.
func (f *FDs) Clone() *FDs { return &FDs{maps.Clone(f.m)} }

// Exec closes what is closed by an exec.
func (f *FDs) Exec() {
	maps.DeleteFunc(f.m, func(_ int32, e fdEntry) bool { return e.cloexec })
}

// makesFD says whether a call that succeeded may have made descriptors: only
// then MadeFDs has something to say.
func makesFD(id arch.ID, nr uint32) bool {
	c, ok := id.Syscall(nr)
	return ok && c.Flags&arch.NamesFD != 0
}

// MadeFDs calls f for each descriptor that the call made, with whether an exec
// closes it: the result of open and its like, both ends of a pipe, what came with
// a message. c.Bufs must have the outputs of LevelPath.
func (c *Call) MadeFDs(f func(fd int32, cloexec bool)) {
	if !c.Returned || c.Failed() != 0 || !makesFD(c.Arch, c.Nr) {
		return
	}
	p := printers.Get().(*printer)
	defer printers.Put(p)
	p.init(c, nil)
	if p.sig == nil {
		return
	}
	ret := int32(p.ret)
	switch name := p.sig.name; name {
	case "fcntl", "fcntl64":
		if cmd := uint32(p.args[1]); cmd == fDupfd || cmd == fDupfdCloexec {
			f(ret, cmd == fDupfdCloexec)
		}
	case "pipe", "pipe2", "socketpair":
		arg, flags := uint8(0), p.args[1]
		if name == "socketpair" {
			arg = 3
		}
		if name == "pipe" {
			flags = 0
		}
		if b := p.buf(arg, true); b != nil && len(b.Data) >= 8 {
			v := view{b.Data, 4}
			f(int32(v.u32(0)), flags&oCloexec != 0)
			f(int32(v.u32(4)), flags&oCloexec != 0)
		}
	case "recvmsg":
		p.received(f)
	case "clone":
		if b := p.buf(2, true); p.args[0]&clonePidfd != 0 && b != nil && len(b.Data) >= 4 {
			f(int32(view{b.Data, 4}.u32(0)), true)
		}
	case "clone3":
		in := p.buf(0, false)
		if in == nil || len(in.Data) < 16 {
			return
		}
		v := view{in.Data, 8}
		if b := p.bufAt(0, true, v.u64(8)); v.u64(0)&clonePidfd != 0 && b != nil && len(b.Data) >= 4 {
			f(int32(view{b.Data, 4}.u32(0)), true)
		}
	case "landlock_create_ruleset":
		if p.args[2]&1 == 0 { // else a version
			f(ret, true)
		}
	case "seccomp":
		if p.args[0]&0xffffffff == 1 && p.args[1]&8 != 0 {
			f(ret, true)
		}
	case "bpf":
		switch p.args[0] & 0xffffffff {
		case 0, 5, 7, 13, 14, 17, 18, 19, 28, 30, 32, 33: // commands that return a descriptor
			f(ret, true)
		}
	default:
		if p.sig.ret == retFD {
			f(ret, p.cloexec())
		}
	}
}

const oCloexec = 0x80000

// cloexec says whether the descriptor that the call returned is closed by an
// exec.
func (p *printer) cloexec() bool {
	a := &p.args
	switch p.sig.name {
	case "open", "inotify_init1", "epoll_create1", "eventfd2", "timerfd_create", "socket", "mq_open", "fsmount":
		i := map[string]int{"open": 1, "eventfd2": 1, "timerfd_create": 1, "socket": 1, "mq_open": 1}[p.sig.name]
		if p.sig.name == "fsmount" {
			return a[1]&1 != 0
		}
		return a[i]&oCloexec != 0
	case "openat", "dup3", "open_by_handle_at", "open_tree", "open_tree_attr":
		return a[2]&oCloexec != 0
	case "openat2":
		b := p.buf(2, false)
		return b != nil && view{b.Data, 8}.u64(0)&oCloexec != 0
	case "accept4", "signalfd4":
		return a[3]&oCloexec != 0
	case "userfaultfd":
		return a[0]&oCloexec != 0
	case "memfd_create", "fsopen", "fanotify_init":
		i := map[string]int{"memfd_create": 1, "fsopen": 1}[p.sig.name]
		return a[i]&1 != 0
	case "memfd_secret":
		return a[0]&oCloexec != 0
	case "fspick":
		return a[2]&1 != 0
	case "perf_event_open":
		return a[4]&8 != 0
	case "pidfd_open", "pidfd_getfd", "io_uring_setup", "landlock_create_ruleset":
		return true
	}
	return false
}

// received finds the descriptors in the control data of a recvmsg.
func (p *printer) received(f func(fd int32, cloexec bool)) {
	b := p.bufAt(1, true, p.args[1])
	if b == nil || len(b.Data) < msghdrSize(p.id) {
		return
	}
	m := parseMsghdr(view{b.Data, p.word()})
	control := p.bufAt(1, true, m.control)
	if m.control == 0 || control == nil {
		return
	}
	eachControl(control.Data, p.word(), func(level, kind uint32, _ uint64, data []byte) {
		if level != 1 || kind != 1 {
			return
		}
		for v, i := (view{data, 4}), 0; i+4 <= len(data); i += 4 {
			f(int32(v.u32(i)), p.args[2]&0x40000000 != 0)
		}
	})
}

// UsedFDs calls f for each descriptor that Append would ask Call.FD to name, as often
// as it is shown.
func (c *Call) UsedFDs(f func(fd int32)) {
	asking := *c
	asking.FD = func(fd int32) string {
		if fd >= 0 {
			f(fd)
		}
		return ""
	}
	var text [256]byte
	asking.AppendArgs(text[:0])
}

// Learn takes over the names that were asked for when a call began.
func (f *FDs) Learn(c *Call) {
	for i := range c.Bufs {
		b := &c.Bufs[i]
		if b.Arg != BufFDName {
			continue
		}
		switch fd := int32(b.Addr); {
		case len(b.Data) == 0:
			delete(f.m, fd)
		case f.m[fd].name != string(b.Data):
			f.Set(fd, string(b.Data), false)
		}
	}
}

// Apply brings the table up to date with a call that has returned.
func (f *FDs) Apply(c *Call) {
	if !c.Returned || !makesFD(c.Arch, c.Nr) && !c.movesFDs() {
		return
	}
	if e := c.Failed(); e != 0 {
		if e == 4 && c.Name() == "close" { // EINTR: it is closed all the same
			delete(f.m, int32(c.Args[0]))
		}
		return
	}
	p := printers.Get().(*printer)
	defer printers.Put(p)
	p.init(c, nil)
	fd := int32(p.args[0])
	switch p.sig.name {
	case "close":
		delete(f.m, fd)
		return
	case "close_range":
		f.closeRange(uint32(p.args[0]), uint32(p.args[1]), p.args[2]&4 != 0)
		return
	case "dup", "dup2", "dup3":
		if int32(p.ret) == fd { // nothing happened
			return
		}
		if e, ok := f.m[fd]; ok {
			f.dup(int32(p.ret), e, p.sig.name == "dup3" && p.args[2]&oCloexec != 0)
			return
		}
	case "fcntl", "fcntl64":
		if uint32(p.args[1]) == fSetfd {
			f.setCloexec(fd, p.args[2]&1 != 0)
			return
		}
		if e, ok := f.m[fd]; ok {
			c.MadeFDs(func(n int32, cloexec bool) { f.dup(n, e, cloexec) })
			return
		}
	case "ioctl":
		switch uint32(p.args[1]) {
		case 0x5451:
			f.setCloexec(fd, true)
		case 0x5450:
			f.setCloexec(fd, false)
		}
		return
	case "fchdir":
		if e, ok := f.m[fd]; ok {
			f.Set(AtFDCWD, e.name, false)
		} else {
			delete(f.m, AtFDCWD)
		}
		return
	case "chdir":
		f.chdir(p)
		return
	}
	c.MadeFDs(func(n int32, cloexec bool) {
		f.Set(n, p.madeName(f, n), cloexec)
		if proto := p.args[2]; p.sig.name == "socket" && uint32(p.args[0]) == afNetlink && proto < 1<<14 {
			e := f.m[n]
			e.netlink = int16(proto) + 1
			f.m[n] = e
		}
	})
}

// movesFDs: calls that change names without making a descriptor.
func (c *Call) movesFDs() bool {
	switch s := lookup(c.Arch, c.Nr); {
	case s == nil:
		return false
	case s.name == "ioctl":
		return uint32(c.Args[1]) == 0x5451 || uint32(c.Args[1]) == 0x5450
	default:
		return s.name == "chdir" || s.name == "fchdir"
	}
}

func (f *FDs) setCloexec(fd int32, on bool) {
	if e, ok := f.m[fd]; ok {
		e.cloexec = on
		f.m[fd] = e
	}
}

func (f *FDs) closeRange(first, last uint32, cloexec bool) {
	for fd := range f.m {
		if fd < 0 || uint32(fd) < first || uint32(fd) > last {
			continue
		}
		if cloexec {
			f.setCloexec(fd, true)
		} else {
			delete(f.m, fd)
		}
	}
}

func (f *FDs) chdir(p *printer) {
	b := p.buf(0, false)
	cwd, known := f.Name(AtFDCWD)
	switch {
	case b == nil || len(b.Data) == 0:
		delete(f.m, AtFDCWD)
	case b.Data[0] == '/':
		f.Set(AtFDCWD, cleanPath(string(b.Data)), false)
	case known:
		f.Set(AtFDCWD, cleanPath(cwd+"/"+string(b.Data)), false)
	}
}

// madeName is the name of a new descriptor: what /proc said, or else what the
// call itself tells.
func (p *printer) madeName(f *FDs, fd int32) string {
	for i := range p.c.Bufs {
		if b := &p.c.Bufs[i]; b.Arg == BufRetName && int32(b.Addr) == fd {
			return string(b.Data)
		}
	}
	path := func(arg uint8, dir int32) string {
		b := p.buf(arg, false)
		if b == nil || len(b.Data) == 0 {
			return ""
		}
		if b.Data[0] == '/' {
			return cleanPath(string(b.Data))
		}
		if base, ok := f.Name(dir); ok && strings.HasPrefix(base, "/") {
			return cleanPath(base + "/" + string(b.Data))
		}
		return string(b.Data)
	}
	switch name := p.sig.name; name {
	case "open", "creat":
		return path(0, AtFDCWD)
	case "openat", "openat2":
		return path(1, int32(p.args[0]))
	case "memfd_create":
		return "/memfd:" + path(0, -1) + " (deleted)"
	case "pipe", "pipe2":
		return "pipe"
	case "socket", "socketpair", "accept", "accept4":
		return "socket"
	case "userfaultfd", "inotify_init", "inotify_init1", "eventfd", "eventfd2", "timerfd_create", "signalfd", "signalfd4":
		return "anon_inode:[" + strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(name, "_create"), "_init1"), "0123456789") + "]"
	case "epoll_create", "epoll_create1":
		return "anon_inode:[eventpoll]"
	}
	return ""
}

// cleanPath takes out what says nothing: "//" and "/./". ".." stays, for it may
// follow a symbolic link.
func cleanPath(s string) string {
	if len(s) > 1 && s[0] == '/' && !strings.Contains(s, "//") && !strings.Contains(s, "/./") && !strings.HasSuffix(s, "/") && !strings.HasSuffix(s, "/.") {
		return s
	}
	var out []string
	for _, part := range strings.Split(s, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return "/" + strings.Join(out, "/")
}
