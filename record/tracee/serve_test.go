//go:build linux

package tracee

import (
	"slices"
	"testing"

	"memtrace/record/ptrace"
)

// eager is a kernel whose youngest thread is back at once, each time it is let go: the
// others wait.
type eager struct {
	steppingKernel
	waiting []int
	ready   bool // the youngest
}

func (e *eager) NextSoon() (Fact, bool) { return e.young(), true }

func (e *eager) young() Fact {
	e.ready = false
	return Fact{TID: 3}
}

func (e *eager) Next(poll bool) (f Fact, err error) {
	switch {
	case e.ready:
		return e.young(), nil
	case len(e.waiting) == 0:
		return f, ptrace.ErrNone
	}
	f.TID, e.waiting = e.waiting[0], e.waiting[1:]
	return f, nil
}

// TestOthersToo: a thread that stops again and again keeps no other from being served.
func TestOthersToo(t *testing.T) {
	source := &eager{}
	g := &Group{threads: map[int]*Thread{}}
	g.facts.source = source
	for tid := 1; tid <= 3; tid++ {
		g.threads[tid] = &Thread{TID: tid, state: Running}
	}
	for _, soon := range []bool{false, true} {
		source.waiting = []int{2, 1}
		var served []int
		for range 2*turnEvery + 2 {
			g.soon, source.ready = soon, true
			f, err := g.next()
			if err != nil {
				t.Fatal(err)
			}
			served = append(served, f.TID)
		}
		for _, tid := range []int{1, 2} {
			if !slices.Contains(served, tid) {
				t.Errorf("soon %v: thread %d is not among those served: %v", soon, tid, served)
			}
		}
	}
}
