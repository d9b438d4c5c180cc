//go:build linux

// This file has an address space, and a thread, as the recorder keeps them. An address
// space joins the table of mappings, what finds writes, and what is noted of contents,
// and wires what one of them says to the others.

package record

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/snapshot"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// memory is an address space, in the Local of its tracee.Space.
type memory struct {
	*tracee.Space
	group  *tracee.Group
	kernel kernel
	log    *journal
	files  *snapshot.Files
	fs     opened // nil: it was gone before it could be opened
	via    int    // tid of the thread that fs was opened by
	// unread is why it could not be opened, until that has been said.
	unread error
	table  *space.Table
	turn   space.Turn[*tracee.Thread]

	finder dirty.Finder
	notes  *snapshot.State
	sink   *snapshot.Copies
	track  tracking
	sweeps sweeps
	inside inside.Space         // the code in it that records calls
	pages  pagetrace.Space      // its page references
	writes pagetrace.WriteSpace // its page writes

	code          code  // for call stacks
	faults        int64 // page faults when the growing mappings were last looked at
	untracedUsers bool  // processes that are not traced may share it
	ownUffd       bool  // the program may have a userfaultfd of its own for it

	ringMapped  bool   // entries of an io_uring have been found in it
	ringNext    uint64 // they are not looked at before
	ringSettled uint64 // until then they are
}

// trackStage is how far it has come with finding the writes of an address space.
type trackStage uint8

const (
	trackIdle    trackStage = iota // nobody wants it, or it has begun
	trackWanted                    // begin when a thread stands where a call can be made in its name
	trackOverdue                   // the same, and a tick has passed without it
)

// tracking is how an address space comes to a finder.
type tracking struct {
	stage  trackStage
	noUffd bool // no userfaultfd is to be tried any more
	never  bool // writes are not to be found at all: some would be missed
	tries  int
}

// large reports whether an address space may have more memory of its own than can be read in
// the time that an interval snapshot may hold it.
func (m *memory) large() bool {
	const most = 64 << 20
	n := uint64(0)
	for v := range m.Mappings().All() {
		if v.Prot&addr.Write != 0 {
			n += v.Len()
		}
	}
	return n > most
}

// sweeps is what is known of the interval snapshots of an address space.
type sweeps struct {
	notBefore uint64 // no interval snapshot before this time
	leftOut   int    // interval snapshots since the last
	pages     uint64 // read by sweeps since the last snapshot
	counted   uint64 // found by the sweep that is under way
	armed     uint64 // by sweeps, since notBefore was set
	behind    bool   // what was there when it was attached to has not been read yet
	cost      dirty.Cost
	faults    dirty.FaultWatch
	watch     *dirty.Faults // from the last sweep before a hold on
}

func memoryOf(t *tracee.Thread) *memory { return t.Space.Local.(*memory) }

// openMemory opens the address space of a stopped thread and reads its mappings. One
// that is gone by then has none.
func (r *Recorder) openMemory(t *tracee.Thread) *memory {
	fs, mappings, err := readMappings(r.kernel, t.TID)
	m := r.addMemory(t, fs, func(mm uint32) (*space.Table, error) { return space.New(mm, fs, mappings) })
	m.believe()
	m.unread = err
	return m
}

// readMappings opens the address space of a thread. It returns nil if that is gone, or
// cannot be read: then the error says why.
func readMappings(k kernel, tid int) (opened, []vma.VMA, error) {
	fs, err := k.open(tid)
	if errors.Is(err, procfs.ErrGone) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	// A thread that is still in a call may change what is being read in pieces.
	for range 8 {
		vs, err := fs.Maps()
		if err != nil {
			break
		}
		if _, err := vma.NewSet(vs); err == nil {
			return fs, vs, nil
		}
	}
	fs.Close()
	return nil, nil, nil
}

