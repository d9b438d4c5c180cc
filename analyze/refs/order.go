package refs

import "math/bits"

// order is a set of positions that tells how many lie below one: a bitmap, and the
// counts of its blocks as a Fenwick tree.
type order struct {
	bits  []uint64
	tree  []uint32 // tree[i] covers blocks i+1-lowbit(i+1) to i
	total uint32
}

const (
	blockShift = 9 // 512 positions: one cache line of bits
	blockWords = 1 << (blockShift - 6)
)

// newOrder is an empty set with room for n positions.
func newOrder(n uint32) *order {
	blocks := n>>blockShift + 1
	return &order{bits: make([]uint64, blocks*blockWords), tree: make([]uint32, blocks)}
}

func (o *order) set(i uint32) {
	o.bits[i>>6] |= 1 << (i & 63)
	o.add(i>>blockShift, 1)
}

func (o *order) clear(i uint32) {
	o.bits[i>>6] &^= 1 << (i & 63)
	o.add(i>>blockShift, ^uint32(0))
}

func (o *order) add(block, n uint32) {
	o.total += n
	for i := block; i < uint32(len(o.tree)); i |= i + 1 {
		o.tree[i] += n
	}
}

// from is how many positions are i or above.
func (o *order) from(i uint32) uint32 {
	below := uint32(0)
	block := i >> blockShift
	for k := block; k > 0; k &= k - 1 {
		below += o.tree[k-1]
	}
	word := i >> 6
	for _, w := range o.bits[block*blockWords : word] {
		below += uint32(bits.OnesCount64(w))
	}
	below += uint32(bits.OnesCount64(o.bits[word] & (1<<(i&63) - 1)))
	return o.total - below
}

// fill counts the blocks of a bitmap that was written as a whole.
func (o *order) fill() {
	clear(o.tree)
	o.total = 0
	for i := range o.tree {
		n := 0
		for _, w := range o.bits[i*blockWords : (i+1)*blockWords] {
			n += bits.OnesCount64(w)
		}
		o.add(uint32(i), uint32(n))
	}
}
