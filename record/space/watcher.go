// This file is what a Table needs from outside: somebody who answers, and
// somebody who listens.

package space

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// Kernel answers which mappings an address space has. *procfs.Process is one.
type Kernel interface {
	// Mapping returns the mapping that holds a, or the next one above it.
	// errors.ErrUnsupported says that this kernel cannot be asked for one mapping
	// (before Linux 6.11).
	Mapping(a addr.Addr) (v vma.VMA, ok bool, err error)
	// MapsText returns the text of /proc/PID/maps, valid until the next call. It is
	// empty when the address space is gone.
	MapsText() ([]byte, error)
}

// Reader reads up to len(b) bytes of the calling thread's memory at a. It returns
// how many there were before the first that could not be read.
type Reader func(b []byte, a addr.Addr) int

// Watcher hears what happens to an address space while its Table is brought up to
// date. No range that it is given is empty, but for the from of Moved.
type Watcher interface {
	// Change takes a change for the log: VMASet, VMADel and VMAMove, and from Fork
	// also Pages. The table has it already.
	Change(c format.Change)

	// Mapped, Whole, Moved and Unsettled come before the kernel is asked about the
	// place: who registers mappings there changes what the kernel answers.

	// Mapped says that a call may have mapped something new at a place.
	Mapped(at addr.Range)
	// Whole says that mappings at a place may no longer be watched. Each of them is
	// meant whole, also where it reaches beyond the place.
	Whole(at addr.Range)
	// Moved says that the pages of from are at to now. from may be shorter than to,
	// or empty: a second mapping of the same pages. Nothing that was known of to is
	// true any more.
	Moved(from, to addr.Range)
	// Unsettled says that a call has failed which may have moved pages to a place
	// before it did. What was known of the contents there is not given up.
	Unsettled(at addr.Range)

	// Gone says that nothing that was known of the contents of a place is true any
	// more.
	Gone(at addr.Range)
	// Fresh says that a place holds zeros or its file until it is written to. The
	// table has the mappings there.
	Fresh(at addr.Range)
	// Dropped says that a call has given back the contents of a place: advice is
	// arch.Drops or arch.DropsLater, and says what is there then. The place may have
	// holes. done is false if the call has failed, perhaps half way.
	Dropped(at addr.Range, advice arch.Advice, done bool)

	// Apart comes before a call: mremap is about to move the mappings of a place
	// together, or one with a hole behind it. The kernel does so only with mappings
	// that no userfaultfd watches (mm/mremap.c, vma_multi_allowed, Linux 6.17).
	Apart(at addr.Range)
}
