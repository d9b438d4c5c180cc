package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// GrowthReport is how much of each kind of memory was mapped and unmapped.
type GrowthReport struct {
	Rows  []GrowthRow // the highest peak first
	Total GrowthRow
	pid   uint32
	// unread is how many processes the log knows no mappings of.
	unread int
}

// GrowthRow is one kind of memory, in bytes. Start + Mapped + Inherited -
// Unmapped - Released is End.
type GrowthRow struct {
	Kind      string      `col:"kind,KIND"`
	Mapped    int64       `col:"mapped,MAPPED,bytes"`
	Unmapped  int64       `col:"unmapped,UNMAPPED,bytes"`
	Net       int64       `col:"net,NET,bytes"` // Mapped - Unmapped
	Inherited int64       `col:"inherited,BY FORK,bytes,fine"`
	Released  int64       `col:"released,BY EXIT,bytes,fine"`
	Start     int64       `col:"start,AT START,bytes,fine"`
	End       int64       `col:"end,AT END,bytes,drop=2"`
	Peak      int64       `col:"peak,PEAK,bytes"`
	PeakStep  format.Step `col:"peak_step,AT STEP"`
	PeakTime  uint64      `col:"peak_time,AT TIME,ns,drop=1"`
}

// Sheet lays the report out.
func (r *GrowthReport) Sheet() *Sheet {
	s := sheet("growth", r.Rows)
	s.Title = "Mapped memory by kind"
	s.sum(r.Total)
	if r.Total.Inherited != 0 || r.Total.Released != 0 {
		s.Notes = []string{"NET leaves out what a fork copied and what went with an exit or exec"}
	}
	if r.pid != 0 && len(r.Rows) == 0 {
		s.Notes = []string{fmt.Sprintf("process %d changed nothing here", r.pid)}
	}
	if r.unread > 0 {
		s.Notes = append(s.Notes, replay.NotMapped(r.unread))
	}
	return s
}

// account is what happened to the bytes of one kind. What a program does itself
// is kept apart from what befalls it, or nothing would ever have grown: at
// start + mapped + inherited - unmapped - released stands now.
type account struct {
	start, now          int64
	mapped, unmapped    int64 // by calls, faults and execs of the program
	inherited, released int64 // copied by a fork; gone with an exit or an exec
	peak                int64
	peakStep            format.Step
	peakTime            uint64
}

// cause is why bytes came or went.
type cause uint8

const (
	byCall cause = iota
	byFork
	byEnd
	byStart // was there when it was attached to
)

func (a *account) add(n int64, why cause) {
	a.now += n
	switch {
	case why == byFork:
		a.inherited += n
	case why == byStart:
		a.start += n
	case why == byEnd:
		a.released -= n
	case n > 0:
		a.mapped += n
	default:
		a.unmapped -= n
	}
}

func (a *account) top(ev *format.Event) {
	if a.now > a.peak {
		a.peak, a.peakStep, a.peakTime = a.now, ev.Step, ev.Time
	}
}

// ledger keeps accounts of mapped bytes along a walk, over all address spaces
// or those of one process.
type ledger struct {
	pid   uint32
	kinds [vma.NumKinds]account
	total account
	sizes map[uint32]*[vma.NumKinds]int64 // by address space
	// copies are what an address space still has of what its fork copied.
	copies map[uint32]*[vma.NumKinds]int64
	owner  map[uint32]uint32 // pid of the process that had it first
	lost   bool              // something was not recorded
}

// newLedger opens the books with what is mapped in s.
func newLedger(s *format.State, pid uint32) *ledger {
	l := &ledger{pid: pid, sizes: map[uint32]*[vma.NumKinds]int64{}, copies: map[uint32]*[vma.NumKinds]int64{}, owner: map[uint32]uint32{}}
	l.own(s)
	for no, mm := range s.MMs {
		sum := &[vma.NumKinds]int64{}
		for v := range mm.VMAs.All() {
			sum[v.Kind] += int64(v.Len())
		}
		l.sizes[no] = sum
		if !l.counts(no) {
			continue
		}
		for k, n := range sum {
			l.kinds[k].start += n
			l.total.start += n
		}
	}
	for k := range l.kinds {
		a := &l.kinds[k]
		a.now, a.peak = a.start, a.start
	}
	l.total.now, l.total.peak = l.total.start, l.total.start
	return l
}

// own learns to whom new address spaces belong: the process that was in it
// first, which is the lowest number (a vfork child borrows).
func (l *ledger) own(s *format.State) {
	first := map[uint32]uint32{}
	for _, t := range s.Threads {
		if no, ok := first[t.MM]; !ok || t.No < no {
			first[t.MM] = t.No
			if _, known := l.owner[t.MM]; !known || ok {
				l.owner[t.MM] = t.TGID
			}
		}
	}
}

