//go:build linux

// This file finds writes by the soft-dirty bits of pages. To find the bits and to clear
// them, which is done to a whole address space, are two things: in between others must
// not write.

package dirty

import (
	"bytes"
	"maps"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// Threads are those of an address space that is held: they stand still, but for those
// that are inside system calls.
type Threads interface {
	// Settled says that no mapping is being changed by a call that has not been seen to
	// end, and that nobody else writes to the address space, such as a process that is
	// not traced.
	Settled() bool
	// Asleep says whether all threads that are inside system calls sleep there, and how
	// often each of them has slept until now. The function Asleep makes the answer.
	Asleep() (slept Sleep, all bool)
	// ClearSoftDirty clears the bits of all pages (procfs.ClearSoftDirty).
	ClearSoftDirty() error
}

// Sleep is how often threads have left their CPU, by thread id.
type Sleep = map[int]string

// Asleep says whether some threads sleep in the kernel, by their files
// /proc/TID/status, which are read by status.
func Asleep(tids []int, status func(tid int) ([]byte, error)) (slept Sleep, all bool) {
	slept = Sleep{}
	for _, tid := range tids {
		text, err := status(tid)
		if err != nil {
			return nil, false
		}
		state := proctext.Field(text, "State")
		if len(state) == 0 || state[0] == 'R' {
			return nil, false
		}
		// voluntary_ctxt_switches and nonvoluntary_ctxt_switches are the last.
		i := bytes.Index(text, []byte("\nvoluntary_ctxt_switches"))
		if i < 0 {
			return nil, false
		}
		slept[tid] = string(text[i:])
	}
	return slept, true
}

// SoftDirty finds writes by soft-dirty bits. Scan is answered from what Collect has
// collected.
type SoftDirty struct {
	asked
	threads Threads
	written addr.Set // and not scanned since
}

// everywhere is above every address that a program can map.
var everywhere = addr.Range{End: 1 << 63}

// NewSoftDirty clears the bits of an address space whose threads are held. All pages
// that are there count as written. It fails where we may not clear the bits: the file
// for it belongs to the program's user.
func NewSoftDirty(k Kernel, threads Threads) (*SoftDirty, error) {
	if err := threads.ClearSoftDirty(); err != nil {
		return nil, err
	}
	return &SoftDirty{asked{k}, threads, addr.SetOf(everywhere)}, nil
}

// collectTries is how often Collect looks again when a thread has woken up meanwhile.
// A thread does so only once: then it stands at the end of its call.
const collectTries = 4

// Collect notes the pages that were written since the last time and clears their
// bits. The threads are held; but those inside system calls are not, nor is what
// others do to the memory known. Where one of them may have written since the look,
// nothing is cleared. Where one may have written before the clearing, every page counts
// as written.
func (s *SoftDirty) Collect(mappings *vma.Set) (known bool) {
	settled := s.threads.Settled() && !kernelWrites(mappings)
	for range collectTries {
		before, quiet := s.threads.Asleep()
		found, err := s.find(mappings)
		if err != nil {
			return s.forgetAll()
		}
		s.written.AddSet(found)
		if !settled {
			return true
		}
		if !quiet || !s.still(before) {
			continue
		}
		if s.threads.ClearSoftDirty() == nil && !s.still(before) {
			return s.forgetAll()
		}
		return true
	}
	return true
}

// forgetAll notes that it is not known what was written.
func (s *SoftDirty) forgetAll() (known bool) {
	s.written = addr.SetOf(everywhere)
	return false
}

// find lists the pages with the bit.
func (s *SoftDirty) find(mappings *vma.Set) (found addr.Set, err error) {
	for v := range mappings.All() {
		if !s.Covers(v) {
			continue
		}
		for at := v.Start; at < v.End; {
			at, err = s.kernel.Scan(addr.Range{Start: at, End: v.End}, procfs.PageSoftDirty, procfs.PageSoftDirty, false, 0,
				func(g procfs.Region) { found.Add(g.Range) })
			if err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// still says whether no thread has run since Asleep said who sleeps.
func (s *SoftDirty) still(before Sleep) bool {
	now, quiet := s.threads.Asleep()
	return quiet && maps.Equal(now, before)
}

// kernelWrites says whether the kernel may write to the memory by itself, for calls
// that have ended.
func kernelWrites(mappings *vma.Set) bool {
	for v := range mappings.All() {
		if v.Name == "anon_inode:[io_uring]" || v.Name == "/[aio] (deleted)" {
			return true
		}
	}
	return false
}

// Pages is how many pages were written as of the last Collect and not scanned since;
// it counts those that are not there, too.
func (s *SoftDirty) Pages() uint64 { return s.written.Len() / addr.PageSize }

// Moved counts the pages as written. Where mremap moved whole page tables, their bits
// are as they were.
func (s *SoftDirty) Moved(to addr.Range) { s.written.Add(to) }

// Mapped does nothing, like Whole, Apart and Rewatch: the bits of new pages are set.
func (*SoftDirty) Mapped(addr.Range)          {}
func (*SoftDirty) Whole(addr.Range)           {}
func (*SoftDirty) Apart(addr.Range, *vma.Set) {}
func (*SoftDirty) Rewatch(addr.Range) bool    { return false }

// Covers says whether a mapping's bits are cleared, and nobody writes to it elsewhere.
func (*SoftDirty) Covers(v vma.VMA) bool { return Trackable(v) && !Shared(v) && !Huge(v) }

// Live is false: the bits cannot be cleared while the program runs.
func (*SoftDirty) Live() bool { return false }

// Exact is false: more counts as written than was.
func (*SoftDirty) Exact() bool { return false }

// Scan yields, of the pages that were written, those that are there. With arm, those
// that it passes are not written any more.
func (s *SoftDirty) Scan(r addr.Range, written, arm bool, yield func(procfs.Region)) (next addr.Addr, err error) {
	if !written {
		return s.kernel.Scan(r, Present, Reported, false, ScanPages, yield)
	}
	next = r.End
	left := uint64(ScanPages)
	for part := range s.written.Within(r) {
		if left == 0 {
			next = part.Start
			break
		}
		at, err := s.kernel.Scan(part, Present, Reported, false, left, func(g procfs.Region) {
			left -= min(left, g.Len()/addr.PageSize)
			yield(g)
		})
		if err != nil {
			return next, err
		}
		if at < part.End {
			next = at
			break
		}
	}
	if arm {
		s.written.Remove(addr.Range{Start: r.Start, End: next})
	}
	return next, nil
}

// Rewritten yields all of r: nothing is known before the next Collect.
func (*SoftDirty) Rewritten(r addr.Range, yield func(addr.Range)) error {
	yield(r)
	return nil
}

// Name is soft-dirty bits.
func (*SoftDirty) Name() format.Dirty { return format.DirtySoft }

// Close has nothing to close.
func (*SoftDirty) Close() {}
