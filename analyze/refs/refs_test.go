package refs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// recorder simulates the recording of a reference string: it protects all pages,
// records the first reference to each, and begins a new phase when the pool is full.
// At random a phase is longer or shorter, pages are held over its end, and some are
// never protected.
type recorder struct {
	rng    *rand.Rand
	d      *Depths
	curve  Curve
	pool   int
	open   map[uint32]map[uint64]bool
	limit  map[uint32]int
	pinned map[uint64]bool
	odd    bool
}

// reference is one of a string; what was found of it goes with it.
type reference struct {
	space uint32
	page  uint64
	depth int // the truth; -1: cold
	found *Depth
}

func (r *recorder) phase(space uint32) {
	var held []uint64
	next := map[uint64]bool{}
	if r.odd {
		for _, p := range slices.Sorted(keys(r.open[space])) {
			if r.rng.IntN(12) == 0 {
				held = append(held, p)
				next[p] = true
			}
		}
	}
	r.open[space] = next
	r.limit[space] = r.pool
	if r.odd {
		switch r.rng.IntN(4) {
		case 0:
			r.limit[space] = 1 + r.rng.IntN(r.pool)
		case 1:
			r.limit[space] += r.rng.IntN(r.pool)
		}
	}
	r.d.Phase(space, held, uint32(len(r.pinned)))
}

func keys(m map[uint64]bool) func(func(uint64) bool) {
	return func(yield func(uint64) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (r *recorder) touch(x *reference) {
	if r.open[x.space] == nil {
		r.phase(x.space)
	}
	open := r.open[x.space]
	if r.pinned[x.page] || open[x.page] {
		return
	}
	if len(open) >= r.limit[x.space] {
		r.phase(x.space)
		open = r.open[x.space]
		if open[x.page] { // held
			return
		}
	}
	open[x.page] = true
	d := r.d.Touch(x.space, x.page)
	r.curve.Add(d)
	x.found = &d
}

// truth finds the depths of a string with a list.
func truth(s []reference) {
	type key struct {
		space uint32
		page  uint64
	}
	var list []key
	for i := range s {
		k := key{s[i].space, s[i].page}
		at := slices.Index(list, k)
		s[i].depth = at
		if at >= 0 {
			list = slices.Delete(list, at, at+1)
		}
		list = slices.Insert(list, 0, k)
	}
}

// randomString has a locality that changes.
func randomString(rng *rand.Rand, n, pages int, spaces uint32) []reference {
	out := make([]reference, n)
	base, width := 0, pages
	for i := range out {
		if rng.IntN(200) == 0 {
			base, width = rng.IntN(pages), 1+rng.IntN(pages)
		}
		p := (base + rng.IntN(width)) % pages
		if rng.IntN(3) == 0 {
			p = i / 3 % pages // a scan
		}
		out[i] = reference{space: 1 + rng.Uint32N(spaces), page: uint64(p)}
	}
	return out
}

// TestBracket records random strings and compares what is found with the truth.
func TestBracket(t *testing.T) {
	checked, recorded := 0, 0
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 9))
		spaces := uint32(1)
		if seed%3 == 2 {
			spaces = 1 + rng.Uint32N(3)
		}
		pages := 8 + rng.IntN(120)
		s := randomString(rng, 4000, pages, spaces)
		truth(s)
		r := &recorder{
			rng: rng, d: NewDepths(), pool: 1 + rng.IntN(pages/2), odd: seed%2 == 1,
			open: map[uint32]map[uint64]bool{}, limit: map[uint32]int{}, pinned: map[uint64]bool{},
		}
		if r.odd {
			for range rng.IntN(4) {
				r.pinned[uint64(rng.IntN(pages))] = true
			}
		}
		for i := range s {
			r.touch(&s[i])
		}
		name := fmt.Sprintf("seed %d, %d pages, pool %d, %d spaces", seed, pages, r.pool, spaces)
		proven := r.d.Proven()
		if !r.odd && spaces == 1 && int(proven) > r.pool {
			t.Errorf("%s: proven from %d on", name, proven)
		}
		for i := range s {
			x := &s[i]
			switch f := x.found; {
			case r.pinned[x.page]:
				if f != nil {
					t.Fatalf("%s: a pinned page was recorded", name)
				}
			case f == nil:
				if x.depth >= int(proven) || x.depth < 0 {
					t.Fatalf("%s: reference %d has depth %d and was not recorded, proven from %d", name, i, x.depth, proven)
				}
			case f.Cold != (x.depth < 0):
				t.Fatalf("%s: reference %d: %+v, depth %d", name, i, *f, x.depth)
			case !f.Cold && (int(f.Low) > x.depth || int(f.High) < x.depth || f.Low > f.Plain || f.Plain > f.High):
				t.Fatalf("%s: reference %d: %+v, depth %d", name, i, *f, x.depth)
			default:
				recorded++
			}
		}
		var sizes []uint64
		for c := uint64(1); c < uint64(3*pages); c += 1 + c/8 {
			sizes = append(sizes, c)
		}
		for i, m := range r.curve.At(sizes) {
			low, plain, high := r.curve.Misses(sizes[i])
			if m != (Misses{sizes[i], low, plain, high}) {
				t.Fatalf("%s: At gives %+v, Misses %d %d %d", name, m, low, plain, high)
			}
			if m.Pages >= r.curve.Exact() && m.Low != m.High || m.Pages >= r.curve.Fits() && m.High > 0 {
				t.Fatalf("%s: %+v, exact from %d, fits from %d", name, m, r.curve.Exact(), r.curve.Fits())
			}
			if m.Pages < uint64(proven) {
				continue
			}
			want := uint64(0)
			for k := range s {
				if s[k].depth >= int(m.Pages) && !r.pinned[s[k].page] {
					want++
				}
			}
			if want < m.Low || want > m.High {
				t.Fatalf("%s: %+v, and the truth is %d", name, m, want)
			}
			checked++
		}
	}
	if checked < 500 || recorded < 50_000 {
		t.Errorf("only %d sizes and %d references were looked at", checked, recorded)
	}
}

