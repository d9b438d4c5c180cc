//go:build linux

// This file has a thread as the recorder keeps it.

package record

import (
	"memtrace/format"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// thread is what the recorder keeps of a tracee.Thread, in its Local.
type thread struct {
	pending space.Pending // of the call in progress
	pages   pagetrace.Thread
	call    format.Syscall
	stack   format.StackNode // at the beginning of the call in progress
	xstate  []byte           // as the log has it
	inside  inside.Thread
}

func threadOf(t *tracee.Thread) *thread { return t.Local.(*thread) }

// syscallOf is a call as the log has it, valid until the thread's next.
func syscallOf(t *tracee.Thread, c *tracee.Call) *format.Syscall {
	s := &threadOf(t).call
	*s = format.Syscall{
		Arch: c.Arch, Nr: c.Nr, Args: c.Args, Ret: c.Ret, Enter: c.Enter, Returned: c.Returned, IP: c.IP, SP: c.SP, Bufs: c.Bufs, Inside: c.Inside,
	}
	return s
}
