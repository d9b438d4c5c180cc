//go:build linux

// This file tests what needs no kernel: states, tables, registers, rows.

package tracee

import (
	"encoding/binary"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Every pair of states is legal or not as this table says: a row is the state
// before, a column the state after, in the order of the constants.
func TestTransitions(t *testing.T) {
	want := map[State]string{
		//         stopped running in-call queued listening held ending ended
		Stopped:   "yes    yes     yes     yes    yes       yes  yes    yes",
		Running:   "yes    no      no      no     no        no   no     yes",
		InCall:    "yes    no      no      no     no        no   no     yes",
		Queued:    "yes    no      yes     no     no        no   no     yes",
		Listening: "yes    no      no      no     no        no   no     yes",
		Held:      "yes    no      no      no     no        no   no     yes",
		Ending:    "yes    no      no      no     no        no   no     yes",
		Ended:     "no     no      no      no     no        no   no     no",
	}
	if got := [2]int{len(stateNames), len(transitions)}; got != [2]int{len(want), len(want)} {
		t.Fatalf("%d states, of which %d have a name or a row", len(want), got)
	}
	for from, row := range want {
		cells := strings.Fields(row)
		if len(cells) != len(want) {
			t.Fatalf("row of %v", from)
		}
		for to, cell := range cells {
			th := &Thread{state: from}
			if ok := th.become(State(to)); ok != (cell == "yes") || th.state != State(to) {
				t.Errorf("from %v to %v: %v, and then it is %v", from, State(to), ok, th.state)
			}
		}
	}
	if s := State(77).String(); s != "state 77" {
		t.Error(s)
	}
}

// What follows from a state.
func TestStatePredicates(t *testing.T) {
	for s := Stopped; s <= Ended; s++ {
		th := &Thread{state: s}
		if on := s == Running || s == InCall; th.on() != on || th.Stands() != (!on && s != Listening) {
			t.Errorf("%v: on %v, stands %v", s, th.on(), th.Stands())
		}
		if over := s == Ending || s == Ended; th.Over() != over {
			t.Errorf("%v: over %v", s, th.Over())
		}
		space, p := newSpace(), newProcess(1)
		space.join(th)
		p.Threads[1] = th
		if asleep := s == InCall || s == Listening || s == Held || th.Over(); space.Asleep() != asleep {
			t.Errorf("%v: asleep %v", s, space.Asleep())
		}
		if live := p.Live(); live == 1 == th.Over() {
			t.Errorf("%v: %d live", s, live)
		}
	}
}

func TestSpaceShared(t *testing.T) {
	p, q := newProcess(1), newProcess(2)
	s := newSpace()
	if s.Any() != nil {
		t.Error("an empty space has a thread")
	}
	s.join(&Thread{TID: 1, Proc: p, state: Ending})
	s.join(&Thread{TID: 3, Proc: p})
	for range 20 { // maps have no order
		if s.Any().TID != 3 {
			t.Error("a thread that is ending speaks for one that is not")
		}
	}
	if s.Shared {
		t.Error("shared by one process")
	}
	s.join(&Thread{TID: 2, Proc: q})
	if !s.Shared {
		t.Error("not shared by two processes")
	}
}

// The registers of a 32-bit thread come from where ptrace has them for a 64-bit
// tracer, without what is above 32 bits.
func TestValuesOf(t *testing.T) {
	var regs ptrace.Regs
	at := map[string]uint64{}
	for i, reg := range arch.X86_64.Registers() {
		regs[i] = 0xdead_0000_0000 + uint64(i)<<8 + uint64(reg.Name[0])
		at[reg.Name] = regs[i]
	}
	if got := valuesOf(arch.X86_64, &regs); !reflect.DeepEqual(got, regs[:]) {
		t.Errorf("%#x", got)
	}
	got := valuesOf(arch.I386, &regs)
	rows := arch.I386.Registers()
	if len(got) != len(rows) {
		t.Fatalf("%d registers, want %d", len(got), len(rows))
	}
	seen := 0
	for i, reg := range rows {
		from := reg.Name
		if wide, ok := strings.CutPrefix(from, "e"); ok && from != "es" && from != "eflags" {
			from = "r" + wide
		} else if from == "orig_eax" {
			from = "orig_rax"
		}
		want, ok := at[from]
		if !ok {
			continue
		}
		seen++
		if got[i] != uint64(uint32(want)) {
			t.Errorf("%s = %#x, want %#x", reg.Name, got[i], uint32(want))
		}
	}
	if seen < 14 {
		t.Errorf("only %d registers were compared", seen)
	}
}

func TestImageArch(t *testing.T) {
	for cs, want := range map[uint64]arch.ID{0x23: arch.I386, 0x33: arch.X86_64, 0: arch.X86_64} {
		var regs ptrace.Regs
		regs[ptrace.RegCS] = cs
		if got := imageArch(&regs); got != want {
			t.Errorf("cs %#x: %v", cs, got)
		}
	}
}

func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		orig, rax int64
		want      bool
	}{
		{232, -4, true}, {232, 0xffff_fffc, true}, {232, 0, false}, {232, -512, false}, {-1, -4, false}, {0xffff_ffff, 0xffff_fffc, false}, {0, -4, true},
	} {
		var regs ptrace.Regs
		regs[ptrace.RegOrigRAX], regs[ptrace.RegRAX] = uint64(c.orig), uint64(c.rax)
		if got := interrupted(&regs); got != c.want {
			t.Errorf("interrupted(orig_rax %d, rax %d) = %v", c.orig, c.rax, got)
		}
	}
	for ret, want := range map[int64]bool{-511: false, -512: true, -513: true, -514: true, -516: true, -517: false, 512: false, -4: false} {
		if restarts(ret) != want {
			t.Errorf("restarts(%d) = %v", ret, !want)
		}
	}
}

