//go:build linux

package pagetrace

import (
	"testing"

	"memtrace/record/dirty"
)

// TestProgramClock: time at stops is not the program's, and its clock does not go back.
func TestProgramClock(t *testing.T) {
	c := programClock{zero: 1000, accounted: 1000}
	at := func(now, want uint64) {
		t.Helper()
		if got := c.of(now); got != want {
			t.Errorf("at %d: %d, want %d", now, got, want)
		}
	}
	at(900, 0)
	at(1100, 100)
	c.resumed(1000, 1200) // a thread that has run since the beginning stands
	at(1200, 200)
	c.resumed(1300, 1500) // it was let go after 100, and stands again
	at(1500, 400)
	at(1450, 400)
	c.resumed(1100, 1600) // another one has run all the time
	at(1600, 500)
	c.lost += 1000
	at(1700, 500)
	at(2900, 800)
}

// TestWritesPool: the pool grows while tracing takes more time than the program, and never
// where one was asked for.
func TestWritesPool(t *testing.T) {
	for _, c := range []struct {
		asked, pool, refs, took uint64
		want                    uint64
	}{
		{0, firstWrites, firstWrites, firstWrites * writeCost, 2 * firstWrites},
		{0, firstWrites, firstWrites, 3 * firstWrites * writeCost, firstWrites},
		{0, 4 * firstWrites, 4 * firstWrites, 100 * firstWrites * writeCost, 2 * firstWrites},
		{0, firstWrites, firstWrites, 100 * firstWrites * writeCost, firstWrites},
		{0, mostWrites, mostWrites, mostWrites, mostWrites},
		{0, firstWrites, firstWrites / 4, 1, firstWrites}, // it ended before the pool was full
		{512, 512, 512, 1, 512},
	} {
		x := &writeTrace{Writes: &dirty.Writes{Pool: c.pool}, w: &Writes{pool: c.asked}, refs: c.refs, begun: 7}
		x.adapt(7 + c.took)
		if x.Pool != c.want || x.refs != 0 || x.begun != 7+c.took {
			t.Errorf("%+v: pool %d", c, x.Pool)
		}
	}
}
