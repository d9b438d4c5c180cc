// Package snapshot reads the memory of an address space: all of it, or what was written
// since it was read last, while its threads are held or while they run. What it finds
// goes to a Sink. When memory is read, and for how long, its callers decide.
package snapshot
