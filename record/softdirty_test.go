//go:build linux

package record

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// TestSoftDirtyScan: of what is remembered as written, what is there is found once,
// whatever is asked for at a time.
func TestSoftDirtyScan(t *testing.T) {
	b, err := unix.Mmap(-1, 0, 64*addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	begin, err := strconv.ParseUint(fmt.Sprintf("%p", &b[0]), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	page := func(i int) addr.Addr { return addr.Addr(begin) + addr.Addr(i)*addr.PageSize }
	fs, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	for i := 0; i < 64; i += 2 { // every other page is there
		b[i*addr.PageSize] = 1
	}
	written := rangeSet{{Start: page(0), End: page(5)}, {Start: page(9), End: page(10)}, {Start: page(20), End: page(41)}}
	want := []int{0, 2, 4, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38}
	for _, limit := range []uint64{1, 2, 3, 4, 100} {
		s := &softDirty{pages: slices.Clone(written)}
		var got []int
		for from := page(0); from < page(39); {
			n := uint64(0)
			next, err := s.scan(fs, addr.Range{Start: from, End: page(39)}, procfs.PagePresent, limit, func(g procfs.Region) {
				n += g.Len() / addr.PageSize
				for a := g.Start; a < g.End; a += addr.PageSize {
					got = append(got, int((a-page(0))/addr.PageSize))
				}
			})
			if err != nil || next <= from || n > limit {
				t.Fatalf("limit %d, from %v: %d pages, next %v, %v", limit, from, n, next, err)
			}
			from = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, not %v", limit, got, want)
		}
		if rest := (rangeSet{{Start: page(39), End: page(41)}}); !slices.Equal(s.pages, rest) {
			t.Errorf("limit %d: left %v", limit, s.pages)
		}
		s.moved(addr.Range{Start: page(50), End: page(52)})
		if rest := (rangeSet{{Start: page(39), End: page(41)}, {Start: page(50), End: page(52)}}); !slices.Equal(s.pages, rest) {
			t.Errorf("limit %d: moved %v", limit, s.pages)
		}
	}
	(*softDirty)(nil).moved(addr.Range{Start: page(0), End: page(1)})
}

// TestSettled: when bits must not be cleared.
func TestSettled(t *testing.T) {
	set, err := vma.NewSet([]vma.VMA{{Range: addr.Range{Start: 0x1000, End: 0x2000}, Name: "[heap]", Kind: vma.Heap}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*space, *thread)
		want   bool
	}{
		"nothing":  {func(*space, *thread) {}, true},
		"reads":    {func(_ *space, t *thread) { t.inCall = true }, true},
		"remaps":   {func(_ *space, t *thread) { t.inCall, t.effect = true, effRemap }, false},
		"queued":   {func(_ *space, t *thread) { t.inCall, t.effect, t.queued = true, effRemap, true }, true},
		"forks":    {func(_ *space, t *thread) { t.inCall, t.effect = true, effFork }, false},
		"unseen":   {func(_ *space, t *thread) { t.unseen = true }, false},
		"stranger": {func(mm *space, _ *thread) { mm.strangers = true }, false},
		"loose":    {func(mm *space, _ *thread) { mm.loose = 1 }, false},
		"ring": {func(mm *space, _ *thread) {
			mm.vmas.Insert(vma.VMA{Range: addr.Range{Start: 0x3000, End: 0x4000}, Name: "anon_inode:[io_uring]"})
		}, false},
	} {
		th := &thread{}
		mm := &space{users: map[*thread]struct{}{th: {}}, vmas: set.Clone()}
		c.change(mm, th)
		if got := mm.settled(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
