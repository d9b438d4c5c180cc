package replay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// mapping is one of the file of that name as it is now.
func mapping(t *testing.T, name string) vma.VMA {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	dev, inode, ok := identity(fi)
	if !ok {
		t.Fatal("no identity")
	}
	return vma.VMA{Range: addr.Range{Start: 4096, End: 8192}, Name: name, Dev: dev, Inode: inode}
}

// TestOpenMapped: of what a log names only a regular file is opened, and only if it is
// the one that was mapped.
func TestOpenMapped(t *testing.T) {
	dir := t.TempDir()
	file, other, fifo, link := filepath.Join(dir, "file"), filepath.Join(dir, "other"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	for _, name := range []string{file, other} {
		if err := os.WriteFile(name, []byte("bytes of "+filepath.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(fifo, link)); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	var c fileCache
	defer c.close()
	read := func(v vma.VMA) (string, error) {
		var page [addr.PageSize]byte
		done := make(chan error, 1)
		go func() { done <- c.ReadMapped(v, 0, later, &page) }()
		select {
		case err := <-done:
			return strings.TrimRight(string(page[:]), "\x00"), err
		case <-time.After(10 * time.Second):
			return "", errors.New("it is waited for")
		}
	}
	if s, err := read(mapping(t, file)); err != nil || s != "bytes of file" {
		t.Errorf("the file: %q, %v", s, err)
	}
	// A writer waits in the FIFO: it must not find a reader.
	opened := make(chan struct{})
	go func() {
		if f, err := os.OpenFile(fifo, os.O_WRONLY, 0); err == nil {
			f.Close()
		}
		close(opened)
	}()
	wrong := mapping(t, other)
	wrong.Name = file
	named := mapping(t, fifo)
	named.Name = link
	for what, v := range map[string]vma.VMA{"a FIFO": mapping(t, fifo), "a link to it": named, "a device": mapping(t, "/dev/zero"), "a folder": mapping(t, dir), "another file": wrong} {
		if _, err := read(v); err == nil || !strings.HasSuffix(err.Error(), "here is not the file that was mapped") {
			t.Errorf("%s: %v", what, err)
		}
	}
	select {
	case <-opened:
		t.Error("the FIFO was opened")
	case <-time.After(100 * time.Millisecond):
	}
	f, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	<-opened
	f.Close()
	if err := c.ReadMapped(mapping(t, other), 0, time.Now().Add(-time.Hour), new([addr.PageSize]byte)); err == nil || !strings.Contains(err.Error(), "was changed after") {
		t.Errorf("a file that was changed: %v", err)
	}
}

// TestPatience: what never answers is waited for once, and what it gives in the end is
// not lost.
func TestPatience(t *testing.T) {
	p := patience{left: 200 * time.Millisecond}
	if n, err := within(&p, func() (int, error) { return 7, nil }, nil); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	stuck, late := make(chan struct{}), make(chan int)
	begun := time.Now()
	if n, err := within(&p, func() (int, error) { <-stuck; return 8, nil }, func(n int) { late <- n }); n != 0 || !errors.Is(err, errNoAnswer) {
		t.Errorf("%d, %v", n, err)
	}
	if took := time.Since(begun); took < 150*time.Millisecond || took > 5*time.Second {
		t.Errorf("waited for %v", took)
	}
	if _, err := within(&p, func() (int, error) { t.Error("asked again"); return 0, nil }, nil); !errors.Is(err, errNoAnswer) {
		t.Error(err)
	}
	close(stuck)
	if n := <-late; n != 8 {
		t.Errorf("late: %d", n)
	}
}
