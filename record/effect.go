//go:build linux

package record

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// effect is where a call may change the mappings: what to ask the kernel about
// when it is done. The answer is never worked out from the arguments.
type effect uint8

const (
	effNone effect = iota
	effBrk
	effMap       // result, length in argument 1
	effOldMap    // i386: the six arguments are in memory
	effUnmap     // arguments 0 and 1; what was there is gone
	effRemap     // old and new place
	effRange     // arguments 0 and 1
	effAdvise    // the same, with advice that may drop contents
	effShmat     // the mapping at the result
	effIPC       // i386: shmat and shmdt among others
	effPrctl     // a name, or anything
	effAll       // anything in this address space
	effShadow    // a new mapping at the result
	effIoctl     // userfaultfd registers ranges by ioctl
	effPaths     // names of files mapped anywhere
	effEverybody // anything in any address space
	effFork      // a new thread or process
	effUffd      // makes a userfaultfd
	effClose     // may close one, which lets the kernel merge what it watched
	effAffinity  // asks for or sets where threads may run
)

// exclusive calls of one address space are let go one at a time.
func (e effect) exclusive() bool {
	switch e {
	case effNone, effPaths, effEverybody, effIoctl, effAffinity, effUffd, effClose:
		return false
	}
	return true
}

// maps says whether a call with this effect may change a line of /proc/PID/maps.
func (e effect) maps() bool {
	switch e {
	case effNone, effFork, effAffinity, effUffd, effClose:
		return false
	}
	return true
}

var effectNames = map[string]effect{
	"brk": effBrk, "mmap": effMap, "mmap2": effMap, "old_mmap": effOldMap, "munmap": effUnmap, "mremap": effRemap,
	"mprotect": effRange, "pkey_mprotect": effRange, "remap_file_pages": effRange, "mlock": effRange, "mlock2": effRange,
	"munlock": effRange, "mbind": effRange, "set_mempolicy_home_node": effRange, "mseal": effRange, "madvise": effAdvise,
	"shmat": effShmat, "ipc": effIPC, "prctl": effPrctl, "map_shadow_stack": effShadow, "ioctl": effIoctl,
	"clone": effFork, "clone3": effFork, "fork": effFork, "vfork": effFork,
	"shmdt": effAll, "mlockall": effAll, "munlockall": effAll, "io_setup": effAll, "io_destroy": effAll, "arch_prctl": effAll,
	"uselib": effAll, "process_madvise": effEverybody, "userfaultfd": effUffd, "close": effClose, "close_range": effClose, "dup2": effClose, "dup3": effClose,
	"sched_getaffinity": effAffinity, "sched_setaffinity": effAffinity,
}

// effects is the table by number. The flags of format/arch have the last word on
// which calls may do what; execve is served at its event.
var effects = sync.OnceValue(func() *[arch.I386 + 1][arch.MaxSyscall]effect {
	t := new([arch.I386 + 1][arch.MaxSyscall]effect)
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			e, named := effectNames[c.Name]
			switch {
			case c.Name == "execve", c.Name == "execveat":
			case id == arch.I386 && c.Name == "mmap":
				e = effOldMap
			case c.Flags&arch.Renames != 0:
				e = effPaths
			case !named && c.Flags&arch.ChangesMM != 0:
				e = effAll
			}
			t[id][nr] = e
		}
	}
	return t
})

// blocking are the calls in which threads are mostly found that wait for
// something.
var blocking = []string{
	"read", "readv", "pread64", "preadv", "write", "writev", "sendto", "sendmsg", "sendmmsg", "send", "recvfrom", "recvmsg", "recvmmsg", "recv",
	"accept", "accept4", "connect", "poll", "ppoll", "select", "pselect6", "old_select", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	"futex", "futex_wait", "futex_waitv", "wait4", "waitid", "waitpid", "nanosleep", "clock_nanosleep", "pause",
	"rt_sigsuspend", "sigsuspend", "rt_sigtimedwait", "flock", "fcntl", "fcntl64", "semop", "semtimedop", "msgrcv", "msgsnd", "mq_timedreceive",
	"io_getevents", "io_pgetevents", "io_uring_enter", "vfork", "clone", "clone3", "open", "openat", "fsync", "fdatasync", "restart_syscall", "socketcall", "ipc",
}

