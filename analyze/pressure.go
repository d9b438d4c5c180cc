package analyze

import (
	"context"
	"fmt"
	"math"
	"strings"

	"memtrace/replay"
)

// SystemReport shows the system's memory at a step, and how it moved over the
// range.
func SystemReport(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	s, err := gather(ctx, t, o)
	if err != nil {
		return nil, err
	}
	at := o.To
	if o.At != nil {
		at = *o.At
	}
	var x *sample
	for i := range s.list {
		if c := &s.list[i]; c.system != nil && (c.step <= at || x == nil) {
			x = c
		}
	}
	if x == nil {
		r := System(nil, 0)
		r.Title, r.Notes = "", []string{noSamples}
		return r, nil
	}
	r := systemTable(x.system, x.step)
	r.Columns = append(r.Columns, Column{Key: "change", Title: "CHANGE", Unit: Bytes}, Column{Key: "low", Title: "LOWEST", Unit: Bytes}, Column{Key: "high", Title: "HIGHEST", Unit: Bytes})
	for i, row := range r.Rows {
		low, high := uint64(math.MaxUint64), uint64(0)
		var first *uint64
		for j := range s.list {
			if n, ok := s.list[j].system[row[1].(string)]; ok {
				low, high = min(low, n), max(high, n)
				if first == nil {
					first = &n
				}
			}
		}
		r.Rows[i] = append(row, int64(row[2].(uint64))-int64(*first), low, high)
	}
	r.Parts = s.events()
	return r, nil
}

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

// events are what happened between the first sample and the last.
func (s *samples) events() []*Result {
	r := &Result{Report: "events", Title: "Meanwhile, in the whole system", Columns: []Column{
		{Key: "event", Title: "EVENT", Unit: Text}, {Key: "count", Title: "COUNT", Unit: Count}, {Key: "means", Title: "WHICH ARE", Unit: Text, Cut: keepBegin},
	}}
	add := func(name string, from, to uint64, means string) {
		r.Rows = append(r.Rows, []any{name, to - min(from, to), means})
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
		r.Rows = append(r.Rows, []any{"cgroup", to, fmt.Sprintf("bytes charged to the program's cgroup at the end, %s at first", Size(from))})
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
	return []*Result{r}
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
	_, _ = fmt.Sscan(string(text), &n) // what is no number is 0
	return n
}
