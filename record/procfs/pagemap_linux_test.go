package procfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/recordtest"
)

// own is n pages of this process's memory, without huge pages, and a reader of it.
func own(t *testing.T, n int) ([]byte, addr.Range, *Process) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	at, err := strconv.ParseUint(fmt.Sprintf("%p", &b[0]), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return b, addr.Range{Start: addr.Addr(at), End: addr.Addr(at) + addr.Addr(len(b))}, p
}

// scanned are the numbers of the pages of r that are in a category, found as the
// recorder does: limit pages a time.
func scanned(t *testing.T, p *Process, r addr.Range, anyOf, limit uint64) (pages []int) {
	t.Helper()
	for from := r.Start; from < r.End; {
		found := uint64(0)
		next, err := p.Scan(addr.Range{Start: from, End: r.End}, anyOf, anyOf, false, limit, func(g Region) {
			if g.Categories&anyOf == 0 || g.Start < from || g.End > r.End {
				t.Errorf("%v, %#x of %v", g.Range, g.Categories, r)
			}
			found += g.Len() / addr.PageSize
			for a := g.Start; a < g.End; a += addr.PageSize {
				pages = append(pages, int((a-r.Start)/addr.PageSize))
			}
		})
		if err != nil || next <= from || limit > 0 && found > limit {
			t.Fatalf("scan from %v: %d pages, next %v, %v", from, found, next, err)
		}
		from = next
	}
	return pages
}

// TestScan: pages that are there, by PAGEMAP_SCAN and by reading pagemap.
func TestScan(t *testing.T) {
	const n = 20000 // more than one read's worth
	b, r, p := own(t, n)
	want := []int{0, 1, 2, 7, 8191, 8192, 8193, 16384, n - 1}
	for _, i := range want {
		b[i*addr.PageSize+i%addr.PageSize] = 1
	}
	for _, entries := range []bool{false, true} {
		p.noScan = entries
		for _, limit := range []uint64{0, 1, 2, 3, 256} {
			if got := scanned(t, p, r, PagePresent, limit); !slices.Equal(got, want) {
				t.Errorf("entries %v, limit %d: %v", entries, limit, got)
			}
		}
		if got := scanned(t, p, r, PageSwapped, 0); len(got) != 0 {
			t.Errorf("entries %v: swapped %v", entries, got)
		}
	}
	p.noScan = true
	_, err := p.Scan(addr.Range{Start: r.End - addr.PageSize, End: 1 << 62}, PagePresent, PagePresent, false, 1, func(Region) {})
	if err != nil {
		t.Errorf("to the end of the world, one page: %v", err)
	}
}

// TestSoftDirty: which pages count as written after the bits were cleared.
func TestSoftDirty(t *testing.T) {
	if !SoftDirty() {
		recordtest.Require(t, "softdirty", errors.New("this kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)"))
	}
	b, r, p := own(t, 16)
	for i := range 8 {
		b[i*addr.PageSize] = 1
	}
	dirty := func(want ...int) {
		t.Helper()
		if got := scanned(t, p, r, PageSoftDirty, 0); !slices.Equal(got, want) {
			t.Errorf("written: %v, not %v", got, want)
		}
	}
	clear := func() {
		t.Helper()
		if err := ClearSoftDirty(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	clear()
	dirty()
	sum := byte(0)
	for i := range 16 {
		sum += b[i*addr.PageSize] // reading is no writing, even of what was not there
	}
	dirty()
	b[3*addr.PageSize], b[12*addr.PageSize] = sum, sum
	dirty(3, 12)
	dirty(3, 12)
	clear()
	if _, err := p.WriteMem([]byte{1}, r.Start+5*addr.PageSize); err != nil {
		t.Fatal(err)
	}
	dirty(5)
	if err := unix.Madvise(b[5*addr.PageSize:6*addr.PageSize], unix.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	dirty()
	if err := unix.Mprotect(b[:addr.PageSize], unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	dirty()
}
