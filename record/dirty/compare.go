//go:build linux

// This file is the finder for kernels and programs where writes cannot be found.

package dirty

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// Compare finds which pages are there and nothing of when they were written: all are
// read each time, and the log keeps what differs.
type Compare struct{ asked }

// NewCompare makes a finder that finds no writes.
func NewCompare(k Kernel) *Compare { return &Compare{asked{k}} }

// Mapped does nothing, like all that tells a Compare of changes.
func (*Compare) Mapped(addr.Range)          {}
func (*Compare) Whole(addr.Range)           {}
func (*Compare) Moved(addr.Range)           {}
func (*Compare) Apart(addr.Range, *vma.Set) {}
func (*Compare) Rewatch(addr.Range) bool    { return false }
func (*Compare) Collect(*vma.Set) bool      { return true }
func (*Compare) Close()                     {}
func (*Compare) Covers(vma.VMA) bool        { return false }
func (*Compare) Live() bool                 { return false }
func (*Compare) Exact() bool                { return false }
func (*Compare) Name() format.Dirty         { return format.DirtyCompare }

// Scan yields all pages that are there.
func (c *Compare) Scan(r addr.Range, _, _ bool, yield func(procfs.Region)) (addr.Addr, error) {
	return c.kernel.Scan(r, Present, Reported, false, ScanPages, yield)
}

// Rewritten yields all of r.
func (*Compare) Rewritten(r addr.Range, yield func(addr.Range)) error {
	yield(r)
	return nil
}