// The tables of calls know the calls by their names in both ABIs.
func TestCallTable(t *testing.T) {
	for _, c := range []struct {
		name                string
		sight               sight
		makes, blocks, file bool
	}{
		{"clone", seesParent, true, true, false}, {"clone3", seesParent, true, true, false},
		{"fork", seesParent, false, false, false}, {"vfork", seesParent, false, true, false},
		{"sched_getaffinity", seesAffinity, false, false, false}, {"sched_setaffinity", seesAffinity, false, false, false},
		{"openat", seesNothing, true, true, true}, {"open", seesNothing, true, true, true}, {"getppid", seesNothing, false, false, false},
		{"dup2", seesNothing, false, false, false}, {"socketpair", seesNothing, true, false, false}, {"futex", seesNothing, false, true, false},
	} {
		for _, id := range []arch.ID{arch.X86_64, arch.I386} {
			nr, ok := id.Number(c.name)
			if !ok {
				t.Fatalf("%v has no %s", id, c.name)
			}
			if sees(id, nr) != c.sight || makesFDs(id, nr) != c.makes || mayBlock(id, nr) != c.blocks || takesFile(id, nr) != c.file {
				t.Errorf("%v %s: %+v", id, c.name, aboutCall(id, nr))
			}
		}
	}
	if got := aboutCall(arch.Unknown, 1<<31); got != (perCall{}) {
		t.Errorf("a call of no table: %+v", got)
	}
	for audit, want := range map[uint32]arch.ID{unix.AUDIT_ARCH_X86_64: arch.X86_64, unix.AUDIT_ARCH_I386: arch.I386, 0xc00000b7: arch.Unknown} {
		if abi(audit) != want {
			t.Errorf("abi(%#x) = %v", audit, abi(audit))
		}
	}
	if nr, _ := arch.X86_64.Number("mmap"); arity(arch.X86_64, nr) != 6 || arity(arch.X86_64, 1<<30) != 6 {
		t.Error("arity of mmap, or of an unknown call, is not 6")
	}
	for _, names := range [][]string{affinityCalls, cloneCalls, copyCalls} {
		for _, name := range names {
			_, on64 := arch.X86_64.Number(name)
			if _, on32 := arch.I386.Number(name); !on64 && !on32 {
				t.Errorf("no call is named %s", name)
			}
		}
	}
}

// A call that has come back at once often enough counts as quick; each time that it
// does not it takes longer to believe it again.
func TestLearn(t *testing.T) {
	th := &Thread{}
	nr, _ := arch.X86_64.Number("read")
	th.calls.Arch, th.calls.Nr = arch.X86_64, nr
	th.call = &th.calls
	q := &th.quick[nr%32]
	for range quickEnough + 1 {
		th.learn(quickCall - 1)
	}
	if q.n != quickEnough+1 || q.enough != 0 {
		t.Errorf("after quick calls: %+v", *q)
	}
	th.learn(quickCall)
	if q.n != 0 || q.enough != 4*quickEnough {
		t.Errorf("after a slow one: %+v", *q)
	}
	th.learn(quickCall)
	if q.enough != 4*quickEnough {
		t.Errorf("a second slow one teaches nothing: %+v", *q)
	}
	for range 20 {
		for range q.enough + 1 {
			th.learn(0)
		}
		th.learn(quickCall)
	}
	if q.enough != quickMost {
		t.Errorf("it takes at most %d: %+v", quickMost, *q)
	}
	for range 2 * quickMost {
		th.learn(0)
	}
	if q.n != quickMost+1 {
		t.Errorf("the count has no end: %+v", *q)
	}
	nr, _ = arch.X86_64.Number("getppid")
	th.calls.Nr = nr
	th.learn(0)
	if th.quick[nr%32].n != 0 {
		t.Error("a call that never blocks is counted")
	}
}

