//go:build linux

// This file has the Warden, who records page references by engine prot, and how it writes them.

package pagetrace

import (
	"errors"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/call"
	"memtrace/record/tracee"
)

// Host is the recorder of a Warden.
type Host interface {
	// Space and Thread are what is kept of an address space and of a thread.
	Space(t *tracee.Thread) *Space
	Thread(t *tracee.Thread) *Thread
	// Lost writes that something is not known, of thread number no or of none.
	Lost(no uint32, what string)
	// Status is the text of /proc/TID/status.
	Status(tid int) ([]byte, error)
	// Filtered reports whether a thread may have a seccomp filter of the program's.
	Filtered(tid int) bool
	// Traces reports whether the child of a clone is traced.
	Traces(c tracee.CloneArgs) bool
	// TurnDone ends the turn of a thread whose call has changed mappings.
	TurnDone(t *tracee.Thread)
}

// Warden records page references by engine prot. It is a tracee.Warden.
type Warden struct {
	ask   Ask
	group *tracee.Group
	log   Log
	host  Host
	touch call.Toucher
	ev    format.Ref
	total traceTotal

	actions map[*tracee.Process]*actions
	last    struct { // that was asked for
		proc *tracee.Process
		does *actions
	}
}

// New makes the Warden of a recording. Serve says which group it uses.
func New(ask Ask, log Log, host Host) *Warden {
	return &Warden{ask: ask, log: log, host: host, actions: map[*tracee.Process]*actions{}}
}

// Serve has the Warden use a group; nil does nothing.
func (w *Warden) Serve(g *tracee.Group) {
	if w != nil {
		w.group = g
	}
}

// free reports whether blocks may become larger.
func (w *Warden) free() bool { return w.ask.Granule == 0 }

// step prepares a thread for calls in its name.
func (w *Warden) step(m *Space, t *tracee.Thread, f *tracee.Fault) (*tracee.Stepper, error) {
	m.trace.pace.begin(m.trace.accounted)
	return w.group.Step(t, m.trace.gate, f)
}

// done puts a thread back in whose name calls were made.
func (w *Warden) done(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	if err := s.Done(); err != nil && !errors.Is(err, tracee.ErrPreempted) {
		w.host.Lost(t.No, "page references: "+err.Error())
	}
	m.trace.pace.end(w.group.Now())
}

// hold stops the other threads of an address space, and reports whether none runs.
func (w *Warden) hold(m *Space) bool {
	for range holdTries {
		w.group.Hold(m.Space)
		running := false
		for u := range m.Threads {
			running = running || u.State() == tracee.Running
		}
		if !running {
			return true
		}
	}
	return false
}

// holdTries is how often a hold is tried: each waits for 50 ms for threads that want a CPU.
const holdTries = 40

// phase writes that a phase begins.
func (w *Warden) phase(m *Space, t *tracee.Thread, held []addr.Addr) {
	p := &m.trace
	w.log.Phase(&format.Phase{
		MM: m.MM(), Engine: format.EngineProt, Granule: p.Granule(), Pool: uint64(p.Pool()), Time: p.program,
		Pinned: p.Pinned(), Held: uint64(len(held)), HeldPages: held, Incomplete: p.missed,
	})
	p.missed = false
}

// ref writes a reference.
func (w *Warden) ref(m *Space, t *tracee.Thread, page, ip addr.Addr, kind format.RefKind) {
	w.ev = format.Ref{Thread: t.No, MM: m.MM(), Page: page, IP: ip, Time: m.trace.program, Kind: kind}
	w.log.Ref(&w.ev)
}
