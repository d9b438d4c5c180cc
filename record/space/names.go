// This file finds out which tables a renamed or deleted file concerns: the kernel
// prints a mapped file under its name of now.

package space

import (
	"bytes"
	"path"
	"strings"

	"memtrace/format/call"
)

// LastComponents are the last components of the paths that a call was given,
// which are what it may have renamed. nil says that they are not known: a mount
// may change any component.
func LastComponents(c *call.Call) []string {
	row, _ := c.Arch.Syscall(c.Nr)
	if !strings.HasPrefix(row.Name, "rename") && !strings.HasPrefix(row.Name, "unlink") && row.Name != "rmdir" {
		return nil
	}
	var names []string
	for _, b := range c.Bufs {
		if b.Out {
			continue
		}
		name := path.Base(string(bytes.TrimRight(b.Data, "\x00")))
		if b.More || name == "." || name == ".." || name == "/" {
			return nil
		}
		names = append(names, unescape(name))
	}
	return names
}

// unescape turns the kernel's \012 for a newline back. A name that has these characters
// itself cannot be told from one with a newline, where /proc/PID/maps was read.
func unescape(name string) string { return strings.ReplaceAll(name, `\012`, "\n") }

// Mentions reports whether a mapped file may have one of names in its path. nil
// names may be any.
func (t *Table) Mentions(names []string) bool {
	if names == nil {
		return true
	}
	last := ""
	for v := range t.mappings.All() {
		if v.Name == last || !v.File() {
			continue
		}
		last = v.Name
		for _, n := range names {
			if strings.Index(unescape(last), n) > 0 {
				return true
			}
		}
	}
	return false
}
