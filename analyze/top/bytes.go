package top

import (
	"fmt"
	"slices"
	"strings"

	"memtrace/format/addr"
	"memtrace/replay"
)

// rowBytes is how many bytes a line has.
const rowBytes = 16

// bytesView shows the bytes of the mappings of one name.
type bytesView struct {
	src    Source
	no     uint32 // of the process
	name   string
	ranges []addr.Range
	in     int       // which of them
	at     addr.Addr // of the first line
}

// newBytes begins where the first data is.
func newBytes(src Source, no uint32, g *Mapping) *bytesView {
	v := &bytesView{src: src, no: no, name: g.Name, ranges: g.ranges, at: g.ranges[0].Start}
	for i, r := range g.ranges {
		if a, ok := src.Data(no, r); ok {
			v.in, v.at = i, a&^(rowBytes-1)
			break
		}
	}
	return v
}

// move goes so many lines on, or back, over all ranges.
func (v *bytesView) move(lines int) {
	for ; lines > 0; lines-- {
		switch r := v.ranges[v.in]; {
		case v.at+rowBytes < r.End:
			v.at += rowBytes
		case v.in+1 < len(v.ranges):
			v.in++
			v.at = v.ranges[v.in].Start
		}
	}
	for ; lines < 0; lines++ {
		switch r := v.ranges[v.in]; {
		case v.at >= r.Start+rowBytes:
			v.at -= rowBytes
		case v.in > 0:
			v.in--
			v.at = v.ranges[v.in].End - rowBytes
		}
	}
}

// rows are n lines from where it stands: addresses, bytes in hexadecimal, and as text. If bytes are not
// known, the last of the lines says why.
func (v *bytesView) rows(n int) (head string, rows []string) {
	r := v.ranges[v.in]
	head = fmt.Sprintf("%v-%v  %s (%d of %d)", r.Start, r.End, v.name, v.in+1, len(v.ranges))
	b := make([]byte, min(uint64(n*rowBytes), uint64(r.End-v.at)))
	known, why := v.src.Memory(v.no, v.at, b)
	if len(why) > 0 {
		b = b[:min(len(b), max(n-1, 1)*rowBytes)]
	}
	for i := 0; i < len(b); i += rowBytes {
		hex, text := "", ""
		for k := i; k < i+rowBytes && k < len(b); k++ {
			if k == i+rowBytes/2 {
				hex += " "
			}
			switch {
			case !known[k]:
				hex, text = hex+"?? ", text+" "
			case b[k] >= ' ' && b[k] < 0x7f:
				hex, text = hex+fmt.Sprintf("%02x ", b[k]), text+string(rune(b[k]))
			default:
				hex, text = hex+fmt.Sprintf("%02x ", b[k]), text+"."
			}
		}
		rows = append(rows, fmt.Sprintf("%012x %-49s%s", uint64(v.at)+uint64(i), hex, text))
	}
	if len(why) > 0 && slices.Contains(known[:len(b)], false) {
		rows = append(rows, "?? "+replay.Escape(strings.Join(why, "; ")))
	}
	return head, rows
}
