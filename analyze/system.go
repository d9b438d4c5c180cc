package analyze

import (
	"context"
	"fmt"
	"math"
	"strings"

	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/replay"
)

// SystemReport is the system's memory at a step, how it moved over the range, and
// what happened in it.
type SystemReport struct {
	Step   format.Step // of the sample
	Rows   []SystemMove
	Events *EventsReport // nil: none were sampled
}

// SystemRow is a line of /proc/meminfo, in bytes.
type SystemRow struct {
	Group string  `col:"group,"` // of the first line of a group
	Key   string  `col:"key,"`
	Bytes uint64  `col:"bytes,SIZE,bytes"`
	Share float64 `col:"share,SHARE,percent"` // of MemTotal
}

// SystemMove is such a line with how it moved.
type SystemMove struct {
	SystemRow
	Change int64  `col:"change,CHANGE,bytes"` // since the first sample
	Low    uint64 `col:"low,LOWEST,bytes"`
	High   uint64 `col:"high,HIGHEST,bytes"`
}

// Sheet lays the report out.
func (r *SystemReport) Sheet() *Sheet {
	if len(r.Rows) == 0 {
		s := (&SystemTable{}).Sheet()
		s.Title, s.Notes, s.several = "", []string{noSamples}, true
		return s
	}
	s := sheet("system", r.Rows)
	s.Title = systemTitle(r.Step)
	s.several = true
	if r.Events != nil {
		s.Parts = []*Sheet{r.Events.Sheet()}
	}
	return s
}

func systemTitle(at format.Step) string {
	return fmt.Sprintf("Memory of the system, sampled at step %d", at)
}

// SystemTable is one text of /proc/meminfo.
type SystemTable struct {
	Step format.Step // at which it was read
	Rows []SystemRow
}

// Sheet lays the table out.
func (r *SystemTable) Sheet() *Sheet {
	s := sheet("system", r.Rows)
	s.Title = systemTitle(r.Step)
	return s
}

// group is a part of /proc/meminfo that belongs together.
type group struct {
	name, explain string
	keys          []string
}

// groups put /proc/meminfo in the order in which a person asks
// (proc_meminfo(5)).
var groups = []group{
	{"free", "MemFree is unused; MemAvailable is what could be had without swapping", []string{"MemTotal", "MemFree", "MemAvailable"}},
	{"page cache", "file contents kept in memory: given back when memory is short", []string{
		"Buffers", "Cached", "SwapCached", "Active(file)", "Inactive(file)", "Dirty", "Writeback", "Shmem",
	}},
	{"programs", "memory of programs that no file backs, and files they have mapped", []string{
		"AnonPages", "Active(anon)", "Inactive(anon)", "Mapped", "AnonHugePages", "Unevictable", "Mlocked",
	}},
	{"kernel", "the kernel's own: SUnreclaim that grows for ever is a kernel leak", []string{
		"Slab", "SReclaimable", "SUnreclaim", "PageTables", "KernelStack", "VmallocUsed", "Percpu",
	}},
	{"commitment", "what programs were promised, against what may be promised at all", []string{"Committed_AS", "CommitLimit"}},
	{"swap", "SwapFree that falls means that memory was not enough", []string{"SwapTotal", "SwapFree", "Zswap", "Zswapped"}},
}

// SystemAt shows a text of /proc/meminfo in groups, as read at step at.
func SystemAt(text []byte, at format.Step) *SystemTable {
	return &SystemTable{at, grouped(sizes(text))}
}

// grouped puts values of /proc/meminfo into groups.
func grouped(m map[string]uint64) (rows []SystemRow) {
	for _, g := range groups {
		name := g.name
		for _, k := range g.keys {
			if n, ok := m[k]; ok {
				rows = append(rows, SystemRow{name, k, n, percent(n, m["MemTotal"])})
				name = ""
			}
		}
	}
	return rows
}

// System shows the system's memory at a step, and how it moved over the range.
func System(ctx context.Context, t *replay.Trace, o Options) (*SystemReport, error) {
	s, err := gather(ctx, t, o, nil)
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
		return &SystemReport{}, nil
	}
	r := &SystemReport{Step: x.step, Events: s.events()}
	for _, row := range grouped(x.system) {
		r.Rows = append(r.Rows, s.move(row))
	}
	return r, nil
}

// move is how a line of /proc/meminfo moved.
func (s *samples) move(row SystemRow) SystemMove {
	m := SystemMove{SystemRow: row, Low: math.MaxUint64}
	first := true
	for i := range s.list {
		n, ok := s.list[i].system[row.Key]
		if !ok {
			continue
		}
		m.Low, m.High = min(m.Low, n), max(m.High, n)
		if first {
			m.Change, first = int64(row.Bytes)-int64(n), false
		}
	}
	return m
}

// SystemHelp explains the groups.
func SystemHelp() string {
	var b strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&b, "  %-11s %s\n              (%s)\n", g.name, g.explain, strings.Join(g.keys, ", "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// sizes are the fields of a text of /proc that are numbers, in bytes where they
// are of memory.
func sizes(text []byte) map[string]uint64 {
	m := map[string]uint64{}
	for k, v := range proctext.Fields(text) {
		if n, ok := v.Size(); ok {
			m[string(k)] = n
		}
	}
	return m
}
