package call

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// captureStop says at which stop of a call something is read.
type captureStop uint8

// The stops.
const (
	atEnter captureStop = iota
	atExit              // only if the call came back and did not fail, unless Interrupted
)

// Level says who wants a capture.
type Level uint8

// The levels: each includes those before it.
const (
	LevelPath   Level = iota // strings that say what a call is about; always
	LevelStruct              // small structs; on by default
	LevelData                // the data that calls read and write
)

// captureForm says how much is read.
type captureForm uint8

// The forms of a capture. Lengths are always cut to what the reader allows.
const (
	readCString   captureForm = iota // up to a NUL, which is not kept, at most maxPath bytes
	readBytes                        // Len bytes
	readLenArg                       // Args[N] * Unit bytes, at most Len if that is not 0
	readLenRet                       // Ret * Unit bytes, at most Args[N] if N is not 0
	readLenPtr                       // the 32-bit number at Args[N] of bytes, as the call left it
	readLenBits                      // a set of Args[N] bits, in whole longs
	readLenPages                     // one byte for each page of Args[N] bytes (mincore)
	readStringVec                    // a vector of pointers to strings that ends with NULL; one Buf a string, Arg is BufArgv
	readVecCount                     // how many pointers such a vector has: 4 bytes, little-endian
	readIovec                        // Args[N] struct iovec; with data also what they point at
	readMsghdr                       // struct msghdr, its name, iovec and control data
	readMmsghdr                      // Args[N] struct mmsghdr (of the first Ret at the exit)
	readIoctlSize                    // as Args[1] of ioctl says
	readSigset6                      // pselect6's pair of a pointer to a set and its size, and the set
	readArgBlock                     // Len bytes that hold the arguments; Arg of the Buf is BufArgs
	readPointee                      // what a pointer in the struct at Arg points at, as Ref says
	readIocbs                        // Args[N] pointers to struct iocb, those, and the data they write
)

// MaxPath is where a string ends.
const MaxPath = 4096

// capture is one piece of memory that a call reads or writes.
type capture struct {
	Arg   uint8 // the argument that points at it
	At    captureStop
	What  captureForm
	Level Level
	N     uint8  // the argument that readLenArg and the like speak of
	Len   uint16 // bytes
	Unit  uint16 // bytes of an element
	Off   uint16 // readLenArg begins so many bytes behind
	More  uint16 // readLenArg is so many bytes more
	// Interrupted: written when the call was interrupted, not when it succeeded.
	Interrupted bool
	// Only if Args[If.Arg] & If.Mask == If.Is.
	If  condition
	Ref structRef
}

// structRef is a pointer in a struct, and what it points at.
type structRef struct {
	Off  uint16 // where it lies
	Wide bool   // it has 64 bits in all programs
	Elem uint16 // bytes of an element, 0 for a string
	// Where the 32-bit number of elements lies; refToOne if there is none, refCountArg|N
	// if argument N is it.
	Count uint16
}

// Values of structRef.Count.
const (
	refToOne    = 0xffff
	refCountArg = 0xff00
)

// condition is one on an argument; the zero condition holds always.
type condition struct {
	Arg      uint8
	Mask, Is uint64
}

// Holds says whether the condition is true.
func (c *condition) Holds(args *[6]uint64) bool { return args[c.Arg&7%6]&c.Mask == c.Is }

// Collector reads what is to be read around a call, with the arguments in memory
// of i386's socketcall and ipc. Its memory is used again for the next call: Bufs
// are valid until the next Enter.
type Collector struct {
	// Read copies memory of the program from a on and returns how many bytes it
	// could.
	Read func(p []byte, a addr.Addr) int
	// Level is the highest level that is read.
	Level Level
	// MaxData is how many bytes are kept of the data that a call writes, MaxString
	// of the data that it reads: all its pieces together. 0 means 64 KiB, less than
	// 0 none. Structures, and what says where the data is, do not count. Of what a call
	// writes to standard error, up to 4 KiB are kept too, if anything is.
	MaxData, MaxString int

	bufs  []Buf
	arena []byte
	left  int // of MaxString, then of MaxData
}

