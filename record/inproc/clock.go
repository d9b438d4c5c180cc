// This file turns the processor's time stamp counter into the recording's time.

package inproc

// Clock says what time it was at a reading of the time stamp counter. It is right where
// the kernel's own clock is that counter.
type Clock struct {
	now  func() uint64 // ns since the recording's start
	a, b moment        // the last two looks at both
}

// moment is both clocks at once.
type moment struct{ tsc, ns uint64 }

// NewClock begins with a look at both clocks.
func NewClock(now func() uint64) *Clock {
	c := &Clock{now: now}
	c.b = c.look()
	c.a = c.b
	return c
}

// look reads both clocks.
func (c *Clock) look() moment {
	tsc := counter()
	ns := c.now()
	return moment{tsc + (counter()-tsc)/2, ns}
}

// clockSpan is how far apart the looks are that the counter's rate is taken from: a look
// is off by some 50 ns.
const clockSpan = 1_000_000 // ns

// Look reads both clocks. What has happened before is timed by this look and one before.
func (c *Clock) Look() {
	m := c.look()
	if c.b.ns-c.a.ns >= clockSpan {
		c.a = c.b
	}
	c.b = m
}

// Last is the counter at the last look.
func (c *Clock) Last() uint64 { return c.b.tsc }

// Time is what time it was at a reading of the counter, no later than the last look.
func (c *Clock) Time(tsc uint64) uint64 {
	if tsc >= c.b.tsc || c.b.tsc == c.a.tsc {
		return c.b.ns
	}
	back := float64(c.b.tsc-tsc) * float64(c.b.ns-c.a.ns) / float64(c.b.tsc-c.a.tsc)
	return c.b.ns - min(c.b.ns, uint64(back))
}