// A row of the guard's table says whose affinity it is, and is used again when it
// is free.
func TestGuardRows(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := &guard{table: f}
	var cpus unix.CPUSet
	cpus.Set(3)
	cpus.Set(70)
	for tid := range 4 {
		if row, err := g.pin(100+tid, tid, &cpus); err != nil || row != tid {
			t.Fatal(row, err)
		}
	}
	g.unpin(1)
	g.unpin(2)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	word := func(row, i int) uint64 { return binary.LittleEndian.Uint64(b[row*guardRow+8*i:]) }
	if len(b) != 4*guardRow || word(0, 0) != 100 || word(1, 0) != 0 || word(2, 0) != 0 || word(3, 0) != 103 || word(3, 1) != 3 || word(3, 2) != 1<<3 || word(3, 3) != 1<<6 {
		t.Errorf("% x", b)
	}
	for _, want := range []int{2, 1, 4} {
		if row, err := g.pin(7, 0, &cpus); err != nil || row != want {
			t.Errorf("row %d, %v; want %d", row, err, want)
		}
	}
	f.Close()
	if _, err := g.pin(8, 0, &cpus); err == nil {
		t.Error("a row that could not be written is no error")
	}
}

// The queue of facts keeps their order, and knows by whom there are stops.
func TestFacts(t *testing.T) {
	var q facts
	q.source = sourceFunc(func(bool) (Fact, error) { return Fact{TID: 99}, nil })
	q.keep(Fact{TID: 1, Call: &Call{}})
	q.keep(Fact{TID: 2, Stop: ptrace.Stop{Kind: ptrace.Trap}})
	q.keep(Fact{TID: 1, Stop: ptrace.Stop{Kind: ptrace.Signal}})
	q.keep(Fact{TID: 3, Call: &Call{}})
	if s, ok := q.of(1); !ok || s.Kind != ptrace.Signal {
		t.Error("the stop of 1 is not found behind its call")
	}
	if _, ok := q.of(3); ok {
		t.Error("a completed call is no stop")
	}
	q.drop(func(f Fact) bool { return f.TID == 2 })
	for _, want := range []int{1, 1, 3, 99} {
		if f, err := q.next(); err != nil || f.TID != want {
			t.Errorf("%d, %v; want %d", f.TID, err, want)
		}
	}
}

type sourceFunc func(poll bool) (Fact, error)

func (f sourceFunc) Next(poll bool) (Fact, error) { return f(poll) }

// A bell that nobody listens to keeps nothing; one that somebody listens to is rung
// until it is heard, and what was asked for is called once, in order.
func TestBell(t *testing.T) {
	var b bell
	if err := b.ask(func() {}); err != ErrNotServing || b.pending.Load() {
		t.Errorf("before: %v, pending %v", err, b.pending.Load())
	}
	rung := make(chan bool, 1000)
	b.open(func() { rung <- true })
	var got []int
	for i := range 3 {
		if err := b.ask(func() { got = append(got, i) }); err != nil {
			t.Fatal(err)
		}
	}
	<-rung
	<-rung // not heard yet
	b.answer()
	if !reflect.DeepEqual(got, []int{0, 1, 2}) || b.pending.Load() {
		t.Errorf("called %v, pending %v", got, b.pending.Load())
	}
	if err := b.ask(func() { t.Error("called after the end") }); err != nil {
		t.Fatal(err)
	}
	b.close()
	if err := b.ask(func() {}); err != ErrNotServing || b.pending.Load() {
		t.Errorf("after: %v, pending %v", err, b.pending.Load())
	}
	b.answer()
	for b.ringing.Load() {
		time.Sleep(time.Millisecond)
	}
	for n := len(rung); n > 0; n-- {
		<-rung
	}
	if b.knock() || len(rung) > 0 {
		t.Error("a thread that is gone is woken")
	}
}

// A refusal says what was refused, and what a person can do.
func TestRefusal(t *testing.T) {
	if err := refusal(unix.EIO); err != unix.EIO {
		t.Error(err)
	}
	if err := refusal(ptrace.ErrPerm); !strings.Contains(err.Error(), "(") {
		t.Errorf("no hint in %q", err)
	}
}
