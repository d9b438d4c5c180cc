//go:build linux

// This file has the page trace of an address space by engine prot: what is closed, and
// the calls made in the program that close and open memory.

package record

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// pagesState is how far it has come with the page trace of an address space.
type pagesState uint8

const (
	pagesIdle pagesState = iota // it begins when a thread stands where a call can be made in its name
	pagesOn
	pagesOff // it was refused, or has ended
)

// pageTrace is the page trace of an address space. The zero value has not begun.
type pageTrace struct {
	*refs.Space
	wanted bool
	state  pagesState
	gate   tracee.Gate
	spare  addr.Addr // bytes in the vdso that nobody uses, 0 for none
	code   map[addr.Addr]instruction
	late   addr.Set    // to be closed when a thread stands where it can be done
	rooted []addr.Addr // pages that were written to, and have to be given back
	stack  addr.Addr   // lowest address of the main stack, as far as it is traced

	program   uint64   // time of the program, ns
	accounted uint64   // until when it is
	refused   addr.Set // that the kernel does not close
	passed    bool     // it has been said that some mappings are not traced
	missed    bool     // references of this phase may be missing
	pace      tracePace
}

// errNotOpened is why memory could not be closed or opened.
var errNotOpened = errors.New("a protection could not be set")

// account adds the time that a thread has run to the program's.
func (p *pageTrace) account(t *tracee.Thread, now uint64) {
	if from := max(p.accounted, t.Resumed()); from < now {
		p.ran(now - from)
	}
	p.accounted = now
}

// ran adds to the program's time.
func (p *pageTrace) ran(d uint64) {
	p.program += d
	p.pace.total.ran += d
}

// accountFault is account for a thread that has met closed memory: what the stop has taken
// is not the program's.
func (p *pageTrace) accountFault(t *tracee.Thread, now uint64) {
	ran := p.pace.stopped(now - t.Resumed())
	if from := max(p.accounted, t.Resumed()); from < now {
		p.ran(min(now-from, ran))
	}
	p.accounted = now
}

// step prepares a thread for calls in its name.
func (w *warden) step(m *memory, t *tracee.Thread, f *tracee.Fault) (*tracee.Stepper, error) {
	m.trace.pace.begin(m.trace.accounted)
	return w.r.group.Step(t, m.trace.gate, f)
}

// begin begins the page trace of an address space, if it can be traced and all its threads
// are known. t stands at the stop that is being served.
func (w *warden) begin(m *memory, t *tracee.Thread) {
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
	defer w.r.group.LetGo(m.Space)
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
	p.Space, p.code, p.state = refs.New(granule, pool), map[addr.Addr]instruction{}, pagesOn
	p.pace.total = &w.total
	p.accounted = w.r.group.Now()
	m.readClosed()
	m.table.Grow(m)
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

// hasRing reports whether the kernel accesses the memory at times of its own, for io_uring(7)
// or io_submit(2).
func (m *memory) hasRing() bool { return m.track.never }

// readClosed has the memory around calls read also where it is closed: process_vm_readv
// fails there, /proc/PID/mem does not.
func (m *memory) readClosed() {
	if m.Space.Read == nil {
		m.Space.Read = func(b []byte, a addr.Addr) int {
			if m.fs == nil {
				return 0
			}
			n, _ := m.fs.ReadMem(b, a)
			return n
		}
	}
}

// refuses says why the page references of an address space cannot be recorded, "" where
// they can.
func (w *warden) refuses(m *memory, t *tracee.Thread) string {
	vdso, code := m.vdso()
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
	case m.fs == nil:
		return "its memory cannot be read"
	case m.trace.gate == (tracee.Gate{}):
		return "it has no vdso"
	case w.r.foreignFilter(t.TID):
		return "it has a seccomp filter of its own"
	case m.hasRing():
		return "the kernel accesses it for a ring of the program"
	case m.untracedUsers:
		return "processes that are not traced share it"
	case unix.Prlimit(t.Proc.PID, unix.RLIMIT_DATA, nil, &data) == nil && data.Cur != unix.RLIM_INFINITY:
		return "its data is limited (RLIMIT_DATA)"
	case m.trace.spare == 0:
		return "its vdso has no room"
	}
	return ""
}

