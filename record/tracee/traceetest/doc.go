// Package traceetest simulates what package tracee asks of the kernel: processes
// and threads that run small programs and stop as ptrace(2) and the kernel's
// sources say, for tests that have no tracee.
//
// A Kernel is deterministic: the same seed and the same requests give the same
// stops. Time passes in steps, in which one thread makes progress that is drawn at
// random. Steps are only made inside Next. So the threads of a program run while
// the recorder waits, and between two of its requests none does anything.
package traceetest
