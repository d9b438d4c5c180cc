package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// openLiving opens a file that has lost its name by way of a process that still has it mapped, at the
// place that the log says. When it lost its name is the time of its last change; that its contents
// are as they were, their own time says.
func openLiving(k fileKey, places []living, start time.Time) (*MappedFile, error) {
	for _, p := range places {
		if !p.has(k) {
			continue
		}
		return openQuiet(filepath.Join("/proc", fmt.Sprint(p.pid), "map_files", fmt.Sprintf("%x-%x", uint64(p.Start), uint64(p.End))), func(fi os.FileInfo) error {
			dev, inode, known := identity(fi)
			switch {
			case !known || dev != k.dev || inode != k.inode || !fi.Mode().IsRegular():
				return fmt.Errorf("process %d has another file mapped by now", p.pid)
			case fi.ModTime().After(start):
				return fmt.Errorf("%s was changed after the recording began", k.name)
			}
			return nil
		})
	}
	return nil, errors.New("no process that the log leaves running has it")
}

// has reports whether the process has a file mapped there.
func (p *living) has(k fileKey) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		return false
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		span, rest, _ := strings.Cut(lines.Text(), " ")
		if span != fmt.Sprintf("%08x-%08x", uint64(p.Start), uint64(p.End)) {
			continue
		}
		words := strings.Fields(rest)
		return len(words) > 4 && words[2] == fmt.Sprintf("%02x:%02x", k.dev.Major, k.dev.Minor) && words[3] == fmt.Sprint(k.inode)
	}
	return false
}
