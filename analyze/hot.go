package analyze

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// HotReport tells what of each mapping is used.
type HotReport struct {
	Rows []HotRow // those with the most mapped bytes first
	scan *refScan
}

// HotRow is a mapping, or all of a process that have one file.
type HotRow struct {
	Mapped   uint64 `col:"mapped,MAPPED,bytes"`
	Resident uint64 `col:"resident,RESIDENT,bytes"` // at least
	Touched  uint64 `col:"touched,TOUCHED,bytes"`
	Read     uint64 `col:"read,READ,bytes,drop=2"` // or fetched, or by a call, or not known how
	Written  uint64 `col:"written,WRITTEN,bytes,drop=3"`
	Recent   uint64 `col:"recent,RECENT,bytes"` // in the last phases
	Once     uint64 `col:"once,ONCE,bytes"`     // written in one phase, and in no other used
	Never    uint64 `col:"never,NEVER,bytes,fine"`
	PID      uint32 `col:"pid,PID,drop=1"`
	Name     string `col:"name,NAME,cut=end"`
}

// recentPhases is how many phases count as recent.
const recentPhases = 8

// hotPage is what was seen of a page.
type hotPage struct {
	mm            uint32
	block         addr.Range // of the largest size that was traced
	place         *hotPlace  // where it was when it was used last
	part          addr.Range // of the block, which is of that mapping
	phases        uint32
	last          uint64 // phase
	read, written bool
}

// hotPlace is a mapping, or all with one name.
type hotPlace struct {
	row    HotRow
	mapped addr.Set // at any time
	least  uint64   // bytes that were surely used
	data   uint64   // bytes that snapshots found
}

type hotKey struct {
	mm   uint32 // a process has another after an exec
	name string
	at   addr.Addr // of one without a name
}

// hotBook collects pages and mappings.
type hotBook struct {
	pages  []hotPage
	places map[hotKey]*hotPlace
	order  []*hotPlace
	phase  map[uint32]uint64 // of each address space, at last
	pids   map[uint32]bool
}

func (b *hotBook) place(mm, pid uint32, v vma.VMA) *hotPlace {
	k := hotKey{mm: mm, name: v.Name}
	if v.Name == "" {
		k.at = v.Start
	}
	p := b.places[k]
	if p == nil {
		p = &hotPlace{row: HotRow{PID: pid, Name: replay.MappingName(v)}}
		if v.Name == "" {
			p.row.Name = fmt.Sprintf("[anon] %v", v.Start)
		}
		b.places[k] = p
		b.order = append(b.order, p)
	}
	p.mapped.Add(v.Range)
	return p
}

// see takes an item of the range.
func (b *hotBook) see(s *refScan, x *scanned) {
	if p := x.Phase; p != nil {
		for _, r := range p.Written {
			for n := s.page(r.Start); n <= s.page(r.End-1); n++ {
				if id, ok := s.depths.Known(p.MM, n); ok && int(id) < len(b.pages) {
					b.pages[id].written = true
				}
			}
		}
		return
	}
	for int(x.Depth.Page) >= len(b.pages) {
		b.pages = append(b.pages, hotPage{})
	}
	h := &b.pages[x.Depth.Page]
	if h.phases == 0 || h.last != x.PhaseNo {
		h.phases++
	}
	from := x.Ref.Page &^ addr.Addr(s.unit-1)
	h.mm, h.block, h.last = x.MM, addr.Range{Start: from, End: from + addr.Addr(s.unit)}, x.PhaseNo
	b.phase[x.MM], b.pids[x.RefMoment.PID] = x.PhaseNo, true
	if x.Kind == format.RefWrite {
		h.written = true
	} else {
		h.read = true
	}
	if v, ok := h.mapping(x.At); ok {
		h.place, h.part = b.place(x.MM, x.RefMoment.PID, v), h.block.Intersect(v.Range)
	}
}

// mapping is the first mapping in a block.
func (h *hotPage) mapping(at func(addr.Addr) (vma.VMA, bool)) (v vma.VMA, ok bool) {
	for a := h.block.Start; a < h.block.End && !ok; a += addr.PageSize {
		v, ok = at(a)
	}
	return v, ok
}

