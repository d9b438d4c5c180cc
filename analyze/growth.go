package analyze

import (
	"context"
	"fmt"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// account is what happened to the bytes of one kind.
type account struct {
	start, now, mapped, unmapped, peak int64
	peakStep                           format.Step
	peakTime                           uint64
}

func (a *account) add(n int64) {
	a.now += n
	if n > 0 {
		a.mapped += n
	} else {
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
	owner map[uint32]uint32               // pid of the process that had it first
}

// newLedger opens the books with what is mapped in s.
func newLedger(s *format.State, pid uint32) *ledger {
	l := &ledger{pid: pid, sizes: map[uint32]*[vma.NumKinds]int64{}, owner: map[uint32]uint32{}}
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
			for k, n := range l.sum(c.From) {
				l.book(c.MM, vma.Kind(k), n)
			}
		}
	}
	for _, c := range m.Changes {
		if !c.Old.Empty() {
			l.book(c.MM, c.Old.Kind, -int64(c.Old.Len()))
		}
		if c.Op == vma.Unmap {
			l.book(c.MM, c.VMA.Kind, -int64(c.VMA.Len()))
		} else {
			l.book(c.MM, c.VMA.Kind, int64(c.VMA.Len()))
		}
	}
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.MMDrop); ok {
			for k, n := range l.sum(c.MM) {
				l.book(c.MM, vma.Kind(k), -n)
			}
			delete(l.sizes, c.MM)
		}
	}
	for k := range l.kinds {
		l.kinds[k].top(m.Event)
	}
	l.total.top(m.Event)
}

func (l *ledger) book(mm uint32, k vma.Kind, n int64) {
	if n == 0 || k >= vma.NumKinds {
		return
	}
	l.sum(mm)[k] += n
	if l.counts(mm) {
		l.kinds[k].add(n)
		l.total.add(n)
	}
}

// Growth tells how much of each kind of memory was mapped and unmapped.
func Growth(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	l, err := growth(ctx, t, o)
	if err != nil {
		return nil, err
	}
	return l.result(), nil
}

func growth(ctx context.Context, t *replay.Trace, o Options) (*ledger, error) {
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
	return l, nil
}

func (l *ledger) result() *Result {
	r := &Result{Report: "growth", Title: "Mapped memory by kind", Columns: []Column{
		{Key: "kind", Title: "KIND", Unit: Text}, {Key: "mapped", Title: "MAPPED", Unit: Bytes}, {Key: "unmapped", Title: "UNMAPPED", Unit: Bytes}, {Key: "net", Title: "NET", Unit: Bytes},
		{Key: "end", Title: "AT END", Unit: Bytes}, {Key: "peak", Title: "PEAK", Unit: Bytes}, {Key: "peak_step", Title: "AT STEP", Unit: Count}, {Key: "peak_time", Title: "AFTER", Unit: Duration},
	}}
	for k := range l.kinds {
		a := &l.kinds[k]
		if a.mapped != 0 || a.unmapped != 0 || a.start != 0 {
			r.Rows = append(r.Rows, a.row(vma.Kind(k).String()))
		}
	}
	if err := r.Sort("peak"); err != nil {
		panic(err) // the column is right above
	}
	r.Total = l.total.row("total")
	if l.pid != 0 && len(r.Rows) == 0 {
		r.Notes = []string{fmt.Sprintf("process %d changed nothing here", l.pid)}
	}
	return r
}

func (a *account) row(name string) []any {
	return []any{name, a.mapped, a.unmapped, a.now - a.start, a.now, a.peak, uint64(a.peakStep), a.peakTime}
}
