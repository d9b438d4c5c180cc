package call

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Touch is a piece of the program's memory that the kernel accesses for a call.
type Touch struct {
	addr.Range
	Out bool // it is written: some of it, or none if the call fails
}

// Toucher says which memory the kernel accesses for a call, whatever is kept of it.
type Toucher struct {
	// Read copies memory of the program from a on and returns how many bytes it
	// could.
	Read func(p []byte, a addr.Addr) int

	touches []Touch
	unknown []addr.Addr
	over    bool // the call is over: what it wrote is as long as its result says
	buf     []byte
}

// Touches returns all memory that a call that is about to begin may access, and the
// arguments of which it is not known whether they point at something, or how long that
// is. Both are valid until the next call of Touches or Touched.
func (k *Toucher) Touches(c *Call) (all []Touch, unknown []addr.Addr) {
	k.run(c, false)
	return k.touches, k.unknown
}

// Touched returns what a call that has come back has accessed, as far as its result tells:
// at most what Touches said.
func (k *Toucher) Touched(c *Call) []Touch {
	k.run(c, true)
	return k.touches
}

func (k *Toucher) run(c *Call, over bool) {
	k.touches, k.unknown, k.over = k.touches[:0], k.unknown[:0], over
	s := lookup(c.Arch, c.Nr)
	if s == nil {
		for _, a := range c.Args {
			k.unknown = append(k.unknown, addr.Addr(a))
		}
		return
	}
	args := c.Args
	if c.Arch == arch.I386 {
		for i := range args {
			args[i] = uint64(uint32(args[i]))
		}
		if s.mux != nil {
			s, args = k.demultiplex(c, s, args)
			if s == nil {
				return
			}
		}
	}
	for i := range s.caps {
		cp := &s.caps[i]
		if cp.If.Holds(&args) && !(over && cp.At == atExit && (c.Failed() != 0 && !cp.Interrupted)) {
			k.one(c, s, cp, &args)
		}
	}
	if (s.name == "futex" || s.name == "futex_time64") && secondFutex(args[1]) {
		k.add(args[4], 4, true)
	}
	if n, ok := pointees[s.name]; ok {
		for i, size := range n {
			if size > 0 && args[i] != 0 {
				k.add(args[i], uint64(size), true)
			}
		}
		return
	}
	if openEnded[s.name] && !(s.name == "ioctl" && plainIoctl(uint32(args[1]))) {
		k.guess(args[:]...)
		return
	}
	for i := range s.words {
		w := &s.words[i]
		if w.def != wordDefs["x"] && w.def != wordDefs["p"] || k.captured(s, w.reg) {
			continue
		}
		k.guess(args[w.reg%6])
	}
}

// captured reports whether the tables say what an argument points at.
func (k *Toucher) captured(s *sig, reg uint8) bool {
	for i := range s.caps {
		if s.caps[i].Arg == reg {
			return true
		}
	}
	return false
}

func (k *Toucher) guess(args ...uint64) {
	for _, a := range args {
		if a >= addr.PageSize {
			k.unknown = append(k.unknown, addr.Addr(a))
		}
	}
}

// pointees are the calls of which the tables show arguments as bare addresses: how many
// bytes the kernel accesses at each.
var pointees = map[string][6]uint16{
	"mmap": {}, "mmap2": {}, "munmap": {}, "brk": {}, "mprotect": {}, "pkey_mprotect": {}, "mremap": {}, "remap_file_pages": {},
	"msync": {}, "mlock": {}, "mlock2": {}, "munlock": {}, "madvise": {}, "mseal": {}, "map_shadow_stack": {}, "mincore": {},
	"shmat": {}, "shmdt": {}, "mbind": {3: 128}, "set_mempolicy": {1: 128}, "get_mempolicy": {}, "migrate_pages": {2: 128, 3: 128},
	"futex": {0: 4}, "futex_time64": {0: 4}, "futex_wake": {0: 4}, "futex_wait": {0: 4}, "futex_requeue": {0: 48},
	"set_tid_address": {}, "set_robust_list": {}, "rseq": {}, "io_destroy": {}, "io_getevents": {}, "io_pgetevents": {},
	"getcpu": {}, "utime": {1: 16}, "pkey_alloc": {}, "arch_prctl": {}, "personality": {}, "clone": {}, "membarrier": {},
	"cachestat": {1: 16}, "restart_syscall": {},
}