var blocks = sync.OnceValue(func() *[arch.I386 + 1][arch.MaxSyscall]bool {
	t := new([arch.I386 + 1][arch.MaxSyscall]bool)
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for _, name := range blocking {
			if nr, ok := id.Number(name); ok {
				t[id][nr] = true
			}
		}
	}
	return t
})

func mayBlock(id arch.ID, nr uint32) bool {
	return id <= arch.I386 && nr < arch.MaxSyscall && blocks()[id][nr]
}

func effectOf(id arch.ID, nr uint32) effect {
	if id > arch.I386 || nr >= arch.MaxSyscall {
		return effNone
	}
	return effects()[id][nr]
}

// patience is how long a call that changes an address space may keep the others
// of that address space waiting: some block for ever (a page of a FUSE file, a
// userfaultfd).
const patience = 50 * time.Millisecond

// acquire lets a call that changes mappings go on if no other one of its address
// space is under way; else the thread stays where it is until it is its turn.
func (r *Recorder) acquire(t *thread) bool {
	mm := t.mm
	if len(mm.users) == 1 {
		return true
	}
	if mm.busy != nil {
		mm.queue = append(mm.queue, t)
		t.queued = true
		return false
	}
	r.takeTurn(mm, t)
	return true
}

func (r *Recorder) takeTurn(mm *space, t *thread) {
	mm.busy = t
	mm.turn++
	r.watch(mm)
}

// watch takes the turn away from a thread that keeps it for too long. Its call
// is loose from then on: what it does to the mappings may show at any moment.
func (r *Recorder) watch(mm *space) {
	if mm.watching {
		return
	}
	mm.watching = true
	turn := mm.turn
	time.AfterFunc(patience, func() {
		r.Ask(func() {
			mm.watching = false
			switch {
			case mm.busy == nil:
			case mm.turn == turn && len(mm.queue) > 0:
				mm.busy.loose = true
				mm.loose++
				r.passTurn(mm)
			default:
				r.watch(mm)
			}
		})
	})
}

// callDone gives the turn to the next thread that waits for it.
func (r *Recorder) callDone(t *thread) {
	if t.loose {
		t.loose = false
		t.mm.loose--
	}
	if t.mm != nil && t.mm.busy == t {
		r.passTurn(t.mm)
	}
}

func (r *Recorder) passTurn(mm *space) {
	mm.busy = nil
	if len(mm.queue) == 0 {
		return
	}
	next := mm.queue[0]
	mm.queue = mm.queue[1:]
	next.queued = false
	r.takeTurn(mm, next)
	next.call.Enter = r.now() // the kernel sees it only now
	r.resume(next, 0)
}

// unqueue forgets that t waits.
func (r *Recorder) unqueue(t *thread) {
	if !t.queued {
		return
	}
	t.queued = false
	for i, q := range t.mm.queue {
		if q == t {
			t.mm.queue = append(t.mm.queue[:i], t.mm.queue[i+1:]...)
			return
		}
	}
}

// prepare reads, before a call begins, what its effect will depend on.
func (r *Recorder) prepare(t *thread) {
	c := &t.call
	switch t.effect {
	case effOldMap:
		var b [24]byte
		if r.vm.Read(t.tid, b[:], addr.Addr(c.Args[0])) == len(b) {
			for i, word := range []int{0, 1, 3} {
				t.block[i] = uint64(binary.LittleEndian.Uint32(b[4*word:]))
			}
		}
	case effFork:
		t.clone = r.readClone(t)
		r.unpin(t)
	case effRemap:
		r.unwatchMoved(t)
	case effUffd:
		r.endTracking(t.mm)
		t.mm.uffd, r.uffds = true, true
	case effAffinity:
		r.unpinAll()
	}
}

