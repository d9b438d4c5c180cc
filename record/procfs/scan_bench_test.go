//go:build linux

package procfs

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/recordtest"
)

// BenchmarkScan asks which pages of a gigabyte of our own memory were written,
// none of them since it was protected, in the two ways that there are.
func BenchmarkScan(b *testing.B) {
	const size = 1 << 30
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, UffdFlags, 0, 0)
	if e != 0 {
		recordtest.Require(b, "userfaultfd", e)
	}
	u, err := TakeUffd(os.Getpid(), int(fd))
	recordtest.Require(b, "userfaultfd", err)
	defer u.Close()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(mem)
	start, err := strconv.ParseUint(fmt.Sprintf("%p", &mem[0]), 0, 64)
	if err != nil {
		b.Fatal(err)
	}
	at := addr.Range{Start: addr.Addr(start), End: addr.Addr(start + size)}
	recordtest.Require(b, "userfaultfd", u.Register(at))
	p, err := Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	scan := func(report uint64, fast bool) (found int) {
		for next := at.Start; next < at.End; {
			anyOf := uint64(PageWritten)
			if !fast {
				anyOf |= pageHuge // the kernel has to look at the page for that
			}
			next, err = p.Scan(addr.Range{Start: next, End: at.End}, anyOf, report, true, 0, func(g Region) { found += int(g.Len() / addr.PageSize) })
			if err != nil {
				b.Fatal(err)
			}
		}
		return found
	}
	scan(PageWritten, true)
	for _, c := range []struct {
		name string
		fast bool
	}{{"tables", true}, {"pages", false}} {
		b.Run(c.name, func(b *testing.B) {
			least := time.Hour
			for b.Loop() {
				begin := time.Now()
				if n := scan(PagePresent|PageIsFile|PageIsZero, c.fast); n > 0 {
					b.Fatalf("%d pages written", n)
				}
				least = min(least, time.Since(begin))
			}
			b.ReportMetric(float64(least.Microseconds()), "least-us")
		})
	}
}