// end ends the page trace of an address space: everything is opened, by t.
func (w *warden) end(m *memory, t *tracee.Thread, why string) {
	p := &m.trace
	was := p.state
	p.state = pagesOff
	if was == pagesOn {
		if s, err := w.step(m, t, nil); err == nil {
			w.openAll(m, s)
			w.done(m, t, s)
		}
		w.r.log.phase(&format.Phase{MM: m.table.MM(), Engine: format.EngineProt, Granule: p.Granule(), Time: p.program, Incomplete: true})
		p.Forget(refs.Everything)
		m.table.Refresh(m)
	}
	if why != "" {
		w.r.lost(t.No, fmt.Sprintf("page references of address space %d from here on: %s", m.table.MM(), why))
	}
}

// done puts a thread back in whose name calls were made.
func (w *warden) done(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	if err := s.Done(); err != nil && !errors.Is(err, tracee.ErrPreempted) {
		w.r.lost(t.No, "page references: "+err.Error())
	}
	m.trace.pace.end(w.r.group.Now())
}

// eligible reports whether the references to a mapping can be traced: the program may use
// it, its protection can be set from within, and its pieces become one mapping again. The
// kernel does not join mappings of System V memory (shm_vm_ops has a close, mm/vma.c).
func eligible(v vma.VMA) bool {
	return v.Prot&7 != 0 && refs.Traceable(v) && !procfs.Device(v) && v.Kind != vma.SysV
}

// adopt has all mappings traced that can be and are not yet, and returns what of them is
// to be closed. Nobody uses yet what is in unused.
func (w *warden) adopt(m *memory, unused addr.Range) (fresh addr.Set) {
	p := &m.trace
	for v := range m.Mappings().All() {
		if !eligible(v) {
			w.passOver(m, v)
			continue
		}
		missing := addr.SetOf(v.Range)
		for part := range p.Space.TracedIn(v.Range) {
			missing.Remove(part)
		}
		for u := range p.refused.Within(v.Range) {
			missing.Remove(u)
		}
		if missing.Count() == 0 {
			continue
		}
		if v.Prot&addr.Write != 0 && v.Prot&addr.Shared == 0 {
			m.rootAnon(missing, unused)
		}
		for r := range missing.All() {
			p.Trace(r)
			fresh.Add(r)
		}
		if v.Kind == vma.MainStack {
			p.stack = v.Start
		}
	}
	return fresh
}

// passOver says once of an address space that mappings of a kind are not traced.
func (w *warden) passOver(m *memory, v vma.VMA) {
	p := &m.trace
	if v.Prot&7 == 0 || p.passed || !(v.Kind == vma.SysV || procfs.Device(v)) {
		return
	}
	p.passed = true
	w.r.lost(0, fmt.Sprintf("page references to %v memory of address space %d, and to others of its kind", v.Kind, m.table.MM()))
}

// rootAnon writes a byte back into a private mapping that is about to be cut: all pieces
// then share what the kernel keeps of its anonymous pages (anon_vma), and become one again.
// The page is given back by giveBack. That is done where nobody uses the mapping yet, and
// where the page is not there.
func (m *memory) rootAnon(rs addr.Set, unused addr.Range) {
	var b [1]byte
	for r := range rs.All() {
		page := addr.Range{Start: r.Start, End: r.Start + addr.PageSize}
		there := false
		_, err := m.fs.Scan(page, procfs.PagePresent|procfs.PageSwapped, procfs.PagePresent|procfs.PageSwapped, false, 1, func(procfs.Region) { there = true })
		if there || err != nil || m.ownUffd || page.Intersect(unused) != page {
			continue
		}
		if n, err := m.fs.ReadMem(b[:], r.Start); n == 1 && err == nil {
			if n, _ := m.fs.WriteMem(b[:], r.Start); n == 1 {
				m.trace.rooted = append(m.trace.rooted, r.Start)
			}
		}
	}
}

