// Package record is the recorder: it runs or attaches to a program and turns
// what the kernel reports into the events of a log. It holds the policy (which
// stop becomes which event, when memory is read) over the mechanism of
// record/ptrace and the questions of record/procfs.
//
// It never imitates the kernel's memory management: after every call that may
// have changed a mapping it asks what the mappings are. It never makes up what
// it could not see: that is a Lost event.
//
// A Recorder serves one Run or Attach. Its other methods may be called from any
// goroutine.
package record