// addMemory makes an address space known, with the table that table makes.
func (r *Recorder) addMemory(t *tracee.Thread, fs opened, table func(mm uint32) (*space.Table, error)) *memory {
	r.lastMM++
	m := &memory{
		Space: t.Space, group: r.group, kernel: r.kernel, log: &r.log, files: r.files, fs: fs, via: t.TID, notes: &snapshot.State{},
	}
	var err error
	if m.table, err = table(r.lastMM); err != nil { // two mappings overlap: readMappings has excluded it
		m.table, _ = space.New(r.lastMM, nil, nil)
	}
	m.finder = dirty.NewCompare(fs)
	known := func() *format.MM { return r.log.log.State().MMs[m.table.MM()] }
	m.sink = snapshot.NewCopies(snapshot.NewDirect(m.table.MM(), known, r.log.pages))
	m.inside = inside.NewSpace(m.group, m.Space, m)
	m.pages, m.writes = pagetrace.NewSpace(m.Space, m, r.warden != nil), pagetrace.NewWriteSpace(m.Space, m)
	t.Space.Local = m
	r.memories[m] = struct{}{}
	for v := range m.Mappings().All() {
		m.meet(v)
	}
	p := &r.opts.Snapshot
	if p.any() {
		m.notes = snapshot.NewState()
	}
	if p.atEvents() || r.writes != nil {
		r.wantTracking(m)
	}
	if r.writes != nil && m.track.stage == trackWanted {
		m.track.stage = trackOverdue // it begins at the end of the next call
	}
	return m
}

// tellUnread writes down that an address space cannot be read, if that is so.
func (r *Recorder) tellUnread(t *tracee.Thread, m *memory) {
	err := m.unread
	if err == nil {
		return
	}
	m.unread = nil
	r.warn("the mappings and the memory of process %d cannot be read, and are not in the log: %v (record as root, or a program that its user may read)", t.Proc.PID, err)
	r.lost(t.No, fmt.Sprintf("mappings and memory of address space %d: %v", m.table.MM(), err))
}

// believe has the table ask the kernel through what the program believes of its memory,
// where a page trace may have other protections set.
func (m *memory) believe() {
	if k := m.pages.Believer(); k != nil {
		m.table.SetKernel(k)
	}
}

// write writes the whole address space as new.
func (m *memory) write() {
	m.log.change(&format.MMNew{MM: m.table.MM()})
	m.table.Write(m)
}

// forkMemory gives child a copy of an address space, as the kernel has made it.
func (r *Recorder) forkMemory(child *tracee.Thread, parent *memory) {
	parent.sweeps.watch.Forked()
	fs, mappings, err := readMappings(r.kernel, child.TID)
	m := r.addMemory(child, fs, func(mm uint32) (*space.Table, error) {
		r.log.change(&format.MMNew{MM: mm, From: parent.table.MM()})
		return parent.table.Fork(mm, fs, parent.pages.Believed(mappings), changes{&r.log})
	})
	m.pages.Fork(&parent.pages)
	m.believe()
	m.notes, m.ownUffd, m.unread = parent.notes.Fork(), parent.ownUffd, err
}

// leave takes a thread out of its address space, and the address space out of the
// state if it was the last.
func (r *Recorder) leave(m *memory, t *tracee.Thread) {
	if len(m.Threads) > 0 {
		if r.warden != nil {
			r.warden.Leaves(&m.pages, t)
		}
		if m.via == t.TID && m.fs != nil { // its files in /proc went with it
			m.reopen()
		}
		return
	}
	r.inside.Discard(&m.inside)
	m.close()
	delete(r.memories, m)
	r.log.change(&format.MMDrop{MM: m.table.MM()})
}

// reopen has the address space read through another of its threads. Some of them may
// have been killed, which nobody knows yet.
func (m *memory) reopen() {
	for t := range m.Threads {
		if t.Over() {
			continue
		}
		fs, err := m.kernel.open(t.TID)
		if err != nil {
			continue
		}
		m.fs.Close()
		m.fs, m.via = fs, t.TID
		m.table.SetKernel(fs)
		m.believe()
		m.finder.SetKernel(fs)
		return
	}
}

func (m *memory) close() {
	m.writes.End()
	if m.fs != nil {
		m.fs.Close()
	}
	m.finder.Close()
}

// alive reports whether an address space is still in use.
func (m *memory) alive() bool { return len(m.Threads) > 0 }

// MM is the number that the log has for it.
func (m *memory) MM() uint32 { return m.table.MM() }

// Kernel is what the kernel has of it, nil where it could not be opened.
func (m *memory) Kernel() pagetrace.Kernel {
	if m.fs == nil {
		return nil
	}
	return m.fs
}

