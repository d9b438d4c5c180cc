package analyze

import (
	"encoding/binary"
	"maps"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// This file counts what calls open and close: descriptors, and the memory that has no mapping,
// of memfds and System V segments.

// memoryObject is memory that lives as long as somebody refers to it, mapped or not.
type memoryObject struct {
	owner *lived // who made it
	size  uint64
	at    uint64 // where the next write goes
	refs  int    // descriptors, or attachments
	kept  bool   // without any: until IPC_RMID
}

// openFiles are the descriptors of a process that were opened since its exec. Those of memory
// have an object.
type openFiles map[int32]*memoryObject

// resize books the size of an object.
func (o *memoryObject) resize(t float64, size uint64) {
	o.owner.objects.add(t, float64(size)-float64(o.size))
	o.size = size
}

func (o *memoryObject) unref(t float64) {
	if o == nil {
		return
	}
	if o.refs--; o.refs <= 0 && !o.kept {
		o.resize(t, 0)
	}
}

// opened makes fd known.
func (l *lived) opened(t float64, fd int32, o *memoryObject) {
	if fd < 0 {
		return
	}
	if old, ok := l.open[fd]; ok {
		old.unref(t)
	} else {
		l.descriptors.add(t, 1)
	}
	if o != nil {
		o.refs++
	}
	if l.open == nil {
		l.open = openFiles{}
	}
	l.open[fd] = o
}

func (l *lived) closed(t float64, fd int32) {
	if o, ok := l.open[fd]; ok {
		o.unref(t)
		l.descriptors.add(t, -1)
		delete(l.open, fd)
	}
}

// inherit gives a fork's child the descriptors of its parent, which are not its doing.
func (l *lived) inherit(from *lived) {
	l.open = maps.Clone(from.open)
	l.descriptors.now = float64(len(l.open))
	for _, o := range l.open {
		if o != nil {
			o.refs++
		}
	}
}

func (l *lived) closeAll(t float64) {
	for _, o := range l.open {
		o.unref(t)
	}
	l.open = nil
}

// call books what a call has opened, closed or written.
func (c *census) call(l *lived, t float64, s *format.Syscall, row arch.Syscall) {
	if !s.Returned || s.Ret < 0 && s.Ret >= -arch.MaxErrno {
		return
	}
	a, fd := s.Args, int32(s.Args[0])
	switch row.Name {
	case "close":
		l.closed(t, fd)
		return
	case "close_range":
		if a[2]&closeRangeCloexec == 0 {
			for fd := range maps.Clone(l.open) {
				if uint64(fd) >= a[0] && uint64(fd) <= a[1] {
					l.closed(t, fd)
				}
			}
		}
		return
	case "dup", "dup2", "dup3":
		if a[0] != uint64(s.Ret) {
			l.opened(t, int32(s.Ret), l.open[fd])
		}
		return
	case "fcntl", "fcntl64":
		if a[1] == fDupFD || a[1] == fDupFDCloexec {
			l.opened(t, int32(s.Ret), l.open[fd])
		}
		return
	case "pipe", "pipe2", "socketpair":
		for i := range s.Bufs {
			if b := &s.Bufs[i]; b.Out && len(b.Data) >= 8 && b.Arg < 6 {
				l.opened(t, int32(binary.LittleEndian.Uint32(b.Data)), nil)
				l.opened(t, int32(binary.LittleEndian.Uint32(b.Data[4:])), nil)
			}
		}
		return
	case "memfd_create":
		l.objectKind = vma.Memfd.String()
		l.opened(t, int32(s.Ret), &memoryObject{owner: l})
		return
	case "open", "openat", "openat2", "creat", "socket", "accept", "accept4", "epoll_create", "epoll_create1", "eventfd", "eventfd2", "timerfd_create",
		"inotify_init", "inotify_init1", "fanotify_init", "perf_event_open", "userfaultfd", "pidfd_open", "pidfd_getfd", "io_uring_setup", "bpf",
		"open_by_handle_at", "memfd_secret", "landlock_create_ruleset", "open_tree", "fsopen", "fsmount", "mq_open":
		if row.Name == "openat" && l.collector == noCollector && asksAsGo(s) {
			l.collector = goCollector
		}
		l.opened(t, int32(s.Ret), nil)
		return
	case "signalfd", "signalfd4":
		if fd < 0 {
			l.opened(t, int32(s.Ret), nil)
		}
		return
	}
	if o := l.open[fd]; o != nil && row.Flags&arch.Desc != 0 {
		o.written(t, s, row.Name)
	}
	c.segment(l, t, s, row.Name)
}

// Numbers of the kernel's headers.
const (
	fDupFD            = 0
	fDupFDCloexec     = 1030
	closeRangeCloexec = 4
	ipcCreat          = 0o1000
	ipcRMID           = 0
	seekSet, seekEnd  = 0, 2
)

// written books what a call has done to the size of a memfd.
func (o *memoryObject) written(t float64, s *format.Syscall, name string) {
	a, n := s.Args, uint64(s.Ret)
	end := o.size
	switch name {
	case "ftruncate", "ftruncate64":
		o.resize(t, a[1])
		return
	case "fallocate":
		end = a[2] + a[3]
	case "write", "writev":
		o.at += n
		end = o.at
	case "pwrite64":
		end = a[3] + n
	case "pwritev", "pwritev2":
		end = a[3] + n
	case "sendfile", "sendfile64":
		o.at += n
		end = o.at
	case "read", "readv":
		o.at += n
	case "lseek":
		o.at = n
	}
	if end > o.size {
		o.resize(t, end)
	}
}

// segment books what a call has done to System V segments.
func (c *census) segment(l *lived, t float64, s *format.Syscall, name string) {
	id := int64(int32(s.Args[0]))
	switch name {
	case "shmget":
		if o := c.segments[s.Ret]; o == nil && (s.Args[0] == 0 || s.Args[2]&ipcCreat != 0) {
			l.objectKind = vma.SysV.String()
			o = &memoryObject{owner: l, kept: true}
			o.resize(t, s.Args[1])
			c.segments[s.Ret] = o
		}
	case "shmat":
		if o := c.segments[id]; o != nil {
			o.refs++
			if c.attached == nil {
				c.attached = map[attachment]*memoryObject{}
			}
			c.attached[attachment{l.pid, uint64(s.Ret)}] = o
		}
	case "shmdt":
		at := attachment{l.pid, s.Args[0]}
		c.attached[at].unref(t)
		delete(c.attached, at)
	case "shmctl":
		if o := c.segments[id]; o != nil && s.Args[1]&0xff == ipcRMID {
			o.kept = false
			delete(c.segments, id)
			if o.refs <= 0 {
				o.resize(t, 0)
			}
		}
	}
}

// attachment is where a process has attached a segment.
type attachment struct {
	pid  uint32
	addr uint64
}

// asksAsGo reports whether a call is one that Go's runtime makes when it begins, and the JVM,
// which is known by its library.
func asksAsGo(s *format.Syscall) bool {
	return strings.HasPrefix(pathOf(s), "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
}
