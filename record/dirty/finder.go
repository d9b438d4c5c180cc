//go:build linux

// This file says what a finder is and which mappings the kernel can find writes to.

package dirty

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// Kernel is what a finder asks about an address space; *procfs.Process is one.
type Kernel interface {
	// Mapping is the mapping that holds a, or the next one above it.
	// errors.ErrUnsupported: the kernel cannot be asked for one (before Linux 6.11).
	Mapping(a addr.Addr) (v vma.VMA, ok bool, err error)
	Scan(r addr.Range, anyOf, report uint64, protect bool, maxPages uint64, yield func(procfs.Region)) (next addr.Addr, err error)
	ScanWritten(r addr.Range, report uint64, protect bool, yield func(procfs.Region)) error
}

// Finder finds the pages of one address space that were written since they were
// scanned last. It is told of what calls do to the mappings, after they have done it
// and before the kernel is asked what the mappings look like now.
type Finder interface {
	// Mapped: a call has mapped something new in at.
	Mapped(at addr.Range)
	// Whole: writes to the mappings in at may not be found any more.
	Whole(at addr.Range)
	// Moved: mremap has moved pages to a range.
	Moved(to addr.Range)
	// Apart comes before a call: mremap is about to move several mappings, or one with
	// a hole behind it.
	Apart(at addr.Range, mappings *vma.Set)
	// Rewatch has the writes found to a mapping for which Scan said
	// procfs.ErrUnwatched, and reports whether they are.
	Rewatch(at addr.Range) bool
	// Collect comes before memory is read, when all threads are held. It reports
	// whether it is known what was written: if not, everything counts as written.
	Collect(mappings *vma.Set) (known bool)

	// Covers says whether writes to a mapping are found.
	Covers(v vma.VMA) bool
	// Live says whether pages can be read while the program writes to them: Rewritten
	// tells which were written meanwhile.
	Live() bool
	// Exact says that a page which Scan finds written was written to, and that it had
	// its present contents, since it was armed.
	Exact() bool
	// Scan yields pages of r that are there, from r.Start on: all, or only those that
	// were written since they were armed. It yields them in ascending order, with the
	// categories in Reported, and returns where to go on, r.End at the end; it stops
	// after ScanPages of them. It may yield pages that are in none of the categories
	// Present: they were given back. With arm, the pages that it yields are found again
	// only when they are written again.
	//
	// procfs.ErrUnwatched: writes to r are not found any more. errors.ErrUnsupported: the
	// kernel does not tell which pages are there. Some pages of r may have been armed.
	Scan(r addr.Range, written, arm bool, yield func(procfs.Region)) (next addr.Addr, err error)
	// Rewritten yields the parts of r that were written since they were armed.
	Rewritten(r addr.Range, yield func(addr.Range)) error

	// SetKernel has another Kernel asked about the same address space.
	SetKernel(k Kernel)
	// Name is what the log says of how pages were found.
	Name() format.Dirty
	Close()
}

// Present are the categories of pages that are there, Reported those that Scan tells.
const (
	Present  = procfs.PagePresent | procfs.PageSwapped
	Reported = Present | procfs.PageIsFile | procfs.PageIsZero
)

// ScanPages is how many pages are found, and armed again, before the clock is looked
// at.
const ScanPages = 256

// Finds says whether f finds writes at all.
func Finds(f Finder) bool { return f.Name() != format.DirtyCompare }

// asked is the kernel that a finder asks.
type asked struct{ kernel Kernel }

func (a *asked) SetKernel(k Kernel) { a.kernel = k }

// Trackable says whether the kernel can find writes to a mapping.
func Trackable(v vma.VMA) bool {
	return v.Kind != vma.VDSO && v.Kind != vma.VVAR && v.Kind != vma.Special
}

// Huge says whether a private mapping may be one of hugetlbfs, whose ends are at
// pages of at least 2 MiB. They cannot be protected in part, nor is their soft-dirty
// bit cleared: they are read each time.
func Huge(v vma.VMA) bool {
	const size = 2 << 20
	return v.Kind == vma.FilePrivate && v.Start%size == 0 && v.End%size == 0
}

// Shared says whether a mapping may be written to through others: also a private
// one of shared memory, as long as it has not been written to itself.
func Shared(v vma.VMA) bool {
	switch v.Kind {
	case vma.Memfd, vma.POSIXShm, vma.SysV, vma.AnonShared:
		return true
	}
	return v.Prot&addr.Shared != 0
}