// Limits of one call: what a program claims is not believed.
const (
	maxVector  = 1024 // elements of an argument vector or iovec
	maxArena   = 8 << 20
	maxStruct  = 64 << 10
	maxArrayIn = 4 << 10 // of a vector that says what a call waits for
	defMaxData = 64 << 10
	readChunk  = 256
	errorText  = 4 << 10 // of what is written to standard error
)

// Enter reads what is to be read before the call and puts it into c.Bufs.
func (k *Collector) Enter(c *Call) {
	k.bufs, k.arena, k.left = k.bufs[:0], k.arena[:0], allowed(k.MaxString)
	if k.left > 0 && c.ToStandardError() {
		k.left = max(k.left, errorText)
	}
	k.run(c, atEnter)
	c.Bufs = k.bufs
}

// Exit reads what is to be read after the call and adds it to c.Bufs, which
// must be those that Enter gave.
func (k *Collector) Exit(c *Call) {
	if !c.Returned {
		return
	}
	k.left = allowed(k.MaxData)
	k.run(c, atExit)
	c.Bufs = k.bufs
}

// Add adds what was read elsewhere to c.Bufs, which must be those that Enter or Exit
// gave.
func (k *Collector) Add(c *Call, b Buf) {
	k.bufs = append(k.bufs, b)
	c.Bufs = k.bufs
}

func allowed(limit int) int {
	if limit == 0 {
		return defMaxData
	}
	return max(0, limit)
}

func (k *Collector) run(c *Call, at captureStop) {
	s := lookup(c.Arch, c.Nr)
	if s == nil || len(s.caps) == 0 && s.mux == nil && s.special == nil {
		return
	}
	caps, args := s.caps, c.Args
	if c.Arch == arch.I386 {
		for i := range args {
			args[i] = uint64(uint32(args[i]))
		}
		if s.mux != nil {
			if at == atEnter {
				for i := range caps {
					if caps[i].What == readArgBlock && caps[i].If.Holds(&args) {
						k.bytes(args[caps[i].Arg], int(caps[i].Len), BufArgs, false, LevelPath)
					}
				}
			}
			c.Bufs = k.bufs
			var p printer
			p.init(c, nil)
			if p.sig == s || p.sig == nil {
				return
			}
			caps, args = p.sig.caps, p.args
			if at == atExit && s.name == "ipc" && c.Failed() == 0 && p.sig.name == "shmat" {
				k.bytes(c.Args[3]&0xffffffff, 4, 3, true, LevelPath)
			}
		}
	}
	if at == atEnter && c.SP != 0 && k.Level >= LevelStruct {
		k.sigframe(c, s.name)
	}
	for i := range caps {
		cp := &caps[i]
		if cp.At != at || cp.Level > k.Level || !cp.If.Holds(&args) {
			continue
		}
		if at == atExit {
			if k.MaxData < 0 && cp.Level == LevelData {
				continue
			}
			e := c.Failed()
			if cp.Interrupted != (e == 4 || e == 516) || !cp.Interrupted && e != 0 {
				continue
			}
		}
		k.one(c, cp, &args)
	}
}

