package analyze

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLatencies compares percentiles with those of a sorted list.
func TestLatencies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 3000; n = 2*n + 1 {
		var l latencies
		var all []uint64
		for range n {
			ns := rng.Uint64() >> rng.IntN(64)
			all = append(all, ns)
			l.add(ns)
		}
		slices.Sort(all)
		for _, p := range []uint64{1, 50, 90, 99, 100} {
			want := float64(all[(uint64(n)*p+99)/100-1])
			if got := float64(*l.below(p)); got < want*0.97-1 || got > want*1.03+1 {
				t.Errorf("%d times: %d %% are below %v, want %v", n, p, got, want)
			}
		}
	}
	var none, some latencies
	if none.below(50) != nil || none.picture(false) != "" {
		t.Error("there are times of nothing")
	}
	for range 8 {
		some.add(2_000)
	}
	some.add(20)
	some.add(1 << 60)
	if got := some.picture(false); got != "█           ▁" && got != "█            ▁" {
		t.Errorf("%q", got)
	}
}
