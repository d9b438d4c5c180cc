//go:build linux

// This file says what a machine has to have.

package inproc

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/format/call"
)

// Missing says what this machine has not that it takes to record calls inside programs,
// "" if it has all.
func Missing() string {
	const atHWCap2, fsgsbase = 26, 1 << 1
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return "the auxiliary vector cannot be read"
	}
	if caps, ok := call.AuxValue(auxv, arch.X86_64, atHWCap2); !ok || caps&fsgsbase == 0 {
		return "programs cannot read their gs base (FSGSBASE, Linux 5.9)"
	}
	source, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil || strings.TrimSpace(string(source)) != "tsc" {
		return "the kernel's clock is not the time stamp counter"
	}
	if !atLeast(6, 4) {
		return "calls cannot be dispatched from outside (Linux 6.4)"
	}
	return ""
}

// atLeast reports whether this kernel is of a version or a later one.
func atLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var have [2]int
	for i, part := range strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)[:2] {
		for _, c := range part {
			if c < '0' || c > '9' {
				break
			}
			have[i] = have[i]*10 + int(c-'0')
		}
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}
