//go:build linux

// This file has the parts of a ring, each a log of its own, and joins them to one.

package ring

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format"
)

// segment is a part of the ring.
type segment struct {
	file  *os.File
	name  string // in Options.Dir, "" in memory, or where drop is to leave it
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

// unused lets go of a segment that nothing was written to.
func (s *segment) unused() {
	close(s.ready)
	s.drop()
}

// open reads a segment. Of one that could not be written, it reads what there is.
func (s *segment) open() (*format.Reader, error) {
	<-s.ready
	size := s.size
	if s.err != nil {
		st, err := s.file.Stat()
		if err != nil {
			return nil, err
		}
		size = st.Size()
	}
	return format.NewReader(s.file, size, nil)
}

// logs are those of segments, without those before a gap.
func logs(segs []*segment) (list []*format.Reader, err error) {
	for _, s := range segs {
		l, err := s.open()
		switch {
		case err != nil && s.err == nil:
			return nil, err
		case err != nil: // it has not even a header
			continue
		case l.Steps() <= l.Header().Begin.First(): // nothing happened in it
			continue
		}
		if n := len(list); n > 0 && list[n-1].Steps() < l.Header().Begin.First() {
			list = nil
		}
		list = append(list, l)
	}
	return list, nil
}

// join writes a log of segments under a name that it gets when it is whole.
func join(name string, segs []*segment, p format.Part) (*format.Info, error) {
	list, err := logs(segs)
	if err != nil {
		return nil, err
	}
	f, err := unfinished(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() // not before it has its name: it is locked
	info, err := format.Cut(f, list, p)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = publish(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	return info, syncFolder(filepath.Dir(name))
}
