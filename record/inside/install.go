//go:build linux

// This file gives threads their slots, and programs the code before the first one.

package inside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// install maps what it takes into an address space, through a thread that stands behind a
// call, and patches the sites that are worth it. It returns why that cannot be done; "" also if
// it did not come to it.
func (in *Programs) install(m *Space, t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (why string) {
	if in.slots[t] == nil {
		in.reuse(m, t)
	}
	there := in.slots[t] != nil
	if there && len(m.placed.sites.wanted) == 0 && !in.toHandle(in.processOf(t)) || m.placed.full() && !there {
		return ""
	}
	vdso, text := m.VDSO()
	calls, err := in.group.Inject(t, text, vdso.Start)
	if err != nil {
		return "no call can be made in its name"
	}
	defer calls.Done()
	if !there {
		if why := in.mapSlot(m, t, calls); why != "" || in.slots[t] == nil {
			return why
		}
	}
	if in.toHandle(in.processOf(t)) {
		m.handle(in.processOf(t), calls)
	}
	m.patchWanted(calls, regs)
	return ""
}

// toHandle reports whether SIGSYS is still to have our handler.
func (in *Programs) toHandle(p *process) bool { return in.robust != nil && !p.handles && !p.left }

// reuse gives a thread the slot of one that has ended, if there is one.
func (in *Programs) reuse(m *Space, t *tracee.Thread) {
	if m.placed == nil {
		return
	}
	for i, s := range m.placed.slots {
		if s != nil && s.thread == nil {
			in.give(s, i, t)
			return
		}
	}
}

// give gives a thread slot i, which no other has.
func (in *Programs) give(s *slot, i int, t *tracee.Thread) {
	s.Slot = inproc.NewSlot(s.space.code, i, s.shared)
	s.thread, s.proc, s.stack = t, in.processOf(t), addr.Range{}
	in.slots[t] = s
}

// free has the slot of a thread be used by another.
func (in *Programs) free(t *tracee.Thread) {
	if s := in.slots[t]; s != nil {
		s.thread, s.proc = nil, nil
		delete(in.slots, t)
	}
}

// mapSlot maps a slot for a thread, and before the first one of an address space the code.
func (in *Programs) mapSlot(m *Space, t *tracee.Thread, calls *tracee.Injector) (why string) {
	if !in.lasts() {
		return ""
	}
	i := installer{in: calls, tid: t.TID, raw: m.Raw(), fresh: m.placed == nil}
	if !i.fresh {
		i.code = m.placed.code
		if i.slot = slices.Index(m.placed.slots, nil); i.slot < 0 {
			i.slot = len(m.placed.slots)
		}
		i.ours = i.slot < len(m.placed.slots)
	} else if i.code.Base = m.room(inproc.WholeLen); i.code.Base == 0 {
		return "there is no room for the code"
	}
	shared, err := i.run(in.image)
	if errors.Is(err, unix.EEXIST) && m.tries < mostTries {
		m.tries++ // another thread has mapped something there meanwhile
		return ""
	}
	if err != nil {
		return "its code cannot be mapped: " + err.Error()
	}
	if shared == nil {
		return ""
	}
	if i.fresh {
		m.place(i.code)
	}
	if in.robust != nil {
		in.robust.Add(shared)
	}
	s := &slot{space: m.placed, shared: shared}
	s.before = func(b []byte, a addr.Addr) int { return s.record.Read(b, a, false) }
	s.after = func(b []byte, a addr.Addr) int { return s.record.Read(b, a, true) }
	if i.ours {
		m.placed.slots[i.slot] = s
	} else {
		m.placed.slots = append(m.placed.slots, s)
	}
	in.give(s, i.slot, t)
	return ""
}

// mostTries is how often a place for the code is looked for.
const mostTries = 5

// handle has SIGSYS handled by the code instead of what the program has for it.
func (m *Space) handle(p *process, calls *tracee.Injector) {
	at := m.placed.code.Action()
	ret, err := calls.Call("rt_sigaction", uint64(unix.SIGSYS), 0, uint64(at), sigsetLen)
	if err != nil {
		return // another time
	}
	p.left = true
	if ret != 0 || !m.read(&p.action, at) {
		return
	}
	ours, ok := m.placed.code.Instead(p.action)
	theirs := p.action.Handler
	if !ok || !m.write(theirs, m.placed.code.Theirs()) || !m.write(ours, at) {
		return
	}
	ret, err = calls.Call("rt_sigaction", uint64(unix.SIGSYS), uint64(at), 0, sigsetLen)
	p.handles = err == nil && ret == 0
	p.left = err == nil && ret != 0
}

// sigsetLen is the size of a set of signals, as rt_sigaction(2) wants it.
const sigsetLen = 8

// read reads v from the words that are in the program at a. It reports whether all of it could be.
func (m *Space) read(v any, a addr.Addr) bool {
	b := make([]byte, binary.Size(v))
	mem := m.Raw()
	if mem == nil {
		return false
	}
	if n, err := mem.ReadMem(b, a); err != nil || n != len(b) {
		return false
	}
	_, err := binary.Decode(b, binary.LittleEndian, v)
	return err == nil
}

// write writes the words of v into the program at a. It reports whether all of it could be.
func (m *Space) write(v any, a addr.Addr) bool {
	mem := m.Raw()
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if mem == nil || err != nil {
		return false
	}
	n, err := mem.WriteMem(b, a)
	return err == nil && n == len(b)
}

// unhandle gives a program back its own action of SIGSYS before a call that asks for it or sets
// another, at whose entry a thread stands.
func (in *Programs) unhandle(m *Space, t *tracee.Thread) {
	p := in.processOf(t)
	p.left = false
	if !p.handles || m.placed == nil || m.Raw() == nil {
		return
	}
	p.handles = false
	vdso, text := m.VDSO()
	at := bytes.Index(text, []byte{0x0f, 0x05})
	if at < 0 {
		return
	}
	s, err := in.group.Step(t, tracee.Gate{Syscall: vdso.Start + addr.Addr(at)}, nil)
	if err != nil {
		return
	}
	if room := m.placed.code.Action(); m.write(p.action, room) {
		_, _ = s.Call("rt_sigaction", uint64(unix.SIGSYS), uint64(room), 0, sigsetLen)
	}
	_ = s.Done()
}

// lasts reports whether one thread more can go on without the recorder if that dies. Where
// none can, the kernel kills them (tracee.Options.Suits).
func (in *Programs) lasts() bool {
	if in.robust == nil {
		in.robust, _ = inproc.NewRobust()
	}
	return in.robust == nil || !in.robust.Full()
}
