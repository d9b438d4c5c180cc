package format

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// job is what the output goroutine is asked to do: a chunk to write, a signal
// to give when all before is written, or the end of the log.
type job struct {
	chunk
	payload []byte        // from output.buffer, given back
	packed  []byte        // room for the header, then the payload as it is stored
	ready   chan struct{} // closed when packed is there; nil for no chunk
	ack     chan<- struct{}
	finish  *Info
}

// output writes chunks in the order they are queued, on a goroutine of its own,
// while others compress. After an error it discards what comes, so that nobody
// ever waits for it in vain.
type output struct {
	w    io.Writer
	salt [16]byte
	jobs chan *job // in order
	work chan *job // the same, to be compressed
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
	fast, best  *encoders
	resize      bool // w is a file that this log is alone in
}

// encoders lends compressors of one level, the one that was used last first: one's
// tables take megabytes and milliseconds to make, which a short log should not pay
// for more than once.
type encoders struct {
	level zstd.EncoderLevel
	worth int // for how many chunks that wait to be compressed one more is made
	mu    sync.Mutex
	idle  []*zstd.Encoder // nil is one that is still to be made
	given sync.Cond
}

func newEncoders(level zstd.EncoderLevel, worth int) *encoders {
	s := &encoders{level: level, worth: worth, idle: []*zstd.Encoder{nil}}
	s.given.L = &s.mu
	return s
}