// giveBack gives back the pages that rootAnon has written to.
func (w *warden) giveBack(m *memory, s *tracee.Stepper) {
	const dontNeed = 4 // MADV_DONTNEED
	for _, a := range m.trace.rooted {
		_, _ = s.Call("madvise", uint64(a), addr.PageSize, dontNeed)
	}
	m.trace.rooted = m.trace.rooted[:0]
}

// closeAll closes what a phase begins with.
func (w *warden) closeAll(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	for _, r := range m.trace.ToClose(m.Mappings()) {
		w.close(m, t, s, r)
	}
	m.trace.late.Clear()
}

// close lets nobody in. What the kernel refuses is not traced.
func (w *warden) close(m *memory, t *tracee.Thread, s *tracee.Stepper, r addr.Range) {
	ret, err := s.Protect(r, 0)
	if err != nil || ret == 0 {
		return
	}
	for _, part := range m.trace.Traced(r) {
		for v := range m.Mappings().Overlapping(part) {
			in := v.Intersect(part)
			if ret, err = s.Protect(in, 0); err != nil || ret == 0 {
				continue
			}
			if unix.Errno(-ret) == unix.ENOMEM { // some of it has been unmapped, which is not known yet
				m.trace.missed = true
				continue
			}
			_, _ = s.Protect(in, v.Prot)
			m.trace.Forget(in)
			m.trace.refused.Add(in)
			w.r.lost(t.No, fmt.Sprintf("page references to %v of address space %d: %v", in, m.table.MM(), unix.Errno(-ret)))
		}
	}
}

// closeClosed closes what of some ranges the program may not use.
func (w *warden) closeClosed(m *memory, t *tracee.Thread, s *tracee.Stepper, rs addr.Set) {
	for r := range rs.All() {
		closed := m.trace.Closed(r)
		for c := range closed.All() {
			w.close(m, t, s, c)
		}
	}
}

// open lets the program in again where it believes it may. It goes on behind what cannot be
// opened.
func (w *warden) open(m *memory, s *tracee.Stepper, rs addr.Set) (err error) {
	for r := range rs.All() {
		for v := range m.Mappings().Overlapping(r) {
			if v.Prot&7 == 0 {
				continue
			}
			e := w.openPart(s, v.Intersect(r), v.Prot)
			if errors.Is(e, tracee.ErrPreempted) {
				return e
			}
			if e != nil {
				e = w.openAround(m, s, v.Intersect(r), v.Prot)
			}
			err = cmp.Or(err, e)
		}
	}
	return err
}

// openPart is open for a part of one mapping.
func (w *warden) openPart(s *tracee.Stepper, r addr.Range, prot addr.Prot) error {
	ret, err := s.Protect(r, prot)
	if err == nil && ret != 0 {
		err = fmt.Errorf("%w: mprotect %v: %w", errNotOpened, r, unix.Errno(-ret))
	}
	return err
}

// openAround is openPart for a part of which some may have been unmapped, by a call of
// another thread that is not over.
func (w *warden) openAround(m *memory, s *tracee.Stepper, r addr.Range, prot addr.Prot) (err error) {
	rest, moving := addr.SetOf(r), m.mayChange(nil)
	for part := range moving.Within(r) {
		rest.Remove(part)
		e := w.openPart(s, part, prot)
		if part == r {
			return e
		}
	}
	for part := range rest.All() {
		err = cmp.Or(err, w.openPart(s, part, prot))
	}
	return err
}

// openAll opens everything.
func (w *warden) openAll(m *memory, s *tracee.Stepper) {
	_ = w.open(m, s, addr.SetOf(m.trace.Traced(refs.Everything)...))
}