// readClone says what a call that makes a thread or process asked for.
func (r *Recorder) readClone(t *thread) cloneArgs {
	c := &t.call
	row, _ := c.Arch.Syscall(c.Nr)
	switch row.Name {
	case "vfork":
		return cloneArgs{flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}
	case "clone":
		return cloneArgs{flags: c.Args[0], stack: c.Args[1]}
	case "clone3":
		// struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
		// stack, stack_size
		var b [56]byte
		r.vm.Read(t.tid, b[:], addr.Addr(c.Args[0]))
		w := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		a := cloneArgs{flags: w(0) | w(4)&0xff}
		if w(5) != 0 {
			a.stack = w(5) + w(6)
		}
		return a
	}
	return cloneArgs{flags: uint64(unix.SIGCHLD)}
}

// applyEffect asks the kernel what became of the mappings that the call may have
// changed, and writes what differs. It asks also after a failed call: some fail
// half way.
func (r *Recorder) applyEffect(t *thread) {
	c, mm := &t.call, t.mm
	a := &c.Args
	ok := c.Ret < -4095 || c.Ret >= 0
	ret := addr.Addr(c.Ret)
	if mm.loose > 0 || mm.strangers {
		defer r.refresh(mm) // others may have done something since
	}
	if c.Arch == arch.I386 {
		ret = addr.Addr(uint32(c.Ret))
	}
	switch t.effect {
	case effBrk:
		r.applyBrk(mm, ret)
	case effMap, effOldMap:
		length, where := a[1], addr.Addr(a[0])
		if t.effect == effOldMap {
			length, where = t.block[1], addr.Addr(t.block[0])
		}
		if ok {
			where = ret
		}
		r.replaced(mm, span(where, length), ok)
		flags := a[3]
		if t.effect == effOldMap {
			flags = t.block[2]
		}
		if ok && flags&unix.MAP_GROWSDOWN != 0 {
			mm.grow = append(mm.grow, span(where, length).End-1)
		}
	case effShadow:
		if ok {
			r.replaced(mm, span(ret, a[1]), true)
		}
	case effUnmap:
		mm.track.forget(span(addr.Addr(a[0]), a[1]))
		r.ask(mm, span(addr.Addr(a[0]), a[1]))
	case effRemap:
		r.applyRemap(t, ret, ok)
	case effRange:
		r.ask(mm, span(addr.Addr(a[0]), a[1]))
	case effAdvise:
		// With ENOMEM there is a hole, and all else has been done (mm/madvise.c,
		// madvise_walk_vmas).
		r.applyAdvice(mm, span(addr.Addr(a[0]), a[1]), int(a[2]), ok || c.Ret == -int64(unix.ENOMEM))
	case effShmat:
		if ok {
			r.attached(mm, ret)
		}
	case effIPC:
		r.applyIPC(t, ok)
	case effPrctl:
		r.applyPrctl(t)
	case effAll:
		r.trackAll(mm)
		if t.call.Nr != arch64Prctl || a[0] > 0x1004 || c.Arch != arch.X86_64 { // ARCH_SET_GS .. ARCH_GET_GS change registers only
			r.refresh(mm)
		}
	case effIoctl:
		if a[1]>>8&0xff == 0xaa { // UFFDIO_*
			r.refresh(mm)
		}
	case effFork:
		f := t.clone.flags
		untraced := f&unix.CLONE_UNTRACED != 0 || !r.opts.Follow && f&unix.CLONE_THREAD == 0
		if ok && untraced && f&unix.CLONE_VM != 0 {
			mm.strangers = mm.strangers || f&unix.CLONE_VFORK == 0
			r.trackAll(mm)
			r.refresh(mm) // what the child has mapped before its exec stays
		}
	case effPaths:
		if ok {
			r.pathsChanged(t)
		}
	case effClose:
		r.uffdClosed()
	case effEverybody:
		if ok {
			r.processAdvised(t)
		}
		for m := range r.mms {
			r.refresh(m)
		}
	}
}

// uffdClosed looks at the address spaces that may have been watched by a
// userfaultfd of the program: it ends with its last descriptor.
func (r *Recorder) uffdClosed() {
	if !r.uffds {
		return
	}
	for mm := range r.mms {
		if mm.uffd {
			r.refresh(mm)
		}
	}
}

