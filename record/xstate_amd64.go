//go:build linux

// This file asks the processor how large the area is that XSAVE writes.

package record

const (
	cpuidFeatures = 1       // ECX of this leaf
	cpuidOSXSave  = 1 << 27 // the kernel uses XSAVE
	cpuidXState   = 0xd     // EBX of this leaf: size of the area
)

// xstateSize is the size of the area that XSAVE writes for what the kernel has
// switched on, in its standard form: that of NT_X86_XSTATE. It is 0 without XSAVE.
func xstateSize() uint32 {
	most, _, _ := cpuid(0)
	if _, _, c := cpuid(cpuidFeatures); most < cpuidXState || c&cpuidOSXSave == 0 {
		return 0
	}
	_, size, _ := cpuid(cpuidXState)
	return size
}

// cpuid is the instruction with ECX 0.
func cpuid(leaf uint32) (a, b, c uint32)
