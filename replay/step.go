package replay

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
)

// StepOf turns what a user types into a step: a number, a negative number from the end,
// "first", "last", a percentage; a time, which means the last step at or before it:
// since the start ("1.25s"), before the end ("-3s", "last-3s"), or by the wall clock
// ("12:04:05.3"); "signal", the last signal that a process got, or "crash", the first
// that killed one.
func (t *Trace) StepOf(s string) (format.Step, error) {
	last, ok := t.Last()
	if !ok {
		return 0, ErrEmpty
	}
	first := t.First()
	s = strings.TrimSpace(s)
	switch s {
	case "last":
		return last, nil
	case "first":
		return first, nil
	case "signal":
		return t.signalStep(false)
	case "crash":
		return t.signalStep(true)
	}
	bad := WordError{fmt.Errorf("%q is not a step: want a number up to %d, last, -1, 50%%, a time as 1.25s, -3s or 12:04:05, signal or crash", s, last)}
	back, isBack := strings.CutPrefix(s, "last-")
	if !isBack {
		back, isBack = strings.CutPrefix(s, "-")
	}
	switch {
	case isBack:
		return t.stepBack(s, back, bad)
	case strings.HasSuffix(s, "%"):
		p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil || p < 0 || p > 100 || math.IsNaN(p) {
			return 0, bad
		}
		return min(first+format.Step(p/100*float64(last-first)+0.5), last), nil
	case strings.Contains(s, ":"):
		return t.stepAtClock(s, bad)
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		if format.Step(n) > last {
			return 0, fmt.Errorf("step %d lies after the last: the log has steps %d to %d", n, first, last)
		}
		if format.Step(n) < first {
			return 0, fmt.Errorf("step %d lies before the first: the log has steps %d to %d", n, first, last)
		}
		return format.Step(n), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, bad
	}
	return t.StepAt(d)
}

// stepBack is what -N, last-N (steps) and -T, last-T (a time) mean. -1 is the last step,
// last-1 the one before.
func (t *Trace) stepBack(s, back string, bad error) (format.Step, error) {
	last, _ := t.Last()
	n, err := strconv.ParseUint(back, 10, 64)
	if err == nil {
		if strings.HasPrefix(s, "-") {
			if n == 0 {
				return 0, bad
			}
			n--
		}
		if n > uint64(last-t.First()) {
			return 0, fmt.Errorf("step %s lies before the first: the log has steps %d to %d", s, t.First(), last)
		}
		return last - format.Step(n), nil
	}
	d, err := time.ParseDuration(back)
	if err != nil || d < 0 {
		return 0, bad
	}
	times, err := t.Times(last)
	if err != nil {
		return 0, err
	}
	end := time.Duration(times[0])
	if d > end {
		return 0, fmt.Errorf("%s lies before the begin: the log is %v long", s, end)
	}
	return t.StepAt(end - d)
}

// stepAtClock is the last step at or before a time of day, in this machine's time zone,
// on the day of the recording or, where that was before it began, on the next.
func (t *Trace) stepAtClock(s string, bad error) (format.Step, error) {
	var clock time.Time
	var err error
	for _, layout := range []string{"15:04:05", "15:04"} { // a fraction of a second may follow
		if clock, err = time.Parse(layout, s); err == nil {
			break
		}
	}
	if err != nil {
		return 0, bad
	}
	last, _ := t.Last()
	times, err := t.Times(last)
	if err != nil {
		return 0, err
	}
	begin := t.Header().Start.Local()
	at := time.Date(begin.Year(), begin.Month(), begin.Day(), clock.Hour(), clock.Minute(), clock.Second(), clock.Nanosecond(), time.Local)
	end := begin.Add(time.Duration(times[0]))
	if at.Before(begin) && !at.AddDate(0, 0, 1).After(end) {
		at = at.AddDate(0, 0, 1)
	}
	if at.Before(begin) || at.After(end) {
		const show = "15:04:05.000"
		return 0, fmt.Errorf("%s is not in the log: it lasts from %s to %s", s, begin.Format(show), end.Format(show))
	}
	return t.StepAt(at.Sub(begin))
}

// signalStep is the last step at which a process got a signal, or the first at which one
// was killed by it.
func (t *Trace) signalStep(fatal bool) (n format.Step, err error) {
	found := false
	for ev, err := range t.r.Events(0) {
		if err != nil {
			return 0, err
		}
		sig, ok := ev.Record.(*format.Signal)
		if !ok || fatal && !sig.Fatal {
			continue
		}
		n, found = ev.Step, true
		if fatal {
			break
		}
	}
	switch {
	case found:
		return n, nil
	case fatal:
		return 0, fmt.Errorf("crash: no signal killed a process of this log")
	}
	return 0, fmt.Errorf("signal: no process of this log got one")
}
