//go:build linux

package main

import (
	binenc "encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNamedWhenWhole: what commands write has its name when all of it is there. Nothing is written
// to a file of that name, and a folder of that name is not made and then filled: a command that is
// killed leaves no half output.
func TestNamedWhenWhole(t *testing.T) {
	sample(t)
	for _, line := range []string{
		"recover memtrace.data -o out", "cut --to 9 -o out", "pack -o out", "redact -o out", "export --to csv -o out", "export --to core --at 14 --pid 100 -o out",
		"dump --at 14 --pid 100 -o out", "dump --core --at 14 --pid 100 -o out", "report --html out", "report --plot out.svg",
	} {
		out := strings.Fields(line)[len(strings.Fields(line))-1]
		fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.InotifyAddWatch(fd, ".", syscall.IN_MODIFY|syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
			t.Fatal(err)
		}
		if status, _, errs := invoke(t, "", strings.Fields(line)...); status != 0 {
			t.Fatalf("%s: status %d, %s", line, status, errs)
		}
		named := 0
		buf := make([]byte, 64<<10)
		n, err := syscall.Read(fd, buf)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for b := buf[:n]; len(b) > 0; {
			mask, size := binenc.NativeEndian.Uint32(b[4:]), 16+binenc.NativeEndian.Uint32(b[12:])
			name := strings.TrimRight(string(b[16:size]), "\x00")
			b = b[size:]
			if name != out {
				continue
			}
			named++
			if mask&syscall.IN_MODIFY != 0 || mask == syscall.IN_CREATE|syscall.IN_ISDIR {
				t.Errorf("%s: out was there before it was whole: %x", line, mask)
			}
		}
		if named != 1 {
			t.Errorf("%s: %d events of out", line, named)
		}
		_ = syscall.Close(fd)
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(".*.part"); len(left) > 0 {
			t.Errorf("%s leaves %v", line, left)
		}
	}
}
