//go:build linux

// This file gives threads their slots, and programs the code before the first one.

package inside

import (
	"bytes"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// install maps what it takes into an address space, through a thread that stands behind a
// call and blocks the signals of mask, and patches the sites that are worth it. It returns why
// that cannot be done; "" also if it did not come to it.
func (in *Programs) install(m *Space, t *tracee.Thread, regs *[tracee.MaxRegisters]uint64, mask uint64) (why string) {
	if in.slots[t] == nil {
		in.reuse(m, t)
	}
	there := in.slots[t] != nil
	if there && len(m.placed.sites.wanted) == 0 && !in.toHandle(m, t, mask) || m.placed.full() && !there {
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
	if in.toHandle(m, t, mask) {
		i := installer{in: calls, tid: t.TID, raw: m.Raw()}
		i.call("rt_sigaction", uint64(unix.SIGSYS), uint64(in.slots[t].Action()), 0, 8)
		in.processOf(t).handles = i.err == nil && !i.off
	}
	m.patchWanted(calls, regs)
	return ""
}

// toHandle reports whether SIGSYS is to have our handler, through a thread that blocks the
// signals of mask: the program has none, and the kernel will not take ours away because a
// thread blocks the signal.
func (in *Programs) toHandle(m *Space, t *tracee.Thread, mask uint64) bool {
	p := in.processOf(t)
	if in.robust == nil || p.handles || p.own || (p.catches|p.ignores|mask)&sigsys != 0 {
		return false
	}
	return !slices.ContainsFunc(m.placed.slots, func(s *slot) bool { return s != nil && s.thread != nil && s.thread != t && s.Masks() })
}

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

// unhandle takes our handler away before a call that asks for it or sets another, at whose
// entry a thread stands. A program with a handler of its own does not get ours again.
func (in *Programs) unhandle(m *Space, t *tracee.Thread, c *tracee.Call) {
	p := in.processOf(t)
	defer func() { // the call is about to set it
		if c.Args[1] != 0 {
			p.own = p.own || !m.readsDefault(&p.action, addr.Addr(c.Args[1]))
		}
	}()
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
	_, _ = m.Raw().WriteMem(p.action[:], m.placed.code.NoAction())
	_, _ = s.Call("rt_sigaction", uint64(unix.SIGSYS), uint64(m.placed.code.NoAction()), 0, 8)
	_ = s.Done()
}

// readsDefault reads a struct sigaction, if that has a signal not handled, as programs set it
// that begin by undoing what their parents did. It reports whether it has.
func (m *Space) readsDefault(action *[inproc.ActionLen]byte, a addr.Addr) bool {
	var b [inproc.ActionLen]byte
	if m.Raw() == nil {
		return false
	}
	n, err := m.Raw().ReadMem(b[:], a)
	if err != nil || n != len(b) || [8]byte(b[:]) != [8]byte{} { // SIG_DFL is 0
		return false
	}
	*action = b
	return true
}

// lasts reports whether one thread more can go on without the recorder if that dies. Where
// none can, the kernel kills them (tracee.Options.Suits).
func (in *Programs) lasts() bool {
	if in.robust == nil {
		in.robust, _ = inproc.NewRobust()
	}
	return in.robust == nil || !in.robust.Full()
}
