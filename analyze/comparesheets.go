package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// SummaryDiffRow compares one figure of the runs.
type SummaryDiffRow struct {
	What   string   `col:"what,WHAT"`
	Unit   string   `col:"unit,UNIT,fine"` // bytes, ns or ""
	A      float64  `col:"a,A,fine"`
	B      float64  `col:"b,B,fine"`
	Delta  float64  `col:"delta,DELTA,fine"`
	ShownA string   `col:"a_text,A"`
	ShownB string   `col:"b_text,B"`
	Change string   `col:"change,CHANGE"`
	Word   string   `col:"verdict,B HAS"` // more, less, "~" (alike), only in A, only in B
	P      *float64 `col:"p,P"`
}

// MemoryDiffRow compares the mapped bytes of a kind in a phase.
type MemoryDiffRow struct {
	Kind      string   `col:"kind,KIND"`
	Phase     string   `col:"phase,PHASE"`
	AEnd      int64    `col:"a_end,A AT END,bytes,fine"`
	BEnd      int64    `col:"b_end,B AT END,bytes,fine"`
	Delta     int64    `col:"delta,DELTA,bytes,fine"`
	APeak     int64    `col:"a_peak,A PEAK,bytes"`
	BPeak     int64    `col:"b_peak,B PEAK,bytes"`
	DeltaPeak int64    `col:"delta_peak,DELTA,bytes"`
	ARate     *int64   `col:"a_rate,A PER S,bytes,drop=1"` // growth, without forks and exits; nil: of a phase that is too short
	BRate     *int64   `col:"b_rate,B PER S,bytes,drop=1"`
	Word      string   `col:"verdict,B HAS"` // of the peak
	P         *float64 `col:"p,P,drop=2"`
}

// MappingDiffRow compares the mappings of a name at the moment when most was mapped.
type MappingDiffRow struct {
	ACount   int64  `col:"a_count,A MAPPINGS,drop=2"`
	BCount   int64  `col:"b_count,B MAPPINGS,drop=2"`
	ABytes   int64  `col:"a_bytes,A BYTES,bytes"`
	BBytes   int64  `col:"b_bytes,B BYTES,bytes"`
	Delta    int64  `col:"delta,DELTA,bytes"`
	AWritten int64  `col:"a_written,A WRITTEN,bytes,drop=1"` // that snapshots found, over the run
	BWritten int64  `col:"b_written,B WRITTEN,bytes,drop=1"`
	Only     string `col:"only_in,ONLY IN"`
	Perms    string `col:"perms,PERMS"`
	Name     string `col:"name,NAME,cut=end,least=24"`
}

// SiteDiffRow compares what a function asked for.
type SiteDiffRow struct {
	ABytes    int64  `col:"a_bytes,A BYTES,bytes,drop=2"` // committed
	BBytes    int64  `col:"b_bytes,B BYTES,bytes,drop=2"`
	Delta     int64  `col:"delta,DELTA,bytes,fine"`
	ACalls    int64  `col:"a_calls,A CALLS,drop=1"`
	BCalls    int64  `col:"b_calls,B CALLS,drop=1"`
	ALive     int64  `col:"a_live,A LIVE,bytes"`
	BLive     int64  `col:"b_live,B LIVE,bytes"`
	DeltaLive int64  `col:"delta_live,DELTA,bytes"`
	Only      string `col:"only_in,ONLY IN"`
	Site      string `col:"site,SITE,cut=begin,least=24"`
}

// CallDiffRow compares the calls of a name.
type CallDiffRow struct {
	Name    string   `col:"call,CALL"`
	AN      int64    `col:"a_n,A CALLS,drop=2"`
	BN      int64    `col:"b_n,B CALLS,drop=2"`
	AFailed int64    `col:"a_failed,A FAILED,fine"`
	BFailed int64    `col:"b_failed,B FAILED,fine"`
	AP50    uint64   `col:"a_p50,A MEDIAN,ns,drop=1"`
	BP50    uint64   `col:"b_p50,B MEDIAN,ns,drop=1"`
	AP99    uint64   `col:"a_p99,A 99 %,ns,drop=3"`
	BP99    uint64   `col:"b_p99,B 99 %,ns,drop=3"`
	ATime   uint64   `col:"a_time,A TIME,ns"`
	BTime   uint64   `col:"b_time,B TIME,ns"`
	Delta   int64    `col:"delta_time,DELTA,ns"`
	Word    string   `col:"verdict,B HAS"` // of the time
	P       *float64 `col:"p,P,drop=4"`
}

// FileDiffRow compares what was done with a file.
type FileDiffRow struct {
	ARead    int64  `col:"a_read,A READ,bytes"`
	BRead    int64  `col:"b_read,B READ,bytes"`
	AWritten int64  `col:"a_written,A WRITTEN,bytes"`
	BWritten int64  `col:"b_written,B WRITTEN,bytes"`
	ATime    uint64 `col:"a_time,A TIME,ns,drop=1"`
	BTime    uint64 `col:"b_time,B TIME,ns,drop=1"`
	Only     string `col:"only_in,ONLY IN"`
	Path     string `col:"path,FILE,cut=end,least=24"`
}

