package analyze

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// SlowestReport has the calls that took longest.
type SlowestReport struct {
	Rows []SlowestRow // the longest first, at most 10,000
}

// SlowestRow is one call.
type SlowestRow struct {
	Time  uint64      `col:"duration,TOOK,ns"`
	Step  format.Step `col:"step,AT STEP"`
	At    uint64      `col:"time,AT TIME,ns,drop=2"` // when it returned
	PID   uint32      `col:"pid,PID,drop=1"`
	TID   uint32      `col:"tid,THREAD"`
	Name  string      `col:"name,CALL"`
	Error string      `col:"errno,ERROR,drop=3"`
	File  string      `col:"file,FILE,cut=end"`
}

// mostSlow is how many calls are kept.
const mostSlow = 10_000

// Sheet lays the report out.
func (r *SlowestReport) Sheet() *Sheet {
	s := sheet("slow", r.Rows)
	s.Title = "The slowest calls, waiting included"
	if len(r.Rows) == 0 {
		s.Notes = []string{"no call has returned"}
	}
	return s
}

// Slowest finds the calls that took longest, from entry to return.
func Slowest(ctx context.Context, t *replay.Trace, o Options) (*SlowestReport, error) {
	var h slowHeap
	err := eachCall(ctx, t, o, func(p *replay.Printer, m *replay.Moment, s *format.Syscall) {
		d := replay.Elapsed(m.Event, s)
		if !s.Returned || len(h) == mostSlow && d <= h[0].Time {
			return
		}
		x := SlowestRow{
			Time: d, Step: m.Event.Step, At: m.Event.Time, PID: m.Thread.TGID, TID: m.Thread.TID,
			Name: replay.CallName(s.Arch, s.Nr), File: strings.Join(filesOf(p, m), " "),
		}
		if failed(s) {
			x.Error = arch.ErrnoName(int(-s.Ret))
		}
		if len(h) == mostSlow {
			h[0] = x
			heap.Fix(&h, 0)
		} else {
			heap.Push(&h, x)
		}
	})
	slices.SortFunc(h, func(a, b SlowestRow) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Step, b.Step))
	})
	return &SlowestReport{Rows: h}, err
}

// slowHeap has the shortest of its calls first.
type slowHeap []SlowestRow

func (h slowHeap) Len() int           { return len(h) }
func (h slowHeap) Less(i, j int) bool { return h[i].Time < h[j].Time }
func (h slowHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *slowHeap) Push(x any) { *h = append(*h, x.(SlowestRow)) }

// Pop is for container/heap.
func (h *slowHeap) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

// eachCall calls f for each call of the options' range and process, with a printer that
// knows the names of its descriptors.
func eachCall(ctx context.Context, t *replay.Trace, o Options, f func(*replay.Printer, *replay.Moment, *format.Syscall)) error {
	lo := replay.ListOptions{From: o.From, To: o.To, AllCalls: true, Set: arch.AllCalls()}
	return t.Each(ctx, lo, func(p *replay.Printer, m *replay.Moment) error {
		if s, ok := m.Event.Record.(*format.Syscall); ok && o.mine(m) {
			f(p, m, s)
		}
		p.Skip(m)
		return nil
	})
}

// filesOf are the files that a call names, each once.
func filesOf(p *replay.Printer, m *replay.Moment) (names []string) {
	p.Files(m, func(name string, _ bool) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	})
	return names
}