func (k *Collector) one(c *Call, cp *capture, args *[6]uint64) {
	a, out := args[cp.Arg], cp.At == atExit
	if a == 0 && cp.What != readIoctlSize {
		return
	}
	n := args[cp.N]
	switch cp.What {
	case readCString:
		k.cstring(a, cp.Arg, out)
	case readBytes:
		k.bytes(a, int(cp.Len), cp.Arg, out, LevelStruct)
	case readLenArg:
		a += uint64(cp.Off)
		size := mulLen(n, cp.Unit) + int(cp.More)
		if cp.Len != 0 {
			size = min(size, int(cp.Len))
		}
		if !out && cp.Level == LevelData && cp.Unit == 0 {
			k.data(a, size, cp.Arg, false)
			return
		}
		k.bytes(a, size, cp.Arg, out, cp.Level)
	case readLenRet:
		size := mulLen(uint64(max(c.Ret, 0)), cp.Unit)
		if cp.N != 0 { // what there is may be more than what fits
			size = int(min(uint64(size), n))
		}
		k.bytes(a, size+int(cp.Len), cp.Arg, out, cp.Level)
	case readLenPtr:
		k.lenPtr(a, n, cp)
	case readLenBits:
		long := uint64(c.Arch.PointerSize()) * 8
		k.bytes(a, int((min(n, 1<<20)+long-1)/long*long/8), cp.Arg, out, cp.Level)
	case readLenPages:
		k.bytes(a, int(min((n+addr.PageSize-1)/addr.PageSize, 1<<24)), cp.Arg, out, cp.Level)
	case readStringVec:
		k.vector(c, a, true, BufArgv)
	case readVecCount:
		k.vector(c, a, false, cp.Arg)
	case readIovec:
		k.iovec(c, a, n, cp.Arg, out, uint64(max(c.Ret, 0)))
	case readMsghdr:
		k.msghdr(c, a, cp.Arg, out, uint64(max(c.Ret, 0)))
	case readMmsghdr:
		if out {
			n = min(n, uint64(max(c.Ret, 0)))
		}
		k.mmsghdr(c, a, n, cp, out)
	case readSigset6:
		before := len(k.bufs)
		k.bytes(a, int(cp.Len), cp.Arg, false, cp.Level)
		if len(k.bufs) > before {
			v := view{k.bufs[before].Data, c.Arch.PointerSize()}
			if set := v.word(0); set != 0 {
				k.bytes(set, 8, cp.Arg, false, cp.Level)
			}
		}
	case readPointee:
		k.pointee(c, cp, args, out)
	case readIocbs:
		k.iocbs(c, a, n, cp.Arg)
	case readIoctlSize:
		in, outSize := ioctlSizes(uint32(args[1]))
		if out {
			in = outSize
		}
		if a != 0 {
			k.bytes(a, in, cp.Arg, out, cp.Level)
		}
		if out && uint32(args[1]) == siocGifConf {
			k.interfaces(c, a, cp.Arg)
		}
	}
}

// lenPtr reads what a call wrote into a buffer whose size it takes and gives by
// a pointer: the size it gives may be larger than the buffer was.
func (k *Collector) lenPtr(a, n uint64, cp *capture) {
	var now [4]byte
	if n == 0 || k.Read(now[:], addr.Addr(n)) != 4 {
		return
	}
	size := min(binary.LittleEndian.Uint32(now[:]), 1<<16)
	for i := range k.bufs {
		if b := &k.bufs[i]; b.Arg == cp.N && !b.Out && len(b.Data) == 4 {
			size = min(size, binary.LittleEndian.Uint32(b.Data))
		}
	}
	k.bytes(a, int(size), cp.Arg, true, cp.Level)
}

// pointee keeps what a pointer in a struct that was kept points at.
func (k *Collector) pointee(c *Call, cp *capture, args *[6]uint64, out bool) {
	a := args[cp.Arg]
	for i := range k.bufs {
		b := &k.bufs[i]
		if b.Arg != cp.Arg || b.Out || uint64(b.Addr) != a {
			continue
		}
		v := view{b.Data, c.Arch.PointerSize()}
		if cp.Ref.Wide {
			v.w = 8
		}
		to, n := v.word(int(cp.Ref.Off)), uint64(1)
		switch count := cp.Ref.Count; {
		case count == refToOne:
		case count >= refCountArg:
			n = min(args[(count-refCountArg)%6]&0xffffffff, maxVector)
		default:
			n = min(uint64(v.u32(int(count))), maxVector)
		}
		switch {
		case to == 0 || to == a || n == 0:
		case cp.Ref.Elem == 0:
			k.cstring(to, cp.Arg, out)
		default:
			k.bytes(to, int(n)*int(cp.Ref.Elem), cp.Arg, out, LevelStruct)
		}
		return
	}
}

// iocbs keeps what io_submit is to do, as far as it is shown.
func (k *Collector) iocbs(c *Call, a, n uint64, arg uint8) {
	if int64(n) < 0 {
		return
	}
	before := len(k.bufs)
	w := c.Arch.PointerSize()
	k.bytes(a, int(min(n, maxListed))*w, arg, false, LevelStruct)
	if len(k.bufs) == before {
		return
	}
	list := view{k.bufs[before].Data, w}
	for off := 0; off+w <= len(list.b); off += w {
		at := len(k.bufs)
		k.bytes(list.word(off), iocbSize, arg, false, LevelStruct)
		if len(k.bufs) == at || len(k.bufs[at].Data) < iocbSize {
			continue
		}
		cb := parseIocb(k.bufs[at].Data)
		switch {
		case !cb.valid(c.Arch):
		case cb.op == iocbWrite && k.Level >= LevelData:
			k.data(cb.buf, int(min(cb.n, maxArena)), arg, false)
		case cb.op == iocbWritev || cb.op == iocbReadv:
			k.iovecIn(c, cb.buf, cb.n, arg, cb.op == iocbWritev)
		}
	}
}

