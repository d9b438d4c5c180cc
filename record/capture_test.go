//go:build linux

package record

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// TestCapture: memory is that of the event at which it is due, and confirmed with it and
// with the snapshot after it.
func TestCapture(t *testing.T) {
	b := newBench(t, plain(t, "syscall=getppid"))
	main := b.program()
	b.tape.told = nil
	b.do(main, func(m *dirtytest.Memory) { m.Write(page(0x21), 9, false) }, 0, "getppid")
	equal(t, "events", b.events(1), []string{"Syscall", "Snapshot"})
	call, snap := b.tape.events[1], b.tape.events[2]
	if got := names(call.Changes); !slices.Contains(got, "Confirm") || !slices.Contains(got, "RegsSet") || !slices.Contains(got, "XStateSet") {
		t.Errorf("with the call came %v", got)
	}
	equal(t, "with the snapshot", names(snap.Changes), []string{"Confirm"})
	if at := slices.Index(b.tape.told, "Pages"); at < 0 || at > slices.Index(b.tape.told, "Syscall") {
		t.Errorf("the log was told %v: the pages belong to the call", b.tape.told)
	}
	s := snap.Record.(*format.Snapshot)
	if s.Reason != "syscall" || s.MM != 1 || !s.Full || s.Pages != 2 || s.Mechanism != format.DirtyCompare {
		t.Errorf("%+v", s)
	}
	b.do(main, nil, 0, "getpid")
	equal(t, "events", b.events(3), []string{"Syscall"})
	// What the registers are is written again, what the others are only if they differ.
	b.do(main, nil, 0, "getppid")
	for _, c := range b.tape.events[4].Changes {
		if x, ok := c.(*format.XStateSet); ok && x.Data != nil {
			t.Error("the extended state is written again, and is as it was")
		}
	}
	r := b.tape.verified(t)
	for step, known := range []bool{false, true, true, true} {
		st, err := r.StateAt(format.Step(step))
		if err != nil {
			t.Fatal(err)
		}
		if info, ok := st.MMs[1].Page(page(0x21)); known != (ok && info.What == format.PageData) {
			t.Errorf("step %d: %+v", step, info)
		}
	}
}

// TestCaptureUnrecorded: where the call itself is not in the log, all is the snapshot's.
func TestCaptureUnrecorded(t *testing.T) {
	o := plain(t, "syscall=getppid")
	o.Trace = everything(t)
	b := newBench(t, o)
	main := b.program()
	b.do(main, nil, 0, "getppid")
	equal(t, "events", b.events(1), []string{"Snapshot"})
	n := 0
	for _, c := range b.tape.events[1].Changes {
		if _, ok := c.(*format.Confirm); ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("it is confirmed %d times", n)
	}
}

// TestCaptureAtEvents: which events other than calls have memory, by which policy.
func TestCaptureAtEvents(t *testing.T) {
	for p, want := range map[string][]string{
		"none":        {"Exec", "Signal", "Clone", "Exit", "Exit"},
		"exec":        {"Exec", "Snapshot", "Signal", "Clone", "Exit", "Exit"},
		"signal":      {"Exec", "Signal", "Snapshot", "Clone", "Exit", "Exit"},
		"exec,signal": {"Exec", "Snapshot", "Signal", "Snapshot", "Clone", "Exit", "Exit"},
		"step":        {"Exec", "Snapshot", "Signal", "Snapshot", "Clone", "Snapshot", "Snapshot", "Exit", "Snapshot", "Exit"},
	} {
		b := newBench(t, plain(t, p))
		main := b.program()
		b.Signalled(main, &tracee.Signal{No: 11, Fatal: true})
		other := b.spawn(main, 0)
		b.end(other)
		b.end(main)
		equal(t, p, b.events(0), want)
	}
}

// TestUnread: an address space that ends while it is read is told of, and not confirmed.
func TestUnread(t *testing.T) {
	b := newBench(t, plain(t, "step"))
	main := b.program()
	b.do(main, func(m *dirtytest.Memory) { m.Write(page(0x21), 9, false); m.Ended = true }, 0, "getppid")
	equal(t, "events", b.events(2), []string{"Syscall", "Snapshot", "Lost"})
	if l, _ := newest[*format.Lost](b); !strings.Contains(l.What, "address space 1") || !strings.Contains(l.What, procfs.ErrGone.Error()) {
		t.Errorf("lost: %s", l.What)
	}
	for _, e := range b.tape.events[2:] {
		if slices.Contains(names(e.Changes), "Confirm") {
			t.Errorf("a %s confirms what could not be read", nameOf(e.Record))
		}
	}
	b.w.spaces[main.TID].Ended = false
	b.tape.verified(t)
}

