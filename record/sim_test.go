//go:build linux

package record

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/space"
	"memtrace/record/tracee/traceetest"
)

// Where the simulated programs have what, by page.
const (
	arenaPage, arenaEnd = 0x100, 0x160
	heapPage            = 0x200
	vdsoPage            = int(traceetest.VDSO >> addr.PageShift)
)

// simProc is a process of a simulated program. Those that share an address space have the
// same mem.
type simProc struct {
	sim *sim
	mem *simMem
}

// simMem is an address space of a simulated program.
type simMem struct {
	*dirtytest.Memory
	brk addr.Addr
	// flying are the threads whose calls have changed the mappings and have not been
	// written yet; wrote are the pages that the last call of a thread has written to.
	flying map[int]bool
	wrote  map[int][]addr.Addr
}

func newSimMem() *simMem {
	set := image()
	v := vma.VMA{Range: addr.Reach(traceetest.VDSO, addr.PageSize), Prot: addr.Read | addr.Exec, Name: "[vdso]", Kind: vma.VDSO}
	set.Remove(pages(0x7fff0, 0x7fff1))
	set.Insert(v)
	m := &simMem{Memory: dirtytest.New(set), brk: page(heapPage), flying: map[int]bool{}, wrote: map[int][]addr.Addr{}}
	m.Write(v.Start, value(traceetest.VDSOCode), false)
	return m
}

func (m *simMem) fork() *simMem {
	return &simMem{Memory: m.Fork(), brk: m.brk, flying: map[int]bool{}, wrote: map[int][]addr.Addr{}}
}

// sim is a kernel of simulated programs, and what is checked of their recording.
type sim struct {
	t     *testing.T
	k     *traceetest.Kernel
	r     *Recorder
	tape  *tape
	rng   *rand.Rand
	soft  bool
	uffd  bool
	next  uint64 // what is written next
	ticks int    // how often time has passed
	due   bool   // an interval snapshot has been asked for

	procs  map[int]*simProc              // by tid
	mems   map[*dirtytest.Memory]*simMem // that have been opened
	made   map[int]*simProc              // by the tid of the parent, or of who makes an exec
	seen   int                           // of the kernel's events
	tables int                           // how often tables were compared
	truths map[format.Step]map[uint32]map[addr.Addr]truth
}

// truth is what a page holds.
type truth struct {
	value, file uint64
	own         bool // by itself, written to by the program
}

// sync learns which process the threads are of that have been made.
func (s *sim) sync() {
	events := s.k.Log()
	for ; s.seen < len(events); s.seen++ {
		switch e := events[s.seen]; e.What {
		case traceetest.Born:
			s.procs[e.TID] = s.made[e.Parent]
		case traceetest.Executed:
			p := s.made[e.Parent]
			delete(s.procs, e.Parent)
			s.procs[e.TID] = p
		}
	}
}

func (s *sim) memoryOf(tid int) *simMem {
	s.sync()
	if p := s.procs[tid]; p != nil {
		return p.mem
	}
	return nil
}

func (s *sim) open(tid int) (opened, error) {
	m := s.memoryOf(tid)
	if m == nil {
		return nil, procfs.ErrGone
	}
	s.mems[m.Memory] = m
	return &memorySpace{Memory: m.Memory, w: &world{}}, nil
}

func (s *sim) status(tid int) ([]byte, error) {
	b, err := s.k.Status(tid)
	if err != nil {
		return nil, err
	}
	b = append([]byte("State:\tS (sleeping)\n"), b...)
	return append(b, "voluntary_ctxt_switches:\t"+string(rune('a'+s.ticks%26))+"\nnonvoluntary_ctxt_switches:\t0\n"...), nil
}

func (*sim) watchWrites([]int, uint64) (pagetrace.Faults, error) { return nil, unix.ENOSYS }

func (s *sim) mounts(int) (map[vma.Dev]string, error) { return nil, nil }

func (s *sim) hasUffd() bool      { return s.uffd }
func (s *sim) hasSoftDirty() bool { return s.soft }

