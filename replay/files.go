package replay

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// FileSource gives pages of mapped files that the log only points at.
type FileSource interface {
	// ReadMapped reads the page at offset off of v's file into dst. It fails
	// unless the file is surely the one that was mapped, unchanged since start.
	ReadMapped(v vma.VMA, off uint64, start time.Time, dst *[addr.PageSize]byte) error
}

// maxOpen is how many mapped files are kept open.
const maxOpen = 64

// fileCache is the FileSource of this machine's file system.
type fileCache struct {
	mu    sync.Mutex
	open  map[fileKey]*list.Element
	order list.List // of *mapped, newest first
}

type fileKey struct {
	name  string
	dev   vma.Dev
	inode uint64
}

type mapped struct {
	key fileKey
	f   *os.File
	err error
}

func (c *fileCache) ReadMapped(v vma.VMA, off uint64, start time.Time, dst *[addr.PageSize]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.get(fileKey{v.Name, v.Dev, v.Inode}, start)
	if m.err != nil {
		return m.err
	}
	n, err := m.f.ReadAt(dst[:], int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s is shorter than what was mapped", v.Name)
	}
	clear(dst[n:]) // the kernel fills the last page of a file with zeros
	return nil
}

func (c *fileCache) get(k fileKey, start time.Time) *mapped {
	if e := c.open[k]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*mapped)
	}
	m := &mapped{key: k}
	m.f, m.err = openMapped(k, start)
	if c.open == nil {
		c.open = map[fileKey]*list.Element{}
	}
	c.open[k] = c.order.PushFront(m)
	if c.order.Len() > maxOpen {
		old := c.order.Remove(c.order.Back()).(*mapped)
		delete(c.open, old.key)
		if old.f != nil {
			_ = old.f.Close()
		}
	}
	return m
}

// openMapped opens the file behind a mapping if it is still the same one.
func openMapped(k fileKey, start time.Time) (*os.File, error) {
	if !strings.HasPrefix(k.name, "/") || strings.HasSuffix(k.name, " (deleted)") {
		return nil, fmt.Errorf("the bytes are those of %s", k.name)
	}
	f, err := os.Open(k.name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		dev, inode, known := identity(fi)
		switch {
		case !fi.Mode().IsRegular(), !known, dev != k.dev, inode != k.inode:
			err = fmt.Errorf("%s here is not the file that was mapped", k.name)
		case changedSince(fi, start):
			err = fmt.Errorf("%s was changed after the recording began", k.name)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (c *fileCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; e = e.Next() {
		if f := e.Value.(*mapped).f; f != nil {
			_ = f.Close()
		}
	}
	c.open = nil
	c.order.Init()
}

// OpenMapped opens the file that v maps, if it is still that file and was not
// changed since start.
func OpenMapped(v vma.VMA, start time.Time) (*os.File, error) {
	return openMapped(fileKey{v.Name, v.Dev, v.Inode}, start)
}
