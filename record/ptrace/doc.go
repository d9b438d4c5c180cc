// Package ptrace is the mechanism under the recorder: the ptrace requests and
// the wait that one locked OS thread makes, and nothing of what they mean.
//
// The kernel ties a tracee to the thread that seized it, so every function here
// but Interrupter's must be called from that thread (runtime.LockOSThread).
// A raw errno never leaves the package: a thread that is no longer there is
// ErrGone, a refusal is ErrPerm with what can be done about it.
package ptrace