// flush begins a new phase: all that is not pinned or held is closed. The other threads
// are held meanwhile, so that none of them uses what is not closed yet.
func (w *warden) flush(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	p := &m.trace
	if len(m.Threads) > 1 {
		if !w.hold(m) {
			p.missed = true
		}
		defer w.r.group.LetGo(m.Space)
		for u := range m.Threads {
			if ip := threadOf(u).traced.met; u != t && ip != 0 {
				w.r.group.Complete(u, ip, func(f *tracee.Fault) bool { return w.completes(m, s, u, f) })
			}
		}
	}
	w.grown(m, t)
	if w.ask.Pool == 0 {
		if g := p.pace.next(p.Space, p.program, w.free()); g != p.Granule() {
			_ = w.open(m, s, p.SetGranule(g))
		}
	}
	if least := 16 * len(m.Threads); p.Pool() < least {
		p.SetPool(least)
	}
	_ = w.open(m, s, p.Stick())
	held := p.Flush()
	w.phase(m, t, held)
	w.closeAll(m, t, s)
}

// completes opens what a held thread needs to execute the instruction that it was let go
// for, in the phase that ends: what has been recorded of it is true then, and each thread
// comes on in each phase. s makes calls for another thread.
func (w *warden) completes(m *memory, s *tracee.Stepper, t *tracee.Thread, f *tracee.Fault) bool {
	p, th := &m.trace, &threadOf(t).traced
	block := p.Block(f.Addr)
	if !p.Traces(f.Addr) || th.blocked&segvBit != 0 || w.actionsOf(t).handler(int(unix.SIGSEGV)) == sigIgn || m.changing(t, block) {
		return false
	}
	v, ok := m.Mappings().Find(f.Addr)
	if !ok || v.Prot&7 == 0 {
		return false
	}
	if !p.Opened(f.Addr) {
		if w.open(m, s, addr.SetOf(p.Traced(block)...)) != nil {
			return false
		}
		w.ref(m, t, block.Start, f.IP(), kindOf(w.instructionOf(m, t, f), f, v.Prot))
		p.Open(f.Addr)
	}
	th.seen = p.Clock()
	return true
}

// holdTries is how often a hold is tried: each waits for 50 ms for threads that want a CPU.
const holdTries = 40

// hold stops the other threads of an address space, and reports whether none runs.
func (w *warden) hold(m *memory) bool {
	for range holdTries {
		w.r.group.Hold(m.Space)
		running := false
		for u := range m.Threads {
			running = running || u.State() == tracee.Running
		}
		if !running {
			return true
		}
	}
	return false
}

// phase writes that a phase begins.
func (w *warden) phase(m *memory, t *tracee.Thread, held []addr.Addr) {
	p := &m.trace
	w.r.log.phase(&format.Phase{
		MM: m.table.MM(), Engine: format.EngineProt, Granule: p.Granule(), Pool: uint64(p.Pool()), Time: p.program,
		Pinned: p.Pinned(), Held: uint64(len(held)), HeldPages: held, Incomplete: p.missed,
	})
	p.missed = false
}

// grown has the part of the main stack traced that has come below, without a fault that
// was seen: the pages there have been used in this phase, nobody knows in which order.
func (w *warden) grown(m *memory, t *tracee.Thread) {
	p := &m.trace
	if p.stack == 0 {
		return
	}
	old := p.stack
	m.table.Grow(m)
	v, ok := m.Mappings().Find(old)
	if !ok || v.Start >= old {
		return
	}
	part := addr.Range{Start: v.Start, End: old}
	p.Trace(part)
	p.stack = v.Start
	_, _ = m.fs.Scan(part, procfs.PagePresent, procfs.PagePresent, false, 0, func(g procfs.Region) {
		for b := range p.Blocks(g.Range) {
			if !p.InPhase(b.Start) {
				p.Open(b.Start)
				w.ref(m, t, b.Start, 0, format.RefUnknown)
			}
		}
	})
	p.late.AddSet(p.Closed(part))
}

// ref writes a reference.
func (w *warden) ref(m *memory, t *tracee.Thread, page, ip addr.Addr, kind format.RefKind) {
	w.ev = format.Ref{Thread: t.No, MM: m.table.MM(), Page: page, IP: ip, Time: m.trace.program, Kind: kind}
	w.r.log.ref(&w.ev)
}

