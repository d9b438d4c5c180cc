//go:build linux

// This file records page writes: engine wp. What finds them is in record/dirty.

package pagetrace

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// WritesHost is the recorder of a Writes.
type WritesHost interface {
	// Writes is the address space of a thread.
	Writes(t *tracee.Thread) *WriteSpace
	// Lost writes that something is not known, of thread number no or of none, and Warn tells
	// the user.
	Lost(no uint32, what string)
	Warn(text string, args ...any)
	// Watch watches the page faults of threads; see procfs.LogFaults.
	Watch(tids []int, wake uint64) (Faults, error)
}

// WriteMemory is an address space as the recorder has it.
type WriteMemory interface {
	Memory
	// Untracked says why its writes are not found as a trace of them needs it.
	Untracked() string
}

// WriteSpace is an address space whose page writes may be recorded.
type WriteSpace struct {
	*tracee.Space
	WriteMemory
	trace *writeTrace // nil for none
}

// NewWriteSpace makes one whose page writes are not recorded yet.
func NewWriteSpace(s *tracee.Space, m WriteMemory) WriteSpace {
	return WriteSpace{Space: s, WriteMemory: m}
}

// Mapped protects what is there already of a place whose writes are found from now on.
func (m *WriteSpace) Mapped(at addr.Range) {
	if m.trace != nil {
		m.trace.Mapped(at)
	}
}

// Gone forgets what was mapped in a range.
func (m *WriteSpace) Gone(at addr.Range) {
	if m.trace != nil {
		m.trace.Gone(at)
	}
}

// End ends the trace of an address space, if there is one.
func (m *WriteSpace) End() {
	if m.trace != nil {
		m.trace.end()
	}
}

// Stop ends it because writes are not found any longer as it needs it.
func (m *WriteSpace) Stop() {
	if m.trace != nil {
		m.trace.stop()
	}
}

// tids are the threads that have not ended.
func (m *WriteSpace) tids() (tids []int) {
	for t := range m.Threads {
		if !t.Over() {
			tids = append(tids, t.TID)
		}
	}
	return tids
}

// Writes records the page writes of all address spaces. nil records none.
type Writes struct {
	group  *tracee.Group
	log    Log
	host   WritesHost
	keep   bool   // what finds writes is needed by others, too
	pool   uint64 // 0 for one that the program's speed chooses
	before arch.Set
	traces map[*writeTrace]struct{}
	waiter faultWaiter
	touch  call.Toucher
	notes  []note // to be written when an event has been
}

// note is a Lost event that waits.
type note struct {
	thread uint32
	what   string
}

const (
	firstWrites = 4096 // the pool to begin with, and the least that is chosen for a program
	// writeCost is what a recorded write costs the program, ns.
	writeCost = 2000
)

// NewWrites makes the Writes of a recording. keep says that what has been written is asked for
// by snapshots, too.
func NewWrites(p Ask, keep bool, log Log, host WritesHost) *Writes {
	w := &Writes{pool: p.Pool, keep: keep, log: log, host: host, traces: map[*writeTrace]struct{}{}}
	w.before.Add(arch.ChangesMM)
	w.waiter.ask = func(f func()) error { return w.group.AskNow(f) }
	go func() { _ = procfs.PrepareFaults() }()
	return w
}

// Serve has the Writes of a recording use a group. As all methods do, it does nothing for nil.
func (w *Writes) Serve(g *tracee.Group) {
	if w != nil {
		w.group = g
	}
}

// Found begins to record the writes of an address space, if f finds them as we need it.
// t is a thread of it; the others are held.
func (w *Writes) Found(m *WriteSpace, t *tracee.Thread, f dirty.Finder) {
	if w == nil || m.trace != nil {
		return
	}
	u, ok := f.(*dirty.Uffd)
	if !ok {
		w.refuse(m, t, m.Untracked())
		return
	}
	pool := w.pool
	if pool == 0 {
		pool = firstWrites
	}
	faults, err := w.host.Watch(m.tids(), pool/4)
	if err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (kernel.perf_event_paranoid may be 2 at most)", err)
		}
		w.refuse(m, t, err.Error())
		return
	}
	x := &writeTrace{w: w, m: m, faults: faults, threads: map[uint32]*tracee.Thread{}, kinds: map[addr.Addr]refs.Access{}, wide: t.Proc.Arch == arch.X86_64}
	for o := range m.Threads {
		x.threads[uint32(o.TID)] = o
	}
	now := w.group.Now()
	x.clock = programClock{zero: procfs.Monotonic() - now}
	x.begun = procfs.Monotonic()
	x.clock.accounted = x.begun
	x.Writes = dirty.NewWrites(u, faults, x, x, procfs.Monotonic)
	x.Pool, x.Keep = pool, w.keep
	if err := x.Begin(); err != nil {
		faults.Close()
		w.refuse(m, t, err.Error())
		return
	}
	if !faults.Kernel() {
		w.refuse(m, t, "")
	}
	m.trace = x
	w.traces[x] = struct{}{}
	w.waiter.add(faults.Descriptors(), w.woken)
}