func (s *sim) takeUffd(tid, _ int) (dirty.Registrar, error) {
	return &dirtytest.Uffd{Memory: s.memoryOf(tid).Memory}, nil
}

func (s *sim) clearSoftDirty(tid int) error {
	return (&dirtytest.Threads{Memory: s.memoryOf(tid).Memory}).ClearSoftDirty()
}

// write has a call of a thread write to some pages that it may write to.
func (s *sim) write(tid int, m *simMem) {
	m.wrote[tid] = nil
	for range 1 + s.rng.IntN(4) {
		vs := m.Mappings().Cut(addr.Range{End: space.UserEnd})
		v := vs[s.rng.IntN(len(vs))]
		if v.Prot&addr.Write == 0 {
			continue
		}
		s.next++
		a := v.Start + addr.Addr(s.rng.IntN(int(v.Len()/addr.PageSize)))<<addr.PageShift
		m.Write(a, s.next, false)
		m.wrote[tid] = append(m.wrote[tid], a)
	}
}

func newSim(t *testing.T, seed uint64, o Options) *sim {
	t.Helper()
	s := &sim{
		t: t, k: traceetest.New(seed), rng: rand.New(rand.NewPCG(seed, 9)), tape: newTape(t),
		procs: map[int]*simProc{}, mems: map[*dirtytest.Memory]*simMem{}, made: map[int]*simProc{}, truths: map[format.Step]map[uint32]map[addr.Addr]truth{},
	}
	s.k.Disturb = func(*traceetest.Kernel, *rand.Rand) { s.ticks++ }
	o.NoPin = true
	o.Observe = s.observe
	s.r = newRecorder(s.k, s.tape, time.Now(), o)
	s.r.kernel = s
	s.k.Injected = func(_ int, name string, _ [6]uint64) int64 {
		if name == "userfaultfd" {
			return 7
		}
		return 0
	}
	return s
}

// observe compares the log with the programs, at each event.
func (s *sim) observe(e *format.Event) {
	if c, ok := e.Record.(*format.Syscall); ok && space.EffectOf(c.Arch, c.Nr).Maps() {
		for m := range s.r.memories {
			for t := range m.Threads {
				if t.No == e.Thread {
					delete(s.memoryOf(t.TID).flying, t.TID)
				}
			}
		}
	}
	state := s.tape.State()
	for m := range s.r.memories {
		fs := s.simMemOf(m)
		if fs == nil || state.MMs[m.MM()] == nil {
			continue
		}
		if len(fs.flying) == 0 && m.turn.Overdue() == 0 {
			s.tables++
			if got := state.MMs[m.MM()].VMAs; !got.Equal(fs.Mappings()) {
				s.t.Errorf("step %d, a %s: address space %d has\n%s, the program\n%s", e.Step, nameOf(e.Record), m.MM(),
					got.AppendMaps(nil), fs.Mappings().AppendMaps(nil))
			}
		}
	}
	for _, c := range e.Changes {
		if c, ok := c.(*format.Confirm); ok {
			s.note(e.Step, c.MM)
		}
	}
}

// simMemOf is what a memory is in the simulation, nil for one that is gone.
func (s *sim) simMemOf(m *memory) *simMem {
	if m.fs == nil {
		return nil
	}
	return s.mems[m.fs.(*memorySpace).Memory]
}

// note keeps what is in an address space at a step, of which the log says that it knows
// it.
func (s *sim) note(step format.Step, mm uint32) {
	for m := range s.r.memories {
		if m.MM() != mm {
			continue
		}
		fs := m.fs.(*memorySpace).Memory
		all := map[addr.Addr]truth{}
		for v := range fs.Mappings().All() {
			for a := v.Start; a < v.End; a += addr.PageSize {
				all[a] = truth{value: fs.Truth(a), file: fs.File(a), own: v.Inode == 0 && fs.There(a)}
			}
		}
		for t := range m.Threads {
			if t.Call() != nil { // what it writes may come after the page was read
				for _, a := range s.simMemOf(m).wrote[t.TID] {
					delete(all, a)
				}
			}
		}
		if s.truths[step] == nil {
			s.truths[step] = map[uint32]map[addr.Addr]truth{}
		}
		s.truths[step][mm] = all
	}
}

