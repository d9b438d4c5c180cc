//go:build linux

package main

import (
	"os"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/procfs"
)

// header says what is recorded, where and by what.
func header(argv []string) *format.Header {
	dir, _ := os.Getwd()
	host, _ := os.Hostname()
	return &format.Header{
		Arch: arch.X86_64, TimeShift: 9, Start: time.Now(), Mono: procfs.Monotonic(),
		Version: version(), Kernel: procfs.Kernel(), Host: host, Dir: dir, Argv: argv,
	}
}
