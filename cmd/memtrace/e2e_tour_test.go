//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTour types every command of README.md's tour, in order. Each has to succeed; the
// program of the tour itself crashes.
func TestTour(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	tool(t, "gcc")
	tool(t, "python3")
	tool(t, "gdb")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(text), "## A tour")
	dir := t.TempDir()
	source, err := os.ReadFile("../../docs/shop.c")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "docs"), 0o755), os.WriteFile(filepath.Join(dir, "docs", "shop.c"), source, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(), filepath.Join(dir, "memtrace")); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^    \$ (.*)$`).FindAllStringSubmatch(tour, -1) {
		c := exec.Command("sh", "-c", m[1])
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := c.CombinedOutput()
		crashed := strings.HasSuffix(m[1], "./shop") && c.ProcessState != nil
		if err != nil && !crashed {
			t.Errorf("%s: %v\n%s", m[1], err, out)
		}
		n++
	}
	if n < 10 {
		t.Errorf("the tour has %d commands", n)
	}
}