// ErrorDiffRow compares failures.
type ErrorDiffRow struct {
	Name  string `col:"call,CALL"`
	Errno string `col:"errno,ERROR"`
	A     int64  `col:"a_n,A"`
	B     int64  `col:"b_n,B"`
	Only  string `col:"only_in,ONLY IN"`
	Path  string `col:"path,FILE,cut=end,least=24"`
}

// Sheet lays out one of ComparisonTables, what differs most first. Unless all is wanted,
// rows that are alike are left out.
func (c *Comparison) Sheet(table string, all bool) *Sheet {
	switch table {
	case "memory":
		return c.memorySheet().unlike(all)
	case "mappings":
		return c.mappingSheet(all)
	case "sites":
		return c.siteSheet(all)
	case "calls":
		return c.callSheet().unlike(all)
	case "files":
		return c.fileSheet()
	case "errors":
		return c.errorSheet()
	}
	return c.summarySheet()
}

func (c *Comparison) fileSheet() *Sheet {
	var rows []FileDiffRow
	for name, x := range c.files {
		rows = append(rows, FileDiffRow{mid(x[0].a), mid(x[0].b), mid(x[1].a), mid(x[1].b), uint64(mid(x[2].a)), uint64(mid(x[2].b)), onlyIn(x[:]), name})
	}
	far := func(r FileDiffRow) float64 {
		return math.Abs(float64(r.BRead-r.ARead)) + math.Abs(float64(r.BWritten-r.AWritten))
	}
	slices.SortFunc(rows, func(a, b FileDiffRow) int {
		return cmp.Or(cmp.Compare(far(b), far(a)), cmp.Compare(b.Only, a.Only), cmp.Compare(a.Path, b.Path))
	})
	s := sheet("diff_files", rows)
	s.Title = "Files (numbers in names are #)"
	if len(rows) == 0 {
		s.Notes = []string{"no call named a file"}
	}
	return s
}

func (c *Comparison) errorSheet() *Sheet {
	var rows []ErrorDiffRow
	for k, x := range c.errors {
		rows = append(rows, ErrorDiffRow{k[0], k[1], mid(x.a), mid(x.b), x.onlyIn(), k[2]})
	}
	slices.SortFunc(rows, func(a, b ErrorDiffRow) int {
		return cmp.Or(further(a.B-a.A, b.B-b.A), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Errno, b.Errno), cmp.Compare(a.Path, b.Path))
	})
	s := sheet("diff_errors", rows)
	s.Title = "Failed calls (numbers in names are #)"
	if len(rows) == 0 {
		s.Notes = []string{"no call failed"}
	}
	return s
}

func (c *Comparison) mappingSheet(all bool) *Sheet {
	var rows []MappingDiffRow
	alike := 0
	for k, x := range c.mappings {
		if !all && x[1].verdict(alikeBytes) == "~" {
			alike++
			continue
		}
		rows = append(rows, MappingDiffRow{
			mid(x[0].a), mid(x[0].b), mid(x[1].a), mid(x[1].b), int64(x[1].delta()), mid(x[2].a), mid(x[2].b), onlyIn(x[:]), k[1], k[0],
		})
	}
	slices.SortFunc(rows, func(a, b MappingDiffRow) int {
		return cmp.Or(further(a.Delta, b.Delta), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Perms, b.Perms))
	})
	s := sheet("diff_mappings", rows)
	s.Title = "Mappings when most was mapped (numbers in names are #)"
	return s.withAlike(alike)
}

func (c *Comparison) siteSheet(all bool) *Sheet {
	var rows []SiteDiffRow
	alike := 0
	for name, x := range c.sites {
		if !all && x[0].verdict(alikeBytes) == "~" && x[2].verdict(alikeBytes) == "~" {
			alike++
			continue
		}
		rows = append(rows, SiteDiffRow{
			mid(x[0].a), mid(x[0].b), int64(x[0].delta()), mid(x[1].a), mid(x[1].b), mid(x[2].a), mid(x[2].b), int64(x[2].delta()), onlyIn(x[:]), name,
		})
	}
	slices.SortFunc(rows, func(a, b SiteDiffRow) int {
		return cmp.Or(further(a.DeltaLive, b.DeltaLive), further(a.Delta, b.Delta), cmp.Compare(a.Site, b.Site))
	})
	s := sheet("diff_sites", rows)
	s.Title = "Memory by call site: what stayed to the end is LIVE"
	if c.bare {
		s.Notes = append(s.Notes, "Not all logs have call stacks: record with -k to have them.")
	}
	return s.withAlike(alike)
}

