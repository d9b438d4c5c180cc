//go:build linux

package record

import (
	"bytes"
	"maps"

	"memtrace/format/addr"
	"memtrace/record/procfs"
)

// softDirty finds the writes of an address space by the soft-dirty bits of its
// pages. To find the bits and to clear them, which is done to a whole address space,
// are two things: pages is what was written and has not been read since.
type softDirty struct{ pages rangeSet }

// everything is what counts as written where that is not known.
func everything() rangeSet { return rangeSet{{End: userEnd}} }

// beginSoftDirty has the writes found by soft-dirty bits, where a userfaultfd
// cannot and we may: the file to clear them belongs to the program's user. All that
// is there counts as written, the rest as fresh.
func (r *Recorder) beginSoftDirty(mm *space) {
	if mm.fs == nil || !procfs.SoftDirty() || mm.clearSoftDirty() != nil {
		return
	}
	mm.track.soft = &softDirty{pages: everything()}
	mm.track.full, mm.track.cursor = false, 0
	mm.track.fresh = mm.track.fresh[:0]
	for v := range mm.vmas.All() {
		if mm.tracked(v) && len(mm.track.fresh) < maxFresh {
			mm.track.fresh = append(mm.track.fresh, v.Range)
		}
	}
}

// allWritten notes that it is not known what was written.
func (mm *space) allWritten() {
	mm.track.soft.pages, mm.track.full = everything(), false
}

// collectTries is how often to look again when a thread has woken up meanwhile. It
// does so only once: then it stands at the end of its call.
const collectTries = 4

// collect notes the pages that were written since the last time and clears their
// bits. All threads must be held; but those inside system calls are not, nor is
// what others do to the memory known: where one of them may have written since
// the look nothing is cleared, and where it may have been before the clearing every
// page counts as written.
func (r *Recorder) collect(mm *space) {
	s, settled := mm.track.soft, mm.settled()
	for range collectTries {
		before, quiet := mm.asleep()
		found, err := mm.findSoftDirty()
		if err != nil {
			mm.allWritten()
			return
		}
		s.pages = s.pages.merge(found)
		if !settled {
			return
		}
		if !quiet || !mm.still(before) {
			continue
		}
		if mm.clearSoftDirty() == nil && !mm.still(before) {
			mm.allWritten()
		}
		return
	}
}

// clearSoftDirty clears the bits through a thread that has not left the address
// space.
func (mm *space) clearSoftDirty() error {
	for t := range mm.users {
		if !t.exiting {
			return procfs.ClearSoftDirty(t.tid)
		}
	}
	return procfs.ErrGone
}

// findSoftDirty lists the pages with the bit.
func (mm *space) findSoftDirty() (found rangeSet, err error) {
	for v := range mm.vmas.All() {
		if !mm.tracked(v) {
			continue
		}
		for at := v.Start; at < v.End; {
			at, err = mm.fs.Scan(addr.Range{Start: at, End: v.End}, procfs.PageSoftDirty, procfs.PageSoftDirty, false, 0,
				func(g procfs.Region) { found = found.extend(g.Range) })
			if err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// settled says whether no mapping is being changed, by a call that has not been
// seen to end, and nobody else writes to the address space: a process that is not
// traced, or the kernel by itself.
func (mm *space) settled() bool {
	if mm.strangers || mm.loose > 0 {
		return false
	}
	for t := range mm.users {
		if t.unseen || t.inCall && !t.queued && t.effect.exclusive() {
			return false
		}
	}
	for v := range mm.vmas.All() {
		if v.Name == "anon_inode:[io_uring]" || v.Name == "/[aio] (deleted)" {
			return false
		}
	}
	return true
}

// asleep says whether all threads that are in the kernel sleep there, and for each
// how often it has slept until now.
func (mm *space) asleep() (slept map[int]string, all bool) {
	slept = map[int]string{}
	for t := range mm.users {
		if !t.running {
			continue
		}
		status, err := procfs.Status(t.tid)
		if err != nil {
			return nil, false
		}
		state, ok := procfs.Field(status, "State")
		if !ok || state[0] == 'R' {
			return nil, false
		}
		// voluntary_ctxt_switches and nonvoluntary_ctxt_switches are the last.
		i := bytes.Index(status, []byte("\nvoluntary_ctxt_switches"))
		if i < 0 {
			return nil, false
		}
		slept[t.tid] = string(status[i:])
	}
	return slept, true
}

// still says whether nothing has run since asleep told who sleeps.
func (mm *space) still(before map[int]string) bool {
	now, quiet := mm.asleep()
	return quiet && maps.Equal(now, before)
}

// moved notes that mremap has moved pages to a range. Where it moved whole page
// tables, their bits are as they were.
func (s *softDirty) moved(to addr.Range) {
	if s != nil && !to.Empty() {
		s.pages = s.pages.merge(rangeSet{to})
	}
}

// scan is Process.Scan for pages that were written, with protection: those that it
// passes are not written any more.
func (s *softDirty) scan(fs *procfs.Process, r addr.Range, report, maxPages uint64, yield func(procfs.Region)) (next addr.Addr, err error) {
	next = r.End
	for _, part := range s.pages.within(r) {
		if part = part.Intersect(r); maxPages == 0 {
			next = part.Start
			break
		}
		at, err := fs.Scan(part, procfs.PagePresent|procfs.PageSwapped, report, false, maxPages, func(g procfs.Region) {
			maxPages -= min(maxPages, g.Len()/addr.PageSize)
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
	s.pages = s.pages.remove(addr.Range{Start: r.Start, End: next})
	return next, nil
}

// scan finds the pages of a mapping to be read: with protect, those that are
// written to from now on are found again.
func (mm *space) scan(r addr.Range, anyOf, report uint64, protect bool, yield func(procfs.Region)) (addr.Addr, error) {
	if mm.track.soft != nil && anyOf == procfs.PageWritten {
		return mm.track.soft.scan(mm.fs, r, report, scanPages, yield)
	}
	return mm.fs.Scan(r, anyOf, report, protect, scanPages, yield)
}