// Raw is its memory with our patches in it, as inside.Memory has it, nil where it could not be
// opened, and Via the thread by which that was.
func (m *memory) Raw() inside.Raw {
	if m.fs == nil {
		return nil
	}
	return m.fs
}

func (m *memory) Via() int { return m.via }

// Waits reports whether writes are to be found as soon as a thread stands where that can begin.
func (m *memory) Waits() bool { return m.track.stage != trackIdle }

// Grow and Refresh bring the table up to date: where mappings may have grown by themselves, or
// as a whole.
func (m *memory) Grow()    { m.table.Grow(m) }
func (m *memory) Refresh() { m.table.Refresh(m) }

// Users says who else accesses the memory, at times that nobody knows; "" for nobody.
func (m *memory) Users() string {
	switch {
	case m.track.never:
		return "the kernel accesses it for a ring of the program"
	case m.untracedUsers:
		return "processes that are not traced share it"
	}
	return ""
}

// OwnUffd reports whether the program may have a userfaultfd of its own for it.
func (m *memory) OwnUffd() bool { return m.ownUffd }

// tids are the threads of an address space that have not ended.
func (m *memory) tids() (tids []int) {
	for t := range m.Threads {
		if !t.Over() {
			tids = append(tids, t.TID)
		}
	}
	return tids
}

// Moving reports whether a thread is in a call that may be taking pages away, or
// moving them to where they have not been looked for, or has come out of it and not
// been served yet.
func (m *memory) Moving() bool {
	for t := range m.Threads {
		if c := t.Call(); c != nil && t.State() != tracee.Queued {
			if e := space.EffectOf(c.Arch, c.Nr); e != space.EffClone && e.Exclusive() {
				return true
			}
		}
	}
	return false
}

// sharedUntraced notes that a child which is not traced shares the address space.
func (m *memory) sharedUntraced(c tracee.CloneArgs) {
	m.untracedUsers = m.untracedUsers || c.Flags&unix.CLONE_VFORK == 0
	m.Mapped(addr.Range{End: space.UserEnd})
	m.table.Refresh(m) // what the child has mapped before its exec stays
}

// reads reads memory for the calls of a thread.
func (m *memory) reads(t *tracee.Thread) space.Reader {
	return func(b []byte, a addr.Addr) int { return m.group.ReadMem(t, b, a) }
}

// changes is a space.Watcher for a table that nobody has read yet: it writes down
// what changes, and nothing else.
type changes struct{ log *journal }

func (c changes) Change(x format.Change)              { c.log.change(x) }
func (changes) Mapped(addr.Range)                     {}
func (changes) Whole(addr.Range)                      {}
func (changes) Moved(_, _ addr.Range)                 {}
func (changes) Unsettled(addr.Range)                  {}
func (changes) Gone(addr.Range)                       {}
func (changes) Fresh(addr.Range)                      {}
func (changes) Dropped(addr.Range, arch.Advice, bool) {}
func (changes) Apart(addr.Range)                      {}

// The methods below are those of a space.Watcher: what becomes of mappings and of
// their contents.

// Change writes a change of the table.
func (m *memory) Change(c format.Change) {
	m.log.change(c)
	m.code.changed(c)
	if set, ok := c.(*format.VMASet); ok {
		m.meet(set.VMA)
	}
}

// meet looks at a mapping that is new, for what it says of the whole address space.
func (m *memory) meet(v vma.VMA) {
	if m.files.Served(v, func() (map[vma.Dev]string, error) { return m.kernel.mounts(m.via) }) {
		m.readCarefully()
	}
	switch v.Name {
	case ringName:
		m.meetRing(v)
	case "/[aio] (deleted)":
		m.writtenUnseen()
	}
}

// readCarefully has the memory around calls read in a way that waits for nobody. A
// userfaultfd of the program's has its pages filled by one of its threads, which may
// stand still: /proc/PID/mem fails there (mm/memory.c, access_remote_vm). Pages of
// files that somebody serves are read only if they are there.
func (m *memory) readCarefully() {
	m.Space.Read = func(b []byte, a addr.Addr) (done int) {
		for done < len(b) && m.fs != nil {
			at := a + addr.Addr(done)
			v, ok := m.Mappings().Find(at)
			if !ok {
				return done
			}
			n := min(len(b)-done, int(v.End-at))
			if m.files.Foreign(v) {
				if n = min(n, int(at.PageDown()+addr.PageSize-at)); !m.there(at.PageDown()) {
					return done
				}
			}
			got, err := m.fs.ReadMem(b[done:done+n], at)
			done += got
			if err != nil || got < n {
				return done
			}
		}
		return done
	}
}

