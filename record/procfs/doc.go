// Package procfs asks the kernel about a process: its mappings, which of its
// pages are there, their bytes, the names of its descriptors, and the texts of
// /proc that the log keeps.
//
// Parsers take bytes, so that they run and are tested anywhere; what opens files
// is Linux only. A Process may be used by one goroutine at a time.
package procfs
