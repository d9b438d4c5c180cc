//go:build linux

package procfs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/recordtest"
)

func TestFaults(t *testing.T) {
	tids, err := Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := WatchFaults(tids)
	recordtest.Require(t, "faults", err)
	defer f.Close()
	const n = 100
	mem, err := unix.Mmap(-1, 0, n*addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	start, err := strconv.ParseUint(fmt.Sprintf("%p", &mem[0]), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		f.Take(nil)
		for i := round; i < n; i += 3 {
			mem[i*addr.PageSize+i] = 1
		}
		got, all := f.Take(nil)
		if !all {
			t.Error("some were lost")
		}
		for i := range n {
			if slices.Contains(got, addr.Addr(start)+addr.Addr(i)*addr.PageSize) != (i%3 == round) {
				t.Errorf("round %d: page %d", round, i)
			}
		}
	}
	_ = unix.Madvise(mem, unix.MADV_DONTNEED)
	for range 100 { // more than fits
		for i := range n {
			mem[i*addr.PageSize] = 1
		}
		_ = unix.Madvise(mem, unix.MADV_DONTNEED)
	}
	if got, all := f.Take(nil); all {
		t.Errorf("%d faults, and none lost", len(got))
	}
	mem[0] = 1
	f.Take(nil) // it says that some were lost
	mem[addr.PageSize] = 1
	if got, all := f.Take(nil); !all || !slices.Contains(got, addr.Addr(start)+addr.PageSize) {
		t.Errorf("afterwards: %v, %v", got, all)
	}
}
