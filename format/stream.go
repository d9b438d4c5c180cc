package format

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// StreamReader reads a log from its beginning to its end, as it comes out of a
// pipe. Page contents are passed over.
type StreamReader struct {
	r    *bufio.Reader
	off  int64
	h    *Header
	info Info
	done bool
}

// NewStreamReader begins to read a log.
func NewStreamReader(r io.Reader) (*StreamReader, error) {
	s := &StreamReader{r: bufio.NewReaderSize(r, 64<<10)}
	var err error
	if s.h, s.off, err = readHeader(s.r); err != nil {
		return nil, err
	}
	return s, nil
}

// Header is what was known when the recording began.
func (s *StreamReader) Header() *Header { return s.h }

// Info is what is known so far; all of it, and Truncated, when Events has come
// to its end.
func (s *StreamReader) Info() *Info { i := s.info; return &i }

// next reads a chunk; its payload only where it is of use. io.EOF is the end of
// the log, ErrTruncated a log that stops without one.
func (s *StreamReader) next() (c chunk, stored []byte, err error) {
	b := make([]byte, chunkHeader, chunkHeader+16)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return c, nil, cut(err)
	}
	if string(b[16:24]) == string(tailMagic[:]) {
		return c, nil, fmt.Errorf("%w: its end where a chunk was to be", ErrCorrupt)
	}
	c, extLen, err := parseFixed(b, s.off)
	if err != nil {
		return c, nil, err
	}
	b = append(b, make([]byte, extLen)...)
	if _, err := io.ReadFull(s.r, b[chunkHeader:]); err != nil {
		return c, nil, cut(err)
	}
	if err := c.check(b, &s.h.Salt); err != nil {
		return c, nil, err
	}
	switch c.typ {
	case TypeState, TypeEvent, TypeBlob, TypeRoot:
		// Allocated as it is read: the header's word is not enough.
		stored, err = readN(s.r, int(c.clen))
		if err == nil && crc32.Checksum(stored, castagnoli) != c.pcrc {
			err = corrupt("checksum of a %v chunk", c.typ)
		}
	default:
		_, err = s.r.Discard(int(c.clen))
	}
	s.off = c.end()
	return c, stored, cut(err)
}

// cut turns the end of the input into ErrTruncated.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it has no end", ErrTruncated)
	}
	return err
}

// readN reads n bytes, allocating no more than twice what comes.
func readN(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, 0, min(n, 512<<10))
	for len(b) < n {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		k, err := io.ReadFull(r, b[len(b):min(n, cap(b))])
		b = b[:len(b)+k]
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// Events yields all events, each with its changes, once. An Event is valid until
// the next one. A log that stops without an end is no error, but sets
// Info().Truncated; what is damaged before is one.
func (s *StreamReader) Events() iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for !s.done {
			g, off, err := s.group()
			switch {
			case err == io.EOF:
				s.done = true
				return
			case errors.Is(err, ErrTruncated):
				s.done, s.info.Truncated = true, true
				return
			case err != nil:
				s.done = true
				yield(nil, at(off, err))
				return
			case !g.events(off, 0, yield):
				s.done = true
				return
			}
			s.info.Steps = g.ev.base + Step(g.ev.rows)
			s.info.Time = g.ev.time << s.h.TimeShift
		}
	}
}

// group reads up to the next EVENT chunk.
func (s *StreamReader) group() (g *group, off int64, err error) {
	g = new(group)
	var blob []byte
	var blob0 uint64
	for {
		off = s.off
		c, stored, err := s.next()
		if err != nil {
			return nil, off, err
		}
		t := &s.info.types[c.typ%numTypes]
		t.chunks++
		t.stored += uint64(c.size())
		t.decoded += uint64(c.ulen)
		s.info.Size = s.off
		var payload []byte
		if stored != nil {
			if payload, err = c.decode(stored); err != nil {
				return nil, off, err
			}
		}
		switch c.typ {
		case TypeRaw:
			s.info.RawPages = c.base + uint64(c.count)
		case TypePatch:
			s.info.Patches = c.base + uint64(c.count)
		case TypeKey:
			s.info.Keyframes++
		case TypeBlob:
			if len(blob)+len(payload) > MaxGroupBlob {
				return nil, off, overLimit("the blobs of a group", uint64(len(blob)+len(payload)), MaxGroupBlob)
			}
			if blob == nil {
				blob0 = c.base
			}
			blob = append(blob, payload...)
		case TypeState:
			if len(g.states) >= maxGroupStates {
				return nil, off, overLimit("the STATE chunks of a group", uint64(len(g.states))+1, maxGroupStates)
			}
			g.states = append(g.states, statePart{c, payload, s.info.RawPages, s.info.Patches})
		case TypeEvent:
			if Step(c.base) != s.info.Steps {
				return nil, off, corrupt("events %d to %d are missing", s.info.Steps, c.base)
			}
			if g.ev, err = newEventDec(c.entry(), payload, blob, s.h.TimeShift); err == nil {
				g.ev.calls, g.ev.blob0 = s.h.Calls, blob0
			}
			return g, off, err
		case TypeRoot:
			return nil, off, s.root(&c, payload)
		}
	}
}

// maxGroupStates bounds the memory of one group in a stream.
const maxGroupStates = 1024

// root takes the totals; it returns io.EOF.
func (s *StreamReader) root(c *chunk, payload []byte) error {
	_, info, err := parseRoot(payload, c.off)
	if err != nil {
		return err
	}
	info.Size = s.off + tailSize
	tail, err := readN(s.r, tailSize)
	if err != nil {
		return cut(err)
	}
	if _, ok := parseTail(tail, &s.h.Salt, info.Size); !ok {
		return corrupt("end of the log")
	}
	s.info = *info
	return io.EOF
}
