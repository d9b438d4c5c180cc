//go:build linux

// This file maps the code that records calls into programs, and hides it from the log.

package record

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// insideName is what our file is called in a program.
const insideName = "memtrace-inside"

// insideMapping is how the kernel prints our mappings.
const insideMapping = "/memfd:" + insideName + " (deleted)"

// signalSet reads a set of signals from the text of /proc/PID/status.
func signalSet(status []byte, name string) uint64 { return proctext.Field(status, name).Hex() }

// install maps what it takes into an address space, through a thread that stands behind a
// call, and patches the sites that are worth it. It returns why that cannot be done; "" also
// if it did not come to it.
func (in *inside) install(m *memory, t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (why string) {
	if in.slots[t] == nil {
		in.reuse(m, t)
	}
	there := in.slots[t] != nil
	if there && len(m.inside.sites.wanted) == 0 || m.inside.full() && !there {
		return ""
	}
	vdso, text := m.VDSO()
	calls, err := in.r.group.Inject(t, text, vdso.Start)
	if err != nil {
		return "no call can be made in its name"
	}
	defer calls.Done()
	if !there {
		if why := in.mapSlot(m, t, calls); why != "" || in.slots[t] == nil {
			return why
		}
	}
	m.patchWanted(calls, regs)
	return ""
}

// full reports whether there is no slot left, and none can be mapped.
func (s *insideSpace) full() bool {
	return s != nil && len(s.slots) == inproc.MaxSlots && !slices.Contains(s.slots, nil)
}

// reuse gives a thread the slot of one that has ended, if there is one.
func (in *inside) reuse(m *memory, t *tracee.Thread) {
	if m.inside == nil {
		return
	}
	for i, s := range m.inside.slots {
		if s != nil && s.thread == nil {
			in.give(s, i, t)
			return
		}
	}
}

// give gives a thread slot i, which no other has.
func (in *inside) give(s *insideSlot, i int, t *tracee.Thread) {
	s.Slot = inproc.NewSlot(s.space.code, i, s.shared)
	s.thread, s.proc, s.stack = t, in.processOf(t), addr.Range{}
	in.slots[t] = s
}

// mapSlot maps a slot for a thread, and before the first one of an address space the code.
func (in *inside) mapSlot(m *memory, t *tracee.Thread, calls *tracee.Injector) (why string) {
	if !in.lasts() {
		return ""
	}
	i := installer{in: calls, tid: t.TID, m: m, fresh: m.inside == nil}
	if !i.fresh {
		i.code = m.inside.code
		if i.slot = slices.Index(m.inside.slots, nil); i.slot < 0 {
			i.slot = len(m.inside.slots)
		}
		i.ours = i.slot < len(m.inside.slots)
	} else if i.code.Base = m.room(inproc.WholeLen); i.code.Base == 0 {
		return "there is no room for the code"
	}
	shared, err := i.run(in.image)
	if errors.Is(err, unix.EEXIST) && m.insideTries < mostTries {
		m.insideTries++ // another thread has mapped something there meanwhile
		return ""
	}
	if err != nil {
		return "its code cannot be mapped: " + err.Error()
	}
	if shared == nil {
		return ""
	}
	if i.fresh {
		m.inside = &insideSpace{m: m, code: i.code, sites: newSites()}
	}
	if in.robust != nil {
		in.robust.Add(shared)
	}
	s := &insideSlot{space: m.inside, shared: shared}
	s.before = func(b []byte, a addr.Addr) int { return s.record.Read(b, a, false) }
	s.after = func(b []byte, a addr.Addr) int { return s.record.Read(b, a, true) }
	if i.ours {
		m.inside.slots[i.slot] = s
	} else {
		m.inside.slots = append(m.inside.slots, s)
	}
	in.give(s, i.slot, t)
	if i.fresh {
		in.handle(s, &i)
	}
	return ""
}

// handle has SIGSYS have our handler, if it has none.
func (in *inside) handle(s *insideSlot, i *installer) {
	if p := s.proc; in.robust != nil && !p.own && (p.catches|p.ignores)&sigsys == 0 {
		i.call("rt_sigaction", uint64(unix.SIGSYS), uint64(s.Action()), 0, 8)
		p.handles = i.err == nil && !i.off
	}
}

// unhandle takes our handler away before a call that asks for it or sets another, at whose
// entry a thread stands.
func (in *inside) unhandle(m *memory, t *tracee.Thread) {
	p := in.processOf(t)
	p.own = true
	if !p.handles || m.inside == nil {
		return
	}
	p.handles = false
	vdso, text := m.VDSO()
	at := bytes.Index(text, []byte{0x0f, 0x05})
	if at < 0 {
		return
	}
	s, err := in.r.group.Step(t, tracee.Gate{Syscall: vdso.Start + addr.Addr(at)}, nil)
	if err != nil {
		return
	}
	_, _ = s.Call("rt_sigaction", uint64(unix.SIGSYS), uint64(m.inside.code.NoAction()), 0, 8)
	_ = s.Done()
}

// lasts reports whether one thread more can go on without the recorder if that dies. Where
// none can, the kernel kills them (tracee.Options.Suits).
func (in *inside) lasts() bool {
	if in.robust == nil {
		in.robust, _ = inproc.NewRobust()
	}
	return in.robust == nil || !in.robust.Full()
}

// mostTries is how often a place for the code is looked for.
const mostTries = 5

// installer maps the code, or a slot.
type installer struct {
	in    *tracee.Injector
	tid   int
	m     *memory
	code  inproc.Code
	slot  int
	fresh bool // nothing is mapped yet
	ours  bool // the slot is mapped, and is somebody else's: of the process that this one was copied from
	err   error
	off   bool // the thread has reported something else: another time
}

// call makes a call in the program.
func (i *installer) call(name string, args ...uint64) int64 {
	if i.err != nil || i.off {
		return -1
	}
	ret, err := i.in.Call(name, args...)
	switch {
	case err != nil:
		i.off = true
	case ret < 0 && ret >= -4095:
		i.err = unix.Errno(-ret)
	}
	return ret
}

// file maps a file of ours, private and executable. Its contents are written from outside.
func (i *installer) file(at addr.Addr, n uint64) bool {
	i.call("mmap", uint64(at), n, unix.PROT_READ|unix.PROT_WRITE, mapPrivate|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE|unix.MAP_NORESERVE, noFD, 0)
	if i.err != nil || i.off {
		return false
	}
	if _, err := i.m.fs.WriteMem(append([]byte(insideName), 0), at); err != nil {
		return false
	}
	fd := i.call("memfd_create", uint64(at), memfdFlags)
	if i.err != nil || i.off {
		return false
	}
	if own, err := procfs.TakeFD(i.tid, int(fd)); err == nil {
		_ = unix.Ftruncate(own, int64(n))
		_ = unix.Close(own)
	}
	i.call("mmap", uint64(at), n, unix.PROT_READ|unix.PROT_EXEC, mapPrivate|mapFixed, uint64(fd), 0)
	i.call("close", uint64(fd))
	return i.err == nil && !i.off
}

const (
	mapPrivate = unix.MAP_PRIVATE
	mapShared  = unix.MAP_SHARED
	mapFixed   = unix.MAP_FIXED
	memfdFlags = 0x11 // MFD_CLOEXEC, MFD_EXEC (Linux 6.3)
	noFD       = ^uint64(0)
)

// run maps code and shared part, and returns the latter as this process has it mapped; nil
// if it has to be tried again.
func (i *installer) run(image []byte) (shared []byte, err error) {
	base, slot := uint64(i.code.Base), uint64(i.code.Slot(i.slot))
	name, length := slot, uint64(inproc.SlotLen)
	if i.fresh {
		name, length = base, inproc.CodeLen+inproc.SlotLen
	}
	fixed := uint64(unix.MAP_FIXED_NOREPLACE)
	if i.ours {
		fixed = mapFixed
	}
	i.call("mmap", name, length, unix.PROT_READ|unix.PROT_WRITE, mapPrivate|unix.MAP_ANONYMOUS|fixed|unix.MAP_NORESERVE, noFD, 0)
	if i.err != nil || i.off {
		return nil, i.err
	}
	defer func() {
		if shared == nil {
			i.err = nil
			i.call("munmap", name, length)
		}
	}()
	if _, err := i.m.fs.WriteMem(append([]byte(insideName), 0), addr.Addr(name)); err != nil {
		return nil, err
	}
	fd := i.call("memfd_create", name, memfdFlags)
	if i.err != nil || i.off {
		return nil, i.err
	}
	shared, err = i.fill(int(fd), image)
	if err == nil {
		if i.fresh {
			i.call("mmap", base, uint64(inproc.CodeLen), unix.PROT_READ|unix.PROT_EXEC, mapPrivate|mapFixed, uint64(fd), 0)
		}
		i.call("mmap", slot, uint64(inproc.SlotLen), unix.PROT_READ|unix.PROT_WRITE, mapShared|mapFixed, uint64(fd), uint64(inproc.CodeLen))
	}
	i.call("close", uint64(fd))
	if err != nil || i.err != nil || i.off {
		if shared != nil {
			_ = unix.Munmap(shared)
		}
		return nil, errors.Join(err, i.err)
	}
	return shared, nil
}

// fill writes the image into the program's new file, and maps the shared part here.
func (i *installer) fill(fd int, image []byte) ([]byte, error) {
	own, err := procfs.TakeFD(i.tid, fd)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	if err := unix.Ftruncate(own, inproc.CodeLen+inproc.SlotLen); err != nil {
		return nil, err
	}
	if _, err := unix.Pwrite(own, image, 0); err != nil {
		return nil, err
	}
	return unix.Mmap(own, inproc.CodeLen, inproc.SlotLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// lowest is where our code goes at the lowest: java and others want what is below.
const lowest = 4 << 30

// room is where in an address space so many bytes go: in the middle of the largest hole,
// out of everybody's way. 0 is nowhere.
func (m *memory) room(n uint64) addr.Addr {
	const highest = 1<<47 - 1<<16
	var at addr.Addr
	most := n + 2<<20
	last := addr.Addr(lowest)
	for v := range m.Mappings().All() {
		if v.Start > highest {
			break
		}
		if v.Start > last {
			if hole := uint64(v.Start - last); hole > most {
				most, at = hole, (last + addr.Addr(hole/2)).PageDown()
			}
		}
		last = max(last, v.End)
	}
	return at
}

// discard forgets the code of an address space that is gone.
func (in *inside) discard(m *memory) {
	if in == nil || m.inside == nil {
		return
	}
	in.Drain()
	for _, s := range m.inside.slots {
		if s == nil {
			continue
		}
		if s.thread != nil {
			in.free(s.thread)
		}
		if in.robust != nil {
			in.robust.Remove(s.shared)
		}
		_ = unix.Munmap(s.shared)
	}
	m.inside = nil
}

// hiding is an address space as it would be without our code.
type hiding struct{ opened }

// Mapping is space.Kernel's.
func (h hiding) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	for {
		v, ok, err := h.opened.Mapping(a)
		if err != nil || !ok || v.Name != insideMapping {
			return v, ok, err
		}
		a = v.End
	}
}

// MapsText is space.Kernel's.
func (h hiding) MapsText() ([]byte, error) {
	text, err := h.opened.MapsText()
	if err != nil || !bytes.Contains(text, []byte(insideMapping)) {
		return text, err
	}
	var rest []byte
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, " "+insideMapping+"\n") {
			rest = append(rest, line...)
		}
	}
	return rest, nil
}

// Maps are all mappings.
func (h hiding) Maps() ([]vma.VMA, error) {
	vs, err := h.opened.Maps()
	return slices.DeleteFunc(vs, func(v vma.VMA) bool { return v.Name == insideMapping }), err
}

// hidingKernel opens address spaces as they would be without our code.
type hidingKernel struct{ kernel }

func (k hidingKernel) open(tid int) (opened, error) {
	o, err := k.kernel.open(tid)
	if err != nil {
		return nil, err
	}
	return hiding{o}, nil
}