// there reports whether a page is in memory.
func (m *memory) there(page addr.Addr) (yes bool) {
	_, _ = m.fs.Scan(addr.Range{Start: page, End: page + addr.PageSize}, procfs.PagePresent, procfs.PagePresent, false, 1, func(procfs.Region) { yes = true })
	return yes
}

// Mapped has writes to new mappings found.
func (m *memory) Mapped(at addr.Range) {
	m.finder.Mapped(at)
	m.writes.Mapped(at)
}

// Whole has writes to mappings found that may have left the watch.
func (m *memory) Whole(at addr.Range) {
	m.finder.Whole(at)
	m.writes.Mapped(at)
}

// Moved follows pages to where they are now.
func (m *memory) Moved(from, to addr.Range) {
	m.finder.Moved(to)
	m.writes.Mapped(to)
	m.notes.Gone(to)
	m.notes.Moved(from, to.Start)
}

// Unsettled has writes found at a place to which pages may have moved.
func (m *memory) Unsettled(at addr.Range) {
	m.finder.Moved(at)
	m.writes.Mapped(at)
	m.notes.Unproved()
}

// Gone drops what is noted of contents.
func (m *memory) Gone(at addr.Range) {
	m.notes.Gone(at)
	m.writes.Gone(at)
}

// Fresh notes contents that nobody has written to.
func (m *memory) Fresh(at addr.Range) { m.notes.Fresh(at, m.finder, m.table.Mappings(), m.given) }

// Dropped notes contents that were given back.
func (m *memory) Dropped(at addr.Range, advice arch.Advice, done bool) {
	m.notes.Dropped(at, advice, done, len(m.Threads) == 1, m.finder, m.table.Mappings(), m.given)
}

// Apart lets go of mappings that are about to move together.
func (m *memory) Apart(at addr.Range) {
	m.finder.Apart(at, m.table.Mappings())
	m.notes.Unproved()
}

func (m *memory) given(p format.Pages) {
	p.MM = m.table.MM()
	m.log.change(&p)
}

// The methods below are those of a snapshot.Memory.

// Mappings are those that the log has.
func (m *memory) Mappings() *vma.Set { return m.table.Mappings() }

// ReadMem reads memory of the program.
func (m *memory) ReadMem(b []byte, a addr.Addr) (int, error) {
	n, err := m.fs.ReadMem(b, a)
	m.inside.Original(b[:n], a)
	return n, err
}

// Rewatch has writes found again to a mapping that a call took out of the watch, as
// mremap does. Not while such a call is under way: what that has made of it is told
// when it is over.
func (m *memory) Rewatch(v vma.VMA) bool {
	if m.Moving() {
		return false
	}
	if whole, ok := m.table.Mappings().Find(v.Start); ok {
		v = whole // to register a part would split it
	}
	if !m.finder.Rewatch(v.Range) {
		return false
	}
	m.writes.Mapped(v.Range)
	m.table.Ask(v.Range, m) // it may have become one with those beside it
	return true
}

// thread is what the recorder keeps of a tracee.Thread, in its Local.
type thread struct {
	pending space.Pending // of the call in progress
	pages   pagetrace.Thread
	call    format.Syscall
	stack   format.StackNode // at the beginning of the call in progress
	xstate  []byte           // as the log has it
	inside  inside.Thread
}

func threadOf(t *tracee.Thread) *thread { return t.Local.(*thread) }

// syscallOf is a call as the log has it, valid until the thread's next.
func syscallOf(t *tracee.Thread, c *tracee.Call) *format.Syscall {
	s := &threadOf(t).call
	*s = format.Syscall{
		Arch: c.Arch, Nr: c.Nr, Args: c.Args, Ret: c.Ret, Enter: c.Enter, Returned: c.Returned, IP: c.IP, SP: c.SP, Bufs: c.Bufs, Inside: c.Inside,
	}
	return s
}
