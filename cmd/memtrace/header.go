//go:build linux

package main

import (
	"os"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record"
	"memtrace/record/procfs"
)

// header says what is recorded, where, by what and how: with these options, of
// which the set of calls was given as trace.
func header(argv []string, trace string, o *record.Options) *format.Header {
	dir, _ := os.Getwd()
	host, _ := os.Hostname()
	h := &format.Header{
		Arch: arch.X86_64, TimeShift: format.DefaultTimeShift, Start: time.Now(), Mono: procfs.Monotonic(),
		Version: version(), Kernel: procfs.Kernel(), Host: host, Dir: dir, Argv: argv,
	}
	o.Describe(h, trace)
	return h
}