// interfaces keeps the list that SIOCGIFCONF filled, as far as it is shown.
func (k *Collector) interfaces(c *Call, a uint64, arg uint8) {
	var head [16]byte
	w := c.Arch.PointerSize()
	if k.Read(head[:2*w], addr.Addr(a)) != 2*w {
		return
	}
	v := view{head[:], w}
	if list := v.word(w); list != 0 {
		k.bytes(list, int(min(v.u32(0), (maxListed+1)*40)), arg, true, LevelStruct)
	}
}

func mulLen(n uint64, unit uint16) int {
	return int(min(n, maxArena) * uint64(max(unit, 1)))
}

// bytes keeps n bytes of the program from a on, or as many as can be read. What
// is not data counts towards no limit of the caller's.
func (k *Collector) bytes(a uint64, n int, arg uint8, out bool, level Level) {
	switch {
	case level != LevelData:
		k.keep(a, n, min(n, maxStruct), arg, out)
	case out:
		k.data(a, n, arg, true)
	default:
		k.keep(a, n, min(n, maxArrayIn), arg, out)
	}
}

// data keeps what is left of the call's limit of n bytes of data.
func (k *Collector) data(a uint64, n int, arg uint8, out bool) {
	k.left -= k.keep(a, n, min(n, k.left), arg, out)
}

// keep reads n bytes, of want that there are, and says how many it could.
func (k *Collector) keep(a uint64, want, n int, arg uint8, out bool) int {
	n = min(n, maxArena-len(k.arena))
	if n <= 0 {
		return 0
	}
	p := k.grow(n)
	got := max(0, min(k.Read(p, addr.Addr(a)), n))
	k.arena = k.arena[:len(k.arena)-n+got]
	if got == 0 {
		return 0
	}
	k.bufs = append(k.bufs, Buf{Arg: arg, Out: out, More: got < want, Addr: addr.Addr(a), Data: p[:got:got]})
	return got
}

// grow makes the arena n bytes longer and returns them.
func (k *Collector) grow(n int) []byte {
	at := len(k.arena)
	if cap(k.arena)-at < n {
		bigger := make([]byte, at, max(2*cap(k.arena), at+n, 4096))
		copy(bigger, k.arena)
		k.arena = bigger
	}
	k.arena = k.arena[:at+n]
	return k.arena[at : at+n : at+n]
}

// cstring reads up to a NUL in steps that do not cross a page: the page after
// the string may not be there.
func (k *Collector) cstring(a uint64, arg uint8, out bool) {
	start := len(k.arena)
	at, more := a, true
	for len(k.arena)-start < MaxPath {
		n := min(readChunk, addr.PageSize-int(at&(addr.PageSize-1)), MaxPath-(len(k.arena)-start))
		if len(k.arena)+n > maxArena {
			break
		}
		p := k.grow(n)
		got := max(0, min(k.Read(p, addr.Addr(at)), n))
		end := got
		for i, c := range p[:got] {
			if c == 0 {
				end, more = i, false
				break
			}
		}
		k.arena = k.arena[:len(k.arena)-n+end]
		if !more || got < n {
			break
		}
		at += uint64(n)
	}
	if more && len(k.arena) == start {
		return
	}
	data := k.arena[start:len(k.arena):len(k.arena)]
	k.bufs = append(k.bufs, Buf{Arg: arg, Out: out, More: more, Addr: addr.Addr(a), Data: data})
}

func (k *Collector) vector(c *Call, a uint64, strings bool, arg uint8) {
	size := uint64(c.Arch.PointerSize())
	var block [32 * 8]byte
	count := uint32(0)
	first := a
	for count < 64*maxVector {
		n := min(uint64(len(block)), addr.PageSize-a&(addr.PageSize-1)) / size * size
		if n == 0 {
			n = size
		}
		got := uint64(max(0, k.Read(block[:n], addr.Addr(a)))) / size * size
		v := view{block[:min(got, n)], int(size)}
		for off := 0; off < len(v.b); off += int(size) {
			p := v.word(off)
			if p == 0 || strings && count >= maxVector {
				if !strings {
					k.count(first, arg, count)
				}
				return
			}
			if strings {
				k.cstring(p, arg, false)
			}
			count++
		}
		if got < n {
			return
		}
		a += n
	}
}

