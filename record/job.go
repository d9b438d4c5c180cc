//go:build linux

// This file carries out what a session is for, and says how it has ended.

package record

import (
	"os"

	"memtrace/format"
	"memtrace/format/redact"
	"memtrace/record/ring"
	"memtrace/record/tracee"
)

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
