//go:build linux

// This file says of a process whether it may record its calls, and whether it pays.

package inside

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/inproc"
)

// process is what is known of a process.
type process struct {
	stays   bool            // refused is so for the next program too
	refused string          // why it is not to record its calls, "" if it may
	noted   map[string]bool // why it could not, for some time
	known   bool            // the following are
	ignores uint64          // signals
	catches uint64
	handles bool          // SIGSYS has our handler
	left    bool          // it cannot have
	action  inproc.Action // of SIGSYS, as the program has it
	young   int           // calls that it has still to make by stops: a copy of a process often ends soon
	seen    uint64        // calls
	history uint64        // the last 64 of them: 1 is recorded inside
}

// Before a process is trusted to gain by it, it has made so many calls, and most of the
// last 64 are of those that are recorded inside.
const (
	paysAfter = 200
	paysShare = 58
)

// youngCalls is how many calls a copy of a process makes by stops: those that it takes to map
// a slot cost as much.
const youngCalls = 16

// fork is what is known of a copy of the process.
func (p *process) fork() *process {
	c := *p
	c.young, c.noted = youngCalls, nil
	return &c
}

// pays reports whether a process gains by recording its calls.
func (p *process) pays() bool {
	return p.seen >= paysAfter && bits.OnesCount64(p.history) >= paysShare
}

// signals says which signals keep a thread from recording its calls, "" for none: what the
// kernel sends because of our code must change nothing for the program. It forces a blocked or
// ignored one through, and takes its handler away, ours too.
func (p *process) signals(h interface{ Status(tid int) ([]byte, error) }, tid int, mask uint64) string {
	if !p.known {
		status, err := h.Status(tid)
		if err != nil {
			return "its signals are not known"
		}
		p.ignores, p.catches = signalSet(status, "SigIgn"), signalSet(status, "SigCgt")
		p.known = true
	}
	switch {
	case p.ignores&inproc.Watched != 0:
		return "it ignores SIGSYS, SIGSEGV or SIGBUS"
	case mask&p.catches&inproc.Watched != 0:
		return "it blocks SIGSYS, SIGSEGV or SIGBUS, and has a handler for it"
	case mask&sigsys != 0:
		return "it blocks SIGSYS"
	}
	return ""
}

// signalSet reads a set of signals from the text of /proc/PID/status.
func signalSet(status []byte, name string) uint64 { return proctext.Field(status, name).Hex() }

const sigsys = 1 << (unix.SIGSYS - 1)
