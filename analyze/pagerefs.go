package analyze

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"memtrace/analyze/refs"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// refScan goes over the page references of a log from its begin on, so that what a
// range of steps had is known from what was before it.
type refScan struct {
	o       Options
	unit    uint64 // bytes of a page: the largest block that was traced
	depths  *refs.Depths
	clock   uint64 // ns of the programs' own time, added up, of the range
	last    map[uint32]uint64
	phases  uint64
	missing uint64 // phases of which references may be missing
	engines map[format.RefEngine]bool
	others  int // processes that were left out, as this one has the most references
}

// busiest is the process with the most references in the range, and how many others
// have some.
func busiest(ctx context.Context, t *replay.Trace, o Options) (pid uint32, others int, err error) {
	n := map[uint32]uint64{}
	for m, err := range t.Refs(ctx, o.From, o.To) {
		if err != nil {
			return 0, 0, err
		}
		if m.Phase == nil {
			n[m.PID]++
		}
	}
	for p, k := range n {
		if k > n[pid] || k == n[pid] && p < pid {
			pid = p
		}
	}
	return pid, max(len(n), 1) - 1, nil
}

// scanned is an item of a scan: a reference, or the mark of a phase.
type scanned struct {
	*replay.RefMoment
	refs.Depth
	in bool // the range
}

// page is the number of the page of an address.
func (s *refScan) page(a addr.Addr) uint64 { return uint64(a) / s.unit }

// scanRefs calls visit with each item of the options' process up to the end of their
// range. The scan is nil if the log has no references.
func scanRefs(ctx context.Context, t *replay.Trace, o Options, visit func(s *refScan, x *scanned)) (*refScan, error) {
	if !t.HasRefs() {
		return nil, nil
	}
	s := &refScan{
		o: o, unit: addr.PageSize, depths: refs.NewDepths(), last: map[uint32]uint64{}, engines: map[format.RefEngine]bool{},
	}
	spaces := map[uint32]bool{}
	for x, err := range t.Phases() {
		if err != nil {
			return nil, err
		}
		s.unit = max(s.unit, x.Phase.Granule)
		spaces[x.Phase.MM] = true
	}
	if len(spaces) > 1 && o.PID == 0 && !o.everyProcess {
		var err error
		if o.PID, s.others, err = busiest(ctx, t, o); err != nil {
			return nil, err
		}
		s.o = o
	}
	var held []uint64
	for m, err := range t.Refs(ctx, 0, o.To) {
		if err != nil {
			return nil, err
		}
		for _, mm := range m.Ended() {
			s.depths.End(mm)
		}
		if o.PID != 0 && m.PID != o.PID {
			continue
		}
		x := scanned{RefMoment: m, in: m.Step >= o.From}
		if p := m.Phase; p != nil {
			s.tick(p.MM, p.Time, x.in)
			held = held[:0]
			for _, a := range p.HeldPages {
				held = append(held, s.page(a))
			}
			s.engines[p.Engine] = true
			if x.in {
				s.phases++
				if p.Incomplete {
					s.missing++
				}
			}
			visit(s, &x)
			s.depths.Phase(p.MM, held, uint32(min(p.Pinned, 1<<20)))
			continue
		}
		s.tick(m.MM, m.Time, x.in)
		x.Depth = s.depths.Touch(m.MM, s.page(m.Page))
		visit(s, &x)
	}
	return s, nil
}

// tick goes on to a time of an address space.
func (s *refScan) tick(mm uint32, now uint64, in bool) {
	if before, known := s.last[mm]; known && in && now > before {
		s.clock += now - before
	}
	s.last[mm] = now
}

// bytes is the size of some pages.
func (s *refScan) bytes(pages uint64) uint64 { return pages * s.unit }

// onlyWrites says that reads were not recorded.
func (s *refScan) onlyWrites() bool { return len(s.engines) == 1 && s.engines[format.EngineWP] }

// notes are what a person has to know of all that a scan says.
func (s *refScan) notes() (notes []string) {
	if s.missing > 0 {
		notes = append(notes, fmt.Sprintf("of %d of %d phases references are missing: the bounds do not hold", s.missing, s.phases))
	}
	if s.engines[format.EngineWP] {
		if s.onlyWrites() {
			notes = append(notes, "only writes were recorded: pages that are read do not count")
		} else {
			notes = append(notes, "of some of the time only writes were recorded")
		}
	}
	if s.unit > addr.PageSize {
		notes = append(notes, fmt.Sprintf("pages are blocks of %s", Size(s.unit)))
	}
	if s.others > 0 {
		notes = append(notes, fmt.Sprintf("of process %d, which has the most references; %d more have some (--pid chooses one)", s.o.PID, s.others))
	}
	return notes
}

// noRefs is the sheet of a report of a log without references.
func noRefs(s *Sheet) *Sheet {
	s.Rows, s.Units, s.Total, s.Parts = nil, nil, nil, nil
	s.Notes = []string{replay.NoRefs}
	return s
}

// proven says from which size on the bounds hold.
func (s *refScan) proven() uint64 { return uint64(max(s.depths.Proven(), 1)) }

// mostOptimum is how many references Belady's algorithm is given, 8 bytes each.
const mostOptimum = 1 << 26

// perSecond is how often something happened in a time, nil if there was none.
func perSecond(n, ns uint64) *float64 {
	if ns == 0 {
		return nil
	}
	f := float64(n) / (float64(ns) / 1e9)
	return &f
}

// bins puts numbers into at most so many stretches of equal time, which get wider as
// time goes on.
type bins struct {
	width uint64
	sums  [][3]uint64
}

const mostBins = 120

func (b *bins) add(at uint64, v [3]uint64) {
	if b.width == 0 {
		b.width = 1 << 17 // ns
	}
	for at/b.width >= 2*mostBins {
		half := b.sums[:0]
		for i := 0; i < len(b.sums); i += 2 {
			x := b.sums[i]
			if i+1 < len(b.sums) {
				for k := range x {
					x[k] += b.sums[i+1][k]
				}
			}
			half = append(half, x)
		}
		b.sums, b.width = half, 2*b.width
	}
	for uint64(len(b.sums)) <= at/b.width {
		b.sums = append(b.sums, [3]uint64{})
	}
	for k := range v {
		b.sums[at/b.width][k] += v[k]
	}
}

// faultsBy counts by name.
type faultsBy map[string]*faultCount

type faultCount struct {
	name             string
	low, plain, high uint64
	pages            map[uint64]struct{}
}

func (t faultsBy) of(name string) *faultCount {
	c := t[name]
	if c == nil {
		c = &faultCount{name: name, pages: map[uint64]struct{}{}}
		t[name] = c
	}
	return c
}

// sorted are those with the most first.
func (t faultsBy) sorted(n func(*faultCount) uint64) []*faultCount {
	list := make([]*faultCount, 0, len(t))
	for _, c := range t {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *faultCount) int {
		if x, y := n(a), n(b); x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return list
}

// mappingOf is what to call the mapping of the page of a reference.
func mappingOf(x *scanned) string {
	v, ok := x.At(x.Ref.Page)
	if !ok {
		return "?"
	}
	return replay.MappingName(v)
}

// codeOf is what to call the function of the instruction of a reference.
func codeOf(names *replay.CodeNames, x *scanned) string {
	if x.IP == 0 {
		return "?"
	}
	n := names.Of(x.RefMoment)
	if n.Short != "" {
		_, file, _ := strings.Cut(n.String(), " ")
		return n.Short + " " + file
	}
	return n.String()
}
