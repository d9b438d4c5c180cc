//go:build linux

// This file serves the page faults, calls and signals that meet memory which is closed for
// a page trace.

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/call"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// warden records page references by engine prot. It is the tracee.Warden of a Recorder.
type warden struct {
	r     *Recorder
	ask   PageTrace
	touch call.Toucher
	ev    format.Ref
	total traceTotal

	actions map[*tracee.Process]*actions
	last    struct { // that was asked for
		proc *tracee.Process
		does *actions
	}
}

// actions is what a process does with signals, as far as it concerns us: the kernel sets
// the action of SIGSEGV back where it has to send one that is blocked or ignored, and ours
// are among them.
type actions struct {
	set [65][]byte // struct sigaction of the kernel by signal, nil for the default
}

const (
	saOnStack = 0x08000000
	sigIgn    = 1
	segvBit   = 1 << (unix.SIGSEGV - 1)
	trapBit   = 1 << (unix.SIGTRAP - 1)
)

// flags are those of the action of a signal.
func (a *actions) flags(sig int) uint64 {
	switch b := a.set[sig]; len(b) {
	case 32:
		return binary.LittleEndian.Uint64(b[8:])
	case 20:
		return uint64(binary.LittleEndian.Uint32(b[4:]))
	}
	return 0
}

