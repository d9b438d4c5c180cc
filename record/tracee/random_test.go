//go:build linux

package tracee_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

// writer writes random programs.
type writer struct {
	*rand.Rand
	signals bool
	left    int // threads that may still be made
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (w *writer) program(depth int) (p Program) {
	for range 1 + w.IntN(7) {
		p = append(p, w.op(depth))
	}
	return p
}

func (w *writer) op(depth int) Op {
	if depth < 3 && w.left > 0 && w.IntN(4) == 0 {
		w.left--
		child := w.program(depth + 1)
		switch w.IntN(6) {
		case 0:
			return Fork(child)
		case 1:
			return Vfork(child)
		case 2:
			return Clone(pick(w.Rand, uint64(0), unix.CLONE_VM, unix.CLONE_VM|uint64(unix.SIGUSR1), unix.CLONE_PARENT), child)
		case 3:
			return Exec(child)
		default:
			return Spawn(child)
		}
	}
	if w.signals && w.IntN(4) == 0 {
		sig := pick(w.Rand, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCHLD, unix.SIGCONT, unix.SIGTSTP)
		switch w.IntN(8) {
		case 0:
			return Handle(sig, w.IntN(2) == 0)
		case 1:
			return Ignore(sig)
		case 2:
			return Block(sig)
		case 3:
			return Kill(pick(w.Rand, unix.SIGKILL, unix.SIGTERM, unix.SIGSTOP))
		default:
			return pick(w.Rand, Raise, Kill)(sig)
		}
	}
	switch w.IntN(8) {
	case 0:
		return Compute(w.IntN(20))
	case 1:
		return Sleep("fsync", 1+w.IntN(10))
	case 2:
		return Wait("poll", 1+w.IntN(30), int(unix.EINTR)).Returns(1)
	case 3:
		return Wait("nanosleep", 1+w.IntN(30), ERestartByBlock)
	case 4:
		return Wait("read", 1+w.IntN(30), pick(w.Rand, ERestartSys, ERestartNoHand)).Returns(int64(w.IntN(100)))
	case 5:
		return pick(w.Rand, Exit, ExitGroup)(w.IntN(256))
	default:
		return Call(pick(w.Rand, "getppid", "mmap", "brk", "write"), w.Uint64()).Returns(w.Int64N(1000))
	}
}

// meddler is a Handler's hooks that do at random what a recorder may do.
type meddler struct {
	*teller
	*rand.Rand
	queue []*tracee.Thread
}

// meddle holds, looks at and lets go of an address space.
func (m *meddler) meddle(t *tracee.Thread) {
	if m.IntN(4) != 0 {
		return
	}
	g, s := m.g, t.Space
	g.Hold(s)
	for u := range s.Threads {
		if u.State() == tracee.Running && !u.Unseen() && m.k.Running(u.TID) {
			m.t.Errorf("thread %d runs although it is held", u.TID)
		}
		g.TakeRegisters(u, false)
	}
	if at := g.Standing(s); at != nil && g.Injectable(at) && m.IntN(2) == 0 {
		m.inject(at)
	}
	switch m.IntN(3) {
	case 0:
		g.LetGo(s)
	case 1:
		g.Poll()
	}
}

func (m *meddler) inject(t *tracee.Thread) {
	in, err := m.g.Inject(t, VDSOCode, VDSO)
	if err != nil {
		return
	}
	defer in.Done()
	for i := range 2 {
		if ret, err := in.Call("mmap", uint64(i), 0x1000); err == nil && ret != int64(i)+77 {
			m.t.Errorf("an injected call returns %d", ret)
		}
	}
}

func (m *meddler) goOn() {
	for _, t := range m.queue {
		if t.State() == tracee.Queued {
			m.g.Go(t)
		}
	}
	m.queue = nil
}

func meddle(h *teller, r *rand.Rand, signals bool) {
	m := &meddler{teller: h, Rand: r}
	h.k.Injected = func(_ int, _ string, args [6]uint64) int64 { return int64(args[0]) + 77 }
	h.began = func(t *tracee.Thread, b tracee.Birth) {
		if signals {
			h.k.Disturb = disturb // not the seed
		}
		if b.How != tracee.Attached {
			m.meddle(t)
		}
	}
	h.entered = func(t *tracee.Thread, c *tracee.Call) bool {
		m.meddle(t)
		if m.IntN(6) != 0 {
			return false
		}
		m.queue = append(m.queue, t)
		h.g.After(time.Duration(m.IntN(50))*time.Microsecond, m.goOn)
		return true
	}
	h.returned = func(t *tracee.Thread, _ *tracee.Call) { m.meddle(t) }
	h.signalled = func(t *tracee.Thread, _ *tracee.Signal) bool { m.meddle(t); return m.IntN(8) != 0 }
}

// disturb kills and continues processes at any moment.
func disturb(k *Kernel, r *rand.Rand) {
	if r.IntN(20) != 0 {
		return
	}
	tids := k.Alive()
	if len(tids) == 0 {
		return
	}
	tid := tids[r.IntN(len(tids))]
	switch r.IntN(40) {
	case 0:
		k.Tgkill(tid, unix.SIGKILL)
	case 1:
		k.Tgkill(tid, unix.SIGSTOP)
	default:
		k.Tgkill(tid, unix.SIGCONT)
	}
}

// Whatever programs do, and whatever is done to them, no thread is ever in a state
// that it cannot be in, every thread that has begun ends, all calls that a program
// has made are told of in order, and no program notices anything.
func TestRandomPrograms(t *testing.T) {
	seeds := []uint64{637, 863, 1316, 2325, 3056, 4924, 17745, 47422} // they have found bugs
	for seed := range uint64(150) {
		if seed < 50 || !testing.Short() {
			seeds = append(seeds, seed)
		}
	}
	for _, seed := range seeds {
		if !randomProgram(t, seed) {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomProgram(t *testing.T, seed uint64) bool {
	r := rand.New(rand.NewPCG(seed, 2))
	w := &writer{Rand: r, signals: seed%2 == 1, left: 6}
	h := newGroup(t, seed, func(o *tracee.Options) {
		o.Follow = seed%5 != 0
		o.Keep = tracee.KeepRegisters(r.IntN(3))
		o.NoPin, o.NoGuard = seed%3 != 0, true
	})
	meddle(h, r, w.signals)
	p, before := w.program(0), 0
	switch seed % 4 {
	case 0:
		pid := h.k.Run(p)
		for range r.IntN(40) {
			h.k.Step()
		}
		if before = len(h.k.Log()); len(h.k.Alive()) == 0 || h.k.Alive()[0] != pid {
			return true
		}
		if err := h.g.Serve(func() error { return h.g.Attach(pid) }, func() {}); err != nil {
			return true // it has ended meanwhile
		}
	case 1:
		set := everyCall(t)
		h.launch(p, &set)
	default:
		h.launch(p, nil)
	}
	h.checkEnds()
	h.checkCalls(!w.signals, before)
	for _, m := range h.k.Misuse() {
		t.Error(m)
	}
	if t.Failed() {
		for _, f := range h.told {
			t.Log(f.no, f.tid, f.what, f.name, f.ret, f.sig)
		}
		for _, e := range h.k.Log() {
			t.Logf("%+v", e)
		}
	}
	return !t.Failed()
}

// checkEnds checks that all threads have ended.
func (h *teller) checkEnds() {
	for no, l := range h.known {
		if !l.gone {
			h.t.Errorf("thread number %d has not ended", no)
		}
	}
	for t := range h.g.Threads() {
		h.t.Errorf("thread %d is left: %v", t.TID, t.State())
	}
}

func kernelOnly(ret int64) bool { return ret <= -ERestartSys && ret >= -ERestartByBlock }

// checkCalls compares the calls that were told of with those that the programs have
// seen the results of since a moment. Without signals no call may have been interrupted.
func (h *teller) checkCalls(calm bool, before int) {
	told, first := map[int][]fact{}, map[uint32]int{}
	for _, f := range h.told {
		if first[f.no] == 0 {
			first[f.no] = f.tid
		}
		if f.what == "returned" && f.name != "execve" { // nobody sees that one's result
			told[first[f.no]] = append(told[first[f.no]], f)
		}
	}
	seen, traced := map[int][]Event{}, map[int]bool{}
	for _, e := range h.k.Log()[before:] {
		if calm && e.What == Returned && e.Ret == -int64(unix.EINTR) {
			h.t.Errorf("thread %d sees %s interrupted", e.TID, e.Name)
		}
		switch {
		case e.What == Born:
			traced[e.First] = e.Traced
		case e.What == Returned && h.followed(e.First):
			seen[e.First] = append(seen[e.First], e)
		}
	}
	for tid, es := range seen {
		wrong := compareCalls(es, told[tid], calm)
		if wrong != "" && h.g.Main() == 0 && !traced[tid] && compareCalls(es[1:], told[tid], calm) == "" {
			continue // it was on its way out of a call when it was attached to
		}
		if wrong != "" {
			h.t.Errorf("thread %d %s", tid, wrong)
		}
	}
}

// compareCalls says what is wrong with the calls that were told of a thread, "" for
// nothing. The thread may have ended before it saw the results of the last ones.
func compareCalls(seen []Event, told []fact, calm bool) (wrong string) {
	for _, e := range seen {
		i := slices.IndexFunc(told, func(f fact) bool {
			return f.name == e.Name && (f.ret == e.Ret || kernelOnly(f.ret) && e.Ret == -int64(unix.EINTR)) || f.name == "restart_syscall" && f.ret == e.Ret
		})
		if i < 0 {
			return fmt.Sprintf("has made %s = %d, which was not told; left are %+v", e.Name, e.Ret, told)
		}
		for _, f := range told[:i] {
			// A signal that does nothing leaves no trace: the call is made again.
			if !kernelOnly(f.ret) && (calm || f.ret != -int64(unix.EINTR)) {
				return fmt.Sprintf("was told of %s = %d, which it has not seen before %s", f.name, f.ret, e.Name)
			}
		}
		told = told[i+1:]
	}
	return ""
}

// followed reports whether a thread was ever told of.
func (h *teller) followed(tid int) bool {
	return slices.ContainsFunc(h.told, func(f fact) bool { return f.tid == tid })
}
