//go:build linux

// This file has a recording as a whole: its log file, the signals that reach memtrace
// meanwhile, and how it ends. The commands that record, and tests, all use it.

package record

import (
	"context"
	"os"
	"runtime/debug"
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

// Job is what a Session records.
type Job struct {
	Program *Program // to run; nil attaches
	Attach  []int    // pids of running processes
	Options Options
	// Interrupt, if not nil, is asked at a SIGINT. With true that was somebody else's,
	// and the recording goes on.
	Interrupt func(*Recorder) bool
}

// Outcome is a session that has ended.
type Outcome struct {
	Result
	Log    string      // the name of the file
	Kept   []ring.Dump // of a ring: the logs that were kept
	Bytes  int64
	Events uint64 // all that the log has
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
func prepare(garbage int) error {
	if err := tracee.RaiseLimits(); err != nil {
		return err
	}
	debug.SetGCPercent(garbage)
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

// halt ends the recording, unless the program depends on it.
func (s *Session) halt() {
	if s.pid.Load() != 0 && s.rec.opts.filtered() {
		if warn := s.rec.opts.Warn; warn != nil {
			warn("the recording goes on: with -e the program cannot go on without memtrace")
		}
		return
	}
	s.stop()
}

// Kill ends the program. It may be called from any goroutine while Record runs. Its
// error is ErrNotRecording.
func (s *Session) Kill() error {
	if s.rec == nil {
		return ErrNotRecording
	}
	return s.rec.Kill()
}

// Prepare makes the recorder for a job.
func (s *Session) Prepare(j *Job) {
	o := j.Options
	started, stopped := o.Started, o.Stopped
	o.Started = func(pid int) {
		s.pid.Store(int64(pid))
		if s.ring != nil {
			s.ring.Program(pid)
		}
		if started != nil {
			started(pid)
		}
	}
	o.Stopped = func(sig int) {
		s.job.program(sig)
		if stopped != nil {
			stopped(sig)
		}
	}
	o.Delivered = s.delivered
	s.rec = New(s.log, o)
	if s.ring != nil {
		s.ring.Ask = func() {
			go func() { _ = s.rec.Ask(func() { _ = s.ring.Saved(func() { keepAll(s.rec) }) }) }()
		}
	}
}

// Record carries out a job for which Prepare was called, to its end. If that cannot
// begin, there is no log.
func (s *Session) Record(j *Job) (*Outcome, error) {
	defer s.stop()
	defer s.signals.serve(recipient{
		pid: func() int { return int(s.pid.Load()) }, attached: j.Program == nil, stop: s.stop, halt: s.halt,
		interrupt: func() bool { return j.Interrupt != nil && j.Interrupt(s.rec) },
		keep:      s.keptByUser,
	})()
	defer s.listen()()
	var res *Result
	var err error
	if j.Program == nil {
		res, err = s.rec.Attach(s.ctx, j.Attach...)
	} else {
		res, err = s.rec.Run(s.ctx, j.Program)
	}
	if err != nil {
		s.Discard()
		return nil, err
	}
	out := &Outcome{Result: *res}
	if err := s.log.Close(res.Reason); out.Err == nil {
		out.Err = err
	}
	if pid := int(s.pid.Load()); !out.Ended && pid != 0 && out.Reason != Interrupted && out.Reason != Detached {
		// The program is our child still: the shell waits for us, and we for it.
		out.Status, out.Ended = tracee.WaitFor(pid)
	}
	out.Bytes, out.Events = s.w.Bytes(), uint64(s.w.State().Step)+1
	if s.ring != nil {
		out.Kept = s.ring.Kept()
		return out, nil
	}
	if out.Err == nil && s.policy != nil {
		out.Err = s.prove()
	}
	out.Log = s.file.finish(int(s.pid.Load()))
	if out.Err != nil {
		out.Events = readable(out.Log)
	}
	return out, nil
}

// proveMost is the largest log that is read back at the end of its recording: nobody waits for minutes
// for a program that has ended.
const proveMost = 256 << 20

// prove counts what a redacted log has, for its header. What cannot be read again has nothing there,
// as has the log of a recorder that was killed: verify --redacted counts.
func (s *Session) prove() error {
	if s.file.name == "-" {
		return nil
	}
	st, err := s.file.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() != s.w.Bytes() || st.Size() > proveMost {
		return nil
	}
	_, err = redact.Prove(s.file, st.Size(), nil, s.policy)
	return err
}

// EndAs ends this process by the signal that has ended the program, and returns its
// exit status otherwise; ok is false where the program has not ended.
func (o *Outcome) EndAs() (status int, ok bool) {
	switch {
	case o.Ended && o.Status.Signaled():
		tracee.DieBy(int(o.Status.Signal()))
		return 128 + int(o.Status.Signal()), true
	case o.Ended:
		return o.Status.ExitStatus(), true
	}
	return 0, false
}

// Launch must be the first thing that main does: in the processes that a recording
// starts of this program it does not return.
func Launch() { tracee.Main() }

// TakeTerminal makes this process the one that the terminal on standard input speaks
// to. The function that it returns gives the terminal back.
func TakeTerminal() (back func()) { return tracee.TakeTerminal() }

// readable is how many events can be read of a log that could not be written to its
// end.
func readable(name string) uint64 {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		return 0
	}
	return uint64(r.Steps() - r.First())
}
