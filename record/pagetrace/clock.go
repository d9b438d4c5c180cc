//go:build linux

// This file tells the time that a program has had beside the trace of its page writes.

package pagetrace

// programClock tells the time that a program has had, ns: that in stops is not its own,
// nor that which faults take which it would not have alone.
type programClock struct {
	zero      uint64 // CLOCK_MONOTONIC at time 0
	lost      uint64
	accounted uint64 // until when lost is known
	last      uint64
}

// resumed notes that a thread stands that was let go at a time, and that nothing has been
// noted since accounted.
func (c *programClock) resumed(at, now uint64) {
	if at > c.accounted {
		c.lost += at - c.accounted
	}
	c.accounted = now
}

// of is the program's time at a time; it does not go back.
func (c *programClock) of(t uint64) uint64 {
	if from := c.zero + c.lost; t > from {
		c.last = max(c.last, t-from)
	}
	return c.last
}
