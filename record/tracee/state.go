//go:build linux

// This file has the one state that a thread is in.

package tracee

import "fmt"

// State is where a thread is, as far as the recorder has been told.
type State uint8

// The states of a thread.
const (
	Stopped   State = iota // stands at a stop that is being served, or that waits to be
	Running                // executes code of the program, or is about to
	InCall                 // is inside a system call
	Queued                 // stands at the entry of a call until its turn comes
	Listening              // stands in a group-stop, which only a signal ends
	Held                   // stands at a stop of which another tracee, its tracer, was told
	Ending                 // has passed its exit event: runs no more code of the program
	Ended                  // has been reaped
)

var stateNames = [...]string{"stopped", "running", "in call", "queued", "listening", "held", "ending", "ended"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", s)
}

// transitions are the states that may follow each. A thread may be killed in any
// of them: then its exit event is a stop, unless the whole process is gone at
// once (SIGKILL, an exec in another thread).
var transitions = [...][]State{
	Stopped:   {Stopped, Running, InCall, Queued, Listening, Held, Ending, Ended},
	Running:   {Stopped, Ended},
	InCall:    {Stopped, Ended},
	Queued:    {InCall, Stopped, Ended},
	Listening: {Stopped, Ended},
	Held:      {Stopped, Ended},
	Ending:    {Ended, Stopped}, // an exec gives the caller the tid of a leader that has ended
	Ended:     {},
}

// may reports whether a thread may go from one state to another.
func (s State) may(next State) bool {
	for _, n := range transitions[s] {
		if n == next {
			return true
		}
	}
	return false
}
