//go:build linux && !amd64

// This file is for processors that have no XSAVE.

package record

// xstateSize is 0: only x86 has XSAVE.
func xstateSize() uint32 { return 0 }
