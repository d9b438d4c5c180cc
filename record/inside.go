//go:build linux

// This file records calls inside the programs that make them: it says which threads do
// that and for how long, and makes events of what they have recorded.

package record

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// InProcess says which programs record their calls themselves.
type InProcess uint8

// The choices.
const (
	InProcessOff    InProcess = iota
	InProcessAuto             // where it pays
	InProcessAlways           // wherever it can be done
)

var inProcessNames = [...]string{InProcessOff: "off", InProcessAuto: "auto", InProcessAlways: "always"}

func (i InProcess) String() string { return inProcessNames[i] }

// ParseInProcess reads off, auto or always. Its error says that the word is another.
func ParseInProcess(s string) (InProcess, error) {
	for i, word := range inProcessNames {
		if s == word {
			return InProcess(i), nil
		}
	}
	return InProcessOff, fmt.Errorf("%q is not off, auto or always", s)
}

// inside is what a recorder knows of the programs that record their calls. nil: none does.
type inside struct {
	r       *Recorder
	mode    InProcess
	table   *inproc.Table
	image   []byte
	clock   *inproc.Clock
	robust  *inproc.Robust // nil: no slot has been made, or programs die with the recorder
	procs   map[*tracee.Process]*insideProcess
	slots   map[*tracee.Thread]*insideSlot // of threads that have recorded calls
	ready   []*insideSlot                  // scratch
	busy    bool                           // draining
	ticking bool
	idle    int    // ticks since records have been found
	brisk   bool   // many have been found since the last tick
	calls   uint64 // recorded inside
}

// insideSpace is our code in an address space.
type insideSpace struct {
	m     *memory
	code  inproc.Code
	sites *sites
	slots []*insideSlot // that are mapped; nil: shared with the process that it was copied from
}

// insideSlot is what a thread shares with the recorder.
type insideSlot struct {
	*inproc.Slot
	space  *insideSpace
	shared []byte         // as it is mapped here
	thread *tracee.Thread // nil for none
	proc   *insideProcess // of thread
	stack  addr.Range     // the mapping that its stack pointer was in last
	stop   bool           // it is to stop at its next call
	record inproc.Record
	// The last call that was sent into the code, and how much had been recorded then.
	sent     addr.Addr
	sentWith uint64
	before   func([]byte, addr.Addr) int
	after    func([]byte, addr.Addr) int
}

// insideProcess is what is known of a process.
type insideProcess struct {
	stays   bool            // refused is so for the next program too
	refused string          // why it is not to record its calls, "" if it may
	noted   map[string]bool // why it could not, for some time
	known   bool            // the following are
	ignores uint64          // signals
	catches uint64
	handles bool   // SIGSYS has our handler
	own     bool   // the program sets the action of SIGSYS itself
	young   int    // calls that it has still to make by stops: a copy of a process often ends soon
	seen    uint64 // calls
	history uint64 // the last 64 of them: 1 is recorded inside
}

// newInside makes an inside for a recording that can have one, else nil.
func newInside(r *Recorder) *inside {
	if !r.opts.inside() {
		return nil
	}
	return &inside{r: r, mode: r.opts.InProcess, procs: map[*tracee.Process]*insideProcess{}, slots: map[*tracee.Thread]*insideSlot{}}
}

// prepare makes what all programs share, when the group is there.
func (in *inside) prepare(o *tracee.Options) {
	k := o.Collector()
	in.table = inproc.NewTable(&k, in.choice)
	in.image = inproc.Image(in.table)
	in.clock = inproc.NewClock(in.r.group.Now)
}

// processOf is what is known of the process of a thread.
func (in *inside) processOf(t *tracee.Thread) *insideProcess {
	p := in.procs[t.Proc]
	if p == nil {
		p = &insideProcess{}
		in.procs[t.Proc] = p
	}
	return p
}

// forked has a child know what its parent does.
func (in *inside) forked(child, parent *tracee.Thread) {
	if in == nil {
		return
	}
	if child.Proc != parent.Proc {
		p := *in.processOf(parent)
		p.young, p.noted = youngCalls, nil
		in.procs[child.Proc] = &p
	}
	if m := memoryOf(child); m != memoryOf(parent) && memoryOf(parent).inside != nil {
		of := memoryOf(parent).inside
		m.inside = &insideSpace{m: m, code: of.code, sites: of.sites.fork(), slots: make([]*insideSlot, len(of.slots))}
	}
}

// executed has a process that executes another program begin anew, unless what forbids it
// to record its calls stays.
func (in *inside) executed(t *tracee.Thread) {
	if in == nil {
		return
	}
	if p := in.processOf(t); p.stays {
		p.known, p.handles, p.own = false, false, false
	} else {
		delete(in.procs, t.Proc)
	}
}

