// Package record is the recorder: it runs or attaches to a program and turns
// what the kernel reports into the events of a log. It is the policy: which fact
// becomes which record, when memory is read, when a recording ends. The
// mechanisms are below it, and do not know each other: record/tracee says what
// happens to threads, record/space which mappings there are, record/dirty which
// pages were written, record/snapshot reads them. Two that a user may ask for are above
// these, and keep something of each address space and thread: record/pagetrace records which
// pages are used, record/inside has programs record their calls themselves.
//
// It never imitates the kernel's memory management: after every call that may
// have changed a mapping it asks what the mappings are. It never makes up what
// it could not see: that is a Lost event.
//
// A Recorder serves one Run or Attach. Its methods Interrupt, Kill and Ask may be
// called from any goroutine, all others by what it calls.
//
// # Words
//
//   - hold: all threads of an address space are stopped, or asleep in calls, so
//     that its memory can be read.
//   - sweep: memory is read while the threads run. Each page is as it was at one
//     moment, not all at the same.
//   - turn: calls that change the mappings of one address space are let go one at
//     a time, so that the log's order is the kernel's. The one that is under way
//     has the turn; it is overdue once it has lost it for taking too long.
//   - baseline: the first reading of an address space after its writes are found:
//     it reads all that is there. Later ones read what was written since.
//   - confirmed: what the log knows of an address space's pages is true of this
//     step (format.Confirm).
//   - armed: the next write to a page is going to be found.
//   - settled: no call that changes mappings is under way, and nobody who is not
//     traced writes to the memory.
package record
