// This file divides addresses into blocks.

package refs

import "memtrace/format/addr"

// blocks are ranges of granule bytes each, a power of 2, one beside the other.
type blocks struct{ granule uint64 }

// Align widens a range to whole blocks.
func (g blocks) Align(r addr.Range) addr.Range {
	n := addr.Addr(g.granule)
	r.Start -= r.Start % n
	if end := r.End + (n-r.End%n)%n; end >= r.End {
		r.End = end
	}
	return r
}

// Block is the block that holds a, as large as it is without regard to mappings.
func (g blocks) Block(a addr.Addr) addr.Range {
	start := a - a%addr.Addr(g.granule)
	return addr.Range{Start: start, End: start + addr.Addr(g.granule)}
}

// Blocks yields the blocks that share an address with r.
func (g blocks) Blocks(r addr.Range) func(yield func(addr.Range) bool) {
	return func(yield func(addr.Range) bool) {
		for a := r.Start; a < r.End; {
			b := g.Block(a)
			if !yield(b) || b.End <= a {
				return
			}
			a = b.End
		}
	}
}
