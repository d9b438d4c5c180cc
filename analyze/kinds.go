package analyze

import (
	"cmp"
	"slices"

	"memtrace/format/vma"
	"memtrace/replay"
)

// KindsReport sums up the mappings of an address space by kind.
type KindsReport struct {
	Rows []KindRow // the most bytes first
}

// KindRow is one kind of mapping.
type KindRow struct {
	Kind     string `col:"kind,KIND"`
	Mappings uint64 `col:"mappings,MAPPINGS"`
	Bytes    uint64 `col:"bytes,SIZE,bytes"`
}

// Sheet lays the report out.
func (r *KindsReport) Sheet() *Sheet {
	s := sheet("kinds", r.Rows)
	all := KindRow{Kind: "total"}
	for i := range r.Rows {
		all.Mappings += r.Rows[i].Mappings
		all.Bytes += r.Rows[i].Bytes
	}
	s.sum(all)
	return s
}

// Kinds sums up the mappings of s.
func Kinds(s *replay.AddressSpace) *KindsReport {
	var by [vma.NumKinds]KindRow
	for v := range s.Mappings() {
		by[v.Kind].Mappings++
		by[v.Kind].Bytes += v.Len()
	}
	r := &KindsReport{}
	for k := range by {
		if by[k].Mappings > 0 {
			by[k].Kind = vma.Kind(k).String()
			r.Rows = append(r.Rows, by[k])
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b KindRow) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return r
}