// removed takes a thread out that has ended.
func (in *inside) removed(t *tracee.Thread) {
	if in == nil {
		return
	}
	in.Drain()
	if th := threadOf(t); th.apart {
		th.apart = false
		memoryOf(t).outside--
	}
	in.free(t)
}

// free has the slot of a thread be used by another.
func (in *inside) free(t *tracee.Thread) {
	if s := in.slots[t]; s != nil {
		s.thread, s.proc = nil, nil
		delete(in.slots, t)
	}
}

// ended forgets a process.
func (in *inside) ended(p *tracee.Process) {
	if in != nil {
		delete(in.procs, p)
	}
}

// Enters is tracee.Inside's.
func (in *inside) Enters(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64, mask uint64) (w tracee.Way, ok bool) {
	m := memoryOf(t)
	p := in.processOf(t)
	if p.refused != "" || p.young > 0 || threadOf(t).resumes || !in.pays(p) || m.outside > 0 || m.track.stage != trackIdle || m.fs == nil {
		return w, false
	}
	if t.Proc.Arch != arch.X86_64 {
		in.refuse(t, "it is no x86_64 program")
		return w, false
	}
	why := in.hinders(m, t)
	if why == "" {
		why = p.signals(in.r.kernel, t.TID, mask)
	}
	if why != "" {
		in.hindered(t, why)
		return w, false
	}
	if regs[arch.GSBase] != 0 {
		in.refuse(t, "it uses the gs base itself")
		return w, false
	}
	if why := in.install(m, t, regs); why != "" {
		in.refuse(t, why)
		return w, false
	}
	s := in.slots[t]
	if s == nil { // another time
		if m.inside.full() {
			in.hindered(t, "all slots for threads are taken")
		}
		return w, false
	}
	s.stop, s.sent = false, 0
	s.Leave(false)
	s.Masked(mask&inproc.Watched != 0)
	in.tick()
	return tracee.Way{GS: s.Base(), Selector: s.Selector(), Allowed: s.space.code.Allowed()}, true
}

// insideTick is how often records are looked for at least. Where so many looks have found
// none, they come half as often, and at last 16 times less: a program that sleeps costs
// little. Where many have been found, the next look comes soon: a thread whose ring is full
// waits for it.
const (
	insideTick = 5 * time.Millisecond
	briskTick  = time.Millisecond
	idleTicks  = 20
	mostIdle   = 4
)

// tick has records looked for as long as a thread makes some.
func (in *inside) tick() {
	if in.ticking {
		return
	}
	in.ticking = true
	wait := insideTick << min(in.idle/idleTicks, mostIdle)
	if in.brisk {
		wait = briskTick
	}
	in.brisk = false
	in.r.group.After(wait, func() { // they have been looked for
		in.ticking = false
		in.idle++
		for t := range in.slots {
			if t.Recording() {
				if now := in.r.group.Now(); now-t.Resumed() > uint64(insideTick) {
					in.r.group.Unpin(t)
				}
				in.tick()
			}
		}
	})
}

// Drain is tracee.Inside's.
func (in *inside) Drain() {
	if in.busy || len(in.slots) == 0 {
		return
	}
	in.busy = true
	in.ready = in.ready[:0]
	for _, s := range in.slots {
		if s.Waiting() {
			in.ready = append(in.ready, s)
			in.brisk = in.brisk || s.Filling()
		}
	}
	if len(in.ready) > 0 {
		in.idle = 0
		in.clock.Look()
		in.drain()
	}
	in.busy = false
}

// reapEach is after how many records those threads are noted that have stopped: if the
// recorder died, a signal at which they stand would be theirs until then.
const reapEach = 64

// Behind is tracee.Inside's.
func (in *inside) Behind() bool {
	for _, s := range in.slots {
		if s.Full() {
			return true
		}
	}
	return false
}

// drain tells of the records of those that are ready, in the order of their ends. Records
// of calls that have ended after the last look at the clock are left for another time: what
// came before them may have been written to a ring that was looked at before.
func (in *inside) drain() {
	for _, s := range in.ready {
		in.take(s)
	}
	ready := in.ready[:0]
	for _, s := range in.ready {
		if in.next(s) {
			ready = append(ready, s)
		}
	}
	for len(ready) > 0 {
		first := 0
		for i, s := range ready {
			if s.record.End < ready[first].record.End {
				first = i
			}
		}
		s := ready[first]
		if in.tell(s); in.calls%reapEach == 0 {
			in.r.group.Reap()
		}
		if !in.next(s) {
			ready[first] = ready[len(ready)-1]
			ready = ready[:len(ready)-1]
		}
	}
}

// take takes the records of a thread out of its ring.
func (in *inside) take(s *insideSlot) {
	if err := s.Take(); err != nil {
		in.refuse(s.thread, err.Error())
	}
}

