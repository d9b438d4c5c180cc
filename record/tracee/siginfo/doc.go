// Package siginfo knows what the kernel tells of a signal (siginfo_t), as bytes: where its
// fields are on x86_64 and i386, and how signals that memtrace sends are told from others.
package siginfo
