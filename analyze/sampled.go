package analyze

import (
	"fmt"

	"memtrace/format"
)

// SampledReport is what smaps_rollup or status say of a process: what only a
// living process can tell.
type SampledReport struct {
	Source string
	Step   format.Step // at which it was read
	Rows   []SampledRow
}

// SampledRow is one line of the text.
type SampledRow struct {
	Key   string `col:"key,"`
	Bytes uint64 `col:"bytes,SIZE,bytes"`
}

// Sheet lays the report out.
func (r *SampledReport) Sheet() *Sheet {
	s := sheet("sampled", r.Rows)
	s.Title = fmt.Sprintf("Resident memory (%s), sampled at step %d", r.Source, r.Step)
	return s
}

// Sampled reads a text of smaps_rollup or status.
func Sampled(text []byte, at format.Step) *SampledReport {
	m := sizes(text)
	r := &SampledReport{Source: "status", Step: at}
	if _, ok := m["Pss"]; ok {
		r.Source = "smaps_rollup"
	}
	for _, k := range []string{
		"VmRSS", "Rss", "Pss", "RssAnon", "RssFile", "RssShmem", "Anonymous", "Private_Dirty", "Shared_Dirty", "VmSwap", "Swap", "VmLck", "Locked",
	} {
		if n, ok := m[k]; ok {
			r.Rows = append(r.Rows, SampledRow{k, n})
		}
	}
	return r
}
