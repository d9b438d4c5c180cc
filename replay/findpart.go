package replay

import (
	"context"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
)

// findPart is a part of all address spaces that is searched at once: their pages
// first..last, of which the log has so many versions.
type findPart struct {
	first, last uint64
	pages       uint64
}

const (
	partShift  = 10       // parts are made of 1024 pages each
	firstPart  = 4 << 10  // versions of pages: a third of a second
	largestOne = 64 << 10 // the most, where the log has many; some seconds
)

// findParts are all pages, in ascending order. Each part costs another walk through
// the events: so they begin small, for the first place to be told soon, and grow.
func (t *Trace) findParts(ctx context.Context) ([]findPart, error) {
	weights := map[uint64]uint64{} // versions by blocks of pages
	total, n := uint64(0), 0
	for c, err := range t.r.Changes(0) {
		if err != nil {
			return nil, err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p, ok := c.Change.(*format.Pages)
		if !ok || p.What != format.PageData {
			continue
		}
		total += p.N
		for vpn := p.Addr.Page(); vpn < p.Addr.Page()+p.N; {
			next := min((vpn>>partShift+1)<<partShift, p.Addr.Page()+p.N)
			weights[vpn>>partShift] += next - vpn
			vpn = next
		}
	}
	most := uint64(firstPart)
	var out []findPart
	at := findPart{}
	for _, block := range slices.Sorted(maps.Keys(weights)) {
		if at.pages > 0 && at.pages+weights[block] > most {
			at.last = block<<partShift - 1
			out = append(out, at)
			at = findPart{first: block << partShift}
			most = min(2*most, max(firstPart, total/8), largestOne)
		}
		at.pages += weights[block]
	}
	at.last = uint64(^addr.Addr(0)) >> addr.PageShift
	return append(out, at), nil
}
