package format

import (
	"encoding/binary"
	"math/bits"
)

// cursor reads a byte slice. The first read beyond the end, or of a malformed
// number, makes it bad: it is empty then and all reads give zero, so that loops
// end and one check at the end is enough.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() { c.b, c.bad = nil, true }

func (c *cursor) u8() uint8 {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) u() uint64 {
	// Most numbers take a byte or two.
	if b := c.b; len(b) > 1 {
		if b[0] < 0x80 {
			c.b = b[1:]
			return uint64(b[0])
		}
		if b[1] < 0x80 {
			c.b = b[2:]
			return uint64(b[0]&0x7f) | uint64(b[1])<<7
		}
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) zz() int64 {
	v := c.u()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *cursor) u32() uint32 {
	v := c.u()
	if v>>32 != 0 {
		c.fail()
		return 0
	}
	return uint32(v)
}

func (c *cursor) fixed64() uint64 {
	if len(c.b) < 8 {
		c.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

// take returns the next n bytes, which are not copied.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// more says whether there is another field: one that was added later may be
// missing.
func (c *cursor) more() bool { return len(c.b) > 0 }

// blob reads a length and as many bytes.
func (c *cursor) blob() []byte { return c.take(c.u()) }

func (c *cursor) str() string { return string(c.blob()) }

// count reads the number of items that follow, each of at least size bytes.
func (c *cursor) count(size int) int {
	n := c.u()
	if n > uint64(len(c.b)/size) {
		c.fail()
		return 0
	}
	return int(n)
}

func appendU(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, v)
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func appendZZ(b []byte, v int64) []byte { return appendU(b, zigzag(v)) }

func appendStr[T string | []byte](b []byte, s T) []byte {
	return append(appendU(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// sizeU is the length of v as appendU writes it.
func sizeU(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
