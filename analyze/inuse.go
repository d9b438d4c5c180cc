package analyze

import (
	"cmp"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// KindBytes is bytes by kind of memory.
type KindBytes [vma.NumKinds]uint64

// Sum is the bytes of all kinds.
func (k *KindBytes) Sum() (n uint64) {
	for _, b := range k {
		n += b
	}
	return n
}

// inUse is the memory that holds data, by kind, over time: the pages that snapshots found
// written.
type inUse struct {
	pid    uint32
	at     []useAt
	whole  int    // snapshots that were seen, without sweeps
	gap    uint64 // ns between two of at
	peak   KindBytes
	most   uint64
	mostAt uint64 // ns
}

// useAt is what was in use at a moment.
type useAt struct {
	time  uint64 // ns
	bytes KindBytes
}

// mostUses is how many moments are kept: as many as a picture has room for.
const mostUses = 600

// see counts the pages at a snapshot.
func (u *inUse) see(m *replay.Moment) {
	s, ok := m.Event.Record.(*format.Snapshot)
	if !ok {
		return
	}
	if s.Reason != format.ReasonSweep {
		u.whole++
	}
	n := len(u.at)
	if n > 0 && m.Event.Time-u.at[n-1].time < u.gap && s.Reason == format.ReasonSweep {
		return
	}
	b := u.count(m.State)
	u.at = append(u.at, useAt{m.Event.Time, b})
	for k := range b {
		u.peak[k] = max(u.peak[k], b[k])
	}
	if sum := b.Sum(); sum > u.most {
		u.most, u.mostAt = sum, m.Event.Time
	}
	if len(u.at) > mostUses {
		u.thin()
	}
}

// thin leaves out every second moment.
func (u *inUse) thin() {
	kept := u.at[:0]
	for i, x := range u.at {
		if i%2 == 0 {
			kept = append(kept, x)
		}
	}
	u.at = kept
	u.gap = max(2*u.gap, (kept[len(kept)-1].time-kept[0].time)/mostUses)
}

// count is what is in use in s.
func (u *inUse) count(s *format.State) (b KindBytes) { return InUse(s, u.pid) }

// InUse is the memory that holds data, by kind: the pages that snapshots found written, of
// a process or, if pid is 0, of all. Pages that processes share since a fork count once.
func InUse(s *format.State, pid uint32) (b KindBytes) {
	type shared struct {
		ref format.PageRef
		n   uint64
	}
	var nos []uint32
	for no := range s.MMs {
		nos = append(nos, no)
	}
	slices.Sort(nos)
	var seen map[shared]bool
	if len(nos) > 1 {
		seen = map[shared]bool{}
	}
	for _, no := range nos {
		if pid != 0 && !slices.ContainsFunc(threadsIn(s, no), func(t *format.Thread) bool { return t.TGID == pid }) {
			continue
		}
		mm := s.MMs[no]
		for v := range mm.VMAs.All() {
			if v.Kind >= vma.NumKinds {
				continue
			}
			for run, err := range mm.Pages(v.Range) {
				if err != nil || run.What != format.PageData {
					continue
				}
				if key := (shared{run.Ref, run.N}); seen != nil {
					if seen[key] {
						continue
					}
					seen[key] = true
				}
				b[v.Kind] += run.N << addr.PageShift
			}
		}
	}
	return b
}

func threadsIn(s *format.State, mm uint32) (of []*format.Thread) {
	for _, t := range s.Threads {
		if t.MM == mm {
			of = append(of, t)
		}
	}
	return of
}

// PeakRow is the most memory of one kind.
type PeakRow struct {
	Kind     string      `col:"kind,KIND"`
	InUse    *uint64     `col:"in_use,PEAK IN USE,bytes"` // nil: no snapshot was taken
	Mapped   int64       `col:"mapped,PEAK MAPPED,bytes"`
	Step     format.Step `col:"step,AT STEP"`     // of Mapped
	Time     uint64      `col:"time,AT TIME,ns"`  // of Mapped
	AtEnd    int64       `col:"end,AT END,bytes"` // mapped
	ofSystem bool
}

// peaks are the kinds of memory, the most in use first.
func peaks(l *ledger, u *inUse) []PeakRow {
	var rows []PeakRow
	row := func(name string, a *account, used uint64) PeakRow {
		r := PeakRow{Kind: name, Mapped: a.peak, Step: a.peakStep, Time: a.peakTime, AtEnd: a.now}
		if len(u.at) > 0 {
			r.InUse = &used
		}
		return r
	}
	for k := range l.kinds {
		if a := &l.kinds[k]; a.peak > 0 {
			r := row(vma.Kind(k).String(), a, u.peak[k])
			r.ofSystem = k == int(vma.VDSO) || k == int(vma.VVAR) || k == int(vma.Special)
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b PeakRow) int {
		var x, y uint64
		if a.InUse != nil {
			x, y = *a.InUse, *b.InUse
		}
		return cmp.Or(cmp.Compare(y, x), cmp.Compare(b.Mapped, a.Mapped))
	})
	return append(rows, row("all", &l.total, u.most))
}

// peaksSheet lays peaks out.
func peaksSheet(rows []PeakRow) *Sheet {
	s := sheet("peaks", rows)
	s.Title = "The most memory at once, by kind"
	return s
}

// shownPeaks are the rows of peaks for a person: without what every program has.
func shownPeaks(rows []PeakRow) []PeakRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r PeakRow) bool { return r.ofSystem })
}
