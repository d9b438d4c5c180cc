//go:build linux

package record

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// tracking is how the writes of an address space are found between snapshots.
type tracking struct {
	uffd      *procfs.Uffd
	soft      *softDirty // instead
	wanted    bool       // begin when a thread stands where a call can be made in its name
	failed    bool       // no userfaultfd is to be tried again
	late      bool       // a tick has passed without it
	tries     int
	fresh     ranges        // mapped since the last snapshot, see Recorder.fresh
	cursor    addr.Addr     // where a snapshot that ran out of time stopped
	full      bool          // everything has been seen since tracking began
	swept     uint64        // pages read by sweeps since the last snapshot
	found     uint64        // pages that the last sweep from beginning to end found written
	counted   uint64        // by the sweep that is under way
	protected uint64        // by sweeps, since notBefore was set
	waited    time.Duration // of threads for the last sweep
	watch     *watch        // from the last sweep before a hold on
	walk      time.Duration // of a hold, that reading took without watch
	doubts    int           // times that watch did not explain all
	// What was given back with MADV_FREE holds what it held, or zeros, until it is
	// written to: freed since the last snapshot, lazy before. The kernel does not
	// tell when it takes such a page: see readLazy.
	freed, lazy ranges
	// missed are mappings that cannot be tracked.
	missed []addr.Range
}

// wantTracking asks for the writes of an address space to be found from now on.
func (r *Recorder) wantTracking(mm *space) {
	if !r.opts.NoTrack && !mm.track.failed && !mm.track.on() {
		mm.track.wanted = true
	}
}

// on says whether writes are found.
func (k *tracking) on() bool { return k.uffd != nil || k.soft != nil }

// beginTracking begins to find writes in the best way there is. t is a thread of
// the address space; the others must be held.
func (r *Recorder) beginTracking(t *thread) {
	mm := t.mm
	if procfs.HasUffd() && !mm.track.failed {
		if !t.injectable {
			return // later
		}
		r.injectUffd(t)
		if !mm.track.failed {
			return
		}
	}
	mm.track.wanted, mm.track.failed = false, true
	r.beginSoftDirty(mm)
}

// injectUffd makes a userfaultfd in the program, takes it over and registers all
// mappings. t must stand at the exit of a call, or at the stop of an interrupt.
func (r *Recorder) injectUffd(t *thread) {
	mm := t.mm
	mm.track.wanted = false
	if mm.fs == nil || r.foreignFilter(t) {
		mm.track.failed = true
		return
	}
	in, err := r.injectorOf(t)
	if err != nil {
		mm.track.failed = true
		return
	}
	fd, err := in.call("userfaultfd", uint64(procfs.UffdFlags))
	if err != nil { // preempted: later
		mm.track.wanted = mm.track.retry()
		return
	}
	if fd < 0 { // EMFILE, EPERM
		in.done()
		mm.track.failed = true
		return
	}
	u, err := procfs.TakeUffd(t.tid, int(fd))
	if _, cerr := in.call("close", uint64(fd)); cerr != nil {
		r.lost(t, "a descriptor could not be closed in the program: "+strconv.FormatInt(fd, 10))
	}
	if !t.preempted {
		in.done()
	}
	if err != nil {
		mm.track.failed = true
		return
	}
	mm.track.uffd = u
	mm.track.full, mm.track.cursor = false, 0
	for v := range mm.vmas.All() {
		r.trackMapping(mm, v)
	}
	r.refresh(mm) // the kernel may have merged some
}

// retry allows a few attempts.
func (k *tracking) retry() bool {
	k.tries++
	k.failed = k.tries > 8
	return !k.failed
}

// foreignFilter says whether the program has a seccomp filter of its own: it may
// forbid the call, or kill for it.
func (r *Recorder) foreignFilter(t *thread) bool {
	status, err := procfs.Status(t.tid)
	if err != nil {
		return true
	}
	mode, _ := procfs.Field(status, "Seccomp")
	filters, _ := procfs.Field(status, "Seccomp_filters")
	n, _ := strconv.Atoi(filters)
	if r.filt {
		n--
	}
	return n > 0 || mode == "1"
}

// huge says whether a private mapping may be one of hugetlbfs, whose ends are at
// pages of at least 2 MiB. They cannot be protected in part, nor is their soft-dirty
// bit cleared: they are read each time.
func huge(v vma.VMA) bool {
	const size = 2 << 20
	return v.Kind == vma.FilePrivate && v.Start%size == 0 && v.End%size == 0
}

// trackable says whether the kernel can find writes to a mapping.
func trackable(v vma.VMA) bool {
	return v.Kind != vma.VDSO && v.Kind != vma.VVAR && v.Kind != vma.Special
}

func (r *Recorder) trackMapping(mm *space, v vma.VMA) {
	switch {
	case !trackable(v):
	case mm.track.uffd.Register(v.Range) == nil:
		mm.track.noLongerMissed(v.Range)
	case !slices.Contains(mm.track.missed, v.Range):
		mm.track.missed = append(mm.track.missed, v.Range)
	}
}

func (k *tracking) noLongerMissed(at addr.Range) {
	k.missed = slices.DeleteFunc(k.missed, func(m addr.Range) bool { return at.Start <= m.Start && m.End <= at.End })
}