const arch64Prctl = 158 // arch_prctl of x86_64

// span is the pages of n bytes at a.
func span(a addr.Addr, n uint64) addr.Range {
	r, ok := addr.Span(a, n)
	if !ok {
		r.End = ^addr.Addr(0)
	}
	return r.PageAlign()
}

func (r *Recorder) applyBrk(mm *space, brk addr.Addr) {
	old := mm.brk
	mm.brk = brk
	if old == 0 {
		r.refresh(mm)
		return
	}
	if old == brk {
		return
	}
	lo, hi := min(old, brk), max(old, brk)
	r.trackNew(mm, addr.Range{Start: lo.PageDown(), End: span(hi, 0).End}.PageAlign())
	r.ask(mm, addr.Range{Start: lo.PageDown(), End: span(hi, 0).End}.PageAlign())
	if brk > old {
		from, _ := old.PageUp() // the rest of the last page was there before
		to, _ := brk.PageUp()
		r.fresh(mm, addr.Range{Start: from, End: to})
	}
}

// replaced asks about a place where a call put something new: what the log knew
// of the contents there is void.
func (r *Recorder) replaced(mm *space, at addr.Range, ok bool) {
	if ok {
		r.cleared(mm, at)
		r.trackNew(mm, at)
	}
	r.ask(mm, at)
	if ok {
		mm.track.forget(at)
		r.fresh(mm, at)
	}
}

// cleared takes out of the table what a call has unmapped to make room. The
// kernel's may look as before, if the same is mapped there again.
func (r *Recorder) cleared(mm *space, at addr.Range) {
	for range mm.vmas.Overlapping(at) {
		r.change(&format.VMADel{MM: mm.no, Range: at})
		mm.vmas.Remove(at)
		mm.changed = true
		return
	}
}

// fresh notes that a range holds, until it is written to, zeros or its file. What
// may be written at any moment is said only by the next snapshot, which finds what
// was; a mapping that cannot be written is known at once.
func (r *Recorder) fresh(mm *space, at addr.Range) {
	if !r.opts.Snapshot.any() {
		return
	}
	for v := range mm.vmas.Overlapping(at) {
		part := v.Intersect(at)
		switch what := untouched(v); {
		case what == format.PageFile && v.Prot&addr.Write == 0:
			r.change(&format.Pages{MM: mm.no, Addr: part.Start, N: part.Len() / addr.PageSize, What: what})
		case what != 0 && mm.track.on() && len(mm.track.fresh) < maxFresh:
			mm.track.fresh = append(mm.track.fresh, part)
		}
	}
}

// maxFresh bounds what is noted between two snapshots; the rest stays unknown.
const maxFresh = 4096

// ranges are stretches of memory that something is noted of.
type ranges []addr.Range

// take removes what is noted of at, and returns it.
func (k *ranges) take(at addr.Range) (taken ranges) {
	if len(*k) == 0 {
		return nil
	}
	var rest ranges
	for _, r := range *k {
		part := r.Intersect(at)
		if part.Empty() {
			rest = append(rest, r)
			continue
		}
		taken = append(taken, part)
		if r.Start < part.Start {
			rest = append(rest, addr.Range{Start: r.Start, End: part.Start})
		}
		if part.End < r.End {
			rest = append(rest, addr.Range{Start: part.End, End: r.End})
		}
	}
	*k = rest
	return taken
}

// forget drops all that is noted of a range: something else is there now.
func (k *tracking) forget(at addr.Range) {
	k.fresh.take(at)
	k.freed.take(at)
	k.lazy.take(at)
}

// move follows pages that were moved to a place of which nothing is noted.
func (k *tracking) move(from addr.Range, to addr.Addr) {
	for _, list := range []*ranges{&k.fresh, &k.freed, &k.lazy} {
		for _, r := range list.take(from) {
			*list = append(*list, addr.Range{Start: r.Start - from.Start + to, End: r.End - from.Start + to})
		}
	}
}

