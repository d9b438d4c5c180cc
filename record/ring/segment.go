//go:build linux

// This file has the parts of a ring, each a log of its own, and joins them to one.

package ring

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format"
)

// segment is a part of the ring.
type segment struct {
	file  *os.File
	name  string // in Options.Dir, "" in memory
	begin uint64 // time of its first event
	size  int64
	err   error
	ready chan struct{} // it is whole: size and err are there
	users sync.WaitGroup
}

// drop lets go of a segment when nobody reads it any more.
func (s *segment) drop() {
	if s.name != "" {
		_ = os.Remove(s.name)
	}
	go func() {
		<-s.ready
		s.users.Wait()
		_ = s.file.Close()
	}()
}

// anonymous makes a file without a name: in memory, or in a folder.
func anonymous(dir string) (*os.File, error) {
	if dir == "" {
		fd, err := unix.MemfdCreate("memtrace-ring", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memfd_create: %w", err)
		}
		return os.NewFile(uintptr(fd), "memtrace-ring"), nil
	}
	f, err := os.CreateTemp(dir, ".memtrace-pages-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// join writes a log of segments under a name that it gets when it is whole. A file of
// that name is kept as NAME.old.
func join(name string, segs []*segment, p format.Part) (info *format.Info, err error) {
	var logs []*format.Reader
	for _, s := range segs {
		<-s.ready
		if s.err != nil {
			return nil, s.err
		}
		l, err := format.NewReader(s.file, s.size, nil)
		if err != nil {
			return nil, err
		}
		if l.Steps() > l.Header().Begin.First() { // else nothing happened in it
			logs = append(logs, l)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	info, err = format.Cut(f, logs, p)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() {
		if err := os.Rename(name, name+".old"); err != nil {
			return nil, err
		}
	} else if err == nil {
		return nil, &fs.PathError{Op: "write", Path: name, Err: fs.ErrExist}
	}
	return info, os.Rename(f.Name(), name)
}
