//go:build linux

package record

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// When says at what kind of stop a thread is paused.
type When uint8

// The kinds of stop.
const (
	Before When = iota // a system call's entry: Call is about to be made
	After              // Event has happened
	Asked              // Recorder.Interrupt was called
)

// Pause is a thread at a stop while Options.Pause looks at it: it does not go on
// before that returns. Other threads run, until they come to a stop of their own.
// A Pause may be used by that call only, on its goroutine.
type Pause struct {
	When  When
	TID   int
	Call  *format.Syscall // Before: with the memory read at its entry
	Event *format.Event   // After
	// Keep, set by the callee, keeps a signal from being delivered.
	Keep bool

	r *Recorder
	t *thread
}

// ErrNoThread is the error of a thread or process that is not traced.
var ErrNoThread = errors.New("no such thread")

// pauseBefore stops before a call that is to be recorded.
func (r *Recorder) pauseBefore(t *thread) {
	if r.opts.Pause == nil || r.stop || !r.recorded(&t.call) {
		return
	}
	c := t.call
	c.Bufs = t.read.Bufs
	r.opts.Pause(&Pause{When: Before, TID: t.tid, Call: &c, r: r, t: t})
}

// pauseAfter stops when an event has been written.
func (r *Recorder) pauseAfter(e *format.Event) {
	if r.opts.Pause == nil || r.stop {
		return
	}
	p := &Pause{When: After, Event: e, r: r}
	for _, t := range r.threads {
		if t.no == e.Thread {
			p.t, p.TID = t, t.tid
		}
	}
	r.opts.Pause(p)
	r.keep = p.Keep
}

// Interrupt brings a running thread to a stop, and there to Options.Pause. It may
// be called from any goroutine.
func (r *Recorder) Interrupt() {
	r.Ask(func() {
		for _, t := range r.threads {
			if t.running && !t.exiting && !t.listening && !t.asked && ptrace.Interrupt(t.tid) == nil {
				t.asked = true
				r.pausing = true
				return
			}
		}
	})
}

// Kill ends all traced processes. It may be called from any goroutine.
func (r *Recorder) Kill() { r.Ask(r.kill) }

func (r *Recorder) kill() {
	for pid := range r.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// pauseInterrupted serves the stop that Interrupt asked for.
func (r *Recorder) pauseInterrupted(t *thread) {
	if r.pausing {
		r.pausing = false
		r.opts.Pause(&Pause{When: Asked, TID: t.tid, r: r, t: t})
	}
}

// State is the state after the last event. It must not be changed.
func (p *Pause) State() *format.State { return p.r.w.State() }

// Regs are the registers of a stopped thread, in the order of its architecture.
func (p *Pause) Regs(tid uint32) ([]uint64, error) {
	t := p.r.threads[int(tid)]
	if t == nil {
		return nil, fmt.Errorf("thread %d: %w", tid, ErrNoThread)
	}
	var regs ptrace.Regs
	if err := ptrace.GetRegs(t.tid, &regs); err != nil {
		return nil, fmt.Errorf("registers of thread %d: %w", tid, err)
	}
	return append([]uint64(nil), p.r.registers(t, &regs)...), nil
}

func (p *Pause) space(mm uint32) (*space, error) {
	for s := range p.r.mms {
		if s.no == mm && s.fs != nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("address space %d: %w", mm, procfs.ErrGone)
}

// ReadMem reads memory of an address space as it is now.
func (p *Pause) ReadMem(mm uint32, b []byte, a addr.Addr) (int, error) {
	s, err := p.space(mm)
	if err != nil {
		return 0, err
	}
	return s.fs.ReadMem(b, a)
}

// WriteMem writes into an address space, read-only private mappings included,
// and writes the event with what was there before.
func (p *Pause) WriteMem(mm uint32, b []byte, a addr.Addr) error {
	s, err := p.space(mm)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	old := make([]byte, len(b))
	if _, err := s.fs.ReadMem(old, a); err != nil {
		return err
	}
	n, err := s.fs.WriteMem(b, a)
	if n > 0 {
		p.r.poked(s, a, old[:n], b[:n])
	}
	if err == nil && n < len(b) {
		err = fmt.Errorf("only %d of %d bytes could be written at %v", n, len(b), a)
	}
	return err
}

// poked writes the event of a write, with the pages as they are now.
func (r *Recorder) poked(s *space, a addr.Addr, old, b []byte) {
	at, ok := addr.Span(a, uint64(len(b)))
	if !ok {
		return
	}
	at = at.PageAlign()
	pages := make([]byte, at.Len())
	if n, _ := s.fs.ReadMem(pages, at.Start); n == len(pages) {
		r.change(&format.Pages{MM: s.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageData, Data: pages})
	} else {
		r.change(&format.Pages{MM: s.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent})
	}
	rec := &format.Poke{MM: s.no, Addr: a, Old: old, New: append([]byte(nil), b...)}
	hook := r.opts.Pause
	r.opts.Pause = nil // the writer is at a stop already
	r.emit(nil, rec)
	r.opts.Pause = hook
}

// Text reads what the kernel says now: a source as format.Sample names them, or
// another file of /proc/PID.
func (p *Pause) Text(source string, pid uint32) ([]byte, error) {
	switch source {
	case "meminfo", "vmstat":
		return procfs.ReadText("/proc/" + source)
	case "pressure":
		return procfs.ReadText("/proc/pressure/memory")
	}
	return procfs.ReadText("/proc/" + strconv.Itoa(int(pid)) + "/" + source)
}

// Detach ends the recording; the program runs on.
func (p *Pause) Detach() { p.r.finish(Detached) }

// Kill ends all traced processes.
func (p *Pause) Kill() { p.r.kill() }
