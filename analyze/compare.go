package analyze

import (
	"context"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Comparison is what differs between the runs of two sides, A and B.
type Comparison struct {
	metrics  []metric
	memory   map[[2]string]*[3]sides // by kind and phase: bytes at the end, at the peak, growth in bytes per second
	mappings map[[2]string]*[3]sides // by name and permissions: number and bytes at the peak, bytes written
	sites    map[string]*[3]sides    // bytes that were committed, calls, bytes that stayed
	calls    map[string]*[5]sides    // number, failures, time, median and 99th percentile of a call
	files    map[string]*[3]sides    // read, written, time
	errors   map[[3]string]*sides    // by call, errno and path
	phases   []string                // in order
	brief    map[string]bool         // phases that are too short in a run to tell a rate
	bare     bool                    // a run has no call stacks
}

// metric is one figure of a run.
type metric struct {
	name string
	unit Unit
	sides
	least float64
}

// CompareOptions say how runs are compared.
type CompareOptions struct {
	Align  string   // one of Aligns
	Tables []string // those of ComparisonTables that are wanted; the summary always is
}

// ComparisonTables are the tables of a comparison.
var ComparisonTables = []string{"summary", "memory", "mappings", "sites", "calls", "files", "errors"}

// Compare compares runs of two sides. There is at least one of each.
func Compare(ctx context.Context, a, b []*replay.Trace, o CompareOptions) (*Comparison, error) {
	runs := slices.Concat(a, b)
	for _, t := range runs {
		if t.Count() == 0 {
			return nil, replay.ErrEmpty
		}
	}
	ps, err := phases(ctx, runs, o.Align)
	if err != nil {
		return nil, err
	}
	c := &Comparison{
		brief: map[string]bool{}, memory: map[[2]string]*[3]sides{}, mappings: map[[2]string]*[3]sides{}, sites: map[string]*[3]sides{},
		calls: map[string]*[5]sides{}, files: map[string]*[3]sides{}, errors: map[[3]string]*sides{},
		metrics: []metric{
			{name: "time", unit: Duration, least: 1e6}, {name: "calls", unit: Count}, {name: "failures", unit: Count}, {name: "time_in_calls", unit: Duration, least: 1e6},
			{name: "peak_rss", unit: Bytes, least: alikeBytes}, {name: "peak_mapped", unit: Bytes, least: alikeBytes},
			{name: "end_mapped", unit: Bytes, least: alikeBytes}, {name: "leak_rate", unit: Bytes, least: 1}, {name: "processes", unit: Count},
			{name: "read", unit: Bytes, least: alikeBytes}, {name: "written", unit: Bytes, least: alikeBytes}, {name: "exit_status", unit: Count},
		},
	}
	for _, p := range ps[0] {
		c.phases = append(c.phases, p.name)
	}
	for i, t := range runs {
		at := place{i < len(a), i, len(a), len(b)}
		if !at.inA {
			at.i -= len(a)
		}
		if err := c.read(ctx, t, at, ps[i], o.Tables); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// place is where the values of a run stand.
type place struct {
	inA    bool
	i      int
	na, nb int
}

// add adds to the value of a run.
func (p place) add(s *sides, v float64) {
	if s.a == nil {
		s.a, s.b = make([]float64, p.na), make([]float64, p.nb)
	}
	if p.inA {
		s.a[p.i] += v
	} else {
		s.b[p.i] += v
	}
}

// of is the entry of a key, made if need be.
func of[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

// read reads a run.
func (c *Comparison) read(ctx context.Context, t *replay.Trace, at place, ps []phase, tables []string) error {
	set := func(name string, v float64) {
		i := slices.IndexFunc(c.metrics, func(m metric) bool { return m.name == name })
		at.add(&c.metrics[i].sides, v)
	}
	for _, f := range []func() error{
		func() error { return c.readCalls(ctx, t, at, set) },
		func() error { return c.readFiles(ctx, t, at, set) },
		func() error { return c.readMemory(ctx, t, at, ps, set) },
		func() error { return c.readLife(ctx, t, set) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	if slices.Contains(tables, "mappings") {
		if err := c.readMappings(ctx, t, at); err != nil {
			return err
		}
	}
	if slices.Contains(tables, "sites") {
		return c.readSites(ctx, t, at)
	}
	return nil
}

// allOf are the options for all of a run.
func allOf(t *replay.Trace) Options {
	last, _ := t.Last()
	return Options{To: last}
}

// readCalls reads the calls of a run by name.
func (c *Comparison) readCalls(ctx context.Context, t *replay.Trace, at place, set func(string, float64)) error {
	calls, err := Syscalls(ctx, t, allOf(t))
	if err != nil {
		return err
	}
	for _, r := range calls.Rows {
		if r.Name == "restart_syscall" { // the rest of a call that a signal or a snapshot has interrupted
			continue
		}
		x := of(c.calls, r.Name)
		at.add(&x[0], float64(r.Calls))
		at.add(&x[1], float64(r.Errors))
		at.add(&x[2], float64(r.Time))
		if r.P50 != nil {
			at.add(&x[3], float64(*r.P50))
			at.add(&x[4], float64(*r.P99))
		}
	}
	set("calls", float64(calls.Total.Calls))
	set("failures", float64(calls.Total.Errors))
	set("time_in_calls", float64(calls.Total.Time))
	return nil
}

// readFiles reads what a run did with files, and what failed.
func (c *Comparison) readFiles(ctx context.Context, t *replay.Trace, at place, set func(string, float64)) error {
	files, err := Files(ctx, t, allOf(t))
	if err != nil {
		return err
	}
	set("read", 0)
	set("written", 0)
	for _, r := range files.Rows {
		x := of(c.files, folded(r.Name))
		at.add(&x[0], float64(r.Read))
		at.add(&x[1], float64(r.Written))
		at.add(&x[2], float64(r.Time))
		set("read", float64(r.Read))
		set("written", float64(r.Written))
	}
	return eachCall(ctx, t, allOf(t), func(p *replay.Printer, m *replay.Moment, s *format.Syscall) {
		if !failed(s) {
			return
		}
		path := ""
		if names := filesOf(p, m); names != nil {
			path = folded(names[len(names)-1])
		}
		at.add(of(c.errors, [3]string{replay.CallName(s.Arch, s.Nr), arch.ErrnoName(int(-s.Ret)), path}), 1)
	})
}

// readLife reads how long a run was, what it leaked and how it ended.
func (c *Comparison) readLife(ctx context.Context, t *replay.Trace, set func(string, float64)) error {
	leaks, err := Leaks(ctx, t, allOf(t))
	if err != nil {
		return err
	}
	set("leak_rate", 0)
	if v := leaks.Verdict; v.Word == "leak" && v.Rate != nil {
		set("leak_rate", float64(*v.Rate))
	}
	last, _ := t.Last()
	times, err := t.Times(last)
	if err != nil {
		return err
	}
	lives, err := t.Lives(ctx)
	if err != nil {
		return err
	}
	status := 0.0
	if len(lives) > 0 && lives[0].Ended {
		if status = float64(lives[0].Status >> 8 & 0xff); lives[0].Status&0x7f != 0 {
			status = 128 + float64(lives[0].Status&0x7f) // as a shell says it
		}
	}
	set("time", float64(times[0]))
	set("processes", float64(len(lives)))
	set("exit_status", status)
	return nil
}

// readMemory reads what is mapped in each phase of a run, and its highest RSS.
func (c *Comparison) readMemory(ctx context.Context, t *replay.Trace, at place, ps []phase, set func(string, float64)) error {
	peak := 0.0
	for _, p := range ps {
		g, err := Growth(ctx, t, Options{From: p.from, To: p.to})
		if err != nil {
			return err
		}
		took, err := secondsOf(t, p)
		if err != nil {
			return err
		}
		if took < shortestRate {
			c.brief[p.name] = true
		}
		for _, r := range g.Rows {
			x := of(c.memory, [2]string{r.Kind, p.name})
			at.add(&x[0], float64(r.End))
			at.add(&x[1], float64(r.Peak))
			at.add(&x[2], float64(r.Net)/max(took, shortestRate))
		}
		peak = max(peak, float64(g.Total.Peak))
		if p.end {
			set("end_mapped", float64(g.Total.End))
		}
	}
	set("peak_mapped", peak)
	rss := uint64(0)
	for ev, err := range t.Events(0) {
		if err != nil {
			return err
		}
		if r, ok := ev.Record.(*format.MemInfo); ok {
			for _, x := range residents(r) {
				rss = max(rss, x.most)
			}
		}
	}
	set("peak_rss", float64(rss))
	return nil
}

// shortestRate is how many seconds a phase must have for its growth to be told as a rate.
const shortestRate = 0.1

// secondsOf is how long a phase took.
func secondsOf(t *replay.Trace, p phase) (float64, error) {
	times, err := t.Times(p.from, p.to)
	if err != nil {
		return 0, err
	}
	return float64(times[1]-times[0]) / 1e9, nil
}

// readMappings reads the mappings of a run when it had most mapped, and what snapshots found
// written to them.
func (c *Comparison) readMappings(ctx context.Context, t *replay.Trace, at place) error {
	g, err := Growth(ctx, t, allOf(t))
	if err != nil {
		return err
	}
	s, err := t.Before(g.Total.PeakStep + 1)
	if err != nil {
		return err
	}
	for _, mm := range s.MMs {
		for v := range mm.VMAs.All() {
			x := of(c.mappings, mappingKey(v))
			at.add(&x[0], 1)
			at.add(&x[1], float64(v.Len()))
		}
	}
	book, err := writtenIn(ctx, t, allOf(t))
	if err != nil {
		return err
	}
	for _, w := range book.order {
		x := of(c.mappings, mappingKey(w.v))
		at.add(&x[2], float64(uint64(len(w.pages))<<addr.PageShift))
	}
	return nil
}

// sizeClasses tell anonymous mappings apart.
var sizeClasses = []struct {
	below uint64
	name  string
}{{64 << 10, "below 64 KiB"}, {1 << 20, "64 KiB to 1 MiB"}, {16 << 20, "1 to 16 MiB"}, {256 << 20, "16 to 256 MiB"}, {1 << 63, "256 MiB and more"}}

// mappingKey is the name of a mapping by which other runs have it too, and its permissions.
// Memory without a file is told apart by its size, roughly: the kernel merges neighbours.
func mappingKey(v vma.VMA) [2]string {
	name := folded(v.Name)
	switch {
	case v.Kind == vma.AnonPrivate || v.Kind == vma.AnonShared:
		name = v.Kind.String()
		for _, c := range sizeClasses {
			if v.Len() < c.below {
				name += ", " + c.name
				break
			}
		}
	case name == "":
		name = v.Kind.String()
	}
	return [2]string{name, v.Prot.String()}
}

// readSites reads who asked for memory in a run, by function.
func (c *Comparison) readSites(ctx context.Context, t *replay.Trace, at place) error {
	if !t.HasCallStacks() {
		c.bare = true
		return nil
	}
	o := allOf(t)
	o.By = "function"
	r, err := CallSites(ctx, t, o)
	if err != nil {
		return err
	}
	for _, row := range r.Rows {
		x := of(c.sites, folded(withoutTemplates(row.Site)))
		at.add(&x[0], float64(row.Committed))
		at.add(&x[1], float64(row.Calls))
		at.add(&x[2], float64(row.Live))
	}
	return nil
}

// withoutTemplates is a function's name without what stands in < and >: other builds spell
// that in other ways.
func withoutTemplates(name string) string {
	var b strings.Builder
	depth := 0
	for i, r := range name {
		switch {
		case r == '<' && !strings.HasSuffix(name[:i], "operator"):
			depth++
		case r == '>' && depth > 0:
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// folded is the name of a file with its numbers taken for any: those of another run have
// others.
func folded(name string) string {
	var b strings.Builder
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for i := 0; i < len(name); i++ {
		switch {
		case !digit(name[i]):
			b.WriteByte(name[i])
		case i == 0 || !digit(name[i-1]):
			b.WriteByte('#')
		}
	}
	return b.String()
}