// TestSpare: what is saved in part at an end is told, and counted.
func TestSpare(t *testing.T) {
	b := newBench(t, plain(t, "exit"))
	main := b.program()
	s := &captured{Snapshot: format.Snapshot{MM: 1, Reason: "exit"}, cut: true, took: 3 * time.Millisecond}
	b.endCapture(main, s)
	if l, _ := newest[*format.Lost](b); b.result.InPart != 1 || !strings.Contains(l.What, "saved in part, for 3ms") {
		t.Errorf("%+v, %+v", b.result, l)
	}
	b.endCapture(main, nil)
	equal(t, "events", b.events(1), []string{"Snapshot", "Lost"})
	s.took = captureMost + time.Second // as any other snapshot that took too long
	b.endCapture(main, s)
	if l, _ := newest[*format.Lost](b); b.result.InPart != 1 || !strings.Contains(l.What, "saved in part, for 31s: no snapshot may take longer") {
		t.Errorf("%+v, %+v", b.result, l)
	}
}

// TestYieldUffd: a program that makes a userfaultfd of its own has ours taken away, and
// its writes found in another way; its closing is looked at.
func TestYieldUffd(t *testing.T) {
	for _, soft := range []bool{false, true} {
		b := newBench(t, plain(t, "syscall=getppid"))
		b.w.soft = soft
		main := b.program()
		m := memoryOf(main)
		u := &dirtytest.Uffd{Memory: b.w.spaces[main.TID]}
		m.track.stage = trackIdle
		m.find(dirty.NewUffd(u, m.fs, m.Mappings()))
		b.do(main, nil, 5, "userfaultfd")
		want := format.DirtyCompare
		if soft {
			want = format.DirtySoft
		}
		if m.finder.Name() != want || !u.Closed || !m.ownUffd || !b.uffds {
			t.Errorf("writes are found by %v, ours is closed: %v", m.finder.Name(), u.Closed)
		}
		b.wantTracking(m)
		if m.track.stage != trackIdle {
			t.Error("another one is wanted")
		}
		b.w.spaces[main.TID].Map(anon(0x50, 0x51)) // as a merge that the kernel makes
		b.do(main, nil, 0, "close", 5)
		_, e := newest[*format.Syscall](b)
		equal(t, "with the close", names(e.Changes), []string{"VMASet"})
		b.tape.verified(t)
	}
}

// TestForeignFilter: into a program with a seccomp filter no call is put.
func TestForeignFilter(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	for text, foreign := range map[string]bool{
		"Seccomp:\t0\nSeccomp_filters:\t0\n": false,
		"Seccomp:\t2\nSeccomp_filters:\t1\n": true,
		"Seccomp:\t1\nSeccomp_filters:\t0\n": true,
		"Name:\tx\n":                         false,
	} {
		b.w.texts[5] = text
		if b.foreignFilter(5) != foreign {
			t.Errorf("%q: %v", text, !foreign)
		}
	}
	if !b.foreignFilter(6) {
		t.Error("of a thread that is gone: no filter")
	}
}

// TestCheck: a table that differs from the kernel's makes an event that says how.
func TestCheck(t *testing.T) {
	o := plain(t, "none")
	o.Check = true
	b := newBench(t, o)
	main := b.program()
	equal(t, "events", b.events(0), []string{"Exec", "Check"})
	if c, _ := newest[*format.Check](b); !c.OK || c.Sum == 0 || c.Maps != nil || c.Diff != "" || b.result.Checks != 1 {
		t.Errorf("%+v", c)
	}
	b.do(main, nil, 0, "getppid")
	b.do(main, nil, 0, "mmap")
	equal(t, "events", b.events(2), []string{"Syscall", "Syscall", "Check"})
	b.w.spaces[main.TID].Map(anon(0x60, 0x61)) // nobody says so
	b.do(main, nil, 0, "munmap", uint64(page(0x20)), 4096)
	c, e := newest[*format.Check](b)
	if want := "+00060000-00061000 rw-p 00000000 00:00 0 \n"; c.OK || c.Diff != want || !strings.Contains(string(c.Maps), want[1:]) || e.Thread != 1 {
		t.Errorf("%+v", c)
	}
	if b.result.Checks != 3 || b.result.Differed != 1 {
		t.Errorf("%+v", b.result)
	}
	b.w.spaces[main.TID].Ended = true
	b.do(main, nil, 0, "mmap")
	if b.result.Checks != 3 {
		t.Error("what has ended was checked")
	}
}

// TestNoCheck: nothing is compared while somebody may be changing it.
func TestNoCheck(t *testing.T) {
	o := plain(t, "none")
	o.Check = true
	b := newBench(t, o)
	main := b.program()
	other := b.spawn(main, 0)
	m := memoryOf(main)
	n := b.result.Checks
	c, _ := b.enter(other, "mmap")
	b.check(m, main.No)
	if b.result.Checks != n {
		t.Error("checked in the middle of another's turn")
	}
	b.leave(other, c, 0)
	if b.result.Checks != n+1 {
		t.Error("not checked after a call")
	}
	m.untracedUsers = true
	b.check(m, main.No)
	if b.result.Checks != n+1 {
		t.Error("checked while others change it")
	}
}