// next reads the next record of a thread.
func (in *inside) next(s *insideSlot) bool {
	ok, err := s.Next(&s.record)
	if err != nil {
		in.refuse(s.thread, err.Error())
	}
	if ok && s.record.End > in.clock.Last() {
		s.Unread()
		return false
	}
	return ok
}

// tell makes an event of a record.
func (in *inside) tell(s *insideSlot) {
	in.calls++
	if in.r.group.Over() {
		return
	}
	t, p := s.thread, s.proc
	p.seen++
	p.history = p.history<<1 | 1
	like := in.call(s)
	like.Ret, like.Returned, like.Leave = s.record.Ret, true, in.clock.Time(s.record.End)
	s.grow(addr.Addr(s.record.SP))
	in.r.Returned(t, in.r.group.Recorded(t, &like, s.before, s.after, s.record.Name()))
}

// grow looks at the stack of a thread that has made a call with a stack pointer below it.
func (s *insideSlot) grow(sp addr.Addr) {
	if s.stack.Contains(sp) {
		return
	}
	m := s.space.m
	v, there := m.Mappings().Find(sp)
	if !there {
		m.table.Grow(m)
		v, _ = m.Mappings().Find(sp)
	}
	s.stack = v.Range
}

// call is a call as far as a record has it at its beginning.
func (in *inside) call(s *insideSlot) (c tracee.Call) {
	x := &s.record
	c.Arch, c.Nr, c.Args, c.SP = arch.X86_64, x.Nr, x.Args, x.SP
	c.Enter, c.IP = in.clock.Time(x.Begin), uint64(s.space.sites.program(x.Return))
	c.Inside = true
	return c
}

