package web

import (
	"context"
	"slices"
	"testing"
	"time"
)

// TestPiecemeal has two wait for an answer that comes in parts: each is told each part once
// and while the rest is still being made, also the one who comes late.
func TestPiecemeal(t *testing.T) {
	l := &Log{cache: map[string]*answer{}}
	more := make(chan string)
	work := func(_ context.Context, _ func(float64), part func(any)) (any, error) {
		for s := range more {
			part(s)
		}
		return "all", nil
	}
	type end struct {
		v     any
		err   error
		parts []any
	}
	told := make(chan any, 10)
	wait := func() chan end {
		ch := make(chan end, 1)
		go func() {
			var parts []any
			v, err := l.piecemeal(t.Context(), "k", nil, func(p any) {
				parts = append(parts, p)
				told <- p
			}, work)
			ch <- end{v, err, parts}
		}()
		return ch
	}
	next := func(want any) {
		t.Helper()
		select {
		case p := <-told:
			if p != want {
				t.Errorf("told %v, want %v", p, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%v is not told before the end", want)
		}
	}
	first := wait()
	more <- "one"
	next("one")
	late := wait()
	next("one")
	more <- "two"
	next("two")
	next("two")
	close(more)
	for _, ch := range []chan end{first, late} {
		if e := <-ch; e.err != nil || e.v != "all" || !slices.Equal(e.parts, []any{"one", "two"}) {
			t.Errorf("%+v", e)
		}
	}
}
