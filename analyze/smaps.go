package analyze

import (
	"slices"
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/replay"
)

// Smaps shows the mappings of a living process with what they cost, from the
// text of /proc/PID/smaps: the one with the most resident memory first.
func Smaps(text []byte, s *replay.AddressSpace, parts *Parts) *Result {
	r := &Result{Report: "smaps", Title: "Mappings that cost most", Columns: []Column{
		{Key: "size", Title: "SIZE", Unit: Bytes}, {Key: "rss", Title: "RSS", Unit: Bytes}, {Key: "pss", Title: "PSS", Unit: Bytes, Drop: 2},
		{Key: "dirty", Title: "DIRTY", Unit: Bytes, Drop: 4}, {Key: "swap", Title: "SWAP", Unit: Bytes, Fine: true}, {Key: "locked", Title: "LOCKED", Unit: Bytes, Fine: true},
		{Key: "start", Title: "START", Unit: Address}, {Key: "perms", Title: "PERMS", Unit: Text}, {Key: "kind", Title: "KIND", Unit: Text, Drop: 1},
		{Key: "part", Title: "PART", Unit: Text, Drop: 3}, {Key: "path", Title: "PATH", Unit: Text, Cut: keepEnd},
	}}
	var row []any
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if from, _, ok := strings.Cut(f[0], "-"); ok && !strings.HasSuffix(f[0], ":") {
			a, err := strconv.ParseUint(from, 16, 64)
			if err != nil {
				continue
			}
			row = []any{uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), addr.Addr(a), f[1], "", "", ""}
			if m, ok := s.Set().Find(addr.Addr(a)); ok {
				row[8], row[9], row[10] = m.Kind.String(), parts.Of(s, m), m.Name
			}
			r.Rows = append(r.Rows, row)
			continue
		}
		if row == nil {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		n <<= 10
		switch f[0] {
		case "Size:":
			row[0] = n
		case "Rss:":
			row[1] = n
		case "Pss:":
			row[2] = n
		case "Private_Dirty:", "Shared_Dirty:":
			row[3] = row[3].(uint64) + n
		case "Swap:":
			row[4] = n
		case "Locked:":
			row[5] = n
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b []any) int { return compare(a[1], b[1]) })
	return r
}