// instruction is what is known of an instruction that has met closed memory.
type instruction struct {
	access refs.Access
	plain  bool // it is in no restartable sequence
}

// instructionOf is what is known of the instruction of a fault.
func (w *warden) instructionOf(m *memory, t *tracee.Thread, f *tracee.Fault) instruction {
	p, ip := &m.trace, f.IP()
	x, known := p.code[ip]
	if !known {
		var code [refs.MaxInstruction]byte
		n := w.r.group.ReadMem(t, code[:], ip)
		x.access = refs.AccessOf(code[:max(0, n)], !f.I386())
		if len(p.code) > 1<<16 {
			clear(p.code)
		}
		p.code[ip] = x
	}
	return x
}

// kindOf says how an instruction refers to an address of a mapping.
func kindOf(x instruction, f *tracee.Fault, prot addr.Prot) format.RefKind {
	if f.Addr-f.IP() < refs.MaxInstruction && prot&addr.Exec != 0 {
		return format.RefFetch
	}
	return x.access.Kind(f.Addr, f.SP(), f.DI())
}

// meet learns of a thread what a page trace has to know: which places the kernel writes to
// at times of its own, and which signals it blocks.
func (w *warden) meet(m *memory, t *tracee.Thread) {
	p := &m.trace
	if at := w.r.group.RSeq(t); at != 0 {
		p.Pin(addr.Addr(at), 32)
	}
	if at := procfs.RobustList(t.TID); at != 0 {
		p.Pin(at, 24)
	}
	if mask, err := w.r.group.Mask(t); err == nil {
		w.Masked(t, mask)
	}
}

// pinArguments leaves the program's arguments and environment open: where they are closed,
// /proc/PID/cmdline and environ are empty, for the program and for others (ps(1), pgrep(1)).
func (m *memory) pinArguments(pid int) {
	args, env := procfs.Arguments(pid)
	for _, r := range []addr.Range{args, env} {
		if !r.Empty() {
			m.trace.Pin(r.Start, r.Len())
		}
	}
}

// learnActions learns what a process does with signals when its trace begins: after an exec
// it ignores some, and one that has been attached to is asked what it does with SIGSEGV.
func (w *warden) learnActions(m *memory, t *tracee.Thread, s *tracee.Stepper) {
	a := new(actions)
	w.actions[t.Proc], w.last.proc = a, nil
	status, err := w.r.kernel.status(t.TID)
	if err != nil {
		return
	}
	for sig, bits := 1, proctext.Field(status, "SigIgn").Hex(); sig <= 64; sig++ {
		if bits>>(sig-1)&1 != 0 {
			a.set[sig] = make([]byte, actionSize(t))
			a.set[sig][0] = sigIgn
		}
	}
	const segv = int(unix.SIGSEGV)
	if proctext.Field(status, "SigCgt").Hex()&segvBit == 0 {
		return
	}
	at := s.SP().PageDown() - 256 // below the red zone, and nothing else is there
	var was, now [64]byte
	if n, _ := m.fs.ReadMem(was[:], at); n != len(was) {
		return
	}
	if ret, err := s.Call("rt_sigaction", uint64(segv), 0, uint64(at), 8); err == nil && ret == 0 {
		if n, _ := m.fs.ReadMem(now[:], at); n == len(now) {
			a.set[segv] = append([]byte(nil), now[:actionSize(t)]...)
		}
	}
	if ret, err := s.Call("sigaltstack", 0, uint64(at)); err == nil && ret == 0 {
		if n, _ := m.fs.ReadMem(now[:], at); n == len(now) {
			threadOf(t).traced.alt = stackOf(t.Proc.Arch, now[:])
		}
	}
	_, _ = m.fs.WriteMem(was[:], at)
}

// actionSize is the size of the kernel's struct sigaction.
func actionSize(t *tracee.Thread) int {
	if t.Proc.Arch == arch.I386 {
		return 20
	}
	return 32
}