// refuse says, behind the event at hand, that writes of an address space are not recorded,
// and why; without a reason that those are not which the kernel makes for calls.
func (w *Writes) refuse(m *WriteSpace, t *tracee.Thread, why string) {
	if why == "" {
		const what = "page writes that the kernel makes by itself are not recorded, and those for calls as far as it is known where they write (kernel.perf_event_paranoid is above 1)"
		w.host.Warn(what)
		w.notes = append(w.notes, note{t.No, fmt.Sprintf("address space %d: %s", m.MM(), what)})
		return
	}
	w.host.Warn("the page writes of process %d are not recorded, from here on: %s", t.Proc.PID, why)
	w.notes = append(w.notes, note{t.No, fmt.Sprintf("the page writes of address space %d are not recorded, from here on: %s", m.MM(), why)})
}

// Tell writes the notes that wait.
func (w *Writes) Tell() {
	if w == nil {
		return
	}
	for len(w.notes) > 0 {
		n := w.notes[0]
		w.notes = w.notes[1:]
		w.host.Lost(n.thread, n.what)
	}
}

// Look records what all programs have written until now.
func (w *Writes) Look() {
	if w == nil {
		return
	}
	for x := range w.traces {
		x.look()
	}
}

// woken is called on the tracing thread when a program has written much.
func (w *Writes) woken() {
	for x := range w.traces {
		before := x.Open()
		x.Look()
		if n := x.Open(); n > before {
			x.step = (x.step + n - before) / 2
		}
		x.turn()
	}
}

// Entered looks at what a thread has written before a call that may take pages away.
func (w *Writes) Entered(t *tracee.Thread, c *tracee.Call) {
	if w == nil {
		return
	}
	if x := w.host.Writes(t).trace; x != nil {
		x.stands(t)
		if w.before.Has(c.Arch, c.Nr) {
			x.look()
		}
	}
}

// Returned looks, where the kernel's faults are not told, at what it may have written for a
// call that is over.
func (w *Writes) Returned(t *tracee.Thread, c *tracee.Call) {
	if w == nil {
		return
	}
	x := w.host.Writes(t).trace
	if x == nil {
		return
	}
	x.stands(t)
	if x.faults.Kernel() {
		return
	}
	w.touch.Read = reads(w.group, t)
	for _, at := range w.touch.Touched(&c.Call) {
		if at.Out && !at.Empty() {
			x.Called(uint32(t.TID), addr.Addr(c.IP), x.clock.zero+c.Leave, at.Range)
		}
	}
}

// Stopped notes that a thread stands at a stop that is being served.
func (w *Writes) Stopped(t *tracee.Thread) {
	if w == nil {
		return
	}
	if x := w.host.Writes(t).trace; x != nil {
		x.stands(t)
	}
}

// Joined makes a thread known that others of its address space do not inherit their
// watch to, or that they do.
func (w *Writes) Joined(t *tracee.Thread, inherits bool) {
	if w == nil {
		return
	}
	x := w.host.Writes(t).trace
	if x == nil {
		return
	}
	x.threads[uint32(t.TID)] = t
	if !inherits {
		if err := x.faults.Watch(t.TID); err != nil {
			w.notes = append(w.notes, note{t.No, "its page writes are not recorded: " + err.Error()})
		}
	}
}

// Ending ends the trace of an address space whose last thread is about to end.
func (w *Writes) Ending(m *WriteSpace) {
	if w == nil || m.trace == nil {
		return
	}
	for t := range m.Threads {
		if !t.Over() {
			return
		}
	}
	m.trace.end()
}

