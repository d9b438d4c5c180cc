//go:build !linux || !amd64

// This file says that other machines cannot do it.

package inproc

// Missing says what this machine has not that it takes to record calls inside programs.
func Missing() string { return "the machine is not an x86_64 with Linux" }
