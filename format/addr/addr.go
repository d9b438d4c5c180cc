// Package addr holds the address arithmetic of memtrace: addresses, half-open
// ranges and page protections of a traced process, which need not be a process
// of the machine that reads the log. Nothing here depends on the host's word
// or page size.
package addr

import "fmt"

// PageSize is the size in bytes of a base page of every architecture the log
// knows (the log's header carries the page shift, 12).
const (
	PageShift = 12
	PageSize  = 1 << PageShift
	pageMask  = PageSize - 1
)

// Addr is a virtual address of a traced process.
type Addr uint64

func (a Addr) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// Add returns a+n; ok is false when the sum leaves the 64-bit address space.
func (a Addr) Add(n uint64) (sum Addr, ok bool) {
	sum = a + Addr(n)
	return sum, sum >= a
}

// PageDown returns the start of the page that holds a.
func (a Addr) PageDown() Addr { return a &^ pageMask }

// PageUp returns the first page boundary at or above a; ok is false when there
// is none in 64 bits.
func (a Addr) PageUp() (up Addr, ok bool) {
	up = (a + pageMask) &^ pageMask
	return up, up >= a
}

// Page is a's virtual page number.
func (a Addr) Page() uint64 { return uint64(a) >> PageShift }

// Range is the half-open interval [Start, End). A range with End <= Start is
// empty.
type Range struct{ Start, End Addr }

// Span returns [start, start+n); ok is false when it would wrap.
func Span(start Addr, n uint64) (r Range, ok bool) {
	end, ok := start.Add(n)
	return Range{start, end}, ok
}

// Reach returns [start, start+n), cut at the end of the 64-bit space.
func Reach(start Addr, n uint64) Range {
	r, ok := Span(start, n)
	if !ok {
		r.End = ^Addr(0)
	}
	return r
}

// Len is the number of bytes in r, 0 for an empty range.
func (r Range) Len() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return uint64(r.End - r.Start)
}

// Empty says whether r holds no address.
func (r Range) Empty() bool { return r.End <= r.Start }

// Contains says whether a lies in r.
func (r Range) Contains(a Addr) bool { return r.Start <= a && a < r.End }

// Overlaps says whether r and s share an address.
func (r Range) Overlaps(s Range) bool {
	return !r.Empty() && !s.Empty() && r.Start < s.End && s.Start < r.End
}

// Intersect returns the addresses that r and s share, possibly none.
func (r Range) Intersect(s Range) Range {
	return Range{max(r.Start, s.Start), min(r.End, s.End)}
}

// Union returns the smallest range that covers both; an empty range counts for
// nothing.
func (r Range) Union(s Range) Range {
	switch {
	case r.Empty():
		return s
	case s.Empty():
		return r
	}
	return Range{min(r.Start, s.Start), max(r.End, s.End)}
}

// Widen returns r with n more addresses on either side, as far as there are any.
func (r Range) Widen(n uint64) Range {
	return Range{r.Start - min(r.Start, Addr(n)), Reach(r.End, n).End}
}

// PageAlign widens r to whole pages. A range that ends in the last page of the
// 64-bit space is cut at that page's start.
func (r Range) PageAlign() Range {
	end, ok := r.End.PageUp()
	if !ok {
		end = r.End.PageDown()
	}
	return Range{r.Start.PageDown(), end}
}

func (r Range) String() string { return fmt.Sprintf("%08x-%08x", uint64(r.Start), uint64(r.End)) }

// Prot is what the permission column of /proc/PID/maps says of a mapping
// (proc_pid_maps(5)).
type Prot uint8

// The bits of a Prot. Shared is the 's' of the fourth character; without it the
// mapping is private (copy on write).
const (
	Read Prot = 1 << iota
	Write
	Exec
	Shared
)

func (p Prot) String() string {
	b := [4]byte{'-', '-', '-', 'p'}
	if p&Read != 0 {
		b[0] = 'r'
	}
	if p&Write != 0 {
		b[1] = 'w'
	}
	if p&Exec != 0 {
		b[2] = 'x'
	}
	if p&Shared != 0 {
		b[3] = 's'
	}
	return string(b[:])
}
