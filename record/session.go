//go:build linux

// This file has a recording as a whole: its log and the signals that reach memtrace meanwhile.
// The commands that record, and tests, all use it.

package record

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"

	"memtrace/format"
	"memtrace/format/redact"
	"memtrace/record/ring"
	"memtrace/record/tracee"
)

// Session is a recording into a file. Open makes it, Record is called once.
type Session struct {
	file *logFile // nil with a ring
	ring *ring.Ring
	w    *format.Writer
	log  sessionLog // w, or what is before it
	rec  *Recorder
	stop context.CancelFunc
	ctx  context.Context
	pid  atomic.Int64 // of the program that was launched
	// policy is what a log that others may see is redacted by.
	policy *redact.Policy
	signals
}

// sessionLog is a Log that can be ended.
type sessionLog interface {
	Log
	Close(reason string) error
}

// memoryLimit is what a recorder should do with: half of it is the log's copies of pages,
// the rest what it keeps of the program, and what a collection has not found yet. A program
// of very many mappings can take it beyond.
const memoryLimit = 256 << 20

// How much garbage there may be, in percent of what is used, before it is collected. Each collection
// holds the program up for a moment. A ring records for months, and should take little memory.
const (
	fewCollections = 400
	littleMemory   = 100
)

// The copies of pages are used, and may be half of memoryLimit: in percent of them garbage would fill
// the rest. So it has a bound of its own, unless so much is used that collections would not end.
const (
	garbageMost  = 32 << 20
	garbageLeast = 25 // percent
)

// mostGarbage is fewCollections or littleMemory.
var mostGarbage atomic.Int64

// pace says how much garbage there may be, and does so again after each collection: those find out
// how much is used.
var pace = sync.OnceFunc(paceNext)

func paceNext() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	used := max(1, live[0].Value.Uint64())
	debug.SetGCPercent(int(max(garbageLeast, min(uint64(mostGarbage.Load()), garbageMost*100/used))))
	runtime.AddCleanup(&struct{ none *byte }{}, func(struct{}) { paceNext() }, struct{}{}) // at the next collection
}

// Open makes the log: a file, or with - standard output; %p is the pid of the program.
// An existing file is kept as NAME.old.
func Open(output string, h *format.Header) (*Session, error) {
	if err := prepare(fewCollections); err != nil {
		return nil, err
	}
	file, err := openLog(output)
	if err != nil {
		return nil, err
	}
	w, err := format.NewWriter(file, h, nil)
	if err != nil {
		file.remove()
		return nil, err
	}
	s := &Session{file: file, w: w, log: w}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// OpenRedacted is Open for a log that never has more than a policy leaves.
func OpenRedacted(output string, h *format.Header, p *redact.Policy, key []byte) (*Session, error) {
	h, err := p.Header(h, key)
	if err != nil {
		return nil, err
	}
	h.Inventory = redact.Room()
	s, err := Open(output, h)
	if err != nil {
		return nil, err
	}
	s.policy = p
	s.log = redact.NewFilter(s.w, p, key)
	return s, nil
}

// prepare has this process fit for recording.
func prepare(garbage int64) error {
	if err := tracee.RaiseLimits(); err != nil {
		return err
	}
	mostGarbage.Store(garbage)
	debug.SetGCPercent(int(garbage))
	pace()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	return nil
}

// Header is that of the log.
func (s *Session) Header() *format.Header { return s.w.Header() }

// State is the state after the last event. It may be used by Options.Observe.
func (s *Session) State() *format.State { return s.w.State() }

// Discard takes the log away because nothing was recorded.
func (s *Session) Discard() {
	_ = s.log.Close("failed")
	if s.file != nil {
		s.file.remove()
	}
}

// Stop ends the recording; the program goes on if it can. It may be called from any
// goroutine.
func (s *Session) Stop() { s.stop() }

// Kill ends the program. It may be called from any goroutine while Record runs. Its
// error is ErrNotRecording.
func (s *Session) Kill() error {
	if s.rec == nil {
		return ErrNotRecording
	}
	return s.rec.Kill()
}

// Launch must be the first thing that main does: in the processes that a recording
// starts of this program it does not return.
func Launch() { tracee.Main() }

// TakeTerminal makes this process the one that the terminal on standard input speaks
// to. The function that it returns gives the terminal back.
func TakeTerminal() (back func()) { return tracee.TakeTerminal() }
