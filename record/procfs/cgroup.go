// This file finds the cgroup that a process is in.

package procfs

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// Cgroup is where the memory controller of a process's cgroup has its files.
type Cgroup struct {
	Path    string // below the mount of the hierarchy
	Unified bool   // version 2
}

// ParseCgroup reads /proc/PID/cgroup (cgroups(7)): the group of the memory
// controller of version 1 where there is one, else that of version 2. ok is
// false where the group is none that the reader can see.
func ParseCgroup(text []byte) (c Cgroup, ok bool) {
	for line := range bytes.Lines(text) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		controllers, at, found := strings.Cut(rest, ":")
		switch {
		case !found || !path.IsAbs(at) || strings.HasPrefix(at, "/.."):
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			return Cgroup{Path: at}, true
		case id == "0" && controllers == "":
			c, ok = Cgroup{Path: at, Unified: true}, true
		}
	}
	return c, ok
}

// Lines keeps the lines of text that begin with one of the prefixes, in place.
func Lines(text []byte, prefixes []string) []byte {
	kept := text[:0]
	for line := range bytes.Lines(text) {
		for _, p := range prefixes {
			if len(line) >= len(p) && string(line[:len(p)]) == p {
				kept = append(kept, line...)
				break
			}
		}
	}
	return kept
}
