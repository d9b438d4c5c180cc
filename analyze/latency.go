package analyze

import (
	"math"
	"math/bits"
	"strings"
)

// latencies are how times are distributed: a bucket for every 32nd of a power of two, so that
// a percentile is known to 3 %.
type latencies struct {
	n, most uint64
	buckets map[uint16]uint64
}

const latencyShift = 5 // 32 buckets a power of two

// add counts a time in ns.
func (s *latencies) add(ns uint64) {
	if s.buckets == nil {
		s.buckets = map[uint16]uint64{}
	}
	s.n++
	s.most = max(s.most, ns)
	s.buckets[bucketOf(ns)]++
}

// bucketOf is the bucket of a time; smaller times are in smaller buckets.
func bucketOf(ns uint64) uint16 {
	if ns < 1<<latencyShift {
		return uint16(ns)
	}
	shift := bits.Len64(ns) - 1 - latencyShift
	return uint16(shift<<latencyShift) + uint16(ns>>shift)
}

// midBucket is the middle of a bucket, in ns.
func midBucket(b uint16) uint64 {
	if b < 2<<latencyShift {
		return uint64(b)
	}
	shift := b>>latencyShift - 1
	return uint64(b-shift<<latencyShift)<<shift + 1<<shift/2
}

// below is the time that so many percent do not exceed, nil of none.
func (s *latencies) below(percent uint64) *uint64 {
	if s.n == 0 {
		return nil
	}
	want := (s.n*percent + 99) / 100
	for b := uint16(0); ; b++ {
		if n := s.buckets[b]; n < want {
			want -= n
			continue
		}
		t := min(midBucket(b), s.most)
		return &t
	}
}

// The picture of latencies has a character for each part of a power of ten.
const (
	pictureFrom, pictureTo = 1_000, 10_000_000_000 // ns
	pictureWidth           = 14
)

// picture is a line of characters from 1 us to 10 s, each as high as the share of times
// there is: a character for half a power of ten. What is shorter or longer is in the
// first and the last.
func (s *latencies) picture(ascii bool) string {
	if s.n == 0 {
		return ""
	}
	bins := make([]float64, pictureWidth)
	for b, n := range s.buckets {
		at := math.Log10(float64(max(midBucket(b), 1))/pictureFrom) / math.Log10(pictureTo/pictureFrom) * pictureWidth
		bins[min(max(int(at), 0), pictureWidth-1)] += float64(n)
	}
	for i := range bins {
		if bins[i] == 0 {
			bins[i] = math.NaN()
		}
	}
	line := []rune(Sparkline(append(bins, 0), ascii)) // as high as above 0
	return strings.TrimRight(string(line[:len(line)-1]), " ")
}
