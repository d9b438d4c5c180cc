//go:build linux

package procfs

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/recordtest"
)

// TestFaultLog: each fault has its page, thread and time, and says whether the kernel had
// it for a call.
func TestFaultLog(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tids, err := Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	l, err := LogFaults(tids, 10)
	recordtest.Require(t, "faults", err)
	defer l.Close()
	const n = 100
	mem, err := unix.Mmap(-1, 0, 2*n*addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	first, err := strconv.ParseUint(fmt.Sprintf("%p", &mem[0]), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	start := addr.Addr(first)
	page := func(i int) addr.Addr { return start + addr.Addr(i)*addr.PageSize }

	begin := Monotonic()
	l.Take(nil)
	for i := range n {
		mem[(n-1-i)*addr.PageSize+7] = 1
	}
	if l.Empty() {
		t.Error("there are none")
	}
	var ready []unix.PollFd
	for _, fd := range l.Descriptors() {
		ready = append(ready, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if got, err := unix.Poll(ready, 0); err != nil || got == 0 {
		t.Errorf("poll: %d, %v", got, err)
	}
	faults, all := l.Take(nil)
	if !all {
		t.Error("some were lost")
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return int(int64(a.Time - b.Time)) })
	next, last := n-1, begin
	for _, f := range faults {
		if f.Time < last || f.Time > Monotonic() {
			t.Errorf("time %d after %d", f.Time, last)
		}
		last = f.Time
		if f.Addr < page(0) || f.Addr >= page(n) {
			continue // the runtime's
		}
		if f.Addr != page(next)+7 || f.TID != uint32(unix.Gettid()) || f.Kernel || f.IP == 0 {
			t.Errorf("fault %+v, want one of page %d", f, next)
		}
		next--
	}
	if next != -1 {
		t.Errorf("%d are missing", next+1)
	}

	// What a call writes.
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	if _, err := zero.Read(mem[n*addr.PageSize:][:3*addr.PageSize]); err != nil {
		t.Fatal(err)
	}
	faults, _ = l.Take(nil)
	found := 0
	for _, f := range faults {
		if f.Addr >= page(n) && f.Addr < page(n+3) {
			found++
			if !f.Kernel || f.IP != 0 {
				t.Errorf("a fault of a call: %+v", f)
			}
		}
	}
	if want := 3; l.Kernel() && found != want || !l.Kernel() && found != 0 {
		t.Errorf("%d faults of a call, kernel %v", found, l.Kernel())
	}
}

// TestFaultLogLost: faults that do not fit are said to be missing, and those after them
// are told again.
func TestFaultLogLost(t *testing.T) {
	tids, err := Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	l, err := LogFaults(tids, 1<<20)
	recordtest.Require(t, "faults", err)
	defer l.Close()
	const n = 512
	mem, err := unix.Mmap(-1, 0, n*addr.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	touch := func(times int) {
		for range times {
			for i := range n {
				mem[i*addr.PageSize] = 1
			}
			if err := unix.Madvise(mem, unix.MADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
		}
	}
	touch(10)
	if faults, all := l.Take(nil); !all || len(faults) < 10*n {
		t.Errorf("%d faults, all %v", len(faults), all)
	}
	touch(len(l.rings)*logRing/faultBytes/n + 2)
	if faults, all := l.Take(nil); all {
		t.Errorf("%d faults, and none lost", len(faults))
	}
	touch(1)
	l.Take(nil) // it may say how many were lost
	touch(1)
	if faults, all := l.Take(nil); !all || len(faults) < n {
		t.Errorf("afterwards %d, all %v", len(faults), all)
	}
}
