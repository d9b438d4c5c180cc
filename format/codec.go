package format

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// newEncoder makes a compressor for whole payloads. The checksum of the chunk
// covers what zstd's own would.
func newEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
}

// Compressed is how many bytes a log would take for b.
func Compressed(b []byte) (n int) {
	enc, err := newEncoder(zstd.SpeedFastest)
	if err != nil {
		panic("format: zstd options: " + err.Error())
	}
	defer enc.Close()
	for len(b) > 0 {
		k := min(len(b), frameBytes)
		n += len(enc.EncodeAll(b[:k], nil))
		b = b[k:]
	}
	return n
}

// decoders has decoders for whole payloads: they keep no state from one to the
// next. One allocates no more than the chunk header declares.
var decoders = sync.Pool{New: func() any {
	// Its buffers are made once, not again for each larger payload.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(false), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(MaxPayload+1<<20), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic("format: zstd options: " + err.Error())
	}
	return d
}}

// decode decompresses a stored payload into a new slice of exactly c.ulen
// bytes; the result may be stored itself.
func (c *chunk) decode(stored []byte) ([]byte, error) {
	if c.flags&flagCodec == codecStored {
		return stored, nil
	}
	// One frame that says itself how large it is (the shortest need not): nothing
	// is allocated for what claims to be more.
	var h zstd.Header
	if err := h.Decode(stored); err != nil {
		return nil, corrupt("compressed payload: %v", err)
	}
	if h.Skippable || h.DictionaryID != 0 || h.HasFCS && h.FrameContentSize != uint64(c.ulen) || !h.HasFCS && c.ulen >= 256 {
		return nil, corrupt("compressed payload is no plain frame of %d bytes", c.ulen)
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	out, err := d.DecodeAll(stored, make([]byte, 0, c.ulen))
	if err != nil {
		return nil, corrupt("compressed payload: %v", err)
	}
	if len(out) != int(c.ulen) {
		return nil, corrupt("payload of %d bytes claims %d", len(out), c.ulen)
	}
	return out, nil
}
