//go:build linux

// This file begins the page trace of an address space, and ends it: by itself, or because
// it cannot go on.

package pagetrace

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// on returns the address space of a thread if its references are traced.
func (w *Warden) on(t *tracee.Thread) (*Space, bool) {
	m, on := w.met(t)
	if on {
		m.trace.account(t, w.group.Now())
	}
	return m, on
}

// met is on before the program's time has been brought up to now.
func (w *Warden) met(t *tracee.Thread) (*Space, bool) {
	m := w.host.Space(t)
	if m.trace.state == traceIdle {
		w.begin(m, t)
	}
	if m.trace.state != traceOn {
		return m, false
	}
	th := w.host.Thread(t)
	th.met = 0
	if th.linger {
		w.release(m, t, nil)
	}
	return m, true
}

// begin begins the page trace of an address space, if it can be traced and all its threads
// are known. t stands at the stop that is being served.
func (w *Warden) begin(m *Space, t *tracee.Thread) {
	p := &m.trace
	for u := range m.Threads {
		if u.Unseen() {
			return
		}
	}
	if why := w.refuses(m, t); why != "" {
		w.end(m, t, why)
		return
	}
	if !w.hold(m) {
		return
	}
	defer w.group.LetGo(m.Space)
	for u := range m.Threads { // some may have been known for a moment only
		if u.Unseen() {
			return
		}
	}
	pool := int(w.ask.Pool)
	if pool == 0 {
		pool = firstPool
	}
	pool = max(pool, 16*len(m.Threads))
	granule := w.ask.Granule
	if w.free() {
		granule = w.total.granule()
	}
	p.Space, p.code, p.state = refs.New(granule, pool), map[addr.Addr]instruction{}, traceOn
	p.pace.total = &w.total
	p.accounted = w.group.Now()
	m.readClosed()
	m.Grow()
	m.pinArguments(t.Proc.PID)
	for u := range m.Threads {
		w.meet(m, u)
	}
	s, err := w.step(m, t, nil)
	if err != nil {
		w.end(m, t, err.Error())
		return
	}
	w.learnActions(m, t, s)
	w.adopt(m, refs.Everything)
	w.giveBack(m, s)
	if code := s.Instruction(); !code.Empty() { // of the call that is about to be made
		p.Hold(t, code)
	}
	w.phase(m, t, nil)
	w.closeAll(m, t, s)
	w.done(m, t, s)
}

// meet learns of a thread what a page trace has to know: which places the kernel writes to
// at times of its own, and which signals it blocks.
func (w *Warden) meet(m *Space, t *tracee.Thread) {
	p := &m.trace
	if at := w.group.RSeq(t); at != 0 {
		p.Pin(addr.Addr(at), 32)
	}
	if at := procfs.RobustList(t.TID); at != 0 {
		p.Pin(at, 24)
	}
	if mask, err := w.group.Mask(t); err == nil {
		w.Masked(t, mask)
	}
}

// refuses says why the page references of an address space cannot be recorded, "" where
// they can.
func (w *Warden) refuses(m *Space, t *tracee.Thread) string {
	vdso, code := m.VDSO()
	if i := bytes.Index(code, []byte{0x0f, 0x05}); i >= 0 {
		m.trace.gate.Syscall = vdso.Start + addr.Addr(i)
	}
	if i := bytes.Index(code, []byte{0xcd, 0x80}); i >= 0 {
		m.trace.gate.Int80 = vdso.Start + addr.Addr(i)
	}
	if n := len(bytes.TrimRight(code, "\x00")); n+64 < len(code) {
		m.trace.spare = vdso.Start + addr.Addr(n+63)&^31
	}
	var data unix.Rlimit
	for u := range m.Threads {
		if u.Traced() {
			return tracedByOther(u)
		}
	}
	switch {
	case m.Kernel() == nil:
		return "its memory cannot be read"
	case m.trace.gate == (tracee.Gate{}):
		return "it has no vdso"
	case w.host.Filtered(t.TID):
		return "it has a seccomp filter of its own"
	case m.Users() != "":
		return m.Users()
	case unix.Prlimit(t.Proc.PID, unix.RLIMIT_DATA, nil, &data) == nil && data.Cur != unix.RLIM_INFINITY:
		return "its data is limited (RLIMIT_DATA)"
	case m.trace.spare == 0:
		return "its vdso has no room"
	}
	return ""
}

// endsWith says why the trace of an address space cannot go on with a call, "" where it can.
func (w *Warden) endsWith(m *Space, t *tracee.Thread, c *tracee.Call) string {
	a := &c.Args
	switch callName(c) {
	case "ptrace":
		const traceMe = 0
		if a[0] == traceMe {
			return tracedByOther(t)
		}
		return fmt.Sprintf("process %d traces others (ptrace)", t.Proc.PID)
	case "seccomp":
		return "the program has a seccomp filter of its own"
	case "prctl":
		const setSeccomp, setDispatch = 22, 59
		if a[0] == setSeccomp || a[0] == setDispatch {
			return "the program has its calls filtered"
		}
	case "munmap":
		if r := addr.Reach(addr.Addr(a[0]), a[1]); r.Contains(m.trace.gate.Syscall) || r.Contains(m.trace.gate.Int80) {
			return "it has no vdso any more"
		}
	}
	return ""
}

// tracedByOther is why the page trace of a process ends that another traces.
func tracedByOther(t *tracee.Thread) string {
	return fmt.Sprintf("process %d is traced by another program (ptrace)", t.Proc.PID)
}

// end ends the page trace of an address space: everything is opened, by t.
func (w *Warden) end(m *Space, t *tracee.Thread, why string) {
	p := &m.trace
	was := p.state
	p.state = traceOff
	if was == traceOn {
		if s, err := w.step(m, t, nil); err == nil {
			w.openAll(m, s)
			w.done(m, t, s)
		}
		w.log.Phase(&format.Phase{MM: m.MM(), Engine: format.EngineProt, Granule: p.Granule(), Time: p.program, Incomplete: true})
		p.Forget(refs.Everything)
		m.Refresh()
	}
	if why != "" {
		w.host.Lost(t.No, fmt.Sprintf("page references of address space %d from here on: %s", m.MM(), why))
	}
}

// Yields ends the page trace of an address space one of whose threads has a tracer among the
// programs: that one would be told of our faults.
func (w *Warden) Yields(t *tracee.Thread) (called bool) {
	m, th := w.host.Space(t), w.host.Thread(t)
	if m.trace.state != traceOn || th.linger || t.Call() != nil && changesMask(callName(t.Call())) {
		return false // or a call has other signals blocked than the thread: at its next stop
	}
	w.end(m, t, tracedByOther(t))
	return true
}

// Frees opens everything, for ever.
func (w *Warden) Frees(t *tracee.Thread) {
	if m := w.host.Space(t); m.trace.state == traceOn {
		w.end(m, t, "")
	}
}
