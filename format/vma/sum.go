package vma

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const poly = 0x82f63b78 // of castagnoli

// Sum is the CRC-32C of what AppendMaps gives. Blocks that have not changed since
// the last time are not printed again: printed is how many bytes were.
func (s *Set) Sum() (sum uint32, printed int) {
	var text []byte
	for _, b := range s.dir {
		x := b.sum.Load()
		if x == 0 {
			text = text[:0]
			for i := range b.v {
				text = b.v[i].AppendMaps(text)
			}
			printed += len(text)
			x = uint64(crc32.Checksum(text, castagnoli))<<32 | uint64(power(len(text)))
			b.sum.Store(x)
		}
		sum = multiply(uint32(x), sum) ^ uint32(x>>32)
	}
	return sum, printed
}

// multiply is the product of two polynomials modulo poly, in the order of bits that
// the checksum has: 1<<31 is 1.
func multiply(a, b uint32) (p uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			p ^= b
		}
		b = b>>1 ^ poly&-(b&1)
	}
	return p
}

// power is x to the power of 8n: what the checksum of a text is multiplied with
// when n bytes follow.
func power(n int) uint32 {
	p, x := uint32(1)<<31, uint32(1)<<23 // 1 and x to the power of 8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			p = multiply(p, x)
		}
		x = multiply(x, x)
	}
	return p
}
