//go:build linux

package record

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/tracee"
)

// plain records all calls, and memory as a policy says.
func plain(t *testing.T, snapshot string) Options {
	t.Helper()
	return Options{Trace: arch.AllCalls(), Follow: true, Snapshot: policy(t, snapshot)}
}

// everything is a set of all calls but those that only write to memory.
func everything(t *testing.T) arch.Set {
	t.Helper()
	set, err := arch.ParseSet("!getppid")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// changesOf are the names of the changes of the log's events from one on.
func (b *bench) changesOf(from int) (all [][]string) {
	for _, e := range b.tape.events[from:] {
		all = append(all, names(e.Changes))
	}
	return all
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

// TestLife is that of a process with two threads, of which each event has its changes in
// order.
func TestLife(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	main := b.program()
	other := b.spawn(main, page(0x40))
	b.do(other, nil, 7, "getppid")
	b.end(other)
	b.end(main)
	equal(t, "events", b.events(0), []string{"Exec", "Clone", "Syscall", "Exit", "Exit"})
	equal(t, "changes", b.changesOf(0), [][]string{
		{"MMNew", "VMASet", "VMASet", "VMASet", "VMASet", "ThreadSet"},
		{"VMASet", "ThreadSet"}, // its stack is one now
		nil, {"ThreadEnd"}, {"ThreadEnd", "MMDrop"},
	})
	if s := b.tape.State(); len(s.Threads) > 0 || len(s.MMs) > 0 {
		t.Errorf("at the end there are %v and %v", s.Threads, s.MMs)
	}
	if b.w.left != 0 || len(b.memories) > 0 {
		t.Errorf("%d address spaces have not been closed, %d are known", b.w.left, len(b.memories))
	}
	var threads []uint32
	for _, e := range b.tape.events {
		threads = append(threads, e.Thread)
	}
	equal(t, "threads", threads, []uint32{1, 1, 2, 2, 1})
	exits := []bool{b.tape.events[3].Record.(*format.Exit).Process, b.tape.events[4].Record.(*format.Exit).Process}
	equal(t, "ends of the process", exits, []bool{false, true})
	b.tape.verified(t)
}

// TestForkAndExec: a child has a copy of its parent's table, and another program has
// another address space.
func TestForkAndExec(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	parent := b.program()
	b.last++
	p := &tracee.Process{PID: b.last, No: 2, Parent: 1, Arch: arch.X86_64, Threads: map[int]*tracee.Thread{}}
	child := b.thread(p, &tracee.Space{Threads: map[*tracee.Thread]struct{}{}}, b.last)
	b.w.spaces[child.TID] = b.w.spaces[parent.TID].Fork()
	b.w.spaces[child.TID].Unmap(pages(0x20, 0x24)) // MADV_DONTFORK
	b.Began(child, tracee.Birth{How: tracee.Cloned, Parent: parent, Clone: tracee.CloneArgs{Flags: uint64(unix.SIGCHLD)}})
	equal(t, "changes of the fork", b.changesOf(1), [][]string{{"MMNew", "VMADel", "ThreadSet"}})
	if n := b.tape.events[1].Changes[0].(*format.MMNew); n.MM != 2 || n.From != 1 {
		t.Errorf("%+v", n)
	}
	if th := b.tape.State().Threads[child.No]; th.MM != 2 || th.Parent != 1 || th.TGID != uint32(child.TID) {
		t.Errorf("%+v", th)
	}
	left := child.Space
	delete(left.Threads, child)
	child.Space = &tracee.Space{Threads: map[*tracee.Thread]struct{}{child: {}}}
	b.w.spaces[child.TID] = dirtytest.New(image())
	b.Began(child, tracee.Birth{How: tracee.Executed, OldTID: uint32(child.TID), Left: left})
	equal(t, "changes of the exec", b.changesOf(2), [][]string{{"MMDrop", "MMNew", "VMASet", "VMASet", "VMASet", "VMASet", "ThreadSet"}})
	if x, e := newest[*format.Exec](b); x.OldTID != uint32(child.TID) || len(e.Regs) == 0 || e.Regs[arch.RIP] != uint64(child.TID) {
		t.Errorf("%+v, registers %v", x, e.Regs)
	}
	b.end(child)
	b.end(parent)
	b.tape.verified(t)
}

// TestGoneAtBirth: an address space that has ended before it could be opened has no
// mappings, and is never read.
func TestGoneAtBirth(t *testing.T) {
	b := newBench(t, plain(t, "step"))
	b.last++
	p := &tracee.Process{PID: b.last, No: 1, Threads: map[int]*tracee.Thread{}}
	th := b.thread(p, &tracee.Space{Threads: map[*tracee.Thread]struct{}{}}, b.last)
	b.Began(th, tracee.Birth{How: tracee.Executed})
	b.do(th, nil, 0x100000, "mmap", 0, 4096)
	b.end(th)
	equal(t, "events", b.events(0), []string{"Exec", "Syscall", "Exit"})
	b.tape.verified(t)
	// One whose mappings overlap each time was read while it changed.
	b = newBench(t, plain(t, "none"))
	b.w.lies[1<<23+1] = func(s *memorySpace) {
		s.lie = []byte("00001000-00003000 rw-p 00000000 00:00 0 \n00002000-00004000 rw-p 00000000 00:00 0 \n")
	}
	b.program()
	if b.w.opens != 1 || b.w.left != 0 {
		t.Errorf("opened %d times, %d left open", b.w.opens, b.w.left)
	}
}

// TestReopen: when the thread ends through which an address space was opened, it is
// opened through another that is still there.
func TestReopen(t *testing.T) {
	for range 8 { // threads are looked at in any order
		b := newBench(t, plain(t, "none"))
		main := b.program()
		var others []*tracee.Thread
		for range 4 {
			others = append(others, b.spawn(main, 0))
		}
		m := memoryOf(main)
		for _, o := range others[1:] { // they have been killed, and nobody knows yet
			delete(b.w.spaces, o.TID)
		}
		b.end(main)
		if m.via != others[0].TID || b.w.left != 1 {
			t.Fatalf("opened through %d, %d are open", m.via, b.w.left)
		}
		b.w.spaces[others[0].TID].Map(anon(0x50, 0x51))
		b.do(others[0], nil, int64(page(0x50)), "mmap", 0, 4096)
		if _, ok := b.tape.State().MMs[1].VMAs.Find(page(0x50)); !ok {
			t.Error("what it maps is not found any more")
		}
		for _, o := range others {
			b.end(o)
		}
		if b.w.left != 0 {
			t.Errorf("%d are left open", b.w.left)
		}
		b.tape.verified(t)
	}
}

// TestCall: a call has what it changed, and its own times and registers.
func TestCall(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	main := b.program()
	at := pages(0x50, 0x54)
	b.do(main, func(m *dirtytest.Memory) { m.Map(anon(0x50, 0x54)) }, int64(at.Start), "mmap", 0, at.Len(), 3, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	b.do(main, func(m *dirtytest.Memory) { m.Unmap(at) }, 0, "munmap", uint64(at.Start), at.Len())
	equal(t, "changes", b.changesOf(1), [][]string{{"VMASet"}, {"VMADel"}})
	c, e := newest[*format.Syscall](b)
	if c.Ret != 0 || !c.Returned || c.Args[0] != uint64(at.Start) || e.Time < c.Enter || e.Thread != 1 {
		t.Errorf("%+v at %d", c, e.Time)
	}
	// A stack that has grown is found at a fault.
	m := b.w.spaces[main.TID]
	v, _ := m.Mappings().Find(page(0x7ff00))
	v.Start -= 4 * addr.PageSize
	m.Mappings().Insert(v)
	b.do(main, nil, 0, "getppid")
	if n := len(b.tape.events[3].Changes); n != 0 {
		t.Errorf("%d changes without a fault", n)
	}
	main.Faults++
	b.do(main, nil, 0, "getppid")
	equal(t, "changes", b.changesOf(4), [][]string{{"VMASet"}})
	b.tape.verified(t)
}

// TestNotRecorded: a call that is not to be recorded makes no event. What it changes
// comes with the next one.
func TestNotRecorded(t *testing.T) {
	o := plain(t, "none")
	o.Trace = everything(t)
	b := newBench(t, o)
	main := b.program()
	m := b.w.spaces[main.TID]
	v, _ := m.Mappings().Find(page(0x7ff00))
	v.Start -= addr.PageSize
	m.Mappings().Insert(v)
	main.Faults++
	b.do(main, nil, 0, "getppid")
	b.do(main, nil, 0, "getpid")
	equal(t, "events", b.events(1), []string{"Syscall"})
	equal(t, "changes", b.changesOf(1), [][]string{{"VMASet"}})
}

// TestTurns: calls that change mappings are made one after the other, and each has what
// it changed itself.
func TestTurns(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	main := b.program()
	other := b.spawn(main, 0)
	c, wait := b.enter(main, "mmap", 0, 4096)
	if wait {
		t.Fatal("the first call has to wait")
	}
	m := memoryOf(main)
	if _, wait := b.enter(other, "getppid"); wait {
		t.Error("a call that changes nothing has to wait")
	}
	if busy, ok := m.turn.Busy(); !ok || busy != main {
		t.Error("it is another's turn")
	}
	b.Restarted(main, c)
	if _, ok := m.turn.Busy(); ok {
		t.Error("a call that is made once more keeps the turn")
	}
	d, wait := b.enter(other, "munmap", uint64(page(0x20)), 4096)
	if wait {
		t.Error("the turn is free, and it has to wait")
	}
	b.leave(other, d, 0)
	if _, ok := m.turn.Busy(); ok {
		t.Error("a call that is over keeps the turn")
	}
	if _, wait := b.enter(main, "mmap", 0, 4096); wait {
		t.Error("it has to wait")
	}
	b.end(main)
	if _, ok := m.turn.Busy(); ok {
		t.Error("a thread that has ended keeps the turn")
	}
}

// TestSignal: a signal has registers, and is delivered unless somebody keeps it.
func TestSignal(t *testing.T) {
	o := plain(t, "none")
	keep := false
	o.Pause = func(p *Pause) {
		if p.Event != nil {
			if _, ok := p.Event.Record.(*format.Signal); ok {
				p.Keep = keep
			}
		}
	}
	b := newBench(t, o)
	main := b.program()
	for _, keep = range []bool{false, true, false} {
		s := &tracee.Signal{No: 11, Fatal: true, Info: []byte{11, 0, 0, 0}, Regs: make([]uint64, 27)}
		if deliver := b.Signalled(main, s); deliver == keep {
			t.Errorf("keep %v, deliver %v", keep, deliver)
		}
		if x, e := newest[*format.Signal](b); x.Signo != 11 || !x.Fatal || len(e.Regs) != 27 {
			t.Errorf("%+v", x)
		}
	}
}

// TestStopped: job control makes events, of which the session is told if they are of its
// program.
func TestStopped(t *testing.T) {
	o := plain(t, "none")
	var told []int
	o.Stopped = func(sig int) { told = append(told, sig) }
	b := newBench(t, o)
	main := b.program()
	b.Stopped(main, int(unix.SIGTSTP))
	b.Stopped(main, 0)
	first, second := b.tape.events[1].Record.(*format.Stop), b.tape.events[2].Record.(*format.Stop)
	if first.What != format.GroupStop || first.Signo != int32(unix.SIGTSTP) || second.What != format.Continued || second.Signo != 0 {
		t.Errorf("%+v, %+v", first, second)
	}
	if len(told) > 0 { // nothing was launched
		t.Errorf("told %v", told)
	}
}

// TestAttached: a log of a running process begins with all of its threads and its memory.
func TestAttached(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	p := &tracee.Process{PID: 1<<23 + 1, No: 1, Arch: arch.X86_64, Threads: map[int]*tracee.Thread{}}
	s := &tracee.Space{Threads: map[*tracee.Thread]struct{}{}}
	leader, other := b.thread(p, s, 1<<23+1), b.thread(p, s, 1<<23+2)
	m := dirtytest.New(image())
	m.Write(page(0x21), 5, false)
	b.w.spaces[leader.TID], b.w.spaces[other.TID] = m, m
	b.Began(leader, tracee.Birth{How: tracee.Attached})
	equal(t, "events", b.events(0), []string{"Attach", "Snapshot"})
	state := b.tape.State()
	if len(state.Threads) != 2 || state.Threads[2].MM != 1 {
		t.Errorf("threads %v", state.Threads)
	}
	if x, _ := newest[*format.Snapshot](b); x.Reason != "attach" || x.Pages != 2 || !x.Full { // the vdso, too
		t.Errorf("%+v", x)
	}
	if info, ok := state.MMs[1].Page(page(0x21)); !ok || info.What != format.PageData {
		t.Errorf("the page is %+v", info)
	}
	m.Map(anon(0x50, 0x51)) // it was in the middle of an mmap
	b.Seen(other)
	b.do(other, nil, 0, "getppid")
	if _, ok := state.MMs[1].VMAs.Find(page(0x50)); !ok {
		t.Error("what it was mapping is not found")
	}
	// A thread that is found without a parent shares what its process has.
	third := b.thread(p, s, 1<<23+3)
	b.Began(third, tracee.Birth{How: tracee.Adopted})
	if th := state.Threads[3]; th == nil || th.MM != 1 {
		t.Errorf("adopted: %+v", th)
	}
	q := &tracee.Process{PID: 1<<23 + 4, No: 4, Threads: map[int]*tracee.Thread{}}
	alone := b.thread(q, &tracee.Space{Threads: map[*tracee.Thread]struct{}{}}, 1<<23+4)
	b.w.spaces[alone.TID] = dirtytest.New(image())
	b.Began(alone, tracee.Birth{How: tracee.Adopted})
	if th := state.Threads[4]; th == nil || th.MM != 2 || state.MMs[2].VMAs.Len() != 4 {
		t.Errorf("adopted: %+v", th)
	}
	b.tape.verified(t)
}

// TestAbandoned: a call that a thread never returns from is written at its end, and what
// others may have had it do is found.
func TestAbandoned(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	main := b.program()
	other := b.spawn(main, 0)
	c, _ := b.enter(other, "munmap", uint64(page(0x20)), 4*4096)
	b.w.spaces[main.TID].Unmap(pages(0x20, 0x24))
	b.Abandoned(other, c)
	x, e := newest[*format.Syscall](b)
	if x.Returned || !slices.Equal(names(e.Changes), []string{"VMADel"}) {
		t.Errorf("%+v with %v", x, names(e.Changes))
	}
	b.end(other)
	if _, ok := memoryOf(main).turn.Busy(); ok {
		t.Error("it keeps the turn")
	}
	b.tape.verified(t)
}

// TestPaths: a file's new name is found in all address spaces that have it mapped.
func TestPaths(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	one, two := b.program(), b.program()
	for _, th := range []*tracee.Thread{one, two} {
		m := b.w.spaces[th.TID].Mappings()
		v, _ := m.Find(page(0x10))
		v.Name = "/bin/other"
		m.Insert(v)
	}
	b.do(one, nil, 0, "rename") // the paths could not be read
	for mm := range uint32(2) {
		if v, _ := b.tape.State().MMs[mm+1].VMAs.Find(page(0x10)); v.Name != "/bin/other" {
			t.Errorf("address space %d has %s", mm+1, v.Name)
		}
	}
	b.tape.verified(t)
}

// TestUntraced: a child that is not followed and shares the memory may change it at any
// time: all calls look at everything from then on.
func TestUntraced(t *testing.T) {
	o := plain(t, "none")
	o.Follow = false
	b := newBench(t, o)
	main := b.program()
	c, _ := b.enter(main, "clone")
	c.Clone = tracee.CloneArgs{Flags: unix.CLONE_VM}
	b.leave(main, c, 9)
	if m := memoryOf(main); !m.untracedUsers || (heldThreads{m}).Settled() {
		t.Error("nobody knows of the child")
	}
	b.w.spaces[main.TID].Map(anon(0x50, 0x52))
	b.do(main, nil, -int64(unix.ENOMEM), "munmap", 0, 4096)
	equal(t, "changes", b.changesOf(2), [][]string{{"VMASet"}})
	b.tape.verified(t)
}

// TestLimits: a recording ends after so many events or bytes.
func TestLimits(t *testing.T) {
	o := plain(t, "none")
	o.MaxEvents = 3
	b := newBench(t, o)
	main := b.program()
	b.do(main, nil, 0, "getppid")
	if b.group.Over() {
		t.Error("it is over too early")
	}
	b.do(main, nil, 0, "getppid")
	if !b.group.Over() || b.result.Reason != "max-events" {
		t.Errorf("reason %q", b.result.Reason)
	}
	b.finish("other")
	if b.result.Reason != "max-events" {
		t.Errorf("the reason has become %q", b.result.Reason)
	}

	o = plain(t, "none")
	o.MaxBytes = 2000
	b = newBench(t, o)
	main = b.program()
	for i := 0; i < 1024*8 && !b.group.Over(); i++ {
		b.do(main, nil, int64(i)*12345, "getppid")
	}
	if b.result.Reason != "max-size" || b.tape.Bytes() < 2000 || len(b.tape.events)%1024 != 1 {
		t.Errorf("reason %q after %d events of %d bytes", b.result.Reason, len(b.tape.events), b.tape.Bytes())
	}
}

// TestWriteError: a program whose log cannot be written is let go, and nothing is tried
// any more. Nobody is shown what the log has not.
func TestWriteError(t *testing.T) {
	full := fmt.Errorf("disk full")
	for _, early := range []bool{false, true} { // also at the pages before an event
		o := plain(t, "step")
		seen := 0
		o.Observe = func(*format.Event) { seen++ }
		b := newBench(t, o)
		main := b.program()
		shown := seen
		b.tape.fail, b.tape.told = full, nil
		if !early {
			b.opts.Snapshot = Policy{}
			b.when.policy = &b.opts.Snapshot
		}
		b.do(main, func(m *dirtytest.Memory) { m.Write(page(0x21), 3, false) }, 0, "getppid")
		if !b.group.Over() || b.result.Reason != "write error" || seen != shown {
			t.Errorf("early %v: reason %q, %d events were shown", early, b.result.Reason, seen-shown)
		}
		n := len(b.tape.told)
		b.do(main, nil, 0, "getppid")
		b.end(main)
		b.close()
		if len(b.tape.told) != n || n == 0 || b.result.Err != full || b.result.Events != uint64(shown) {
			t.Errorf("early %v: the log was told %v, %+v", early, b.tape.told, b.result)
		}
	}
	o := plain(t, "none")
	o.MaxBytes = 1 << 40
	b := newBench(t, o)
	b.log.err = full
	b.limit(&format.Event{Step: 1024})
	if b.result.Reason != "write error" {
		t.Errorf("a flush that fails: reason %q", b.result.Reason)
	}
}

// TestWarn: a person is told of each thing once.
func TestWarn(t *testing.T) {
	o := plain(t, "none")
	var told []string
	o.Warn = func(s string) { told = append(told, s) }
	b := newBench(t, o)
	b.warn("a %d", 1)
	b.warn("b")
	b.warn("a %d", 1)
	equal(t, "warnings", told, []string{"a 1", "b"})
	newBench(t, plain(t, "none")).warn("nobody listens")
}

// TestNSTID: a thread of another PID namespace has a number of its own there.
func TestNSTID(t *testing.T) {
	w := newWorld()
	w.texts[5] = "Name:\tx\nNSpid:\t5\t3\n"
	w.texts[6] = "Name:\tx\n"
	w.texts[7] = "NSpid:\t7\tx\n"
	for _, c := range []struct {
		tid  int
		ns   bool
		want uint32
	}{{5, false, 5}, {5, true, 3}, {6, true, 6}, {7, true, 7}, {8, true, 8}} {
		if got := nstid(w, c.tid, c.ns); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestGap: samples begin close together and end far apart, and farther where they cost
// much.
func TestGap(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	var late time.Duration // at most so much later it was asked
	ago := func(d time.Duration) time.Duration {
		b.start = time.Now().Add(-d)
		gap := b.sampleGap()
		late = time.Since(b.start) - d
		return gap
	}
	near := func(got, want time.Duration) bool { return got >= want-late && got <= want+late }
	if d := ago(0); !near(d, quiet) && late < quiet {
		t.Errorf("at first: %v", d)
	}
	for since, want := range map[time.Duration]time.Duration{
		200 * time.Millisecond: firstGap, 3200 * time.Millisecond: 200 * time.Millisecond, time.Hour: defaultGap,
	} {
		if d := ago(since); !near(d, want) {
			t.Errorf("after %v: %v, not %v", since, d, want)
		}
	}
	b.sampler.cost.Store(int64(10 * time.Millisecond))
	if d := ago(200 * time.Millisecond); d != costShare*10*time.Millisecond {
		t.Errorf("of 10ms: %v", d)
	}
	b.sampler.cost.Store(int64(time.Second))
	if d := ago(time.Hour); d != costShare/10*time.Second {
		t.Errorf("of a second: %v", d)
	}
	b.opts.MemInfoInterval = time.Millisecond
	if d := ago(0); d != time.Millisecond {
		t.Errorf("as asked for: %v", d)
	}
	b.opts.MemInfoInterval = time.Hour
	b.sampler.cost.Store(0)
	b.sampler.refs.due.Store(uint64(3 * time.Second))
	if d := ago(time.Second); !near(d, 2*time.Second) {
		t.Errorf("which pages are used is read in two seconds, and the next sample comes in %v", d)
	}
}

// TestMoving: who is in a call that may move pages keeps a reading from being whole.
func TestMoving(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	main := b.program()
	m := memoryOf(main)
	if m.Moving() || !(heldThreads{m}).Settled() {
		t.Error("nobody is in a call")
	}
	if len(m.tids()) != 1 || !strings.Contains(fmt.Sprint(m.restartableSequences()), "20000") {
		t.Errorf("threads %v, sequences %v", m.tids(), m.restartableSequences())
	}
	if _, code := m.VDSO(); len(code) != addr.PageSize {
		t.Errorf("a vdso of %d bytes", len(code))
	}
}
