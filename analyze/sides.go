package analyze

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// sides are the values of something in the runs of two sides. What a run does not have
// is 0 there.
type sides struct{ a, b []float64 }

// Rows that differ by less are told of as alike.
const (
	alikeShare = 0.02
	alikeBytes = 64 << 10
	enoughRuns = 4 // a side
	sureBelow  = 0.05
	sureErrors = 3.4 // standard errors: of 50 rows one differs so much by chance in 30 comparisons
)

func (s *sides) delta() float64 {
	if s.a == nil {
		return 0 // no run has it
	}
	return median(s.b) - median(s.a)
}

// p is the probability of such a difference between runs that do not differ, by the test
// of Mann and Whitney; nil if there are too few runs.
func (s *sides) p() *float64 {
	if min(len(s.a), len(s.b)) < enoughRuns {
		return nil
	}
	p := mannWhitney(s.a, s.b)
	return &p
}

// differ says whether the sides differ: with enough runs by the test, and by more than chance
// lets the largest of many rows differ, else by a share. least is a difference that is always
// too small to tell.
func (s *sides) differ(least float64) bool {
	d, most := math.Abs(s.delta()), max(math.Abs(median(s.a)), math.Abs(median(s.b)))
	if d == 0 || d < alikeShare*most || d < least {
		return false
	}
	if p := s.p(); p != nil {
		return *p < sureBelow && d > sureErrors*s.standardError()
	}
	return true
}

// standardError is that of the difference of the medians, by the quartiles of the side whose
// runs scatter more.
func (s *sides) standardError() float64 {
	scatter := max(quartiles(s.a), quartiles(s.b)) / 1.349
	return 1.2533 * scatter * math.Sqrt(1/float64(len(s.a))+1/float64(len(s.b)))
}

// quartiles is how far the quartiles of values are from each other.
func quartiles(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	at := func(part float64) float64 {
		i, rest := math.Modf(part * float64(len(sorted)-1))
		k := int(i)
		if k+1 >= len(sorted) {
			return sorted[k]
		}
		return sorted[k] + rest*(sorted[k+1]-sorted[k])
	}
	return at(0.75) - at(0.25)
}

// onlyIn is the side that alone has it, "" if both have.
func (s *sides) onlyIn() string {
	has := func(v []float64) bool { return slices.ContainsFunc(v, func(x float64) bool { return x != 0 }) }
	switch a, b := has(s.a), has(s.b); {
	case a && !b:
		return "A"
	case b && !a:
		return "B"
	}
	return ""
}

// mannWhitney is the two-sided p of the rank-sum test: over all ways to choose the runs of
// a out of all runs, if these are not too many, else by the normal distribution.
func mannWhitney(a, b []float64) float64 {
	all := slices.Concat(a, b)
	sorted := slices.Sorted(slices.Values(all))
	ranks := make([]float64, len(all))
	for i, v := range all {
		lo, _ := slices.BinarySearch(sorted, v)
		hi := lo
		for hi < len(sorted) && sorted[hi] == v {
			hi++
		}
		ranks[i] = float64(lo+hi+1) / 2
	}
	n, na := len(all), len(a)
	mean := float64(na) * float64(n+1) / 2
	off := func(sum float64) float64 { return math.Abs(sum - mean) }
	seen := 0.0
	for _, r := range ranks[:na] {
		seen += r
	}
	if n > 16 {
		variance := 0.0
		for _, r := range ranks {
			variance += (r - float64(n+1)/2) * (r - float64(n+1)/2)
		}
		variance *= float64(na) * float64(n-na) / float64(n) / float64(n-1)
		if variance == 0 {
			return 1
		}
		return math.Erfc(max(off(seen)-0.5, 0) / math.Sqrt(2*variance))
	}
	extreme, total := 0, 0
	for set := uint(0); set < 1<<n; set++ {
		if bits.OnesCount(set) != na {
			continue
		}
		sum := 0.0
		for s := set; s != 0; s &= s - 1 {
			sum += ranks[bits.TrailingZeros(s)]
		}
		total++
		if off(sum) >= off(seen)-1e-9 {
			extreme++
		}
	}
	return float64(extreme) / float64(total)
}

// verdict is what is said of the sides in one word.
func (s *sides) verdict(least float64) string {
	switch {
	case s.onlyIn() != "":
		return "only in " + s.onlyIn()
	case !s.differ(least):
		return "~"
	case s.delta() > 0:
		return "more"
	}
	return "less"
}

// change is the difference as a share of a, as "+12 %".
func (s *sides) change() string {
	a, b := median(s.a), median(s.b)
	if a == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100*(b-a)/a)
}
