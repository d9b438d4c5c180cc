//go:build linux

// This file finds writes with a userfaultfd: which mappings it watches, and which
// pages are protected.

package dirty

import (
	"cmp"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// Registrar is a userfaultfd of the program; *procfs.Uffd is one.
type Registrar interface {
	// Register has writes to the mappings in r found; their pages count as written until
	// they are protected. It fails where one of them cannot be watched.
	Register(r addr.Range) error
	// Unregister takes a mapping out of the watch: all its pages count as written.
	Unregister(r addr.Range)
	Close()
}

// Uffd finds writes by write-protection (UFFD_FEATURE_WP_ASYNC, Linux 6.7).
type Uffd struct {
	asked
	fd     Registrar
	missed addr.Set // mappings that could not be registered
	// Somebody else protects pages as well, see Share: found are those that Protect has
	// protected, and that count as written until Scan arms them; told is told what Scan
	// arms.
	found addr.Set
	told  func(written procfs.Region)
}

// NewUffd watches all mappings of an address space. The kernel may merge some of them
// for it. The finder closes fd.
func NewUffd(fd Registrar, k Kernel, mappings *vma.Set) *Uffd {
	u := &Uffd{asked: asked{k}, fd: fd}
	for v := range mappings.All() {
		if v.Kind == vma.MainStack { // it may have grown: to register a part would split it
			if now, ok, err := k.Mapping(v.Start); err == nil && ok {
				v.Start = min(v.Start, now.Start)
			}
		}
		u.watchMapping(v)
	}
	return u
}

// register has a range watched, and remembers that it is.
func (u *Uffd) register(at addr.Range) bool {
	if u.fd.Register(at) != nil {
		return false
	}
	u.missed.Remove(at)
	return true
}

func (u *Uffd) watchMapping(v vma.VMA) {
	if Trackable(v) && !u.register(v.Range) {
		u.missed.Add(v.Range)
	}
}

// Mapped has a new range watched, before the kernel is asked what it looks like:
// mappings that are watched do not merge with others.
func (u *Uffd) Mapped(at addr.Range) {
	if !at.Empty() && !u.register(at) {
		u.Whole(at)
	}
}

// Whole has the mappings watched that there are in a range, not only the parts of
// them that are in it: to register a part would split a mapping.
func (u *Uffd) Whole(at addr.Range) { u.watchEach(at, func(vma.VMA) {}) }

// Moved is Whole for where mremap has moved something to. What that has become one
// with, the kernel let go with it (mremap_userfaultfd_prep in fs/userfaultfd.c, Linux
// 6.18), and what was protected there and has been written since counts as unwritten.
func (u *Uffd) Moved(to addr.Range) {
	u.watchEach(to, func(v vma.VMA) {
		if v.Intersect(to) != v.Range && u.fd.Register(v.Range) == nil {
			u.fd.Unregister(v.Range) // all of it counts as written now
		}
	})
}

// watchEach is Whole with something to be done before each mapping is watched.
func (u *Uffd) watchEach(at addr.Range, before func(vma.VMA)) {
	for a := at.Start; a < at.End; {
		v, ok, err := u.kernel.Mapping(a)
		if err != nil { // before Linux 6.11 it cannot be asked for one
			_ = u.fd.Register(at) // what this leaves out a hold finds unwatched
			return
		}
		if !ok || v.Start >= at.End {
			return
		}
		before(v)
		u.watchMapping(v)
		a = v.End
	}
}

// Apart lets go of mappings that one call is about to move together, or of one with a
// hole behind it: the kernel (6.17 and later) does that, but not with any that a
// userfaultfd watches (mm/mremap.c, vma_multi_allowed).
func (u *Uffd) Apart(at addr.Range, mappings *vma.Set) {
	var vs []addr.Range
	for v := range mappings.Overlapping(at) {
		if Trackable(v) {
			vs = append(vs, v.Range)
		}
	}
	if len(vs) == 1 && vs[0].End >= at.End {
		return
	}
	for _, v := range vs {
		u.fd.Unregister(v)
	}
}

// Rewatch registers a mapping that a call took out of the watch, as mremap does. It
// must be given whole: all of it counts as written, also what was protected before and
// has been written while nobody watched.
func (u *Uffd) Rewatch(at addr.Range) bool {
	if u.fd.Register(at) == nil {
		u.fd.Unregister(at)
		if u.register(at) {
			return true
		}
	}
	u.missed.Add(at)
	return false
}

// Collect has nothing to do: Scan asks the kernel.
func (*Uffd) Collect(*vma.Set) bool { return true }

// Covers says whether a mapping is watched, and nobody writes to it elsewhere.
func (u *Uffd) Covers(v vma.VMA) bool {
	return Trackable(v) && !Shared(v) && !u.missed.Overlaps(v.Range)
}

// Live is true: what is written while it is read can be told.
func (*Uffd) Live() bool { return true }

// Exact is true: the kernel counts a page as written only after a write.
func (*Uffd) Exact() bool { return true }

// Scan asks the kernel, which protects what it finds in the same step. With Protect it
// decides which pages are protected: those that are found, whether they are there or not.
func (u *Uffd) Scan(r addr.Range, written, arm bool, yield func(procfs.Region)) (addr.Addr, error) {
	anyOf, report, each := uint64(Present), uint64(Reported), yield
	if written {
		anyOf = procfs.PageWritten
	}
	if u.told != nil && arm {
		report |= procfs.PageWritten
		each = func(g procfs.Region) {
			if g.Categories&procfs.PageWritten != 0 {
				u.told(g)
			}
			g.Categories &= Reported
			yield(g)
		}
	}
	if written && u.found.Overlaps(r) {
		return u.scanFound(r, arm, anyOf, report, each)
	}
	next, err := u.kernel.Scan(r, anyOf, report, arm, ScanPages, each)
	if err == nil && arm {
		u.found.Remove(addr.Range{Start: r.Start, End: next})
	}
	return next, err
}

// scanFound is Scan where Protect has found pages in r: those count as written too.
func (u *Uffd) scanFound(r addr.Range, arm bool, anyOf, report uint64, yield func(procfs.Region)) (addr.Addr, error) {
	left := uint64(ScanPages / 2 * addr.PageSize)
	for f := range u.found.Within(r) {
		if f.Len() >= left {
			r.End = f.Start + addr.Addr(left)
			break
		}
		left -= f.Len()
	}
	var now addr.Set
	var regions []procfs.Region
	next, err := u.kernel.Scan(r, anyOf, report, arm, ScanPages/2, func(g procfs.Region) {
		now.Add(g.Range)
		regions = append(regions, g)
	})
	if err != nil {
		return next, err
	}
	r.End = next
	for f := range u.found.Within(r) {
		for gap := range now.Gaps(f) {
			// Who writes to them now is found the next time.
			_, err := u.kernel.Scan(gap, Present, Reported, false, 0, func(g procfs.Region) { regions = append(regions, g) })
			if err != nil {
				return r.End, err
			}
		}
	}
	if arm {
		u.found.Remove(r)
	}
	slices.SortFunc(regions, func(a, b procfs.Region) int { return cmp.Compare(a.Start, b.Start) })
	for _, g := range regions {
		yield(g)
	}
	return next, nil
}

// Rewritten asks for the category PageWritten and nothing else: the kernel answers
// that without looking at the pages themselves.
func (u *Uffd) Rewritten(r addr.Range, yield func(addr.Range)) error {
	for f := range u.found.Within(r) {
		yield(f)
	}
	for next := r.Start; next < r.End; {
		var err error
		next, err = u.kernel.Scan(addr.Range{Start: next, End: r.End}, procfs.PageWritten, procfs.PageWritten, false, 0,
			func(g procfs.Region) { yield(g.Range) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Share lets somebody else protect pages with Protect. What Scan arms of the pages that
// were written is told to told.
func (u *Uffd) Share(told func(written procfs.Region)) { u.told = told }

// Watches says whether writes to a mapping are found, also where others write to it
// elsewhere.
func (u *Uffd) Watches(v vma.VMA) bool { return Trackable(v) && !u.missed.Overlaps(v.Range) }

// Protect protects the pages in r that are there and were written since anybody has
// protected them, and yields them with the categories in report. keep has Scan find them,
// too. Mappings that are not watched are passed over.
func (u *Uffd) Protect(r addr.Range, report uint64, keep bool, yield func(procfs.Region)) error {
	var found addr.Set
	err := u.kernel.ScanWritten(r, report, true, func(g procfs.Region) {
		found.Add(g.Range)
		yield(g)
	})
	if keep {
		u.found.AddSet(found)
	}
	return err
}

// Unprotected yields the pages in r that were written since anybody has protected them.
func (u *Uffd) Unprotected(r addr.Range, report uint64, yield func(procfs.Region)) error {
	return u.kernel.ScanWritten(r, report, false, yield)
}

// Name is WP_ASYNC.
func (*Uffd) Name() format.Dirty { return format.DirtyWPAsync }

// Close ends the watch: the kernel takes all registrations back.
func (u *Uffd) Close() { u.fd.Close() }