// run starts programs, records them to their ends and checks the log.
func (s *sim) run(programs ...func(*simProc) traceetest.Program) *Result {
	s.t.Helper()
	var pids []int
	for _, f := range programs {
		p := &simProc{sim: s, mem: newSimMem()}
		pid := s.k.Run(f(p))
		s.procs[pid] = p
		pids = append(pids, pid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	res, err := s.r.Attach(ctx, pids...)
	if err != nil {
		s.t.Fatal(err)
	}
	if res.Err != nil || res.Differed > 0 {
		s.t.Errorf("%+v", res)
	}
	for _, bad := range s.k.Misuse() {
		// Who has just been killed where he stood is not known to be on his way out.
		if !strings.Contains(bad, "has not been reported") {
			s.t.Errorf("misuse of the kernel: %v", bad)
		}
	}
	for _, e := range s.tape.events {
		if l, ok := e.Record.(*format.Lost); ok && !strings.Contains(l.What, "not to slow the program down") {
			s.t.Errorf("step %d: lost: %s", e.Step, l.What)
		}
	}
	return res
}

// check reads the log, and compares what it knows of pages with what was in them. It
// returns how many pages were known.
func (s *sim) check() (known int) {
	s.t.Helper()
	r := s.tape.verified(s.t)
	for step, spaces := range s.truths {
		state, err := r.StateAt(step)
		if err != nil {
			s.t.Fatal(err)
		}
		for mm, truths := range spaces {
			known += s.checkPages(r, step, state.MMs[mm], truths)
		}
	}
	return known
}

func (s *sim) checkPages(r *format.Reader, step format.Step, m *format.MM, truths map[addr.Addr]truth) (known int) {
	if m == nil {
		return 0 // it ended with that step
	}
	for a, is := range truths {
		info, ok := m.Page(a)
		var got uint64
		switch {
		case ok && info.What == format.PageData:
			var b [addr.PageSize]byte
			if err := r.Page(info.Ref, &b); err != nil {
				s.t.Fatal(err)
			}
			got = value(b[:])
		case ok && info.What == format.PageZero:
		case ok && info.What == format.PageFile:
			got = is.file
		default:
			if is.own {
				s.t.Errorf("step %d, address space %d: page %#x is not known, and holds %d", step, m.No, a.Page(), is.value)
			}
			continue
		}
		known++
		if got != is.value {
			s.t.Errorf("step %d, address space %d: page %#x is said to hold %d, and holds %d", step, m.No, a.Page(), got, is.value)
		}
	}
	return known
}

// Results of calls.
const (
	errnoNoMem = -int64(unix.ENOMEM)
	errnoFault = -int64(unix.EFAULT)
)

// somewhere is a random part of the arena.
func (s *sim) somewhere() addr.Range {
	from := arenaPage + s.rng.IntN(arenaEnd-arenaPage)
	return pages(from, min(from+1+s.rng.IntN(8), arenaEnd))
}

// changes is a call that may change the mappings: does carries it out.
func (p *simProc) changes(name string, does func(m *simMem) int64, args ...uint64) traceetest.Op {
	return traceetest.Call(name, args...).Does(func(tid int, _ [6]uint64) int64 {
		p.mem.flying[tid], p.mem.wrote[tid] = true, nil
		return does(p.mem)
	}).Takes(p.sim.rng.IntN(6))
}

// call is a random call of the program.
func (p *simProc) call() traceetest.Op {
	s := p.sim
	at := s.somewhere()
	a, n := uint64(at.Start), at.Len()
	switch s.rng.IntN(12) {
	case 0, 1:
		v := vma.VMA{Range: at, Prot: addr.Read | addr.Write, Kind: vma.AnonPrivate}
		if s.rng.IntN(4) == 0 {
			v.Inode, v.Name, v.Kind = 9, "/lib/some", vma.FilePrivate
		}
		return p.changes("mmap", func(m *simMem) int64 { m.Map(v); return int64(at.Start) }, a, n, 3, unix.MAP_FIXED|unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	case 2:
		return p.changes("munmap", func(m *simMem) int64 { m.Unmap(at); return 0 }, a, n)
	case 3:
		prot := addr.Read
		if s.rng.IntN(2) == 0 {
			prot |= addr.Write
		}
		return p.changes("mprotect", func(m *simMem) int64 { return m.protect(at, prot) }, a, n, uint64(prot))
	case 4:
		to := s.somewhere()
		to = addr.Reach(to.Start, n)
		if to.End > page(arenaEnd) || to.Overlaps(at) {
			to = addr.Reach(page(arenaEnd+0x10), n)
		}
		return p.changes("mremap", func(m *simMem) int64 {
			if v, ok := m.Mappings().Find(at.Start); !ok || v.End < at.End {
				return errnoFault
			}
			m.Unmap(to)
			m.Move(at, to.Start)
			return int64(to.Start)
		}, a, n, n, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, uint64(to.Start))
	case 5:
		return p.changes("madvise", func(m *simMem) int64 { m.Drop(at); return m.whole(at) }, a, n, unix.MADV_DONTNEED)
	case 6:
		return p.changes("madvise", func(m *simMem) int64 { m.Free(at); return m.whole(at) }, a, n, unix.MADV_FREE)
	case 7:
		brk := page(heapPage + s.rng.IntN(12))
		return p.changes("brk", func(m *simMem) int64 { return m.setBrk(brk) }, uint64(brk))
	}
	return traceetest.Call("getppid").Does(func(tid int, _ [6]uint64) int64 {
		s.write(tid, p.mem)
		return 1
	}).Takes(s.rng.IntN(3))
}

// whole is what madvise returns.
func (m *simMem) whole(at addr.Range) int64 {
	for _, v := range m.Mappings().Cut(at) {
		if v.Start != at.Start {
			return errnoNoMem
		}
		at.Start = v.End
	}
	if !at.Empty() {
		return errnoNoMem
	}
	return 0
}

func (m *simMem) protect(at addr.Range, prot addr.Prot) int64 {
	for _, v := range m.Mappings().Cut(at) {
		v.Prot = prot
		m.Mappings().Insert(v)
	}
	return m.whole(at)
}

func (m *simMem) setBrk(to addr.Addr) int64 {
	if to < page(heapPage) {
		return int64(m.brk)
	}
	if to < m.brk {
		m.Unmap(addr.Range{Start: to, End: m.brk})
	} else if to > m.brk {
		m.Mappings().Insert(vma.VMA{Range: addr.Range{Start: page(heapPage), End: to}, Prot: addr.Read | addr.Write, Name: "[heap]", Kind: vma.Heap})
	}
	m.brk = to
	return int64(to)
}

// calls are random calls.
func (p *simProc) calls(n int) (ops traceetest.Program) {
	for range n {
		ops = append(ops, p.call())
	}
	return ops
}

// spawn makes a thread that makes calls, fork a process and vfork one that shares the
// memory until its exec.
func (p *simProc) spawn(then traceetest.Program) traceetest.Op {
	return traceetest.Spawn(then).Does(func(tid int, _ [6]uint64) int64 { p.sim.made[tid] = p; return 0 })
}

func (p *simProc) fork(then func(*simProc) traceetest.Program) traceetest.Op {
	child := &simProc{sim: p.sim}
	return traceetest.Fork(then(child)).Does(func(tid int, _ [6]uint64) int64 {
		child.mem = p.mem.fork()
		p.sim.made[tid] = child
		return 0
	})
}

func (p *simProc) vfork(then func(*simProc) traceetest.Program) traceetest.Op {
	child := &simProc{sim: p.sim}
	return traceetest.Vfork(then(child)).Does(func(tid int, _ [6]uint64) int64 {
		child.mem = p.mem
		p.sim.made[tid] = child
		return 0
	})
}

// exec puts another program in the place of the process.
func (p *simProc) exec(then func(*simProc) traceetest.Program) traceetest.Op {
	next := &simProc{sim: p.sim, mem: newSimMem()}
	return traceetest.Exec(then(next)).Does(func(tid int, _ [6]uint64) int64 { p.sim.made[tid] = next; return 0 })
}
