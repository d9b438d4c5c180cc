//go:build linux

// This file has the programs that record their calls, and tells the log why others do not.

package inside

import (
	"memtrace/format"
	"memtrace/record/inproc"
	"memtrace/record/tracee"
)

// Host is the recorder of Programs.
type Host interface {
	// Space and Thread are what is kept of an address space and of a thread.
	Space(t *tracee.Thread) *Space
	Thread(t *tracee.Thread) *Thread
	// Returned takes a completed call.
	Returned(t *tracee.Thread, c *tracee.Call)
	// Outside writes why calls are recorded by stops; no is a thread of the process.
	Outside(no uint32, why string, until format.Until)
	// Hinders says what of the address space of a thread keeps it from recording its calls now,
	// "" for nothing.
	Hinders(t *tracee.Thread) string
	// Status is the text of /proc/TID/status.
	Status(tid int) ([]byte, error)
}

// Thread is what is kept of a thread.
type Thread struct {
	resumes bool // the last call was the return from a signal's handler
	apart   bool // the others are recorded by stops until its call is over
}

// Programs is what a recorder knows of the programs that record their calls. nil: none does.
type Programs struct {
	host    Host
	group   *tracee.Group
	mode    Mode
	table   *inproc.Table
	image   []byte
	clock   *inproc.Clock
	robust  *inproc.Robust // nil: no slot has been made, or programs die with the recorder
	procs   map[*tracee.Process]*process
	slots   map[*tracee.Thread]*slot // of threads that have recorded calls
	ready   []*slot                  // scratch
	busy    bool                     // draining
	ticking bool
	idle    int    // ticks since records have been found
	brisk   bool   // many have been found since the last tick
	calls   uint64 // recorded inside
}

// New makes the Programs of a recording. Serve says which group it uses.
func New(mode Mode, host Host) *Programs {
	return &Programs{host: host, mode: mode, procs: map[*tracee.Process]*process{}, slots: map[*tracee.Thread]*slot{}}
}

// Serve makes what all programs share, for a group that was made with o. choice says what becomes
// of a call that could be recorded inside.
func (in *Programs) Serve(g *tracee.Group, o *tracee.Options, choice func(nr uint32) inproc.Choice) {
	k := o.Collector()
	in.group = g
	in.table = inproc.NewTable(&k, choice)
	in.image = inproc.Image(in.table)
	in.clock = inproc.NewClock(g.Now)
}

// processOf is what is known of the process of a thread.
func (in *Programs) processOf(t *tracee.Thread) *process {
	p := in.procs[t.Proc]
	if p == nil {
		p = &process{}
		in.procs[t.Proc] = p
	}
	return p
}

// refuse has a process not record its calls until it executes another program, and says so in the log.
func (in *Programs) refuse(t *tracee.Thread, why string) { in.keep(t, why, format.UntilExec) }

// keepOut is refuse, also for the programs that the process executes, and its children.
func (in *Programs) keepOut(t *tracee.Thread, why string) {
	in.keep(t, why, format.UntilEnd)
	in.processOf(t).stays = true
}

// keep has a process be recorded by stops from now on.
func (in *Programs) keep(t *tracee.Thread, why string, until format.Until) {
	if p := in.processOf(t); p.refused == "" {
		p.refused = why
		in.host.Outside(t.No, why, until)
	}
}

// hindered says in the log, once for each process, why that does not record its calls now.
func (in *Programs) hindered(t *tracee.Thread, why string) {
	p := in.processOf(t)
	if why == "" || p.noted[why] {
		return
	}
	if p.noted == nil {
		p.noted = map[string]bool{}
	}
	p.noted[why] = true
	in.host.Outside(t.No, why, format.UntilOver)
}
