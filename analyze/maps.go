package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// MapsReport lists the mappings of a process at a step.
type MapsReport struct {
	Title   string
	Rows    []MapRow       // the largest first
	Sharing *SharingReport // of the same process; nil: not asked for
}

// MapRow is one mapping.
type MapRow struct {
	Size     uint64    `col:"size,SIZE,bytes"`
	Captured uint64    `col:"captured,CAPTURED,bytes,drop=1"` // what the log holds of it
	Start    addr.Addr `col:"start,START"`
	End      addr.Addr `col:"end,END,fine"`
	Perms    addr.Prot `col:"perms,PERMS"`
	Kind     string    `col:"kind,KIND,drop=2"`
	Part     string    `col:"part,SECTIONS"` // of its file
	Offset   uint64    `col:"offset,OFFSET,bytes,fine"`
	Path     string    `col:"path,PATH,cut=end"`
}

// Sheet lays the report out.
func (r *MapsReport) Sheet() *Sheet {
	s := sheet("maps", r.Rows)
	s.Title = r.Title
	all := MapRow{Kind: fmt.Sprintf("%d mappings", len(r.Rows))}
	for i := range r.Rows {
		all.Size += r.Rows[i].Size
	}
	s.sum(all, "size", "kind")
	if r.Sharing != nil {
		s.Parts = []*Sheet{r.Sharing.Sheet()}
	}
	return s
}

// moment finds the process and the step that a report about one moment is
// about: the step asked for, else the last one of the range if the range was
// cut, else the process's peak.
func moment(ctx context.Context, t *replay.Trace, o Options) (*replay.View, *replay.Process, string, error) {
	at, why := o.To, ""
	last, _ := t.Last()
	switch {
	case o.At != nil:
		at = *o.At
	case o.To >= last && o.From <= t.First():
		lives, err := t.Lives(ctx)
		if err != nil {
			return nil, nil, "", err
		}
		for i := range lives {
			if l := &lives[i]; o.PID == 0 || l.PID == o.PID {
				at, why, o.PID = l.PeakStep, ", its peak", l.PID
				break
			}
		}
	}
	v, err := t.At(at)
	if err != nil {
		return nil, nil, "", err
	}
	p, err := t.Find(ctx, v, o.PID)
	return v, p, why, err
}

// Maps lists mappings, the largest first.
func Maps(ctx context.Context, t *replay.Trace, o Options) (*MapsReport, error) {
	v, p, why, err := moment(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r, err := Mappings(v, p)
	if err != nil {
		return nil, err
	}
	r.Title = fmt.Sprintf("Mappings of process %d at step %d%s", p.PID, v.Step, why)
	r.Sharing, err = SharingOf(p)
	return r, err
}

// Mappings lists the mappings of one process.
func Mappings(v *replay.View, p *replay.Process) (*MapsReport, error) {
	space, err := p.Space()
	if err != nil {
		return nil, err
	}
	r, parts := &MapsReport{}, newParts(v)
	for m := range space.Mappings() {
		n, err := captured(space, m.Range)
		if err != nil {
			return nil, err
		}
		r.Rows = append(r.Rows, MapRow{
			Size: m.Len(), Captured: n, Start: m.Start, End: m.End, Perms: m.Prot, Kind: m.Kind.String(), Part: parts.of(space, m),
			Offset: m.Offset, Path: m.Name,
		})
	}
	slices.SortStableFunc(r.Rows, func(a, b MapRow) int { return cmp.Compare(b.Size, a.Size) })
	return r, nil
}

// captured is how many bytes of r the log holds.
func captured(s *replay.AddressSpace, r addr.Range) (uint64, error) {
	var n uint64
	var page [addr.PageSize]byte
	for run, err := range s.Pages(r) {
		if err != nil {
			return 0, err
		}
		if run.Mixed {
			parts, err := s.Stretches(run.Addr, &page)
			if err != nil {
				return 0, err
			}
			for _, x := range parts {
				if x.Err == nil {
					n += x.Range.Len()
				}
			}
			continue
		}
		if run.What == format.PageData || run.What == format.PageZero || run.What == format.PageFile {
			n += run.N << addr.PageShift
		}
	}
	return min(n, r.Len()), nil
}