// handler is the handler of a signal: 0 for the default, sigIgn for none.
func (a *actions) handler(sig int) uint64 {
	switch b := a.set[sig]; len(b) {
	case 32:
		return binary.LittleEndian.Uint64(b)
	case 20:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// traced is what is kept of a thread for a page trace.
type traced struct {
	blocked uint64     // signals
	seen    uint64     // by the clock of its address space, when it was let go
	alt     addr.Range // stack for signal handlers
	closing addr.Set   // to be closed when the call at hand has been written
	met     addr.Addr  // the instruction of the last fault, if the thread has not stopped since
	dead    addr.Range // nobody may use it before the call at hand is over
	fault   [27]uint64 // registers at the last fault
	linger  bool       // what the last call held is held still
}

func newWarden(r *Recorder, ask PageTrace) *warden {
	return &warden{r: r, ask: ask, actions: map[*tracee.Process]*actions{}}
}

// on returns the address space of a thread if its references are traced.
func (w *warden) on(t *tracee.Thread) (*memory, bool) {
	m, on := w.met(t)
	if on {
		m.trace.account(t, w.r.group.Now())
	}
	return m, on
}

// met is on before the program's time has been brought up to now.
func (w *warden) met(t *tracee.Thread) (*memory, bool) {
	m := memoryOf(t)
	if m.trace.state == pagesIdle {
		w.begin(m, t)
	}
	if m.trace.state != pagesOn {
		return m, false
	}
	th := &threadOf(t).traced
	th.met = 0
	if th.linger {
		w.release(m, t, nil)
	}
	return m, true
}

// Faulted opens the block that a thread has met closed, and records the reference.
func (w *warden) Faulted(t *tracee.Thread, f *tracee.Fault) (ours bool) {
	m, on := w.met(t)
	p, th := &m.trace, &threadOf(t).traced
	if !on {
		late := p.openedLate(t, f)
		if late && w.stripped(t) {
			if s, err := w.step(m, t, f); err == nil {
				w.repair(m, t, s)
				w.done(m, t, s)
			}
		}
		return late
	}
	p.accountFault(t, w.r.group.Now())
	v, ok := m.Mappings().Find(f.Addr)
	if !ok && f.Addr < p.stack {
		w.grown(m, t)
		v, ok = m.Mappings().Find(f.Addr)
	}
	if !ok || v.Prot&7 == 0 {
		return false
	}
	if p.Opened(f.Addr) {
		// If it was opened since the thread was let go the access is made once more.
		// Else the fault is the program's own.
		stale := p.Since(f.Addr) > th.seen
		th.seen = p.Clock()
		return stale
	}
	if m.changing(t, p.Block(f.Addr)) {
		return true // it comes back until that is over
	}
	x := w.instructionOf(m, t, f)
	f.Plain = x.plain
	s, err := w.step(m, t, f)
	if err != nil { // it has been killed
		return true
	}
	if !x.plain && s.Plain() {
		x.plain = true
		p.code[f.IP()] = x
	}
	if w.ends(p, th, f) && !m.moving() {
		w.flush(m, t, s)
	}
	th.fault = *f.Regs
	block := p.Block(f.Addr) // of this phase
	handles := w.handles(t)
	opened := false
	if handles && v.Contains(block.Start) && v.Contains(block.End-1) && p.TracesAll(block) {
		ret, err := s.ProtectOnce(block, v.Prot)
		if err != nil { // a signal has come first, or its end
			return true
		}
		opened = ret == 0
	}
	w.ref(m, t, block.Start, f.IP(), kindOf(x, f, v.Prot))
	p.Open(f.Addr)
	if !opened {
		w.openBlock(m, t, s, block)
	}
	if p.late.Count() > 0 && !m.moving() {
		w.settle(m, t, s)
	}
	if w.stripped(t) {
		w.repair(m, t, s)
	}
	w.done(m, t, s)
	th.met, th.seen = f.IP(), p.Clock()
	return true
}

// ends reports whether the phase ends with a fault. It does not in the middle of an
// instruction that has met one of its pages closed before: that one would be referenced in both phases.
func (w *warden) ends(p *pageTrace, th *traced, f *tracee.Fault) bool {
	if !p.Full() && !(w.free() && p.pace.behind(p.Granule(), p.program) && !p.Lifted(nil)) {
		return false
	}
	return th.fault != *f.Regs || p.Count() >= p.Pool()+instructionPages
}

// instructionPages is more than any instruction refers to.
const instructionPages = 16

// stripped reports whether the kernel has taken a thread's action of SIGSEGV away with a fault:
// it does where that is blocked or ignored.
func (w *warden) stripped(t *tracee.Thread) bool {
	return threadOf(t).traced.blocked&segvBit != 0 || w.actionsOf(t).handler(int(unix.SIGSEGV)) == sigIgn
}

// openedLate reports whether a thread may have met closed memory before all was opened for
// ever. Then the access is made once more.
func (p *pageTrace) openedLate(t *tracee.Thread, f *tracee.Fault) bool {
	th := &threadOf(t).traced
	if p.state != pagesOff || p.Space == nil || !f.Mapped || th.seen == math.MaxUint64 {
		return false
	}
	th.seen = math.MaxUint64
	return true
}

// free reports whether blocks may become larger.
func (w *warden) free() bool { return w.ask.Granule == 0 }

// handles reports whether the kernel leaves the signals of a fault and of a step to the
// thread: it neither blocks nor ignores them.
func (w *warden) handles(t *tracee.Thread) bool {
	a := w.actionsOf(t)
	return threadOf(t).traced.blocked&(segvBit|trapBit) == 0 && a.handler(int(unix.SIGSEGV)) != sigIgn && a.handler(int(unix.SIGTRAP)) != sigIgn
}

// openBlock opens what is traced of a block, which may be of more than one mapping.
func (w *warden) openBlock(m *memory, t *tracee.Thread, s *tracee.Stepper, block addr.Range) {
	for _, part := range m.trace.Traced(block) {
		for v := range m.Mappings().Overlapping(part) {
			if err := w.openPart(s, v.Intersect(part), v.Prot); err != nil {
				w.notOpened(m, t, s, part.Intersect(v.Range), err)
			}
		}
	}
}

// notOpened serves a part of a block that could not be opened: there are too many mappings, or it
// has been unmapped meanwhile.
func (w *warden) notOpened(m *memory, t *tracee.Thread, s *tracee.Stepper, part addr.Range, err error) {
	if errors.Is(err, tracee.ErrPreempted) {
		return
	}
	p := &m.trace
	if p.Count() > leastPool {
		p.SetPool(max(leastPool, p.Pool()/2))
		w.flush(m, t, s)
		p.Open(part.Start)
		if whole := addr.SetOf(p.Traced(p.Block(part.Start))...); w.open(m, s, whole) == nil {
			return
		}
	}
	if w.open(m, s, addr.SetOf(part)) != nil {
		p.Forget(part) // who meets it once more gets the kernel's answer
	}
}

// settle closes what has waited for a thread that stands.
func (w *warden) settle(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	late := m.trace.late
	m.trace.late = addr.Set{}
	w.closeClosed(m, t, s, late)
}

// repair gives SIGSEGV its action and its place among the blocked signals back, which the
// kernel has taken from it because it could not be delivered.
func (w *warden) repair(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	const segv = int(unix.SIGSEGV)
	if b := w.actionsOf(t).set[segv]; b != nil {
		if _, err := m.fs.WriteMem(b, m.trace.spare); err == nil {
			_, _ = s.Call("rt_sigaction", uint64(segv), uint64(m.trace.spare), 0, 8)
		}
	}
	if threadOf(t).traced.blocked&segvBit != 0 {
		s.Block(segvBit)
	}
}

// actionsOf is what the process of a thread does with signals.
func (w *warden) actionsOf(t *tracee.Thread) *actions {
	if w.last.proc == t.Proc {
		return w.last.does
	}
	a := w.actions[t.Proc]
	if a == nil {
		a = w.firstActions(t)
		w.actions[t.Proc] = a
	}
	w.last.proc, w.last.does = t.Proc, a
	return a
}

// firstActions are those of a process that is met for the first time: a copy of its
// parent's, or after an exec what it ignores.
func (w *warden) firstActions(t *tracee.Thread) *actions {
	a := new(actions)
	for p, theirs := range w.actions {
		if p.No == t.Proc.Parent {
			*a = *theirs
		}
	}
	return a
}

// Delivers opens the stack that the kernel writes a signal's frame to, and all memory
// before a core is written.
func (w *warden) Delivers(t *tracee.Thread, sig *tracee.Signal) {
	m, on := w.on(t)
	if !on {
		return
	}
	p := &m.trace
	if sig.Fatal {
		w.end(m, t, "")
		return
	}
	if sig.Regs == nil {
		return
	}
	frame := w.frame(t, spOf(t, sig.Regs), w.actionsOf(t).flags(sig.No)&saOnStack != 0)
	closed := p.Closed(p.Align(frame))
	if closed.Count() == 0 {
		return
	}
	s, err := w.step(m, t, nil)
	if err != nil {
		w.r.lost(t.No, "page references: "+err.Error())
		return
	}
	_ = w.open(m, s, closed)
	for r := range closed.All() {
		for b := range p.Blocks(r) {
			p.Open(b.Start)
			w.ref(m, t, b.Start, 0, format.RefCall)
		}
	}
	w.done(m, t, s)
}

// frameSize is how much the kernel writes to a stack for a signal, with the red zone of
// x86_64 and room for extended states.
const frameSize = 12<<10 + 128

// frame is where the frame of a signal goes.
func (w *warden) frame(t *tracee.Thread, sp addr.Addr, onStack bool) addr.Range {
	alt := threadOf(t).traced.alt
	if onStack && !alt.Empty() && !alt.Contains(sp) {
		sp = alt.End
	}
	return addr.Range{Start: sp - min(sp, frameSize), End: sp}
}

// spOf is the stack pointer among registers in the order of the thread's architecture.
func spOf(t *tracee.Thread, regs []uint64) addr.Addr {
	return addr.Addr(regs[t.Proc.Arch.SP()])
}

// Masked keeps which signals a thread blocks.
func (w *warden) Masked(t *tracee.Thread, mask uint64) {
	threadOf(t).traced.blocked = mask
}

// inherit gives a new thread what it has of its parent's signals.
func (w *warden) inherit(child *tracee.Thread, b tracee.Birth) {
	theirs, its := &threadOf(b.Parent).traced, &threadOf(child).traced
	its.blocked = theirs.blocked
	if !b.Clone.SharesMemory() || b.Clone.Flags&unix.CLONE_VFORK != 0 {
		its.alt = theirs.alt // sigaltstack(2)
	}
}

// Enters opens what the kernel accesses for a call, and holds it until the call is over.
func (w *warden) Enters(t *tracee.Thread, c *tracee.Call) {
	m, on := w.on(t)
	if !on {
		return
	}
	p := &m.trace
	if why := w.endsWith(m, t, c); why != "" {
		w.end(m, t, why)
		return
	}
	threadOf(t).traced.dead = w.dead(m, c)
	w.touch.Read = m.reads(t)
	rs, all := w.rangesOf(m, t, c)
	var closed addr.Set
	copies := w.copies(t, c)
	if all || copies {
		p.missed = p.missed || all || len(m.Threads) > 1
		closed = p.Lift(t)
	} else {
		closed = p.Hold(t, rs...)
	}
	pins := w.pinsOf(t, c)
	for _, pin := range pins {
		closed.AddSet(p.Closed(p.Align(pin)))
		p.Pin(pin.Start, pin.Len())
	}
	if closed.Count() > 0 {
		w.admit(m, t, closed)
	} else if len(m.Threads) == 1 {
		p.Drop(t) // nothing is closed while it is in the call
	}
}

// admit opens what is closed before a call.
func (w *warden) admit(m *memory, t *tracee.Thread, closed addr.Set) {
	p := &m.trace
	s, err := w.step(m, t, nil)
	if err != nil {
		w.r.lost(t.No, "page references: "+err.Error())
		return
	}
	if code := s.Instruction(); !code.Empty() { // the call is made once more
		closed.AddSet(p.Hold(t, code))
	}
	if p.Churns() && !m.moving() {
		w.flush(m, t, s)
	}
	if err := w.open(m, s, closed); err != nil && !errors.Is(err, tracee.ErrPreempted) {
		w.r.lost(t.No, "page references: "+err.Error())
	}
	w.done(m, t, s)
}

// Returns records what a call has accessed, and lets the kernel join what it has mapped
// with what lies beside it.
func (w *warden) Returns(t *tracee.Thread, c *tracee.Call) {
	m := memoryOf(t)
	if m.trace.state != pagesOn {
		return
	}
	p, th := &m.trace, &threadOf(t).traced
	p.account(t, w.r.group.Now())
	w.moveGate(m, c)
	w.learn(t, c)
	if w.special(c) {
		th.linger = p.Holds(t) || p.Lifted(t) // its signal mask is not the thread's
		return
	}
	w.touch.Read = m.reads(t)
	w.release(m, t, c)
	effect := space.EffectOf(c.Arch, c.Nr)
	if !effect.Maps() {
		return
	}
	beside, gone := w.changed(m, c, effect)
	for _, r := range gone {
		for v := range m.Mappings().Overlapping(r) {
			if v.Prot&addr.Exec != 0 {
				clear(p.code)
			}
		}
	}
	for _, r := range gone { // first: blocks beside may reach into it, and its protection is another by now
		p.Forget(r)
		p.refused.Remove(r)
	}
	if closed := p.Hold(t, beside...); closed.Count() > 0 {
		if s, err := w.step(m, t, nil); err == nil {
			_ = w.open(m, s, closed)
			w.done(m, t, s)
		}
	}
}

// release ends what the call of a thread holds, and records what the call has accessed; nil
// is a call of which that is not known.
func (w *warden) release(m *memory, t *tracee.Thread, c *tracee.Call) {
	p, th := &m.trace, &threadOf(t).traced
	th.linger = false
	if c != nil {
		w.closes(t, c)
	}
	if p.Lifted(t) {
		if c != nil {
			w.stays(t, c)
		}
		closed := p.Unlift(t)
		if c == nil {
			p.late.AddSet(closed)
		} else {
			th.closing.AddSet(closed)
		}
	}
	if !p.Holds(t) {
		return
	}
	var touched []addr.Range
	if c != nil {
		for _, x := range w.touch.Touched(&c.Call) {
			touched = append(touched, x.Range)
		}
		touched = append(touched, w.framesOf(m, t, c)...)
	}
	first, closed := p.Release(t, touched)
	for _, a := range first {
		w.ref(m, t, a, 0, format.RefCall)
	}
	if c == nil {
		p.late.AddSet(closed)
	} else {
		th.closing.AddSet(closed)
	}
}

// Returned closes what the call held and has not accessed, and what is new.
func (w *warden) Returned(t *tracee.Thread, c *tracee.Call) {
	defer memoryOf(t).turnDone(t) // nobody maps anything while memory is closed
	m, on := w.on(t)
	if !on {
		return
	}
	p, th := &m.trace, &threadOf(t).traced
	closing := th.closing
	th.closing = addr.Set{}
	effect := space.EffectOf(c.Arch, c.Nr)
	if effect.Maps() {
		_, closed := p.Release(t, nil)
		closing.AddSet(closed)
		fresh := w.adopt(m, w.unused(m, t, c))
		for r := range fresh.All() {
			closing.AddSet(p.Closed(r))
		}
	}
	if (effect == space.EffRing || callName(c) == "io_setup") && c.Failed() == 0 {
		w.end(m, t, "the kernel accesses it for a ring of the program")
		return
	}
	closing.AddSet(p.late)
	p.late = addr.Set{}
	if closing.Count() == 0 && len(p.rooted) == 0 {
		return
	}
	if w.special(c) || m.moving() {
		p.late, p.rooted = closing, p.rooted[:0]
		return
	}
	s, err := w.step(m, t, nil)
	if err != nil {
		p.late, p.rooted = closing, p.rooted[:0]
		return
	}
	w.giveBack(m, s)
	w.closeClosed(m, t, s, closing)
	w.done(m, t, s)
}

// leaves is for a thread that leaves an address space in the middle of a call: by an exec,
// or for ever.
func (w *warden) leaves(m *memory, t *tracee.Thread) {
	p := &m.trace
	if p.state != pagesOn {
		return
	}
	p.late.AddSet(p.Unlift(t))
	_, closed := p.Release(t, nil)
	p.late.AddSet(closed)
}

// Yields ends the page trace of an address space one of whose threads has a tracer among the
// programs: that one would be told of our faults.
func (w *warden) Yields(t *tracee.Thread) (called bool) {
	m, th := memoryOf(t), &threadOf(t).traced
	if m.trace.state != pagesOn || th.linger || t.Call() != nil && changesMask(callName(t.Call())) {
		return false // or a call has other signals blocked than the thread: at its next stop
	}
	w.end(m, t, tracedByOther(t))
	return true
}

// tracedByOther is why the page trace of a process ends that another traces.
func tracedByOther(t *tracee.Thread) string {
	return fmt.Sprintf("process %d is traced by another program (ptrace)", t.Proc.PID)
}

// Frees opens everything, for ever.
func (w *warden) Frees(t *tracee.Thread) {
	if m := memoryOf(t); m.trace.state == pagesOn {
		w.end(m, t, "")
	}
}
