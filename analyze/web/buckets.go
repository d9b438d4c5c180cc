package web

import (
	"fmt"
	"strconv"

	"memtrace/format"
	"memtrace/replay"
)

// MostBuckets is how many buckets are given at most.
const MostBuckets = 4000

// exactly is how many events are read again to draw a part of the log; of more the summary
// tells.
const exactly = 64 << 10

// buckets are stretches of equal time.
type buckets struct {
	q        Query
	from, to uint64 // ns, of q
	n        int
	exact    bool // the events are few enough to be read again
	ready    float64
	step     []uint64 // the last of each, filled on the way
}

// buckets divides the time of a query into n.
func (l *Log) buckets(q Query, n int) (*buckets, error) {
	if n < 1 || n > MostBuckets {
		return nil, fmt.Errorf("n=%d: want 1 to %d buckets", n, MostBuckets)
	}
	if l.t.Count() == 0 {
		return nil, replay.ErrEmpty
	}
	times, err := l.t.Times(q.From, q.To)
	if err != nil {
		return nil, err
	}
	b := &buckets{q: q, from: times[0], to: max(times[1], times[0]), n: n, step: make([]uint64, n), exact: q.To-q.From < l.exactly}
	b.ready, _ = l.ready()
	return b, nil
}

// of is the bucket of a time, which may be outside.
func (b *buckets) of(t uint64) int {
	if t <= b.from {
		return 0
	}
	if t >= b.to {
		return b.n - 1
	}
	return min(int(float64(t-b.from)/float64(b.to-b.from)*float64(b.n)), b.n-1)
}

// saw notes that a step is in a bucket.
func (b *buckets) saw(i int, step uint64) { b.step[i] = max(b.step[i], step) }

// steps fills the buckets in which no step was seen.
func (b *buckets) steps() []uint64 {
	last := uint64(b.q.From)
	for i := range b.step {
		last = max(last, b.step[i])
		b.step[i] = last
	}
	return b.step
}

// leavesOf are the leaves that have a step of the query, as from..to, to not included. The
// summary is locked.
func (s *summary) leavesOf(q Query) (from, to int) {
	from, to = len(s.leaves), 0
	for i, x := range s.leaves {
		if x.step < uint64(q.From) {
			continue
		}
		from, to = min(from, i), i+1
		if x.step >= uint64(q.To) {
			break
		}
	}
	return min(from, to), to
}

// leafBegin is the time at which a leaf begins.
func (s *summary) leafBegin(i int) uint64 {
	if i == 0 {
		return s.begin
	}
	return s.leaves[i-1].time
}

// walk goes over the events of a query, from the state before it on.
func (l *Log) walk(q Query, begin func(*format.State), see func(*replay.Moment)) error {
	s, err := l.t.Before(q.From)
	if err != nil {
		return err
	}
	begin(s)
	for m, err := range l.t.Walk(q.From, q.To) {
		if err != nil {
			return err
		}
		see(m)
	}
	return nil
}

// MarshalJSON has runs of equal values, and null for what is not known.
func (v Values) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i := 0; i < len(v); {
		n := 1
		for i+n < len(v) && v[i+n] == v[i] {
			n++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, '['), int64(n), 10), ',')
		if v[i] < 0 {
			b = append(b, "null]"...)
		} else {
			b = append(strconv.AppendInt(b, v[i], 10), ']')
		}
		i += n
	}
	return append(b, ']'), nil
}

// unknown are n values that are not known.
func unknown(n int) Values {
	v := make(Values, n)
	for i := range v {
		v[i] = -1
	}
	return v
}
