//go:build linux

package record

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/tracee"
)

// tracked is a bench with a program whose writes a userfaultfd finds.
func tracked(t *testing.T) (b *bench, main *tracee.Thread, m *memory, mem *dirtytest.Memory) {
	t.Helper()
	b = newBench(t, plain(t, "interval=1s"))
	main = b.program()
	m, mem = memoryOf(main), b.w.spaces[main.TID]
	m.find(dirty.NewUffd(&dirtytest.Uffd{Memory: mem}, m.fs, m.Mappings()))
	m.Ran = true
	return b, main, m, mem
}

// faultsOnce tells of page faults, and of when it was asked first.
type faultsOnce struct {
	*dirtytest.Faults
	asked func()
}

func (f *faultsOnce) Take(pages []addr.Addr) ([]addr.Addr, bool) {
	f.asked()
	return f.Faults.Take(pages)
}

// TestTick: a tick sweeps the memory while the program writes to it, then holds it and
// reads the rest, by page faults where a hold has taken long before. What it says to know
// is so.
func TestTick(t *testing.T) {
	narrowed := 0
	for seed := range uint64(20) {
		b, _, m, mem := tracked(t)
		rng := rand.New(rand.NewPCG(seed, 4))
		for i := range 20 {
			mem.Write(page(0x20+i), uint64(i+1), false)
		}
		held, closed := false, &dirtytest.Faults{Memory: mem}
		m.sweeps.faults.Source = func(tids []int) (dirty.FaultSource, error) {
			if len(tids) != 1 {
				t.Errorf("threads %v are watched", tids)
			}
			closed.Take(nil)
			return &faultsOnce{closed, func() { held, mem.Step = true, nil }}, nil
		}
		m.sweeps.cost.Hold = time.Second
		next := uint64(100)
		mem.Step = func() {
			if next++; rng.IntN(50) == 0 {
				mem.Write(page(0x20+rng.IntN(32)), next, false)
			}
		}
		b.intervalSnapshot()
		mem.Step = nil
		if m.sweeps.watch != nil || held != closed.Closed {
			t.Errorf("seed %d: the watch is left, or was not closed", seed)
		}
		s, e := newest[*format.Snapshot](b)
		if s.Reason != "interval" || s.Pages < 20 || m.sweeps.pages != 0 || b.tape.events[1].Record.(*format.Snapshot).Reason != "sweep" {
			t.Fatalf("seed %d: %+v after %v", seed, s, b.events(0))
		}
		if !held {
			continue
		}
		if m.sweeps.cost.Hold != time.Second {
			t.Errorf("seed %d: a hold by faults counts for one without", seed)
		}
		if whole := slices.Contains(names(e.Changes), "Confirm"); whole == m.Ran {
			t.Errorf("seed %d: confirmed %v, and to be read again %v", seed, whole, m.Ran)
		} else if !whole {
			continue // this machine is too slow for the limit of a hold
		}
		narrowed++
		r := b.tape.verified(t)
		state, err := r.StateAt(e.Step)
		if err != nil {
			t.Fatal(err)
		}
		for a := page(0x20); a < page(0x40); a += addr.PageSize {
			var got [addr.PageSize]byte
			info, ok := state.MMs[1].Page(a)
			if ok && info.What == format.PageData {
				if err := r.Page(info.Ref, &got); err != nil {
					t.Fatal(err)
				}
			}
			if v := value(got[:]); !ok || v != mem.Truth(a) {
				t.Errorf("seed %d: page %#x is known as %d (%v), and holds %d", seed, a.Page(), v, ok, mem.Truth(a))
			}
		}
	}
	if narrowed < 5 {
		t.Errorf("%d holds by page faults: too few to tell anything", narrowed)
	}
}

// TestLeftOut: what comes too early, or would hold the program for too long, is left out,
// and told the next time.
func TestLeftOut(t *testing.T) {
	b, _, m, mem := tracked(t)
	m.sweeps.notBefore = b.group.Now() + uint64(time.Hour)
	for range 3 {
		b.intervalSnapshot()
	}
	if m.sweeps.leftOut != 3 || len(b.tape.events) != 1 {
		t.Errorf("%d left out, events %v", m.sweeps.leftOut, b.events(0))
	}
	b.sampler.procs = map[*tracee.Process]*procTexts{nil: {space: m.Space, refs: referenced{read: 1}}}
	b.intervalSnapshot() // which of its pages are used is being looked at
	if m.sweeps.notBefore = 0; m.sweeps.leftOut != 3 {
		t.Errorf("%d left out", m.sweeps.leftOut)
	}
	b.intervalSnapshot()
	if len(b.tape.events) != 1 {
		t.Errorf("events %v", b.events(0))
	}
	b.sampler.procs = nil
	for i := range 20 {
		mem.Write(page(0x20+i), uint64(i+1), false)
	}
	b.intervalSnapshot()
	equal(t, "events", b.events(1), []string{"Lost", "Snapshot", "Snapshot"})
	if l := b.tape.events[1].Record.(*format.Lost); !strings.Contains(l.What, "of address space 1 left out: 3,") || m.sweeps.leftOut != 0 {
		t.Errorf("%q", l.What)
	}
	if m.sweeps.notBefore <= b.group.Now()/2 || m.sweeps.armed != 0 || m.sweeps.cost.Hold == 0 {
		t.Errorf("%+v", m.sweeps)
	}
	for m.Ran { // a machine that is slow needs another hold
		m.sweeps.notBefore = 0
		b.intervalSnapshot()
	}
	// A program that sleeps has nothing new.
	n := len(b.tape.events)
	m.sweeps.notBefore = 0
	b.intervalSnapshot()
	if len(b.tape.events) != n {
		t.Errorf("events %v", b.events(n))
	}
}

// TestExpected: the pages that a hold is going to find are those of the last sweep, or
// those that are known to be written.
func TestExpected(t *testing.T) {
	b, main, m, _ := tracked(t)
	if m.sweeps.cost.Found = 7; m.expected() != 7 {
		t.Errorf("%d pages", m.expected())
	}
	b.w.soft = true
	m.find(m.withoutUffd())
	if m.expected() != 7 { // all counts as written, and has not been read
		t.Errorf("%d pages at first", m.expected())
	}
	m.sink.Keep()
	if m.lazyMost() != lazyMost {
		t.Error("while somebody waits there is time for all of it")
	}
	m.sink.HandOver()
	if m.lazyMost() != ^uint64(0) {
		t.Error("while nobody waits there is no time for it")
	}
	if s := b.capture(m, main, ReasonInterval); s == nil || !s.whole {
		t.Fatalf("%+v", s)
	}
	b.w.spaces[main.TID].Write(page(0x21), 4, false)
	m.finder.Collect(m.Mappings())
	if got := m.expected(); got != m.finder.(*dirty.SoftDirty).Pages() {
		t.Errorf("%d pages by soft-dirty bits", got)
	}
}
