// This file says which file systems a process has mounted.

package procfs

import (
	"bytes"
	"fmt"
	"strconv"

	"memtrace/format/vma"
)

// MountTypes are the types of the file systems that a process has mounted, by device.
func MountTypes(pid int) (map[vma.Dev]string, error) {
	text, err := ReadText("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts of %d: %w", pid, err)
	}
	return ParseMounts(text), nil
}

// ParseMounts parses the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)): the third
// field is the device, and the type comes after a field that is a hyphen.
func ParseMounts(text []byte) map[vma.Dev]string {
	types := map[vma.Dev]string{}
	for line := range bytes.Lines(text) {
		before, after, ok := bytes.Cut(line, []byte(" - "))
		fields, rest := bytes.Fields(before), bytes.Fields(after)
		if !ok || len(fields) < 3 || len(rest) == 0 {
			continue
		}
		major, minor, _ := bytes.Cut(fields[2], []byte(":"))
		a, err1 := strconv.ParseUint(string(major), 10, 32)
		b, err2 := strconv.ParseUint(string(minor), 10, 32)
		if err1 == nil && err2 == nil {
			types[vma.Dev{Major: uint32(a), Minor: uint32(b)}] = string(rest[0])
		}
	}
	return types
}
