package format

import (
	"encoding/binary"
	"hash/crc32"

	"memtrace/format/addr"
)

const (
	chunkMagic  = 0x8a43544d // "MTC" 8A
	chunkHeader = 48

	flagCodec    = 7 // bits 0-2
	flagCritical = 8
	flagCommit   = 16

	codecStored = 0
	codecZstd   = 1

	// Tags of a chunk header's extension.
	extTime = 1 // EVENT: time of the first row, in clock units
)

// chunk is a decoded chunk header and where it was.
type chunk struct {
	off       int64
	typ       Type
	flags     uint8
	ext       []byte
	clen      uint32
	ulen      uint32
	base      uint64
	count     uint32
	pcrc      uint32
	lastIndex int64
	seq       uint32
}

// size is the whole chunk's length in the file.
func (c *chunk) size() int64 { return chunkHeader + int64(len(c.ext)) + int64(c.clen) }

func (c *chunk) end() int64 { return c.off + c.size() }

func (c *chunk) commit() bool { return c.flags&flagCommit != 0 }

// hcrc binds a header to its log and its place: bytes of another log, or of
// this log's earlier part, that sit in captured memory never pass for a chunk.
func hcrc(salt *[16]byte, off int64, fixed, ext []byte) uint32 {
	var b [24]byte
	copy(b[:], salt[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(off))
	crc := crc32.Checksum(b[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, fixed)
	return crc32.Update(crc, castagnoli, ext)
}

func (c *chunk) append(b []byte, salt *[16]byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint32(b, chunkMagic)
	b = append(b, byte(c.typ), c.flags)
	b = le.AppendUint16(b, uint16(len(c.ext)))
	b = le.AppendUint32(b, c.clen)
	b = le.AppendUint32(b, c.ulen)
	b = le.AppendUint64(b, c.base)
	b = le.AppendUint32(b, c.count)
	b = le.AppendUint32(b, c.pcrc)
	b = le.AppendUint64(b, uint64(c.lastIndex))
	b = le.AppendUint32(b, c.seq)
	b = le.AppendUint32(b, hcrc(salt, c.off, b[start:], c.ext))
	return append(b, c.ext...)
}

// parseFixed reads the fixed part of a chunk header at off, without its
// checksum: enough to know how long the extension is.
func parseFixed(b []byte, off int64) (c chunk, extLen int, err error) {
	le := binary.LittleEndian
	if le.Uint32(b) != chunkMagic {
		return c, 0, corrupt("no chunk here")
	}
	c = chunk{
		off: off, typ: Type(b[4]), flags: b[5],
		clen: le.Uint32(b[8:]), ulen: le.Uint32(b[12:]), base: le.Uint64(b[16:]), count: le.Uint32(b[24:]),
		pcrc: le.Uint32(b[28:]), lastIndex: int64(le.Uint64(b[32:])), seq: le.Uint32(b[40:]),
	}
	extLen = int(le.Uint16(b[6:]))
	if extLen > MaxExt {
		return c, 0, overLimit("a chunk header's extension", uint64(extLen), MaxExt)
	}
	return c, extLen, nil
}

// check finishes what parseFixed began: b is the fixed part and the extension.
func (c *chunk) check(b []byte, salt *[16]byte) error {
	c.ext = b[chunkHeader:]
	if hcrc(salt, c.off, b[:44], c.ext) != binary.LittleEndian.Uint32(b[44:]) {
		return corrupt("checksum of a chunk header")
	}
	switch {
	case c.typ == 0:
		return corrupt("chunk of type 0")
	case c.clen > MaxStored:
		return overLimit("a stored payload", uint64(c.clen), MaxStored)
	case c.ulen > MaxPayload:
		return overLimit("a payload", uint64(c.ulen), MaxPayload)
	case c.flags&flagCodec == codecStored && c.clen != c.ulen:
		return corrupt("stored payload of %d bytes claims %d", c.clen, c.ulen)
	case c.flags&flagCodec > codecZstd:
		return corrupt("unknown codec %d", c.flags&flagCodec)
	case c.typ >= numTypes && c.flags&flagCritical != 0:
		return corrupt("unknown critical chunk type %d", c.typ)
	case c.base+uint64(c.count) < c.base:
		return corrupt("chunk ids overflow")
	}
	// What the decoded size must be for these, before anything is allocated.
	switch c.typ {
	case TypeRaw:
		if c.count > MaxFramePages {
			return overLimit("the pages of a RAW chunk", uint64(c.count), MaxFramePages)
		}
		if uint64(c.ulen) != uint64(c.count)*addr.PageSize {
			return corrupt("RAW chunk of %d bytes for %d pages", c.ulen, c.count)
		}
	case TypePatch:
		if c.ulen > MaxChain {
			return overLimit("a PATCH chunk", uint64(c.ulen), MaxChain)
		}
	case TypeBlob, TypeFData:
		if c.ulen != c.count {
			return corrupt("%v chunk of %d bytes claims %d", c.typ, c.ulen, c.count)
		}
	case TypeFile:
		if c.ulen > MaxFileList {
			return overLimit("a FILE chunk", uint64(c.ulen), MaxFileList)
		}
	case TypeModule, TypeStack:
		if c.count == 0 || c.count > MaxNodeRows {
			return overLimit("the nodes of a chunk", uint64(c.count), MaxNodeRows)
		}
	case TypeRefs:
		if c.count > MaxRefs {
			return overLimit("the references of a REFS chunk", uint64(c.count), MaxRefs)
		}
		if c.ulen < c.count {
			return corrupt("REFS chunk of %d bytes for %d references", c.ulen, c.count)
		}
	case TypeEvent:
		if c.count == 0 || c.count > MaxRows {
			return overLimit("the number of events of a chunk", uint64(c.count), MaxRows)
		}
	}
	return nil
}

// time is the extTime of an EVENT chunk.
func (c *chunk) time() uint64 {
	x := cursor{b: c.ext}
	for len(x.b) > 0 {
		tag, v := x.u(), cursor{b: x.blob()}
		if tag == extTime {
			return v.u()
		}
	}
	return 0
}