func (l *ledger) counts(mm uint32) bool { return l.pid == 0 || l.owner[mm] == l.pid }

func (l *ledger) sum(mm uint32) *[vma.NumKinds]int64 {
	s := l.sizes[mm]
	if s == nil {
		s = &[vma.NumKinds]int64{}
		l.sizes[mm] = s
	}
	return s
}

// see books one event.
func (l *ledger) see(m *replay.Moment) {
	if _, ok := m.Event.Record.(*format.Lost); ok {
		l.lost = true
	}
	if len(m.Event.Changes) == 0 {
		return
	}
	// Whose it is must be known before it is booked.
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			if _, known := l.owner[c.Thread.MM]; !known {
				l.owner[c.Thread.MM] = c.Thread.TGID
			}
		}
	}
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.MMNew); ok && c.From != 0 {
			copied := *l.sum(c.From)
			l.copies[c.MM] = &copied
			for k, n := range copied {
				l.book(c.MM, vma.Kind(k), n, byFork)
			}
		}
	}
	why := byCall
	if _, ok := m.Event.Record.(*format.Attach); ok {
		why = byStart
	}
	for _, c := range m.Changes {
		if !c.Old.Empty() && c.Old.Kind != c.VMA.Kind {
			l.move(c.MM, c.Old.Kind, c.VMA.Kind, int64(c.Old.Len()))
		}
		l.book(c.MM, c.VMA.Kind, c.Growth(), why)
	}
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.MMDrop); ok {
			for k, n := range l.sum(c.MM) {
				l.book(c.MM, vma.Kind(k), -n, byEnd)
			}
			delete(l.sizes, c.MM)
			delete(l.copies, c.MM)
		}
	}
	for k := range l.kinds {
		l.kinds[k].top(m.Event)
	}
	l.total.top(m.Event)
}

func (l *ledger) book(mm uint32, k vma.Kind, n int64, why cause) {
	if n == 0 || k >= vma.NumKinds {
		return
	}
	l.sum(mm)[k] += n
	if l.counts(mm) {
		l.kinds[k].add(n, why)
		l.total.add(n, why)
	}
}

// move books bytes that turned out to be of another kind, as a thread's stack
// does once there is the thread: they were of that kind from the beginning.
func (l *ledger) move(mm uint32, from, to vma.Kind, n int64) {
	if from >= vma.NumKinds || to >= vma.NumKinds {
		return
	}
	s := l.sum(mm)
	s[from] -= n
	s[to] += n
	if !l.counts(mm) {
		return
	}
	a, b := &l.kinds[from], &l.kinds[to]
	a.now -= n
	b.now += n
	if c := l.copies[mm]; c != nil {
		// A child has stacks of threads that it has not: memory it was given.
		m := min(n, c[from])
		c[from] -= m
		c[to] += m
		a.inherited -= m
		b.inherited += m
		n -= m
	}
	b.mapped += n
	if a.mapped >= n {
		a.mapped -= n
	} else {
		a.unmapped += n
	}
}

// Growth tells how much of each kind of memory was mapped and unmapped.
func Growth(ctx context.Context, t *replay.Trace, o Options) (*GrowthReport, error) {
	s, err := t.Before(o.From)
	if err != nil {
		return nil, err
	}
	l := newLedger(s, o.PID)
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		l.see(m)
	}
	r, err := l.report(ctx, t)
	if err == nil && r.unknown() {
		return nil, fmt.Errorf("%w: %s", replay.ErrUnknown, replay.NotMapped(r.unread))
	}
	return r, err
}

// unknown reports whether there is no mapping because none is known.
func (r *GrowthReport) unknown() bool { return r.Total.Peak == 0 && r.unread > 0 }

func (l *ledger) report(ctx context.Context, t *replay.Trace) (r *GrowthReport, err error) {
	r = &GrowthReport{Total: l.total.row("total"), pid: l.pid}
	if l.lost || r.Total.Peak == 0 {
		if r.unread, err = t.WithoutMappings(ctx); err != nil {
			return nil, err
		}
	}
	for k := range l.kinds {
		a := &l.kinds[k]
		if *a != (account{}) {
			r.Rows = append(r.Rows, a.row(vma.Kind(k).String()))
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b GrowthRow) int { return cmp.Compare(b.Peak, a.Peak) })
	return r, nil
}

func (a *account) row(name string) GrowthRow {
	return GrowthRow{
		Kind: name, Mapped: a.mapped, Unmapped: a.unmapped, Net: a.mapped - a.unmapped, Inherited: a.inherited, Released: a.released,
		Start: a.start, End: a.now, Peak: a.peak, PeakStep: a.peakStep, PeakTime: a.peakTime,
	}
}
