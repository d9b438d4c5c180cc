package format

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// job is what the output goroutine is asked to do: a chunk to write, or (typ 0)
// a signal to give when all before is written.
type job struct {
	chunk
	payload []byte // from output.buffer, given back
	ack     chan<- struct{}
	finish  *Info // write the end of the log
}

// output compresses and writes chunks in the order they are queued, on a
// goroutine of its own. After an error it discards what comes, so that nobody
// ever waits for it in vain.
type output struct {
	w    io.Writer
	salt [16]byte
	jobs chan job
	free chan []byte
	done chan struct{}

	written atomic.Int64
	failed  atomic.Pointer[error]

	// Of the goroutine.
	off, commit int64 // end of the file; end of the last group
	seq         uint32
	lastIndex   int64
	entries     []entry // since the last INDEX
	since       int64   // offset where they begin
	firstSeq    uint32
	blocks      []*block
	types       [numTypes]typeTotals
	fast, best  *zstd.Encoder
	buf         []byte
	resize      bool // w is a file that this log is alone in
}

// jobsAhead bounds what may wait to be written.
const jobsAhead = 16

func newOutput(w io.Writer, h *Header) (*output, error) {
	o, err := newEncoderOutput(w, h)
	if err != nil {
		return nil, err
	}
	// Only a file that begins with this log may be cut back.
	if s, ok := w.(io.Seeker); ok {
		pos, err := s.Seek(0, io.SeekCurrent)
		o.resize = err == nil && pos == 0
	}
	b, err := h.append(nil)
	if err != nil {
		return nil, err
	}
	o.salt = h.Salt
	if err := o.write(b); err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	o.commit, o.since = o.off, o.off
	go o.run()
	return o, nil
}

// newEncoderOutput is an output whose goroutine does not run.
func newEncoderOutput(w io.Writer, h *Header) (*output, error) {
	o := &output{w: w, salt: h.Salt, jobs: make(chan job, jobsAhead), free: make(chan []byte, jobsAhead+2), done: make(chan struct{})}
	var err error
	if o.fast, err = newEncoder(zstd.SpeedFastest); err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	if o.best, err = newEncoder(zstd.SpeedDefault); err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return o, nil
}

// buffer is an empty buffer for a payload.
func (o *output) buffer() []byte {
	select {
	case b := <-o.free:
		return b[:0]
	default:
		return make([]byte, 0, frameBytes)
	}
}

// put queues a chunk; payload must come from buffer. It waits only while the
// queue is full.
func (o *output) put(c chunk, payload []byte) { o.jobs <- job{chunk: c, payload: payload} }

func (o *output) error() error {
	if p := o.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// sync waits until all that was queued is written.
func (o *output) sync() error {
	ack := make(chan struct{})
	o.jobs <- job{ack: ack}
	<-ack
	return o.error()
}

// finish writes the end of the log and stops the goroutine.
func (o *output) finish(info *Info) error {
	o.jobs <- job{finish: info}
	close(o.jobs)
	<-o.done
	return o.error()
}

func (o *output) run() {
	defer close(o.done)
	for j := range o.jobs {
		switch {
		case o.failed.Load() != nil:
		case j.finish != nil:
			o.fail(o.end(j.finish))
		case j.typ != 0:
			o.fail(o.chunk(&j.chunk, j.payload))
		}
		if j.ack != nil {
			close(j.ack)
		}
		if cap(j.payload) > 0 && cap(j.payload) <= 4*frameBytes {
			select {
			case o.free <- j.payload:
			default:
			}
		}
	}
}

// fail notes the first error, and takes back what would end the file in the
// middle of a group.
func (o *output) fail(err error) {
	if err == nil {
		return
	}
	err = fmt.Errorf("write the log: %w", err)
	if t, ok := o.w.(interface{ Truncate(int64) error }); ok && o.resize {
		if terr := t.Truncate(o.commit); terr != nil {
			err = errors.Join(err, fmt.Errorf("cut the log back: %w", terr))
		} else {
			o.off = o.commit
			o.written.Store(o.off)
		}
	}
	o.failed.Store(&err)
}

func (o *output) write(b []byte) error {
	n, err := o.w.Write(b)
	o.off += int64(n)
	o.written.Store(o.off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// chunk compresses and writes one chunk, and an INDEX chunk after it when one
// is due.
func (o *output) chunk(c *chunk, payload []byte) error {
	if err := o.one(c, payload); err != nil {
		return err
	}
	o.entries = append(o.entries, c.entry())
	if c.commit() {
		o.commit = o.off
	}
	n := len(o.entries)
	if c.commit() && (n >= indexChunks || o.off-o.since >= indexBytes) || n >= 4*indexChunks {
		return o.index(c.commit())
	}
	return nil
}

func (o *output) one(c *chunk, payload []byte) error {
	enc := o.best
	if c.typ == TypeRaw || c.typ == TypePatch {
		enc = o.fast
	}
	head := chunkHeader + len(c.ext)
	if cap(o.buf) < head {
		o.buf = make([]byte, head, 2*frameBytes)
	}
	b := o.buf[:head]
	c.ulen = uint32(len(payload))
	c.flags &^= flagCodec
	b = enc.EncodeAll(payload, b)
	if len(b)-head < len(payload) {
		c.flags |= codecZstd
	} else {
		b = append(b[:head], payload...)
	}
	c.clen = uint32(len(b) - head)
	c.pcrc = crc32.Checksum(b[head:], castagnoli)
	c.off, c.seq, c.lastIndex = o.off, o.seq, o.lastIndex
	c.append(b[:0], &o.salt)
	o.buf = b
	if cap(b) > 4*frameBytes {
		o.buf = nil
	}
	o.seq++
	t := &o.types[c.typ]
	t.chunks++
	t.stored += uint64(c.size())
	t.decoded += uint64(c.ulen)
	return o.write(b)
}

// index writes an INDEX chunk of what came since the last one.
func (o *output) index(commit bool) error {
	b := &block{n: len(o.entries), entries: o.entries, seq: o.firstSeq, end: o.off, off: o.off}
	b.bases()
	b.entries = nil
	payload := appendIndex(nil, o.entries, o.lastIndex, o.firstSeq)
	c := chunk{typ: TypeIndex, base: uint64(len(o.blocks)), count: 1}
	if commit {
		c.flags = flagCommit
	}
	if err := o.one(&c, payload); err != nil {
		return err
	}
	o.blocks = append(o.blocks, b)
	o.lastIndex, o.since, o.firstSeq, o.entries = c.off, o.off, o.seq, o.entries[:0]
	if commit {
		o.commit = o.off
	}
	return nil
}

// end writes INDEX, ROOT and the tail.
func (o *output) end(info *Info) error {
	if len(o.entries) > 0 {
		if err := o.index(true); err != nil {
			return err
		}
	}
	info.types = o.types
	c := chunk{typ: TypeRoot, flags: flagCommit, base: uint64(info.Steps), count: 1}
	if err := o.one(&c, appendRoot(nil, o.blocks, info)); err != nil {
		return err
	}
	if err := o.write(appendTail(nil, &o.salt, c.off, c.size())); err != nil {
		return err
	}
	o.commit = o.off
	return nil
}
