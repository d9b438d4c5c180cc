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

// fileCache is the FileSource of what a log carries, and of this machine's file system.
type fileCache struct {
	packed *packedFiles // nil: the log has none

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
	f   File // nil with an err
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
	m.f, m.err = c.file(k, start)
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
func openMapped(k fileKey, start time.Time) (*MappedFile, error) {
	if name, gone := strings.CutSuffix(k.name, deleted); gone && strings.HasPrefix(k.name, "/") {
		return nil, fmt.Errorf("%s was removed or replaced while it was mapped: the log does not have it", name)
	}
	if !strings.HasPrefix(k.name, "/") {
		return nil, fmt.Errorf("the bytes are those of %s", k.name)
	}
	return openQuiet(k.name, func(fi os.FileInfo) error { return k.is(fi, start) })
}

// OpenRegular opens a regular file of this machine that a log names.
func OpenRegular(name string) (*MappedFile, error) {
	return openQuiet(name, func(fi os.FileInfo) error {
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		return nil
	})
}

// openQuiet opens a file if it is right. It looks before it opens: a log may name a
// FIFO, which would be waited for, or a device, which would be set to work.
func openQuiet(name string, right func(os.FileInfo) error) (*MappedFile, error) {
	m, err := within(&filePatience, func() (*MappedFile, error) {
		fi, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if err := right(fi); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(name, os.O_RDONLY|openQuietly, 0)
		if err != nil {
			return nil, err
		}
		if fi, err = f.Stat(); err == nil { // it may be another by now
			err = right(fi)
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return &MappedFile{f, name, fi.Size(), uint64(fi.ModTime().UnixNano())}, nil
	}, func(m *MappedFile) {
		if m != nil {
			_ = m.Close()
		}
	})
	if errors.Is(err, errNoAnswer) {
		err = fmt.Errorf("open %s: %w", name, err)
	}
	return m, err
}

// is says whether a file is the one that was mapped, unchanged since start.
func (k *fileKey) is(fi os.FileInfo, start time.Time) error {
	dev, inode, known := identity(fi)
	switch {
	case !fi.Mode().IsRegular(), !known, dev != k.dev, inode != k.inode:
		return fmt.Errorf("%s here is not the file that was mapped", k.name)
	case changedSince(fi, start):
		return fmt.Errorf("%s was changed after the recording began", k.name)
	}
	return nil
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
