package gdbstub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"memtrace/format/vma"
	"memtrace/replay"
	"memtrace/replay/symbol"
)

// Errors of files, by gdb's numbers.
const (
	fileMissing = "F-1,2"
	fileBad     = "F-1,9"
	fileInvalid = "F-1,16"
)

// mostFiles is how many files gdb may have open.
const mostFiles = 256

// file answers vFile: gdb reads the program and its libraries through it. It is given those
// that are surely the ones that ran.
func (s *Session) file(_ context.Context, p string) (string, error) {
	op, rest, _ := strings.Cut(p, ":")
	args := strings.Split(rest, ",")
	switch op {
	case "setfs":
		pid, err := strconv.ParseUint(args[0], 16, 32)
		if err != nil {
			return fileInvalid, nil
		}
		s.root = uint32(pid)
		return "F0", nil
	case "open":
		name, err := hex.DecodeString(args[0])
		if err != nil {
			return fileInvalid, nil
		}
		return s.open(string(name)), nil
	}
	fd, err := strconv.ParseUint(args[0], 16, 31)
	f := s.files[int(fd)]
	if err != nil || f == nil {
		return fileBad, nil
	}
	switch op {
	case "close":
		delete(s.files, int(fd))
		_ = f.Close() // it was read only
		return "F0", nil
	case "pread":
		if len(args) != 3 {
			return fileInvalid, nil
		}
		n, err1 := strconv.ParseUint(args[1], 16, 32)
		off, err2 := strconv.ParseUint(args[2], 16, 63)
		if err1 != nil || err2 != nil {
			return fileInvalid, nil
		}
		b := make([]byte, min(n, maxPacket/2-16))
		k, err := f.ReadAt(b, int64(off))
		if err != nil && err != io.EOF {
			return "F-1,5", nil
		}
		return fmt.Sprintf("F%x;%s", k, b[:k]), nil
	case "fstat":
		return "F40;" + stat(f.Size()), nil
	}
	return "", nil
}

// opened is a file that gdb has open.
type opened interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// text is a file that is made up: the kernel's list of mappings.
type text struct{ *strings.Reader }

// Close does nothing.
func (text) Close() error { return nil }

// add gives an open file a number.
func (s *Session) add(f opened) string {
	fd := 3
	for s.files[fd] != nil {
		fd++
	}
	s.files[fd] = f
	return "F" + strconv.FormatInt(int64(fd), 16)
}

// open opens a file that the process has mapped, or its list of mappings.
func (s *Session) open(name string) string {
	if len(s.files) >= mostFiles {
		return "F-1,24"
	}
	if rest, ok := strings.CutPrefix(name, "/proc/"); ok {
		id, rest, _ := strings.Cut(rest, "/")
		pid, err := strconv.ParseUint(id, 10, 32)
		if err != nil || rest != "maps" && !(strings.HasPrefix(rest, "task/") && strings.HasSuffix(rest, "/maps")) {
			return fileMissing
		}
		m := s.filesOf(uint32(pid))
		if m == nil {
			return fileMissing
		}
		return s.add(text{strings.NewReader(string(m.space.AppendMaps(nil)))})
	}
	m := s.now
	if s.root != 0 {
		if m = s.filesOf(s.root); m == nil {
			return fileMissing
		}
	}
	if id, ok := debugName(name); ok {
		f, err := s.trace.OpenDebug(id)
		if f == nil || err != nil {
			return fileMissing
		}
		return s.add(f)
	}
	v, ok := m.mapped(name)
	if !ok {
		return s.debugLink(m, name)
	}
	f, err := s.trace.OpenMapped(v)
	if err != nil {
		return fileMissing
	}
	return s.add(f)
}

// filesOf is the present moment of a process by its number, nil if it is not there.
func (s *Session) filesOf(pid uint32) *moment {
	p := s.byPID(pid)
	if p == nil {
		return nil
	}
	m, err := s.present(p)
	if err != nil {
		return nil
	}
	return m
}

// mapped is a mapping of a file that gdb has a name of. The linker's list has names with links,
// mappings have them without. Where the links are not, the name in the last folder has to do,
// if there is one such file.
func (m *moment) mapped(name string) (v vma.VMA, ok bool) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		real = name
	}
	var like []vma.VMA
	for v := range m.space.Mappings() {
		switch {
		case v.Name == name || v.Name == real:
			return v, true
		case err != nil && strings.HasPrefix(v.Name, "/") && path.Base(v.Name) == path.Base(name) && !slices.ContainsFunc(like, func(x vma.VMA) bool { return x.Name == v.Name }):
			like = append(like, v)
		}
	}
	if len(like) != 1 {
		return v, false
	}
	return like[0], true
}

// debugLink opens a debug file of this machine that a program names: it is the right one if its
// build id is that of a file that is mapped.
func (s *Session) debugLink(at *moment, name string) string {
	f, err := replay.OpenRegular(name)
	if err != nil {
		return fileMissing
	}
	id, _, _ := symbol.BuildIDs(f)
	seen := map[string]bool{}
	for v := range at.space.Mappings() {
		if id == "" || v.Offset != 0 || seen[v.Name] {
			continue
		}
		seen[v.Name] = true
		m, err := s.trace.OpenMapped(v)
		if err != nil {
			continue
		}
		of, _, _ := symbol.BuildIDs(m)
		_ = m.Close() // it was read only
		if of == id {
			return s.add(f)
		}
	}
	_ = f.Close() // it was read only
	return fileMissing
}

// debugName is the build id in the name of a separate debug file.
func debugName(name string) (id string, ok bool) {
	_, rest, ok := strings.Cut(name, "/.build-id/")
	if !ok {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, ".debug")
	return strings.ReplaceAll(rest, "/", ""), ok
}

// stat is a struct stat of the protocol: of a regular file that may be read.
func stat(size int64) string {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[8:], 0o100444) // mode
	binary.BigEndian.PutUint64(b[28:], uint64(size))
	return string(b)
}

func (s *Session) closeFiles() {
	for _, f := range s.files {
		_ = f.Close() // they were read only
	}
}