// Hot tells which mappings are used, and how much of each.
func Hot(ctx context.Context, t *replay.Trace, o Options) (*HotReport, error) {
	b := hotBook{places: map[hotKey]*hotPlace{}, phase: map[uint32]uint64{}, pids: map[uint32]bool{}}
	r := &HotReport{}
	o.everyProcess = true
	var err error
	r.scan, err = scanRefs(ctx, t, o, func(s *refScan, x *scanned) {
		if x.in {
			b.see(s, x)
		}
	})
	if err != nil || r.scan == nil {
		return r, err
	}
	if err := b.last(ctx, t, o); err != nil {
		return nil, err
	}
	b.count()
	for _, p := range b.order {
		row := p.row
		row.Mapped = p.mapped.Len()
		row.Resident = max(p.least, p.data)
		row.Never = row.Mapped - min(row.Mapped, row.Touched)
		r.Rows = append(r.Rows, row)
	}
	slices.SortStableFunc(r.Rows, func(a, b HotRow) int {
		return cmp.Or(cmp.Compare(b.Once, a.Once), cmp.Compare(b.Touched, a.Touched), cmp.Compare(b.Mapped, a.Mapped))
	})
	return r, nil
}

// last adds the mappings that the processes had at last: those that were not used
// too.
func (b *hotBook) last(ctx context.Context, t *replay.Trace, o Options) error {
	seen := map[uint32]bool{} // two processes may share an address space
	for _, pid := range slices.Sorted(maps.Keys(b.pids)) {
		n, err := t.LastAlive(ctx, pid)
		if err != nil {
			continue // its mappings are those that were used
		}
		v, err := t.At(min(n, o.To))
		if err != nil {
			return err
		}
		p, err := v.Process(pid)
		if err != nil {
			continue
		}
		mm := v.State.MMs[p.MM]
		if mm == nil || seen[p.MM] {
			continue
		}
		seen[p.MM] = true
		// Mappings that have moved since a page was used, or merged, are told by what is there now.
		now := map[*hotPlace]bool{}
		for m := range mm.VMAs.All() {
			place := b.place(p.MM, pid, m)
			if m.Name == "" && !now[place] {
				place.mapped = addr.SetOf()
			}
			now[place] = true
			place.mapped.Add(m.Range)
			for run, err := range mm.Pages(m.Range) {
				if err != nil {
					return err
				}
				if run.What == format.PageData {
					place.data += run.N << addr.PageShift
				}
			}
		}
		for i := range b.pages {
			if h := &b.pages[i]; h.mm == p.MM {
				if m, ok := h.mapping(mm.VMAs.Find); ok {
					h.place, h.part = b.place(p.MM, pid, m), h.block.Intersect(m.Range)
				}
			}
		}
	}
	return nil
}

// count adds up what was used. What was used was mapped, though it may be so no more. Of a block that is
// larger than a page, a page was used.
func (b *hotBook) count() {
	for i := range b.pages {
		h := &b.pages[i]
		if h.place == nil {
			continue
		}
		h.place.mapped.Add(h.part)
		h.place.least += addr.PageSize
		row, unit := &h.place.row, h.part.Len()
		row.Touched += unit
		if h.read {
			row.Read += unit
		}
		if h.written {
			row.Written += unit
		}
		now := b.phase[h.mm]
		recent := h.last+recentPhases > now
		if recent {
			row.Recent += unit
		}
		if h.phases == 1 && h.written && !h.read && h.last < now {
			row.Once += unit
		}
	}
	b.order = slices.DeleteFunc(b.order, func(p *hotPlace) bool { return p.row.Touched == 0 && p.mapped.Len() == 0 })
}

