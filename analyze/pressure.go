package analyze

import (
	"fmt"
	"strings"
)

// counters are lines of /proc/vmstat with what they mean.
var counters = []struct{ prefix, means string }{
	{"pgfault", "page faults"},
	{"pgmajfault", "page faults that had to read from a disk"},
	{"pgscan_kswapd", "pages looked at to be reclaimed, in the background"},
	{"pgscan_direct", "pages looked at by programs that had to wait for memory"},
	{"pgsteal_kswapd", "pages reclaimed, in the background"},
	{"pgsteal_direct", "pages reclaimed while a program waited"},
	{"allocstall_", "allocations that had to wait for memory"},
	{"workingset_refault_file", "file pages read again soon after they were dropped"},
	{"workingset_refault_anon", "pages swapped in again soon after they were swapped out"},
	{"pswpin", "pages swapped in"},
	{"pswpout", "pages swapped out"},
	{"oom_kill", "processes killed for want of memory"},
}

// EventsReport is what happened in the system between the first sample and the
// last.
type EventsReport struct {
	Rows []EventRow
}

// EventRow is one sort of event.
type EventRow struct {
	Event string `col:"event,EVENT"`
	Count uint64 `col:"count,COUNT"`
	Means string `col:"means,WHICH ARE,cut=begin"`
}

// Sheet lays the report out.
func (r *EventsReport) Sheet() *Sheet {
	s := sheet("events", r.Rows)
	s.Title = "Meanwhile, in the whole system"
	return s
}

// events are what happened between the first sample and the last; nil if it was
// not sampled.
func (s *samples) events() *EventsReport {
	r := &EventsReport{}
	add := func(name string, from, to uint64, means string) {
		r.Rows = append(r.Rows, EventRow{name, to - min(from, to), means})
	}
	a, b := parseCounters(s.first["vmstat"]), parseCounters(s.final["vmstat"])
	for _, c := range counters {
		var from, to uint64
		found := false
		for k, n := range b {
			if k == c.prefix || strings.HasSuffix(c.prefix, "_") && strings.HasPrefix(k, c.prefix) {
				found = true
				from, to = from+a[k], to+n
			}
		}
		if found {
			add(strings.TrimSuffix(c.prefix, "_"), from, to, c.means)
		}
	}
	for _, kind := range []string{"some", "full"} {
		from, ok1 := stalled(s.first["pressure"], kind)
		to, ok2 := stalled(s.final["pressure"], kind)
		if ok1 && ok2 {
			add("stalled_"+kind, from, to, "us in which "+kind+" tasks waited for memory (/proc/pressure/memory)")
		}
	}
	if now, ok := s.final["cgroup.current"]; ok {
		from, to := number(s.first["cgroup.current"]), number(now)
		r.Rows = append(r.Rows, EventRow{"cgroup", to, fmt.Sprintf("bytes charged to the program's cgroup at the end, %s at first", Size(from))})
	}
	if text, ok := s.final["cgroup.events"]; ok {
		before := parseCounters(s.first["cgroup.events"])
		now := parseCounters(text)
		for _, k := range []string{"high", "max", "oom", "oom_kill", "under_oom"} {
			if n, ok := now[k]; ok {
				add("cgroup_"+k, before[k], n, "memory events of the cgroup")
			}
		}
	}
	if len(r.Rows) == 0 {
		return nil
	}
	return r
}

// stalled reads the total of a line of /proc/pressure/memory.
func stalled(text []byte, kind string) (us uint64, ok bool) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != kind {
			continue
		}
		if v, found := strings.CutPrefix(f[len(f)-1], "total="); found {
			return number([]byte(v)), true
		}
	}
	return 0, false
}

func number(text []byte) (n uint64) {
	_, _ = fmt.Sscan(string(text), &n) // what is not a number is 0
	return n
}
