//go:build linux

// This file says how tracees stop.

package ptrace

import "golang.org/x/sys/unix"

// StopKind tells the ways apart in which Wait finds a thread.
type StopKind uint8

// The kinds of stop (ptrace(2), "Stopped states").
const (
	Syscall    StopKind = iota // system call entry or exit
	Seccomp                    // a filter said SECCOMP_RET_TRACE
	Signal                     // signal-delivery-stop: Sig is about to be delivered
	Group                      // group-stop by Sig
	Trap                       // PTRACE_INTERRUPT, a new tracee's first stop, or the end of a group-stop
	EventFork                  // EventMsg: the child's tid
	EventVfork                 // EventMsg: the child's tid
	EventClone                 // EventMsg: the child's tid
	EventVforkDone
	EventExec // EventMsg: the caller's former tid
	EventExit // EventMsg: the wait status to come
	Exited    // Status is the exit code; no longer a tracee
	Killed    // Sig ended it; no longer a tracee
)

// Stop is one report of Wait.
type Stop struct {
	TID  int
	Kind StopKind
	Sig  int
	// Status is the raw wait status of Exited and Killed.
	Status uint32
	// Faults counts the page faults of the process so far, and of the children it
	// has waited for (getrusage(2)): as long as it stands still no mapping has grown.
	Faults int64
}

// peeked is what waitid(2) tells of a tracee.
type peeked struct{ tid, code, status int }

// signal is the signal that a tracee has stopped with, 0 for anything else.
func (p peeked) signal() int {
	const trapped = 4 // CLD_TRAPPED
	if p.code == trapped && p.status&^0x7f == 0 {
		return p.status
	}
	return 0
}

// ended is the wait status of a tracee that has ended.
func (p peeked) ended() (status unix.WaitStatus, ended bool) {
	const exited, killed, dumped = 1, 2, 3 // CLD_EXITED and so on
	switch p.code {
	case exited:
		return unix.WaitStatus(p.status & 0xff << 8), true
	case killed:
		return unix.WaitStatus(p.status), true
	case dumped:
		return unix.WaitStatus(p.status | 0x80), true
	}
	return 0, false
}

// spins is how often WaitSoon looks.
const spins = 200

// soon is how often WaitAnySoon looks.
const soon = 3

func decode(tid int, ws unix.WaitStatus) Stop {
	s := Stop{TID: tid, Status: uint32(ws)}
	switch {
	case ws.Exited():
		s.Kind = Exited
		return s
	case ws.Signaled():
		s.Kind, s.Sig = Killed, int(ws.Signal())
		return s
	}
	sig := int(ws>>8) & 0xff
	switch event := int(ws) >> 16; event {
	case 0:
		if sig == int(unix.SIGTRAP)|0x80 {
			s.Kind = Syscall
		} else {
			s.Kind, s.Sig = Signal, sig
		}
	case unix.PTRACE_EVENT_FORK:
		s.Kind = EventFork
	case unix.PTRACE_EVENT_VFORK:
		s.Kind = EventVfork
	case unix.PTRACE_EVENT_CLONE:
		s.Kind = EventClone
	case unix.PTRACE_EVENT_VFORK_DONE:
		s.Kind = EventVforkDone
	case unix.PTRACE_EVENT_EXEC:
		s.Kind = EventExec
	case unix.PTRACE_EVENT_EXIT:
		s.Kind = EventExit
	case unix.PTRACE_EVENT_SECCOMP:
		s.Kind = Seccomp
	default: // PTRACE_EVENT_STOP
		switch unix.Signal(sig) {
		case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			s.Kind, s.Sig = Group, sig
		default:
			s.Kind = Trap
		}
	}
	return s
}