// Sheet lays the report out.
func (r *HotReport) Sheet() *Sheet {
	s := sheet("hot", r.Rows)
	s.Title = "Mappings by what of them was used"
	if r.scan == nil {
		return noRefs(s)
	}
	var all HotRow
	for i := range r.Rows {
		x := &r.Rows[i]
		all.Mapped, all.Resident, all.Touched, all.Read = all.Mapped+x.Mapped, all.Resident+x.Resident, all.Touched+x.Touched, all.Read+x.Read
		all.Written, all.Recent, all.Once, all.Never = all.Written+x.Written, all.Recent+x.Recent, all.Once+x.Once, all.Never+x.Never
	}
	s.sum(all, "mapped", "resident", "touched", "read", "written", "recent", "once", "never")
	used := "used"
	if r.scan.onlyWrites() {
		used = "written"
	}
	for i := range r.Rows {
		if x := &r.Rows[i]; x.Once > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%s of %s were mapped, written in one phase and never %s in a later one", Size(x.Once), x.Name, used))
			break
		}
	}
	least := "what was touched"
	if r.scan.unit > addr.PageSize {
		least = "a page of each block that was touched"
	}
	s.Notes = append(s.Notes, fmt.Sprintf("TOUCHED: referenced in %d phases; RECENT: in the last %d of its address space; ONCE: written in one phase and %s in no other;"+
		" RESIDENT: at least, %s or what snapshots found data in", r.scan.phases, recentPhases, used, least))
	s.Notes = append(s.Notes, r.scan.notes()...)
	return s
}

// hotCharts are where and when memory was used: time across, addresses up, without
// the gaps between mappings.
func hotCharts(ctx context.Context, t *replay.Trace, o Options) ([]Chart, error) {
	h, err := heatOf(ctx, t, o, true)
	if err != nil {
		return nil, err
	}
	return []Chart{{Title: "Pages referenced, by mapping", X: AxisProgramTime, Y: "addresses, without gaps", Heat: h}}, nil
}

// The most rows and columns of a heat map.
const (
	heatRows = 300
	heatCols = 240
)

// heatOf counts references by time and page; every: of all processes.
func heatOf(ctx context.Context, t *replay.Trace, o Options, every bool) (*Heat, error) {
	type cell struct {
		bin  uint64
		page uint32
	}
	width := uint64(1 << 17)
	counts := map[cell]uint32{}
	b := hotBook{places: map[hotKey]*hotPlace{}, phase: map[uint32]uint64{}, pids: map[uint32]bool{}}
	end := uint64(0)
	o.everyProcess = every
	scan, err := scanRefs(ctx, t, o, func(s *refScan, x *scanned) {
		if !x.in || x.Phase != nil {
			return
		}
		b.see(s, x)
		end = s.clock
		for s.clock/width >= heatCols {
			half := make(map[cell]uint32, len(counts))
			for c, n := range counts {
				half[cell{c.bin / 2, c.page}] += n
			}
			counts, width = half, 2*width
		}
		counts[cell{s.clock / width, x.Depth.Page}]++
	})
	if err != nil {
		return nil, err
	}
	if scan == nil {
		return nil, fmt.Errorf("%s", replay.NoRefs)
	}
	// Pages in the order of their mappings, and of their addresses in them.
	rank := map[*hotPlace]int{}
	var list []uint32
	for i := range b.pages {
		if p := b.pages[i].place; p != nil {
			list = append(list, uint32(i))
		}
	}
	slices.SortFunc(list, func(i, k uint32) int {
		a, c := &b.pages[i], &b.pages[k]
		return cmp.Or(cmp.Compare(a.mm, c.mm), cmp.Compare(a.block.Start, c.block.Start))
	})
	per := max((len(list)+heatRows-1)/heatRows, 1)
	h := &Heat{Width: float64(width) / 1e9}
	row := make(map[uint32]int, len(list))
	var before *hotPlace
	for i, id := range list {
		row[id] = i / per
		if p := b.pages[id].place; p != before {
			before = p
			if rank[p]++; rank[p] == 1 {
				h.Labels = append(h.Labels, HeatLabel{i / per, p.row.Name})
			}
		}
	}
	rows := (len(list) + per - 1) / per
	for range end/width + 1 {
		h.Cells = append(h.Cells, make([]float64, rows))
	}
	for c, n := range counts {
		if r, ok := row[c.page]; ok && c.bin < uint64(len(h.Cells)) {
			h.Cells[c.bin][r] += float64(n)
		}
	}
	return h, nil
}
