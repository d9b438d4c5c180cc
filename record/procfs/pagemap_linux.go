// This file reads /proc/PID/pagemap, and clears soft-dirty bits.

package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
)

// Bits of an entry of /proc/PID/pagemap, one of 8 bytes for each page
// (Documentation/admin-guide/mm/pagemap.rst).
const (
	entrySoftDirty = 1 << 55
	entryFile      = 1 << 61
	entrySwapped   = 1 << 62
	entryPresent   = 1 << 63
)

// entryChunk is how much of /proc/PID/pagemap is read at a time: the entries of
// 32 MiB.
const entryChunk = 64 << 10

// categories are those of PAGEMAP_SCAN that an entry tells.
func categories(entry uint64) (c uint64) {
	if entry&entryPresent != 0 {
		c |= PagePresent
	}
	if entry&entrySwapped != 0 {
		c |= PageSwapped
	}
	if entry&entryFile != 0 {
		c |= PageIsFile
	}
	if entry&entrySoftDirty != 0 {
		c |= PageSoftDirty
	}
	return c
}

// scanEntries is Scan for kernels before 6.7, by reading /proc/PID/pagemap: which
// pages are the zero page is not told.
func (p *Process) scanEntries(r addr.Range, anyOf, report uint64, protect bool, maxPages uint64, yield func(Region)) (next addr.Addr, err error) {
	if protect || anyOf&(PagePresent|PageSwapped|PageIsFile|PageSoftDirty) != anyOf {
		return r.End, fmt.Errorf("PAGEMAP_SCAN: %w", errors.ErrUnsupported)
	}
	if p.entries == nil {
		p.entries = make([]byte, entryChunk)
	}
	var run Region
	pages := uint64(0)
	for at := r.Start; at < r.End; {
		b := p.entries[:min(uint64(len(p.entries)), (r.Len()-uint64(at-r.Start)+addr.PageSize-1)/addr.PageSize*8)]
		n, err := unix.Pread(p.pagemap, b, int64(at/addr.PageSize*8))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return r.End, fmt.Errorf("read /proc/%d/pagemap: %w", p.pid, err)
		}
		if n < 8 {
			return r.End, ErrGone
		}
		for b = b[:n/8*8]; len(b) > 0; b = b[8:] {
			c := categories(binary.LittleEndian.Uint64(b))
			if c&anyOf != 0 {
				if run.End != at || run.Categories != c&report || run.Empty() {
					if !run.Empty() {
						yield(run)
					}
					run = Region{addr.Range{Start: at, End: at}, c & report}
				}
				run.End += addr.PageSize
				pages++
			}
			if at += addr.PageSize; pages == maxPages && maxPages > 0 {
				yield(run)
				return min(at, r.End), nil
			}
		}
	}
	if !run.Empty() {
		yield(run)
	}
	return r.End, nil
}

// ClearSoftDirty takes the category PageSoftDirty from all pages of the address
// space that a thread has now: those that are written to from then on are in it
// again (Documentation/admin-guide/mm/soft-dirty.rst). SoftDirty says whether the
// kernel can do that.
func ClearSoftDirty(tid int) error { return clearRefs(tid, "4") }

// ClearReferenced takes the bits from all pages of the address space that a thread has now by
// which the kernel sees that they are used: "Referenced" in smaps counts those that were used
// since (proc_pid_clear_refs(5)). Reclaim ages pages by the same bits.
func ClearReferenced(tid int) error { return clearRefs(tid, "1") }

func clearRefs(tid int, what string) error {
	path := "/proc/" + strconv.Itoa(tid) + "/clear_refs"
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(what)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
