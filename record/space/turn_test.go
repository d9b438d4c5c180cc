// This file tests who has the turn.

package space

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTurn(t *testing.T) {
	var u Turn[string]
	if _, busy := u.Busy(); busy {
		t.Error("somebody has the turn at the beginning")
	}
	if !u.Take("a") || u.Take("b") || u.Take("c") || u.Take("d") {
		t.Error("a has to have the turn, and the others to wait")
	}
	if _, ok := u.Done("x"); ok {
		t.Error("who never had the turn has passed it on")
	}
	if _, ok := u.Done("c"); ok {
		t.Error("who waits has passed the turn on")
	}
	u.Leave("b")
	u.Leave("b")
	if next, ok := u.Done("a"); next != "c" || !ok {
		t.Errorf("after a came %q", next)
	}
	if at, busy := u.Busy(); at != "c" || !busy {
		t.Errorf("%q has the turn", at)
	}
	if next, ok := u.Done("c"); next != "d" || !ok {
		t.Errorf("after c came %q", next)
	}
	if next, ok := u.Done("d"); next != "" || ok {
		t.Errorf("after d came %q", next)
	}
	if at, busy := u.Busy(); at != "" || busy {
		t.Errorf("%q has the turn at the end", at)
	}
	if !u.Take("b") {
		t.Error("b does not get a turn that nobody has")
	}
}

func TestExpire(t *testing.T) {
	var u Turn[string]
	if _, start := u.Timer(); start {
		t.Error("a timer runs for nobody")
	}
	u.Take("a")
	first, start := u.Timer()
	if !start {
		t.Error("no timer runs for a")
	}
	if _, start := u.Timer(); start {
		t.Error("a second timer runs")
	}
	if _, ok := u.Expire(first); ok {
		t.Error("a has lost its turn to nobody")
	}
	again, start := u.Timer()
	if !start || again != first {
		t.Error("a's turn is not timed any more")
	}
	u.Take("b")
	u.Take("c")
	if next, ok := u.Expire(again); next != "b" || !ok || u.Overdue() != 1 {
		t.Errorf("after a came %q, %d calls are overdue", next, u.Overdue())
	}
	second, start := u.Timer()
	if !start || second == first {
		t.Error("b's turn is not timed")
	}
	u.Done("b") // in time: c has the turn when b's timer is over
	if _, ok := u.Expire(second); ok {
		t.Error("c has lost its turn because of b")
	}
	if _, ok := u.Done("a"); ok || u.Overdue() != 0 {
		t.Errorf("%d calls are overdue, a passed on the turn of another: %v", u.Overdue(), ok)
	}
	third, _ := u.Timer()
	u.Done("c")
	if _, ok := u.Expire(third); ok {
		t.Error("a turn was passed on that nobody had")
	}
	if _, start := u.Timer(); start {
		t.Error("a timer runs for nobody at the end")
	}
}

// Threads that come and go as they like: one has the turn as long as any wants it,
// all get it, and in the order in which they came.
func TestTurnModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var u Turn[int]
	var want []int // the holder, and the queue
	var late []int
	serial, timed := uint64(0), false
	check := func(what string, next int, ok bool, passed bool) {
		t.Helper()
		holder, busy := u.Busy()
		if busy != (len(want) > 0) || busy && holder != want[0] || u.Overdue() != len(late) {
			t.Fatalf("%s: %d has the turn (%v), %d are overdue; want %v, %v", what, holder, busy, u.Overdue(), want, late)
		}
		if ok != (passed && len(want) > 0) || ok && next != want[0] {
			t.Fatalf("%s: the turn went on to %d (%v), want %v", what, next, ok, want)
		}
	}
	for range 20000 {
		who := 1 + rng.IntN(6)
		in, inLate := slices.Index(want, who), slices.Index(late, who)
		switch op := rng.IntN(5); {
		case op < 2 && in < 0 && inLate < 0:
			if got := u.Take(who); got != (len(want) == 0) {
				t.Fatalf("Take(%d) = %v with %v before it", who, got, want)
			}
			want = append(want, who)
			check("Take", 0, false, false)
		case op == 2 && in <= 0:
			next, ok := u.Done(who)
			if in == 0 {
				want = want[1:]
			} else if inLate >= 0 {
				late = slices.Delete(late, inLate, inLate+1)
			}
			check("Done", next, ok, in == 0)
		case op == 3 && in > 0:
			u.Leave(who)
			want = slices.Delete(want, in, in+1)
			check("Leave", 0, false, false)
		case op == 4 && timed:
			timed = false
			now, busy := u.serial, len(want) > 0
			next, ok := u.Expire(serial)
			lost := busy && now == serial && len(want) > 1
			if lost {
				late, want = append(late, want[0]), want[1:]
			}
			check("Expire", next, ok, lost)
		}
		if s, start := u.Timer(); start {
			serial, timed = s, true
		}
		if len(want) > 0 && !timed {
			t.Fatal("a turn is not timed")
		}
	}
}
