package replay

import (
	"fmt"
	"time"

	"memtrace/format"
)

// AppendTime appends when something was, as a clock says it: ns is since start, before
// the time of the line before. NoClock says nothing.
func (c Clock) AppendTime(b []byte, start time.Time, ns, before uint64) []byte {
	switch c {
	case Relative:
		return fmt.Appendf(b, "%d.%06d", ns/1e9, ns%1e9/1e3)
	case Delta:
		d := ns - min(before, ns)
		return fmt.Appendf(b, "%6d.%06d", d/1e9, d%1e9/1e3)
	case Absolute:
		return start.Add(time.Duration(ns)).Local().AppendFormat(b, "15:04:05.000000")
	}
	return b
}

// stepSpan is steps of which something is told.
type stepSpan struct {
	from, to         format.Step
	fromTime, toTime uint64
	end              bool // to is the log's last
}

// appendSteps appends "steps 3..13", or "steps 3 to the end", with their times behind
// them if there is a clock.
func appendSteps(b []byte, s stepSpan, clock Clock, start time.Time) []byte {
	switch {
	case s.end:
		b = fmt.Appendf(b, "steps %d to the end", s.from)
	case s.from == s.to:
		b = fmt.Appendf(b, "step %d", s.from)
	default:
		b = fmt.Appendf(b, "steps %d..%d", s.from, s.to)
	}
	if clock == NoClock {
		return b
	}
	b = clock.AppendTime(append(b, " ["...), start, s.fromTime, 0)
	if s.from != s.to {
		b = clock.AppendTime(append(b, ".."...), start, s.toTime, 0)
	}
	return append(b, ']')
}
