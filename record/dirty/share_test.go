//go:build linux

package dirty

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
)

// TestShare: somebody else protects pages between the scans. Neither misses a write, and
// neither finds what nobody has written.
func TestShare(t *testing.T) {
	const end = 700
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := memory(t, mapping(0, end, vma.AnonPrivate))
			u := NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings())
			ours, theirs := map[int]bool{}, map[int]bool{} // pages written that Scan, and Protect, have to find
			wants := func(of map[int]bool, in addr.Range) (ns []int) {
				for n := range of {
					if in.Contains(page(n)) {
						ns = append(ns, n)
					}
				}
				slices.Sort(ns)
				return ns
			}
			u.Share(func(r procfs.Region) {
				for a := r.Start; a < r.End; a += addr.PageSize {
					delete(theirs, int(a.Page())) // they are told
				}
			})
			for range 300 {
				from := rng.IntN(end)
				at := pages(from, from+1+rng.IntN(end-from))
				switch rng.IntN(5) {
				case 0, 1:
					for range rng.IntN(200) {
						n := rng.IntN(end)
						m.Write(page(n), rng.Uint64(), false)
						ours[n], theirs[n] = true, true
					}
				case 2:
					for n := from; n < min(end, from+rng.IntN(400)); n++ {
						m.Write(page(n), rng.Uint64(), false)
						ours[n], theirs[n] = true, true
					}
				case 3:
					var got []int
					each := func(g procfs.Region) {
						for a := g.Start; a < g.End; a += addr.PageSize {
							got = append(got, int(a.Page()))
						}
					}
					want := wants(theirs, at)
					if err := u.Unprotected(at, 0, each); err != nil || !slices.Equal(got, want) {
						t.Fatalf("not protected in %v: %v, %v, want %v", at, got, err, want)
					}
					got = nil
					if err := u.Protect(at, 0, true, each); err != nil || !slices.Equal(got, want) {
						t.Fatalf("protected in %v: %v, %v, want %v", at, got, err, want)
					}
					for _, n := range got {
						delete(theirs, n)
					}
				case 4:
					arm := rng.IntN(2) == 0
					written := rng.IntN(4) > 0
					want := wants(ours, at)
					got, _ := scanned(t, u, at, written, arm)
					if written && !slices.Equal(got, want) {
						t.Fatalf("written in %v: %v, want %v", at, got, want)
					}
					if arm {
						for _, n := range got {
							delete(ours, n)
						}
					}
					var again []int
					err := u.Rewritten(at, func(g addr.Range) {
						for a := g.Start; a < g.End; a += addr.PageSize {
							if n := int(a.Page()); m.There(a) {
								again = append(again, n)
							}
						}
					})
					if err != nil {
						t.Fatal(err)
					}
					slices.Sort(again)
					if want := wants(ours, at); !slices.Equal(slices.Compact(again), want) {
						t.Fatalf("rewritten in %v: %v, want %v", at, again, want)
					}
				}
			}
		})
	}
}
