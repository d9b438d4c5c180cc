//go:build linux

// This file takes the call stacks of threads: at the beginning of calls, and at signals that
// end a process. It keeps what names the code in them and would be gone later: the maps of code
// that is made at run time, and the kernel's own code.

package record

import (
	"fmt"
	"strconv"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/unwind"
	"memtrace/format/vma"
	"memtrace/record/procfs"
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
	memory   *memory // whose stack is being taken
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

func newStacks(set arch.Set, depth int, perfMaps bool, w Log, g *tracee.Group, files *snapshot.Files, lost func(string)) *stacks {
	s := &stacks{set: set, depth: min(depth, unwind.MaxDepth), perfMaps: perfMaps, group: g, lost: lost}
	var ok bool
	if s.log, ok = w.(StackLog); !ok || s.depth <= 0 {
		return &stacks{}
	}
	s.files.files, s.mem.group = files, g
	s.cache = unwind.NewCache(&s.files)
	s.u = unwind.NewUnwinder(s.cache)
	return s
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
		m.code = code{unwind.NewSpace(m.MM()), s.era}
	}
	depth := s.depth
	if s.full {
		depth = min(depth, cutFrames)
	}
	s.mem.thread, s.memory, s.files.tid = t, m, t.TID
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

// Names of texts in the log.
const (
	textPerfMap = "perf.map"
	textVDSO    = "vdso"
)

// maxVDSO is more than the kernel's code takes.
const maxVDSO = 64 << 10

// leaving keeps the perf map of an address space that is about to end, or to be left alone,
// if a stack had code without a file in it. t is one of its threads.
func (s *stacks) leaving(t *tracee.Thread, m *memory) {
	if s.depth <= 0 || !s.perfMaps || m.code.space == nil || !m.code.space.Anonymous() {
		return
	}
	m.code.space = nil
	pid := nstid(m.kernel, t.Proc.PID, true)
	text, whole, err := procfs.PerfMap(t.TID, pid, format.MaxText)
	if err != nil {
		s.lost(fmt.Sprintf("names of code of process %d: %v", t.Proc.PID, err))
	}
	if len(text) == 0 {
		return
	}
	if !whole {
		s.lost(fmt.Sprintf("names of code of process %d: its perf map has more than %d bytes", t.Proc.PID, format.MaxText))
	}
	_ = s.log.Text(&format.Text{Name: textPerfMap, MM: m.MM(), Step: m.log.next, Data: text}) // an error is told at the next event
}

// keepVDSO keeps the kernel's code, which no file has.
func (s *stacks) keepVDSO() {
	m := s.memory
	for v := range m.Mappings().All() {
		if v.Kind != vma.VDSO || v.Len() > maxVDSO {
			continue
		}
		b := make([]byte, v.Len())
		if n := s.mem.Read(b, addr.Addr(v.Start)); n == len(b) {
			_ = s.log.Text(&format.Text{Name: textVDSO, MM: m.MM(), Step: m.log.next, Data: b})
		}
	}
}