// take is given how many chunks wait to be compressed; when they are few it waits
// for one of the encoders that there are.
func (s *encoders) take(waiting int) (*zstd.Encoder, error) {
	s.mu.Lock()
	for len(s.idle) == 0 && waiting < s.worth {
		s.given.Wait()
	}
	var enc *zstd.Encoder
	if n := len(s.idle) - 1; n >= 0 {
		enc, s.idle = s.idle[n], s.idle[:n]
	}
	s.mu.Unlock()
	if enc != nil {
		return enc, nil
	}
	enc, err := newEncoder(s.level)
	if err != nil {
		s.give(nil)
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return enc, nil
}

func (s *encoders) give(enc *zstd.Encoder) {
	s.mu.Lock()
	s.idle = append(s.idle, enc)
	s.mu.Unlock()
	s.given.Signal()
}

// warm makes the first encoder ready before there is anything to compress: noise
// makes it look at all of its tables, and the kernel give them memory.
func (s *encoders) warm(noise []byte) {
	if enc, err := s.take(0); err == nil { // else the first chunk will say so
		enc.EncodeAll(noise, nil)
		s.give(enc)
	}
}

// warm makes the first encoders ready.
func (o *output) warm() {
	noise := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	o.best.warm(noise)
	o.fast.warm(noise)
}

// pack compresses a payload behind room for a chunk's header, and sets what the
// header says of it; waiting is how many other chunks wait for the same.
func (o *output) pack(c *chunk, payload, b []byte, waiting int) ([]byte, error) {
	level := o.best
	if c.typ == TypeRaw || c.typ == TypePatch {
		level = o.fast
	}
	enc, err := level.take(waiting)
	if err != nil {
		return nil, err
	}
	head := chunkHeader + len(c.ext)
	b = slices.Grow(b[:0], head+len(payload)/2)[:head]
	b = enc.EncodeAll(payload, b)
	level.give(enc)
	if len(b)-head < len(payload) {
		c.flags |= codecZstd
	} else {
		b = append(b[:head], payload...)
	}
	c.ulen, c.clen = uint32(len(payload)), uint32(len(b)-head)
	c.pcrc = crc32.Checksum(b[head:], castagnoli)
	return b, nil
}

// jobsAhead bounds what may wait to be written: 64 frames are 16 MiB, which a
// snapshot hands over faster than they can be compressed.
const jobsAhead = 64

// newOutput begins a log. It shares the compressors of another log's output, if there is one.
func newOutput(w io.Writer, h *Header, other *output) (*output, error) {
	o := newIdleOutput(w, h)
	if other != nil {
		o.fast, o.best = other.fast, other.best
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
	if other == nil {
		go o.warm()
	}
	for range max(1, min(3, runtime.GOMAXPROCS(0)-1)) {
		go o.compress()
	}
	go o.run()
	return o, nil
}

// newIdleOutput is an output whose goroutines do not run.
func newIdleOutput(w io.Writer, h *Header) *output {
	return &output{
		w: w, salt: h.Salt, done: make(chan struct{}),
		jobs: make(chan *job, jobsAhead), work: make(chan *job, jobsAhead+2), free: make(chan []byte, 2*jobsAhead),
		fast: newEncoders(zstd.SpeedFastest, 1), best: newEncoders(zstd.SpeedDefault, 8),
	}
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

// recycle gives a buffer back.
func (o *output) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > 4*frameBytes {
		return
	}
	select {
	case o.free <- b:
	default:
	}
}

// put queues a chunk; payload must come from buffer. While the queue is full it
// helps to compress.
func (o *output) put(c chunk, payload []byte) {
	j := &job{chunk: c, payload: payload, ready: make(chan struct{})}
	for queued := false; !queued; {
		select {
		case o.jobs <- j:
			queued = true
		default:
			select {
			case o.jobs <- j:
				queued = true
			case w := <-o.work:
				o.compressOne(w)
			}
		}
	}
	o.work <- j // has room for all that jobs lets in
}

// compress runs on goroutines of its own, and on that of who waits for them.
func (o *output) compress() {
	for j := range o.work {
		o.compressOne(j)
	}
}

func (o *output) compressOne(j *job) {
	if o.failed.Load() == nil {
		b, err := o.pack(&j.chunk, j.payload, o.buffer(), len(o.work))
		if err != nil {
			o.failed.CompareAndSwap(nil, &err)
		}
		j.packed = b
	}
	o.recycle(j.payload)
	close(j.ready)
}

func (o *output) error() error {
	if p := o.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// sync waits until all that was queued is written.
func (o *output) sync() error {
	ack := make(chan struct{})
	o.jobs <- &job{ack: ack}
	for {
		select {
		case j := <-o.work:
			o.compressOne(j)
		case <-ack:
			return o.error()
		}
	}
}

// finish writes the end of the log and stops the goroutine.
func (o *output) finish(info *Info) error {
	o.jobs <- &job{finish: info}
	close(o.jobs)
	close(o.work)
	o.compress()
	<-o.done
	return o.error()
}

func (o *output) run() {
	defer close(o.done)
	for j := range o.jobs {
		if j.ready != nil {
			<-j.ready
		}
		switch {
		case o.failed.Load() != nil:
		case j.finish != nil:
			o.fail(o.end(j.finish))
		case j.ready != nil:
			o.fail(o.chunk(&j.chunk, j.packed))
		}
		o.recycle(j.packed)
		if j.ack != nil {
			close(j.ack)
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

// chunk writes one chunk, and an INDEX chunk after it when one is due.
func (o *output) chunk(c *chunk, packed []byte) error {
	if err := o.one(c, packed); err != nil {
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

// one puts the header before a packed payload and writes both.
func (o *output) one(c *chunk, packed []byte) error {
	c.off, c.seq, c.lastIndex = o.off, o.seq, o.lastIndex
	c.append(packed[:0], &o.salt)
	o.seq++
	t := &o.types[c.typ]
	t.chunks++
	t.stored += uint64(c.size())
	t.decoded += uint64(c.ulen)
	return o.write(packed)
}

// own packs and writes a chunk that the output makes itself.
func (o *output) own(c *chunk, payload []byte) error {
	b, err := o.pack(c, payload, nil, 0)
	if err != nil {
		return err
	}
	return o.one(c, b)
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
	if err := o.own(&c, payload); err != nil {
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
	if err := o.own(&c, appendRoot(nil, o.blocks, info)); err != nil {
		return err
	}
	if err := o.write(appendTail(nil, &o.salt, c.off, c.size())); err != nil {
		return err
	}
	o.commit = o.off
	return nil
}
