//go:build linux

// Package limits ends memtrace with one line where it may open so few files that the Go
// runtime ends it with a page of its own. The runtime opens an epoll and an eventfd when a
// package first opens a file as it is initialized, and some do. Packages are initialized in
// the order of their paths as soon as all that they import are (Go 1.26, cmd/link, inittask.go),
// so this one imports little.
package limits

import (
	"strconv"
	"syscall"
)

// Descriptors are the least that a recorder can do with.
const Descriptors = 64

// starts are the descriptors that the Go runtime can start with: three that are open, a
// file, an epoll, an eventfd, and one more file at a time.
const starts = 8

func init() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil && l.Max < starts {
		_, _ = syscall.Write(2, []byte("memtrace: the limit on descriptors (ulimit -n) is "+strconv.FormatUint(l.Max, 10)+
			": memtrace needs "+strconv.Itoa(Descriptors)+"\n"))
		syscall.Exit(1)
	}
}
