// Package seccomp makes the seccomp filters that a program is given: they say at which calls
// the kernel stops it.
package seccomp
