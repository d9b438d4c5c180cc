package analyze

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/replay"
)

// SmapsReport shows the mappings of a living process with what they cost.
type SmapsReport struct {
	Rows []SmapsRow // the one with the most resident memory first
}

// SmapsRow is one mapping.
type SmapsRow struct {
	Size   uint64    `col:"size,SIZE,bytes"`
	RSS    uint64    `col:"rss,RSS,bytes"`
	PSS    uint64    `col:"pss,PSS,bytes,drop=2"`
	Dirty  uint64    `col:"dirty,DIRTY,bytes,drop=4"`
	Swap   uint64    `col:"swap,SWAP,bytes,fine"`
	Locked uint64    `col:"locked,LOCKED,bytes,fine"`
	Start  addr.Addr `col:"start,START"`
	Perms  string    `col:"perms,PERMS"`
	Kind   string    `col:"kind,KIND,drop=1"`
	Part   string    `col:"part,SECTIONS,drop=3"` // of its file
	Path   string    `col:"path,PATH,cut=end"`
}

// Sheet lays the report out.
func (r *SmapsReport) Sheet() *Sheet {
	s := sheet("smaps", r.Rows)
	s.Title = "Mappings that cost most"
	return s
}

// Smaps reads the text of /proc/PID/smaps; s are the mappings of the same
// process in v.
func Smaps(text []byte, v *replay.View, s *replay.AddressSpace) *SmapsReport {
	r, parts := &SmapsReport{}, newParts(v)
	var row *SmapsRow
	for line := range bytes.Lines(text) {
		key, value, ok := proctext.Line(line)
		if !ok { // a mapping: 55d0-55d1 rw-p ...
			from, rest, _ := strings.Cut(string(line), "-")
			a, err := strconv.ParseUint(from, 16, 64)
			f := strings.Fields(rest)
			if err != nil || len(f) < 2 {
				continue
			}
			r.Rows = append(r.Rows, SmapsRow{Start: addr.Addr(a), Perms: f[1]})
			row = &r.Rows[len(r.Rows)-1]
			if m, ok := s.Set().Find(row.Start); ok {
				row.Kind, row.Part, row.Path = m.Kind.String(), parts.of(s, m), m.Name
			}
			continue
		}
		n, ok := value.Size()
		if row != nil && ok {
			row.read(string(key), n)
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b SmapsRow) int { return cmp.Compare(b.RSS, a.RSS) })
	return r
}

// read takes a line of a mapping.
func (row *SmapsRow) read(key string, n uint64) {
	switch key {
	case "Size":
		row.Size = n
	case "Rss":
		row.RSS = n
	case "Pss":
		row.PSS = n
	case "Private_Dirty", "Shared_Dirty":
		row.Dirty += n
	case "Swap":
		row.Swap = n
	case "Locked":
		row.Locked = n
	}
}
