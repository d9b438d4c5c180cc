//go:build linux

// This file records page writes: engine wp. What finds them is in record/dirty.

package record

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

// pageWrites records the page writes of all address spaces. nil records none.
type pageWrites struct {
	r      *Recorder
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

// writeTrace are the page writes of one address space.
type writeTrace struct {
	*dirty.Writes
	w       *pageWrites
	m       *memory
	faults  writeFaults
	threads map[uint32]*tracee.Thread // by tid, also those that have ended in this phase
	step    uint64                    // pages that are opened between two looks
	clock   programClock
	kinds   map[addr.Addr]refs.Access // of instructions, in this phase
	wide    bool                      // they are those of x86_64
	begun   uint64                    // when the phase began
	refs    uint64                    // in it
}

// writeFaults are the page faults of an address space; *procfs.FaultLog is one.
type writeFaults interface {
	dirty.FaultLog
	Watch(tid int) error
	Kernel() bool
	Descriptors() []int
	Close()
}

// programClock tells the time that a program has had, ns: that in stops is not its own,
// nor that which faults take which it would not have alone.
type programClock struct {
	zero      uint64 // CLOCK_MONOTONIC at time 0
	lost      uint64
	accounted uint64 // until when lost is known
	last      uint64
}

// resumed notes that a thread stands that was let go at a time, and that nothing has been
// noted since accounted.
func (c *programClock) resumed(at, now uint64) {
	if at > c.accounted {
		c.lost += at - c.accounted
	}
	c.accounted = now
}

// of is the program's time at a time; it does not go back.
func (c *programClock) of(t uint64) uint64 {
	if from := c.zero + c.lost; t > from {
		c.last = max(c.last, t-from)
	}
	return c.last
}

const (
	firstWrites = 4096 // the pool to begin with, and the least that is chosen for a program
	// writeCost is what a recorded write costs the program, ns.
	writeCost = 2000
)

func newPageWrites(r *Recorder, p PageTrace) *pageWrites {
	w := &pageWrites{r: r, pool: p.Pool, traces: map[*writeTrace]struct{}{}}
	w.before.Add(arch.ChangesMM)
	w.waiter.ask = func(f func()) error { return r.group.AskNow(f) }
	go func() { _ = procfs.PrepareFaults() }()
	return w
}

// want has the writes of an address space found as soon as a thread stands at the end of
// a call.
func (w *pageWrites) want(m *memory) {
	if w == nil {
		return
	}
	w.r.wantTracking(m)
	if m.track.stage == trackWanted {
		m.track.stage = trackOverdue
	}
}

// attach begins to find the writes of a running program, which may make no call.
func (w *pageWrites) attach(m *memory) {
	if w == nil {
		return
	}
	_ = w.r.Ask(func() {
		if m.alive() && m.track.stage != trackIdle {
			w.r.trackAtTick(m)
		}
	})
}

// found begins to record the writes of an address space, if they are found as we need it.
// t is a thread of it; the others are held.
func (w *pageWrites) found(m *memory, t *tracee.Thread) {
	if w == nil || m.writes != nil {
		return
	}
	u, ok := m.finder.(*dirty.Uffd)
	if !ok {
		w.refuse(m, t, m.whyUntracked())
		return
	}
	pool := w.pool
	if pool == 0 {
		pool = firstWrites
	}
	faults, err := w.r.kernel.watchWrites(m.tids(), pool/4)
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
	now := w.r.group.Now()
	x.clock = programClock{zero: procfs.Monotonic() - now}
	x.begun = procfs.Monotonic()
	x.clock.accounted = x.begun
	x.Writes = dirty.NewWrites(u, faults, x, x, procfs.Monotonic)
	x.Pool, x.Keep = pool, w.r.opts.Snapshot.any()
	if err := x.Begin(); err != nil {
		faults.Close()
		w.refuse(m, t, err.Error())
		return
	}
	if !faults.Kernel() {
		w.refuse(m, t, "")
	}
	m.writes = x
	w.traces[x] = struct{}{}
	w.waiter.add(faults.Descriptors(), w.woken)
}

// whyUntracked says why the writes of an address space are not found as a trace needs it.
func (m *memory) whyUntracked() string {
	switch {
	case m.ownUffd:
		return "the program has a userfaultfd of its own"
	case m.track.never:
		return "the kernel writes to it on its own, for an io_uring or aio"
	case !m.kernel.hasUffd():
		return "the kernel has no UFFD_FEATURE_WP_ASYNC (Linux 6.7)"
	}
	return errNoUffd.Error()
}

// refuse says, behind the event at hand, that writes of an address space are not recorded,
// and why; without a reason that those are not which the kernel makes for calls.
func (w *pageWrites) refuse(m *memory, t *tracee.Thread, why string) {
	if why == "" {
		const what = "page writes that the kernel makes by itself are not recorded, and those for calls as far as it is known where they write (kernel.perf_event_paranoid is above 1)"
		w.r.warn(what)
		w.notes = append(w.notes, note{t.No, fmt.Sprintf("address space %d: %s", m.table.MM(), what)})
		return
	}
	w.r.warn("the page writes of process %d are not recorded, from here on: %s", t.Proc.PID, why)
	w.notes = append(w.notes, note{t.No, fmt.Sprintf("the page writes of address space %d are not recorded, from here on: %s", m.table.MM(), why)})
}

// tell writes the notes that wait.
func (w *pageWrites) tell() {
	if w == nil {
		return
	}
	for len(w.notes) > 0 {
		n := w.notes[0]
		w.notes = w.notes[1:]
		w.r.lost(n.thread, n.what)
	}
}

// look records what all programs have written until now.
func (w *pageWrites) look() {
	if w == nil {
		return
	}
	for x := range w.traces {
		x.look()
	}
}

// woken is called on the tracing thread when a program has written much.
func (w *pageWrites) woken() {
	for x := range w.traces {
		before := x.Open()
		x.Look()
		if n := x.Open(); n > before {
			x.step = (x.step + n - before) / 2
		}
		x.turn()
	}
}

// entered looks at what a thread has written before a call that may take pages away.
func (w *pageWrites) entered(t *tracee.Thread, c *tracee.Call) {
	if w == nil {
		return
	}
	if x := memoryOf(t).writes; x != nil {
		x.stands(t)
		if w.before.Has(c.Arch, c.Nr) {
			x.look()
		}
	}
}

// returned looks, where the kernel's faults are not told, at what it may have written for a
// call that is over.
func (w *pageWrites) returned(t *tracee.Thread, c *tracee.Call) {
	if w == nil {
		return
	}
	m := memoryOf(t)
	x := m.writes
	if x == nil {
		return
	}
	x.stands(t)
	if x.faults.Kernel() {
		return
	}
	w.touch.Read = m.reads(t)
	for _, at := range w.touch.Touched(&c.Call) {
		if at.Out && !at.Empty() {
			x.Called(uint32(t.TID), addr.Addr(c.IP), x.clock.zero+c.Leave, at.Range)
		}
	}
}

// stopped notes that a thread stands at a stop that is being served.
func (w *pageWrites) stopped(t *tracee.Thread) {
	if w == nil {
		return
	}
	if x := memoryOf(t).writes; x != nil {
		x.stands(t)
	}
}

// joined makes a thread known that others of its address space do not inherit their
// watch to, or that they do.
func (w *pageWrites) joined(t *tracee.Thread, inherits bool) {
	if w == nil {
		return
	}
	x := memoryOf(t).writes
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

// ending ends the trace of an address space whose last thread is about to end.
func (w *pageWrites) ending(m *memory) {
	if w == nil || m.writes == nil {
		return
	}
	for t := range m.Threads {
		if !t.Over() {
			return
		}
	}
	m.writes.end()
}

// end ends a trace.
func (x *writeTrace) end() {
	if x.m.writes != x {
		return
	}
	x.m.writes = nil
	delete(x.w.traces, x)
	x.End()
	x.faults.Close()
}

// stop ends a trace because writes are not found any longer as it needs it.
func (x *writeTrace) stop() {
	x.end()
	if t := x.m.Any(); t != nil {
		x.w.refuse(x.m, t, x.m.whyUntracked())
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
	x.clock.resumed(zero+t.Resumed(), zero+x.w.r.group.Now())
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
		n, _ := x.m.fs.ReadMem(code[:], ip)
		a = refs.AccessOf(code[:n], x.wide)
		x.kinds[ip] = a
	}
	return a == refs.Reads, a == refs.Writes
}

// Grow is that of dirty.Traced.
func (x *writeTrace) Grow() { x.m.table.Grow(x.m) }

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
	r.Thread, r.MM, r.Time = 0, x.m.table.MM(), x.clock.of(r.Time)
	if t != nil {
		r.Thread = t.No
	}
	x.w.r.log.ref(&r)
	x.clock.lost += uint64(faultCost)
	x.refs++
}

// Turned writes a phase.
func (x *writeTrace) Turned(p *format.Phase) {
	now := p.Time
	p.MM, p.Time = x.m.table.MM(), x.clock.of(now)
	if p.Pool != 0 {
		x.adapt(now)
		p.Pool = x.Pool
	}
	x.w.r.log.phase(p)
	clear(x.kinds) // they may be others by now
	for tid, t := range x.threads {
		if t.State() == tracee.Ended {
			delete(x.threads, tid)
		}
	}
}

// Gone forgets what was mapped in a range.
func (x *writeTrace) gone(at addr.Range) {
	if x != nil {
		x.Gone(at)
	}
}

// mapped protects what is there already of a place whose writes are found from now on.
func (x *writeTrace) mapped(at addr.Range) {
	if x != nil {
		x.Mapped(at)
	}
}

// close ends the waiting for faults; the traces have ended.
func (w *pageWrites) close() {
	if w != nil {
		w.waiter.close()
	}
}
