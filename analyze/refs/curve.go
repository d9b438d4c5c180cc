package refs

import "math"

// Curve counts depths: how many references miss in an LRU memory of each size.
type Curve struct {
	Refs             uint64 // recorded references
	Cold             uint64 // of those, to pages that were not referenced before
	low, plain, high histogram
}

// histogram counts references by depth; after sum, those of that depth and more.
type histogram []uint64

func (h *histogram) add(depth uint32) {
	for int(depth) >= len(*h) {
		*h = append(*h, make([]uint64, int(depth)-len(*h)+1)...)
	}
	(*h)[depth]++
}

// Add counts a reference.
func (c *Curve) Add(d Depth) {
	c.Refs++
	if d.Cold {
		c.Cold++
		if d.High > 0 {
			c.high.add(d.High)
		}
		return
	}
	c.low.add(d.Low)
	c.plain.add(d.Plain)
	c.high.add(d.High)
}

// Misses are how many references other than cold ones an LRU memory of so many
// pages misses: at least low, at most high, and plain as the recorded references
// alone have it. It goes over all depths: for many sizes see Steps.
func (c *Curve) Misses(pages uint64) (low, plain, high uint64) {
	return c.low.above(pages), c.plain.above(pages), c.high.above(pages)
}

func (h histogram) above(pages uint64) (n uint64) {
	for i := pages; i < uint64(len(h)); i++ {
		n += h[i]
	}
	return n
}

// Misses of a size of memory.
type Misses struct {
	Pages            uint64
	Low, Plain, High uint64
}

// At are the misses at some sizes, which ascend.
func (c *Curve) At(sizes []uint64) []Misses {
	out := make([]Misses, len(sizes))
	var m Misses
	depth := uint64(max(len(c.low), len(c.plain), len(c.high)))
	for i := len(sizes) - 1; i >= 0; i-- {
		for ; depth > sizes[i]; depth-- {
			m.Low += c.low.of(depth - 1)
			m.Plain += c.plain.of(depth - 1)
			m.High += c.high.of(depth - 1)
		}
		m.Pages = sizes[i]
		out[i] = m
	}
	return out
}

func (h histogram) of(depth uint64) uint64 {
	if depth < uint64(len(h)) {
		return h[depth]
	}
	return 0
}

// Exact is the size from which on the bounds are equal, in pages.
func (c *Curve) Exact() uint64 {
	depth := uint64(max(len(c.low), len(c.high)))
	low, high := uint64(0), uint64(0)
	for ; depth > 0; depth-- {
		low += c.low.of(depth - 1)
		high += c.high.of(depth - 1)
		if low != high {
			return depth
		}
	}
	return 0
}

// Fits is the smallest size at which the upper bound is no miss but cold ones, in
// pages.
func (c *Curve) Fits() uint64 { return uint64(max(len(c.high), 1)) }

// Sizes are n sizes up to the largest that makes a difference, each about as many
// times the one before, from least on.
func Sizes(least, most uint64, n int) (sizes []uint64) {
	least = max(least, 1)
	most = max(most, least)
	step := math.Pow(float64(most)/float64(least), 1/float64(max(n-1, 1)))
	for i := range n {
		size := uint64(math.Round(float64(least) * math.Pow(step, float64(i))))
		if i == n-1 {
			size = most
		}
		if len(sizes) == 0 || size > sizes[len(sizes)-1] {
			sizes = append(sizes, size)
		}
	}
	return sizes
}
