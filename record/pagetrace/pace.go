//go:build linux

// This file chooses pools and blocks of a page trace so that tracing takes about as long as the
// program does.

package pagetrace

import (
	"memtrace/format/addr"
	"memtrace/record/refs"
)

// Pools and blocks of auto. It begins with pages, and has larger blocks where they cost too
// much: each page that is used for the first time is a reference however large the pool is.
const (
	firstPool  = 1024
	mostGrain  = 64 << 10
	grainSteps = 4 // times as large
)

// ahead is how much longer than it may tracing takes before blocks become larger: programs
// use much memory for the first time when they begin, and less then.
const ahead = 25_000_000

// traceTotal is what all page traces of a recording have taken, and the time of the programs, ns.
type traceTotal struct{ spent, ran uint64 }

// granule is the size of the blocks that the trace of a new program begins with: a recording
// of many short ones would be behind for ever if each began with pages.
func (c *traceTotal) granule() uint64 {
	granule, late := uint64(addr.PageSize), share(c.ran)+ahead
	for c.spent > late && granule < mostGrain {
		granule, late = granule*grainSteps, late+ahead
	}
	return granule
}

// tracePace is what a page trace has taken, and how its pool changes because of that. Times
// are in ns.
type tracePace struct {
	total *traceTotal
	begun uint64 // when the tracing began that is under way
	spent uint64 // on tracing
	stop  uint64 // what a stop takes beside what the recorder does

	least uint64 // gap of the last faults
	seen  int    // of which it is the least

	phaseSpent, phaseRan uint64 // what spent and the program's time were as the phase began
}

// A stop is believed to take what the quickest of leastOf faults took to come, and not more
// than mostStop.
const (
	leastOf  = 1024
	mostStop = 30_000
)

// stopped learns what a stop takes from a fault that came gap after its thread was let go,
// and returns how much of the gap was the program's. A fault that comes at once is all stop.
func (c *tracePace) stopped(gap uint64) (ran uint64) {
	if c.seen == 0 || gap < c.least {
		c.least = min(gap, mostStop)
	}
	if c.seen++; c.seen == leastOf || c.stop == 0 || c.least < c.stop {
		c.stop = c.least
		c.seen %= leastOf
	}
	took := min(gap, c.stop)
	c.spend(took)
	return gap - took
}

// begin and end are around what the recorder does for a page trace.
func (c *tracePace) begin(now uint64) { c.begun = now }

func (c *tracePace) end(now uint64) {
	if c.begun != 0 {
		c.spend(now - min(now, c.begun))
		c.begun = 0
	}
}

func (c *tracePace) spend(d uint64) {
	c.spent += d
	c.total.spent += d
}

// share is how long tracing may take in a time of the program's: with what recording its
// calls takes, the program is to take twice as long.
func share(ran uint64) uint64 { return ran / 2 }

// behind reports whether the phase is to end before its pool is full, because larger blocks
// are needed: tracing takes too long, and did so in this phase.
func (c *tracePace) behind(granule, ran uint64) bool {
	return granule < mostGrain && c.spent > share(ran)+ahead && c.spent-c.phaseSpent > share(ran-c.phaseRan)+ahead/2
}

// next chooses the pool of the phase that begins, and returns the size of its blocks, which
// may change if it is free. ran is the program's time so far.
func (c *tracePace) next(s *refs.Space, ran uint64, free bool) (granule uint64) {
	spent, phase, behind := c.spent-c.phaseSpent, ran-c.phaseRan, free && c.behind(s.Granule(), ran)
	c.phaseSpent, c.phaseRan = c.spent, ran
	n, granule := s.Pool(), s.Granule()
	switch {
	case behind:
		s.SetPool(max(2*n/grainSteps, firstPool)) // twice the bytes
		granule *= grainSteps
	case spent > share(phase) || c.spent > share(ran):
		s.SetPool(min(2*n, mostPool))
	case spent < share(phase)/4 && n > leastPool:
		s.SetPool(max(n/2, leastPool))
	}
	return granule
}