// TestPlain compares plain depths with a list, over many renumberings.
func TestPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	s := randomString(rng, 60_000, 600, 2)
	truth(s)
	d := NewDepths()
	for i := range s {
		if rng.IntN(100) == 0 {
			d.Phase(s[i].space, nil, 0)
		}
		if got := d.Touch(s[i].space, s[i].page); got.Cold != (s[i].depth < 0) || !got.Cold && int(got.Plain) != s[i].depth {
			t.Fatalf("reference %d: %+v, want %d", i, got, s[i].depth)
		}
	}
}

// TestEnd ends address spaces: they do not widen the bounds of others any more.
func TestEnd(t *testing.T) {
	d := NewDepths()
	for p := range uint64(100) {
		d.Touch(1, p)
	}
	d.End(1)
	d.End(7)
	d.Phase(2, nil, 0)
	d.Touch(2, 1)
	d.Phase(2, nil, 0)
	if got := d.Touch(2, 1); got.Low != 0 || got.High != 0 || got.Cold {
		t.Errorf("%+v", got)
	}
	if n := d.Proven(); n != 100 {
		t.Errorf("proven from %d on", n)
	}
	if got := d.Touch(1, 5); !got.Cold {
		t.Errorf("a new address space has a page: %+v", got)
	}
}

// TestForked has an address space that begins with pages that are open.
func TestForked(t *testing.T) {
	d := NewDepths()
	d.Phase(1, []uint64{1, 2}, 0)
	d.Touch(1, 3)
	if n := d.Proven(); n != 3 {
		t.Errorf("proven from %d on", n)
	}
	d.Phase(1, nil, 0)
	if got := d.Touch(1, 1); !got.Cold || got.High != 2 {
		t.Errorf("%+v", got)
	}
}

// optimum finds the misses of Belady's algorithm by looking ahead.
func optimum(s []uint32, size int) (misses uint64) {
	var in []uint32
	for i, p := range s {
		if slices.Contains(in, p) {
			continue
		}
		misses++
		if len(in) == size {
			worst, far := 0, -1
			for k, q := range in {
				at := slices.Index(s[i:], q)
				if at < 0 {
					at = len(s)
				}
				if at > far {
					worst, far = k, at
				}
			}
			in = slices.Delete(in, worst, worst+1)
		}
		in = append(in, p)
	}
	return misses
}