// untouched is what a page of a private mapping holds that was never written to;
// 0 is not known.
func untouched(v vma.VMA) format.PageKind {
	switch {
	case v.Kind == vma.FilePrivate && v.Name == "/dev/zero":
		return format.PageZero
	case v.Kind == vma.FilePrivate, v.Kind == vma.FileShared && v.Prot&addr.Write == 0:
		return format.PageFile
	case v.Kind == vma.AnonPrivate || v.Kind == vma.Heap || v.Kind == vma.ThreadStack:
		return format.PageZero
	}
	return 0
}

func (r *Recorder) applyRemap(t *thread, ret addr.Addr, ok bool) {
	a, mm := &t.call.Args, t.mm
	from, old, now := addr.Addr(a[0]), a[1], a[2]
	// To register a part of a mapping would split it.
	r.trackWhole(mm, mm.vmas.Widen(span(from, max(old, now))))
	if !ok {
		r.ask(mm, span(from, max(old, now)))
		if a[3]&unix.MREMAP_FIXED != 0 { // it may have made room already, or moved some
			r.trackMoved(mm, span(addr.Addr(a[4]), now))
			r.ask(mm, span(addr.Addr(a[4]), now))
		}
		return
	}
	if ret != from {
		parts := []addr.Range{span(from, now)}
		if old != 0 && span(0, old) == span(0, now) {
			parts = mm.mapped(parts[0]) // where there is a hole, what is at its new place stays
		}
		for _, p := range parts {
			to := addr.Range{Start: p.Start - from + ret, End: p.End - from + ret}
			n := min(p.Len(), span(0, old).Len())
			r.cleared(mm, to)
			if n > 0 { // else it is a second mapping of the same pages
				r.change(&format.VMAMove{MM: mm.no, From: p.Start, To: to.Start, Len: n})
			}
			mm.track.soft.moved(to)
			r.trackMoved(mm, to)
			r.ask(mm, to)
			mm.track.forget(to)
			mm.track.move(span(p.Start, n), to.Start)
		}
	}
	r.ask(mm, span(from, max(old, now)))
	if n := span(0, old).Len(); n != 0 && n < span(0, now).Len() {
		r.fresh(mm, addr.Range{Start: ret + addr.Addr(n), End: span(ret, now).End})
	}
	if a[3]&mremapDontUnmap != 0 && ret != from {
		r.fresh(mm, span(from, old))
	}
}

const mremapDontUnmap = 4

// mapped is the stretches of a range that have mappings.
func (mm *space) mapped(at addr.Range) (parts []addr.Range) {
	for v := range mm.vmas.Overlapping(at) {
		v := v.Intersect(at)
		if n := len(parts); n > 0 && parts[n-1].End == v.Start {
			parts[n-1].End = v.End
		} else {
			parts = append(parts, v)
		}
	}
	return parts
}

// unwatchMoved lets go of mappings that one call is about to move together, or of
// one with a hole behind it: the kernel (6.17 and later) does that, but not with any
// that a userfaultfd watches (mm/mremap.c, vma_multi_allowed).
func (r *Recorder) unwatchMoved(t *thread) {
	a, mm := &t.call.Args, t.mm
	if mm.track.uffd == nil || a[3]&unix.MREMAP_FIXED == 0 || span(0, a[1]) != span(0, a[2]) {
		return
	}
	from := span(addr.Addr(a[0]), a[1])
	var vs []addr.Range
	for v := range mm.vmas.Overlapping(from) {
		if trackable(v) {
			vs = append(vs, v.Range)
		}
	}
	if len(vs) == 1 && vs[0].End >= from.End {
		return
	}
	for _, v := range vs {
		mm.track.uffd.Unregister(v)
	}
}

// Advice that drops contents (include/uapi/asm-generic/mman-common.h).
const (
	madvDontneed       = 4
	madvFree           = 8
	madvRemove         = 9
	madvWipeOnFork     = 18
	madvKeepOnFork     = 19
	madvDontneedLocked = 24
	madvGuardInstall   = 102
)

