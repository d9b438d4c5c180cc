//go:build linux

// This file says what a reading of an address space is asked for.

package snapshot

import (
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
)

// Order is how a reading goes through an address space.
type Order uint8

// The orders of reading.
const (
	ByAddress Order = iota // from where the last one was cut short, round to there
	Live                   // from there to the end, while threads run
	BySize                 // what is large last
	ByFault                // what had a page fault, see Plan.Faults
)

// Plan is what a reading is asked for.
type Plan struct {
	Order Order
	// Faults, for ByFault, are the pages that had a fault since the last live reading
	// began, which was from end to end; it is asked only if that can be used. Not ok:
	// reading goes by address.
	Faults func() (pages addr.Set, ok bool)
	// FilesSince is when mapped files must have been looked at since, see Files.
	FilesSince uint64
	// Lazy is how many bytes of each mapping that were given back with MADV_FREE may be
	// read; nil is all. It may change during the reading.
	Lazy func() uint64
}

// sweepable says whether a mapping can be read while the program writes to it.
func sweepable(f dirty.Finder, v vma.VMA) bool { return f.Covers(v) && !Unread(v) && !dirty.Huge(v) }