func (k *Collector) count(a uint64, arg uint8, n uint32) {
	if len(k.arena)+4 > maxArena {
		return
	}
	p := k.grow(4)
	binary.LittleEndian.PutUint32(p, n)
	k.bufs = append(k.bufs, Buf{Arg: arg, Addr: addr.Addr(a), Data: p})
}

// iovecIn keeps a vector, and what it points at if that is data that the call
// reads.
func (k *Collector) iovecIn(c *Call, a, n uint64, arg uint8, data bool) {
	if data {
		k.iovec(c, a, n, arg, false, 0)
		return
	}
	k.bytes(a, int(min(n, maxVector))*2*c.Arch.PointerSize(), arg, false, LevelStruct)
}

// iovec keeps the array (at Enter) and what its elements point at, total bytes
// of it at Exit.
func (k *Collector) iovec(c *Call, a, n uint64, arg uint8, out bool, total uint64) {
	size := 2 * c.Arch.PointerSize()
	var array []byte
	if out {
		for i := range k.bufs {
			if k.bufs[i].Arg == arg && !k.bufs[i].Out && uint64(k.bufs[i].Addr) == a {
				array = k.bufs[i].Data
			}
		}
	} else {
		before := len(k.bufs)
		k.bytes(a, int(min(n, maxVector))*size, arg, false, LevelStruct)
		if len(k.bufs) == before {
			return
		}
		array = k.bufs[before].Data
		total = 1 << 62
	}
	if k.Level < LevelData {
		return
	}
	if out && k.MaxData < 0 {
		return
	}
	v := view{array, c.Arch.PointerSize()}
	first := len(k.bufs)
	for off := 0; off+size <= len(array) && total > 0; off += size {
		base, length := v.word(off), v.word(off+size/2)
		length = min(length, total)
		total -= length
		if base == 0 || length == 0 {
			continue
		}
		if k.left == 0 && len(k.bufs) > first { // said of the last piece that was kept
			k.bufs[len(k.bufs)-1].More = true
			return
		}
		k.data(base, int(min(length, maxArena)), arg, out)
	}
}

func (k *Collector) msghdr(c *Call, a uint64, arg uint8, out bool, total uint64) {
	size := msghdrSize(c.Arch)
	before := len(k.bufs)
	k.bytes(a, size, arg, out, LevelStruct)
	if len(k.bufs) == before || len(k.bufs[before].Data) < size {
		return
	}
	m := parseMsghdr(view{k.bufs[before].Data, c.Arch.PointerSize()})
	if m.name != 0 && m.namelen > 0 {
		k.bytes(m.name, int(min(m.namelen, 128)), arg, out, LevelStruct)
	}
	if m.control != 0 && m.controllen > 0 {
		k.bytes(m.control, int(min(m.controllen, 4096)), arg, out, LevelStruct)
	}
	if m.iov == 0 {
		return
	}
	if out { // its array was not read on the way in
		k.bytes(m.iov, int(min(m.iovlen, maxVector))*2*c.Arch.PointerSize(), arg, false, LevelStruct)
	}
	k.iovec(c, m.iov, m.iovlen, arg, out, total)
}

// mmsghdr keeps an array of n messages and their contents: of all that were
// received, of as many as are shown of those that are sent.
func (k *Collector) mmsghdr(c *Call, a, n uint64, cp *capture, out bool) {
	head := msghdrSize(c.Arch)
	size := head + c.Arch.PointerSize()
	before := len(k.bufs)
	k.bytes(a, int(min(n, maxVector))*size, cp.Arg, out, LevelStruct)
	if len(k.bufs) == before {
		return
	}
	v := view{k.bufs[before].Data, c.Arch.PointerSize()}
	for off := 0; off+size <= len(v.b); off += size {
		switch {
		case out:
			k.msghdr(c, a+uint64(off), cp.Arg, true, uint64(v.u32(off+head)))
		case off < maxListed*size:
			k.msghdr(c, a+uint64(off), cp.Arg, false, 0)
		default:
			return
		}
	}
}