// further puts what differs more first.
func further(a, b int64) int {
	return cmp.Compare(math.Abs(float64(b)), math.Abs(float64(a)))
}

// withAlike notes how many rows that are alike were left out.
func (s *Sheet) withAlike(n int) *Sheet {
	if n > 0 {
		s.Notes = append(s.Notes, plural(uint64(n), "row is", "rows are")+" alike in A and B (--top -1 shows them)")
	}
	return s
}

// unlike leaves out rows whose verdict is "~", and says how many these are.
func (s *Sheet) unlike(all bool) *Sheet {
	if all {
		return s
	}
	i := slices.IndexFunc(s.Columns, func(c Column) bool { return c.Key == "verdict" })
	n := len(s.Rows)
	s.Rows = slices.DeleteFunc(s.Rows, func(row []any) bool { return row[i] == "~" })
	return s.withAlike(n - len(s.Rows))
}

// mid is the median of what runs have, 0 of nothing.
func mid(v []float64) int64 {
	if len(v) == 0 {
		return 0
	}
	return int64(median(v))
}

// onlyIn is the side that alone has any of the values.
func onlyIn(all []sides) string {
	var sum sides
	for _, s := range all {
		sum.a, sum.b = append(sum.a, s.a...), append(sum.b, s.b...)
	}
	return sum.onlyIn()
}

func (c *Comparison) summarySheet() *Sheet {
	var rows []SummaryDiffRow
	for _, m := range c.metrics {
		unit := map[Unit]string{Bytes: "bytes", Duration: "ns"}[m.unit]
		show := func(v float64) string { return Human(int64(v), m.unit) }
		a, b := median(m.a), median(m.b)
		word := m.verdict(m.least)
		if m.name == "exit_status" && a != b {
			word = "other"
		}
		rows = append(rows, SummaryDiffRow{m.name, unit, a, b, b - a, show(a), show(b), m.change(), word, m.p()})
	}
	s := sheet("diff_summary", rows)
	s.Title = fmt.Sprintf("A (%s) and B (%s)", plural(uint64(len(c.metrics[0].a)), "run", "runs"), plural(uint64(len(c.metrics[0].b)), "run", "runs"))
	if c.metrics[0].p() == nil {
		s.Notes = []string{fmt.Sprintf("~: they differ by less than %g %%, or by next to nothing. From %d runs a side on, p tells chance from change.", 100*alikeShare, enoughRuns)}
	} else {
		s.Notes = []string{fmt.Sprintf("~: chance makes such differences (p says how often), or it is below %g %%. Values are medians.", 100*alikeShare)}
	}
	return s
}

func (c *Comparison) memorySheet() *Sheet {
	var rows []MemoryDiffRow
	for k, x := range c.memory {
		end, peak, rate := &x[0], &x[1], &x[2]
		row := MemoryDiffRow{
			Kind: k[0], Phase: k[1], AEnd: mid(end.a), BEnd: mid(end.b), Delta: int64(end.delta()), APeak: mid(peak.a), BPeak: mid(peak.b),
			DeltaPeak: int64(peak.delta()), Word: peak.verdict(alikeBytes), P: peak.p(),
		}
		if !c.brief[k[1]] {
			a, b := mid(rate.a), mid(rate.b)
			row.ARate, row.BRate = &a, &b
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b MemoryDiffRow) int {
		return cmp.Or(further(a.DeltaPeak, b.DeltaPeak), cmp.Compare(a.Kind, b.Kind), cmp.Compare(slices.Index(c.phases, a.Phase), slices.Index(c.phases, b.Phase)))
	})
	s := sheet("diff_memory", rows)
	s.Title = "Mapped memory by kind and phase"
	return s
}

func (c *Comparison) callSheet() *Sheet {
	var rows []CallDiffRow
	for _, name := range slices.Sorted(maps.Keys(c.calls)) {
		x := c.calls[name]
		time := &x[2]
		rows = append(rows, CallDiffRow{
			name, mid(x[0].a), mid(x[0].b), mid(x[1].a), mid(x[1].b), uint64(mid(x[3].a)), uint64(mid(x[3].b)), uint64(mid(x[4].a)), uint64(mid(x[4].b)),
			uint64(mid(time.a)), uint64(mid(time.b)), int64(time.delta()), time.verdict(1e6), time.p(),
		})
	}
	slices.SortStableFunc(rows, func(a, b CallDiffRow) int { return further(a.Delta, b.Delta) })
	s := sheet("diff_calls", rows)
	s.Title = "System calls"
	return s
}

// Figures are the names of what a bound may be about, with the medians of A and B.
func (c *Comparison) Figures() map[string][2]float64 {
	out := map[string][2]float64{}
	for _, m := range c.metrics {
		out[m.name] = [2]float64{median(m.a), median(m.b)}
	}
	return out
}
