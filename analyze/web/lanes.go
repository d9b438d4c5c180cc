package web

import (
	"cmp"
	"slices"
	"sort"

	"memtrace/format"
	"memtrace/replay"
)

// How much of lanes is given.
const (
	mostThreads    = 200
	mostLaneMarks  = 500
	snapshotsShare = 10 // a tenth of the marks
)

// Lanes are what threads did, in n buckets.
func (l *Log) Lanes(q Query, n int) (*Lanes, error) {
	b, err := l.buckets(q, n)
	if err != nil {
		return nil, err
	}
	procs, err := l.procs(q.PID)
	if err != nil {
		return nil, err
	}
	r := &Lanes{From: b.from, To: b.to, N: n, Ready: b.ready, Exact: b.exact, Lanes: []Lane{}, Marks: []LaneMark{}}
	m := l.laneMaker(r, b, procs)
	if r.Exact {
		err = l.exactLanes(m, b)
	} else {
		l.summedLanes(m, b)
	}
	if err != nil {
		return nil, err
	}
	r.Step = b.steps()
	m.finish()
	l.laneMarks(r, b, procs)
	return r, nil
}

// exactLanes reads the events again.
func (l *Log) exactLanes(m *laneMaker, b *buckets) error {
	var y *tally
	bucket := 0
	cut := func() {
		_, cells := y.cut()
		for i := range cells {
			m.put(bucket, &cells[i])
		}
	}
	err := l.walk(b.q, func(s *format.State) { y = newTally(s) }, func(x *replay.Moment) {
		if at := b.of(x.Event.Time); at != bucket {
			cut()
			bucket = at
		}
		y.see(x)
		b.saw(bucket, uint64(x.Event.Step))
	})
	if err == nil {
		cut()
	}
	return err
}

// summedLanes takes them from the summary.
func (l *Log) summedLanes(m *laneMaker, b *buckets) {
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	from, to := l.sum.leavesOf(b.q)
	middle := func(leaf int) int {
		begin, end := l.sum.leafBegin(leaf), l.sum.leaves[leaf].time
		return b.of(begin + (end-begin)/2)
	}
	lanes := l.sum.lanes
	for i := sort.Search(len(lanes), func(i int) bool { return int(lanes[i].leaf) >= from }); i < len(lanes) && int(lanes[i].leaf) < to; i++ {
		m.put(middle(int(lanes[i].leaf)), &lanes[i].laneCell)
	}
	for i := from; i < to; i++ {
		b.saw(b.of(l.sum.leaves[i].time), min(l.sum.leaves[i].step, uint64(b.q.To)))
	}
}

// laneMaker puts cells into lanes.
type laneMaker struct {
	r     *Lanes
	lanes map[uint32]*laneColumns // by thread
}

// laneColumns is a lane that is being made. Cells come in the order of buckets.
type laneColumns struct {
	Lane
	used [numClasses]bool
}

// laneMaker chooses the threads that have a lane: those that live in the query's time, the
// first to be born.
func (l *Log) laneMaker(r *Lanes, b *buckets, procs map[uint32]bool) *laneMaker {
	m := &laneMaker{r: r, lanes: map[uint32]*laneColumns{}}
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	for i := range l.sum.threads {
		x := &l.sum.threads[i]
		if procs != nil && !procs[x.proc] || x.first > uint64(b.q.To) || x.last < uint64(b.q.From) {
			continue
		}
		if len(m.lanes) >= mostThreads {
			r.Left++
			continue
		}
		c := &laneColumns{Lane: Lane{
			PID: x.pid, TID: x.tid, Proc: x.proc, First: x.first, Last: x.last, Begin: x.begin, End: x.end,
			At: []int{}, Calls: map[string][]uint32{}, Time: map[string][]uint64{}, Failed: []uint32{}, Longest: []uint64{}, LongestStep: []uint64{},
		}}
		for _, name := range classNames {
			c.Calls[name], c.Time[name] = []uint32{}, []uint64{}
		}
		m.lanes[x.no] = c
	}
	return m
}

// put adds a cell to a bucket.
func (m *laneMaker) put(bucket int, c *laneCell) {
	x := m.lanes[c.thread]
	if x == nil {
		return
	}
	n := len(x.At)
	if n == 0 || x.At[n-1] != bucket {
		x.At = append(x.At, bucket)
		x.Failed, x.Longest, x.LongestStep = append(x.Failed, 0), append(x.Longest, 0), append(x.LongestStep, 0)
		for _, name := range classNames {
			x.Calls[name], x.Time[name] = append(x.Calls[name], 0), append(x.Time[name], 0)
		}
		n++
	}
	name := classNames[c.class]
	x.used[c.class] = true
	x.Calls[name][n-1] += c.calls
	x.Time[name][n-1] += c.time
	x.Failed[n-1] += c.failed
	if c.longest > x.Longest[n-1] {
		x.Longest[n-1], x.LongestStep[n-1] = c.longest, c.step
	}
}

// finish puts the lanes in order.
func (m *laneMaker) finish() {
	for _, x := range m.lanes {
		for k, name := range classNames {
			if !x.used[k] {
				delete(x.Calls, name)
				delete(x.Time, name)
			}
		}
		m.r.Lanes = append(m.r.Lanes, x.Lane)
	}
	slices.SortFunc(m.r.Lanes, func(a, b Lane) int {
		return cmp.Or(cmp.Compare(a.Proc, b.Proc), cmp.Compare(a.First, b.First), cmp.Compare(a.TID, b.TID))
	})
}

// laneMarks picks the marks of the query's time: the gravest, and of the rest as many as
// there is room for, evenly.
func (l *Log) laneMarks(r *Lanes, b *buckets, procs map[uint32]bool) {
	pids := map[uint32]bool{}
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	for i := range l.sum.threads {
		if x := &l.sum.threads[i]; procs[x.proc] {
			pids[x.pid] = true
		}
	}
	var by [numMarks][]*mark
	for i := range l.sum.marks {
		x := &l.sum.marks[i]
		if x.step >= uint64(b.q.From) && x.step <= uint64(b.q.To) && (procs == nil || pids[x.pid]) {
			by[x.kind] = append(by[x.kind], x)
		}
	}
	r.More = l.sum.dropped
	room := mostLaneMarks
	for kind, list := range by {
		share := room
		if markKind(kind) != snapshotMark {
			share = max(room-mostLaneMarks/snapshotsShare, 0)
		}
		n := min(len(list), share)
		for i := range n {
			x := list[i*len(list)/n]
			r.Marks = append(r.Marks, LaneMark{Step: x.step, T: x.time, PID: x.pid, TID: x.tid, Kind: markNames[x.kind], Text: x.text})
		}
		room -= n
		r.More += len(list) - n
	}
	slices.SortFunc(r.Marks, func(a, b LaneMark) int { return cmp.Compare(a.Step, b.Step) })
}
