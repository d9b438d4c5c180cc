// Package space keeps the live table of one address space: which mappings a
// traced process has now, as the log has them.
//
// The table is never worked out from the arguments of calls. They say only where
// a call may have changed something: there the kernel is asked, and what differs
// is a change for the log. A Watcher hears of each change, and of what the call
// means for the contents of memory, in the order in which it has to act.
//
// The package knows no log, no thread and no file of /proc: those are given to it
// as a Watcher, as the type argument of Turn, and as a Kernel. A Table and a Turn
// may be used by one goroutine at a time.
package space
