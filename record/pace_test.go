//go:build linux

package record

import (
	"testing"
	"time"

	"memtrace/format"
	"memtrace/record/snapshot"
)

// knocker is a Group of which a test says when a thread has come, and whether somebody
// asks for something.
type knocker struct{ came, wanted bool }

func (k *knocker) Poll() bool   { return k.came }
func (k *knocker) Wanted() bool { return k.wanted }

func copies() *snapshot.Copies {
	return snapshot.NewCopies(snapshot.NewDirect(1, func() *format.MM { return nil }, func(*format.Pages) {}))
}

// TestHoldAsleep: a program whose threads all sleep is read for as long as nobody comes,
// and at most for idleMost; who comes has waited from then on only.
func TestHoldAsleep(t *testing.T) {
	g := &knocker{}
	begin := time.Now()
	h := hold{group: g, sink: copies(), begin: begin.Add(time.Hour), limit: time.Hour} // however slow this test is
	if h.over() || h.sink.Keeping() || h.lasted() != 0 {
		t.Errorf("nobody waits: over, or held for %v", h.lasted())
	}
	g.came = true
	if h.over() || !h.sink.Keeping() || h.since.IsZero() {
		t.Error("a thread waits, and nobody knows")
	}
	time.Sleep(time.Millisecond)
	if d := h.lasted(); d < time.Millisecond || d > time.Since(begin) {
		t.Errorf("held for %v", d)
	}
	h = hold{group: &knocker{}, sink: copies(), begin: time.Now().Add(-2 * idleMost), limit: time.Hour}
	if !h.over() || h.lasted() != 0 {
		t.Error("to read a sleeping program takes for ever")
	}
}

// TestHoldLimits: threads that run are held from the beginning, and no longer than the
// limit.
func TestHoldLimits(t *testing.T) {
	g := &knocker{}
	begin := time.Now()
	h := hold{group: g, sink: copies(), begin: begin, limit: time.Hour}
	h.waitedFor(begin)
	if h.over() || !h.sink.Keeping() {
		t.Error("over at once, or what is read is not kept in copies")
	}
	h.begin, h.limit = begin.Add(-time.Second), time.Second/2
	if !h.over() {
		t.Error("not over")
	}
	if g.came = true; !h.over() {
		t.Error("not over while somebody else waits")
	}
}

// TestPacer: a sweep stops for who comes and for who asks, when its time is over, and
// when threads have waited for as long as they may.
func TestPacer(t *testing.T) {
	start := func(ago time.Duration) (*pacer, *knocker) {
		g := &knocker{}
		return &pacer{group: g, begin: time.Now().Add(-ago), chunk: time.Now(), limit: time.Hour, patience: time.Hour}, g
	}
	p, g := start(0)
	if p.stop() || p.over() {
		t.Error("it stops for nothing")
	}
	if g.wanted = true; !p.stop() || p.waited != 0 {
		t.Errorf("somebody asks: waited %v", p.waited)
	}
	p, g = start(0)
	g.came = true
	p.chunk = time.Now().Add(-time.Second)
	if !p.stop() || p.waited < time.Second || p.waited > 2*time.Second {
		t.Errorf("a thread came during a chunk of a second: waited %v", p.waited)
	}
	before := p.waited
	if !p.stop() || p.waited < before || p.waited > before+time.Second/2 {
		t.Errorf("it waits for the next chunk: %v in all, %v before", p.waited, before)
	}
	if p.over() {
		t.Error("over")
	}
	if p.patience = time.Second; !p.over() {
		t.Error("threads have waited for too long, and it is not over")
	}
	p, _ = start(time.Minute)
	if p.limit = time.Minute / 2; !p.over() || !p.stop() {
		t.Error("its time is over, and it is not")
	}
}
