//go:build linux

// This file has an address space as the recorder keeps it. It joins the table of mappings,
// what finds writes, what is noted of contents, and what rooms of their own keep of it.

package record

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
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

	code          code   // for call stacks
	gaveBack      uint64 // bytes of mappings that the last call that changes them has taken away, or whose contents it has
	faults        int64  // page faults when the growing mappings were last looked at
	untracedUsers bool   // processes that are not traced may share it
	ownUffd       bool   // the program may have a userfaultfd of its own for it

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

// believe has the table ask the kernel through what the program believes of its memory,
// where a page trace may have other protections set.
func (m *memory) believe() {
	if k := m.pages.Believer(); k != nil {
		m.table.SetKernel(k)
	}
}

// write writes the whole address space as new.
func (m *memory) write() {
	m.log.change(&format.MMNew{MM: m.MM()})
	m.table.Write(m)
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

// tids are the threads of an address space that have not ended.
func (m *memory) tids() (tids []int) {
	for t := range m.Threads {
		if !t.Over() {
			tids = append(tids, t.TID)
		}
	}
	return tids
}

// reads reads memory for the calls of a thread.
func (m *memory) reads(t *tracee.Thread) space.Reader {
	return func(b []byte, a addr.Addr) int { return m.group.ReadMem(t, b, a) }
}

// given writes down what the contents of pages are, which have changed without a reading.
func (m *memory) given(p format.Pages) {
	p.MM = m.MM()
	m.log.change(&p)
}

// What follows is asked by the rooms that keep something of an address space: it is a
// snapshot.Memory, a pagetrace.RefMemory and an inside.Memory.

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

// Mappings are those that the log has.
func (m *memory) Mappings() *vma.Set { return m.table.Mappings() }

// ReadMem reads memory of the program.
func (m *memory) ReadMem(b []byte, a addr.Addr) (int, error) {
	n, err := m.fs.ReadMem(b, a)
	m.inside.Original(b[:n], a)
	return n, err
}

// VDSO is the mapping that has instructions which enter the kernel, and its bytes.
func (m *memory) VDSO() (vma.VMA, []byte) {
	for v := range m.Mappings().All() {
		if v.Kind == vma.VDSO {
			b := make([]byte, v.Len())
			n, _ := m.fs.ReadMem(b, v.Start)
			return v, b[:n]
		}
	}
	return vma.VMA{}, nil
}
