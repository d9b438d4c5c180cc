// Package ptrace makes the kernel's tracing calls: the ptrace requests and the wait,
// and what a process does to itself around them: its signals, its seccomp filter,
// the CPU it is on. It takes thread ids and keeps nothing. What a stop means is its
// caller's business.
//
// The kernel ties a tracee to the thread that seized it. So Wait and all functions
// that take the id of a tracee must be called from that thread, which must be locked
// (runtime.LockOSThread). NewInterrupter must be called there too; its Interrupt may
// be called from anywhere. The other functions are about the calling thread or
// process.
//
// Errors say what was tried. ErrGone is that a thread has ended or is not stopped,
// ErrPerm that the kernel refused, ErrNone and ErrInterrupted are Wait's. Other
// failures wrap the kernel's errno.
package ptrace