// rewatch registers a mapping that a call took out of the watch, as mremap does. Not
// while one is under way: what that has made of it is told when it is over.
func (r *Recorder) rewatch(mm *space, v vma.VMA) bool {
	if mm.moving() {
		return false
	}
	if whole, ok := mm.vmas.Find(v.Start); ok {
		v = whole // to register a part would split it
	}
	if mm.track.uffd.Register(v.Range) == nil {
		r.ask(mm, v.Range) // it may have become one with those beside it
		return true
	}
	mm.track.missed = append(mm.track.missed, v.Range)
	return false
}

// trackNew has a range watched that a call has mapped anew, before the kernel is
// asked what it looks like: mappings that are watched do not merge with others.
func (r *Recorder) trackNew(mm *space, at addr.Range) {
	if mm.track.uffd == nil || at.Empty() {
		return
	}
	if mm.track.uffd.Register(at) == nil {
		mm.track.noLongerMissed(at)
		return
	}
	r.trackWhole(mm, at)
}

// trackWhole has the mappings watched that there are in a range, not only the parts
// of them that are in it.
func (r *Recorder) trackWhole(mm *space, at addr.Range) { r.trackEach(mm, at, func(vma.VMA) {}) }

// trackMoved is trackWhole for where mremap has moved something to. What that has
// become one with the kernel let go with it (mremap_userfaultfd_prep in
// fs/userfaultfd.c, Linux 6.18), and what was protected there and has been written
// since counts as unwritten.
func (r *Recorder) trackMoved(mm *space, to addr.Range) {
	r.trackEach(mm, to, func(v vma.VMA) {
		if v.Intersect(to) != v.Range && mm.track.uffd.Register(v.Range) == nil {
			mm.track.uffd.Unregister(v.Range) // all of it counts as written now
		}
	})
}

// trackEach is trackWhole with something to be done before.
func (r *Recorder) trackEach(mm *space, at addr.Range, before func(vma.VMA)) {
	if mm.track.uffd == nil {
		return
	}
	for a := at.Start; a < at.End; {
		v, ok, err := r.mappingAt(mm, a)
		if err != nil { // before Linux 6.11 it cannot be asked for one
			_ = mm.track.uffd.Register(at) // what this leaves out a hold finds unwatched
			return
		}
		if !ok || v.Start >= at.End {
			return
		}
		before(v)
		r.trackMapping(mm, v)
		a = v.End
	}
}

// trackAll is trackNew for changes that may be anywhere.
func (r *Recorder) trackAll(mm *space) { r.trackNew(mm, addr.Range{End: userEnd}) }

// endTracking takes our userfaultfd away, because the program wants one of its
// own.
func (r *Recorder) endTracking(mm *space) {
	if mm.track.uffd != nil {
		mm.track.uffd.Close()
		mm.track.uffd, mm.track.full = nil, false
		r.refresh(mm)
		r.beginSoftDirty(mm)
	}
	mm.track.failed = true
}

// shared says whether a mapping may be written to through others: also a private
// one of shared memory, as long as it has not been written to itself.
func shared(v vma.VMA) bool {
	switch v.Kind {
	case vma.Memfd, vma.POSIXShm, vma.SysV, vma.AnonShared:
		return true
	}
	return v.Prot&addr.Shared != 0
}

// fileFate is what was last seen of a mapped file.
type fileFate struct {
	inode    uint64
	looked   uint64 // when
	changing bool
}

const (
	fileTrust = 100_000_000 // ns; how old the look may be for an interval snapshot
	maxFiles  = 4096
)

// changing says whether the file of a mapping is not what it was when the
// recording began, or has no name any more: nobody can look up later what is in it
// now, so its bytes are kept like those of memory.
func (r *Recorder) changing(v vma.VMA) bool {
	if v.Kind != vma.FilePrivate && v.Kind != vma.FileShared {
		return false
	}
	f, known := r.files[v.Name]
	if !known || f.inode != v.Inode || f.looked < r.filesFrom {
		var st unix.Stat_t
		err := unix.Stat(v.Name, &st)
		f = fileFate{inode: v.Inode, looked: r.now()}
		f.changing = strings.HasSuffix(v.Name, " (deleted)") || err == nil && st.Ino == v.Inode && time.Unix(st.Ctim.Unix()).After(r.w.Header().Start)
		if r.files == nil || len(r.files) > maxFiles {
			r.files = map[string]fileFate{}
		}
		r.files[v.Name] = f
	}
	return f.changing
}

// tracked says whether a mapping's writes are found.
func (mm *space) tracked(v vma.VMA) bool {
	switch {
	case shared(v) || !trackable(v) || !mm.track.on():
		return false
	case mm.track.soft != nil:
		return !huge(v)
	}
	for _, m := range mm.track.missed {
		if m.Overlaps(v.Range) {
			return false
		}
	}
	return true
}

// mechanism is what the log says of how a snapshot's pages were found.
func (mm *space) mechanism() format.Dirty {
	switch {
	case mm.track.uffd != nil:
		return format.DirtyWPAsync
	case mm.track.soft != nil:
		return format.DirtySoft
	}
	return format.DirtyCompare
}
