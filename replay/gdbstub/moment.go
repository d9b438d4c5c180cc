package gdbstub

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// moment is a process at a step.
type moment struct {
	of      *inferior
	step    format.Step
	event   *format.Event
	view    *replay.View
	process *replay.Process
	space   *replay.AddressSpace
	threads []thread // those whose instruction pointer is known
	stacks  []stack  // of all threads
}

// thread is a thread at a step.
type thread struct {
	format.Thread
	*regs
}

// stack is where the stack of a thread is, and which of its bytes are as they were at the
// step.
type stack struct {
	addr.Range
	// since is the step from which on the thread did not run: what was read of its stack
	// after that step (not by a sweep) is as it is at the moment. Without it, never.
	since *format.Step
}

// lookAhead is how many events are gone through for the next of a thread.
const lookAhead = 1 << 15

// errGone is the error of a step at which the process has no memory.
var errGone = errors.New("the process is not there")

// at makes the moment of a process at a step.
func (s *Session) at(p *inferior, n format.Step) (*moment, error) {
	v, err := s.trace.At(n)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(p); err != nil {
		return nil, err
	}
	m := &moment{of: p, step: n, view: v}
	if m.process, err = v.ByNo(p.life.No); err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if m.space, err = m.process.Space(); err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	var ids = map[uint32]bool{}
	for _, th := range m.process.Threads {
		ids[th.No] = true
	}
	next := map[uint32]*format.Event{}
	for e, err := range s.trace.Events(n) {
		if err != nil {
			return nil, err
		}
		switch {
		case e.Step == n:
			m.event = e.Clone()
		case ids[e.Thread] && next[e.Thread] == nil:
			next[e.Thread] = e.Clone()
		}
		if len(next) == len(ids) || e.Step > n+lookAhead {
			break
		}
	}
	if m.event == nil {
		return nil, fmt.Errorf("step %d is not in the log", n)
	}
	registers, err := s.trace.AllRegisters(n, m.process.Threads)
	if err != nil {
		return nil, err
	}
	for i := range registers {
		if err := s.thread(m, &registers[i], next[registers[i].Thread.No]); err != nil {
			return nil, err
		}
	}
	for v := range m.space.Mappings() {
		if v.Kind == vma.MainStack && !slices.ContainsFunc(m.stacks, func(s stack) bool { return s.Overlaps(v.Range) }) {
			m.stacks = append(m.stacks, stack{v.Range, before(n)})
		}
	}
	slices.SortStableFunc(m.threads, func(a, b thread) int { return cmp.Compare(a.TID, b.TID) })
	return m, nil
}

// thread finds out what is known of one thread of m. next is its next event, nil if that is
// far away or never comes.
func (s *Session) thread(m *moment, v *replay.Registers, next *format.Event) error {
	th := thread{v.Thread, newRegs(v.Thread.Arch)}
	// The call that it is in, or whose end the moment is.
	var in *format.Syscall
	done := false
	if c, ok := m.event.Record.(*format.Syscall); ok && m.event.Thread == th.No {
		in, done = c, true
	} else if next != nil {
		if c, ok := next.Record.(*format.Syscall); ok && c.Enter > 0 && c.Enter < m.event.Time { // not in the same tick of the log's clock
			in = c
		}
	}
	var since *format.Step // the thread has not run since
	if in != nil {
		n, err := s.trace.StepAt(duration(in.Enter))
		if err != nil {
			return err
		}
		since = &n
	}
	if f := m.of.fatal; f != nil && f.Thread == th.No && m.step >= f.Step {
		since = before(f.Step) // it has run no more
	}
	exact := v.Values != nil && (v.AsOf == m.step || since != nil && v.AsOf > *since)
	switch {
	case exact && !(done && in.IP == 0):
		if th.all(v); done && v.AsOf != m.step {
			th.ofCall(in, true)
		}
		if since == nil {
			since = before(m.step)
		}
	case in != nil:
		th.ofCall(in, done)
	}
	if in != nil {
		th.call = replay.CallName(in.Arch, in.Nr)
	}
	if _, ok := th.pc(); ok {
		m.threads = append(m.threads, th)
	}
	m.addStack(&th, v, since)
	return nil
}

// before is the step before n, of which the first step has none: nothing is older than it.
func before(n format.Step) *format.Step {
	if n == 0 {
		return nil
	}
	n--
	return &n
}

// addStack adds the mapping that a thread's stack pointer is in, or was in when it was last
// read.
func (m *moment) addStack(th *thread, v *replay.Registers, since *format.Step) {
	sp, ok := th.sp()
	if !ok {
		if v.Values == nil {
			return
		}
		sp = v.Values[v.Thread.Arch.SP()]
	}
	if x, found := m.space.Set().Find(addr.Addr(sp)); found && x.Prot&addr.Write != 0 {
		m.stacks = append(m.stacks, stack{x.Range, since})
	}
}

// thread is a thread of m by the kernel's id; 0 is any.
func (m *moment) thread(tid uint32) *thread {
	for i := range m.threads {
		if tid == 0 || m.threads[i].TID == tid {
			return &m.threads[i]
		}
	}
	return nil
}

// front is the thread that a stop at m is shown in: that of the event, else tid, else the
// first.
func (m *moment) front(tid uint32) *thread {
	for i := range m.threads {
		if m.threads[i].No == m.event.Thread {
			return &m.threads[i]
		}
	}
	if th := m.thread(tid); th != nil {
		return th
	}
	return m.thread(0)
}

// read reads memory as far as gdb may see it: without a gap, and of stacks only what is as
// it was at the step, unless stale says that anything will do.
func (s *Session) read(m *moment, b []byte, a addr.Addr) (n int, err error) {
	var page [addr.PageSize]byte
	for n < len(b) {
		at, ok := a.Add(uint64(n))
		if !ok {
			break
		}
		parts, err := m.space.Stretches(at.PageDown(), &page)
		if err != nil {
			return n, err
		}
		done := n
		for _, x := range parts {
			if !x.Range.Contains(at) {
				continue
			}
			if x.Err != nil {
				return n, nil
			}
			if !s.fresh(m, &x) {
				return n, nil
			}
			k := copy(b[n:], page[at-at.PageDown():min(x.Range.End-at.PageDown(), addr.PageSize)])
			n += k
			at += addr.Addr(k)
			if n == len(b) {
				return n, nil
			}
		}
		if n == done {
			break
		}
	}
	return n, nil
}

// fresh reports whether gdb may see a stretch.
func (s *Session) fresh(m *moment, x *replay.Stretch) bool {
	if s.stale || x.AsOf == m.step && x.Call {
		return true
	}
	for i := range m.stacks {
		t := &m.stacks[i]
		if !t.Overlaps(x.Range) {
			continue
		}
		if t.since == nil && m.step > 0 || t.since != nil && x.AsOf <= *t.since {
			return false
		}
		if x.Call {
			continue
		}
		if i, ok := slices.BinarySearchFunc(s.images, x.AsOf, func(a image, n format.Step) int { return cmp.Compare(a.step, n) }); ok && s.images[i].sweep {
			return false // read while the program ran: older than the step
		}
	}
	return true
}