// Close ends the waiting for faults; the traces have ended.
func (w *Writes) Close() {
	if w != nil {
		w.waiter.close()
	}
}

// writeTrace are the page writes of one address space.
type writeTrace struct {
	*dirty.Writes
	w       *Writes
	m       *WriteSpace
	faults  Faults
	threads map[uint32]*tracee.Thread // by tid, also those that have ended in this phase
	step    uint64                    // pages that are opened between two looks
	clock   programClock
	kinds   map[addr.Addr]refs.Access // of instructions, in this phase
	wide    bool                      // they are those of x86_64
	begun   uint64                    // when the phase began
	refs    uint64                    // in it
}

// Faults are the page faults of an address space; *procfs.FaultLog is one.
type Faults interface {
	dirty.FaultLog
	Watch(tid int) error
	Kernel() bool
	Descriptors() []int
	Close()
}

// end ends a trace.
func (x *writeTrace) end() {
	if x.m.trace != x {
		return
	}
	x.m.trace = nil
	delete(x.w.traces, x)
	x.End()
	x.faults.Close()
}

// stop ends a trace because writes are not found any longer as it needs it.
func (x *writeTrace) stop() {
	x.end()
	if t := x.m.Any(); t != nil {
		x.w.refuse(x.m, t, x.m.Untracked())
	}
}

func (x *writeTrace) look() {
	x.Look()
	x.turn()
}

// turn begins the next phase if the pool may be full before there is another look.
func (x *writeTrace) turn() {
	if x.Open() == 0 || x.Open()+min(x.step, x.Pool/2) <= x.Pool {
		return
	}
	x.Turn()
}

func (x *writeTrace) stands(t *tracee.Thread) {
	zero := x.clock.zero
	x.clock.resumed(zero+t.Resumed(), zero+x.w.group.Now())
}

// adapt chooses the pool for the phase that begins: tracing is to take as much time as the
// program itself.
func (x *writeTrace) adapt(now uint64) {
	took := now - x.begun
	cost := min(x.refs*writeCost, took)
	switch {
	case x.w.pool != 0 || x.refs < x.Pool/2:
	case cost > took-cost:
		x.Pool = min(2*x.Pool, mostWrites)
	case 4*cost < took-cost:
		x.Pool = max(x.Pool/2, firstWrites)
	}
	x.begun, x.refs = now, 0
}

// Access is that of dirty.Traced.
func (x *writeTrace) Access(ip addr.Addr) (reads, writes bool) {
	a, known := x.kinds[ip]
	if !known {
		var code [refs.MaxInstruction]byte
		n, _ := x.m.Kernel().ReadMem(code[:], ip)
		a = refs.AccessOf(code[:n], x.wide)
		x.kinds[ip] = a
	}
	return a == refs.Reads, a == refs.Writes
}

// Grow is that of dirty.Traced.
func (x *writeTrace) Grow() { x.m.Grow() }

// Stands is that of dirty.Traced.
func (x *writeTrace) Stands(tid uint32) bool {
	t := x.threads[tid]
	return t == nil || t.Stands()
}

// Done is that of dirty.Traced: a thread that is held somewhere in the program may have been
// about to make its access.
func (x *writeTrace) Done(tid uint32) bool {
	t := x.threads[tid]
	return t == nil || t.State() == tracee.Ended || t.Stands() && t.Call() != nil
}

// Mappings is that of dirty.Traced.
func (x *writeTrace) Mappings() *vma.Set { return x.m.Mappings() }

// Wrote writes a reference.
func (x *writeTrace) Wrote(r format.Ref) {
	t := x.threads[r.Thread]
	r.Thread, r.MM, r.Time = 0, x.m.MM(), x.clock.of(r.Time)
	if t != nil {
		r.Thread = t.No
	}
	x.w.log.Ref(&r)
	x.clock.lost += uint64(dirty.FaultCost)
	x.refs++
}

// Turned writes a phase.
func (x *writeTrace) Turned(p *format.Phase) {
	now := p.Time
	p.MM, p.Time = x.m.MM(), x.clock.of(now)
	if p.Pool != 0 {
		x.adapt(now)
		p.Pool = x.Pool
	}
	x.w.log.Phase(p)
	clear(x.kinds) // they may be others by now
	for tid, t := range x.threads {
		if t.State() == tracee.Ended {
			delete(x.threads, tid)
		}
	}
}