// TestTouched: which address spaces an event changes that is no call.
func TestTouched(t *testing.T) {
	o := plain(t, "none")
	o.Check = true
	b := newBench(t, o)
	one, two := memoryOf(b.program()), memoryOf(b.program())
	set := func(mm uint32) format.Change { return &format.VMASet{MM: mm, VMA: anon(1, 2)} }
	del := func(mm uint32) format.Change { return &format.VMADel{MM: mm, Range: pages(1, 2)} }
	for _, c := range []struct {
		rec     format.Record
		changes []format.Change
		want    []*memory
	}{
		{&format.Lost{}, nil, nil},
		{&format.Lost{}, []format.Change{absent(1, 1, 1), &format.Confirm{MM: 1}}, nil},
		{&format.Lost{}, []format.Change{set(1), del(1)}, []*memory{one}},
		{&format.Lost{}, []format.Change{del(2)}, []*memory{two}},
		{&format.Lost{}, []format.Change{set(7)}, nil},
		{&format.Syscall{}, []format.Change{set(1)}, nil},
	} {
		if got := b.touched(&format.Event{Record: c.rec, Changes: c.changes}); !slices.Equal(got, c.want) {
			t.Errorf("%v: %d", names(c.changes), len(got))
		}
	}
	b.opts.Check = false
	if b.touched(&format.Event{Record: &format.Lost{}, Changes: []format.Change{set(1)}}) != nil {
		t.Error("without --check")
	}
}

// TestPause: who looks at a program sees each call before and each event after, changes
// memory, and is not asked about that.
func TestPause(t *testing.T) {
	var seen []string
	var inside func(*Pause)
	o := plain(t, "none")
	o.Pause = func(p *Pause) {
		switch p.When {
		case Before:
			seen = append(seen, "before")
		case Asked:
			seen = append(seen, "asked")
		case After:
			seen = append(seen, nameOf(p.Event.Record))
		}
		if inside != nil {
			inside(p)
		}
	}
	b := newBench(t, o)
	main := b.program()
	seen = nil
	inside = func(p *Pause) {
		if p.When != Before {
			return
		}
		if p.TID != main.TID || p.Call.Args[0] != 77 || p.Call.Returned {
			t.Errorf("%+v", p.Call)
		}
		if err := p.WriteMem(1, []byte{1, 2, 3}, page(0x22)); err != nil {
			t.Error(err)
		}
		if err := p.WriteMem(1, nil, page(0x22)); err != nil {
			t.Error(err)
		}
		if err := p.WriteMem(1, []byte{1}, page(0x5000)); err == nil {
			t.Error("no error where there is no memory")
		}
		if err := p.WriteMem(9, []byte{1}, page(0x22)); !errors.Is(err, procfs.ErrGone) {
			t.Errorf("of no address space: %v", err)
		}
		if _, err := p.ReadMem(9, nil, 0); !errors.Is(err, procfs.ErrGone) {
			t.Errorf("of no address space: %v", err)
		}
		if _, err := p.Regs(5); !errors.Is(err, ErrNoThread) {
			t.Errorf("of no thread: %v", err)
		}
		var now [4]byte
		if n, err := p.ReadMem(1, now[:], page(0x22)); n != 4 || err != nil || now != [4]byte{1, 2, 3, 0} {
			t.Errorf("%v, %v", now, err)
		}
	}
	b.do(main, nil, 0, "getppid", 77)
	b.Paused(main)
	equal(t, "pauses", seen, []string{"before", "Syscall", "asked"})
	equal(t, "events", b.events(1), []string{"Poke", "Syscall"})
	poke, e := newest[*format.Poke](b)
	if poke.Addr != page(0x22) || !slices.Equal(poke.Old, []byte{0, 0, 0}) || !slices.Equal(poke.New, []byte{1, 2, 3}) || !slices.Equal(names(e.Changes), []string{"Pages"}) {
		t.Errorf("%+v with %v", poke, names(e.Changes))
	}
	p := &Pause{r: b.Recorder}
	if p.State() != b.tape.State() {
		t.Error("another state")
	}
	p.Detach()
	seen = nil
	b.do(main, nil, 0, "getppid", 77)
	if b.result.Reason != Detached || len(seen) > 0 {
		t.Errorf("reason %q, after which it paused at %v", b.result.Reason, seen)
	}
	b.tape.verified(t)
}

// TestPauseInPart: what could be written of too much is in the log.
func TestPauseInPart(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	memoryOf(b.program()).fs.(*memorySpace).full = 2
	p := &Pause{r: b.Recorder}
	if err := p.WriteMem(1, []byte{7, 8, 9}, page(0x22)); err == nil || !strings.Contains(err.Error(), "only 2 of 3") {
		t.Errorf("in part: %v", err)
	}
	if poke, _ := newest[*format.Poke](b); len(poke.Old) != 2 || !slices.Equal(poke.New, []byte{7, 8}) {
		t.Errorf("%+v", poke)
	}
	b.tape.verified(t)
}

// TestPauseText: who looks at a program is shown texts of the system's and of a process.
func TestPauseText(t *testing.T) {
	var p Pause
	if text, err := p.Text("meminfo", 0); err != nil || !strings.Contains(string(text), "MemTotal") {
		t.Errorf("%v", err)
	}
	if text, err := p.Text("status", uint32(os.Getpid())); err != nil || !strings.Contains(string(text), "Name:") {
		t.Errorf("%v", err)
	}
}