// secondFutex says whether an operation of futex(2) takes a second one: FUTEX_REQUEUE,
// CMP_REQUEUE, WAKE_OP, WAIT_REQUEUE_PI and CMP_REQUEUE_PI.
func secondFutex(op uint64) bool {
	switch op & 0x7f {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// openEnded are calls whose structures have pointers that no table knows.
var openEnded = map[string]bool{
	"ioctl": true, "bpf": true, "keyctl": true, "ptrace": true, "seccomp": true, "quotactl": true, "move_pages": true, "fsconfig": true,
	"io_uring_register": true, "process_madvise": true, "set_mempolicy_home_node": true, "prctl": true, "semctl": true, "msgctl": true,
	"shmctl": true, "mount": true, "kexec_load": true, "landlock_add_rule": true, "perf_event_open": true,
}

// plainIoctl says whether a request is one that has no pointers in its argument.
func plainIoctl(req uint32) bool {
	_, old := oldIoctls[req]
	return old && req != siocGifConf || req == 0x5450 || req == 0x5451
}

// demultiplex turns i386's socketcall, ipc and old select into the call that they stand for.
func (k *Toucher) demultiplex(c *Call, s *sig, args [6]uint64) (*sig, [6]uint64) {
	for i := range s.caps {
		if cp := &s.caps[i]; cp.What == readArgBlock && cp.If.Holds(&args) {
			k.add(args[cp.Arg], uint64(cp.Len), false)
		}
	}
	whole := *c
	if len(whole.Bufs) == 0 {
		r := Collector{Read: k.Read, Level: LevelPath}
		r.Enter(&whole)
	}
	var p printer
	p.init(&whole, nil)
	if p.sig == s || p.sig == nil {
		k.guess(args[:]...)
		return nil, args
	}
	return p.sig, p.args
}

func (k *Toucher) add(a, n uint64, out bool) {
	if r := addr.Reach(addr.Addr(a), n); !r.Empty() {
		k.touches = append(k.touches, Touch{r, out})
	}
}

// bytes reads n bytes; it returns those that could be read, valid until the next call.
func (k *Toucher) bytes(a uint64, n int) []byte {
	if cap(k.buf) < n {
		k.buf = make([]byte, n)
	}
	b := k.buf[:n]
	return b[:max(0, min(n, k.Read(b, addr.Addr(a))))]
}

func (k *Toucher) one(c *Call, s *sig, cp *capture, args *[6]uint64) {
	a, out := args[cp.Arg], cp.At == atExit
	if a == 0 && cp.What != readIoctlSize {
		return
	}
	n, ret := args[cp.N], uint64(max(c.Ret, 0))
	unit := uint64(max(cp.Unit, 1))
	switch cp.What {
	case readCString:
		k.cstring(a)
	case readBytes, readArgBlock:
		k.add(a, uint64(cp.Len), out)
	case readLenArg:
		k.add(a+uint64(cp.Off), min(n, 1<<40)*unit+uint64(cp.More), out)
	case readLenRet:
		size := min(k.most(s, cp, args), 1<<40) * unit
		if k.over {
			size = min(size, ret*unit)
		}
		k.add(a, size+uint64(cp.Len), out)
	case readLenPtr:
		if b := k.bytes(n, 4); n != 0 && len(b) == 4 {
			k.add(a, uint64(min(binary.LittleEndian.Uint32(b), 1<<20)), out)
		}
	case readLenBits:
		k.add(a, (min(n, 1<<20)+63)/64*8, out)
	case readLenPages:
		k.add(a, (min(n, 1<<44)+addr.PageSize-1)/addr.PageSize, out)
	case readStringVec, readVecCount:
		k.guess(a) // of execve, which takes it all
	case readIovec:
		k.iovec(c, a, n, out, ret)
	case readMsghdr:
		k.msghdr(c, a, out, ret)
	case readMmsghdr:
		size := uint64(msghdrSize(c.Arch) + c.Arch.PointerSize())
		n = min(n, maxVector)
		k.add(a, n*size, true)
		for i := range n {
			k.msghdr(c, a+i*size, out, 1<<40)
		}
	case readSigset6:
		k.add(a, uint64(cp.Len), false)
		if b := k.bytes(a, int(cp.Len)); len(b) == int(cp.Len) {
			if set := (view{b, c.Arch.PointerSize()}).word(0); set != 0 {
				k.add(set, 8, false)
			}
		}
	case readIoctlSize:
		in, outSize := ioctlSizes(uint32(args[1]))
		if a != 0 {
			k.add(a, uint64(max(in, outSize)), out)
		}
	case readPointee:
		k.pointee(c, cp, args, out)
	case readIocbs:
		k.guess(a)
	}
}

// most is how many elements a call that returns their number may write.
func (k *Toucher) most(s *sig, cp *capture, args *[6]uint64) uint64 {
	if cp.N != 0 {
		return args[cp.N]
	}
	switch s.name {
	case "getgroups", "getgroups32":
		return args[0] & 0xffffffff
	case "io_getevents", "io_pgetevents", "io_pgetevents_time64":
		return args[2]
	case "sched_getaffinity":
		return args[1] & 0xffffffff
	}
	return args[(cp.Arg+1)%6] & 0xffffffff
}

// cstring adds a string with its NUL.
func (k *Toucher) cstring(a uint64) {
	at := a
	for at-a < MaxPath {
		want := int(addr.PageSize - at&(addr.PageSize-1))
		b := k.bytes(at, min(want, readChunk))
		for i, c := range b {
			if c == 0 {
				k.add(a, at-a+uint64(i)+1, false)
				return
			}
		}
		at += uint64(len(b))
		if len(b) < min(want, readChunk) {
			break
		}
	}
	k.add(a, max(1, at-a), false)
}

func (k *Toucher) iovec(c *Call, a, n uint64, out bool, ret uint64) {
	w := c.Arch.PointerSize()
	n = min(n, maxVector)
	k.add(a, n*2*uint64(w), false)
	v := view{append([]byte(nil), k.bytes(a, int(n)*2*w)...), w}
	for off := 0; off+2*w <= len(v.b); off += 2 * w {
		length := v.word(off + w)
		if k.over && out {
			length = min(length, ret)
			ret -= length
		}
		k.add(v.word(off), length, out)
	}
}

func (k *Toucher) msghdr(c *Call, a uint64, out bool, ret uint64) {
	size := msghdrSize(c.Arch)
	k.add(a, uint64(size), true)
	b := k.bytes(a, size)
	if len(b) < size {
		return
	}
	m := parseMsghdr(view{b, c.Arch.PointerSize()})
	if m.name != 0 {
		k.add(m.name, min(m.namelen, 1<<16), out)
	}
	if m.control != 0 {
		k.add(m.control, min(m.controllen, 1<<20), out)
	}
	if m.iov != 0 {
		k.iovec(c, m.iov, m.iovlen, out, ret)
	}
}

func (k *Toucher) pointee(c *Call, cp *capture, args *[6]uint64, out bool) {
	w := c.Arch.PointerSize()
	if cp.Ref.Wide {
		w = 8
	}
	b := k.bytes(args[cp.Arg], int(cp.Ref.Off)+w)
	if len(b) < int(cp.Ref.Off)+w {
		return
	}
	to, n := view{b, w}.word(int(cp.Ref.Off)), uint64(1)
	switch count := cp.Ref.Count; {
	case to == 0:
		return
	case count == refToOne:
	case count >= refCountArg:
		n = args[(count-refCountArg)%6] & 0xffffffff
	default:
		if b := k.bytes(args[cp.Arg]+uint64(count), 4); len(b) == 4 {
			n = uint64(binary.LittleEndian.Uint32(b))
		}
	}
	if cp.Ref.Elem == 0 {
		k.cstring(to)
		return
	}
	k.add(to, min(n, maxVector)*uint64(cp.Ref.Elem), out)
}