// sigframe keeps the signal mask that a sigreturn takes from its frame on the
// stack.
func (k *Collector) sigframe(c *Call, name string) {
	switch {
	case name == "rt_sigreturn" && c.Arch == arch.X86_64:
		k.bytes(c.SP+296, 8, 0, false, LevelStruct) // ucontext.uc_sigmask
	case name == "rt_sigreturn" && c.Arch == arch.AArch64:
		k.bytes(c.SP+128+40, 8, 0, false, LevelStruct)
	case name == "rt_sigreturn":
		k.bytes(c.SP+248, 8, 0, false, LevelStruct)
	case name == "sigreturn": // sigcontext.oldmask, and extramask after the old FPU state
		k.bytes(c.SP+80, 4, 0, false, LevelStruct)
		k.bytes(c.SP+712, 4, 1, false, LevelStruct)
	}
}

// ioctlSizes says how many bytes an ioctl request reads and writes at its third
// argument, as far as its number tells or the request is a known old one.
func ioctlSizes(req uint32) (in, out int) {
	if s, ok := oldIoctls[req]; ok {
		return int(s.in), int(s.out)
	}
	size := int(req >> 16 & 0x3fff)
	if req>>30&1 != 0 {
		in = size
	}
	if req>>31&1 != 0 {
		out = size
	}
	return in, out
}

var oldIoctls = map[uint32]struct{ in, out uint8 }{
	0x5401: {0, 36},                                   // TCGETS
	0x5402: {36, 0}, 0x5403: {36, 0}, 0x5404: {36, 0}, // TCSETS, TCSETSW, TCSETSF
	0x5405: {0, 18},                // TCGETA
	0x540f: {0, 4}, 0x5410: {4, 0}, // TIOCGPGRP, TIOCSPGRP
	0x5411: {0, 4},                 // TIOCOUTQ
	0x5413: {0, 8}, 0x5414: {8, 0}, // TIOCGWINSZ, TIOCSWINSZ
	0x541b: {0, 4},                 // FIONREAD
	0x5421: {4, 0},                 // FIONBIO
	0x5424: {0, 4},                 // TIOCGETD
	0x5429: {0, 4},                 // TIOCGSID
	0x5452: {4, 0},                 // FIOASYNC
	0x8901: {4, 0}, 0x8902: {4, 0}, // FIOSETOWN, SIOCSPGRP
	0x8903: {0, 4}, 0x8904: {0, 4}, 0x8905: {0, 4}, // FIOGETOWN, SIOCGPGRP, SIOCATMARK
	0x8910: {ifreqSize, ifreqSize}, 0x8912: {16, 16}, // SIOCGIFNAME, SIOCGIFCONF
	// what is set, and asked for, of an interface
	0x8914: {ifreqSize, 0}, 0x8916: {ifreqSize, 0}, 0x8918: {ifreqSize, 0}, 0x891a: {ifreqSize, 0}, 0x891c: {ifreqSize, 0},
	0x891e: {ifreqSize, 0}, 0x8922: {ifreqSize, 0}, 0x8923: {ifreqSize, 0}, 0x8924: {ifreqSize, 0}, 0x8930: {ifreqSize, 0},
	0x8931: {ifreqSize, 0}, 0x8932: {ifreqSize, 0}, 0x8937: {ifreqSize, 0}, 0x8943: {ifreqSize, 0}, 0x8971: {ifreqSize, 0},
	0x8913: {ifreqSize, ifreqSize}, 0x8915: {ifreqSize, ifreqSize}, 0x8917: {ifreqSize, ifreqSize}, 0x8919: {ifreqSize, ifreqSize},
	0x891b: {ifreqSize, ifreqSize}, 0x891d: {ifreqSize, ifreqSize}, 0x8921: {ifreqSize, ifreqSize}, 0x8927: {ifreqSize, ifreqSize},
	0x8929: {ifreqSize, ifreqSize}, 0x8933: {ifreqSize, ifreqSize}, 0x8942: {ifreqSize, ifreqSize}, 0x8970: {ifreqSize, ifreqSize},
}

// ifreqSize is a struct ifreq; that of i386 is shorter.
const ifreqSize = 40