// Dispatched is tracee.Inside's.
func (in *inside) Dispatched(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (on bool) {
	s := in.slots[t]
	ip := addr.Addr(regs[arch.RIP])
	nr, arg0, arg1 := regs[arch.RAX], regs[arch.RDI], regs[arch.RSI]
	made, args, ret, trapped := s.space.code.Trapped(s.Slot, ip)
	if trapped {
		nr, arg0, arg1 = made, args[0], args[1]
	}
	records := !s.stop && in.table.Records(nr, arg0, arg1)
	switch {
	case !trapped && s.space.code.Range().Contains(ip):
		return false
	case !trapped && nr != rtSigreturn && s.space.sites.stopped(ip):
		return false // it is patched when the call is over
	case !records:
		return false
	}
	if trapped {
		ip = ret
	}
	if s.sent == ip && s.sentWith == s.Written() {
		return false // the code has sent it back
	}
	if s.Full() {
		in.r.group.Unpin(t) // it is to run beside us
	}
	if trapped {
		s.space.code.Recover(s.Slot, regs)
	}
	in.take(s) // and told of when the thread runs again
	s.sent, s.sentWith = ip, s.Written()
	regs[arch.RCX], regs[arch.RIP], regs[arch.OrigRAX] = uint64(ip), uint64(s.space.code.Base), ^uint64(0)
	return true
}

// Leaves is tracee.Inside's.
func (in *inside) Leaves(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64, how tracee.Leave) (c *tracee.Call, returned bool) {
	s := in.slots[t]
	defer func() {
		s.stop = false
		s.Forget()
	}()
	inCall := s.InCall()
	begun := s.Begun(&s.record)
	place := inproc.Elsewhere
	if regs != nil {
		place = s.space.code.Recover(s.Slot, regs)
		defer s.space.m.settle(regs)
	}
	switch {
	case place == inproc.Elsewhere && how == tracee.LeaveDispatched:
		regs[arch.RIP] -= 2
		regs[arch.OrigRAX] = ^uint64(0)
	case begun && (how == tracee.LeaveEnded || how == tracee.LeaveDying) && inCall:
		like := in.call(s)
		return in.r.group.Recorded(t, &like, s.before, s.after, nil), false
	case begun && place == inproc.Returned:
		in.calls++
		like := in.call(s)
		return in.r.group.Recorded(t, &like, s.before, s.after, nil), true
	}
	return nil, false
}

// Stop is tracee.Inside's.
func (in *inside) Stop(t *tracee.Thread) {
	s := in.slots[t]
	s.stop = true
	s.Leave(true)
}

// InCall is tracee.Inside's.
func (in *inside) InCall(t *tracee.Thread) *tracee.Call {
	s := in.slots[t]
	if !s.InCall() || !s.Begun(&s.record) {
		return nil
	}
	in.clock.Look()
	like := in.call(s)
	return in.r.group.Recorded(t, &like, s.before, s.after, nil)
}

// Frees is tracee.Inside's.
func (in *inside) Frees(t *tracee.Thread) {
	if m := memoryOf(t); m.inside != nil {
		m.unpatch(addr.Range{End: space.UserEnd})
	}
}

// Stands is tracee.Inside's.
func (in *inside) Stands(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (changed bool) {
	m := memoryOf(t)
	if m.inside == nil {
		return false
	}
	changed = m.inside.code.Recover(nil, regs) != inproc.Elsewhere
	return m.settle(regs) || changed
}

// Site is tracee.Inside's.
func (in *inside) Site(t *tracee.Thread, ip uint64) uint64 {
	if m := memoryOf(t); m.inside != nil {
		return uint64(m.inside.sites.program(addr.Addr(ip)))
	}
	return ip
}

// Past is tracee.Inside's.
func (in *inside) Past(t *tracee.Thread, ip uint64) (to uint64, ok bool) {
	m := memoryOf(t)
	if m.inside == nil {
		return 0, false
	}
	p := m.inside.sites.patched[addr.Addr(ip)-2]
	if p == nil || !p.Inside(addr.Addr(ip)) {
		return 0, false
	}
	return uint64(p.Return()), true
}

// Broken is tracee.Inside's.
func (in *inside) Broken(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) bool {
	m := memoryOf(t)
	if m.inside == nil {
		return false
	}
	const past = 3 // the breakpoint is the third byte of the patch
	p := m.inside.sites.patched[addr.Addr(regs[arch.RIP])-past]
	if p == nil || !p.Inside(addr.Addr(regs[arch.RIP])) {
		return false
	}
	regs[arch.RIP] = uint64(p.On())
	return true
}

// entered takes patches away that a call is about to see, and has other threads leave the
// code before what they could not bear there.
func (in *inside) entered(t *tracee.Thread, c *tracee.Call) {
	if in == nil {
		return
	}
	m := memoryOf(t)
	row, _ := c.Arch.Syscall(c.Nr)
	if len(m.Threads) > 1 {
		in.part(t, c, row.Name)
	}
	if row.Name == "rt_sigaction" && c.Args[0] == uint64(unix.SIGSYS) {
		in.unhandle(m, t)
	}
	if m.inside == nil {
		return
	}
	switch row.Name {
	case "munmap", "mprotect", "pkey_mprotect", "madvise", "mremap", "mmap":
		r := addr.Reach(addr.Addr(c.Args[0]), c.Args[1])
		own := m.ours(r) && (row.Name != "mmap" || c.Args[3]&unix.MAP_FIXED != 0)
		if own {
			r = addr.Range{End: space.UserEnd}
		}
		m.unpatchHeld(r)
		if own {
			in.r.group.Outside(m.Space)
			in.refuse(t, "it has changed the mappings of the code")
		}
	}
}

// part has all threads of a process but one be recorded by stops, if that makes a call which
// changes what the others rely on.
func (in *inside) part(t *tracee.Thread, c *tracee.Call, name string) {
	switch name {
	case "rt_sigaction":
		if c.Args[1] != 0 && c.Args[0] <= 64 && inproc.Watched>>(c.Args[0]-1)&1 != 0 {
			in.apart(t)
		}
	case "prctl":
		if c.Args[0] == prSetSeccomp {
			in.apart(t)
		}
	case "seccomp", "chroot", "pivot_root", "setns", "unshare", "mount", "umount2", "move_mount", "userfaultfd", "io_uring_setup", "ptrace":
		in.apart(t)
	}
}

// apart has all threads of a process be recorded by stops while a call is made that changes
// what the others rely on.
func (in *inside) apart(t *tracee.Thread) {
	if th := threadOf(t); !th.apart {
		th.apart = true
		memoryOf(t).outside++
	}
	in.r.group.Outside(t.Space)
}

// settle sees to it that what other threads have read or written in calls that are over is in
// the log before a change of the mappings that has just been made.
func (in *inside) settle(m *memory) {
	if in == nil || m.inside == nil || len(m.Threads) < 2 {
		return
	}
	for begin := time.Now(); in.writing(m); time.Sleep(settleSleep) {
		if time.Since(begin) > settleMost {
			in.r.group.Outside(m.Space)
			break
		}
	}
	in.Drain()
}

// How long settle waits for records, and how long it sleeps between two looks.
const (
	settleMost  = 500 * time.Microsecond
	settleSleep = 10 * time.Microsecond
)

// writing reports whether a thread is about to finish the record of a call that has
// returned.
func (in *inside) writing(m *memory) bool {
	for _, s := range m.inside.slots {
		if s != nil && s.thread != nil && s.thread.Recording() && s.Writing() {
			return true
		}
	}
	return false
}

// holdOutside has the threads of an address space be recorded by stops, until release, so
// that its memory can be read: what calls write is in the log before the next thing that
// the program does.
func (m *memory) holdOutside() (release func()) {
	m.outside++
	m.group.Outside(m.Space)
	return func() { m.outside-- }
}