func (r *Recorder) applyAdvice(mm *space, at addr.Range, advice int, ok bool) {
	switch advice {
	case madvDontneed, madvFree, madvRemove, madvDontneedLocked, madvGuardInstall:
		r.dropped(mm, at, advice, ok)
	case madvWipeOnFork:
		if ok && !slices.Contains(mm.wipe, at) {
			mm.wipe = append(mm.wipe, at)
		}
	case madvKeepOnFork:
		if ok {
			mm.wipe = slices.DeleteFunc(mm.wipe, func(w addr.Range) bool { return at.Start <= w.Start && w.End <= at.End })
		}
	}
	r.ask(mm, at)
}

// processAdvised serves process_madvise, whose ranges are in memory. What a
// process lets go of itself is gone; on others the kernel allows only advice that
// keeps contents.
func (r *Recorder) processAdvised(t *thread) {
	a := &t.call.Args
	switch a[3] {
	case madvDontneed, madvFree, madvRemove, madvDontneedLocked, madvGuardInstall:
	default:
		return
	}
	word := uint64(t.call.Arch.PointerSize())
	b := make([]byte, 2*word*min(a[2], iovMax))
	b = b[:r.vm.Read(t.tid, b, addr.Addr(a[1]))]
	for ; uint64(len(b)) >= 2*word; b = b[2*word:] {
		base, n := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[word:]))
		if word == 8 {
			base, n = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[word:])
		}
		r.dropped(t.mm, span(addr.Addr(base), n), int(a[3]), true)
	}
}

// dropped notes that the contents of a range are gone. Nothing else is known of
// them, but that private anonymous memory is zero again: the kernel does not tell
// of a page that is only read after that.
func (r *Recorder) dropped(mm *space, at addr.Range, advice int, ok bool) {
	if at.Empty() {
		return
	}
	r.change(&format.Pages{MM: mm.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent})
	if advice == madvFree && r.opts.Snapshot.any() && len(mm.track.freed) < maxFresh {
		mm.track.freed = append(mm.track.freed, at)
		return
	}
	if !ok || advice != madvDontneed && advice != madvDontneedLocked {
		return
	}
	mm.track.forget(at)
	if len(mm.users) > 1 { // another thread may have written to it since
		r.fresh(mm, at)
		return
	}
	for v := range mm.vmas.Overlapping(at) {
		if v.File() || shared(v) || !trackable(v) {
			continue
		}
		z := addr.Range{Start: max(v.Start, at.Start), End: min(v.End, at.End)}
		r.change(&format.Pages{MM: mm.no, Addr: z.Start, N: z.Len() / addr.PageSize, What: format.PageZero})
	}
}

const iovMax = 1024 // UIO_MAXIOV

// attached asks about a System V segment, whose size only the kernel knows.
func (r *Recorder) attached(mm *space, at addr.Addr) {
	if v, ok, err := r.mappingAt(mm, at); err == nil && ok && v.Start == at {
		r.replaced(mm, v.Range, true)
		return
	}
	r.refresh(mm)
}

// Calls that i386 multiplexes through ipc(2) (include/uapi/linux/ipc.h).
const (
	ipcShmat = 21
	ipcShmdt = 22
)

func (r *Recorder) applyIPC(t *thread, ok bool) {
	a := &t.call.Args
	switch a[0] & 0xffff {
	case ipcShmat:
		var b [4]byte
		if ok && r.vm.Read(t.tid, b[:], addr.Addr(a[3])) == 4 {
			r.attached(t.mm, addr.Addr(binary.LittleEndian.Uint32(b[:])))
		}
	case ipcShmdt:
		r.refresh(t.mm)
	}
}

const prSetMemoryMerge = 67 // PR_SET_MEMORY_MERGE, include/uapi/linux/prctl.h

func (r *Recorder) applyPrctl(t *thread) {
	a := &t.call.Args
	switch a[0] {
	case unix.PR_SET_VMA:
		r.ask(t.mm, span(addr.Addr(a[2]), a[3]))
	case unix.PR_SET_MM, prSetMemoryMerge:
		r.refresh(t.mm)
	}
}
