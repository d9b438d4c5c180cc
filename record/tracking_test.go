//go:build linux

package record

import (
	"testing"

	"memtrace/format"
	"memtrace/record/ptrace"
	"memtrace/record/tracee"
)

// standing is a kernel in whose threads calls can be made. They report what facts has,
// and then the entries and exits of those calls, which return 7.
type standing struct {
	still
	facts []tracee.Fact
	tid   int   // that was let go on last
	op    uint8 // that it has come to
}

func (k *standing) GetRegs(_ int, r *ptrace.Regs) error {
	r[ptrace.RegOrigRAX], r[ptrace.RegCS] = ^uint64(0), 0x33
	return nil
}

func (k *standing) ContSyscall(tid, _ int) error {
	k.tid = tid
	return nil
}

func (k *standing) Next(poll bool) (tracee.Fact, error) {
	if len(k.facts) > 0 {
		f := k.facts[0]
		k.facts = k.facts[1:]
		return f, nil
	}
	if poll {
		return tracee.Fact{}, nil
	}
	if k.op == ptrace.OpEntry {
		k.op = ptrace.OpExit
	} else {
		k.op = ptrace.OpEntry
	}
	return tracee.Fact{TID: k.tid, Stop: ptrace.Stop{TID: k.tid, Kind: ptrace.Syscall}}, nil
}

func (k *standing) GetSyscallInfo(_ int, i *ptrace.SyscallInfo) error {
	*i = ptrace.SyscallInfo{Op: k.op, U: [8]uint64{7}}
	return nil
}

func (*standing) RSeq(int) (uint64, error)        { return 0, nil }
func (*standing) Dispatches(int) (bool, error)    { return false, nil }
func (*standing) SetRegs(int, *ptrace.Regs) error { return nil }
func (*standing) SigMask(int) (uint64, error)     { return 0, nil }
func (*standing) Block(int, uint64) error         { return nil }

// stop is that a thread has stopped.
func stop(t *tracee.Thread, kind ptrace.StopKind) tracee.Fact {
	return tracee.Fact{TID: t.TID, Stop: ptrace.Stop{TID: t.TID, Kind: kind}}
}

// wanting is a program of a few threads, whose writes are to be found by a userfaultfd
// that has not been made yet. The first thread stands.
func wanting(t *testing.T, threads int, stage trackStage) (*bench, *standing, *memory, []*tracee.Thread) {
	k := &standing{}
	b := newBenchOn(t, k, plain(t, "interval=1s"))
	b.w.uffd = true
	all := []*tracee.Thread{b.program()}
	for range threads - 1 {
		all = append(all, b.spawn(all[0], 0))
	}
	for _, th := range all {
		b.w.texts[th.TID] = "Seccomp:\t0\nSeccomp_filters:\t0\n"
	}
	b.w.spaces[all[0].TID].Write(page(0x7fff0), 0x050f, false) // a syscall instruction
	m := memoryOf(all[0])
	m.track.stage = stage
	k.facts = append(k.facts, stop(all[0], ptrace.Trap))
	if !b.group.Poll() || !b.group.Injectable(all[0]) {
		t.Fatal("the thread does not stand")
	}
	return b, k, m, all
}

// TestTrackPreempted: a thread that reports something else, while a userfaultfd is about
// to be made in its name, leaves the next occasion as it was: at the end of the next call
// where it is overdue.
func TestTrackPreempted(t *testing.T) {
	for _, stage := range []trackStage{trackWanted, trackOverdue} {
		b, k, m, threads := wanting(t, 2, stage)
		k.facts = append(k.facts, stop(threads[1], ptrace.Trap), stop(threads[0], ptrace.Group))
		b.beginTracking(m, threads[0])
		if m.track.stage != stage || m.track.tries != 1 || m.track.noUffd || m.finder.Name() != format.DirtyCompare {
			t.Fatalf("stage %d: %+v, writes are found by %v", stage, m.track, m.finder.Name())
		}
		b.trackLate(m, threads[0]) // it is in a group-stop
		if m.track.stage != stage || m.track.tries != 1 {
			t.Errorf("stage %d: it was tried again where no call can be made: %+v", stage, m.track)
		}
		b.trackLate(m, threads[1])
		if stage == trackWanted { // not before the next tick
			if m.track.stage != stage || len(b.w.taken) > 0 {
				t.Errorf("it was made before the tick: %+v", m.track)
			}
			continue
		}
		if u := b.w.taken[threads[1].TID]; m.track.stage != trackIdle || m.finder.Name() != format.DirtyWPAsync || u == nil || u.Closed {
			t.Errorf("overdue: %+v, writes are found by %v", m.track, m.finder.Name())
		}
	}
}

// TestTrackGivesUp: what fails again and again is not tried for ever.
func TestTrackGivesUp(t *testing.T) {
	b, k, m, threads := wanting(t, 1, trackOverdue)
	m.track.tries = uffdTries
	b.w.soft = true
	k.facts = []tracee.Fact{stop(threads[0], ptrace.Group)}
	b.trackLate(m, threads[0])
	if m.track.stage != trackIdle || !m.track.noUffd || m.finder.Name() != format.DirtySoft {
		t.Errorf("%+v, writes are found by %v", m.track, m.finder.Name())
	}
	b.wantTracking(m)
	if m.track.stage != trackIdle {
		t.Error("it is wanted again")
	}
}

// TestTrackFirst: where it can be made at once, a userfaultfd finds what is written from
// then on.
func TestTrackFirst(t *testing.T) {
	b, _, m, threads := wanting(t, 1, trackWanted)
	if s := b.capture(m, threads[0], ReasonInterval); s == nil || !s.whole || s.Mechanism != format.DirtyWPAsync {
		t.Fatalf("%+v", s)
	}
	b.w.spaces[threads[0].TID].Write(page(0x22), 5, false)
	if s := b.capture(m, threads[0], ReasonInterval); s == nil || s.Full || s.Pages != 2 { // the vdso, too
		t.Errorf("%+v", s)
	}
}
