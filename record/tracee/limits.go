//go:build linux

// This file sees to it that resource limits which are meant for the program do not hit
// this process.

package tracee

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/record/limits"
)

// limit is a resource limit that this process was started with.
type limit struct {
	resource int
	was      unix.Rlimit
}

// needs are the least that this process can do with. Of address space the Go runtime takes
// more than 1 GiB before anything else runs (runtime/mpagealloc_64bit.go, Go 1.26: the page
// summary and the index of the scavenger).
var needs = []struct {
	resource   int
	least      uint64
	name, flag string
	unit       uint64 // of bash's ulimit, in bytes
}{
	{unix.RLIMIT_AS, 3 << 29, "address space", "-v", 1 << 10},
	{unix.RLIMIT_NOFILE, limits.Descriptors, "descriptors", "-n", 1},
	{unix.RLIMIT_FSIZE, 1 << 20, "the size of files", "-f", 1 << 10},
}

// RaiseLimits takes this process's soft limits away, as far as it may; a program that it
// starts has them as they were. The error says which hard limit is too low.
func RaiseLimits() error {
	_, err := raised()
	return err
}

// raised are the limits as they were. The Go runtime does the same for descriptors, and
// undoes it by itself.
var raised = sync.OnceValues(func() (was []limit, err error) {
	for _, n := range needs {
		l := limit{resource: n.resource}
		if unix.Getrlimit(n.resource, &l.was) != nil {
			continue
		}
		if l.was.Cur < l.was.Max && n.resource != unix.RLIMIT_NOFILE {
			if unix.Setrlimit(n.resource, &unix.Rlimit{Cur: l.was.Max, Max: l.was.Max}) == nil {
				was = append(was, l)
			}
		}
		if l.was.Max < n.least {
			err = fmt.Errorf("the limit on %s (ulimit %s) is %d: memtrace needs %d", n.name, n.flag, l.was.Max/n.unit, n.least/n.unit)
		}
	}
	return was, err
})

// lower gives a program that is being started the limits that this process had.
func lower(pid int) {
	was, _ := raised()
	for _, l := range was {
		_ = unix.Prlimit(pid, l.resource, &l.was, nil)
	}
}
