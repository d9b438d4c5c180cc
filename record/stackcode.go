//go:build linux

// This file has what call stacks are taken from: the code of an address space, its files, and
// the memory of a thread.

package record

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/unwind"
	"memtrace/format/vma"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// code is what is known of the code of an address space.
type code struct {
	space *unwind.Space
	era   uint64
}

// changed drops what a change of mappings makes untrue.
func (c *code) changed(x format.Change) {
	if c.space == nil {
		return
	}
	switch x := x.(type) {
	case *format.VMASet:
		c.space.Changed(x.VMA.Range)
	case *format.VMADel:
		c.space.Changed(x.Range)
	case *format.VMAMove:
		c.space.Changed(addr.Reach(x.From, x.Len))
		c.space.Changed(addr.Reach(x.To, x.Len))
	}
}

// stackMemory reads the memory of a thread.
type stackMemory struct {
	group  *tracee.Group
	thread *tracee.Thread
}

// Read reads memory as calls do.
func (m *stackMemory) Read(b []byte, a addr.Addr) int { return m.group.ReadMem(m.thread, b, a) }

// stackFiles are the files that a program has mapped.
type stackFiles struct {
	files *snapshot.Files
	tid   int
}

// name is a file as memtrace sees it, "" if it must not be asked for: somebody serves it,
// who may be traced.
func (f *stackFiles) name(v vma.VMA) string {
	if f.files.Foreign(v) || !strings.HasPrefix(v.Name, "/") {
		return ""
	}
	return "/proc/" + strconv.Itoa(f.tid) + "/root" + strings.TrimSuffix(v.Name, " (deleted)")
}

// Identify is the size and the time of the last change of a file that is still there.
func (f *stackFiles) Identify(v vma.VMA) (size, mtime uint64) {
	name := f.name(v)
	if name == "" {
		return 0, 0
	}
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil || !sameFile(v, &st) {
		return 0, 0
	}
	return uint64(st.Size), uint64(st.Mtim.Nano())
}

// sameFile reports whether a file is the one of a mapping. The device of a mapping is not
// always that of the file (overlayfs, btrfs).
func sameFile(v vma.VMA, st *unix.Stat_t) bool {
	return st.Ino == v.Inode && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// Open opens a file; of a program without a name any more, the program itself.
func (f *stackFiles) Open(v vma.VMA) unwind.File {
	name := f.name(v)
	if name == "" {
		return nil
	}
	for _, name := range []string{name, "/proc/" + strconv.Itoa(f.tid) + "/exe"} {
		if file := openSame(v, name); file != nil {
			return file
		}
	}
	return nil
}

func openSame(v vma.VMA, name string) unwind.File {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || !sameFile(v, &st) {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}

// Beside opens a file in the directory of another, if it is on the same file system: somebody may
// serve another.
func (f *stackFiles) Beside(v vma.VMA, name string) unwind.File {
	own := f.name(v)
	if own == "" {
		return nil
	}
	dir, err := unix.Open(path.Dir(own), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}
