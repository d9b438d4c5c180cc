//go:build linux

// This file takes the call stacks of threads: at the beginning of calls, and at signals that
// end a process.

package record

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/unwind"
	"memtrace/format/vma"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// StackLog is a Log that takes call stacks. *format.Writer is one.
type StackLog interface {
	Module(*format.Module) (format.ModuleNo, error)
	Stack(frames []format.RawFrame, caller format.StackNode, end format.StackEnd) (format.StackNode, error)
	StackNodes() int
	Text(*format.Text) error
}

// DefaultStackDepth is how many frames a stack has at most, as strace has it.
const DefaultStackDepth = 256

// stacks takes call stacks into a log.
type stacks struct {
	set      arch.Set // calls whose stacks are taken
	depth    int      // 0: none is taken
	log      StackLog
	group    *tracee.Group
	perfMaps bool
	u        *unwind.Unwinder
	cache    *unwind.Cache
	files    stackFiles
	mem      stackMemory
	regs     [tracee.MaxRegisters]uint64
	raw      []format.RawFrame
	full     bool   // the log has as many nodes as were allowed
	era      uint64 // counts how often the cache was dropped
	lost     func(what string)
}

// maxStackNodes is how many nodes a log gets; cutFrames is what stacks are cut to from then
// on.
const (
	maxStackNodes = 1 << 20
	cutFrames     = 16
)

func newStacks(o *Options, w Log, g *tracee.Group, files *snapshot.Files, lost func(string)) *stacks {
	s := &stacks{set: o.Stacks, depth: min(o.StackDepth, unwind.MaxDepth), perfMaps: !o.NoPerfMaps, group: g, lost: lost}
	var ok bool
	if s.log, ok = w.(StackLog); !ok || s.depth <= 0 {
		return &stacks{}
	}
	s.files.files, s.mem.group = files, g
	s.cache = unwind.NewCache(&s.files)
	s.u = unwind.NewUnwinder(s.cache)
	return s
}

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

// entered takes the stack of a thread that begins a call.
func (s *stacks) entered(t *tracee.Thread, c *tracee.Call) {
	if s.depth > 0 && s.set.Has(c.Arch, c.Nr) {
		threadOf(t).stack = s.take(t, memoryOf(t))
	}
}

// returned takes the stack of a call whose beginning was not seen, at its end: the thread
// was attached to while it was in it.
func (s *stacks) returned(t *tracee.Thread, c *tracee.Call) {
	if s.depth > 0 && c.Enter == 0 && c.Returned {
		s.entered(t, c)
	}
}

// of is the stack of the call of a thread, which is over.
func (s *stacks) of(t *tracee.Thread) format.StackNode {
	th := threadOf(t)
	n := th.stack
	th.stack = 0
	return n
}

// take takes the stack of a thread that stands still.
func (s *stacks) take(t *tracee.Thread, m *memory) format.StackNode {
	if s.depth <= 0 {
		return 0
	}
	id, values := s.group.ReadRegisters(t, &s.regs)
	var regs unwind.Regs
	if values == nil || !regs.Set(id, values) {
		return 0
	}
	if s.cache.Trim() {
		s.era++
	}
	if m.code.space == nil || m.code.era != s.era {
		m.code = code{unwind.NewSpace(m.table.MM()), s.era}
	}
	depth := s.depth
	if s.full {
		depth = min(depth, cutFrames)
	}
	s.mem.thread, s.files.m, s.files.tid = t, m, t.TID
	frames, end := s.u.Stack(m.code.space, m.Mappings(), &s.mem, &regs, depth)
	return s.write(frames, end)
}

// write gives a stack to the log.
func (s *stacks) write(frames []unwind.Frame, end unwind.End) format.StackNode {
	s.raw = s.raw[:0]
	for i := range frames {
		f := &frames[i]
		r := format.RawFrame{Offset: f.Offset, How: format.FrameHow(f.How), Signal: f.Signal, Inexact: f.Inexact}
		if f.Module != nil {
			if f.Module.No == 0 {
				f.Module.No = s.module(f.Module)
			}
			r.Module = format.ModuleNo(f.Module.No)
		}
		s.raw = append(s.raw, r)
	}
	fin := stackEnds[end]
	if !s.full && s.log.StackNodes() >= maxStackNodes {
		s.full = true
		s.lost("stacks: the log has " + strconv.Itoa(maxStackNodes) + " different frames of callers: from here on stacks are cut to " + strconv.Itoa(cutFrames))
	}
	if s.full && fin == format.StackDepth {
		fin = format.StackNodes
	}
	n, err := s.log.Stack(s.raw, 0, fin)
	if err != nil {
		return 0 // the log says so at the next event
	}
	return n
}

var stackEnds = [...]format.StackEnd{
	unwind.Complete: format.StackComplete, unwind.Limit: format.StackDepth, unwind.Unreadable: format.StackUnreadable,
	unwind.NoRule: format.StackNoRule, unwind.Loop: format.StackLoop,
}

// module gives a module to the log.
func (s *stacks) module(m *unwind.Module) uint32 {
	no, err := s.log.Module(&format.Module{
		Class: format.ModuleClass(m.Class), BuildID: m.BuildID, GoBuildID: m.GoBuildID, Path: m.Path, Major: m.Dev.Major, Minor: m.Dev.Minor,
		Inode: m.Inode, Size: m.Size, Mtime: m.Mtime, TextAddr: m.TextAddr, TextOff: m.TextOff, MM: m.MM,
	})
	if err != nil {
		return 0
	}
	if m.Class == unwind.ClassVDSO {
		s.keepVDSO()
	}
	return uint32(no)
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
	m     *memory
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