func TestOptimum(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		pages := 1 + rng.IntN(60)
		var s []uint32
		for _, x := range randomString(rng, 1500, pages, 1) {
			s = append(s, uint32(x.page))
		}
		o := NewOptimum(s, pages)
		for size := 1; size <= pages+1; size += 1 + size/4 {
			if got, want := o.Misses(size), optimum(s, size); got != want {
				t.Fatalf("seed %d: %d misses at %d pages, want %d", seed, got, size, want)
			}
		}
	}
}

// TestWindow compares working sets with a count at every moment.
func TestWindow(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		w := Window{Tau: 1 + rng.Uint64N(50)}
		const end, pages = 400, 12
		begin := rng.Uint64N(20)
		used := [pages][]bool{} // at each moment, open or touched
		for p := range used {
			used[p] = make([]bool, end)
		}
		openSince := map[uint32]uint64{}
		steps := uint64(0)
		w.Step = func(from, to uint64, _ int) { steps += to - from }
		w.Begin(begin)
		for now := begin; now < end; now++ {
			if rng.IntN(3) > 0 {
				continue
			}
			w.Advance(now)
			p := rng.Uint32N(pages)
			switch since, open := openSince[p]; {
			case open:
				w.Leave(p)
				delete(openSince, p)
				for i := since; i <= now; i++ {
					used[p][i] = true
				}
			case rng.IntN(2) == 0:
				w.Use(p, true)
				openSince[p] = now
			default:
				w.Use(p, false)
				used[p][now] = true
			}
		}
		for p, since := range openSince {
			for i := since; i < end; i++ {
				used[p][i] = true
			}
		}
		w.Advance(end)
		sum, most := 0, 0
		for now := begin; now < end; now++ {
			n := 0
			for p := range used {
				for i := now; i+w.Tau > now && i <= now; i-- { // i counts down to 0 and wraps
					if used[p][i] {
						n++
						break
					}
				}
			}
			sum += n
			most = max(most, n)
		}
		if mean := float64(sum) / float64(end-begin); w.Max != most || w.Mean(begin) < mean-1e-9 || w.Mean(begin) > mean+1e-9 || steps != end-begin {
			t.Fatalf("seed %d: at most %d, mean %v, want %d and %v", seed, w.Max, w.Mean(begin), most, mean)
		}
	}
}

func TestSizes(t *testing.T) {
	if got := Sizes(64, 6400, 5); !slices.Equal(got, []uint64{64, 202, 640, 2024, 6400}) {
		t.Errorf("%v", got)
	}
	for _, got := range [][]uint64{Sizes(1, 3, 20), Sizes(0, 0, 4), Sizes(9, 2, 3)} {
		if !slices.IsSorted(got) || len(got) == 0 || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%v", got)
		}
	}
}

func benchString(kind string, pages int) []uint64 {
	rng := rand.New(rand.NewPCG(1, 2))
	s := make([]uint64, 4_000_000)
	zipf := rand.NewZipf(rng, 1.01, 8, uint64(pages-1))
	at := uint64(pages / 2)
	for i := range s {
		switch kind {
		case "zipf":
			s[i] = 0x7f00000 + zipf.Uint64()
		case "random":
			s[i] = 0x7f00000 + rng.Uint64N(uint64(pages))
		case "walk":
			at = (at + uint64(pages) + rng.Uint64N(129) - 64) % uint64(pages)
			s[i] = 0x7f00000 + at
		}
	}
	return s
}

// BenchmarkDepths is the cost of a recorded reference: depth, bounds and counting.
func BenchmarkDepths(b *testing.B) {
	for _, kind := range []string{"walk", "zipf", "random"} {
		for _, pages := range []int{4_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, pages), func(b *testing.B) {
				s := benchString(kind, pages)
				d := NewDepths()
				var c Curve
				i, open := 0, 0
				for b.Loop() {
					if open++; open > 4096 {
						d.Phase(1, nil, 0)
						open = 0
					}
					c.Add(d.Touch(1, s[i%len(s)]))
					i++
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mref/s")
			})
		}
	}
}

func BenchmarkOptimum(b *testing.B) {
	var s []uint32
	for _, p := range benchString("zipf", 100_000) {
		s = append(s, uint32(p-0x7f00000))
	}
	o := NewOptimum(s, 100_000)
	for b.Loop() {
		o.Misses(20_000)
	}
	b.ReportMetric(float64(b.N)*float64(len(s))/b.Elapsed().Seconds()/1e6, "Mref/s")
}
